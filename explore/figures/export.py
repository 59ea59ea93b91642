"""Figures as files: a page of HTML, and a PNG that Chromium draws."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from explore.figures.style import HEIGHT

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
NO_BROWSER = f"a static picture needs a browser: none of {', '.join(BROWSERS)} was found (Debian: apt-get install chromium)"


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
    """The figure as a PNG on a white ground, drawn by an installed Chromium without a network.

    Args:
        figure: Any plotly figure.
        width: CSS pixels.
        height: CSS pixels; by default the figure's own.
        scale: Pixels of the PNG for one CSS pixel.

    Raises:
        ValueError: If no Chromium is found, or it draws nothing.
    """
    executable = browser()
    if executable is None:
        raise ValueError(NO_BROWSER)
    height = height or figure.layout.height or HEIGHT
    twin = go.Figure(figure)
    twin.update_layout(paper_bgcolor="white", font={"color": "#333333"}, width=width, height=height)
    options = json.dumps({"format": "png", "width": width, "height": height, "scale": scale})
    drawing = twin.to_json().replace("</", "<\\/")  # no text of the figure ends the script
    page = (
        f'<html><head><meta charset="utf-8"><script>{get_plotlyjs()}</script></head><body><div id="figure"></div><script>'
        f"const figure = {drawing};"
        "Plotly.newPlot('figure', figure.data, figure.layout, {staticPlot: true})"
        f".then(drawn => Plotly.toImage(drawn, {options}))"
        ".then(image => { document.body.textContent = `[[${image}]]`; }, error => { document.body.textContent = error; });"
        "</script></body></html>"
    )
    with tempfile.TemporaryDirectory(prefix="clockless-figure-") as folder:
        path = Path(folder) / "figure.html"
        path.write_text(page, encoding="utf-8")
        command = [
            # It sees this one page only; without a sandbox it also runs as root in a container.
            executable, "--headless", "--no-sandbox", "--disable-background-networking", "--hide-scrollbars", "--no-first-run",
            "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage",
            f"--user-data-dir={folder}/profile", "--virtual-time-budget=60000", "--dump-dom", path.as_uri(),
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=180)
        except subprocess.TimeoutExpired:
            raise ValueError(f"{executable} did not draw the figure within 180 s") from None
    match = re.search(r"\[\[data:image/png;base64,([A-Za-z0-9+/=]+)\]\]", done.stdout)
    if match is None:
        raise ValueError(f"{executable} drew no picture of the figure: {(done.stderr or done.stdout).strip()[-200:]}")
    return base64.b64decode(match[1])
