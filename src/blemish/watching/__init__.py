"""Follows a folder or a camera, and judges each image as it comes."""

from blemish.watching.camera import is_camera
from blemish.watching.frames import watching_camera
from blemish.watching.moving import parse_moves
from blemish.watching.result import Result
from blemish.watching.watch import watching

__all__ = ["Result", "is_camera", "parse_moves", "watching", "watching_camera"]
