"""FRE by principal components and by linear autoencoders: how soon these find what is found there at once.

    python benchmarks/fre_ae.py [--data DIR] [--epochs 600]
    python benchmarks/fre_ae.py --near [--data DIR]

The paper's Fig. 2, left, on what can be had here: digit 8 of MNIST as the normal class, 800 images at 64×64, stride 16
of EfficientNet-Lite0; Adam at a rate of 0.001 and batches of 64, as the paper has it. AUROC of the norm of the residual
on 3,000 test images after 2, 5, 10, 20 and 50 epochs, and every 100; then as many steps more as there were epochs, each
on all images at once, for angles:
between the subspace of principal components and the one that the decoder spans. The directions are so many that the
next eigenvalue is 14 % smaller than the last; where eigenvalues lie close, a subspace is hardly defined, and angles say
little. Prints a table, appends it to benchmarks/RESULTS.md, and writes the figure docs/pictures/fre-ae.png.

`--near`: why training ends at 1.3 times the loss of principal components. Bottle at 256×256, stride 16, the directions
that keep 0.97 of the variance, trained as `fre-ae` trains them: the loss as a multiple of theirs, and what is detected.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.linalg import subspace_angles
from torch import Tensor
from torch.nn import functional as F

from blemish.backbones import DEFAULT
from blemish.backbones.backbone import Backbone
from blemish.backbones.weights import find_weights
from blemish.datasets import Sample, read_source, read_truth
from blemish.detectors.fre.head import Projection
from blemish.detectors.fre.linear_autoencoder import LinearAutoencoder
from blemish.engines.openvino_engine import OpenVINOEngine
from blemish.engines.stream import stream
from blemish.images import Geometry
from blemish.metrics import PixelTally, auroc, tally
from blemish.statistics import Principal, Subspace
from blemish.training import Schedule, Step, train
from results import HERE, Table, append, data_folder

VARIANCE = 0.675
EARLY = (2, 5, 10, 20, 50)
SIZE = Geometry(64, 64)


class Errors(torch.nn.Module):
    """The mean squared error of an autoencoder."""

    def __init__(self, autoencoder: LinearAutoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, vectors: Tensor) -> dict[str, Tensor]:
        return {"loss": self.autoencoder(vectors).square().mean()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=data_folder())
    parser.add_argument("--epochs", type=int, default=600)
    parser.add_argument("--near", action="store_true")
    arguments = parser.parse_args()
    if arguments.near:
        near(Path(arguments.data) / "mvtec" / "bottle")
        return 0
    dataset = read_source(f"one_class:{arguments.data}/mnist/mnist.npz:8")
    rng = np.random.default_rng(0)
    chosen = [dataset.train[index] for index in rng.permutation(len(dataset.train))[:800]]
    judged = [dataset.test[index] for index in rng.permutation(len(dataset.test))[:3000]]
    normal, tested = vectors(chosen), vectors(judged)
    labels = [sample.is_anomalous for sample in judged]

    def area(module: torch.nn.Module) -> float:
        with torch.no_grad():
            return auroc(tally(module(tested).norm(dim=1).tolist(), labels)) or float("nan")

    principal = Subspace.empty(normal.shape[1]).update(normal).finish(VARIANCE)
    by_components = area(Projection(principal))
    print(f"{len(principal.mixing)} directions of {normal.shape[1]} keep {principal.kept:.3f}", flush=True)
    curves: dict[str, dict[int, float]] = {}
    table = Table(["method", "AUROC after 2 epochs", "10", "100", f"{arguments.epochs}", "largest angle", "seconds"], 1)
    table.row("principal components", *[f"{by_components:.4f}"] * 4, "0", "–")
    for name, tied in (("FRE-AEt (tied)", True), ("FRE-AE", False)):
        start = time.perf_counter()
        autoencoder, curves[name] = trained(normal, principal, tied, arguments.epochs, area)
        seconds = time.perf_counter() - start
        angle = float(
            np.rad2deg(subspace_angles(autoencoder.to_principal(normal).basis.double(), principal.basis.double())).max()
        )
        figures = [f"{curves[name][epochs]:.4f}" for epochs in (2, 10, 100, arguments.epochs)]
        table.row(name, *figures, f"{angle:.2f}°", f"{seconds:.0f}")
    draw(curves, by_components)
    append("FRE by autoencoders", "python benchmarks/fre_ae.py", table.lines)
    return 0


def near(folder: Path) -> None:
    """Loss, AUROC of images and pixels, and AUPRO by the number of steps."""
    dataset = read_source(folder)
    weights, _ = find_weights(DEFAULT)
    geometry = Geometry()
    engine = OpenVINOEngine.from_module(Backbone(DEFAULT, [3], weights), *geometry.shape)
    normal, tested = (features(engine, geometry, part) for part in (dataset.train, dataset.test))
    labels = [sample.is_anomalous for sample in dataset.test]
    masks = [np.asarray(read_truth(sample, geometry=geometry)) for sample in dataset.test]
    start = time.perf_counter()
    whole = normal.flatten(1)
    principal = Subspace.empty(whole.shape[1]).update(whole).finish(0.97)
    lowest = (1 - principal.kept) * principal.energy / whole.numel()
    table = Table(["method", "steps", "loss", "image AUROC", "pixel AUROC", "AUPRO", "seconds"], 1)

    def row(name: str, steps: str, module: torch.nn.Module) -> None:
        seconds = time.perf_counter() - start
        pixels = PixelTally()
        with torch.no_grad():
            loss = float(module(whole).square().mean()) / lowest
            maps = module(tested.flatten(1)).unflatten(1, tested.shape[1:]).square().sum(1)
        for full, mask in zip(F.interpolate(maps[:, None], geometry.shape, mode="bilinear")[:, 0], masks, strict=True):
            pixels.update(full.numpy(), mask)
        told = pixels.figures()
        figures = [auroc(tally(maps.sum((1, 2)).tolist(), labels)), told["auroc"], told["aupro"]]
        cells = [f"{100 * (figure or 0):.2f}" for figure in figures]
        table.row(name, steps, f"{loss:.2f}", *cells, f"{seconds:.0f}")

    row("principal components", "–", Projection(principal))
    for name, tied in (("FRE-AEt (tied)", True), ("FRE-AE", False)):
        torch.manual_seed(0)
        autoencoder = LinearAutoencoder(whole.shape[1], len(principal.mixing), tied)
        autoencoder.centre(principal.mean)
        start = time.perf_counter()

        def watch(step: Step, total: int, name: str = name, module: torch.nn.Module = autoencoder) -> None:
            if step.step + 1 in (32, 96, 160, 320, 800, 1600):
                row(name, str(step.step + 1), module)

        train(
            Errors(autoencoder),
            partial(taken, whole),
            len(whole),
            Schedule(epochs=400, batch=64, learning_rate=1e-3),
            watch=watch,
        )
    append("FRE by autoencoders on bottle", "python benchmarks/fre_ae.py --near", table.lines)


def features(engine: OpenVINOEngine, geometry: Geometry, samples: list[Sample]) -> Tensor:
    """The feature maps of all samples."""
    parts = [np.array(chunk.arrays[0]) for chunk in stream(engine, [sample.path for sample in samples], geometry)]
    return torch.from_numpy(np.concatenate(parts))


def trained(
    normal: Tensor, principal: Principal, tied: bool, epochs: int, area: Callable[[torch.nn.Module], float]
) -> tuple[LinearAutoencoder, dict[int, float]]:
    """An autoencoder, and its AUROC by epoch while the batches are small."""
    torch.manual_seed(0)
    autoencoder = LinearAutoencoder(normal.shape[1], len(principal.mixing), tied)
    autoencoder.centre(principal.mean)
    small = Schedule(epochs=epochs, batch=64, learning_rate=1e-3)
    whole = Schedule(epochs=epochs, batch=len(normal), learning_rate=1e-3)
    steps = small.steps(len(normal))
    curve: dict[int, float] = {}

    def watch(step: Step, total: int) -> None:
        done, over = divmod(step.step + 1, steps)
        if not over and (done % 100 == 0 or done in EARLY):
            curve[done] = area(autoencoder)

    train(Errors(autoencoder), partial(taken, normal), len(normal), small, watch=watch)
    train(Errors(autoencoder), partial(taken, normal), len(normal), whole)
    return autoencoder, curve


def taken(whole: Tensor, orders: list[list[int]]) -> Iterator[Tensor]:
    for order in orders:
        yield whole[order]


def vectors(samples: list[Sample]) -> Tensor:
    """Features of stride 16, flattened (N, D)."""
    weights, _ = find_weights(DEFAULT)
    engine = OpenVINOEngine.from_module(Backbone(DEFAULT, [3], weights), *SIZE.shape)
    return features(engine, SIZE, samples).flatten(1)


def draw(curves: dict[str, dict[int, float]], by_components: float) -> None:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    axis.axhline(by_components, color="tab:blue", label="FRE-PCA")
    for (name, curve), colour in zip(curves.items(), ("tab:green", "tab:red"), strict=True):
        axis.plot(list(curve), list(curve.values()), "o-", markersize=3, color=colour, label=name)
    axis.set(xlabel="epochs", ylabel="AUROC", xscale="log")
    axis.legend(frameon=False)
    figure.savefig(HERE.parent / "docs" / "pictures" / "fre-ae.png", dpi=110)


if __name__ == "__main__":
    sys.exit(main())
