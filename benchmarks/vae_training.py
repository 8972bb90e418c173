"""How well a VAE's MAD finds animals while it is trained: priors, weights of the divergence, and when to stop.

    python benchmarks/vae_training.py run [--data DIR] [--epochs 6] [--images 150] [--betas …] [--priors …] --log FILE
    python benchmarks/vae_training.py show --log FILE

`run` trains on the Livestock set, 256×256, seed 0, 1,024 images an epoch in steps of 16, in bf16 to save time, with the
exact and the joint prior, and three weights of the divergence each; every half epoch it notes the mean AUROC of test
photographs' pixels under the published MAD, and what training is judged by: how well MAD finds made-up spots on normal
images. `show` writes the table to benchmarks/RESULTS.md and the figure to docs/pictures/vae-training.png.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blemish.datasets import Dataset, read_source
from blemish.detectors import VAEGRF
from blemish.fitting.trained.spots import Spotted
from blemish.images import Geometry, decode_ahead, read_image, read_mask
from blemish.metrics import auroc, tally
from blemish.training import Schedule, loop, train
from results import HERE, Table, append, data_folder

BETAS = (0.00075, 0.075, 7.5)
PATIENCE = VAEGRF.patience
READ = partial(read_image, geometry=Geometry())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "show"])
    parser.add_argument("--data", default=data_folder())
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--images", type=int, default=150, help="of the test part, at equal distances")
    parser.add_argument("--betas", type=float, nargs="+", default=BETAS)
    parser.add_argument("--priors", nargs="+", choices=["exact", "joint"], default=["exact", "joint"])
    parser.add_argument("--log", type=Path, required=True, help="JSON lines, a judgement each; added to")
    arguments = parser.parse_args()
    if arguments.what == "show":
        show([json.loads(line) for line in arguments.log.read_text().splitlines()], arguments.images)
        return 0
    dataset = read_source(f"livestock:{arguments.data}/livestock", 0)
    with arguments.log.open("a", encoding="utf-8", buffering=1) as log:
        for beta in arguments.betas:
            for estimate in arguments.priors:
                for row in judged(dataset, estimate, beta, arguments.epochs, arguments.images):
                    log.write(json.dumps(row) + "\n")
                    print(row, flush=True)
    return 0


def judged(dataset: Dataset, estimate: str, beta: float, epochs: int, images: int) -> list[dict[str, Any]]:
    """A row every half epoch, and one before the first step."""
    paths = [sample.path for sample in dataset.train]
    drawn = np.random.default_rng(1).permutation(len(paths))[:64]
    normal = [np.array(image) for image in decode_ahead(READ, [paths[index] for index in drawn])]
    spotted = Spotted.over(normal, 0)
    chosen = [dataset.test[place] for place in np.linspace(0, len(dataset.test) - 1, images).round().astype(int)]
    shown = np.stack([np.array(image) for image in decode_ahead(READ, [sample.path for sample in chosen])])
    masks = [read_mask(sample.mask, sample.path, Geometry()) for sample in chosen if sample.mask]
    detector = VAEGRF(beta=beta, estimate=estimate)
    for batch in batches(paths, [list(range(start, start + 16)) for start in range(0, 3200, 16)]):
        detector.update([batch])
    module = detector.objective()
    rows: list[dict[str, Any]] = []
    start = time.monotonic()

    def judge() -> float:
        spots = spotted.found(spread(detector, spotted.images))
        own = (
            auroc(tally(values.repeat(8, 0).repeat(8, 1).ravel(), mask.ravel()))
            for values, mask in zip(spread(detector, shown), masks, strict=True)
        )
        mad = float(np.mean([area for area in own if area is not None]))
        prior = detector.prior_of_images()
        row = {"estimate": estimate, "beta": beta, "step": len(rows) * loop.JUDGED, "mad": mad, "spots": spots}
        rows.append({**row, "range": prior.range, "variance": prior.variance, "seconds": time.monotonic() - start})
        return spots

    module.eval()
    judge()
    schedule = Schedule(epochs=epochs, drawn=1024, precision="bf16-mixed", patience=10**6)
    train(module, partial(batches, paths), len(paths), schedule, judge=judge)
    return rows


def batches(paths: list[Path], orders: list[list[int]]) -> Iterator[torch.Tensor]:
    decoded = decode_ahead(READ, [paths[index] for order in orders for index in order])
    for order in orders:
        yield as_features(np.stack([np.array(next(decoded)) for _ in order]))


def as_features(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def spread(detector: VAEGRF, images: np.ndarray) -> np.ndarray:
    parts = (detector.judged_map([as_features(images[start : start + 16])]) for start in range(0, len(images), 16))
    return torch.cat(list(parts)).numpy()


def show(rows: list[dict[str, Any]], images: int) -> None:
    from matplotlib import pyplot

    epoch = 1024 // 16
    table = Table(["prior", "beta", "epochs 1", "2", "3", "4", "6", "range at the end", "kept", "spots"], 1)
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for axis, estimate in zip(axes, ("exact", "joint"), strict=True):
        for colour, beta in zip(("tab:blue", "tab:orange", "tab:green"), BETAS, strict=True):
            run = [row for row in rows if (row["estimate"], row["beta"]) == (estimate, beta)]
            if not run:
                continue
            kept = best(run)
            at = {row["step"]: row["mad"] for row in run}
            cells = [f"{at[count * epoch]:.3f}" if count * epoch in at else "–" for count in (1, 2, 3, 4, 6)]
            ends = [f"{run[-1]['range']:.2f} px", f"{kept['mad']:.3f} after {kept['step'] / epoch:.1f}"]
            table.row(estimate, f"{beta:g}", *cells, *ends, f"{kept['spots']:.3f}")
            after = [row for row in run if row["step"] > 0]
            steps = [row["step"] / epoch for row in after]
            axis.plot(steps, [row["mad"] for row in after], color=colour, label=f"beta {beta:g}")
            axis.plot(steps, [row["spots"] for row in after], color=colour, linestyle=":", linewidth=1)
            axis.plot(kept["step"] / epoch, kept["mad"], "o", color=colour)
        axis.axhline(0.93, color="grey", linewidth=0.7)
        axis.set(title=f"{estimate} prior", ylim=(0.75, 1))
        axis.set_xlabel("epochs of 1,024 images, some 1.7 minutes each in float32")
        axis.legend(loc="lower right", frameon=False)
    axes[0].set_ylabel("mean pixel AUROC of MAD")
    figure.savefig(HERE.parent / "docs" / "pictures" / "vae-training.png", dpi=110)
    notes = f"`mad`, {images} test photographs; `kept`: the weights that {PATIENCE} judgements in a row did not better."
    append("A VAE while it is trained", "python benchmarks/vae_training.py", [*table.lines, "", notes])


def best(run: list[dict[str, Any]]) -> dict[str, Any]:
    """What training with the default patience keeps."""
    kept, since = run[1], 0
    for row in run[2:]:
        kept, since = (row, 0) if row["spots"] > kept["spots"] else (kept, since + 1)
        if since == PATIENCE:
            break
    return kept


if __name__ == "__main__":
    sys.exit(main())
