"""Results as frozen dataclasses: JSON from their fields and back, numbers rounded for files, and rows as text."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, ClassVar, Self


class Stored:
    """Base of frozen dataclasses that are stored as JSON: one key per field.

    Fields named in ``unstored``, such as arrays, are left out, and so is one that is None by default and in fact.
    """

    unstored: ClassVar[tuple[str, ...]] = ()

    def to_json(self) -> dict[str, Any]:
        """Field name -> value, in lists, dicts and numbers."""
        return {
            part.name: _written(value)
            for part in fields(self)  # type: ignore[arg-type]  # every subclass is a dataclass
            for value in [getattr(self, part.name)]
            if part.name not in self.unstored and not (value is None and part.default is None)
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """The result that :meth:`to_json` returned; keys that are no fields are ignored.

        Raises:
            ValueError: If a field is missing.
        """
        kinds = _kinds(cls)  # type: ignore[arg-type]  # a class can be hashed
        try:
            return cls(**{name: _read(kind, stored[name]) for name, kind in kinds.items() if name in stored})
        except TypeError as error:
            raise ValueError(f"cannot read a stored {cls.__name__}: {error}") from None


class Rounded(Stored):
    """Base of results that are stored as :func:`rounded` returns them."""

    def to_json(self) -> dict[str, Any]:
        """Field name -> value, in lists, dicts and rounded numbers."""
        return rounded(super().to_json())


def _written(value: Any) -> Any:
    if isinstance(value, Stored):
        return value.to_json()
    if isinstance(value, dict):
        return {name: _written(part) for name, part in value.items()}
    return [_written(part) for part in value] if isinstance(value, (list, tuple)) else value


@cache
def _kinds(kind: Any) -> dict[str, Any]:
    """Field name -> type, of what is stored."""
    hints = typing.get_type_hints(kind)
    return {part.name: hints[part.name] for part in fields(kind) if part.name not in kind.unstored}


def _read(kind: Any, value: Any) -> Any:
    """``value`` from JSON as the type ``kind``."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _read(next(one for one in inside if one is not types.NoneType), value)
    if origin is dict:
        return {name: _read(inside[1], part) for name, part in value.items()}
    if origin in (list, tuple):
        return origin(_read(inside[0], part) for part in value)
    if isinstance(kind, type) and issubclass(kind, Stored):
        return kind.from_json(value)
    return math.nan if kind is float and value is None else value  # JSON has no nan


def rounded(value: Any) -> Any:
    """``value`` with floats rounded to 9 significant digits, and floats in lists to 5, for JSON files that are kept in git."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [float(f"{part:.5g}") if isinstance(part, float) else rounded(part) for part in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def columns(row: Any, prefix: str = "") -> dict[str, Any]:
    """The fields of a dataclass as cells of a table; nested ones that define no format of their own get columns by field."""
    found: dict[str, Any] = {}
    for name, value in vars(row).items():
        if is_dataclass(value):
            plain = type(value).__format__ is object.__format__
            found |= columns(value, f"{prefix}{name} ") if plain else {f"{prefix}{name}": f"{value:.3g}"}
        else:
            found[f"{prefix}{name}"] = value
    return found


def table(rows: Iterable[dict[str, Any]]) -> str:
    """Rows as aligned columns, numbers to the right."""
    rows = list(rows)
    cells = [list(rows[0])] + [
        [f"{v:,}" if isinstance(v, int) else f"{v:.5g}" if isinstance(v, float) else str(v) for v in row.values()]
        for row in rows
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    numeric = [isinstance(value, (int, float)) for value in rows[0].values()]
    lines = ["  ".join(cell.rjust(w) if n else cell.ljust(w) for cell, w, n in zip(row, widths, numeric)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)
