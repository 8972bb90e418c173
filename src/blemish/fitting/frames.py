"""Images in memory as a data set: a fit goes over its images several times and reads their files' headers first."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from blemish.datasets import Dataset, Sample, read_source
from blemish.errors import SourceError, StorageError
from blemish.images import Frame, Given, Remote, each
from blemish.images.reading import whole_image
from blemish.model.intake import MEMORY
from blemish.storage import Scratch
from blemish.storage.cards import reason_of

Source = Given | Iterable[Given] | Dataset


def read_images(source: Source, seed: int, *, bgr: bool = False) -> tuple[Dataset, Scratch | None]:
    """Returns the data set of what was given, and the temporary folder of the images that were in memory.

    The folder is removed when nothing refers to it any more; the files in it are not compressed.

    Args:
        source: a path, `layout:PATH` or a data set; or images as `Model.predict` takes them.
        seed: decides the split of sources that have none of their own.
        bgr: whether the channels of arrays and tensors are blue, green, red.

    Raises:
        SourceError: nothing is there, or something is no image.
        ImageError: an image in memory has another shape or type than images have.
        StorageError: there is no space for them.
    """
    if isinstance(source, Dataset):
        return source, None
    if isinstance(source, (str, Path, Remote)):
        return read_source(str(source), seed), None
    scratch: Scratch | None = None
    samples: list[Sample] = []
    for one in each(source, bgr=bgr):
        if isinstance(one, (str, Path, Remote)):
            samples += read_source(str(one), seed).train
            continue
        try:
            scratch = scratch or Scratch()
            path = scratch.path / f"{len(samples):06d}"
            if isinstance(one, Frame):
                with whole_image(one) as pixels:
                    pixels.save(path, "TIFF")
            else:
                path.write_bytes(one)
        except OSError as error:
            raise StorageError(f"no space for the images that were given ({reason_of(error)}); set TMPDIR") from error
        samples.append(Sample(path))
    if not samples:
        raise SourceError("no image was given; give a folder, a data set, or good images")
    return Dataset(MEMORY, MEMORY if scratch is None else str(scratch.path), samples), scratch


def source_of(dataset: Dataset) -> str:
    """Returns where a data set's images came from, as a model keeps it."""
    return MEMORY if dataset.layout == MEMORY else dataset.root
