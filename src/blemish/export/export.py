"""Exports a model: one graph for another runtime, its description, and examples that use it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blemish.errors import ExportError
from blemish.export.checking import HALF, SINGLE, Agreement, compare, images_to_check
from blemish.export.describe import card_of, steps_of
from blemish.export.formats import Format, format_of
from blemish.export.runtimes import Exported
from blemish.model import Model
from blemish.progress import Progress
from blemish.storage import check_free, new_folder, write_card

EXAMPLES = Path(__file__).parent / "examples"

KIND = "export"
"""The kind on the card of an export."""


@dataclass(frozen=True)
class Export:
    """What was written, and how well it agrees with the model.

    Attributes:
        path: of the folder.
        format: one of `FORMATS`.
        half: whether the graph's numbers are stored in half precision.
        files: sizes by name, in bytes.
        single_precision: bytes of the graph's numbers in single precision.
        agreement: how well the export agrees with the model.
    """

    path: str
    format: str
    half: bool
    files: dict[str, int]
    single_precision: int
    agreement: Agreement


def export_model(
    model: Model,
    path: str | Path,
    format: str = "onnx",
    *,
    half: bool = False,
    images: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Export:
    """Writes the model as one graph for another runtime, into a folder that holds all that is needed to use it.

    The graph takes uint8 RGB images of the model's input size and returns score and map. Before the folder is written,
    the graph is run in its own runtime and compared with the model on real images.

    Args:
        model: fitted, or loaded.
        path: of the folder, or its address elsewhere.
        format: `openvino`, `onnx`, `torch` or `tensorrt-onnx`.
        half: store numbers in half precision (float16); the graph still computes in single precision.
        images: to compare on, as `Model.predict` takes them; by default some of those that calibrated the model.
        force: replace an export that is there.
        progress: called with the stage, and how many images of how many are done.

    Raises:
        SettingError: there is no such format.
        MissingExtraError: what writes or runs the format is not installed.
        ExportError: the model cannot be exported, or its export does not agree with it.
        SourceError: there are no images to compare on.
        ImageError: one of them cannot be read.
        StorageError: the folder cannot be written.
    """
    form = format_of(format)
    form.require()
    check_free(path, KIND, force=force)
    if _needs_gradients(model):
        raise ExportError(
            f"{model.recipe.detector} with map={model.recipe.settings['map']} needs gradients, which an exported graph "
            "cannot compute; fit with another --map"
        )
    chosen = images_to_check(model, images)
    with new_folder(path, KIND, force=force) as folder:
        single = _write(model, folder, form, half=half)
        exported = Exported(folder, form)
        agreement = compare(model, exported, form.ran_by, chosen, HALF if half else SINGLE, progress)
        del exported  # it holds the files
        for name in form.examples:
            (folder / name).write_bytes((EXAMPLES / name).read_bytes())
        (folder / "PREPROCESS.md").write_text(steps_of(model, form, half=half), encoding="utf-8")
        write_card(folder, KIND, card_of(model, form, agreement, half=half))
        files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    return Export(str(path), form.name, half, files, single, agreement)


def _write(model: Model, folder: Path, form: Format, *, half: bool) -> int:
    """Writes the graph in its format, and returns the bytes of its numbers in single precision."""
    if form.name == "openvino":
        from blemish.export.openvino_graph import write_openvino

        return write_openvino(model, folder, form, half=half)
    if form.name == "torch":
        from blemish.export.torch_graph import write_torch

        return write_torch(model, folder, form, half=half)
    from blemish.export.onnx_graph import write_onnx

    return write_onnx(model, folder, form, half=half)


def _needs_gradients(model: Model) -> bool:
    """Returns whether scoring needs gradients, and so torch as its engine."""
    return model.engine.name == "torch" and model.learned.detector.needs_gradients
