"""Folders and files that are written whole or not at all, each with a card that says what it holds."""

from blemish.storage.cards import check_files, copy_files, digest, read_card, write_card
from blemish.storage.folders import check_free, check_free_file, new_file, new_folder, remove_folder, signed
from blemish.storage.scratch import Scratch

__all__ = [
    "Scratch",
    "check_files",
    "check_free",
    "check_free_file",
    "copy_files",
    "digest",
    "new_file",
    "new_folder",
    "read_card",
    "remove_folder",
    "signed",
    "write_card",
]
