"""Passes of images through an engine, with one list of bad images, and one test of whether the images differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from blemish.datasets import Sample
from blemish.engines import Engine
from blemish.engines.features import Variety, check_finite
from blemish.engines.stream import Chunk, stream
from blemish.errors import FIX, NAMED, BadImagesError, DegenerateError, ImageError, number_of
from blemish.fitting.enough import is_any_new
from blemish.images import Copies, Geometry, Location, count_tiles, decode_ahead, read_image, waiting
from blemish.model.inside import Arrivals
from blemish.progress import Progress


@dataclass
class Passes:
    """The passes of one fit.

    Attributes:
        engine: images to features.
        geometry: of the images.
        skip_bad: leave out images that cannot be read, rather than stop.
        progress: called with the stage, and how many images of how many are done.
        copies: shifted copies of each image that the detector learns from besides it.
        elsewhere: yields the features of images as `stream` does, but computed by other machines.
        bad: the images that could not be read so far.
        arrivals: the images that could be, and how many rows of features each gave.
        repeated: how many images were left out because they are the same as an earlier one.
        variety: of all features so far.
    """

    engine: Engine
    geometry: Geometry
    skip_bad: bool
    progress: Progress | None
    copies: Copies | None = None
    elsewhere: Callable[[Sequence[Location]], Iterator[Chunk]] | None = None
    bad: list[ImageError] = field(default_factory=list)
    arrivals: Arrivals = field(default_factory=Arrivals)
    repeated: int = 0
    variety: Variety = field(default_factory=Variety)

    def over(self, stage: str, samples: Sequence[Sample], later: Sequence[Sample] = ()) -> Iterator[Chunk]:
        """Yields the features of the samples and of their shifted copies, in order.

        If an image is bad and may not be left out, the remaining samples, and those for `later`, are only decoded, so
        that one error names up to `NAMED` bad ones.

        Raises:
            BadImagesError: an image cannot be read, and bad ones may not be left out.
            DegenerateError: features are not finite.
        """
        paths = [sample.path for sample in samples]
        done = 0
        for chunk in self._chunks(paths):
            if chunk.errors and not self.skip_bad:
                first = [chunk.errors[index] for index in sorted(chunk.errors)]
                rest = paths[max([*chunk.errors, *chunk.indices]) + 1 :] + [sample.path for sample in later]
                raise _all_bad(first, rest, self.geometry)
            self.bad += chunk.errors.values()
            self.repeated += len(chunk.repeated)
            self.variety.count += len(chunk.repeated)
            if chunk.indices:
                check_finite(chunk, paths)
                self.variety.update(chunk.real().arrays)
                self.arrivals.update(chunk)
                yield chunk
            done += chunk.finished
            if self.progress:
                self.progress(stage, done, len(paths))
        self.arrivals.finish()

    def _chunks(self, paths: list[Location]) -> Iterator[Chunk]:
        if self.elsewhere is not None:
            return self.elsewhere(paths)
        return stream(self.engine, paths, self.geometry, self.copies, self.arrivals.rows)

    def check_new(self, paths: Sequence[Location]) -> None:
        """Raises `DegenerateError` or `BadImagesError` if none of these images can be read and is new."""
        if self.geometry.tile is None and not is_any_new(paths, self.geometry, self.arrivals.rows):
            self.repeated += len(paths)
            self.check_enough(0)

    def check_enough(self, count: int, fewest: int = 1) -> None:
        """Raises `BadImagesError` or `DegenerateError` if fewer than `fewest` images are left."""
        if count >= fewest:
            return
        if self.repeated:
            same = number_of(self.repeated, "image is the same as another", "images are the same as others")
            raise DegenerateError(
                f"{same}, so too few are left to learn from and to calibrate on; give more different images"
            )
        raise BadImagesError(self.bad, "too few are left; give at least 2 good images")


def _all_bad(found: list[ImageError], rest: Iterable[Location], geometry: Geometry) -> BadImagesError:
    """Returns the error that names the images found bad and those among the rest, up to `NAMED`."""
    read = count_tiles if geometry.tile else read_image
    for image in decode_ahead(partial(read, geometry=geometry), rest, ahead=waiting(geometry.bytes, 32)):
        if len(found) > NAMED:
            break
        if isinstance(image, ImageError):
            found.append(image)
    return BadImagesError(found, FIX)
