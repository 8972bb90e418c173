"""Errors that a user can cause and fix. Each message is one line: what was found, what was expected, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from numbers import Integral, Real

NAMED = 10
"""The largest number of unusable images that one error names."""

LACKING = 3
"""The largest number of packages that one error names; it names a fourth if that is the last."""

FIX = "fix them, or leave them out with --skip-bad"
"""What to do about unusable images."""


class BlemishError(Exception):
    """An error that the user can fix; the command prints its text without a traceback.

    Attributes:
        exit_code: the status with which the command ends.
    """

    exit_code = 1


class SettingError(BlemishError):
    """A setting that does not exist, or a value that it cannot have."""

    exit_code = 2


class SourceError(BlemishError):
    """A data set that is missing, empty, or not laid out as its layout says."""


class ImageError(BlemishError):
    """One image or mask that cannot be used: its path, address, or name for messages, and why."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[ImageError], tuple[object, str]]:
        """Returns how to make it again in another process."""
        return type(self), (self.path, self.reason)


class BadImagesError(BlemishError):
    """Several images that cannot be used; the text names the first ten."""

    def __init__(self, errors: Sequence[ImageError], advice: str) -> None:
        named = "; ".join(f"{error.path} {error.reason.split('; ')[0]}" for error in errors[:NAMED])
        count = number_of(len(errors), "image") if len(errors) <= NAMED else f"over {NAMED} images"
        super().__init__(f"{count} cannot be used: {named}; {advice}")
        self.errors = list(errors)


class ShapeError(BlemishError):
    """Arrays whose shapes do not fit together."""


class WeightsError(BlemishError):
    """Backbone weights that are absent or do not fit the network."""


class StorageError(BlemishError):
    """A folder or a file that cannot be written, or that was altered since blemish wrote it."""


class ModelError(BlemishError):
    """A saved model that cannot be used."""


class ExportError(BlemishError):
    """A model that cannot be exported, or whose export does not give the same results in its own runtime."""


class DegenerateError(BlemishError):
    """Images or numbers that allow no verdict: all images are the same, or a result is not finite."""


class TrainingError(BlemishError):
    """A training that cannot go on."""


class MissingExtraError(BlemishError):
    """An optional dependency that a feature needs and that is not installed."""


class ClusterError(BlemishError):
    """A cluster that cannot be joined or started, that broke off, or that lacks something."""


class LogError(BlemishError):
    """A log whose database does not answer, or was not made by blemish."""


class MemoryLimitError(BlemishError):
    """More memory or disk space is needed than is available."""


def require(*modules: str, of: str, extra: str) -> None:
    """Raises `MissingExtraError` if modules are not installed, before the work that will need them.

    Args:
        modules: their names.
        of: what needs them; the message begins with it.
        extra: the extra of blemish that installs them.
    """
    missing = lacking(*modules)
    if missing:
        more = f" and {len(missing) - LACKING} more packages" if len(missing) > LACKING + 1 else ""
        named = ", ".join(missing[:LACKING] if more else missing)
        raise MissingExtraError(f"{of} needs {named}{more}; {install(extra)}")


def lacking(*modules: str) -> list[str]:
    """Returns the names, up to the first dot, of those modules that are not installed; none is imported."""
    found = dict.fromkeys(module.partition(".")[0] for module in modules)
    return [module for module in found if find_spec(module) is None]


def install(extra: str) -> str:
    """Returns how to install an extra of blemish, such as `fit`, or several, such as `fit,ray`."""
    return f"pip install 'blemish[{extra}]', or '.[{extra}]' in a clone"


def number_of(count: int, one: str, many: str | None = None) -> str:
    """Returns `1 image`, `1,000 images` and the like; `many` is needed where it is not `one` with an s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def as_number(name: str, value: object) -> float:
    """Returns a number of any kind, such as numpy's, as a float. Raises `SettingError` if it is none, or too large."""
    try:
        if type(value) is not bool and isinstance(value, Real):
            return float(value)
    except OverflowError:
        pass
    raise SettingError(f"{name} {value!r} is not a number; give one, such as 0.05")


def as_count(name: str, value: object) -> int:
    """Returns a whole number of any kind, such as numpy's, as an int. Raises `SettingError` if it is none."""
    if type(value) is not bool and isinstance(value, Integral):
        return int(value)
    raise SettingError(f"{name} {value!r} is not a whole number; give one, such as 5")


_NO_MEMORY = (
    "allocate memory",
    "bad_alloc",
    "failed to map",
    "mmap",
    "Resource temporarily unavailable",
    "start new thread",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python's, torch's, OpenVINO's or the loader's means that there was not enough memory."""
    known = isinstance(error, (MemoryError, OSError, RuntimeError, ImportError))
    return isinstance(error, MemoryError) or (known and any(words in str(error) for words in _NO_MEMORY))
