"""Values that people give, checked: names, numbers and lists of numbers; fields that say what they may hold; one-line messages.

A number may be Python's, numpy's or a torch scalar; what is returned is always Python's own, so it can be stored as JSON.
:func:`option` declares a field of a frozen dataclass with its range and its help text, once for every place where a person can
give it. Depends on nothing of this project.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from os import PathLike
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

# " object at 0x7f..." in the words of another library says nothing to a reader, and differs from run to run.
ADDRESS = re.compile(r"(?: object)? at 0x[0-9a-fA-F]+")


class Note(UserWarning):
    """What was done, left out or noticed, where a person would want to know; the command line prints it as a line."""


def one_line(value: Any, limit: int = 300) -> str:
    """``value`` as text in one line of at most ``limit`` characters, without addresses of objects."""
    text = ADDRESS.sub("", " ".join(str(value).split()))
    return text if len(text) <= limit else f"{text[:limit]} ..."


def choose(kind: str, name: str, options: Iterable[str], renamed: Mapping[str, str] = MappingProxyType({})) -> str:
    """Returns ``name`` if it is among ``options``.

    Raises:
        ValueError: Otherwise, with the new name if ``renamed`` has one, else with near matches or all options.
    """
    options = list(options)
    if isinstance(name, str) and name in options:
        return name
    if isinstance(name, str) and name in renamed:
        raise ValueError(f"the {kind} {name} is now called {renamed[name]}")
    shown = name if not isinstance(name, str) or len(name) <= 100 else f"{name[:100]}..."
    near = difflib.get_close_matches(str(shown), options, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}? All: " if near else "choose from "
    raise ValueError(f"unknown {kind} {shown!r}; {hint}{', '.join(options) or 'none (no checkpoint is installed)'}")


def plain_number(value: Any) -> int | float | None:
    """``value`` as a Python number, or None if it is not one: no text, no truth value, not several numbers."""
    if isinstance(value, (np.ndarray, np.generic, torch.Tensor)):
        if value.ndim:
            return None
        value = value.item()
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def whole_number(name: str, value: Any, low: int, high: int | None = None) -> int:
    """``value`` as an int from ``low`` to ``high`` (or without an upper end).

    Raises:
        ValueError: For anything else.
    """
    number = plain_number(value)
    if number is None or number != number or number in (math.inf, -math.inf) or int(number) != number or number < low:
        number = None
    if number is None or (high is not None and number > high):
        ends = f"from {low} to {high}" if high is not None else f"of at least {low}"
        raise ValueError(f"{name} must be a whole number {ends}, got {one_line(value, 80)}")
    return int(number)


def real_number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """``value`` as a float from ``low`` to ``high``, both included.

    Raises:
        ValueError: For anything else, also for nan.
    """
    number = plain_number(value)
    if number is None or not low <= number <= high:
        ends = f" from {low:g} to {high:g}" if math.isfinite(low) and math.isfinite(high) else ""
        raise ValueError(f"{name} must be a number{ends}, got {one_line(value, 80)}")
    return float(number)


def listed(values: Any) -> list[Any]:
    """The elements of a list, tuple, range, numpy array or tensor of one dimension, as a list of Python values.

    Raises:
        ValueError: For a single value.
    """
    if isinstance(values, (np.ndarray, torch.Tensor)):
        values = values.tolist()
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise ValueError(f"a list is needed, got {one_line(values, 80)}")
    return list(values)


def whole_numbers(name: str, values: Any, low: int, high: int | None = None) -> list[int]:
    """``values`` as a list of ints from ``low`` to ``high``; see :func:`listed` for what a list may be."""
    return [whole_number(name, value, low, high) for value in listed(values)]


def real_numbers(name: str, values: Any, low: float = -math.inf, high: float = math.inf) -> list[float]:
    """``values`` as a list of floats from ``low`` to ``high``; see :func:`listed` for what a list may be."""
    return [real_number(name, value, low, high) for value in listed(values)]


def image_shape(shape: Any) -> tuple[int, int, int]:
    """``shape`` as (C, H, W) of one image.

    Raises:
        ValueError: If it is not three whole numbers above 0.
    """
    try:
        sizes = whole_numbers("each", shape, 1)
    except ValueError:
        sizes = []
    if len(sizes) != 3:
        raise ValueError(f"shape must be (C, H, W) of one image, three whole numbers above 0, got {one_line(shape, 80)}")
    return sizes[0], sizes[1], sizes[2]


def height_and_width(resolution: int | Sequence[int], limit: int) -> tuple[int, int]:
    """A resolution as (H, W): one number for a square, or two.

    Raises:
        ValueError: If it is neither, or a side is not from 1 to ``limit``.
    """
    sides = [resolution] * 2 if plain_number(resolution) is not None else listed(resolution)
    if len(sides) != 2:
        raise ValueError(f"resolution must be one number, or (height, width), got {one_line(resolution, 80)}")
    height, width = whole_numbers("resolution", sides, 1, limit)
    return height, width


def number_in(text: Any) -> Any:
    """The number that ``text`` spells; ``text`` itself if it spells none or is no text."""
    for number in (int, float) if isinstance(text, str) else ():
        try:
            return number(text)
        except ValueError:
            continue
    return text


# Fields that say what they may hold -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Option:
    """What a field of a settings dataclass may hold.

    Attributes:
        kind: ``str``, ``int``, ``float`` or ``bool``: what it is in the command line's help and in the API.
        help: One sentence for every place where it can be given.
        check: (name, value) -> the value as it is kept; raises ValueError saying what is allowed.
        choices: Names to choose from, if it is one of a registry.
        limits: Lowest and highest number, if it is one.
        positional: Whether the command line takes it without a flag.
        source: Whether it names a file or a folder, such as that of a data set.
        many: Whether it holds several values, as a tuple.
    """

    kind: type
    help: str
    check: Callable[[str, Any], Any]
    choices: Callable[[], Iterable[str]] | None = None
    limits: tuple[float, float] | None = None
    positional: bool = False
    source: bool = False
    many: bool = False

    def read(self, name: str, value: Any) -> Any:
        """``value``, which may be text from an address or a command line, as it is kept.

        Raises:
            ValueError: If it is not allowed, saying what is.
        """
        if self.many:
            parts = value.replace(",", " ").split() if isinstance(value, str) else listed(value)
            return self.check(name, [self._from_text(part) for part in parts])
        return self.check(name, self._from_text(value))

    def _from_text(self, text: Any) -> Any:
        """The value that ``text`` spells; ``text`` itself if it spells none, which no check takes, or is a value already."""
        if not isinstance(text, str) or self.kind is str:
            return text
        if self.kind is bool:
            return {"1": True, "true": True, "0": False, "false": False}.get(text.lower(), text)
        return number_in(text)


def option(
    kind: type,
    help: str,
    check: Callable[[str, Any], Any],
    default: Any = MISSING,
    *,
    choices: Callable[[], Iterable[str]] | None = None,
    limits: tuple[float, float] | None = None,
    positional: bool = False,
    source: bool = False,
) -> Any:
    """A dataclass field with an :class:`Option`; where the default is None, so may the value be."""
    return field(default=default, metadata={"option": Option(kind, help, check, choices, limits, positional, source)})


def whole(low: int, high: int, help: str, default: Any = MISSING) -> Any:
    """A field for a whole number from ``low`` to ``high``."""
    return option(int, help, lambda name, value: whole_number(name, value, low, high), default, limits=(low, high))


def real(low: float, high: float, help: str, default: Any = MISSING, *, above: bool = False) -> Any:
    """A field for a number from ``low`` (or, with ``above``, above it) to ``high``."""

    def check(name: str, value: Any) -> float:
        number = plain_number(value)
        if above and (number is None or not low < number <= high):
            raise ValueError(f"{name} must be above {low:g} and at most {high:g}, got {one_line(value, 80)}")
        return real_number(name, value, low, high)

    return option(float, help, check, default, limits=(low, high))


def choice(
    kind: str,
    choices: Callable[[], Iterable[str]],
    help: str,
    default: Any = MISSING,
    *,
    positional: bool = False,
    renamed: Mapping[str, str] = MappingProxyType({}),
) -> Any:
    """A field for one name of a registry, which ``kind`` names in messages. ``renamed`` maps old names to new ones."""

    def check(name: str, value: Any) -> str:
        return choose(kind, value if isinstance(value, str) else one_line(value, 80), choices(), renamed)

    return option(str, help, check, default, choices=choices, positional=positional)


def truth(help: str, default: Any = MISSING) -> Any:
    """A field for true or false."""

    def check(name: str, value: Any) -> bool:
        if not isinstance(value, (bool, np.bool_)):
            raise ValueError(f"{name} must be true or false (1 or 0), got {one_line(value, 80)}")
        return bool(value)

    return option(bool, help, check, default)


def text(help: str, default: Any = MISSING, *, positional: bool = False, source: bool = False) -> Any:
    """A field for text of one line, such as a path; with ``source`` it names a file or a folder."""

    def check(name: str, value: Any) -> str:
        if not isinstance(value, (str, PathLike)) or not str(value) or "\0" in str(value):
            raise ValueError(f"{name} must be text, got {one_line(value, 80) or 'nothing'}")
        return str(value)

    return option(str, help, check, default, positional=positional, source=source)


def several(part: Any) -> Any:
    """A field for one or more values, each as the field ``part`` takes one; it holds them as a tuple."""
    one: Option = part.metadata["option"]

    def check(name: str, value: Any) -> tuple[Any, ...]:
        values = tuple(one.check(name, each) for each in listed(value))
        if not values:
            raise ValueError(f"{name} needs at least one value")
        return values

    return field(default=part.default, metadata={"option": replace(one, check=check, many=True)})


def options_of(kind: Any) -> dict[str, Option]:
    """Name -> Option of the fields of a dataclass that have one, in their order."""
    return {part.name: part.metadata["option"] for part in fields(kind) if "option" in part.metadata}


def check_fields(settings: Any) -> None:
    """Checks every field with an Option, for ``__post_init__`` of a frozen dataclass; numbers become Python's own.

    Raises:
        ValueError: For the first value that is not allowed.
    """
    defaults = {part.name: part.default for part in fields(settings)}
    for name, one in options_of(settings).items():
        value = getattr(settings, name)
        if not (value is None and defaults[name] is None):
            object.__setattr__(settings, name, one.check(name, value))
