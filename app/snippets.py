"""Python to copy, where no request of :mod:`explore.experiments` covers what a tab shows. Depends on pairs."""

from __future__ import annotations

from typing import Any

from app import pairs


def call(name: str, *values: Any, **named: Any) -> str:
    """A call as it is written in Python; strings that begin with ``=`` are expressions."""

    def written(value: Any) -> str:
        return value[1:] if isinstance(value, str) and value.startswith("=") else repr(value)

    return f"{name}({', '.join([*map(written, values), *(f'{key}={written(value)}' for key, value in named.items())])})"


def seeds(first: int, count: int) -> str:
    """Seeds as an argument of :func:`call`."""
    return "=" + call("seed_range", first, count)


def loaded(pair: str, dtype: str = "") -> str:
    """The line that loads both members of a pair."""
    names = [info.name for info in pairs.members(pair)]
    return f"models = [{call('zoo.load', '=name', *([dtype] if dtype else []))} for name in {names}]"
