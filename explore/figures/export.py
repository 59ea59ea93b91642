"""Writes figures as HTML pages and as PNG images. Kaleido draws the PNGs with an installed Chromium."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import plotly.graph_objects as go

from explore.figures.style import HEIGHT

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
NO_BROWSER = f"a static picture needs a browser: none of {', '.join(BROWSERS)} was found (Debian: apt-get install chromium)"
SECONDS = 90  # time limit for starting the browser, and for drawing one figure


def page(figures: go.Figure | Sequence[go.Figure]) -> str:
    """HTML page with the figures. It includes plotly.js, so it needs no network."""
    if isinstance(figures, go.Figure):
        return figures.to_html(include_plotlyjs=True)
    parts = [figure.to_html(include_plotlyjs=number == 0, full_html=False) for number, figure in enumerate(figures)]
    return f'<!DOCTYPE html><html><head><meta charset="utf-8"></head><body>{"".join(parts)}</body></html>'


def browser() -> str | None:
    """Path of an installed Chromium, which static images need, or None."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def static(figure: go.Figure, width: int = 900, height: int | None = None, scale: float = 2.0) -> bytes:
    """PNG of the figure on a white background. Needs an installed Chromium, but no network.

    Args:
        figure: Any plotly figure.
        width: Width in CSS pixels.
        height: Height in CSS pixels. Default: height of the figure.
        scale: PNG pixels per CSS pixel.

    Raises:
        ValueError: If no Chromium is found, or it fails to draw the figure.
    """
    if height is not None:
        figure = go.Figure(figure).update_layout(height=height)
    return statics([figure], width, scale)[0]


def statics(figures: Sequence[go.Figure], width: int = 900, scale: float = 2.0) -> list[bytes]:
    """PNGs of several figures, as :func:`static` draws them, each at its own height. Starts the browser once.

    Raises:
        ValueError: If no Chromium is found, or it fails to draw any of the figures.
    """
    if not figures:
        return []
    executable = browser()
    if executable is None:
        raise ValueError(NO_BROWSER)
    twins = []
    for figure in figures:
        twin = go.Figure(figure)
        height = twin.layout.height or HEIGHT
        twins.append(twin.update_layout(paper_bgcolor="white", font={"color": "#333333"}, width=width, height=height))
    with ThreadPoolExecutor(1) as thread:  # in a notebook, the current thread already runs an event loop
        try:
            return thread.submit(asyncio.run, _draw(twins, executable, scale)).result()
        except Exception as error:  # Kaleido and the browser raise errors of many types
            said = " ".join(str(error).split())[:200] or type(error).__name__
            raise ValueError(f"{executable} did not draw the figure: {said}") from error


async def _draw(twins: Sequence[go.Figure], executable: str, scale: float) -> list[bytes]:
    from kaleido import Kaleido  # imported here, because the app does not draw static images

    async def one(twin: go.Figure) -> bytes:
        size = {"width": twin.layout.width, "height": twin.layout.height}
        return await kaleido.calc_fig(twin, opts={"format": "png", "scale": scale, **size})

    async with asyncio.timeout(SECONDS * (1 + len(twins))):
        # Kaleido would load MathJax from the network. The figures contain no formulas.
        async with Kaleido(path=executable, mathjax=False, timeout=SECONDS) as kaleido:
            return [await one(twin) for twin in twins]
