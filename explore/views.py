"""What the course shows and lets its readers change, and the course itself: notebooks listed, executed and written.

Whatever a cell shows has a static twin: a plotly figure is sent as itself and as a PNG, a view with sliders as the widget and
as a PNG of a few of its settings, so that a page without a kernel (an export, a repository's website) reads the same. Twins
take an installed Chromium and seconds each, so they are made when ``CLOCKLESS_TWINS`` is set, as :func:`execute` sets it, and
left out otherwise or where no Chromium is found; everything else is the same.

A view is a function from the values of its controls to parts: pictures, plotly figures and text. It is drawn once for each
setting, kept, and redrawn when a control changes. Everything computed here is the library's; everything drawn is
:mod:`explore.figures`'s or a sheet of pictures. Depends on figures and all that it shows.
"""

from __future__ import annotations

import base64
import functools
import html
import io
import json
import os
import re
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import ipywidgets as widgets
import plotly.graph_objects as go
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from explore import bayes, figures, files, interventions, probes, saliency, zoo
from explore.data import add_noise, to_float, to_uint8
from explore.denoiser import Denoiser
from explore.experiments import Compare
from explore.images import grid, png
from explore.probes import ProbeSet
from explore.samplers import SAMPLERS, options
from explore.schedules import SCHEDULES
from explore.seeds import keyed_noise, seed_range
from explore.trajectories import Comparison, Map, Trajectories
from explore.zoo import TITLES

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
MAX_BYTES = 1_000_000  # of a committed notebook
WIDTH = 620  # CSS pixels of what a cell shows; on a telephone it shrinks to the page
GROUND, INK = "#ffffff", "#333333"
TWINS = "CLOCKLESS_TWINS"  # environment variable: make static twins
KEPT = 64  # drawings of a view that are kept
PLOTLY = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
COLORS = {TITLES[name]: color for name, color in figures.MEMBER_COLORS.items()}

Part: TypeAlias = Image.Image | go.Figure | str
Draw = Callable[..., Sequence[Part]]


# What a cell shows ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """Something that a notebook displays: the same thing by media type, of which every page takes the best it can show."""

    data: dict[str, Any]
    metadata: dict[str, Any]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.data, self.metadata


def _image_data(picture: Image.Image, words: str, width: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The PNG in 256 colors, a third of the bytes of one in full, ``width`` CSS pixels wide, with ``words`` for those who
    cannot see it."""
    small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    encoded = base64.b64encode(png(small)).decode()
    return {"image/png": encoded}, {"image/png": {"width": min(width, picture.width), "alt": words}}


def picture(image: Image.Image, words: str) -> Shown:
    """A picture, with what is to be seen in ``words``."""
    data, metadata = _image_data(image, words, WIDTH)
    return Shown({"text/plain": words, **data}, metadata)


def figure(drawn: go.Figure, words: str, width: int = WIDTH) -> Shown:
    """A plotly figure and its static twin.

    Args:
        drawn: The figure.
        words: What is to be seen.
        width: Of the twin, in CSS pixels; the figure itself takes the width that the page has.
    """
    data: dict[str, Any] = {PLOTLY: json.loads(drawn.to_json()), "text/plain": words}
    metadata: dict[str, Any] = {}
    if (twin := _stills([drawn], width)[0]) is not None:
        more, metadata = _image_data(twin, words, width)
        data |= more
    return Shown(data, metadata)


def _stills(drawn: Sequence[go.Figure], width: int) -> list[Image.Image | None]:
    """Figures as pictures of 1.5 pixels for one of CSS; None where none are wanted, or no Chromium draws them."""
    if os.environ.get(TWINS):
        with suppress(ValueError):
            twins = figures.statics(drawn, width=width, scale=1.5)
            return [Image.open(io.BytesIO(twin)).convert("RGB") for twin in twins]
    return [None] * len(drawn)


def table(rows: Sequence[Mapping[str, Any]]) -> Shown:
    """Rows of one set of columns as a table that scrolls by itself where the page is narrow; numbers to four digits."""
    names = list(rows[0])
    cells = [[_cell(row[name]) for name in names] for row in rows]
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


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)


def sheet(rows: Mapping[str, Tensor], columns: Sequence[str] = ()) -> Image.Image:
    """Rows of pictures under their titles, enlarged without smoothing; a member's title has the member's color.

    Args:
        rows: Title -> pictures (N, 3, H, W), uint8 or float in [-1, 1]; all of one size. An empty title takes no place.
        columns: What stands over each of the N pictures.
    """
    parts = {name: images if images.dtype == torch.uint8 else to_uint8(images) for name, images in rows.items()}
    first = next(iter(parts.values()))
    count, side = max(len(images) for images in parts.values()), first.shape[-1]
    # Eight pictures of 32 px doubled make the width that a page has; few pictures become large, but no larger than a hand.
    scale = max(1, min((WIDTH - 4) // (count * (side + 1)), 128 // side))
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


# Views: sliders, and what follows from them ----------------------------------------------------------------------------------


class View:
    """Controls, and parts that are drawn anew when one of them changes; displayed as a widget with a static twin.

    Args:
        draw: Values of the controls by name -> parts; a ValueError is shown as a message.
        controls: Name -> widget with a ``value``.
        words: What is to be seen, for the twin.
        examples: Settings that the twin shows, each the values that differ from the controls' first ones.
        button: Title of a button that starts the drawing, for views that take longer than a moment; none if empty.

    Attributes:
        controls: As given.
        button: The button, or None.
        parts: What is shown now.
        message: What was wrong with the last setting; empty if nothing was.
        drawings: How often something was drawn.
    """

    def __init__(
        self,
        draw: Draw,
        controls: Mapping[str, Any],
        words: str,
        examples: Sequence[Mapping[str, Any]] = ({},),
        button: str = "",
    ) -> None:
        self._draw, self.controls, self.words, self.examples = draw, dict(controls), words, list(examples)
        self._first = {name: control.value for name, control in self.controls.items()}
        self._kept: OrderedDict[str, list[Part]] = OrderedDict()
        self.parts: list[Part] = []
        self.drawings = 0
        self._message = widgets.HTML()
        self._boxes: list[Any] = []
        self.button = widgets.Button(description=button, button_style="primary") if button else None
        for control in self.controls.values():
            control.layout.max_width = "100%"
            if self.button is None:
                control.observe(lambda change: self.update(), names="value")
        if self.button is not None:
            self.button.on_click(lambda button: self.update())
        shown = [*self.controls.values(), *([self.button] if self.button else [])]
        self._bar = widgets.HBox(shown, layout=widgets.Layout(flex_flow="row wrap"))
        self.widget = widgets.VBox([self._bar, self._message])
        self.update()

    @property
    def message(self) -> str:
        """What was wrong, without markup."""
        return re.sub(r"<[^>]*>", "", self._message.value)

    def _parts(self, values: Mapping[str, Any]) -> list[Part]:
        key = repr(sorted(values.items()))
        if key not in self._kept:
            self._kept[key] = list(self._draw(**values))
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return self._kept[key]

    def update(self) -> None:
        """Draws what the controls say now."""
        if self.button is not None:
            self.button.disabled = True
        try:
            self.parts = self._parts({name: control.value for name, control in self.controls.items()})
            self._message.value = ""
        except ValueError as error:
            self._message.value = f'<span style="color:#b00020">{html.escape(str(error))}</span>'
            return
        finally:
            if self.button is not None:
                self.button.disabled = False
        self.drawings += 1
        kinds = [_box_kind(part) for part in self.parts]
        if kinds != [type(box) for box in self._boxes]:
            self._boxes = [kind() for kind in kinds]
            self.widget.children = (self._bar, self._message, *self._boxes)
        for box, part in zip(self._boxes, self.parts):
            if isinstance(part, str):
                box.value = f'<p style="margin:4px 0;line-height:1.45">{html.escape(part)}</p>'
            elif isinstance(part, Image.Image):
                box.layout.max_width, box.layout.object_fit, box.layout.align_self = "100%", "contain", "flex-start"
                box.value = png(part)
            else:
                data = {PLOTLY: json.loads(part.to_json()), "text/plain": self.words}
                box.outputs = ({"output_type": "display_data", "data": data, "metadata": {}},)

    def twin(self) -> Image.Image | None:
        """The examples below each other: their settings, pictures and text. None if nothing of them can be drawn."""
        drawn = [(settings, self._parts({**self._first, **settings})) for settings in self.examples]
        charts = [part for _, parts in drawn for part in parts if isinstance(part, go.Figure)]
        stills = iter(_stills(charts, WIDTH))
        blocks: list[Image.Image] = []
        seen = False
        for settings, parts in drawn:
            if settings:
                named = (f"{self.controls[name].description} = {_said(value)}" for name, value in settings.items())
                blocks.append(_lines(", ".join(named), 18, INK))
            for part in parts:
                still = next(stills) if isinstance(part, go.Figure) else part
                if isinstance(still, Image.Image):
                    seen = True
                    # Figures come with 1.5 pixels for one, pictures with one: both end at the width of the page.
                    size = (WIDTH, WIDTH * still.height // still.width)
                    blocks.append(still if still is part else still.resize(size, Image.Resampling.LANCZOS))
                elif isinstance(still, str):
                    blocks.append(_lines(still, 15, "#555555"))
        return _stack(blocks) if seen else None

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        data: dict[str, Any] = {**self.widget._repr_mimebundle_(), "text/plain": self.words}
        metadata: dict[str, Any] = {}
        if os.environ.get(TWINS) and (still := self.twin()) is not None:
            more, metadata = _image_data(still, self.words, WIDTH)
            data |= more
        return data, metadata


def _box_kind(part: Part) -> type:
    return widgets.HTML if isinstance(part, str) else widgets.Image if isinstance(part, Image.Image) else widgets.Output


def _said(value: Any) -> str:
    if isinstance(value, tuple):
        return " to ".join(map(_said, value))
    return f"{value:g}" if isinstance(value, float) else _cell(value)


def _lines(words: str, size: int, color: str) -> Image.Image:
    """Text broken to the width of the page."""
    font = ImageFont.load_default(size=size)
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) > WIDTH - 12 and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    canvas = Image.new("RGB", (WIDTH, 8 + len(lines) * (size + 6)), GROUND)
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        draw.text((4, 4 + number * (size + 6)), line, fill=color, font=font)
    return canvas


def _stack(blocks: Sequence[Image.Image]) -> Image.Image:
    canvas = Image.new("RGB", (max(b.width for b in blocks), sum(b.height for b in blocks)), GROUND)
    top = 0
    for block in blocks:
        canvas.paste(block, (0, top))
        top += block.height
    return canvas


def _slider(name: str, value: float, low: float, high: float, step: float = 0.01) -> Any:
    kind = widgets.IntSlider if isinstance(value, int) else widgets.FloatSlider
    return kind(value=value, min=low, max=high, step=step, description=name, continuous_update=False)


def _menu(name: str, choices: Iterable[Any], value: Any = None) -> Any:
    listed = list(choices)
    return widgets.Dropdown(options=listed, value=listed[0] if value is None else value, description=name)


def _titled(names: Iterable[str]) -> list[str]:
    """What the members are, in words."""
    return [TITLES[zoo.info(name).time_conditioning] for name in names]


# Diffusion -----------------------------------------------------------------------------------------------------------------


def noising(images: Tensor) -> View:
    """Clean picture, noise and their mixture at any t, on any path.

    Args:
        images: uint8 (N, 3, H, W).
    """

    def draw(number: int, t: float, path: str) -> list[Part]:
        schedule, time_ = SCHEDULES[path], torch.tensor(t, dtype=torch.float64)
        x0 = to_float(images[number : number + 1])
        eps = keyed_noise([number], x0.shape[1:])
        alpha, sigma, logsnr = (f(time_).item() for f in (schedule.alpha, schedule.sigma, schedule.logsnr))
        trio = torch.cat([x0, eps / 2, add_noise(x0, eps, t, schedule)])  # noise at half its size, or a third would be cut off
        said = f"alpha = {alpha:.3f}, sigma = {sigma:.3f}, log SNR = {logsnr:.2f}"
        return [sheet({"": trio}, ["x0", "eps / 2", "xt"]), said]

    controls = {
        "number": _slider("picture", 0, 0, len(images) - 1, 1), "t": _slider("t", 0.5, 0.01, 0.99),
        "path": _menu("path", SCHEDULES, "flow"),
    }  # fmt: skip
    examples: list[dict[str, Any]] = [{"t": 0.2}, {"t": 0.5}, {"t": 0.8}, {"t": 0.8, "path": "ddpm-cosine"}]
    return View(draw, controls, "A clean picture, noise, and their mixture at several t.", examples)


def one_step(denoisers: Sequence[Denoiser], images: Tensor) -> View:
    """What each model makes of a noisy picture in one evaluation, at any t.

    Args:
        denoisers: Of the zoo, on one schedule.
        images: uint8 (N, 3, H, W).
    """
    titles = _titled(denoiser.name for denoiser in denoisers)

    def draw(number: int, t: float, seed: int) -> list[Part]:
        x0 = to_float(images[number : number + 1])
        xt = add_noise(x0, keyed_noise([seed], x0.shape[1:]), t, denoisers[0].schedule)
        with torch.no_grad():
            guesses = {title: denoiser(xt, t) for title, denoiser in zip(titles, denoisers)}
        errors = [f"{title} {(guess - x0).square().mean().item():.4f}" for title, guess in guesses.items()]
        strip = torch.cat([x0, xt, *guesses.values()])
        columns = ["x0", "xt", *(title.removesuffix(" the time") for title in titles)]
        return [sheet({"": strip}, columns), "Squared error of x0_hat for each value: " + ", ".join(errors) + "."]

    controls = {
        "number": _slider("picture", 0, 0, len(images) - 1, 1), "t": _slider("t", 0.5, 0.02, 0.98),
        "seed": _slider("seed", 0, 0, 20, 1),
    }  # fmt: skip
    words = "A picture, the picture with noise, and the estimates of x0 at several t."
    return View(draw, controls, words, [{"t": 0.25}, {"t": 0.5}, {"t": 0.75}, {"t": 0.95}])


def film(record: Comparison) -> View:
    """A recorded run of two members, step by step: states or estimates, and how far apart they are."""
    frames = record.frames

    def draw(step: int, shown: str) -> list[Part]:
        frame = frames[step]
        pictures = getattr(frame, shown)
        apart = f"{frame.difference_xt:.3f} of xt, {frame.difference_x0:.3f} of x0_hat"
        return [sheet(dict(zip(record.titles, pictures))), f"t = {frame.t:.2f}. Mean absolute difference: {apart}."]

    last = len(frames) - 1
    controls = {"step": _slider("step", last, 0, last, 1), "shown": _menu("shown", ["xt", "x0_hat"])}
    examples = [{"step": number} for number in (0, last // 2, 3 * last // 4, last)]
    return View(draw, controls, f"{record.pair}: both members at several steps of {record.sampler}.", examples)


def compare(pairs: Sequence[str], count: int = 6, **first: Any) -> View:
    """Both members of a pair from the same noise, with the sampler's settings to choose.

    Args:
        pairs: Names of pairs.
        count: Images.
        first: Settings to begin with: sampler, steps, eta, clamp, seed.
    """
    start: dict[str, Any] = {"sampler": "heun", "steps": 10, "eta": 0.0, "clamp": False, "seed": 0} | first
    members = functools.cache(lambda pair: [zoo.load(name) for name in zoo.members_of(pair)])

    def draw(pair: str, sampler: str, steps: int, eta: float, clamp: bool, seed: int) -> list[Part]:
        wanted: dict[str, Any] = {"eta": eta, "clamp": clamp}
        chosen = {name: value for name, value in wanted.items() if name in options(sampler)}
        asked = {"pair": pair, "sampler": sampler, "steps": steps, "seed": seed, "count": count}
        [(_, record)] = deque(Compare.parse(asked | chosen, live=True).stream(members(pair)), maxlen=1)
        told, untold = record.spread
        said = f"Mean absolute difference of the samples: {record.differences[-1]['xt']:.3f}; standard deviations of their "
        said += (
            f"values {told:.3f} and {untold:.3f} (photographs: about 0.5). {record.evaluations} evaluations of each network."
        )
        return [sheet(dict(zip(record.titles, record.frames[-1].xt))), said]

    controls = {
        "pair": _menu("pair", pairs), "sampler": _menu("sampler", SAMPLERS, start["sampler"]),
        "steps": _slider("steps", start["steps"], 1, 50, 1), "eta": _slider("eta", start["eta"], 0.0, 1.0, 0.1),
        "clamp": widgets.Checkbox(start["clamp"], description="clamp x0_hat"),
        "seed": _slider("seed", start["seed"], 0, 1000, 1),
    }  # fmt: skip
    examples = [{"pair": pair} for pair in pairs]
    return View(draw, controls, "Samples of both members from the same noise.", examples, button="Sample")


# The exact theory ------------------------------------------------------------------------------------------------------------


def posterior(images: Tensor, dataset: str = "celeba") -> View:
    """p(t | xt) of a picture under three priors: a fitted Gaussian, the pictures at hand, and this very picture.

    Args:
        images: uint8 (N, 3, H, W), of the size of the fitted Gaussian.
        dataset: Of the shipped Gaussian.
    """
    gaussian = bayes.fitted_gaussian(dataset, images.shape[-1])
    finite = bayes.FiniteSet(images, f"one of {len(images)} pictures, no others")

    def draw(number: int, t: float, path: str) -> list[Part]:
        schedule, x0 = SCHEDULES[path], to_float(images[number : number + 1])
        xt = add_noise(x0, keyed_noise([number], x0.shape[1:]), t, schedule)
        priors = {"fitted Gaussian": gaussian, "these pictures": finite, "this very picture": bayes.FiniteSet(x0)}
        rows, said = [], []
        for name, prior in priors.items():
            read = bayes.posterior(prior, xt, bayes.Levels.spaced(schedule, prior.dimension, prior.energy))
            p = read.log_probability[0].exp()
            density = (p / read.levels.edges.diff()).tolist()
            likely = [
                (a, b) for a, b in zip(read.levels.t.tolist(), density) if b > 1e-4 * max(density)
            ]  # the rest is no curve
            rows.append({"name": name, "t": [a for a, _ in likely], "density": [b for _, b in likely]})
            said.append(f"{name}: t = {read.mean().item():.4f} ± {read.std().item():.4f}")
        return [figures.posterior_curves(rows, t), "; ".join(said) + "."]

    controls = {
        "number": _slider("picture", 0, 0, len(images) - 1, 1), "t": _slider("t", 0.3, 0.02, 0.98),
        "path": _menu("path", SCHEDULES, "flow"),
    }  # fmt: skip
    words = "The posterior of t of one noisy picture under three priors, near the data and near pure noise."
    return View(draw, controls, words, [{"t": 0.1}, {"t": 0.9}])


def exact(prediction: str = "eps", path: str = "ddpm-cosine", resolution: int = 32, count: int = 16, steps: int = 25) -> View:
    """Samples of the exact denoiser of Gaussian images, with t hidden on a part of the path; from t = .999, or .99 on the
    linear schedule, whose alpha is as small there.

    Args:
        prediction: To begin with, a key of ``PREDICTIONS``.
        path: To begin with, a key of ``SCHEDULES``.
        resolution: Height and width of the images.
        count: Images, at least 8.
        steps: Of DDIM.
    """
    prior, shape = bayes.spectral_gaussian(resolution, basis="dct"), (3, resolution, resolution)

    def draw(target: str, path: str, hidden: tuple[float, float], eta: float) -> list[Part]:
        rows, said = {}, []
        for title, where in ((TITLES["timestep"], None), (f"not told t from {hidden[0]:g} to {hidden[1]:g}", hidden)):
            levels = bayes.Levels.midpoints(SCHEDULES[path])
            denoiser = bayes.bayes_denoiser(prior, levels, target, shape, hidden=where)
            seeds = list(range(count))
            start = 0.99 if path == "ddpm-linear" else 0.999
            walk = SAMPLERS["ddim"](denoiser, keyed_noise(seeds, shape).double(), steps, seeds=seeds, eta=eta, start=start)
            [last] = deque(walk, maxlen=1)
            rows[title] = last.xt[:8].float()
            said.append(f"{title}: {bayes.relative_frechet(prior, last.xt):.3g}")
        floor = 1 / (2 * count)
        about = f"Relative Frechet distance of {count} samples (perfect ones have about {floor:.3f})."
        return [sheet(rows), f"{about} {'; '.join(said)}."]

    controls = {
        "target": _menu("target", ["eps", "x0", "v"], prediction), "path": _menu("path", ["ddpm-cosine", "ddpm-linear"], path),
        "hidden": widgets.FloatRangeSlider(value=(0.0, 1.0), min=0.0, max=1.0, step=0.05, description="t hidden",
                                           continuous_update=False),
        "eta": _slider("eta", 0.0, 0.0, 1.0, 0.1),
    }  # fmt: skip
    examples = [{"hidden": (0.0, 0.5)}, {"hidden": (0.95, 1.0)}]
    words = "Samples of the exact denoiser, told t and not told t on a part of the path."
    return View(draw, controls, words, examples, button="Sample")


# The clock inside ------------------------------------------------------------------------------------------------------------


def layer_reading(atlases: Sequence[Mapping[str, Any]]) -> View:
    """What a layer's probe reads at every noise level, both members, from their atlases.

    Args:
        atlases: What ``atlas.json`` of the members holds.
    """
    titles = _titled(atlas["model"] for atlas in atlases)
    names = [row["name"] for row in atlases[0]["layers"] if row["view"] == "mean_std" and row["name"] != "input"]

    def draw(layer: str, view: str) -> list[Part]:
        said = []
        for title, atlas in zip(titles, atlases):
            row = next(row for row in atlas["layers"] if (row["name"], row["view"]) == (layer, view))
            error, gain = row["error_over_yardstick_by_region"]["near the data"][0], row["gain_by_region"]["near the data"][0]
            said.append(f"{title}: {error:.1f} yardsticks, {gain:.2f} times as near as a random network")
        return [
            figures.reading_curve(list(map(dict, atlases)), titles, layer, view),
            "Error near the data. " + "; ".join(said) + ".",
        ]

    controls = {"layer": _menu("layer", names, "down.2.block.0" if "down.2.block.0" in names else names[-1]),
                "view": _menu("features", ["mean_std", "mean"])}  # fmt: skip
    words = "Read against true noise level of a layer of both members."
    return View(draw, controls, words, [{"layer": name} for name in (names[0], names[len(names) // 2])])


def lied_to(denoisers: Sequence[Denoiser], clocks: Sequence[ProbeSet], count: int = 6, steps: int = 8) -> View:
    """Samples of both members while they are told t plus an offset, and the clocks that their best layers imply.

    Args:
        denoisers: Two members of a pair.
        clocks: Their probes.
        count: Images.
        steps: Of Heun's method.
    """
    titles = _titled(denoiser.name for denoiser in denoisers)

    def draw(offset: float, seed: int) -> list[Part]:
        rows, runs, seeds = {}, [], seed_range(seed, count)
        for title, denoiser, clock in zip(titles, denoisers, clocks):
            stream = probes.clock_stream(denoiser, clock, seeds, offset=offset, steps=steps)
            [(step, run)] = deque(stream, maxlen=1)
            rows[title] = step.xt
            runs.append(run)
        spread = ", ".join(f"{title} {images.std().item():.3f}" for title, images in rows.items())
        said = f"Told t {offset:+g}. Standard deviation of the samples' values: {spread}."
        return [sheet(rows), said, figures.clock_curves(runs, titles).update_layout(title=None)]  # said above

    controls = {"offset": _slider("told t plus", 0.0, -0.2, 0.2, 0.05), "seed": _slider("seed", 0, 0, 1000, 1)}
    words = "Samples and implied clocks of both members, told the truth and told a wrong time."
    return View(draw, controls, words, [{"offset": 0.0}, {"offset": 0.15}], button="Sample")


def steering(denoiser: Denoiser, clock: ProbeSet, layers: Sequence[str], count: int = 6, steps: int = 8) -> View:
    """Samples as they are, steered along a layer's direction, and steered along a random one of the same length.

    Args:
        denoiser: The model.
        clock: Its probes.
        layers: Hook points to choose from.
        count: Images.
        steps: Of Heun's method.
    """

    def draw(layer: str, dose: float, direction: str) -> list[Part]:
        found = interventions.steered_samples(
            denoiser, clock, seed_range(0, count), layer, dose, direction=direction, sampler="heun", steps=steps
        )
        gap = found["difference"]
        said = (
            f"Mean absolute difference from the samples as they are: steered {gap['steered']:.3f}, random {gap['control']:.3f}."
        )
        titles = {
            "plain": "as it is",
            "steered": f"reading moved by {dose:+g}",
            "control": "random direction of the same length",
        }
        return [sheet({titles[name]: images for name, images in found["images"].items()}), said]

    controls = {"layer": _menu("layer", layers), "dose": _slider("dose", -2.0, -4.0, 4.0, 0.5),
                "direction": _menu("direction", interventions.DIRECTIONS)}  # fmt: skip
    words = "Samples as they are, steered, and steered at random."
    return View(draw, controls, words, [{"dose": -2.0}, {"dose": 2.0}], button="Sample")


# Saliency and paths ----------------------------------------------------------------------------------------------------------


def attribution(denoisers: Sequence[Denoiser], clocks: Sequence[ProbeSet], images: Tensor) -> View:
    """Which values of a noisy picture a target depends on, both members on one scale.

    Args:
        denoisers: Two members of a pair.
        clocks: Their probes.
        images: uint8 (N, 3, H, W).
    """
    titles = _titled(denoiser.name for denoiser in denoisers)
    methods = ["saliency", "integrated-gradients", "smoothgrad", "input-x-gradient"]

    def draw(number: int, t: float, target: str, method: str) -> list[Part]:
        x0 = to_float(images[number : number + 1])
        xt = add_noise(x0, keyed_noise([number], x0.shape[1:]), t, denoisers[0].schedule)
        found = [
            saliency.attribute(denoiser, xt, t, target, method, clock=clock, steps=8, checks=())
            for denoiser, clock in zip(denoisers, clocks)
        ]
        maps, shown = [one.map[0] for one in found], to_uint8(xt)[0].permute(1, 2, 0).tolist()
        drawn = figures.saliency_maps(
            [shown] * 2, [one.tolist() for one in maps], titles, saliency.scale_of(maps), signed=found[0].signed,
            value="contribution" if found[0].signed else "sensitivity",
        )  # fmt: skip
        values = ", ".join(f"{title} {one.output[0].item():.2f}" for title, one in zip(titles, found))
        return [drawn, f"{target} of the picture at t = {t:g}: {values}."]

    controls = {
        "number": _slider("picture", 0, 0, len(images) - 1, 1), "t": _slider("t", 0.3, 0.05, 0.95),
        "target": _menu("target", ["implied-clock", "noise-norm", "x0-region"]), "method": _menu("method", methods),
    }  # fmt: skip
    examples = [{"t": 0.1}, {"t": 0.7}]
    return View(draw, controls, "Saliency maps of both members over the noisy picture.", examples)


def paths(recorded: Trajectories, drawn: Map, at: int | None = None) -> View:
    """One map of both members' paths, with a path and a step to choose, and the pictures there.

    Args:
        recorded: The paths.
        drawn: Their projection.
        at: The kept step to begin with; by default the last.
    """
    frames = len(recorded.t)
    times = recorded.t.tolist()

    def draw(image: int, step: int) -> list[Part]:
        chart = figures.trajectory_map(
            drawn.coordinates.tolist(), recorded.titles, times, at=step, chosen=image, indices=recorded.index.tolist()
        )
        rows = {
            title: torch.stack([recorded.pictures(space, image, step)[member] for space in ("xt", "x0_hat")])
            for member, title in enumerate(recorded.titles)
        }
        return [chart.update_layout(height=420), sheet(rows, ["xt", "x0_hat"]), f"Image {image + 1} at t = {times[step]:.2f}."]

    controls = {"image": _slider("image", 0, 0, len(recorded.seeds) - 1, 1),
                "step": _slider("step", frames - 1 if at is None else at, 0, frames - 1, 1)}  # fmt: skip
    words = f"Paths of both members on one {drawn.projection} map of {drawn.space}."
    return View(draw, controls, words, [{"step": frames // 2}, {"step": frames - 1}])


# The course ------------------------------------------------------------------------------------------------------------------


def course(folder: Path = NOTEBOOKS) -> list[dict[str, str]]:
    """The notebooks in their order: ``name``, ``title``, ``question`` and ``time``, as their first cells say.

    Raises:
        ValueError: For a notebook whose first cell has no title, question or running time.
    """
    found = []
    for path in sorted(folder.glob("[0-9][0-9]_*.ipynb")):
        first = "".join(files.read_json(path)["cells"][0]["source"])
        parts = {}
        for key, pattern in (
            ("title", r"^# (.+)$"), ("question", r"\*\*Question\.\*\*\s+(.+?)(?:\n\n|$)"),
            ("time", r"\*\*Running time\.\*\*\s+(.+?)(?:\n\n|$)"),
        ):  # fmt: skip
            match = re.search(pattern, first, re.MULTILINE if key == "title" else re.DOTALL)
            if match is None:
                raise ValueError(f"the first cell of {path.name} says no {key}")
            parts[key] = " ".join(match[1].split())
        found.append({"name": path.stem, **{key: text.replace("*", "") for key, text in parts.items()}})  # no emphasis
    return found


def _is_progress(output: Mapping[str, Any]) -> bool:
    """Whether an output is a progress bar, which says nothing any more when the work is done."""
    data = output.get("data", {})
    return WIDGET in data and "image/png" not in data and re.search(r"\d+%\||\d+it \[", data.get("text/plain", "")) is not None


def execute(path: Path, out: Path | None = None) -> dict[str, Any]:
    """Runs a notebook from top to bottom in a fresh kernel and writes it with its outputs.

    Widgets are left out of what is written, their static twins stay: a page without the kernel could not draw them.

    Args:
        path: Of the notebook.
        out: Where it is written; by default in its place.

    Returns:
        ``name``, ``seconds`` and ``bytes``.

    Raises:
        ValueError: If a cell fails, prints a warning or the path of this machine, or the whole is too large.
    """
    import nbformat  # here, where they are used: JupyterLab brings them
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = nbformat.read(path, as_version=4)
    began = time.monotonic()
    client = NotebookClient(
        notebook, timeout=900, resources={"metadata": {"path": str(path.parent)}}, record_timing=False, store_widget_state=False
    )
    try:
        client.execute(env={**os.environ, TWINS: "1"})
    except CellExecutionError as error:
        raise ValueError(f"{path.name}: {re.sub(chr(27) + r'[^m]*m', '', str(error)).strip()[-600:]}") from None
    seconds = time.monotonic() - began
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_progress(output)]
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and output.name == "stderr":
                raise ValueError(f"{path.name}: a cell warns: {output.text.strip()[:300]}")
            if output.get("data", {}).get(WIDGET) is not None:
                del output.data[WIDGET]
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    text = nbformat.writes(notebook) + "\n"
    for place in {str(Path.home()), str(NOTEBOOKS.parent)}:
        if len(place) > 1 and f"{place}/" in text:
            raise ValueError(f"{path.name}: an output holds a path of this machine, {place}")
    if len(text.encode()) > MAX_BYTES:
        raise ValueError(f"{path.name} takes {len(text.encode()):,} bytes with its outputs, at most {MAX_BYTES:,}")
    files.write_atomically(out or path, text)
    return {"name": path.stem, "seconds": round(seconds, 1), "bytes": len(text.encode())}
