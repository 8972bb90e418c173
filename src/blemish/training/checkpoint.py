"""Saves and loads the state of a training: weights, optimisers and progress; whole or not at all, no pickle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from blemish.errors import SettingError, StorageError
from blemish.expected import Kind, Number, Whole, read_all, shown
from blemish.interrupts import hold
from blemish.storage import check_files, new_folder, read_card, write_card
from blemish.storage.cards import reason_of
from blemish.storage.tensors import below, under

STATE = "state.safetensors"

KIND = "checkpoint"
"""The kind on its card."""

REACHED: dict[str, Kind] = {"step": Whole(), "seconds": Number(), "best": Number(), "since": Whole()}
"""What its card says about how far a training is; the last two only with the best weights."""

OF_IMAGES = ("files", "images")
"""The fields of an identity that say which images there are. A training may start from weights of other images; see
`load_weights`."""


@dataclass(frozen=True)
class Reached:
    """How far a training is: steps done in all, and the seconds they took."""

    step: int
    seconds: float


@dataclass(frozen=True)
class Best:
    """The best weights so far, their judgement, and how many judgements came since."""

    state: dict[str, Tensor] = field(default_factory=dict)
    judged: float = float("-inf")
    since: int = 0

    def or_better(self, judged: float, module: nn.Module) -> Best:
        """Returns the weights of the module if it was judged better, else these with one more judgement."""
        if judged > self.judged:
            return Best({name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}, judged)
        return replace(self, since=self.since + 1)


def save(
    folder: Path,
    identity: dict[str, Any],
    reached: Reached,
    best: Best,
    module: nn.Module,
    optimizers: Sequence[Optimizer],
    note: Mapping[str, Any] | None = None,
) -> None:
    """Writes the checkpoint, which replaces an earlier one.

    Args:
        folder: of the checkpoint.
        identity: all that decides the training; it is resumed only by the same.
        reached: how far it is.
        best: the best weights so far.
        module: being trained.
        optimizers: of its parameters.
        note: what the caller wants to read again later, as JSON can hold it; see `read_note`.

    Raises:
        StorageError: it cannot be written; the earlier one is kept.
    """
    tensors = under("module", module.state_dict()) | under("best", best.state)
    for number, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            for name, value in state.items():
                tensors[f"optimizer{number}.{index}.{name}"] = torch.as_tensor(value)
    with new_folder(folder, KIND, force=True) as temporary:
        try:
            with hold():  # safetensors would make an error of its own of an interrupt
                save_file(
                    {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary / STATE
                )
        except SafetensorError as error:
            raise OSError(str(error)) from error
        judged = {"best": best.judged, "since": best.since} if best.state else {}
        card = {"identity": identity, "note": dict(note or {}), "step": reached.step, "seconds": reached.seconds}
        write_card(temporary, KIND, {**card, **judged})


def load(
    folder: Path, identity: dict[str, Any], module: nn.Module, optimizers: Sequence[Optimizer]
) -> tuple[Reached, Best]:
    """Sets module and optimisers to what was saved; returns how far the training is, and the best weights.

    Raises:
        StorageError: there is no checkpoint, it was altered, or it is of another training.
    """
    card = _checked(folder, identity, tuple(identity))
    try:
        with hold():
            tensors = load_file(folder / STATE)
        module.load_state_dict(below(tensors, "module"))
        for number, optimizer in enumerate(optimizers):
            states: dict[int, dict[str, Tensor]] = {}
            for name, tensor in below(tensors, f"optimizer{number}").items():
                index, _, field = name.partition(".")
                states.setdefault(int(index), {})[field] = tensor
            optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
        state = below(tensors, "best")
        found = read_all(str(folder), card, REACHED)
        best = Best(state, found["best"], found["since"]) if state else Best()
        return Reached(found["step"], found["seconds"]), best
    except (SafetensorError, SettingError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise StorageError(
            f"{folder}: is not a checkpoint of this training ({reason_of(error)}); give another folder"
        ) from None


def load_weights(folder: Path, identity: Mapping[str, Any], module: nn.Module) -> None:
    """Sets the module to the best weights that were saved, of a training that may have had other images.

    Raises:
        StorageError: there is no checkpoint, it was altered, it is of another training (other images are allowed), or
            its weights have other shapes.
    """
    _checked(folder, identity, [name for name in identity if name not in OF_IMAGES])
    try:
        with hold():
            tensors = load_file(folder / STATE)
        module.load_state_dict(below(tensors, "best") or below(tensors, "module"))
    except (SafetensorError, LookupError, TypeError, ValueError, RuntimeError):
        raise StorageError(
            f"{folder}: its weights have other shapes than these images need; give another folder, to train from the "
            "beginning"
        ) from None


def read_note(folder: Path) -> dict[str, Any]:
    """Returns what was noted with a checkpoint. Raises `StorageError` if there is none, or it was altered."""
    note = read_card(folder, KIND).get("note")
    if not isinstance(note, dict):
        raise StorageError(f"{folder}: its note is {shown(note)}; expected an object, so give another folder")
    return note


def _checked(folder: Path, identity: Mapping[str, Any], decisive: Iterable[str]) -> dict[str, Any]:
    """Returns the card of a checkpoint whose identity is the same in what is decisive."""
    card = read_card(folder, KIND)
    check_files(folder, card)
    saved = card.get("identity")
    saved = saved if isinstance(saved, dict) else {}
    other = next((name for name in decisive if saved.get(name) != identity[name]), None)
    if other is not None or saved.keys() != identity.keys():
        other = other or "the model"
        raise StorageError(
            f"{folder}: is a checkpoint of another training ({other} is {shown(saved.get(other))} there, "
            f"{shown(identity.get(other))} here); give the same settings and images, or another folder"
        )
    return card
