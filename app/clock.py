"""The tab Clock: what the members of a pair know of the noise level, and what they do with it.

Four sections: the atlas of every layer, the clock read while sampling (also while the network is lied to), steering along
the direction that a probe reads, and a ruler on which every reader of one noisy picture has its place. The work is that of
:mod:`explore.probes` and :mod:`explore.interventions`; this file reads the settings, shows what comes while it comes, and
puts it into words. Only pairs with an atlas are offered.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import html
import math
import random
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np
import torch
from torch import Tensor

from app import common
from explore import bayes, figures, files, interventions, probes, zoo
from explore.activations import level_times
from explore.data import add_noise, to_float, to_uint8
from explore.denoiser import Denoiser
from explore.probes import Clock
from explore.samplers import MAX_STEPS, Sampling, Step
from explore.seeds import MAX_SEED, keyed_noise, seed_range
from explore.values import choose

MAX_IMAGES = 16  # of a run: two or three of them share one queue with everybody else
MAX_OFFSET, MAX_DOSE, MAX_LOGSNR = 0.3, 4.0, 8.0
HIDDEN = 6.0  # a hidden amount of noise lies from minus this to this: beyond, pictures look alike
UPDATE_SECONDS, CURVE_SECONDS = 0.12, 0.4  # pictures and curves that come faster are not sent
BEST = ""  # in the place of a layer: the best one near the data, each member its own

VALUES = {"error / yardstick": "error_over_yardstick", "error": "error", "bias": "bias"}
VIEWS = {"means and spreads": "mean_std", "means": "mean"}
# What the network was told while the probe was fitted -> what the probe can therefore read.
GIVEN = {"independent": "picture alone", "true": "picture and label"}
# Examples: offset of the clock; number of the member and dose; log SNR.
LIES = {"Told the truth": 0.0, "Lied to: .2 too noisy": 0.2, "Lied to: .2 too clean": -0.2}
PUSHES = {"never told, as if cleaner": (1, 2.0), "never told, as if noisier": (1, -2.0), "told, as if cleaner": (0, 2.0)}
NOISES = {"a little noise": 5.0, "as much noise as picture": 0.0, "hardly any picture": -5.0}
RUN_TITLES = {"plain": "as it is", "steered": "steered", "control": "random direction"}


# Settings ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """What a sampling run of this tab is made of.

    Attributes:
        pair: A pair of the checkpoint index.
        seed: Of the first image, 0 to 2^32 - 1; the others follow.
        count: Number of images, 1 to 16.
        steps: 1 to 1000, of the sampler that suits the pair.
    """

    pair: str
    seed: int
    count: int
    steps: int

    @property
    def seeds(self) -> list[int]:
        """One an image."""
        return seed_range(self.seed, self.count)

    @property
    def sampler(self) -> dict[str, Any]:
        """The keyword arguments of the sampler that suits the pair, with these steps."""
        return Sampling.for_model(common.members(self.pair)[0]).arguments | {"steps": self.steps}


def read_settings(pair: Any, seed: Any, count: Any, steps: Any) -> Settings:
    """Settings from controls or a call, each checked.

    Raises:
        ValueError: For the first value that is not allowed, saying what is.
    """
    return Settings(
        pair=choose("pair", str(pair)[:100], zoo.pairs()),
        seed=int(common.number("seed", seed, 0, MAX_SEED, whole=True)),
        count=int(common.number("the number of images (count)", count, 1, MAX_IMAGES, whole=True)),
        steps=int(common.number("steps", steps, 1, MAX_STEPS, whole=True)),
    )


# Models, probes and atlases ------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=16)
def clocks(pair: str) -> list[Clock]:
    """The members' probes.

    Raises:
        ValueError: If they are missing, or were fitted to other weights.
    """
    return [probes.load(info.name) for info in common.members(pair)]


@functools.lru_cache(maxsize=16)
def atlases(pair: str) -> list[dict[str, Any]]:
    """What the members' ``atlas.json`` hold.

    Raises:
        ValueError: If they are missing, were made of other weights, or cannot be put side by side.
    """
    clocks(pair)
    found = [files.read_json(zoo.ROOT / info.name / "atlas.json") for info in common.members(pair)]
    if any((atlas["target"], atlas["levels"]) != (found[0]["target"], found[0]["levels"]) for atlas in found):
        raise ValueError(f"the atlases of {pair} have different targets or noise levels, and no common scale")
    return found


def shared_layers(pair: str, view: str = "mean") -> list[str]:
    """Layers of which both members have a probe of ``view``, in the order of evaluation."""
    first, second = (clock.layers(view) for clock in clocks(pair))
    return [name for name in first if name in second]


@functools.lru_cache
def offered() -> tuple[list[str], dict[str, str]]:
    """Pairs with an atlas of both members; and of the others, why they are not offered."""
    able, refused = [], {}
    for pair in common.comparable_pairs():
        lacking = [info.name for info in common.members(pair) if not (zoo.ROOT / info.name / "atlas.json").is_file()]
        try:
            if not lacking:
                atlases(pair)
                able.append(pair)
            else:
                refused[pair] = f"no atlas of {' and '.join(lacking)}"
        except (ValueError, KeyError) as error:
            refused[pair] = str(error)
    return able, refused


def models(pair: str) -> list[Denoiser]:
    """The members' models with networks of their own: a hook of a run that was stopped is not heard by the next one."""
    return [
        Denoiser(copy.deepcopy(one.network), one.schedule, one.prediction, one.shape, one.name)
        for one in common.denoisers(pair)
    ]


@functools.lru_cache(maxsize=16)
def gaussian(pair: str) -> bayes.DiagonalGaussian | None:
    """The Gaussian fitted to the pair's training images, if one is shipped."""
    info = common.members(pair)[0]
    with contextlib.suppress(ValueError):
        return bayes.fitted_gaussian(info.dataset, info.resolution)
    return None


def warm_up() -> None:
    """Imports what the first use would wait for."""
    import skimage.restoration  # noqa: F401

    if offered()[0]:
        common.bank(offered()[0][0])


def _sharper_view(pair: str, layer: str) -> str:
    return "mean_std" if layer in shared_layers(pair, "mean_std") else "mean"


def stream_clocks(
    settings: Settings, offset: float = 0.0, layer: str = BEST
) -> Iterator[tuple[list[Step], list[dict[str, Any]]]]:
    """Both members from the same noise: their Steps, and their runs so far as :func:`explore.probes.clock_stream` gives them.

    A member that hears the time is read by two probes: one that can only know the picture, and one that may use the label.
    """
    layers = [layer] if layer else None
    view = _sharper_view(settings.pair, layer)
    streams = []
    for model, clock in zip(models(settings.pair), clocks(settings.pair)):
        given = list(GIVEN) if any(given == "true" for given, *_ in clock.probes) else "independent"
        streams.append(
            probes.clock_stream(
                model, clock, settings.seeds, layers=layers, view=view, given=given, offset=offset, **settings.sampler
            )
        )
    try:
        for both in zip(*streams):
            yield [step for step, _ in both], [run for _, run in both]
    finally:
        for stream in streams:
            stream.close()  # also when the page stops the run or is closed


def run_code(settings: Settings, offset: float, layer: str) -> str:
    """Python that reads the clocks of a run."""
    named = {"layers": [layer], "view": _sharper_view(settings.pair, layer)} if layer else {}
    seeds = common.seeds(settings.seed, settings.count)
    stream = common.call("probes.clock_stream", "=model", "=clock", seeds, offset=offset, **named, **settings.sampler)
    return f"""from explore import probes, zoo
from explore.seeds import seed_range
{common.loaded(settings.pair)}
clocks = [probes.load(model.name) for model in models]
runs = [list({stream})[-1][1] for model, clock in zip(models, clocks)]
[(run["t"], run["true"], run["layers"][0]["mean"]) for run in runs]  # by evaluation; mean over the images
"""


def steer_code(settings: Settings, member: int, layer: str, dose: float) -> str:
    """Python that samples one member as it is, steered, and steered at random."""
    name = common.members(settings.pair)[member].name
    seeds = common.seeds(settings.seed, settings.count)
    asked = {"seed": settings.seed, **settings.sampler}
    stream = common.call("interventions.steered_stream", "=model", "=clock", seeds, layer, dose, **asked)
    return f"""from explore import interventions, probes, zoo
from explore.seeds import seed_range
model, clock = {common.call("zoo.load", name)}, {common.call("probes.load", name)}
images = {{run: step.xt for run, step in {stream}}}  # the last step of each run
interventions.steered_figures(images)
"""


def clock_path(pair: str, offset: float) -> dict[str, list[float]]:
    """The clocks along the whole way from noise to data: ``t``, the ``true`` one, and what the network is ``told``."""
    denoiser, clock = common.denoisers(pair)[0], clocks(pair)[0]
    t = torch.linspace(1e-3, min(denoiser.start, 0.999), 150, dtype=torch.float64)
    values = probes.TARGETS[clock.target].values
    true, told = (values(denoiser.schedule, times).tolist() for times in (t, (t + offset).clamp(0, 1)))
    return {"t": t.tolist(), "true": true, "told": told}


def off_by(run: dict[str, Any], layer: dict[str, Any], levels: Sequence[float]) -> float:
    """Mean of implied minus true clock over the evaluations whose true level the probes were fitted to."""
    gaps = [mean - true for mean, true in zip(layer["mean"], run["true"]) if min(levels) <= true <= max(levels)]
    return float(np.mean(gaps)) if gaps else math.nan


# Pictures for the ruler ----------------------------------------------------------------------------------------------


def noisy(pair: str, picture: Tensor, logsnr: float, seed: int) -> Tensor:
    """``picture`` uint8 (3, H, W) with noise of ``seed``, float32 (1, 3, H, W)."""
    schedule = common.denoisers(pair)[0].schedule
    eps = keyed_noise([seed], picture.shape)
    return add_noise(to_float(picture)[None], eps, level_times(schedule, [logsnr]).item(), schedule)


def measure(pair: str, picture: Tensor, logsnr: float, seed: int) -> list[dict[str, Any]]:
    """Every reader's opinion on ``picture`` with that noise, as :func:`explore.probes.ruler` gives it."""
    members = dict(zip(common.titles(pair), zip(models(pair), clocks(pair))))
    return probes.ruler(noisy(pair, picture, logsnr, seed), members, gaussian(pair), to_float(picture)[None])


def ruler_code(pair: str, number: int | None, logsnr: float, seed: int) -> str:
    """Python that asks every reader: about the bundled picture of this number, from 1, or an upload for None."""
    info = common.members(pair)[0]
    prior = common.call("bayes.fitted_gaussian", info.dataset, info.resolution) if gaussian(pair) is not None else None
    lines = [
        "from explore import bayes, probes, zoo", "from explore.activations import level_times", common.loaded(pair),
        *common.pictured(info.dataset, info.resolution, number),
        "schedule, x0 = models[0].schedule, to_float(picture)[None]",
        f"t = level_times(schedule, [{logsnr!r}]).item()",
        f"xt = add_noise(x0, keyed_noise([{seed}], picture.shape), t, schedule)",
        "members = {model.name: (model, probes.load(model.name)) for model in models}",
        f"probes.ruler(xt, members, {prior}, x0)  # rows of reader, value, low and high",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def atlas_code(pair: str, view: str, value: str) -> str:
    """Python that gives the maps: a figure by layer and level for both members."""
    names = [info.name for info in common.members(pair)]
    rows = f'[row for row in atlas["layers"] if row["view"] == {view!r} or row["name"] == "input"]'
    return f"""from explore import report
atlases = [report.atlas(name) for name in {names}]
rows = [{rows} for atlas in atlases]
[([row["name"] for row in own], [row[{value!r}] for row in own]) for own in rows]  # by log SNR: atlases[0]["levels"]
"""


# What the page shows -------------------------------------------------------------------------------------------------


def _swatch(colour: str) -> str:
    return f'<i class="swatch" style="background:{colour}"></i>'


def layer_menu(pair: str, view: str) -> list[tuple[str, str]]:
    """Layers that both atlases have in ``view``, and the readers of the picture alone, by label."""
    rows = [[(row["name"], row["view"]) for row in atlas["layers"]] for atlas in atlases(pair)]
    common_rows = [row for row in rows[0] if row in rows[1]]
    layers = [(name, name) for name, own in common_rows if own == view and name != "input"]
    return layers + [(f"({own}: the picture alone)", f"input:{own}") for name, own in common_rows if name == "input"]


def _row_key(layer: str, view: str) -> tuple[str, str]:
    """Name and view of the atlas row that a value of the layer menu means."""
    name, _, reader = layer.partition(":")
    return (name, reader) if name == "input" else (layer, view)


def atlas_facts(pair: str, layer: str, view: str, level: float) -> str:
    """The figures of one layer at one noise level, for both members."""
    key, found = _row_key(layer, view), atlases(pair)
    rows = [next(row for row in atlas["layers"] if (row["name"], row["view"]) == key) for atlas in found]
    number = found[0]["levels"].index(level)

    def interval(values: Sequence[float], digits: int = 3) -> str:
        return f" <small>[{values[0]:.{digits}f}, {values[1]:.{digits}f}]</small>"

    def gain(row: dict[str, Any]) -> str:
        own = row["gain_by_region"].get("near the data")
        return f"{own[0]:.2f}{interval(own[1:], 2)}" if own else "none"

    def drawn(row: dict[str, Any]) -> str:
        return f"{row['r2_random_network']:.3f}" if row["r2_random_network"] is not None else "none"

    lines = [
        ("R² over all levels", [f"{row['r2']:.3f}{interval(row['r2_interval'])}" for row in rows]),
        ("R² in a network drawn at random", [drawn(row) for row in rows]),
        ("selectivity", [f"{row['selectivity']:.3f}" for row in rows]),
        (f"error at log SNR {level:g}", [f"{row['error'][number]:.3f}" for row in rows]),
        ("error / yardstick there", [f"{row['error_over_yardstick'][number]:.2f}" for row in rows]),
        ("gain over random, near the data", [gain(row) for row in rows]),
    ]
    head = [_swatch(colour) + html.escape(title) for title, colour in zip(common.titles(pair), common.colours(pair))]
    name = key[0] if key[0] != "input" else key[1]
    caption = f"<b>{html.escape(name)}</b>, on {found[0]['images']} held-out images"
    return common.table(caption, ["", *head], [[name, *values] for name, values in lines])


ATLAS_NOTE = (
    "<p class='note'><b>Yardstick</b>: the width that an unbiased reader can reach who knows the clean picture; less is "
    "possible with bias, as at the ends of the range. <b>Selectivity</b>: R² minus that of a probe for shuffled noise levels. "
    "<b>Gain</b>: how many times larger the error is "
    "in a network that learned nothing. Brackets hold 95 % of bootstrap draws over images. One training seed: part of a "
    "difference between the members is chance. A member that hears the time was told a random one here, so that its layers can "
    "only know the noise level from the picture.</p>"
)


def run_view(pair: str, states: Sequence[Tensor] | None) -> str:
    """The states of both members, uint8 (N, 3, H, W) each, or what will appear."""
    cells = []
    for member, (title, colour) in enumerate(zip(common.titles(pair), common.colours(pair))):
        body = '<div class="empty">from noise to image, step by step</div>'
        if states is not None:
            body = common.picture(states[member], f"{title}, a grid of images")
        cells.append(common.cell(f"member-{member}", colour, title, "", body))
    return f'<div class="pictures two">{"".join(cells)}</div>'


def run_curves(pair: str, runs: Sequence[dict[str, Any]], offset: float) -> Any:
    """The implied clocks so far, over the true one and over what the network is told."""
    named = [
        {**run, "layers": [{**layer, "name": GIVEN[layer["given"]]} for layer in run["layers"]]} for run in runs
    ]  # the figure names several lines of one run by their layers
    blank = {"target": clocks(pair)[0].target, "offset": offset, "t": [], "layers": []}
    figure = figures.clock_curves(
        named or [blank], common.titles(pair), common.colours(pair), path=clock_path(pair, offset)
    )  # fmt: skip
    return figure.update_layout(height=420)


def run_summary(
    settings: Settings, offset: float, runs: Sequence[dict[str, Any]], samples: Sequence[Tensor], seconds: float,
    truthful: Sequence[Tensor] | None,
) -> str:  # fmt: skip
    """The figures of a finished run."""
    rows = []
    for run, title, colour, clock in zip(
        runs, common.titles(settings.pair), common.colours(settings.pair), clocks(settings.pair)
    ):
        for layer in run["layers"]:
            words = f", {GIVEN[layer['given']]}" if len(run["layers"]) > 1 else ""
            rows.append(
                [
                    f"{_swatch(colour)}{html.escape(title)}{words}",
                    f"{html.escape(layer['name'])} <small>({layer['view']})</small>",
                    f"{off_by(run, layer, clock.levels):+.2f}",
                ]
            )
    unit = figures.UNITS[runs[0]["target"]]
    said = [f"<b>Finished</b> after {seconds:.1f} s ({settings.sampler['sampler']}, {settings.steps} steps)."]
    if offset:
        for run, title in zip(runs, common.titles(settings.pair)):
            if len(run["layers"]) == 1:  # it does not hear the time
                said.append(
                    f"<b>The member that is {html.escape(title)} cannot notice the lie:</b> it has no input for the time, so "
                    "its pictures and its clock are those of the run without."
                )
        if truthful is not None:
            changes = [(after - before).abs().mean().item() for after, before in zip(samples, truthful)]
            said.append(
                "Mean |difference| of the pictures from the run told the truth: "
                + ", ".join(f"{html.escape(title)} <b>{c:.4f}</b>" for title, c in zip(common.titles(settings.pair), changes))
                + "."
            )
        else:
            said.append("Run it once at offset 0 to see by how much the pictures change.")
    table = common.table(
        f"Implied clock against the true one, mean over the run, in {unit}", ["", "layer", "implied minus true"], rows
    )
    return f"<p class='summary'>{' '.join(said)}</p>{table}"


def steering_view(pair: str, member: int, states: Mapping[str, Tensor]) -> str:
    """Samples as they are, steered, and steered at random, uint8 (N, 3, H, W) each, as far as they have come."""
    colour, title = common.colours(pair)[member], common.titles(pair)[member]
    cells = []
    for name, words in RUN_TITLES.items():
        body = '<div class="empty">the same noise</div>'
        if name in states:
            body = common.picture(states[name], f"{title}, {words}, a grid of images")
        cells.append(common.cell(name, colour if name != "control" else "#7f7f7f", words, "", body))
    return f'<div class="pictures three">{"".join(cells)}</div>'


def steering_summary(layer: str, dose: float, effect: dict[str, Any], seconds: float) -> str:
    """The figures of :func:`explore.interventions.steered_figures`, in words."""
    steered, control = effect["difference"]["steered"], effect["difference"]["control"]
    spread = ", ".join(f"{RUN_TITLES[name]} {value:.3f}" for name, value in effect["std"].items())
    return (
        f"<p class='summary'><b>Finished</b> after {seconds:.1f} s: {html.escape(layer)} moved by {dose:+g}. "
        f"<b>Mean |difference| from the samples as they are: steered {steered:.4f}, random direction {control:.4f}</b> "
        f"(2 is black against white). Standard deviation: {spread}; about 0.5 for photographs. A direction that can be read "
        "but moves the pictures no more than random ones do is not used. One random direction, few images: a first look.</p>"
    )


def ruler_view(pictures: Sequence[tuple[str, str, Tensor]]) -> str:
    """Pictures (title, what it is, uint8 (3, H, W)) enlarged without smoothing."""
    cells = [
        common.cell("plain", "#7f7f7f", title, what, common.picture(picture[None], f"{title}, enlarged"))
        for title, what, picture in pictures
    ]
    return f'<div class="pictures two">{"".join(cells)}</div>'


def ruler_table(rows: Sequence[dict[str, Any]], pair: str) -> str:
    """What each reader says, and what it is."""
    colours = [*common.colours(pair), *["#7f7f7f"] * len(rows)]
    return common.table(
        "log SNR that each reader sees, with an interval of about 95 %. Shown above, the noisy picture is cut off at black and "
        "white; the readers see all of it.",
        ["reader", "reads", "what it is"],
        [
            [
                _swatch(colour) + html.escape(row["reader"]),
                f"{row['value']:.2f} <small>[{row['low']:.2f}, {row['high']:.2f}]</small>",
                html.escape(row["what"]),
            ]
            for row, colour in zip(rows, colours)
        ],
    )


# The tab -------------------------------------------------------------------------------------------------------------

CSS = """
#clock-maps .js-plotly-plot { min-width: 740px; }
@media (max-width: 780px) {
  #clock-maps:has(.js-plotly-plot)::before { content: "Slide the maps sideways: the other member's is to the right.";
    display: block; position: sticky; left: 0; width: fit-content; font-size: .85rem; padding: 6px 10px; }
}
"""

RULER_EMPTY = (
    ("clean", "the picture that is chosen", "#7f7f7f"),
    ("noisy", "with the noise that everyone reads", "#7f7f7f"),
)
SECTIONS = {
    "clock-atlas": (
        "Atlas: where is the noise level known?",
        "A linear probe reads how noisy the input is from every layer; each row is a layer, each column a noise level, and "
        "both members share one scale.",
    ),
    "clock-running": (
        "The clock running",
        "Both members turn the same noise into pictures, while the probe reads at every step how noisy each believes its "
        "picture to be: the implied clock, beside the true one.",
    ),
    "clock-steering": (
        "Steering",
        "A layer is pushed along the direction that the probe reads, as if its picture were noisier or cleaner than it is, and "
        "for comparison just as far in a random direction.",
    ),
    "clock-ruler": (
        "Noise ruler",
        "Noise is added to one picture, and everyone who can read the amount does: both networks, classical estimators, a "
        "statistician with a simple model of pictures, and one who knows the clean picture.",
    ),
}


def tour() -> list[common.Stop]:
    """Where the noise level is known, and who believes a lie."""
    if not offered()[0]:
        return []
    return [
        common.Stop(
            "Inside",
            "So the noise level must come from the picture. Where in the network is it known?",
            "Each row of the maps is a layer, each column a noise level, from noise to data; the brighter, the further a "
            "linear probe is off. The member that is never told has learned to see the level, also near the data, on the "
            "right, where it is hardest; the one that is told has had no need to.",
            "clock-atlas",
        ),
        common.Stop(
            "A lie",
            "Tell both that the picture is noisier than it is, at every step. Whom do they believe, the label or the picture?",
            "What the told member reads with its label in sight (dashed) goes with the lie, and its pictures suffer. The other "
            "has no input that could be lied to: its clock keeps to the true one, its pictures are the same to the last bit. "
            "The first example, told the truth, is there to compare.",
            "clock-running",
            f"clock-example-{list(LIES.values()).index(0.2) + 1}",
        ),
    ]


def build(page: gr.Blocks) -> None:
    """Lays out the tab and connects it."""
    able, refused = offered()
    said = "".join(f"<li><b>{html.escape(pair)}</b>: {html.escape(reason)}</li>" for pair, reason in refused.items())
    missing = (
        f"<details class='note'><summary>Pairs not offered here: {len(refused)}</summary><ul>{said}</ul>"
        "<p><code>python -m explore probe MODEL --data SOURCE --out checkpoints/MODEL</code> makes an atlas; it is offered "
        "when the app starts again.</p></details>"
    )
    if able:
        links = "".join(f'<a href="#{anchor}">{title}</a>' for anchor, (title, _) in SECTIONS.items())
        with gr.Row(elem_id="clock-head", elem_classes="tab-head", equal_height=False):
            with gr.Column(scale=1, min_width=280):
                pair = gr.Dropdown(
                    able, value=able[0], label="Pair", filterable=False, info="Trained alike; only one is told the time.",
                    elem_id="clock-pair",
                )  # fmt: skip
            with gr.Column(scale=3, min_width=320):
                gr.HTML(f"<nav aria-label='Sections of this tab'>{links}</nav>{missing if refused else ''}")
        changes = [_build_atlas(page, pair), _build_running(page, pair), _build_steering(pair), _build_ruler(pair)]
        for inputs, outputs, handler in changes:
            pair.input(handler, [pair, *inputs], outputs, **common.AT_ONCE)
        page.unload(common.forget)
    else:
        gr.HTML(f"<div class='notice'><b>No pair has an atlas yet.</b> {missing}</div>")
    _endpoints(able[0] if able else common.comparable_pairs()[0])


# Of each section: further inputs, outputs and handler for when another pair is chosen.
Change = tuple[list[Any], list[Any], Any]


def _build_atlas(page: gr.Blocks, pair: gr.Dropdown) -> Change:
    opening = str(pair.value)
    levels = atlases(opening)[0]["levels"]
    with gr.Column(elem_classes="tab-section"):
        common.heading("clock-atlas", *SECTIONS["clock-atlas"])
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=280):
                value = gr.Dropdown(
                    list(VALUES.items()), value="error_over_yardstick", label="Shown", filterable=False, elem_id="atlas-value",
                    info="How far the probe is off: over the yardstick (see the note), in log SNR, or with its sign.",
                )  # fmt: skip
                view = gr.Dropdown(
                    list(VIEWS.items()), value="mean_std", label="What the probe sees", filterable=False,
                    elem_id="atlas-view", info="Of each channel: its mean over the pixels, or mean and standard deviation.",
                )  # fmt: skip
                layer = gr.Dropdown(
                    layer_menu(opening, "mean_std"), value=_best_layer(opening, "mean_std"), label="Layer", filterable=False,
                    elem_id="atlas-layer", info="Of the curve and the figures below the maps.",
                )  # fmt: skip
                level = gr.Slider(
                    min(levels), max(levels), levels[len(levels) * 3 // 4], step=levels[1] - levels[0],
                    label="Noise level, log SNR", info="Of the figures below the maps; more is cleaner.", buttons=[],
                    elem_id="atlas-level",
                )  # fmt: skip
            with gr.Column(scale=3, min_width=320, elem_classes="tab-stage"):
                maps = gr.Plot(label="Layer by noise level", show_label=False, elem_id="clock-maps", elem_classes="tab-plot")
                code = common.code_part("atlas")
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=320, elem_classes="tab-stage"):
                reading = gr.Plot(label="Read against true", show_label=False, elem_id="clock-reading", elem_classes="tab-plot")
            with gr.Column(scale=1, min_width=320, elem_classes="tab-stage"):
                facts = gr.HTML("", elem_id="clock-facts")
                gr.HTML(ATLAS_NOTE)

    def show_layer(pair: str, view: str, layer: str, level: float) -> dict[Any, Any]:
        found = atlases(pair)
        nearest = min(found[0]["levels"], key=lambda one: abs(one - level))
        key = _row_key(layer, view)
        curve = figures.reading_curve(found, common.titles(pair), *key, nearest, common.colours(pair))
        curve.update_layout(height=340)
        if key[0] == "input":
            curve.update_yaxes(title=f"read from {key[1]}")
        return {reading: curve, facts: atlas_facts(pair, layer, view, nearest)}

    def show_maps(pair: str, value: str, view: str, layer: str, level: float) -> dict[Any, Any]:
        menu = layer_menu(pair, view)
        if layer not in [name for _, name in menu]:
            layer = _best_layer(pair, view)
        return {
            maps: figures.atlas_maps(atlases(pair), common.titles(pair), view, value),
            code: atlas_code(pair, view, value),
            layer_part: gr.update(choices=menu, value=layer),
            **show_layer(pair, view, layer, level),
        }

    layer_part = layer
    shown = [maps, code, layer, reading, facts]
    for part in (value, view):
        part.input(show_maps, [pair, value, view, layer, level], shown, **common.AT_ONCE)
    layer.input(show_layer, [pair, view, layer, level], [reading, facts], **common.AT_ONCE)
    level.change(show_layer, [pair, view, layer, level], [reading, facts], trigger_mode="always_last", **common.AT_ONCE)
    page.load(show_maps, [pair, value, view, layer, level], shown, **common.AT_ONCE)
    return [value, view, layer, level], shown, show_maps


def _best_layer(pair: str, view: str) -> str:
    """The layer of ``view`` with the smallest error near the data, over both members."""
    errors: dict[str, float] = {}
    for atlas in atlases(pair):
        for row in atlas["layers"]:
            if row["view"] == view and row["name"] != "input":
                errors[row["name"]] = errors.get(row["name"], 0.0) + next(iter(row["error_by_region"].values()), -row["r2"])
    return min((name for _, name in layer_menu(pair, view) if name in errors), key=errors.__getitem__)


def _numbers(prefix: str) -> list[gr.Number]:
    """Seed, number of images and steps."""
    with gr.Row():
        return [
            gr.Number(0, label="Seed", info="of image 1", min_width=80, elem_id=f"{prefix}-seed"),
            gr.Number(4, label="Images", info=f"1 to {MAX_IMAGES}", min_width=80, elem_id=f"{prefix}-count"),
            gr.Number(25, label="Steps", info=f"1 to {MAX_STEPS}", min_width=80, elem_id=f"{prefix}-steps"),
        ]


def _build_running(page: gr.Blocks, pair: gr.Dropdown) -> Change:
    opening = str(pair.value)
    with gr.Column(elem_classes="tab-section"):
        common.heading("clock-running", *SECTIONS["clock-running"])
        lies = common.examples("clock", LIES)
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=280):
                layer = gr.Dropdown(
                    _run_layers(opening), value=_run_layer(opening), label="Layer read", filterable=False,
                    elem_id="clock-layer", info="The block in which the probe reads at every step.",
                )  # fmt: skip
                numbers = _numbers("clock")
                lie = gr.Slider(
                    -MAX_OFFSET, MAX_OFFSET, 0.0, step=0.05, label="Clock-lie: told t plus", buttons=["reset"],
                    elem_id="clock-lie",
                    info="The sampler keeps the true t.",
                )  # fmt: skip
                gr.HTML(
                    "<p class='note'>Both are lied to as soon as the slider rests. Who is never told the time has no input to "
                    "lie to, and cannot notice.</p>"
                )
            with gr.Column(scale=3, min_width=320, elem_classes="tab-stage"):
                with gr.Row():
                    go = gr.Button("Run the clock", variant="primary", elem_id="clock-go", scale=4, min_width=180)
                    halt = gr.Button("Stop", variant="stop", interactive=False, elem_id="clock-stop", scale=1, min_width=64)
                status = gr.HTML(common.status(common.READY), elem_id="clock-status")
                with gr.Row(equal_height=False):
                    with gr.Column(scale=3, min_width=420):
                        curves = gr.Plot(
                            label="Implied clock over t", show_label=False, elem_id="clock-curves", elem_classes="tab-plot"
                        )
                    with gr.Column(scale=2, min_width=320):
                        pictures = gr.HTML(run_view(opening, None), elem_id="clock-pictures")
                summary = gr.HTML("", elem_id="clock-summary")
                code = common.code_part("clock")
    truthful = gr.State(None)  # settings and samples of the last run without a lie

    @common.streamed
    def run(
        pair: str, layer: str, seed: float, count: float, steps: float, offset: float, before: Any, request: gr.Request
    ) -> Iterator[dict[Any, Any]]:
        """Streams a run of both members to the page."""
        work = common.WORKS.begin(str(request.session_hash), "running")
        began, shown, drawn = time.monotonic(), -math.inf, -math.inf
        try:
            if work.stop.is_set():  # while it waited
                return
            settings = read_settings(pair, seed, count, steps)
            offset = common.number("the offset of the clock", offset, -MAX_OFFSET, MAX_OFFSET)
            going = {halt: gr.update(interactive=True)}
            yield {summary: "", curves: run_curves(pair, [], offset), **going}
            both: list[Step] = []
            runs: list[dict[str, Any]] = []
            for both, runs in stream_clocks(settings, offset, layer):
                at, now = both[0], time.monotonic()
                work.said = f"Step <b>{at.index}</b> of {settings.steps}, t = <b>{at.t:.3f}</b>"
                work.done = at.index / settings.steps
                if work.stop.is_set():
                    return
                if now - shown >= UPDATE_SECONDS and at.index < settings.steps:
                    shown = now
                    change: dict[Any, Any] = {
                        status: common.status(work.said, work.done),
                        pictures: run_view(pair, [to_uint8(step.xt) for step in both]),
                        **going,
                    }
                    if now - drawn >= CURVE_SECONDS:
                        drawn = now
                        change[curves] = run_curves(pair, runs, offset)
                    yield change
            samples = [step.xt for step in both]
            key = (settings, layer)
            if offset == 0:
                before = (key, samples)
            known = before[1] if before and before[0][0] == settings else None
            yield {
                status: common.status(work.said, 1.0),
                pictures: run_view(pair, [to_uint8(xt) for xt in samples]),
                curves: run_curves(pair, runs, offset),
                summary: run_summary(settings, offset, runs, samples, time.monotonic() - began, known),
                truthful: before,
                code: run_code(settings, offset, layer),
            }
        except ValueError as error:
            yield {status: common.notice(error)}
        finally:
            work.ended.set()

    def on_pair(pair: str, offset: float, request: gr.Request) -> dict[Any, Any]:
        common.WORKS.end(str(request.session_hash), "running")
        return {
            layer: gr.update(choices=_run_layers(pair), value=_run_layer(pair)),
            pictures: run_view(pair, None),
            curves: run_curves(pair, [], offset),
            status: common.status(common.READY),
            summary: "",
        }

    parts = [status, curves, pictures, summary, code, halt, truthful]
    common.announce("running", go, halt, status)
    running = go.click(
        run, [pair, layer, *numbers, lie, truthful], parts, trigger_mode="always_last", **common.ONE_MODEL
    )  # fmt: skip
    common.stops("running", [running], halt, status)
    lie.change(None, None, None, js=common.rest_js("clock-go"))
    for name, button in lies.items():
        common.on_example(button, "clock-go", functools.partial(dict, {lie: LIES[name]}), None, [lie])
    page.load(lambda pair, offset: run_curves(pair, [], offset), [pair, lie], curves, **common.AT_ONCE)
    return [lie], [layer, pictures, curves, status, summary], on_pair


def _run_layers(pair: str) -> list[tuple[str, str]]:
    """Layers that can be read while sampling, by label."""
    best = " and ".join(dict.fromkeys(clock.best[0] for clock in clocks(pair)))
    return [*((name, name) for name in shared_layers(pair)), (f"each its best ({best})", BEST)]


def _run_layer(pair: str) -> str:
    """The layer read at first: one in the middle, where the label has come in and the last blocks have not yet used it up."""
    layers = shared_layers(pair)
    return layers[len(layers) // 2] if layers else BEST


def _build_steering(pair: gr.Dropdown) -> Change:
    opening = str(pair.value)
    with gr.Column(elem_classes="tab-section"):
        common.heading("clock-steering", *SECTIONS["clock-steering"])
        pushes = common.examples("steer", PUSHES)
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=280):
                member = gr.Radio(
                    [(title, number) for number, title in enumerate(common.titles(opening))], value=1, label="Member",
                    elem_id="steer-member", info="Whose layer is pushed.",
                )  # fmt: skip
                layer = gr.Dropdown(
                    shared_layers(opening),
                    value=_steered_layer(opening),
                    label="Layer",
                    info="Where it is pushed, at every step.",
                    filterable=False,
                    elem_id="steer-layer",
                )
                dose = gr.Slider(
                    -MAX_DOSE, MAX_DOSE, 2.0, step=0.5, label="Dose, log SNR", buttons=["reset"], elem_id="steer-dose",
                    info="Above 0: as if the picture were cleaner than it is.",
                )  # fmt: skip
                numbers = _numbers("steer")
            with gr.Column(scale=3, min_width=320, elem_classes="tab-stage"):
                with gr.Row():
                    go = gr.Button("Steer", variant="primary", elem_id="steer-go", scale=4, min_width=180)
                    halt = gr.Button("Stop", variant="stop", interactive=False, elem_id="steer-stop", scale=1, min_width=64)
                status = gr.HTML(common.status(common.READY), elem_id="steer-status")
                pictures = gr.HTML(steering_view(opening, 1, {}), elem_id="steer-pictures")
                summary = gr.HTML("", elem_id="steer-summary")
                code = common.code_part("steer")

    @common.streamed
    def run(
        pair: str, member: int, layer: str, dose: float, seed: float, count: float, steps: float, request: gr.Request
    ) -> Iterator[dict[Any, Any]]:
        """Streams three runs of one member, one after the other."""
        work = common.WORKS.begin(str(request.session_hash), "steering")
        began, shown = time.monotonic(), -math.inf
        stream = None
        try:
            if work.stop.is_set():  # while it waited
                return
            settings = read_settings(pair, seed, count, steps)
            dose = common.number("the dose", dose, -MAX_DOSE, MAX_DOSE)
            which = int(common.number("the member", member, 0, 1, whole=True))
            going = {halt: gr.update(interactive=True)}
            yield {summary: "", pictures: steering_view(pair, which, {}), **going}
            stream = interventions.steered_stream(
                models(pair)[which], clocks(pair)[which], settings.seeds, layer, dose, seed=settings.seed, **settings.sampler
            )
            states: dict[str, Tensor] = {}
            for name, step in stream:
                states[name] = step.xt
                work.done = (len(states) - 1 + step.index / settings.steps) / len(RUN_TITLES)
                work.said = f"{RUN_TITLES[name]}: step <b>{step.index}</b> of {settings.steps}, t = <b>{step.t:.3f}</b>"
                if work.stop.is_set():
                    return
                if time.monotonic() - shown >= UPDATE_SECONDS:
                    shown = time.monotonic()
                    view = {run: to_uint8(xt) for run, xt in states.items()}
                    yield {pictures: steering_view(pair, which, view), status: common.status(work.said, work.done), **going}
            effect = interventions.steered_figures(states)
            yield {
                pictures: steering_view(pair, which, {run: to_uint8(xt) for run, xt in states.items()}),
                status: common.status(f"Done: three runs of {settings.steps} steps.", 1.0),
                summary: steering_summary(layer, dose, effect, time.monotonic() - began),
                code: steer_code(settings, which, layer, dose),
            }
        except ValueError as error:
            yield {status: common.notice(error)}
        finally:
            work.ended.set()
            if stream is not None:
                stream.close()

    def on_pair(pair: str, request: gr.Request) -> dict[Any, Any]:
        common.WORKS.end(str(request.session_hash), "steering")
        return {
            member: gr.update(choices=[(title, number) for number, title in enumerate(common.titles(pair))], value=1),
            layer: gr.update(choices=shared_layers(pair), value=_steered_layer(pair)),
            pictures: steering_view(pair, 1, {}),
            status: common.status(common.READY),
            summary: "",
        }

    parts = [status, pictures, summary, code, halt]
    common.announce("steering", go, halt, status)
    running = go.click(run, [pair, member, layer, dose, *numbers], parts, trigger_mode="always_last", **common.ONE_MODEL)
    common.stops("steering", [running], halt, status)
    for name, button in pushes.items():
        push = dict(zip((member, dose), PUSHES[name]))
        common.on_example(button, "steer-go", functools.partial(dict, push), None, list(push))
    return [], [member, layer, pictures, status, summary], on_pair


def _steered_layer(pair: str) -> str:
    """The layer steered at first, an early one: there a push shows in the pictures."""
    layers = shared_layers(pair)
    return layers[len(layers) // 6]


def _build_ruler(pair: gr.Dropdown) -> Change:
    opening = str(pair.value)
    with gr.Column(elem_classes="tab-section"):
        common.heading("clock-ruler", *SECTIONS["clock-ruler"])
        noises = common.examples("ruler", NOISES)
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=280):
                number = gr.Slider(
                    1, max(2, len(common.bank(opening))), 1, step=1, label="Bundled picture",
                    info="Generated by one of these models.",
                    interactive=len(common.bank(opening)) > 1, buttons=[], elem_id="ruler-bank",
                )  # fmt: skip
                upload = gr.File(
                    label=common.OWN_PICTURE, file_types=["image"], type="filepath",
                    height=170, elem_id="ruler-upload",
                )  # fmt: skip
                amount = gr.Slider(
                    -MAX_LOGSNR, MAX_LOGSNR, 2.0, step=0.5, label="Noise, log SNR", buttons=[], elem_id="ruler-noise",
                    info="More is cleaner; at 0 picture and noise have the same weight.",
                )  # fmt: skip
                seed = gr.Number(0, label="Seed of the noise", info="The same seed, the same noise.", elem_id="ruler-seed")
            with gr.Column(scale=3, min_width=320, elem_classes="tab-stage"):
                with gr.Row():
                    go = gr.Button("Measure", variant="primary", elem_id="ruler-go", scale=2, min_width=140)
                    hide = gr.Button("Guess first: hide an amount", elem_id="ruler-hide", scale=2, min_width=200)
                status = gr.HTML(common.status(common.READY), elem_id="ruler-status")
                with gr.Row(visible=False) as guessing:
                    guess = gr.Slider(
                        -MAX_LOGSNR, MAX_LOGSNR, 0.0, step=0.5, label="Your guess, log SNR", buttons=[], scale=3,
                        elem_id="ruler-guess", info="More is cleaner.",
                    )  # fmt: skip
                    reveal = gr.Button("Reveal", variant="primary", elem_id="ruler-reveal", scale=1, min_width=120)
                with gr.Row(equal_height=False):
                    with gr.Column(scale=2, min_width=300):
                        pictures = gr.HTML(common.waiting(RULER_EMPTY), elem_id="ruler-pictures")
                    with gr.Column(scale=3, min_width=400, visible=False) as results:
                        figure = gr.Plot(
                            label="What each reader sees", show_label=False, elem_id="ruler-figure", elem_classes="tab-plot"
                        )
                table = gr.HTML("", elem_id="ruler-table")
                code = common.code_part("ruler")
    hidden = gr.State(None)  # pair, number, picture, words, amount of noise and seed, until they are revealed

    def chosen(pair: str, number: float, path: str | None, seed: float) -> tuple[int | None, Tensor, str, int]:
        """The bundled picture's number if it is one, the picture, words about it, and the seed, each checked."""
        choose("pair", str(pair)[:100], zoo.pairs())
        seed = int(common.number("the seed", seed, 0, MAX_SEED, whole=True))
        if path:
            return None, *common.read_picture(path, common.members(pair)[0].resolution), seed
        pictures = common.bank(pair)
        if not len(pictures):
            raise ValueError(f"there are no bundled pictures for {pair}; upload one")
        which = int(common.number("the number of the picture", number, 1, len(pictures), whole=True))
        return which, pictures[which - 1], "", seed

    def views(picture: Tensor, xt: Tensor, what: str) -> str:
        side = picture.shape[-1]
        return ruler_view([("clean", f"{side} x {side}", picture), ("noisy", what, to_uint8(xt)[0])])

    def result(
        pair: str, which: int | None, picture: Tensor, words: str, logsnr: float, seed: int, guessed: float | None = None
    ) -> dict[Any, Any]:
        began = time.monotonic()
        rows = measure(pair, picture, logsnr, seed)
        seconds = time.monotonic() - began
        marks = [*rows]
        if guessed is not None:
            marks.append({"reader": "your guess", "what": "by eye", "value": guessed, "low": guessed, "high": guessed})
        return {
            status: common.status(f"Read in {seconds:.1f} s. {html.escape(words)}", 1.0),
            pictures: views(picture, noisy(pair, picture, logsnr, seed), f"log SNR {logsnr:.2f}"),
            figure: figures.ruler_figure(marks, logsnr, common.colours(pair)),
            table: ruler_table(marks, pair),
            code: ruler_code(pair, which, logsnr, seed),
            results: gr.update(visible=True),
            guessing: gr.update(visible=False),
            hidden: None,
        }

    def read(pair: str, number: float, path: str | None, logsnr: float, seed: float) -> dict[Any, Any]:
        """Adds the stated amount of noise and asks every reader."""
        try:
            logsnr = common.number("the noise", logsnr, -MAX_LOGSNR, MAX_LOGSNR)
            which, picture, words, start = chosen(pair, number, path, seed)
            return result(pair, which, picture, words, logsnr, start)
        except ValueError as error:
            return {status: common.notice(error)}

    def conceal(pair: str, number: float, path: str | None, seed: float) -> dict[Any, Any]:
        """Adds an amount of noise that is not told; the readers stay silent, as they would give it away."""
        try:
            which, picture, words, start = chosen(pair, number, path, seed)
        except ValueError as error:
            return {status: common.notice(error)}
        logsnr = random.uniform(-HIDDEN, HIDDEN)
        said = "How noisy is it? Set your guess, then reveal what the readers see and the true amount."
        return {
            status: common.status(f"{said} {html.escape(words)}"),
            pictures: views(picture, noisy(pair, picture, logsnr, start), "amount hidden"),
            table: "",
            results: gr.update(visible=False),
            guessing: gr.update(visible=True),
            hidden: (pair, which, picture, words, logsnr, start),
        }

    def uncover(held: tuple[str, int | None, Tensor, str, float, int] | None, guessed: float) -> dict[Any, Any]:
        """What the readers see, the true amount, and the guess."""
        if held is None:
            return {status: common.status("Nothing is hidden: press a button to begin.")}
        try:
            guessed = common.number("the guess", guessed, -MAX_LOGSNR, MAX_LOGSNR)
            return result(*held, guessed)
        except ValueError as error:
            return {status: common.notice(error)}

    def on_pair(pair: str) -> dict[Any, Any]:
        count = len(common.bank(pair))
        return {
            number: gr.update(maximum=max(2, count), value=1, interactive=count > 1),
            status: common.status(common.READY),
            pictures: common.waiting(RULER_EMPTY),
            table: "",
            results: gr.update(visible=False),
            guessing: gr.update(visible=False),
            hidden: None,
        }

    shown = [status, pictures, figure, table, code, results, guessing, hidden]
    source = [pair, number, upload]
    go.click(None, None, status, js=common.WAIT_JS)
    go.click(read, [*source, amount, seed], shown, trigger_mode="always_last", **common.ONE_MODEL)
    for part in (amount, number):
        part.input(None, None, None, js=common.rest_js("ruler-go"))
    for name, button in noises.items():
        values = {number: 1, upload: None, amount: NOISES[name]}
        common.on_example(button, "ruler-go", functools.partial(dict, values), None, list(values))
    hide.click(conceal, [*source, seed], shown, **common.AT_ONCE)
    reveal.click(None, None, status, js=common.WAIT_JS)
    reveal.click(uncover, [hidden, guess], shown, **common.ONE_MODEL)
    return [], [number, *(part for part in shown if part not in (figure, code))], on_pair


def _endpoints(opening: str) -> None:
    """The named endpoints ``/clock``, ``/probe`` and ``/ruler``, on components that the page does not show."""

    @common.remembered
    def clock(
        pair: str, seed: int = 0, count: int = 4, steps: int = 25, offset: float = 0.0, request: gr.Request | None = None
    ) -> dict[str, Any]:
        """Samples with both members of a pair from the same noise, and reads the noise level that each believes in.

        Args:
            pair: A pair of models with an atlas, such as celeba32-unet-velocity.
            seed: Of the first image, 0 to 2^32 - 1; the others count up from it.
            count: Number of images, 1 to 16.
            steps: 1 to 1000, of the sampler that suits the pair.
            offset: -0.3 to 0.3; the networks are told t plus this.

        Returns:
            Settings; the times t of the evaluations, the true and the told level at each; and for each member, by name, the
            implied clock of its best layer as mean and std over the images. Levels without a finite value are null.
        """
        try:
            settings = read_settings(pair, seed, count, steps)
            offset = common.number("offset", offset, -MAX_OFFSET, MAX_OFFSET)
            with common.calling(request) as work:
                [(_, runs)] = deque(common.going_on(stream_clocks(settings, offset), work), maxlen=1)
        except ValueError as error:
            raise common.visible(error) from error
        keep = ("name", "view", "given", "mean", "std")
        return {
            "pair": settings.pair, "seeds": settings.seeds, **settings.sampler, "offset": offset,
            "target": runs[0]["target"],
            **{name: [v if math.isfinite(v) else None for v in runs[0][name]] for name in ("t", "true", "told")},
            "members": {
                info.name: [{name: layer[name] for name in keep} for layer in run["layers"]]
                for info, run in zip(common.members(settings.pair), runs)
            },
        }  # fmt: skip

    def probe(model: str, layer: str = "", view: str = "") -> dict[str, Any]:
        """What linear probes read of the noise level in a model's activations, measured on real held-out images.

        Args:
            model: Name of a model with an atlas, such as celeba32-unet-velocity-none.
            layer: A block, such as mid.block.1, or input for the readings that need no network; empty for all.
            view: mean, mean_std or another view of the atlas; empty for all.

        Returns:
            The atlas of the model: command, data, images, target, levels, yardsticks, the best layer, and for each layer
            and view r2, r2_random_network, selectivity, and by level bias, std, error and error_over_yardstick.
        """
        try:
            info = zoo.info(str(model)[:100])
            path = zoo.ROOT / info.name / "atlas.json"
            if not path.is_file():
                raise ValueError(f"{info.name} has no atlas; python -m explore probe makes one")
            found = files.read_json(path)
            for key, wanted in (("name", str(layer)[:100]), ("view", str(view)[:40])):
                if wanted:
                    known = list(dict.fromkeys(one[key] for one in found["layers"]))
                    choose("layer" if key == "name" else key, wanted, known)
                    found["layers"] = [one for one in found["layers"] if one[key] == wanted]
        except ValueError as error:
            raise common.visible(error) from error
        return found

    @common.remembered
    def ruler(picture: str, logsnr: float, seed: int = 0, pair: str = opening) -> dict[str, Any]:
        """Adds noise to a picture, and asks every reader how much it is.

        Args:
            picture: A picture file: PNG, JPEG, WebP, BMP or GIF.
            logsnr: -8 (noise) to 8 (clean).
            seed: Of the noise, 0 to 2^32 - 1.
            pair: A pair of models with an atlas.

        Returns:
            Settings, and rows of reader, what it is, and the value it reads with the ends of an interval of about 95 %.
        """
        try:
            pair = choose("pair", str(pair)[:100], zoo.pairs())
            logsnr = common.number("logsnr", logsnr, -MAX_LOGSNR, MAX_LOGSNR)
            seed = int(common.number("seed", seed, 0, MAX_SEED, whole=True))
            if not picture:
                raise ValueError("a picture is needed")
            clocks(pair)
            found, words = common.read_picture(picture, common.members(pair)[0].resolution)
            rows = measure(pair, found, logsnr, seed)
        except ValueError as error:
            raise common.visible(error) from error
        return {"pair": pair, "logsnr": logsnr, "seed": seed, "picture": words, "rows": rows}

    one_model: dict[str, Any] = {"concurrency_id": common.MODEL_QUEUE, "concurrency_limit": 1}
    asked = [
        gr.Textbox(opening, label="pair", visible=False),
        gr.Number(0, label="seed", visible=False),
        gr.Number(4, label="count", visible=False),
        gr.Number(25, label="steps", visible=False),
        gr.Number(0.0, label="offset", visible=False),
    ]
    answer = gr.JSON(label="clock", visible=False)
    gr.Button("clock", visible=False).click(clock, asked, answer, api_name="clock", **one_model)
    wanted = [
        gr.Textbox(common.members(opening)[-1].name, label="model", visible=False),
        gr.Textbox("", label="layer", visible=False),
        gr.Textbox("", label="view", visible=False),
    ]
    answer = gr.JSON(label="probe", visible=False)
    gr.Button("probe", visible=False).click(probe, wanted, answer, api_name="probe", queue=False)
    shown: list[Any] = [
        gr.File(label="picture", type="filepath", visible=False),
        gr.Number(2.0, label="logsnr", visible=False),
        gr.Number(0, label="seed", visible=False),
        gr.Textbox(opening, label="pair", visible=False),
    ]
    answer = gr.JSON(label="ruler", visible=False)
    gr.Button("ruler", visible=False).click(ruler, shown, answer, api_name="ruler", **one_model)
