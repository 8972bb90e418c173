"""Finds problems in a data set before a fit, and says how to fix each."""

from __future__ import annotations

import hashlib
import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from blemish.calibration import DEFAULT_RATE, lowest_rate
from blemish.datasets import Dataset, Sample, read_source, read_truth
from blemish.datasets.near_copies import MOST, SIDE, Detail, detail_of, near_copies
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
from blemish.images.copies import digest_of
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

STEP = 0.12
"""Proportions in one group differ by at most this share of the smallest."""

ODD = 1.5
"""An image is reported if its height / width differs from the median by more than this factor, either way."""

NAMED = 3
"""The largest number of further images that one line names."""

GROUPS = 5
"""The largest number of groups of proportions that are listed."""


@dataclass(frozen=True)
class Finding:
    """One problem.

    Attributes:
        kind: `unreadable`, `name`, `mask`, `same`, `near`, `small`, `shape` or `count`.
        where: the image, the mask, or the data set.
        what: was found there.
        fix: what to do about it.
        stops_fit: whether a fit would stop there.
    """

    kind: str
    where: str
    what: str
    fix: str
    stops_fit: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Returns the attributes, as JSON can hold them."""
        return asdict(self)


def joined(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    """Returns pairs of where a problem is, and what it is and how to fix it: one for all findings of a kind.

    The first finding of a kind stands for the others. Each image that cannot be read, and each problem of the whole
    data set, has a pair of its own.
    """
    lines: dict[object, list[Finding]] = defaultdict(list)
    for finding in findings:
        alone = finding.kind in {"unreadable", "count"}
        lines[finding if alone else (finding.kind, finding.fix, finding.stops_fit)].append(finding)
    told = []
    for first, *others in lines.values():
        more = ""
        if others:
            named = ", ".join(Path(other.where).name for other in others[:NAMED])
            rest = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
            more = f" (the same in {len(others)} more: {named}{rest})"
        told.append((first.where, f"{first.what}{more}; {first.fix}"))
    return told


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
    def groups(self) -> list[tuple[float, int]]:
        """Groups of images whose height / width is alike: the median of each, and how many it has.

        The largest first.
        """
        found: list[list[float]] = []
        for ratio in sorted(self.ratios):
            if not found or ratio > (1 + STEP) * found[-1][0]:
                found.append([])
            found[-1].append(ratio)
        counted = [(statistics.median(group), len(group)) for group in found]
        return sorted(counted, key=lambda group: (-group[1], group[0]))

    @property
    def input(self) -> tuple[int, int]:
        """Height and width of the model's input in a fit with the default size."""
        return input_shape(SIZE, [math.log(height) - math.log(width) for height, width in self.sizes])

    def as_dict(self) -> dict[str, Any]:
        ratios = self.ratios
        return {
            "least_ratio": min(ratios),
            "median_ratio": statistics.median(ratios),
            "largest_ratio": max(ratios),
            "groups": [{"ratio": ratio, "images": images} for ratio, images in self.groups],
            "input": list(self.input),
        }

    def __str__(self) -> str:
        ratios, one_size = self.ratios, set(self.sizes)
        found = f"height / width {statistics.median(ratios):.2f}"
        if len(one_size) == 1:
            found = "all {}x{}, ".format(*self.sizes[0]) + found
        elif min(ratios) < max(ratios):
            found += f" (median; {min(ratios):.2f} to {max(ratios):.2f})"
        groups = self.groups
        if len(groups) > 1:
            listed = [f"{count} of about {ratio:.2f}" for ratio, count in groups[:GROUPS]]
            rest = sum(count for _, count in groups[GROUPS:])
            listed += [f"{rest} of others"] if rest else []
            found += f": {', '.join(listed)}"
        shrinks = max(max(size) for size in self.sizes) > 2 * max(self.input)
        hint = ", or give --tile to cut them instead" if len(groups) > 1 or shrinks else ""
        return f"training images: {found}; fit resizes all to {self.input[0]}x{self.input[1]}{hint}"


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
    """What was read from a sample's files; an image in a file that holds many has no format of its own.

    `digest` is of the file or the member, `picture` of the pixels at the size of a model's input.
    """

    digest: str
    height: int
    width: int
    format: str | None
    marked: bool | None
    detail: Detail | None
    picture: bytes


def check_source(source: str, progress: Progress | None = None) -> Check:
    """Returns what is found when every file of a source is read.

    Raises:
        SourceError: the source is missing, empty, or not laid out as its layout says.
    """
    dataset = read_source(source)
    samples = dataset.train + dataset.test
    trained = len(dataset.train)
    findings: list[Finding] = []
    seen: dict[int, _Seen] = {}
    for index, found in enumerate(decode_ahead(partial(_look, has_masks=dataset.has_masks), samples)):
        if isinstance(found, ImageError):
            fix = found.reason.partition("; ")[2] or "remove it"
            findings.append(
                Finding("unreadable", str(found.path), found.reason.split("; ")[0], fix, stops_fit=index < trained)
            )
        else:
            seen[index] = found if len(seen) < MOST else replace(found, detail=None)  # each takes memory
            findings += _alone(samples[index], found)
        if progress:
            progress("check", index + 1, len(samples))
    findings += _copies(samples, trained, seen)
    findings += _near_copies(samples, trained, seen)
    sizes = {index: (one.height, one.width) for index, one in seen.items()}
    shapes = Shapes([size for index, size in sizes.items() if index < trained])
    if shapes.sizes:
        findings += _odd({samples[index].path: size for index, size in sizes.items()}, shapes)
    pictures = {one.picture for index, one in seen.items() if index < trained}
    findings += [*_counts(dataset, len(shapes.sizes), len(pictures)), *_truth(dataset)]
    return Check(dataset, shapes if shapes.sizes else None, findings)


def _alone(sample: Sample, seen: _Seen) -> Iterator[Finding]:
    """Yields the problems of one image that can be read."""
    if min(seen.height, seen.width) < TINY:
        yield Finding(
            "small",
            str(sample.path),
            f"under {TINY} pixels, so fit enlarges it",
            "use larger originals if there are any, or a smaller --size",
        )
    if seen.format and sample.path.suffix.lower() not in SUFFIXES_OF[seen.format]:
        right = SUFFIXES_OF[seen.format][0]
        yield Finding("name", str(sample.path), f"holds {seen.format} under another suffix", f"rename to {right}")
    if seen.marked is False and sample.is_anomalous:
        fix = "mark the defect in it, or move the image to the good ones"
        yield Finding("mask", str(sample.mask), "marks nothing on an anomalous image", fix)


def _odd(sizes: Mapping[Location, tuple[int, int]], shapes: Shapes) -> list[Finding]:
    """Finds images whose shape differs from most, since all are resized to one shape; the most different first."""
    median = statistics.median(shapes.ratios)
    odds = {path: abs(math.log(height / width / median)) for path, (height, width) in sizes.items()}
    fix = "crop all images alike, leave such images out, or fit each shape by itself"
    findings = []
    for path in sorted((path for path in odds if odds[path] > math.log(ODD)), key=lambda path: -odds[path]):
        height, width = sizes[path]
        told = f"is {height}x{width}, height / width {height / width:.2f} where the median is {median:.2f}"
        findings.append(Finding("shape", str(path), f"{told}, so resizing squashes it", fix))
    return findings


def _look(sample: Sample, *, has_masks: bool) -> _Seen:
    if isinstance(sample.path, Remote):
        return _look_elsewhere(sample, sample.path, has_masks=has_masks)
    image = read_image(sample.path, GEOMETRY)
    height, width = read_size(sample.path)
    member = read_member(sample.path)
    found, form = (digest(sample.path), read_format(sample.path)) if member is None else (digest_of(member).hex(), None)
    detail = detail_of(image) if min(height, width) >= SIDE else None
    return _Seen(found, height, width, form, _marked(sample, has_masks), detail, digest_of(image))


def _look_elsewhere(sample: Sample, path: Remote, *, has_masks: bool) -> _Seen:
    """Looks at an image elsewhere, which is fetched once."""
    content = path.content()
    try:
        image = read_image(content, GEOMETRY)
        height, width = read_size(content)
        form = read_format(content)
    except ImageError as error:
        raise ImageError(path, error.reason) from None
    found = hashlib.sha256(content).hexdigest()
    detail = detail_of(image) if min(height, width) >= SIDE else None
    return _Seen(found, height, width, form, _marked(sample, has_masks), detail, digest_of(image))


def _marked(sample: Sample, has_masks: bool) -> bool | None:
    """Returns whether an image's truth marks anything; `None` if it has none."""
    return bool(read_truth(sample, None).any()) if has_masks and sample.mask else None


def _copies(samples: list[Sample], trained: int, seen: Mapping[int, _Seen]) -> list[Finding]:
    """Finds images of the same bytes: across the split they are a leak, in the training part they count once."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, one in seen.items():
        groups[one.digest].append(index)
    findings = []
    for first, *others in groups.values():
        what = "file" if file_of(samples[first].path) == samples[first].path else "image"
        for index in others:
            if first < trained:
                findings.append(_repeated("same", f"is the same {what} as", samples, index, first, trained))
    return findings


def _near_copies(samples: list[Sample], trained: int, seen: Mapping[int, _Seen]) -> list[Finding]:
    """Finds images that differ from another one only as if it had been saved again."""
    firsts: dict[str, int] = {}
    for index, image in seen.items():
        if image.detail is not None:
            firsts.setdefault(image.digest, index)
    numbers = list(firsts.values())
    if not numbers:
        return []
    details = np.stack([detail for index in numbers if (detail := seen[index].detail) is not None])
    found: dict[int, int] = {}
    for one, other in near_copies(details):
        if numbers[one] < trained:
            found.setdefault(numbers[other], numbers[one])
    return [_repeated("near", "is nearly the same as", samples, *pair, trained) for pair in found.items()]


def _repeated(kind: str, what: str, samples: list[Sample], index: int, first: int, trained: int) -> Finding:
    across = ", a training image" if index >= trained else ""
    fix = "leave it out of the test part" if across else "leave one out"
    return Finding(kind, str(samples[index].path), f"{what} {samples[first].path}{across}", fix)


def _counts(dataset: Dataset, readable: int, pictures: int) -> Iterator[Finding]:
    """Yields whether there are too few images to fit on; `pictures` of those that are `readable` differ."""
    count = len(dataset.train)
    if readable < 2:
        told = f"has {_images(readable)} to fit" + (" that can be read" if readable < count else "")
        yield Finding("count", dataset.root, told, "give at least 2 good images", stops_fit=True)
    elif pictures < 2:
        told = f"all {readable} images to fit are the same picture"
        yield Finding("count", dataset.root, told, "give different ones", stops_fit=True)
    elif (lowest := lowest_rate(pictures)) > DEFAULT_RATE:  # all of them calibrate if they are cross-fitted
        told = f"{100 * lowest:.{2 if lowest < 0.1 else 3}g}"
        yield Finding(
            "count",
            dataset.root,
            f"{pictures} different good images allow a false-alarm rate of {told} % or more, and the "
            f"default is {100 * DEFAULT_RATE:g} %",
            f"add good images up to {round(1 / DEFAULT_RATE) - 1}, or accept the higher rate",
        )


def _truth(dataset: Dataset) -> Iterator[Finding]:
    """Yields what cannot be measured on the test part."""
    anomalous = [sample for sample in dataset.test if sample.is_anomalous]
    if dataset.test and not anomalous:
        told = "no test image is anomalous, so detection cannot be measured"
        yield Finding("count", dataset.root, told, "add some to the test part")
    if dataset.test and len(anomalous) == len(dataset.test):
        told = "no test image is good, so AUROC and false alarms cannot be measured"
        yield Finding("count", dataset.root, told, "add some to the test part")
    without = [sample for sample in anomalous if sample.mask is None]
    if without and not dataset.has_masks:
        told = f"has no masks of its {_images(len(without), 'anomalous')}, so pixel metrics cannot be measured"
        fix = "add masks as the layout has them (docs/data.md), or use the image metrics alone"
        yield Finding("count", dataset.root, told, fix)
    elif without:
        for sample in without:
            told = "is anomalous and has no mask, so all of its pixels count as good"
            yield Finding("mask", str(sample.path), told, "add its mask, or leave it out of the test part")


def _images(count: int, kind: str = "") -> str:
    """Returns `1 image`, `2 images`, `2 anomalous images` and the like."""
    return f"{count} {kind} image".replace("  ", " ") + ("" if count == 1 else "s")
