"""The service on this machine: throughput, latency and memory, against `Model.predict` on the same files.

    python benchmarks/service.py [--data DIR] [--detectors fre,padim] [--requests 2000] [--long 10000]

Fits each detector on MTD with the defaults and starts `blemish serve` with all of them, without the page's pictures
(`map=none`). Another process sends the files of the test part, again and again, over kept connections: 32 at a time,
one at a time, while the worker is killed, and for the memory 32 at a time once more. A prediction in Python runs on the
same files before and after, while the service does nothing. All on 127.0.0.1. Prints tables and appends them to
benchmarks/RESULTS.md. About ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import numpy as np
import psutil

from results import Table, append, data_folder

AT_A_TIME, ALONE, WARM, KILLED = 32, 300, 100, 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=data_folder())
    parser.add_argument("--detectors", default="fre,padim")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--long", type=int, default=10_000)
    parser.add_argument(
        "--send", nargs=5, metavar=("PORT", "MODEL", "FILES", "COUNT", "AT_A_TIME"), help=argparse.SUPPRESS
    )
    given = parser.parse_args()
    if given.send:
        port, model, files, count, together = given.send
        print(json.dumps(asyncio.run(send(int(port), model, files.split("\n"), int(count), int(together)))))
        return 0
    names = given.detectors.split(",")
    with tempfile.TemporaryDirectory() as scratch:
        files = fitted(Path(scratch), names, given.data)
        with served(Path(scratch), names) as (process, port):
            lines = speed(Path(scratch), names, port, files, given.requests)
            lines += ["", *killed(process, port, names, files)]
            lines += ["", *memory(process, port, names[0], files, given.long)]
    append("The service", " ".join(["python benchmarks/service.py", *sys.argv[1:]]), lines)
    return 0


def fitted(scratch: Path, names: Sequence[str], data: str) -> list[str]:
    """Saves the models and returns the files of the test part."""
    import blemish
    from blemish.datasets import read_source

    dataset = read_source(f"mtd:{data}/mtd", 0)
    for name in names:
        blemish.fit(dataset, detector=name).save(scratch / f"{name}.blemish")
    return [str(sample.path) for sample in dataset.test]


@contextmanager
def served(scratch: Path, names: Sequence[str]) -> Iterator[tuple[psutil.Process, int]]:
    """The running service and its port, once it is ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    models = [str(scratch / f"{name}.blemish") for name in names]
    command = [
        sys.executable,
        "-m",
        "blemish",
        "serve",
        *models,
        "--port",
        str(port),
        "--state",
        str(scratch / "state"),
    ]
    with (scratch / "service.txt").open("w") as told:
        process = psutil.Popen(command, stdout=told, stderr=told)
        try:
            for _ in range(600):
                if process.poll() is not None or is_ready(port):
                    break
                time.sleep(0.1)
            if not is_ready(port):
                sys.exit(f"the service did not start: {(scratch / 'service.txt').read_text()}")
            yield process, port
        finally:
            process.terminate()
            process.wait(60)


def is_ready(port: int) -> bool:
    from urllib.error import URLError
    from urllib.request import urlopen

    try:
        with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def speed(scratch: Path, names: Sequence[str], port: int, files: Sequence[str], requests: int) -> list[str]:
    head = ["model", "requests", "errors", "a second", "predict a second", "share", "p50 ms", "p99 ms"]
    table = Table([*head, "alone p50 ms", "predict of an array p50 ms", "added ms"], 1)
    for name in names:
        model = str(scratch / f"{name}.blemish")
        before = predicted(model, files, requests)
        sent(port, name, files, WARM, AT_A_TIME)
        many = sent(port, name, files, requests, AT_A_TIME)
        alone = sent(port, name, files, ALONE, 1)
        after = predicted(model, files, requests)
        rate = many["count"] / many["seconds"]
        own = (before["rate"] + after["rate"]) / 2
        array = median([before["array"], after["array"]])
        cells = [
            f"{many['count']:,}",
            str(sum(found[name] for found in (many, alone) for name in ("errors", "refused"))),
            f"{rate:.1f}",
            f"{own:.1f}",
            f"{rate / own:.2f}",
        ]
        cells += [f"{1e3 * many['p50']:.1f}", f"{1e3 * many['p99']:.1f}", f"{1e3 * alone['p50']:.2f}"]
        table.row(name, *cells, f"{1e3 * array:.2f}", f"{1e3 * (alone['p50'] - array):+.2f}")
    return table.lines


def killed(process: psutil.Process, port: int, names: Sequence[str], files: Sequence[str]) -> list[str]:
    """How soon there is a verdict again after the worker was killed while requests ran, and what became of these."""
    table = Table(["model", "requests", "answered", "refused (503)", "errors", "seconds to the next verdict"], 1)
    for model in names:
        words = [str(port), model, "\n".join(files), str(KILLED), str(AT_A_TIME)]
        sender = subprocess.Popen([sys.executable, __file__, "--send", *words], stdout=subprocess.PIPE, text=True)
        time.sleep(3)
        worker = next(one for one in process.children(recursive=True) if "blemish.service.worker" in one.cmdline())
        worker.kill()
        start = time.perf_counter()
        worker.wait()
        while asyncio.run(send(port, model, files[:1], 1, 1))["refused"]:
            time.sleep(0.02)
        seconds = time.perf_counter() - start
        found = json.loads(sender.communicate()[0])
        answered = found["count"] - found["refused"] - found["errors"]
        table.row(
            model, str(found["count"]), str(answered), str(found["refused"]), str(found["errors"]), f"{seconds:.1f}"
        )
    return table.lines


def memory(process: psutil.Process, port: int, model: str, files: Sequence[str], requests: int) -> list[str]:
    """What the service's processes hold during many requests, after those before it."""
    sender = subprocess.Popen(
        [sys.executable, __file__, "--send", str(port), model, "\n".join(files), str(requests), str(AT_A_TIME)],
        stdout=subprocess.PIPE,
        text=True,
    )
    held: list[float] = []
    while sender.poll() is None:
        held.append(resident(process))
        time.sleep(1)
    answer = json.loads(sender.communicate()[0])
    steady = held[len(held) // 10 :]
    middle = (max(steady) + min(steady)) / 2
    head = ["model", "requests", "errors", "memory at first, MB", "least later", "most later", "at the end", "± %"]
    table = Table(head, 1)
    figures = [held[0], min(steady), max(steady), held[-1]]
    spread = f"{100 * (max(steady) - middle) / middle:.1f}"
    table.row(
        model,
        f"{requests:,}",
        str(answer["errors"] + answer["refused"]),
        *(f"{figure:.0f}" for figure in figures),
        spread,
    )
    return table.lines


def resident(process: psutil.Process) -> float:
    """Megabytes of a process and its children; a page that several share is divided among them."""
    found = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            found += one.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return found / 2**20


def predicted(model: str, files: Sequence[str], count: int) -> dict[str, float]:
    """Images a second of `predict` on files, and the median seconds of `predict` on one array; a process of its own."""
    program = PREDICT.format(model=model, count=count, alone=ALONE)
    done = subprocess.run(
        [sys.executable, "-c", program], input="\n".join(files), capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


PREDICT = """
import json, sys, time
from itertools import cycle, islice
from pathlib import Path
from statistics import median
import numpy as np
from PIL import Image
import blemish

files = [Path(line) for line in sys.stdin.read().split("\\n")]
model = blemish.load({model!r})
list(model.judge(files[:100]))
chosen = list(islice(cycle(files), {count}))
start = time.perf_counter()
done = sum(1 for _ in model.judge(chosen))
rate = done / (time.perf_counter() - start)
took = []
for file in islice(cycle(files), {alone}):
    array = np.asarray(Image.open(file).convert("RGB"))
    start = time.perf_counter()
    list(model.judge([array]))
    took.append(time.perf_counter() - start)
print(json.dumps({{"rate": rate, "array": median(took)}}))
"""


def sent(port: int, model: str, files: Sequence[str], count: int, together: int) -> dict[str, float]:
    """Answers to so many requests, so many at a time, by a process of its own."""
    command = [sys.executable, __file__, "--send", str(port), model, "\n".join(files), str(count), str(together)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


async def send(port: int, model: str, files: Sequence[str], count: int, together: int) -> dict[str, float]:
    bodies = [Path(file).read_bytes() for file in files]
    todo = iter(islice(cycle(bodies), count))
    took: list[float] = []
    errors = refused = 0

    async def connection() -> None:
        nonlocal errors, refused
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST /v1/models/{model}/predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: image/jpeg\r\n"
        for body in todo:
            start = time.perf_counter()
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            told = await reader.readuntil(b"\r\n\r\n")
            length = int(told.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            answer = await reader.readexactly(length)
            took.append(time.perf_counter() - start)
            status = told.split(b" ", 2)[1]
            refused += status == b"503"
            errors += status not in {b"200", b"503"} or (status == b"200" and b'"score"' not in answer)
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(connection() for _ in range(together)))
    seconds = time.perf_counter() - start
    p50, p99 = np.quantile(took, [0.5, 0.99])
    counts = {"count": len(took), "errors": errors, "refused": refused}
    return {**counts, "seconds": seconds, "p50": float(p50), "p99": float(p99)}


if __name__ == "__main__":
    sys.exit(main())
