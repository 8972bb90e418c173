"""Finds what is wrong with a data set before anything is fitted on it, and says what to do."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.calibration import DEFAULT_RATE, lowest_rate
from blemish.datasets import Dataset, Sample, read_source
from blemish.errors import ImageError
from blemish.images import Geometry, decode_ahead, read_format, read_image, read_mask, read_size
from blemish.images.array_files import file_of, read_member
from blemish.progress import Progress
from blemish.storage import digest

TINY = 64
SUFFIXES_OF = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
GEOMETRY = Geometry()


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: where, what, and in `mend` what to do; `stops_fit` if a fit would stop there."""

    where: str
    what: str
    mend: str
    stops_fit: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {"where": self.where, "what": self.what, "mend": self.mend, "stops_fit": self.stops_fit}


@dataclass(frozen=True)
class _Seen:
    """What was read from a sample's files; an image in a file that holds many has no format of its own."""

    digest: str
    height: int
    width: int
    format: str | None
    marked: bool | None


def check_source(source: str, progress: Progress | None = None) -> tuple[Dataset, list[Finding]]:
    """Checks every file of a source, and returns the data set and what is wrong with it.

    Raises:
        SourceError: the source is missing, empty, or not laid out as its layout says.
    """
    dataset = read_source(source)
    samples = dataset.train + dataset.test
    findings: list[Finding] = []
    by_digest: dict[str, list[int]] = defaultdict(list)
    small: list[Path] = []
    shapes: set[tuple[int, int]] = set()
    for index, seen in enumerate(decode_ahead(partial(_look, has_masks=dataset.has_masks), samples)):
        sample = samples[index]
        if isinstance(seen, ImageError):
            findings.append(
                Finding(str(seen.path), seen.reason.split("; ")[0], _mend(seen), index < len(dataset.train))
            )
        else:
            by_digest[seen.digest].append(index)
            shapes.add((seen.height, seen.width))
            if min(seen.height, seen.width) < TINY:
                small.append(sample.path)
            if seen.format and sample.path.suffix.lower() not in SUFFIXES_OF[seen.format]:
                right = SUFFIXES_OF[seen.format][0]
                findings.append(
                    Finding(str(sample.path), f"holds {seen.format} under another name", f"rename to {right}")
                )
            if seen.marked is False and sample.is_anomalous:
                findings.append(Finding(str(sample.mask), "marks nothing on an anomalous image", "mark the defect"))
        if progress:
            progress("check", index + 1, len(samples))
    findings += _copies(samples, len(dataset.train), list(by_digest.values()))
    if small:
        findings.append(
            Finding(
                str(small[0]), f"under {TINY} pixels, as {len(small) - 1} more are", "use the images at their full size"
            )
        )
    ratios = {round(height / width, 1) for height, width in shapes}
    if len(ratios) > 1:
        findings.append(
            Finding(
                dataset.root,
                f"height to width goes from {min(ratios)} to {max(ratios)}, and resizing distorts to one shape",
                "crop all images alike, if parts should look alike",
            )
        )
    return dataset, findings + _counts(dataset)


def _look(sample: Sample, *, has_masks: bool) -> _Seen:
    read_image(sample.path, GEOMETRY)
    height, width = read_size(sample.path)
    marked = bool(read_mask(sample.mask, sample.path).any()) if has_masks and sample.mask else None
    member = read_member(sample.path)
    if member is not None:
        return _Seen(_digest_of(member), height, width, None, marked)
    return _Seen(digest(sample.path), height, width, read_format(sample.path), marked)


def _digest_of(image: NDArray[np.uint8]) -> str:
    """Returns the SHA-256 of an image's pixels and shape."""
    return hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).hexdigest()


def _mend(error: ImageError) -> str:
    _, _, advice = error.reason.partition("; ")
    return advice or "remove it"


def _copies(samples: list[Sample], trained: int, groups: list[list[int]]) -> list[Finding]:
    """Finds images of the same bytes: across the split they are a leak, in the training part they count twice."""
    findings = []
    for group in groups:
        what = "file" if file_of(samples[group[0]].path) == samples[group[0]].path else "image"
        train = [index for index in group if index < trained]
        test = [index for index in group if index >= trained]
        if train and test:
            findings.append(
                Finding(
                    str(samples[test[0]].path),
                    f"is the same {what} as {samples[train[0]].path}, a training image",
                    "remove one",
                )
            )
        elif len(train) > 1:
            findings.append(
                Finding(str(samples[train[1]].path), f"is the same {what} as {samples[train[0]].path}", "remove one")
            )
    return findings


def _counts(dataset: Dataset) -> list[Finding]:
    """Finds whether there are too few images, good ones or others."""
    count = len(dataset.train)
    if count < 2:
        return [Finding(dataset.root, f"has {count} image to fit", "give at least 2 good images", True)]
    findings = []
    lowest = lowest_rate(count)  # all of them calibrate if they are cross-fitted
    if lowest > DEFAULT_RATE:
        findings.append(
            Finding(
                dataset.root,
                f"{count} good images allow a false-alarm rate of {100 * lowest:.2g} % or more",
                "add good images",
            )
        )
    if dataset.test and not any(sample.is_anomalous for sample in dataset.test):
        findings.append(Finding(dataset.root, "no test image is anomalous", "add some to test/<defect>"))
    if dataset.test and all(sample.is_anomalous for sample in dataset.test):
        findings.append(Finding(dataset.root, "no test image is good", "add some to test/good"))
    return findings
