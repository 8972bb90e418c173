"""What damaged requests do to a running service: 10,000 seeded ones over its socket, four at a time.

    python benchmarks/service_mutations.py [--requests 10000] [--seed 0]

Images with bytes changed, cut, spliced and of another size than they say; wrong types; damaged multipart bodies and
headers; names and numbers that mean harm; odd addresses and JSON. Counted are the answers; a status of 500, an answer
that shows a path or a trace, a worker that ended, and a good image that is not judged afterwards are faults. Memory of
the service and of its worker is read before and afterwards, each time after whole images, and before that after a
tenth as many damaged requests, so that all kinds of work were done once. On 127.0.0.1.
"""

from __future__ import annotations

import argparse
import socket
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from mutated_requests import KINDS, mutated, originals, request
from results import Table, append

SECRETS = (b"Traceback", b'File "', b"/site-packages", b"/tmp/", b"/blemish/", b"/state")
COLUMNS = ("2xx", "4xx", "503", "other", "none")
AT_A_TIME, WHOLE = 4, 400
SECONDS = 60.0


def answer(port: int, content: bytes) -> bytes:
    """All that comes back for a request; nothing more is sent after it."""
    found = b""
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as line:
        try:
            line.sendall(content)
            line.shutdown(socket.SHUT_WR)
            while piece := line.recv(1 << 16):
                found += piece
        except OSError:  # refused before all of it was sent
            pass
    return found


def status(told: bytes) -> str:
    """The column that an answer counts in."""
    code = told[9:12].decode("latin-1") if told.startswith(b"HTTP/1.1 ") else ""
    return {"": "none", "503": "503"}.get(code, f"{code[:1]}xx" if code[:1] in "24" else "other")


def is_fault(told: bytes) -> bool:
    """Whether an answer is one that nothing may bring about."""
    return status(told) in {"other", "503"} or any(secret in told for secret in SECRETS)


def main() -> int:
    from service import served

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found: Counter[tuple[str, str]] = Counter()
    faults: list[str] = []
    images = originals()
    with tempfile.TemporaryDirectory() as scratch:
        fitted(Path(scratch))
        with served(Path(scratch), ["parts"]) as (process, port):
            worker = process.children()[0].pid

            def send(number: int) -> None:
                kind, content = mutated(number, given.seed, images)
                told = answer(port, content)
                found[kind, status(told)] += 1
                if is_fault(told):
                    faults.append(f"{number} {kind}: {told[:300]!r}")

            whole = request("POST", "/v1/models/parts/predict", images[0], Content_Type="image/png")

            def level() -> list[float]:
                if {status(told) for told in pool.map(answer, [port] * WHOLE, [whole] * WHOLE)} != {"2xx"}:
                    faults.append("a whole image was not judged")
                time.sleep(1)
                return memory(process)

            with ThreadPoolExecutor(AT_A_TIME) as pool:
                list(pool.map(send, range(given.requests, given.requests + given.requests // 10)))
                found.clear()
                before = level()
                list(pool.map(send, range(given.requests)))
                after = level()
            if process.children()[0].pid != worker:
                faults.append("the worker ended")
    for fault in faults:
        print(fault, file=sys.stderr)
    shown = Table(["requests", *COLUMNS], 1)
    for kind in KINDS:
        shown.row(kind, *(str(found[kind, column]) for column in COLUMNS))
    sizes = Table(["MB", "before", "after", "difference, %"], 1)
    for name, one, other in zip(("the service", "its worker"), before, after, strict=True):
        sizes.row(name, f"{one:.0f}", f"{other:.0f}", f"{100 * (other / one - 1):+.1f}")
    lines = [*shown.lines, "", f"Faults: {len(faults)}.", "", *sizes.lines]
    print(f"Faults: {len(faults)}.")
    append("Damaged requests", " ".join(["python benchmarks/service_mutations.py", *sys.argv[1:]]), lines)
    return 1 if faults else 0


def fitted(scratch: Path) -> None:
    """Saves a small model as `parts.blemish`."""
    import blemish

    rng = np.random.default_rng(0)
    (scratch / "good").mkdir()
    for index in range(24):
        pixels = np.clip(rng.normal(120, 40, (96, 96, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(scratch / "good" / f"{index}.png")
    blemish.fit(scratch / "good", detector="gaussian", layers=[1, 2], size=64).save(scratch / "parts.blemish")


def memory(process: psutil.Process) -> list[float]:
    """Megabytes of the service, and of its worker."""
    return [one.memory_info().rss / 2**20 for one in (process, process.children()[0])]


if __name__ == "__main__":
    sys.exit(main())
