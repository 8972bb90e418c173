"""Files that cannot be used as images, one of each kind."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from blemish.images.files import MAX_PIXELS


def bomb(path: Path, side: int = 1_000_000) -> Path:
    """A PNG of a few bytes that claims `side` squared pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    return path


def bad_files(folder: Path) -> dict[str, Path]:
    """One file of each kind that cannot be used."""
    folder.mkdir(exist_ok=True)
    good = folder / "good.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(good)
    Image.open(good).save(folder / "good.jpg")
    content = good.read_bytes()
    files = {
        "truncated": content[: len(content) // 2],
        "empty": b"",
        "mislabelled": b"this is a text, whatever its name says",
        "noise": bytes(range(256)) * 8,
    }
    paths = {}
    for name, content in files.items():
        paths[name] = folder / f"{name}.png"
        paths[name].write_bytes(content)
    paths["truncated jpeg"] = folder / "truncated.jpg"
    paths["truncated jpeg"].write_bytes((folder / "good.jpg").read_bytes()[:600])
    paths["bomb"] = bomb(folder / "bomb.png")
    paths["just too large"] = bomb(folder / "large.png", int(MAX_PIXELS**0.5) + 1)
    paths["floats"] = folder / "floats.tif"
    Image.fromarray(np.zeros((64, 64), np.float32)).save(paths["floats"])
    paths["a folder"] = folder / "folder.png"
    paths["a folder"].mkdir(exist_ok=True)
    paths["missing"] = folder / "missing.png"
    return paths
