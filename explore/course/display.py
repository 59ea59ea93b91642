"""What a cell of a notebook shows: pictures, plotly figures and tables, each with a static version. Depends on figures.

A plotly figure is sent as itself and as a PNG, so that a page without a kernel (an export, a repository) shows it too.
Static versions need an installed Chromium and seconds each, so they are made only where ``CLOCKLESS_TWINS`` is set, as
:func:`explore.course.execute` sets it.
"""

from __future__ import annotations

import base64
import html
import io
import json
import os
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from explore import figures
from explore.data import to_uint8
from explore.images import grid, png
from explore.zoo import TITLES

WIDTH = 620  # CSS pixels of what a cell shows; on a telephone it shrinks to the page
GROUND, INK = "#ffffff", "#333333"
TWINS = "CLOCKLESS_TWINS"  # environment variable: make static versions
PLOTLY = "application/vnd.plotly.v1+json"
COLORS = {TITLES[name]: color for name, color in figures.MEMBER_COLORS.items()}


@dataclass(frozen=True)
class Shown:
    """What a cell displays, by media type: a page shows the best that it can."""

    data: dict[str, Any]
    metadata: dict[str, Any]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.data, self.metadata


def image_data(picture: Image.Image, words: str, width: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A PNG in 256 colors (a third of the size), at most ``width`` CSS pixels wide, with its alternative text."""
    small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    encoded = base64.b64encode(png(small)).decode()
    return {"image/png": encoded}, {"image/png": {"width": min(width, picture.width), "alt": words}}


def picture(image: Image.Image, words: str) -> Shown:
    """A picture with its alternative text."""
    data, metadata = image_data(image, words, WIDTH)
    return Shown({"text/plain": words, **data}, metadata)


def figure(drawn: go.Figure, words: str, width: int = WIDTH) -> Shown:
    """A plotly figure with a static version.

    Args:
        drawn: The figure, which takes the width of the page.
        words: Alternative text.
        width: Width of the static version in CSS pixels.
    """
    data: dict[str, Any] = {PLOTLY: json.loads(drawn.to_json()), "text/plain": words}
    metadata: dict[str, Any] = {}
    if (still := stills([drawn], width)[0]) is not None:
        more, metadata = image_data(still, words, width)
        data |= more
    return Shown(data, metadata)


def stills(drawn: Sequence[go.Figure], width: int) -> list[Image.Image | None]:
    """Figures as pictures with 1.5 pixels for one of CSS; None where they are not wanted, or no Chromium is found."""
    if os.environ.get(TWINS):
        with suppress(ValueError):
            return [Image.open(io.BytesIO(one)).convert("RGB") for one in figures.statics(drawn, width=width, scale=1.5)]
    return [None] * len(drawn)


def table(rows: Sequence[Mapping[str, Any]]) -> Shown:
    """Rows with the same columns as a table that scrolls where the page is narrow; numbers to four digits."""
    names = list(rows[0])
    cells = [[cell_text(row[name]) for name in names] for row in rows]
    numeric = [isinstance(rows[0][name], (int, float)) for name in names]
    style = [f' style="text-align:{"right" if number else "left"}"' for number in numeric]
    head = "".join(f"<th{look}>{html.escape(name)}</th>" for name, look in zip(names, style))
    body = "".join(
        "<tr>" + "".join(f"<td{look}>{html.escape(cell)}</td>" for cell, look in zip(line, style)) + "</tr>" for line in cells
    )
    widths = [max(len(line[i]) for line in [names, *cells]) for i in range(len(names))]
    plain = "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in [names, *cells])
    page = f'<div style="overflow-x:auto"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    return Shown({"text/html": page, "text/plain": plain}, {})


def cell_text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)


def sheet(rows: Mapping[str, Tensor], columns: Sequence[str] = ()) -> Image.Image:
    """Rows of pictures under their titles, enlarged without smoothing; a member's title has the member's color.

    Args:
        rows: Title -> pictures (N, 3, H, W), uint8 or float in [-1, 1]; all of one size. An empty title takes no space.
        columns: Titles of the N columns.
    """
    parts = {name: images if images.dtype == torch.uint8 else to_uint8(images) for name, images in rows.items()}
    first = next(iter(parts.values()))
    count, side = max(len(images) for images in parts.values()), first.shape[-1]
    scale = max(1, min((WIDTH - 4) // (count * (side + 1)), 128 // side))  # few pictures become large, up to 128 pixels
    cell, head, line = scale * side + scale, 24 if columns else 0, 28 if any(parts) else 2
    title, small = ImageFont.load_default(size=18), ImageFont.load_default(size=15)
    longest = max([title.getlength(name) for name in parts] + [0])
    width = max(4 + count * cell, int(longest) + 8)
    canvas = Image.new("RGB", (width, head + len(parts) * (line + cell) + 4), GROUND)
    draw = ImageDraw.Draw(canvas)
    for number, words in enumerate(columns):
        draw.text((4 + (number + 0.5) * cell, 3), words, fill=INK, font=small, anchor="ma")
    for number, (name, images) in enumerate(parts.items()):
        top = head + number * (line + cell)
        draw.text((4, top + 4), name, fill=COLORS.get(name, INK), font=title)
        canvas.paste(grid(images, scale, columns=len(images)), (4, top + line))
    return canvas


def text_block(words: str, size: int, color: str) -> Image.Image:
    """Text wrapped to the width of the page."""
    font = ImageFont.load_default(size=size)
    lines = textwrap.wrap(words, int((WIDTH - 12) / font.getlength("0"))) or [""]  # a digit is wider than most letters
    canvas = Image.new("RGB", (WIDTH, 8 + len(lines) * (size + 6)), GROUND)
    for number, line in enumerate(lines):
        ImageDraw.Draw(canvas).text((4, 4 + number * (size + 6)), line, fill=color, font=font)
    return canvas


def stack(blocks: Sequence[Image.Image]) -> Image.Image:
    canvas = Image.new("RGB", (max(b.width for b in blocks), sum(b.height for b in blocks)), GROUND)
    top = 0
    for block in blocks:
        canvas.paste(block, (0, top))
        top += block.height
    return canvas
