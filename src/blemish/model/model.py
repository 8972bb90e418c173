"""A fitted, calibrated model: predict, explain, save, load. `fitting` makes one."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.calibration import Calibration
from blemish.datasets import Dataset
from blemish.engines import Engine
from blemish.errors import SettingError, require
from blemish.images import Given, ImageLike
from blemish.maps import Box, find_boxes
from blemish.maps.boxes import LEAST_AREA
from blemish.model import judging
from blemish.model.card import card_content
from blemish.model.drift import DEFAULT_LEVEL, DEFAULT_WINDOW, Drift, find_drift
from blemish.model.inside import Inside
from blemish.model.judging import Errors
from blemish.model.prediction import Prediction
from blemish.model.provenance import Provenance
from blemish.model.recipe import Learned, Recipe, check_seed
from blemish.model.saved import Saved, Store
from blemish.progress import Progress, reported
from blemish.storage import new_folder, write_card

if TYPE_CHECKING:
    from blemish.detectors.scoring import Scoring
    from blemish.explanation import Explanation


class Model:
    """A fitted, calibrated detector. Made by `blemish.fit` or `Model.load`.

    Attributes:
        recipe: detector, backbone, layers, geometry and seed.
        calibration: scores of good images, stated rates, threshold, level for boxes, display scale.
        provenance: where the images and weights came from, counts, changes, library versions.
        inside: the images that it has learned from.
        engine: computes scores and maps of images.
        extractor: computes their features, the first part of the engine.
        store: gives what was learned, and writes it.
    """

    def __init__(
        self,
        recipe: Recipe,
        calibration: Calibration,
        provenance: Provenance,
        inside: Inside,
        engine: Engine,
        extractor: Engine,
        store: Store,
    ) -> None:
        self.recipe = recipe
        self.calibration = calibration
        self.provenance = provenance
        self.inside = inside
        self.engine = engine
        self.extractor = extractor
        self.store = store

    def __repr__(self) -> str:
        """Returns what it is, what it learned from, and what it promises, in five lines."""
        recipe, calibration, told = self.recipe, self.calibration, self.provenance
        height, width = recipe.geometry.shape
        tiles = "" if recipe.geometry.tile is None else f", tiles of {recipe.geometry.tile} pixels"
        return (
            f"Model: {recipe.detector} on {recipe.backbone_and_layers}\n"
            f"  input {height}x{width}{tiles}, engine {self.engine.name}\n"
            f"  learned from {len(self.inside)} good images of {told.source}, {told.created}\n"
            f"  threshold {calibration.threshold:.6g}: a false-alarm rate of {calibration.rate:.3g}, "
            f"by {len(calibration.scores)} scores of good images\n"
            f"  boxes above {calibration.box_level:.6g}: on {calibration.box_rate:.3g} of good images"
        )

    @property
    def threshold(self) -> float:
        """The threshold in use, calibrated or given; an image with a higher score is anomalous."""
        return self.calibration.threshold

    def at(
        self,
        *,
        false_alarm_rate: float | None = None,
        threshold: float | None = None,
        box_rate: float | None = None,
    ) -> Model:
        """Returns the model at another false-alarm rate or threshold, or another box rate, without a fit.

        Everything but the calibration is shared. For a threshold that you give, the stated rate is the smallest one
        that the scores of good images allow. What is `None` stays as it is.

        Args:
            false_alarm_rate: the share of good images that may raise an alarm.
            threshold: images with higher scores are anomalous; use it instead of a rate.
            box_rate: the share of good images that may show any box.

        Raises:
            SettingError: a rate is lower than so many images can promise, a value is out of range, or a rate and a
                threshold are both given.
        """
        other = copy.copy(self)
        other.calibration = self.calibration.at(rate=false_alarm_rate, threshold=threshold, box_rate=box_rate)
        return other

    @cached_property
    def learned(self) -> Learned:
        """Detector and weights; needs torch.

        Raises:
            StorageError: a saved model's file was altered since the model was loaded.
            ModelError: it does not fit the model's card.
        """
        return self.store.learned()

    @property
    def scoring(self) -> Scoring:
        """The scoring module in torch, on the CPU, whose parts explain what the engine computes."""
        return self.learned.scoring

    def predict(
        self,
        sources: Given | Iterable[Given] | Dataset,
        progress: Progress | bool | None = None,
        *,
        errors: Errors = "raise",
        bgr: bool = False,
    ) -> Iterator[Prediction]:
        """Yields one prediction for each image, in order.

        Images are decoded ahead: up to a hundred are taken from a generator before the first is predicted, so use
        `predict_one` for each frame of a camera.

        Args:
            sources: a source, which is an image, a folder or a data set; a data set that was read; an image in memory,
                or a batch of them, as `blemish.images.frames` says; the bytes of an image file; or any number of these.
                If a source has a test part, that part is predicted.
            progress: called with the stage, and how many images of how many are done; `True` prints it.
            errors: what to do about an image that cannot be scored. `raise` stops there; `keep` yields a prediction
                whose `error` says why, whose score is not a number and whose `is_anomaly` is `None`, and continues.
            bgr: whether the channels of arrays and tensors are blue, green, red, as OpenCV has them.

        Raises:
            SourceError: a source is missing or empty.
            ImageError: an image cannot be read, or its score is not finite.
            SettingError: `errors` is another word.
        """
        return judging.predict(self, sources, reported(progress), errors, bgr=bgr)

    def predict_one(self, image: Given, *, errors: Errors = "raise", bgr: bool = False) -> Prediction:
        """Returns the prediction of one image at once, as a loop over a camera's frames needs it.

        Args:
            image: a file, its bytes, or an image in memory, as `predict` takes them.
            errors: as in `predict`.
            bgr: whether the channels of an array or a tensor are blue, green, red, as OpenCV has them.

        Raises:
            ImageError: it cannot be read, or its score is not finite.
            SourceError: it is no image, or several.
            SettingError: `errors` is another word.
        """
        return judging.predict_one(self, image, errors, bgr=bgr)

    def judge(self, images: Iterable[ImageLike], progress: Progress | None = None) -> Iterator[Prediction]:
        """Yields one prediction for each image, in order; an image that cannot be scored gives one with an error.

        Every item is one image; folders and data sets are not looked for.
        """
        return judging.judge(self, images, progress)

    def features(
        self, images: Given | Iterable[Given], *, bgr: bool = False, progress: Progress | bool | None = None
    ) -> list[NDArray[np.float32]]:
        """Returns the features that the detector looks at, for each layer (N, C_l, H_l, W_l).

        The rows are in the order of the images; if photographs are cut into tiles, each tile is a row. All are held in
        memory at once. The layers are those of `recipe.shapes`; a detector that takes the images themselves has their
        pixels as its only layer.

        Args:
            images: as `predict` takes them.
            bgr: whether the channels of arrays and tensors are blue, green, red.
            progress: called with the stage, and how many images of how many are done; `True` prints it.

        Raises:
            SourceError: a source is missing or empty.
            ImageError: an image cannot be read.
        """
        return judging.features(self, images, reported(progress), bgr=bgr)

    def boxes(self, values: NDArray[np.float32]) -> list[Box]:
        """Returns boxes around parts of a map (H, W) above the level for boxes, in its pixels, highest peak first.

        A box encloses the values of its part that exceed 40 % of the peak, measured from the typical value on good
        images.
        """
        geometry = self.recipe.geometry
        share = 1.0 if geometry.tile is None else geometry.tile**2 / (geometry.height * geometry.width)
        calibration = self.calibration
        return find_boxes(values, calibration.box_level, round(LEAST_AREA * share), calibration.display[0])

    def explain(
        self, image: Given, components: int | str | Sequence[int] | None = None, *, bgr: bool = False
    ) -> Explanation:
        """Returns why an image has its score: the maps of layers, and of components if the detector has them.

        If photographs are cut into tiles, the tile with the highest score is explained. Maps of layers come from the
        graph that predicts. Components and the reconstruction by a VAE need torch, and are left out if it is not
        installed.

        Args:
            image: a file, its bytes, or an image in memory, as `predict` takes them.
            components: how many components to show of those that add the most where the map is largest; `best`, the
                default, for twelve of these; `worst`, for the twelve that add the least there; or indices, for every
                layer that has them.
            bgr: whether the channels of an array or a tensor are blue, green, red.

        Raises:
            ImageError: the image cannot be read.
            DegenerateError: its score or its map is not finite.
            SettingError: there is no such component, or the detector has none.
            MissingExtraError: components are asked for, and torch is not installed.
        """
        from blemish.model.explaining import explain

        return explain(self, image, components, bgr=bgr)

    def drift(
        self,
        p_values: ArrayLike,
        *,
        names: Sequence[str] = (),
        level: float = DEFAULT_LEVEL,
        window: int = DEFAULT_WINDOW,
    ) -> Drift:
        """Returns whether images still look like those that calibrated the model.

        Scores that are lower than those that calibrated count as drift only if the model has not learned from the
        images that calibrated it. If it has, new good images get slightly lower scores.

        Args:
            p_values: of images in the order in which they came (T,), by this model at any rate or threshold; without
                those of images that it was fitted on (`is_known`).
            names: of the images.
            level: the evidence that raises the alarm; images like those that calibrated reach it, at any time, with a
                probability of at most 1 / level.
            window: how many of the latest images are in the running mean and in the test of a window.

        Raises:
            SettingError: there is no p-value, one is not of this calibration, or an option is out of range.
            MissingExtraError: scipy is not installed.
        """
        digests = self.calibration.digests
        is_new = bool(digests) and bool((self.inside.places(digests) < 0).all())
        count = len(self.calibration.scores)
        return find_drift(p_values, count, two_sided=is_new, names=names, level=level, window=window)

    def sample(self, count: int, seed: int = 0) -> NDArray[np.uint8]:
        """Returns images uint8 (count, H, W, 3) drawn from the prior of a `vae` or `vae-grf`: what it takes for good.

        Raises:
            SettingError: the detector has no prior over images, or the seed is out of range.
            MissingExtraError: torch is not installed; it is in the extra `fit`.
        """
        require("torch", of="sample", extra="fit")
        from blemish.detectors import Generative
        from blemish.model.explaining import as_pixels

        detector = self.learned.detector
        if not isinstance(detector, Generative):
            raise SettingError(f"{detector.name} has no prior to draw images from; fit vae or vae-grf")
        seed = check_seed(seed)
        return as_pixels(detector.sample(count, seed))

    def update(
        self,
        images: Given | Iterable[Given] | Dataset,
        *,
        only_good: bool = False,
        newest: int | None = None,
        skip_bad: bool = False,
        bgr: bool = False,
        progress: Progress | bool | None = None,
    ) -> Model:
        """Returns the model after it learned from more good images; this one is not changed.

        A `gaussian`, `padim` or `spade` equals one that was fitted on all images together; `fre` nearly does, since it
        keeps only the leading directions. An image that the model has learned from already is not counted again. Each
        new image is scored before anything is learned from it, and its score is added to the calibration, which keeps
        at most 10,000 scores. The threshold, the level for boxes and the display scale are then computed again at the
        rates that were asked for. `provenance.changes[-1]` says what came, and what of it looked anomalous.

        Args:
            images: a path, `layout:PATH` or a data set, whose good images are used; or images as `predict` takes them.
            only_good: leave out images above the threshold. Some of these are good, as the false-alarm rate says; as
                many of the lowest scores still calibrate, since the threshold would otherwise fall with each update.
            newest: calibrate on this many of the newest scores alone, for a production line that changes slowly.
            skip_bad: leave out images that cannot be read, rather than stop.
            bgr: whether the channels of arrays and tensors are blue, green, red.
            progress: called with the stage, and how many images of how many are done; `True` prints it.

        Raises:
            SettingError: the detector is a trained one.
            SourceError: a source is missing or empty.
            BadImagesError: images cannot be read; up to ten are named.
            DegenerateError: an image has no finite score.
            MissingExtraError: torch is not installed; it is in the extra `fit`.
        """
        require("torch", of="update", extra="fit")
        from blemish.model.change import update

        tell = reported(progress)
        return update(self, images, only_good=only_good, newest=newest, skip_bad=skip_bad, bgr=bgr, progress=tell)

    def merge(self, other: Model) -> Model:
        """Returns a model of the images of both, calibrated on the scores of both; neither of the two is changed.

        It equals one that was fitted on all images, as exactly as after `update`. Rates and a given threshold are this
        model's.

        Raises:
            SettingError: the models have other recipes or weights, an image is in both, or the detector is a trained
                one.
            MissingExtraError: torch is not installed; it is in the extra `fit`.
        """
        require("torch", of="merge", extra="fit")
        from blemish.model.change import merge

        return merge(self, other)

    def forget(
        self,
        images: Given | Iterable[Given] | Dataset,
        *,
        bgr: bool = False,
        progress: Progress | bool | None = None,
    ) -> Model:
        """Returns the model as if it had never learned from these images; this one is not changed.

        It equals one that was fitted on the other images, to 1e-4 of the scores. The scores of the forgotten images
        leave the calibration too. If the model has not learned from one of the images, nothing is forgotten.

        Args:
            images: as `update` takes them.
            bgr: whether the channels of arrays and tensors are blue, green, red.
            progress: called with the stage, and how many images of how many are done; `True` prints it.

        Raises:
            SettingError: the detector cannot forget (`fre`, and those that are trained), fewer than 2 images would be
                left, none would be left to calibrate on, or rounding would change the scores too much.
            SourceError: an image is not in the model; up to ten are named.
            BadImagesError: images cannot be read.
            MissingExtraError: torch is not installed; it is in the extra `fit`.
        """
        require("torch", of="forget", extra="fit")
        from blemish.model.change import forget

        return forget(self, images, bgr=bgr, progress=reported(progress))

    def save(self, path: str | Path, *, force: bool = False, replaces: Model | None = None) -> None:
        """Writes the model as a folder, whole or not at all.

        Args:
            path: the folder; its parent is made if it is absent. Or an address, such as `s3://bucket/model`, to which
                the files are copied, the card last.
            force: replace a model that is there.
            replaces: the model that was loaded from this folder and changed since. If the folder holds another model by
                now, it is not replaced, so that nothing is lost when two programs change the same model. At an address
                elsewhere this is not checked, since nothing can be locked there.

        Raises:
            StorageError: the path exists and may not be replaced, it cannot be written, or a file of the loaded model
                was altered.
        """
        former = None if replaces is None or not isinstance(replaces.store, Saved) else replaces.store.card
        with new_folder(path, "model", force=force, replaces=former) as folder:
            self.store.write(folder)
            self.inside.write(folder)
            write_card(folder, "model", card_content(self.recipe, self.calibration, self.provenance))

    @classmethod
    def load(cls, path: str | Path, engine: str = "auto", threads: int | None = None, device: str = "auto") -> Model:
        """Returns the model that `save` wrote, with the same scores to the last bit on the same engine and machine.

        Every file is read and compared with its digest first, which takes about half a second for each gigabyte.
        On OpenVINO neither torch nor timm is imported. The files of a model elsewhere, such as `s3://bucket/model`, are
        copied into a temporary folder first.

        Args:
            path: of the folder, or its address elsewhere.
            engine: `auto`, `openvino` or `torch`.
            threads: the largest number of threads that compute; set it where several processes share the cores. By
                default there is one for each core. On torch it applies to the whole process.
            device: `auto` takes a GPU that torch sees, or else the processor; `cpu`; torch's `cuda`, `cuda:1` or `mps`;
                or OpenVINO's `gpu`, `gpu:1` or `npu`.

        Raises:
            ModelError: it is not a model, incomplete, altered, of another format, or cannot be read.
            SettingError: the engine or the device is unknown or not there.
        """
        from blemish.model.loading import load

        return load(path, engine, threads, device)
