"""Files elsewhere for tests: in memory, in memory behind errors, and on a server of S3's kind on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class Watched(MemoryFileSystem):
    """Files in memory, at `watched://`: what is read is noted, and `refuse` is raised by whatever is tried."""

    protocol = "watched"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    asked: ClassVar[list[tuple[str, int | None, int | None]]] = []
    refuse: ClassVar[dict[str, BaseException]] = {}
    """Errors by the end of the path that they are raised for."""

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(MemoryFileSystem._strip_protocol(path.replace("watched://", "memory://")))

    def _check(self, path: str) -> None:
        for ending, error in self.refuse.items():
            if path.endswith(ending):
                raise error

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        self._check(path)
        self.asked.append((path, start, end))
        return bytes(super().cat_file(path, start, end, **options))

    def info(self, path: str, **options: Any) -> Any:
        self._check(path)
        return super().info(path, **options)

    def find(self, path: str, *args: Any, **options: Any) -> Any:
        self._check(path)
        return super().find(path, *args, **options)

    def pipe_file(self, path: str, *args: Any, **options: Any) -> None:
        self._check(path)
        super().pipe_file(path, *args, **options)

    def put_file(self, lpath: str, rpath: str, **options: Any) -> None:
        self._check(rpath)
        super().put_file(lpath, rpath, **options)


fsspec.register_implementation("watched", Watched, clobber=True)


@contextmanager
def refusing(ending: str, error: BaseException) -> Iterator[None]:
    """Within it, whatever is tried at a `watched://` path with this ending raises the error."""
    Watched.refuse[ending] = error
    try:
        yield
    finally:
        del Watched.refuse[ending]


def put(folder: Path, url: str) -> str:
    """Copies a folder to an address, which is returned."""
    system, path = fsspec.core.url_to_fs(url)
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            target = f"{path}/{file.relative_to(folder).as_posix()}"
            system.makedirs(target.rpartition("/")[0], exist_ok=True)
            system.pipe_file(target, file.read_bytes())
    return url
