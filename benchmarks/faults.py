"""Faults that blemish once had, each tried anew, on this checkout and on an earlier one.

Each probe is what a user or an attacker would do, in a folder of its own. It ends with a word: `sound`, or what broke.

    python benchmarks/faults.py [--before CHECKOUT] [--only NAME]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

from results import HERE, Table, append

SECONDS = 240
"""Of a probe, at most."""

BEFORE_EACH = """
import json, os, resource, shutil, signal, subprocess, sys, time, warnings
from pathlib import Path
import numpy as np
from PIL import Image

def parts(folder, count=24, same=False):
    rng = np.random.default_rng(0)
    Path(folder).mkdir(parents=True)
    pixels = rng.integers(0, 256, (64, 64, 3), np.uint8)
    for index in range(count):
        noise = 0 if same else rng.integers(0, 60, pixels.shape)
        Image.fromarray(np.clip(pixels // 2 + noise, 0, 255).astype(np.uint8)).save(f"{folder}/{index:02d}.png")

def tree(root):
    for name in ("train/good", "test/good", "test/bad"):
        parts(f"{root}/{name}")

def blemish(*words, **options):
    command = [sys.executable, "-m", "blemish", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, **options)

def fit(source="good", to="m", *more):
    return blemish("fit", source, "-o", to, "--size", 64, "--detector", "gaussian", *more)

def verdict(broken, what):
    print(f"broken: {what}" if broken else "sound")
"""

PROBES = {
    "a prediction calls another machine": ("test_silence", """
        parts("good"); fit()
        os.mkdir("home")
        watch = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=connect", "-o", "trace"]
        subprocess.run([*watch, sys.executable, "-m", "blemish", "predict", "m", "good"],
                       env={**os.environ, "HOME": os.path.abspath("home")}, capture_output=True)
        verdict("AF_INET" in Path("trace").read_text(), "it looks for a server; " + str(os.listdir("home")))"""),
    "`fit --force` deletes a user's folder": ("storage/test_folders", """
        parts("good"); os.makedirs("mine/src"); Path("mine/model.json").write_text("{}")
        Path("mine/src/thesis.txt").write_text("years"); fit("good", "mine", "--force")
        verdict(not os.path.exists("mine/src/thesis.txt"), "thesis.txt is gone")"""),
    "`predict --out --force` deletes a user's folder": ("storage/test_folders", """
        parts("good"); fit(); os.mkdir("mine"); Path("mine/results.jsonl").touch()
        Path("mine/thesis.txt").write_text("years"); blemish("predict", "m", "good", "--out", "mine", "--force")
        verdict(not os.path.exists("mine/thesis.txt"), "thesis.txt is gone")"""),
    "`--report --force` replaces any file": ("storage/test_folders", """
        tree("t"); fit("t"); Path("thesis.html").write_text("years")
        blemish("evaluate", "m", "t", "--report", "thesis.html", "--force")
        verdict(Path("thesis.html").read_text() != "years", "thesis.html is replaced")"""),
    "the cache evicts a user's models": ("engines/test_extractor", """
        parts("good"); fit(); os.mkdir("models")
        for index in range(10):
            shutil.copytree("m", f"models/{index}"); os.utime(f"models/{index}", (index, index))
        os.environ["BLEMISH_CACHE"] = "models"; fit("good", "n")
        left = [index for index in range(10) if os.path.exists(f"models/{index}")]
        verdict(len(left) < 10, f"{10 - len(left)} of 10 models are gone")"""),
    "identical images: a score that is no number is judged good": ("fitting/test_degenerate", """
        parts("good", same=True)
        done = blemish("fit", "good", "-o", "m", "--size", 64)
        told = blemish("predict", "m", "good/00.png").stdout
        verdict("nan" in told, told.strip())"""),
    "identical images are all flagged": ("fitting/test_degenerate", """
        parts("good", same=True); fit()
        told = blemish("predict", "m", "good").stdout
        verdict("anomaly" in told, told.count("anomaly"))"""),
    "weights full of NaN are accepted": ("fitting/test_degenerate", """
        import timm; from safetensors.torch import save_file
        parts("good")
        weights = timm.create_model("resnet18").state_dict()
        save_file({k: v * float("nan") if "conv" in k else v for k, v in weights.items()}, "w.safetensors")
        words = ["--backbone", "resnet18", "--weights", "w.safetensors", "--layers", "2"]
        done = blemish("fit", "good", "-o", "m", "--size", 64, *words)
        told = done.stdout + done.stderr
        verdict("not finite" not in told, told.strip().splitlines()[-1])"""),
    "a frame of floats is called normal": ("model/test_model", """
        parts("good"); fit(); import blemish as b
        (p,) = b.load("m").predict(np.full((64, 64, 3), np.nan), errors="keep")
        verdict(p.is_anomaly is False, f"score {p.score}, is_anomaly {p.is_anomaly}")"""),
    "a last step that diverges goes unnoticed": ("training/test_training", """
        parts("good")
        done = blemish("fit", "good", "-o", "m", "--size", 64, "--detector", "vae", "--set", "epochs=1",
                       "--set", "drawn=16", "--set", "learning_rate=1e30", "--set", "patience=null")
        verdict(done.returncode == 0 or "error in blemish" in done.stderr, done.stderr.strip().splitlines()[-1])"""),
    "altered tensors are accepted": ("model/test_model", """
        parts("good"); fit(); file = Path("m/learned.safetensors")
        file.write_bytes(file.read_bytes()[:-1] + b"x")
        done = blemish("predict", "m", "good")
        verdict(done.returncode == 0, "predict ends with status 0")"""),
    "an altered graph passes on torch": ("model/test_model", """
        parts("good"); fit(); file = Path("m/scoring.bin"); file.write_bytes(b"")
        done = blemish("predict", "m", "good", "--engine", "torch")
        verdict(done.returncode == 0, "predict ends with status 0")"""),
    "saving an altered model certifies the damage": ("model/test_model", """
        parts("good"); fit(); import blemish as b
        loaded = b.load("m"); file = Path("m/learned.safetensors"); file.write_bytes(file.read_bytes()[:-1] + b"x")
        try:
            loaded.save("copy"); b.load("copy", "torch"); verdict(True, "the copy loads")
        except b.BlemishError:
            verdict(False, "")"""),
    "a card's file is written outside": ("model/test_card", """
        import hashlib
        parts("good"); fit(); import blemish as b
        card = json.loads(Path("m/model.json").read_text()); card.pop("digest")
        Path("payload.sh").write_text("x"); os.mkdir("below"); shutil.move("m", "below/m")
        shutil.move("payload.sh", "below/payload.sh")
        card["files"]["../payload.sh"] = hashlib.sha256(b"x").hexdigest()
        text = json.dumps(card, sort_keys=True, separators=(",", ":")).encode()
        Path("below/m/model.json").write_text(json.dumps({**card, "digest": hashlib.sha256(text).hexdigest()}))
        try:
            b.load("below/m").save("copy")
        except b.BlemishError:
            pass
        verdict(os.path.exists("payload.sh"), "payload.sh beside the copy")"""),
    "a cache that is deleted loses the model": ("engines/test_extractor", """
        parts("good"); os.environ["BLEMISH_CACHE"] = os.path.abspath("cache"); import blemish as b
        for _ in range(2):
            model = b.fit("good", detector="gaussian", size=64, engine="openvino")
        shutil.rmtree("cache")
        try:
            model.save("m"); verdict(False, "")
        except b.BlemishError as error:
            verdict(True, error)"""),
    "SIGTERM leaves halves": ("test_interrupts", """
        parts("good"); fit(); os.mkdir("tmp"); left = set()
        def names():
            found = [*os.listdir("."), *os.listdir("tmp")]
            return {name for name in found if name.startswith((".m.", ".blemish-", "blemish-"))}
        for _ in range(4):
            process = subprocess.Popen([sys.executable, "-m", "blemish", "fit", "good", "-o", "m", "--size", "64",
                                        "--force"], env={**os.environ, "TMPDIR": os.path.abspath("tmp")},
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while not names() - left and process.poll() is None:
                time.sleep(0.001)
            process.terminate(); process.wait(); left |= names()
        verdict(left, f"{len(left)} folders left after 4 tries")"""),
    "Ctrl-C during imports gives a traceback": ("test_interrupts", """
        parts("good"); bad = 0
        for moment in np.linspace(0.08, 1.6, 20):
            process = subprocess.Popen([sys.executable, "-m", "blemish", "fit", "good", "-o", "m", "--size", "64"],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                       preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
            time.sleep(moment); process.send_signal(signal.SIGINT); told = process.communicate()[1]
            bad += "Traceback" in told or "terminate called" in told
        verdict(bad, f"{bad} of 20")"""),
    "large photographs take more memory than announced": ("images/test_ahead", """
        os.mkdir("good"); rng = np.random.default_rng(0); import re
        tile = rng.integers(0, 256, (100, 100, 4), np.uint8)
        for index in range(6):
            pixels = np.tile(np.roll(tile, index * 7, 0), (90, 90, 1))
            Image.fromarray(pixels).save(f"good/{index}.png", compress_level=1)
        del pixels
        done = fit("good", "m")
        told = float(re.search(r"and ([0-9.]+) GB of memory", done.stderr)[1])
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
        verdict(peak > 1.1 * told, f"{told} GB were announced, {peak:.1f} GB taken")"""),
    "a long schedule is built in memory": ("training/test_training", """
        parts("good")
        words = ["fit", "good", "-o", "m", "--size", "64", "--detector", "hfr", "--set", "epochs=10000000",
                 "--set", "minutes=0.01"]
        limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))
        try:
            done = blemish(*words, preexec_fn=limit, timeout=100); told = done.stderr[-100:]
            verdict(done.returncode, told)
        except subprocess.TimeoutExpired:
            verdict(True, "no step within 100 s")"""),
    "a dangling link is left out silently": ("datasets/test_datasets", """
        parts("good"); fit(); os.symlink("gone.png", "good/99.png")
        done = blemish("predict", "m", "good")
        verdict(done.returncode == 0, "status 0, and not a word")"""),
    "a prediction changes the host's warnings": ("images/test_reading", """
        parts("good", 200); fit(); import blemish as b
        before = list(warnings.filters)
        for _ in range(5):
            list(b.load("m").predict("good"))
        verdict(warnings.filters != before, "the filters are others")"""),
    "prune fits on other images": ("components/test_components", """
        parts("good"); fit(); shutil.rmtree("good"); parts("good", 30)
        done = blemish("prune", "m", "-o", "n", "--drop", "0")
        verdict(done.returncode == 0, "status 0")"""),
    "`check one_class:` fails on valid data": ("datasets/test_classes", """
        images = np.random.default_rng(0).integers(0, 256, (30, 28, 28), np.uint8)
        np.savez("v.npz", x_train=images, y_train=np.arange(30) % 2, x_test=images[:9] // 2, y_test=np.arange(9) % 2)
        done = blemish("check", "one_class:v.npz:1")
        verdict("fault" in done.stderr, done.stderr.strip()[-120:])"""),
    "an unwritable report is found at the end": ("cli/test_cli", """
        tree("t"); fit("t"); Path("file").touch()
        done = blemish("evaluate", "m", "t", "--report", "file/r.html")
        verdict("to test" in done.stderr, "after all images were scored")"""),
    "a forked child waits for ever": ("fitting/test_degenerate", """
        parts("good"); fit(); import blemish as b
        model = b.load("m"); list(model.predict("good"))
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            try:
                list(model.predict("good"))
            except b.BlemishError:
                pass
            os._exit(0)
        verdict(os.waitpid(child, 0)[1] == signal.SIGALRM, "still waiting after 20 s")"""),
}  # fmt: skip


def tried(probe: str, checkout: Path) -> str:
    """The last line of a probe's output, by the code of a checkout."""
    program = BEFORE_EACH + textwrap.dedent(probe)
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "BLEMISH_CACHE": f"{folder}/.cache"}
        try:
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", program],
                cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"broken: no end within {SECONDS} s"
    lines = done.stdout.strip().splitlines() or [f"broken: {done.stderr.strip().splitlines()[-1:]}"]
    return lines[-1][:160].replace("|", "/").replace(folder + "/", "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a checkout of an earlier commit")
    parser.add_argument("--only", default="", help="probes whose name contains this")
    given = parser.parse_args()
    shown = Table(["fault", "before", "now", "held by"], 4)
    broken = 0
    for name, (test, probe) in PROBES.items():
        if given.only not in name:
            continue
        before = tried(probe, given.before.absolute()) if given.before else ""
        now = tried(probe, HERE.parent)
        broken += now != "sound"
        shown.row(name, before, now, f"tests/{test}.py")
    if not given.only:
        append("Faults found by attack", "python benchmarks/faults.py --before CHECKOUT", shown.lines)
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
