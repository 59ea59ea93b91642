"""What the tabs share: values of settings checked, the pairs and their models, pictures and lines of text as HTML, errors."""

from __future__ import annotations

import base64
import functools
import html
import io
import math
from typing import Any

import gradio as gr
from torch import Tensor

from explore import plots, trajectories, zoo
from explore.denoiser import Denoiser

MODEL_QUEUE = "model"  # concurrency_id of everything that runs a network: one at a time
PICTURE_PIXELS = 384  # least width of a picture sent to the page, enlarged without smoothing


# Values of settings, from a control, a call or the text of an address ---------------------------------------------------


def number(name: str, value: Any, low: float, high: float, *, whole: bool = False, above: bool = False) -> float:
    """``value`` as a number from ``low`` (or ``above`` it) to ``high``.

    Raises:
        ValueError: For anything else, saying what is allowed.
    """
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    inside = low < found <= high if above else low <= found <= high  # false for nan
    if not inside or (whole and found != int(found)):
        kind = "a whole number" if whole else "a number"
        limits = f"above {low} and at most {high}" if above else f"from {low} to {high}"
        given = "nothing" if value is None or value == "" else str(value)[:40]
        raise ValueError(f"{name} must be {kind} {limits}, got {given}")
    return int(found) if whole else found


def truth(name: str, value: Any) -> bool:
    """``value`` as true or false.

    Raises:
        ValueError: For anything that is neither.
    """
    truths = {"1": True, "true": True, "0": False, "false": False}
    text = str(value).lower()
    if text not in truths:
        raise ValueError(f"{name} must be 0 or 1, got {text[:40]}")
    return truths[text]


# Models --------------------------------------------------------------------------------------------------------------


@functools.lru_cache
def comparable_pairs() -> list[str]:
    """Pairs with two members.

    Raises:
        ValueError: If there is none.
    """
    found = [pair for pair, names in zoo.pairs().items() if len(names) > 1]
    if not found:
        raise ValueError(f"no pair of models in {zoo.ROOT}")
    return found


@functools.lru_cache(maxsize=64)
def members(pair: str) -> list[zoo.ModelInfo]:
    """The two members of a pair that are compared, the one that is told the time first."""
    return [zoo.info(name) for name in trajectories.members_of(pair)]


@functools.lru_cache(maxsize=8)
def denoisers(pair: str) -> list[Denoiser]:
    """The members' models. Sessions share them: whoever hooks into a network takes a copy of it."""
    return [zoo.load(info.name) for info in members(pair)]


def titles(pair: str) -> list[str]:
    """What each member is, in words."""
    return [trajectories.TITLES[info.time_conditioning] for info in members(pair)]


def colours(pair: str) -> list[str]:
    """Of the members."""
    return [plots.MEMBER_COLOURS[info.time_conditioning] for info in members(pair)]


# What pages show -----------------------------------------------------------------------------------------------------


def picture(images: Tensor, description: str) -> str:
    """``images`` uint8 (N, 3, H, W) as an HTML image that carries its PNG within."""
    columns = math.ceil(math.sqrt(len(images)))
    scale = math.ceil(PICTURE_PIXELS / (columns * (images.shape[-1] + 1) - 1))
    buffer = io.BytesIO()
    trajectories.grid(images, scale).save(buffer, format="PNG", compress_level=1)  # 5 ms; smaller would cost frames
    content = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(description)}" src="data:image/png;base64,{content}">'


def cell(kind: str, colour: str, title: str, what: str, body: str) -> str:
    """A picture under a bar in ``colour``, its title and what it shows."""
    return (
        f'<figure class="cell {kind}" style="--member:{colour}">'
        f"<figcaption><b>{html.escape(title)}</b> <span>{what}</span></figcaption>{body}</figure>"
    )


def status(text: str, done: float = 0.0) -> str:
    """A line of text over a bar of which the fraction ``done`` is filled."""
    return f'<div class="status">{text}<div class="bar"><i style="width:{100 * done:.1f}%"></i></div></div>'


def notice(error: ValueError) -> str:
    """``error`` as a line that stands where the status stood."""
    return f'<div class="notice" role="alert"><b>This cannot be run:</b> {html.escape(str(error), quote=False)}</div>'


def visible(error: ValueError) -> gr.Error:
    """``error`` as the message that the page and the clients show."""
    return gr.Error(html.escape(str(error), quote=False), title="This setting cannot be run", print_exception=False)


CSS = """
.pictures { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 10px 12px; }
.pictures .cell { margin: 0; min-width: 0; border-top: 4px solid var(--member); }
.pictures figcaption { display: flex; flex-wrap: wrap; gap: 0 .5em; font-size: .85rem; padding: 3px 0; line-height: 1.3; }
.pictures figcaption span { opacity: .75; }
.pictures img { display: block; width: 100%; height: auto; }
.pictures .empty { aspect-ratio: 1; display: flex; align-items: center; justify-content: center; text-align: center;
  padding: 8%; border: 1.5px dashed rgba(127,127,127,.6); border-radius: 6px; font-size: .85rem; opacity: .8; }
.status { font-size: .9rem; font-variant-numeric: tabular-nums; }
.status .bar { height: 4px; margin-top: 5px; border-radius: 2px; background: rgba(127,127,127,.25); overflow: hidden; }
.status .bar i { display: block; height: 100%; background: currentColor; opacity: .65; }
.notice { border: 1.5px solid #D55E00; border-radius: 6px; padding: .5rem .7rem; font-size: .9rem; }
.summary { font-size: .9rem; margin: 0; }
/* One grey cannot be read on both a white and a dark page: the text of figures takes the colour of the page's text. */
.js-plotly-plot .main-svg text:not(.hovertext text) { fill: var(--body-text-color) !important; }
.js-plotly-plot .hoverlayer .legend .bg { fill: var(--background-fill-primary) !important; }
@media (max-width: 640px) {
  .pictures { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 8px; }
  .pictures .difference { order: 1; }
  .pictures figcaption { flex-direction: column; }
}
"""
