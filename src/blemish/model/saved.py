"""Where a model keeps what it learned: in memory after a fit, or in the folder that it was loaded from."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from blemish.engines import Engine, choose_engine
from blemish.errors import BlemishError, ModelError, StorageError
from blemish.interrupts import hold
from blemish.maps import LayerMap
from blemish.model.card import GRAPHS, LEARNED
from blemish.model.recipe import Learned, Recipe
from blemish.storage import Scratch, check_files, copy_files
from blemish.storage.cards import digests, reason_of
from blemish.storage.tensors import below, under

if TYPE_CHECKING:
    from torch import Tensor


OF_GRAPHS = "graphs"
"""The metadata of `learned.safetensors` under which it names the graphs that it was written with."""


class Store(Protocol):
    """Gives what was learned, and writes it."""

    def learned(self) -> Learned:
        """Returns detector and weights; needs torch.

        Raises:
            StorageError: the file of a saved model was altered.
            ModelError: it does not fit the model's card.
        """

    def write(self, folder: Path) -> None:
        """Writes the files of a model into a folder. Raises `OSError` if it cannot."""


@dataclass(frozen=True)
class Fitted:
    """What was learned in a fit, and the engine that scores by it."""

    parts: Learned
    engine: Engine

    def learned(self) -> Learned:
        return self.parts

    def write(self, folder: Path) -> None:
        """Writes the two graphs, and `learned.safetensors` with what was learned and the backbone's weights.

        This file also holds a digest of the graphs, so that it cannot be taken for another model's. A detector that
        needs gradients has no graphs.
        """
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        detector, weights = self.parts.detector, self.parts.weights
        graphs: dict[str, str] = {}
        if not detector.needs_gradients:
            self.engine.save(folder, self.parts.shape)
            graphs = digests(folder, GRAPHS)
        tensors = under("detector", detector.tensors()) | under("backbone", weights)
        try:
            kept = {name: tensor.cpu() for name, tensor in tensors.items()}
            with hold():  # safetensors would make an error of its own of an interrupt
                save_file(kept, folder / LEARNED, {OF_GRAPHS: _joined(graphs)})
        except SafetensorError as error:
            raise OSError(errno.ENOSPC, str(error)) from error


@dataclass(frozen=True)
class Saved:
    """A model's folder, with its card and its recipe; and what holds the folder, if it is a temporary one."""

    folder: Path
    card: Mapping[str, Any]
    recipe: Recipe
    scratch: Scratch | None = None

    def engines(self, name: str, threads: int | None = None, device: str = "auto") -> tuple[Engine, Engine]:
        """Returns the engine that scores images and its first part, which extracts features.

        Every file of the folder is read and compared with its digest first.

        Raises:
            StorageError: a file was altered.
            ModelError: a file does not fit the others.
            SettingError: the engine or the device is unknown or not there.
        """
        running = choose_engine(name, device, gradients=not {*GRAPHS} & self.card["files"].keys())
        if running.engine == "openvino":
            return self._graphs(threads, running.device)
        check_files(self.folder, self.card)
        self._check_learned()
        import torch

        from blemish.engines.torch_engine import TorchEngine

        if threads is not None:
            torch.set_num_threads(threads)
        found = self.learned()
        extractor = TorchEngine(self.recipe.network(found.weights), torch.device(running.device))
        return found.scoring.after(extractor), extractor

    def _graphs(self, threads: int | None, device: str) -> tuple[Engine, Engine]:
        """Returns the engines of OpenVINO.

        OpenVINO is imported while the files are compared with their digests. It reads a graph only after that was
        compared; the other files are compared meanwhile.
        """
        files = self.card["files"]
        parts = [{name: files[name] for name in GRAPHS}, {name: files[name] for name in files.keys() - {*GRAPHS}}]
        with ThreadPoolExecutor(len(parts)) as pool:
            compared, others = (pool.submit(check_files, self.folder, {"files": part}) for part in parts)
            from blemish.engines.openvino_engine import OpenVINOEngine

            compared.result()
            graphs = OpenVINOEngine.from_folder(self.folder, threads, device)
            graphs.check(self.recipe.geometry.shape, self.recipe.grids)
            self._check_names(graphs.names)
            others.result()
        self._check_learned()
        return graphs, graphs.extractor

    def _check_names(self, names: Sequence[str]) -> None:
        try:
            known = [layer for name in names for layer in LayerMap.of(name).layers]
        except ValueError as error:
            raise ModelError(
                f"{self.folder}: its graph is not of this version ({error}); fit the model again"
            ) from None
        if any(layer >= len(self.recipe.layers) for layer in known):
            raise ModelError(f"{self.folder}: its graph has maps of layers that its model.json lacks; fit it again")

    def _check_learned(self) -> None:
        """Raises `ModelError` unless what was learned was written with the graphs beside it. It reads the header."""
        from safetensors import SafetensorError, safe_open

        path = self.folder / LEARNED
        try:
            with safe_open(path, framework="numpy") as opened:
                said = (opened.metadata() or {}).get(OF_GRAPHS)
        except SafetensorError as error:
            raise ModelError(f"{path}: cannot be read ({reason_of(error)}); copy the whole folder again") from None
        if said != _joined({name: self.card["files"][name] for name in GRAPHS if name in self.card["files"]}):
            raise ModelError(
                f"{path}: was not written with the graphs beside it, so it is another model's; copy the whole folder "
                "again"
            )

    def learned(self) -> Learned:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from blemish.detectors import imported, make_detector

        recipe = self.recipe
        if ":" in recipe.detector:
            imported(recipe.detector)  # raises, and says what to import
        # Again, since the model may have been loaded long ago.
        try:
            check_files(self.folder, {"files": {LEARNED: self.card["files"][LEARNED]}})
        except OSError as error:
            told = f"{self.folder / LEARNED}: cannot be read ({reason_of(error)}); copy the whole folder again"
            raise StorageError(told) from None
        try:
            with hold():  # safetensors would make an error of its own of an interrupt
                tensors = load_file(self.folder / LEARNED)
            _check_finite(tensors)
            detector = make_detector(recipe.detector, recipe.settings)
            detector.restore(recipe.grids, below(tensors, "detector"))
            learned = Learned(detector, below(tensors, "backbone"), recipe.geometry.shape)
            _check_fit(learned, recipe.grids)
        except (SafetensorError, BlemishError, LookupError, TypeError, ValueError, RuntimeError) as error:
            reason = str(error).partition("\n")[0].partition("; ")[0] or type(error).__name__
            raise ModelError(
                f"{self.folder}: what was learned does not fit its description ({reason}); fit the model again"
            ) from None
        return learned

    def write(self, folder: Path) -> None:
        """Copies the model's files, and raises `StorageError` if a copy is not what was written."""
        copy_files(self.folder, folder, self.card)


def _joined(graphs: Mapping[str, str]) -> str:
    """Returns the digests of a model's graphs as one text; empty if it has none."""
    return " ".join(graphs[name] for name in sorted(graphs))


def _check_fit(learned: Learned, grids: Sequence[tuple[int, int, int]]) -> None:
    """Scores features of these shapes once; raises torch's error if the tensors do not fit one another."""
    import torch

    scoring = learned.scoring
    if not learned.detector.needs_gradients:  # it would take seconds
        scoring.arrays([torch.zeros(1, *grid) for grid in grids])


def _check_finite(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} is not finite")
