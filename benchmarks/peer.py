"""anomalib and blemish in turn on the same images with the same weights, as their users run them.

    python benchmarks/peer.py --peer-python PATH [--peer-script FILE] [--data DIR] [--repeat 1]

PATH is the Python of an environment with anomalib (the script's first lines say how to make one). The data is MTD as a
tree, EfficientNet-Lite0 at 256×256. The peer's times are of its calls alone, imports left out; ours are of whole
commands, imports and all: `blemish fit`, then `blemish predict`, which computes maps. A fit that has to convert the
backbone first, as the first on a machine does, stands in a row of its own. Prints a table of medians and appends it to
benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from blemish.datasets import read_source
from blemish.metrics import auroc, tally
from results import HERE, Table, append, data_folder

PAIRS = {"padim": "padim", "dfm": "fre"}
"""The peer's name of a method, and ours: `dfm` with this score is the reconstruction error by principal components."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--peer-script", default=str(HERE.parents[1] / "shared" / "tools" / "peer_anomalib.py"))
    parser.add_argument("--data", default=data_folder())
    parser.add_argument("--repeat", type=int, default=1)
    arguments = parser.parse_args()
    head = ["method", "who", "fit s", "predict ms/image", "fit and predict, s", "peak MB", "image AUROC"]
    table = Table(head, 2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = folder / "mtd"
        labels = write_tree(root, arguments.data)
        for peers, ours in PAIRS.items():
            first: list[float] = []
            rounds: dict[str, list[list[float]]] = {"anomalib": [], "blemish": []}
            for _ in range(arguments.repeat):
                out = folder / "peer.npz"
                command = [arguments.peer_python, arguments.peer_script, peers, str(root), "--out", str(out)]
                seconds, _, text = run(command)
                said = json.loads(next(line for line in text.splitlines() if line.startswith("{")))
                found = np.load(out)
                scores = dict(zip((Path(path).name for path in found["paths"]), found["scores"], strict=True))
                predicting = 1e3 * said["predict_s"] / len(scores)
                area = judged(labels, scores)
                rounds["anomalib"].append([said["fit_s"], predicting, seconds, said["peak_rss_mb"], area])

                command = [sys.executable, "-m", "blemish"]
                model = str(folder / "model")
                fit = [*command, "fit", str(root), "-o", model, "--detector", ours, "--force"]
                first.append(run(fit, {"BLEMISH_CACHE": ""})[0])
                kept = {"BLEMISH_CACHE": str(folder / f"cache of {ours}")}
                if len(first) == 1:
                    run(fit, kept)
                fitting, most, _ = run(fit, kept)
                predicting, more, text = run([*command, "predict", model, str(root), "--json"])
                lines = [json.loads(line) for line in text.splitlines()]
                scores = {Path(line["path"]).name: line["score"] for line in lines}
                each = 1e3 * predicting / len(scores)
                area = judged(labels, scores)
                rounds["blemish"].append([fitting, each, fitting + predicting, max(most, more), area])
            figures = {who: [median(column) for column in zip(*runs, strict=True)] for who, runs in rounds.items()}
            for who, (fitting, each, both, most, area) in figures.items():
                cells = [f"{fitting:.1f}", f"{each:.1f}", f"{both:.1f}", f"{most:.0f}", f"{100 * area:.2f}"]
                table.row(f"{peers} / {ours}", who, *cells)
            table.row(f"{peers} / {ours}", "blemish, the first fit", f"{median(first):.1f}", "", "", "", "")
            ratios = [f"{peer / own:.1f}" for peer, own in zip(*figures.values(), strict=True)][:4]
            table.row(f"{peers} / {ours}", "ratio", *ratios, "")
    append("Beside anomalib", "python benchmarks/peer.py --peer-python PATH", table.lines)
    return 0


def write_tree(root: Path, data: str) -> dict[str, bool]:
    """MTD's split as a tree of links, and for each name in its test part whether it is anomalous."""
    dataset = read_source(f"mtd:{data}/mtd", 0)
    for part, samples in (("train", dataset.train), ("test", dataset.test)):
        for sample in samples:
            link(root / part / sample.kind / sample.path.name, sample.path)
            if sample.mask:
                link(root / "ground_truth" / sample.kind / sample.mask.name, sample.mask)
    return {sample.path.name: sample.is_anomalous for sample in dataset.test}


def link(place: Path, target: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target.resolve())


def judged(labels: dict[str, bool], scores: dict[str, float]) -> float:
    names = sorted(labels)
    area = auroc(tally(np.array([scores[name] for name in names]), np.array([labels[name] for name in names])))
    return area or float("nan")


def run(command: list[str], environment: dict[str, str] | None = None) -> tuple[float, float, str]:
    """Seconds, megabytes at the peak, and what was printed."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(
            command, stdout=printed, stderr=subprocess.DEVNULL, env={**os.environ, **(environment or {})}
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}: status {process.returncode}")
        printed.seek(0)
        return seconds, usage.ru_maxrss / 1024, printed.read()


if __name__ == "__main__":
    sys.exit(main())
