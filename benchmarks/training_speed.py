"""A step of training a VAE-GRF, beside a plain torch version of the same network and loss, in one run.

    python benchmarks/training_speed.py [--rounds 6]

16 images of 256×256, float32 unless said otherwise. The plain version is torchvision's ResNet-18 cut after its second
stage, the decoder of the paper, and its loss by complex Fourier transforms as the paper's equations have it, in a bare
loop; ours is `training.train`. All take turns, so that the machine's moods fall on all alike. Prints a table and
appends it to benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributions import ContinuousBernoulli
from torchvision.models import resnet18

from blemish.detectors import VAEGRF
from blemish.detectors.vae.network import FixedField, Network, Objective
from blemish.detectors.vae.random_field import RandomField, base
from blemish.training import Schedule, train
from results import Table, append

STEPS = 3
IMAGES = torch.rand(16, 3, 256, 256, generator=torch.Generator().manual_seed(0))
PIXELS = IMAGES.to(memory_format=torch.channels_last)  # as decoded images come


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--compile", action="store_true", help="torch.compile of the plain version too; minutes more")
    arguments = parser.parse_args()
    ways: dict[str, Callable[[], list[float]]] = {
        "plain torch": plain(),
        "blemish": ours("32-true"),
        "blemish, bf16-mixed": ours("bf16-mixed"),
        "plain torch, channels-last": plain(lambda module: module.to(memory_format=torch.channels_last), PIXELS),
        "plain torch, fused Adam": plain(fused=True),
    }
    if arguments.compile:
        ways["plain torch, compiled"] = plain(partial(torch.compile, dynamic=False))
    times: dict[str, list[float]] = {name: [] for name in ways}
    shares: list[float] = []
    for number in range(arguments.rounds + 1):
        for name, way in ways.items():
            found = way()
            if number:  # the first round warms up
                times[name] += found
        if number:
            shares.append(divergence())
    table = Table(["step of 16 images", "median s", "against plain torch"], 1)
    reference = statistics.median(times["plain torch"])
    for name, found in times.items():
        median = statistics.median(found)
        table.row(name, f"{median:.2f}", f"{reference / median:.2f} x")
    share = 100 * statistics.median(shares) / statistics.median(times["blemish"])
    note = (
        f"Divergence of the code and its gradient: {1000 * statistics.median(shares):.0f} ms, {share:.1f} % of a step."
    )
    print(note)
    command = f"python benchmarks/training_speed.py --rounds {arguments.rounds}"
    command += " --compile" if arguments.compile else ""
    append("A training step", command, [*table.lines, "", note])
    return 0


def field() -> RandomField:
    return RandomField.from_base(base("matern-3/2", 1.7 / 8, 0.0041, 32, 32))


def ours(precision: str) -> Callable[[], list[float]]:
    detector = VAEGRF(precision=precision)
    objective = Objective(Network(detector.latent), FixedField(field()), detector.beta)

    def run() -> list[float]:
        schedule = Schedule(drawn=16 * STEPS, precision=precision)
        ends = [step.seconds for step in train(objective, lambda orders: (PIXELS for _ in orders), 64, schedule)]
        return [after - before for before, after in itertools.pairwise(ends)]

    return run


def plain(
    changed: Callable[[nn.Module], nn.Module] = lambda module: module,
    images: Tensor = IMAGES,
    *,
    fused: bool = False,
) -> Callable[[], list[float]]:
    torch.manual_seed(0)
    parts = list(resnet18(weights=None).children())
    encoder = nn.Sequential(*parts[:6], nn.Conv2d(128, 512, 1))  # the stem, layer1, layer2, and a 1×1
    sizes = (128, 64, 32, 3)
    grown = [
        nn.Sequential(nn.BatchNorm2d(one), nn.ReLU(), nn.ConvTranspose2d(one, other, 4, stride=2, padding=1))
        for one, other in itertools.pairwise(sizes)
    ]
    decoder = nn.Sequential(nn.Conv2d(256, 128, 1), *grown)
    network = nn.ModuleList([changed(encoder), changed(decoder)])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=fused)
    covariance = field().base().float()
    sites = 32 * 32

    def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
        transform = torch.fft.fft2(covariance, norm="ortho")
        inverse = torch.fft.ifft2(1 / transform, norm="ortho").real / sites
        product = torch.fft.fft2(inverse, norm="ortho") * torch.fft.ifft2(mean, norm="ortho")
        solved = 32 * torch.fft.fft2(product, norm="ortho").real
        determinant = (32 * transform.real).log().sum()
        trace = inverse[0, 0] * log_variance.exp().sum((-2, -1))
        fit = (solved * mean).sum((-2, -1))
        return (determinant - log_variance.sum((-2, -1)) - sites + fit + trace).mean() / (2 * sites)

    def run() -> list[float]:
        ends = [time.perf_counter()]
        for _ in range(STEPS):
            optimizer.zero_grad()
            mean, log_variance = network[0](images).chunk(2, 1)
            code = mean + (log_variance / 2).exp() * torch.randn_like(mean)
            likelihood = ContinuousBernoulli(probs=torch.sigmoid(network[1](code))).log_prob(images).mean()
            loss = 0.1 * divergence(mean, log_variance) - likelihood
            loss.backward()
            optimizer.step()
            loss.item()
            ends.append(time.perf_counter())
        return [after - before for before, after in itertools.pairwise(ends)]

    return run


def divergence() -> float:
    """Seconds for the divergence of a batch's codes and its gradient."""
    prior = FixedField(field())()
    mean = torch.randn(16, 256, 32, 32, requires_grad=True)
    log_variance = torch.randn(16, 256, 32, 32, requires_grad=True)
    start = time.perf_counter()
    prior.divergence(mean, log_variance.exp()).mean().backward()
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
