"""Types and ranges of values from outside, in words, and one way to check them.

The settings of detectors and the cards of saved models state their types and ranges with these classes. `read(name,
value)` returns the value as Python's own type, or raises `SettingError` with a sentence: `dims is 1.5; expected a whole
number from 1 to 65,536`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, Protocol, cast

from blemish.errors import SettingError

SHOWN = 60
"""The largest number of characters of a value that a message shows."""

MANY = 1 << 40
"""The largest whole number that is accepted where nothing smaller is said."""


class Kind(Protocol):
    """What a value may be. Messages show it as text, `str(kind)`, after "expected"."""

    def read(self, name: str, value: Any) -> Any:
        """Returns the value as Python's own type. Raises `SettingError`, which names it, if it is something else."""


def shown(value: object) -> str:
    """Returns a value for a message: one short line, whatever it is."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # numbers of thousands of digits, lists that are nested too deeply, and objects of any kind
        return f"{'an' if isinstance(value, int) else 'a'} {type(value).__name__} too long to show"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def unexpected(name: str, value: object, kind: object) -> SettingError:
    """Returns the error for a value that is not of a kind."""
    return SettingError(f"{name} is {shown(value)}; expected {kind}")


def read_all(owner: str, values: Mapping[str, Any], kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """Returns the values that have a kind, each as its kind reads it.

    Raises:
        SettingError: one is of another type or out of range; the message begins with the owner's name.
    """
    try:
        return {name: kind.read(name, values[name]) for name, kind in kinds.items() if name in values}
    except SettingError as error:
        raise SettingError(f"{owner}: {error}") from None


def _real(value: object) -> float | int | None:
    """Returns a number of any kind, such as numpy's, as Python's own; `None` if it is none."""
    if type(value) in (int, float):
        return cast(float, value)
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    number: Any = value.item() if hasattr(value, "item") else value  # numpy's own whole numbers stay whole
    try:
        return number if type(number) is int else float(number)
    except OverflowError:
        return math.inf


@dataclass(frozen=True)
class Whole:
    """A whole number within bounds, both included; `2.0` is taken for 2."""

    low: int = 0
    high: int = MANY
    odd: bool = False

    def read(self, name: str, value: Any) -> int:
        number = _real(value)
        if isinstance(number, float):
            number = int(number) if number.is_integer() else None
        if number is None or not self.low <= number <= self.high or (self.odd and number % 2 == 0):
            raise unexpected(name, value, self)
        return int(number)

    def __str__(self) -> str:
        return f"{'an odd' if self.odd else 'a whole'} number from {self.low:,} to {self.high:,}"


@dataclass(frozen=True)
class Number:
    """A finite number within bounds; `above` and `below` leave a bound itself out."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    def read(self, name: str, value: Any) -> float:
        try:
            number = None if (real := _real(value)) is None else float(real)
        except OverflowError:
            number = None
        if number is None or not math.isfinite(number) or not self.low <= number <= self.high:
            raise unexpected(name, value, self)
        if (self.above and number == self.low) or (self.below and number == self.high):
            raise unexpected(name, value, self)
        return number

    def __str__(self) -> str:
        low, high = f"{self.low:,.12g}", f"{self.high:,.12g}"
        if self.low == -math.inf and self.high == math.inf:
            return "a finite number"
        if self.above or self.below:
            return f"a number {'above' if self.above else 'from'} {low} and {'below' if self.below else 'up to'} {high}"
        return f"a number from {low} to {high}"


@dataclass(frozen=True)
class Truth:
    """`True` or `False`."""

    def read(self, name: str, value: Any) -> bool:
        if type(value) is not bool:
            raise unexpected(name, value, self)
        return value

    def __str__(self) -> str:
        return "true or false"


class Choice:
    """One of some names or whole numbers."""

    def __init__(self, *options: str | int) -> None:
        self.options = options

    def read(self, name: str, value: Any) -> Any:
        given = value if isinstance(value, str) else _real(value)
        for option in self.options:
            if given == option:
                return option
        raise unexpected(name, value, self)

    def __str__(self) -> str:
        return " or ".join(filter(None, [", ".join(map(str, self.options[:-1])), str(self.options[-1])]))


@dataclass(frozen=True)
class Text:
    """A text of up to so many characters, which matches a pattern if one is given; `words` say what it is."""

    longest: int = 65_536
    pattern: str = ""
    words: str = "a text"

    def read(self, name: str, value: Any) -> str:
        fits = isinstance(value, str) and len(value) <= self.longest
        if not fits or (self.pattern and not re.fullmatch(self.pattern, value)):
            raise unexpected(name, value, self)
        return str(value)

    def __str__(self) -> str:
        return self.words if self.pattern else f"{self.words} of at most {self.longest:,} characters"


@dataclass(frozen=True)
class Each:
    """A list of values of one kind, which is read as a tuple; `words` say it more plainly."""

    kind: Kind
    least: int = 0
    most: int = MANY
    words: str = ""

    def read(self, name: str, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)) or not self.least <= len(value) <= self.most:
            raise unexpected(name, value, self)
        return tuple(self.kind.read(f"{name}[{index}]", item) for index, item in enumerate(value))

    def __str__(self) -> str:
        if self.words:
            return self.words
        bounds = f"{self.least:,}" if self.least == self.most else f"{self.least:,} to {self.most:,}"
        return f"a list of {bounds} values, each {self.kind}"


class Pair:
    """A list of two values, each of its own kind, which is read as a tuple."""

    def __init__(self, first: Kind, second: Kind) -> None:
        self.kinds = first, second

    def read(self, name: str, value: Any) -> tuple[Any, Any]:
        if not isinstance(value, (list, tuple)) or len(value) != 2:
            raise unexpected(name, value, self)
        first, second = (kind.read(f"{name}[{index}]", value[index]) for index, kind in enumerate(self.kinds))
        return first, second

    def __str__(self) -> str:
        return f"a pair of {self.kinds[0]} and {self.kinds[1]}"


@dataclass(frozen=True)
class Maybe:
    """`None`, or a value of a kind."""

    kind: Kind

    def read(self, name: str, value: Any) -> Any:
        if value is None:
            return None
        try:
            return self.kind.read(name, value)
        except SettingError as error:
            if str(error).startswith(f"{name} is "):  # and not an item of it
                raise unexpected(name, value, self) from None
            raise

    def __str__(self) -> str:
        return f"{self.kind}, or null (None in Python)"


class Either:
    """A value of one of several kinds, the first that takes it."""

    def __init__(self, *kinds: Kind) -> None:
        self.kinds = kinds

    def read(self, name: str, value: Any) -> Any:
        for kind in self.kinds:
            try:
                return kind.read(name, value)
            except SettingError:
                continue
        raise unexpected(name, value, self)

    def __str__(self) -> str:
        return ", or ".join(map(str, self.kinds))


@dataclass(frozen=True)
class Record:
    """An object with exactly these fields; `made` is called with them by keyword, and its result is returned."""

    kinds: Mapping[str, Kind]
    made: Callable[..., Any] = dict

    def read(self, name: str, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise unexpected(name, value, self)
        for key in self.kinds:
            if key not in value:
                raise SettingError(f"{name} has no {key}; expected {self}")
        for key in value:
            if key not in self.kinds:
                raise SettingError(f"{name} has the field {shown(key)}; expected {self}")
        return self.made(**{key: kind.read(f"{name}.{key}", value[key]) for key, kind in self.kinds.items()})

    def __str__(self) -> str:
        return f"an object with {', '.join(sorted(self.kinds))}"


@dataclass(frozen=True)
class Named:
    """An object with names of any kind for values of one kind."""

    kind: Kind
    most: int = 1024

    def read(self, name: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping) or len(value) > self.most or not all(isinstance(key, str) for key in value):
            raise unexpected(name, value, self)
        return {key: self.kind.read(f"{name}.{key[:SHOWN]}", item) for key, item in value.items()}

    def __str__(self) -> str:
        return f"an object of at most {self.most:,} fields, each {self.kind}"


@dataclass(frozen=True)
class Plain:
    """A value as JSON has it, of finite numbers, nested no deeper than so many lists and objects."""

    depth: int = 4

    def read(self, name: str, value: Any) -> Any:
        if value is None or type(value) in (bool, str):
            return value
        if type(value) in (int, float):
            return (Whole(-MANY) if type(value) is int else Number()).read(name, value)
        if not isinstance(value, (list, Mapping)) or not self.depth:
            raise unexpected(name, value, self)
        inner = Plain(self.depth - 1)
        if isinstance(value, list):
            return [inner.read(f"{name}[{index}]", item) for index, item in enumerate(value)]
        return {key: inner.read(f"{name}.{key[:SHOWN]}", item) for key, item in value.items()}

    def __str__(self) -> str:
        return f"numbers, texts, lists and objects, nested up to {self.depth} deep"
