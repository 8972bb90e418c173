"""Finds what is wrong with a data set before anything is fitted on it, and says what to do."""

from __future__ import annotations

import hashlib
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.calibration import DEFAULT_RATE, lowest_rate
from blemish.datasets import Dataset, Sample, read_source, read_truth
from blemish.errors import ImageError
from blemish.images import (
    Geometry,
    Location,
    Remote,
    decode_ahead,
    input_shape,
    read_format,
    read_image,
    read_size,
)
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
SIZE = GEOMETRY.height
"""The size that `fit` takes by default."""

ODD = 1.5
"""An image is named whose height / width is more than so many times the median, or less than the median by as much."""

NAMED = 10
"""Images that are named for one thing, at most."""


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
class Shapes:
    """The shapes of the training images that can be read.

    Attributes:
        sizes: height and width of each.
    """

    sizes: Sequence[tuple[int, int]]

    @property
    def ratios(self) -> list[float]:
        """Height / width of each."""
        return [height / width for height, width in self.sizes]

    @property
    def input(self) -> tuple[int, int]:
        """Height and width of the model's input that a fit with the default size takes."""
        return input_shape(SIZE, [math.log(height) - math.log(width) for height, width in self.sizes])

    def as_dict(self) -> dict[str, Any]:
        ratios = self.ratios
        return {
            "least_ratio": min(ratios),
            "median_ratio": statistics.median(ratios),
            "largest_ratio": max(ratios),
            "input": list(self.input),
        }

    def __str__(self) -> str:
        ratios, one_size = self.ratios, set(self.sizes)
        found = f"height / width {statistics.median(ratios):.2f}"
        if len(one_size) == 1:
            found = "all {}x{}, ".format(*self.sizes[0]) + found
        elif min(ratios) < max(ratios):
            found += f" (median; {min(ratios):.2f} to {max(ratios):.2f})"
        return f"training images: {found}; fit uses {self.input[0]}x{self.input[1]}"


@dataclass(frozen=True)
class Check:
    """What was found.

    Attributes:
        dataset: that was checked.
        shapes: of its training images; `None` if none can be read.
        findings: what is wrong.
    """

    dataset: Dataset
    shapes: Shapes | None
    findings: list[Finding]


@dataclass(frozen=True)
class _Seen:
    """What was read from a sample's files; an image in a file that holds many has no format of its own."""

    digest: str
    height: int
    width: int
    format: str | None
    marked: bool | None


def check_source(source: str, progress: Progress | None = None) -> Check:
    """Returns what is found when every file of a source is read.

    Raises:
        SourceError: the source is missing, empty, or not laid out as its layout says.
    """
    dataset = read_source(source)
    samples = dataset.train + dataset.test
    findings: list[Finding] = []
    by_digest: dict[str, list[int]] = defaultdict(list)
    small: list[Location] = []
    sizes: dict[int, tuple[int, int]] = {}
    for index, seen in enumerate(decode_ahead(partial(_look, has_masks=dataset.has_masks), samples)):
        sample = samples[index]
        if isinstance(seen, ImageError):
            findings.append(
                Finding(str(seen.path), seen.reason.split("; ")[0], _mend(seen), index < len(dataset.train))
            )
        else:
            by_digest[seen.digest].append(index)
            sizes[index] = seen.height, seen.width
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
    shapes = Shapes([size for index, size in sizes.items() if index < len(dataset.train)])
    if not shapes.sizes:
        return Check(dataset, None, findings + _counts(dataset))
    findings += _odd(dataset, {samples[index].path: size for index, size in sizes.items()}, shapes)
    return Check(dataset, shapes, findings + _counts(dataset))


def _odd(dataset: Dataset, sizes: Mapping[Location, tuple[int, int]], shapes: Shapes) -> list[Finding]:
    """Finds images of another shape than most, since all are resized to one; the most different first."""
    median = statistics.median(shapes.ratios)
    odds = {path: abs(math.log(height / width / median)) for path, (height, width) in sizes.items()}
    found = sorted((path for path in odds if odds[path] > math.log(ODD)), key=lambda path: -odds[path])
    mend = "crop all images alike, leave this one out, or fit each shape by itself"
    findings = []
    for path in found[:NAMED]:
        height, width = sizes[path]
        told = f"is {height}x{width}, height / width {height / width:.2f} where the median is {median:.2f}"
        findings.append(Finding(str(path), f"{told}, so resizing squashes it", mend))
    if len(found) > NAMED:
        told = f"{len(found) - NAMED} more images have height / width over {ODD} times off the median, {median:.2f}"
        findings.append(Finding(dataset.root, told, mend.replace("this one", "these")))
    return findings


def _look(sample: Sample, *, has_masks: bool) -> _Seen:
    if isinstance(sample.path, Remote):
        return _look_elsewhere(sample, sample.path, has_masks=has_masks)
    read_image(sample.path, GEOMETRY)
    height, width = read_size(sample.path)
    marked = bool(read_truth(sample, None).any()) if has_masks and sample.mask else None
    member = read_member(sample.path)
    if member is not None:
        return _Seen(_digest_of(member), height, width, None, marked)
    return _Seen(digest(sample.path), height, width, read_format(sample.path), marked)


def _look_elsewhere(sample: Sample, path: Remote, *, has_masks: bool) -> _Seen:
    """Looks at an image elsewhere, which is fetched once."""
    content = path.content()
    try:
        read_image(content, GEOMETRY)
        height, width = read_size(content)
        form = read_format(content)
    except ImageError as error:
        raise ImageError(path, error.reason) from None
    marked = bool(read_truth(sample, None).any()) if has_masks and sample.mask else None
    return _Seen(hashlib.sha256(content).hexdigest(), height, width, form, marked)


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
                f"{count} good images allow a false-alarm rate of {100 * lowest:.2g} % or more, and the default is "
                f"{100 * DEFAULT_RATE:g} %",
                f"add good images up to {round(1 / DEFAULT_RATE) - 1}, or accept the higher rate",
            )
        )
    if dataset.test and not any(sample.is_anomalous for sample in dataset.test):
        findings.append(
            Finding(
                dataset.root, "no test image is anomalous, so detection cannot be measured", "add some to the test part"
            )
        )
    if dataset.test and all(sample.is_anomalous for sample in dataset.test):
        findings.append(
            Finding(
                dataset.root,
                "no test image is good, so AUROC and false alarms cannot be measured",
                "add some to the test part",
            )
        )
    return findings
