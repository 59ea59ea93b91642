"""Figures as files: a page of HTML, and PNGs that Kaleido draws with Chromium."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import plotly.graph_objects as go

from explore.figures.style import HEIGHT

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
NO_BROWSER = f"a static picture needs a browser: none of {', '.join(BROWSERS)} was found (Debian: apt-get install chromium)"
SECONDS = 90  # to start the browser, and to draw one figure


def page(figures: go.Figure | Sequence[go.Figure]) -> str:
    """A page of HTML that shows the figures in any browser, without a network."""
    if isinstance(figures, go.Figure):
        return figures.to_html(include_plotlyjs=True)
    parts = [figure.to_html(include_plotlyjs=number == 0, full_html=False) for number, figure in enumerate(figures)]
    return f'<!DOCTYPE html><html><head><meta charset="utf-8"></head><body>{"".join(parts)}</body></html>'


def browser() -> str | None:
    """Path of the Chromium that draws static pictures, or None."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def static(figure: go.Figure, width: int = 900, height: int | None = None, scale: float = 2.0) -> bytes:
    """The figure as a PNG on a white ground, drawn by Kaleido with an installed Chromium, without a network.

    Args:
        figure: Any plotly figure.
        width: CSS pixels.
        height: CSS pixels; by default the figure's own.
        scale: Pixels of the PNG for one CSS pixel.

    Raises:
        ValueError: If no Chromium is found, or it draws nothing.
    """
    if height is not None:
        figure = go.Figure(figure).update_layout(height=height)
    return statics([figure], width, scale)[0]


def statics(figures: Sequence[go.Figure], width: int = 900, scale: float = 2.0) -> list[bytes]:
    """:func:`static` of several figures, each at its own height; one browser draws them all.

    Raises:
        ValueError: If no Chromium is found, or it does not draw every figure.
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
    with ThreadPoolExecutor(1) as thread:  # a notebook's own thread already runs an event loop
        try:
            return thread.submit(asyncio.run, _draw(twins, executable, scale)).result()
        except Exception as error:  # whatever goes wrong between here and the browser
            said = " ".join(str(error).split())[:200] or type(error).__name__
            raise ValueError(f"{executable} did not draw the figure: {said}") from error


async def _draw(twins: Sequence[go.Figure], executable: str, scale: float) -> list[bytes]:
    from kaleido import Kaleido  # here, where it is used: the app draws no static pictures

    async def one(twin: go.Figure) -> bytes:
        size = {"width": twin.layout.width, "height": twin.layout.height}
        return await kaleido.calc_fig(twin, opts={"format": "png", "scale": scale, **size})

    async with asyncio.timeout(SECONDS * (1 + len(twins))):
        # Without MathJax, which Kaleido would fetch from the network; no figure here has formulas.
        async with Kaleido(path=executable, mathjax=False, timeout=SECONDS) as kaleido:
            return [await one(twin) for twin in twins]
