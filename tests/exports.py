"""Small models and their exports, each made once, when a test first asks for it; not to be changed."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

import blemish
from blemish.export import Export, export_model
from conftest import write_parts


@cache
def room() -> Path:
    """A folder that is removed at the end."""
    path = Path(tempfile.mkdtemp(prefix="blemish-exports-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@cache
def parts() -> Path:
    """Twenty-four good parts."""
    return write_parts(room() / "parts", 24)


@cache
def weights() -> Path:
    """Random weights of `test_resnet`, a network of few layers, which is quick to trace."""
    path = room() / "test_resnet.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(timm.create_model("test_resnet", zero_init_last=False).state_dict(), path)
    return path


@cache
def model_of(detector: str) -> blemish.Model:
    """The model of a detector on these parts, at 64 pixels."""
    if detector == "vae":
        return blemish.fit(parts(), detector=blemish.VAE(epochs=1, drawn=16, latent=8), size=64, engine="openvino")
    chosen = blemish.HFR(epochs=1) if detector == "hfr" else detector
    return blemish.fit(parts(), detector=chosen, backbone="test_resnet", weights=weights(), size=64, engine="openvino")


@cache
def export_of(detector: str, form: str) -> Export:
    """The export of that model in a format."""
    return export_model(model_of(detector), room() / f"{detector}-{form}", form)
