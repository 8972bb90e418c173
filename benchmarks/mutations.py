"""What damaged files do: thousands of seeded mutations of a saved model and of images, each in a folder of its own.

A trial damages a copy of a small model (its card, graphs or tensors; half of the time the digests are made right again,
as somebody who means harm would), or an image. Then the model is loaded on one of the engines, predicts an image, is
saved elsewhere and, with `--force`, in the place of the damaged one, in which a user may have put a file of his own.
Counted are verdicts on scores that are not finite, files written outside of the target, and the user's files lost.

    python benchmarks/mutations.py [--trials 10000] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import random
import resource
import shutil
import signal
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import blemish
from blemish.errors import BlemishError
from results import Table, append

AT_ONCE = 500
"""Trials to a process; one that the system ends is followed by another."""

SECONDS = 60
"""A trial's, at most."""

ADDRESSES = 24 << 30
"""Bytes of address space for a process."""

VALUES = [None, True, -1, 0, 1, 2**70, 1.5, 1e308, "", "x", "../x", "/etc/passwd", [], {}, [[]], "\0", float("1e-320")]
KINDS = ("card", "graph", "tensors", "image")


def pristine(folder: Path) -> None:
    """A small model, the images it was fitted on, and the same image in every format."""
    rng = np.random.default_rng(0)
    for index in range(24):
        pixels = np.clip(rng.normal(120, 40, (48, 48, 3)), 0, 255).astype(np.uint8)
        (folder / "good").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / "good" / f"{index}.png")
    blemish.fit(folder / "good", detector="gaussian", layers=[0], size=32).save(folder / "gaussian")
    blemish.fit(folder / "good", detector="fre", layers=[0], size=32).save(folder / "fre")
    (folder / "images").mkdir()
    with Image.open(folder / "good" / "0.png") as image:
        for ending in ("png", "jpg", "bmp", "tif", "webp"):
            image.save(folder / "images" / f"image.{ending}")
            image.convert("L" if ending == "jpg" else "RGBA").save(folder / "images" / f"other.{ending}")


def changed_bytes(content: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, cut, doubled, zeroed, or put elsewhere."""
    if not content:
        return b"x"
    at = rng.randrange(len(content))
    length = min(len(content) - at, 1 << rng.randrange(12))
    way = rng.randrange(6)
    if way == 0:
        return content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]
    if way == 1:
        return content[:at]
    if way == 2:
        return content[:at] + rng.randbytes(length) + content[at + length :]
    if way == 3:
        return content[:at] + bytes(length) + content[at + length :]
    if way == 4:
        return content[: at + length] + content[at:]
    return content[:at] + content[at + length :]


def changed_text(text: str, rng: random.Random) -> str:
    """One number or word of a text, such as a graph's, in the place of another."""
    words = text.split('"')
    at = rng.randrange(1, len(words), 2)
    words[at] = rng.choice([rng.choice(words[1::2]), "-1", "0", "1000000000", "nan", "", "../../x"])
    return '"'.join(words)


def changed_object(found: Any, rng: random.Random) -> Any:
    """One value somewhere in it replaced, removed or renamed."""
    if isinstance(found, dict) and found and rng.random() < 0.9:
        key = rng.choice(list(found))
        if rng.random() < 0.1:
            return {name: value for name, value in found.items() if name != key}
        if rng.random() < 0.1:
            return {**found, str(rng.choice(VALUES)): found[key]}
        return {**found, key: changed_object(found[key], rng)}
    if isinstance(found, list) and found and rng.random() < 0.9:
        at = rng.randrange(len(found))
        return [*found[:at], changed_object(found[at], rng), *found[at + 1 :]]
    return rng.choice(VALUES)


def changed_tensors(path: Path, rng: random.Random) -> None:
    """A tensor with other numbers, of another shape or kind, gone, or under another's name."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(path)
    name = rng.choice(list(tensors))
    values = tensors[name]
    way = rng.randrange(6)
    if way == 0:
        del tensors[name]
    elif way == 1 and values.size and values.dtype.kind == "f":
        tensors[name] = values.copy()
        tensors[name].flat[rng.randrange(values.size)] = rng.choice([math.nan, math.inf, -math.inf, 1e38, -1e38])
    elif way == 2:
        tensors[name] = np.zeros(rng.choice([(), (0,), (1,), (3, 5)]), values.dtype)
    elif way == 3:
        tensors[name] = tensors[rng.choice(list(tensors))]
    elif way == 4:
        tensors[name] = np.asarray(-values, values.dtype)
    else:
        tensors[name] = values.astype(rng.choice([np.float32, np.float64, np.int64, np.uint8]))
    save_file(tensors, path)


def signed(folder: Path, card: dict[str, Any]) -> str:
    """The card with digests that are right for what is there now, where it is still a card."""
    from blemish.storage import digest
    from blemish.storage.cards import digest_of

    if isinstance(card, dict):
        card.pop("digest", None)
        if isinstance(card.get("files"), dict):
            for name in card["files"]:
                file = folder / str(name)
                if "\0" not in str(name) and file.parent == folder and file.is_file():
                    card["files"][name] = digest(file)
        card["digest"] = digest_of(card)
    return json.dumps(card)


def damage(folder: Path, kind: str, rng: random.Random) -> None:
    """Changes one thing in a saved model, and half of the time makes its digests right again."""
    card = folder / "model.json"
    content = json.loads(card.read_text())
    sign = rng.random() < 0.5
    if kind == "card":
        if not sign and rng.random() < 0.5:
            card.write_bytes(changed_bytes(card.read_bytes(), rng))
            return
        content = changed_object(content, rng)
    elif kind == "graph":
        file = folder / rng.choice(["features.xml", "features.bin", "scoring.xml", "scoring.bin"])
        if file.suffix == ".xml" and rng.random() < 0.5:
            file.write_text(changed_text(file.read_text(), rng))
        elif rng.random() < 0.1:
            shutil.copyfile(folder / rng.choice(["features.bin", "scoring.xml", "learned.safetensors"]), f"{file}.new")
            Path(f"{file}.new").replace(file)
        else:
            file.write_bytes(changed_bytes(file.read_bytes(), rng))
    elif rng.random() < 0.6:
        changed_tensors(folder / "learned.safetensors", rng)
    else:
        file = folder / "learned.safetensors"
        file.write_bytes(changed_bytes(file.read_bytes(), rng))
    if sign:
        card.write_text(signed(folder, content))
    elif kind == "card":
        card.write_text(json.dumps(content))


def trial(origin: Path, good: blemish.Model, sandbox: Path, number: int, seed: int) -> Counter[str]:
    """One mutation, and what came of it; `good` is saved in the place of the damaged model."""
    rng = random.Random(f"{seed}.{number}")  # noqa: S311  # not for secrets
    kind = KINDS[number % len(KINDS)]
    found: Counter[str] = Counter({f"{kind}: trials": 1})
    target = sandbox / "target"
    target.mkdir()
    (sandbox / "thesis.txt").write_text("years")
    model = Path(shutil.copytree(origin / rng.choice(["gaussian", "fre"]), target / "m"))
    image = origin / "good" / "0.png"
    mine = None
    if kind == "image":
        source = rng.choice(sorted((origin / "images").iterdir()))
        image = target / source.name
        image.write_bytes(changed_bytes(source.read_bytes(), rng))
    else:
        damage(model, kind, rng)
        if rng.random() < 0.3:
            mine = model / rng.choice(["notes.txt", "src/thesis.txt", "learned.safetensors.bak"])
            mine.parent.mkdir(exist_ok=True)
            mine.write_text("years")
    try:
        loaded = blemish.load(str(model), "torch" if rng.random() < 0.25 else "openvino")
        for prediction in loaded.predict(image, errors="keep"):
            if prediction.error is not None:
                found[f"{kind}: image refused"] += 1
                continue
            finite = (
                math.isfinite(prediction.score) and prediction.map is not None and np.isfinite(prediction.map).all()
            )
            found[f"{kind}: predicted"] += 1
            found[f"{kind}: verdict on what is not finite"] += not finite
        loaded.save(target / "copy")
    except BlemishError as error:
        found[f"{kind}: model refused"] += 1
        if "\n" in str(error):
            found[f"{kind}: more than a line"] += 1
    try:
        good.save(model, force=True)
    except BlemishError:
        found[f"{kind}: not replaced"] += 1
    lost = (mine is not None and not mine.exists()) or (sandbox / "thesis.txt").read_text() != "years"
    found[f"{kind}: lost file"] += lost
    outside = {path.name for path in sandbox.iterdir()} - {"target", "thesis.txt"}
    inside = {path.name for path in target.iterdir()} - {"m", "copy", image.name}
    found[f"{kind}: written outside"] += bool(outside or inside)
    return found


def some(origin: Path, numbers: list[int], seed: int, pipe: Any) -> None:
    """Trials in this process; each is told before it begins and when it is done."""
    import blemish.model.loading

    blemish.model.loading.AGAIN = 0.0  # nothing is replaced meanwhile
    good = blemish.load(str(origin / "fre"))
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in numbers:
        pipe.send(("begins", number))
        signal.alarm(SECONDS)
        with tempfile.TemporaryDirectory(prefix="mutation-") as name:
            try:
                found = trial(origin, good, Path(name), number, seed)
            except Exception as error:
                found = Counter({f"{KINDS[number % len(KINDS)]}: other error": 1, f"! {number} {error!r}"[:200]: 1})
            pipe.send(("done", found))
        signal.alarm(0)
    pipe.send(("end", None))


def run(origin: Path, numbers: list[int], seed: int) -> Counter[str]:
    """All trials, in processes that follow one another; two at a time."""
    found: Counter[str] = Counter()
    context = multiprocessing.get_context("spawn")
    waiting = [numbers[start : start + AT_ONCE] for start in range(0, len(numbers), AT_ONCE)]
    running: list[tuple[Any, Any, list[int]]] = []
    while waiting or running:
        while waiting and len(running) < 2:
            batch = waiting.pop()
            ours, theirs = context.Pipe()
            process = context.Process(target=some, args=(origin, batch, seed, theirs))
            process.start()
            theirs.close()
            running.append((process, ours, batch))
        process, pipe, batch = running.pop(0)
        number, ended = batch[0], False
        try:
            while True:
                what, told = pipe.recv()
                if what == "end":
                    ended = True
                    break
                if what == "begins":
                    number = told
                else:
                    found += told
        except EOFError:
            pass
        process.join()
        if not ended:
            kind = KINDS[number % len(KINDS)]
            found += Counter({f"{kind}: trials": 1, f"{kind}: process ended by the system": 1})
            found[f"! {number} ended with {process.exitcode}"] += 1
            left = batch[batch.index(number) + 1 :]
            if left:
                waiting.append(left)
        print(f"{sum(found[f'{kind}: trials'] for kind in KINDS)} of {len(numbers)}", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        origin = Path(name)
        pristine(origin)
        found = run(origin, list(range(given.trials)), given.seed)
    columns = ["trials", "model refused", "image refused", "predicted", "verdict on what is not finite", "lost file",
               "written outside", "other error", "process ended by the system"]  # fmt: skip
    for line in sorted(line for line in found if line.startswith("!")):
        print(line, file=sys.stderr)
    shown = Table(["damaged", *columns], 1)
    for kind in KINDS:
        shown.row(kind, *(str(found[f"{kind}: {column}"]) for column in columns))
    append("Damaged files", f"python benchmarks/mutations.py --trials {given.trials} --seed {given.seed}", shown.lines)


if __name__ == "__main__":
    main()
