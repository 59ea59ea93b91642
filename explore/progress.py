"""Progress: long work takes a ``watch``, which wraps what it goes through. Depends on nothing of this project.

A watch is called as ``watch(steps, desc="", total=None, unit="it")`` and gives the steps back one by one. :func:`quiet` shows
nothing, :func:`bar` is tqdm's bar for terminals and notebooks; the app passes one that ends the work when a person stops it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from tqdm.auto import tqdm


class Watch(Protocol):
    """What is called with the steps of long work."""

    def __call__(self, steps: Iterable[Any], desc: str = "", total: int | None = None, unit: str = "it") -> Iterable[Any]:
        """``steps``, one by one."""


def quiet(steps: Iterable[Any], desc: str = "", total: int | None = None, unit: str = "it") -> Iterable[Any]:
    """``steps``, without a word."""
    return steps


def bar(steps: Iterable[Any], desc: str = "", total: int | None = None, unit: str = "it") -> Iterable[Any]:
    """``steps`` under a progress bar on stderr, or in the notebook."""
    return tqdm(steps, desc=desc or None, total=total, unit=unit)
