"""The section Atlas: how well a linear probe reads the noise level, by layer and noise level."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import gradio as gr

from app import pairs, ui
from app.clock.shared import SECTIONS, Change, atlases, atlases_in, regimes
from explore import figures, probes

VALUES = {"error / yardstick": "error_over_yardstick", "error": "error", "bias": "bias", "spread": "std"}
VIEWS = {"mean and std": "mean_std", "mean": "mean", "mean and log std": "log_std"}
CSS = """
#clock-maps .js-plotly-plot { min-width: 630px; }
@media (max-width: 960px) {
  #clock-maps:has(.js-plotly-plot)::before { content: "Scroll sideways to see both maps.";
    display: block; position: sticky; left: 0; width: fit-content; font-size: .85rem; padding: 6px 10px; }
}
"""
ATLAS_NOTE = (
    "<p class='note'><b>Yardstick</b>: the Cramer-Rao bound given x0, the least standard deviation of an unbiased estimate "
    "that knows the clean image. A biased estimate can be below it, as at the ends of the range. <b>Selectivity</b>: R² minus "
    "that of a probe for shuffled noise levels. <b>Gain</b>: how many times larger the error is in a random network. Brackets: "
    "95% bootstrap intervals over images. One training seed: part of a difference between the members is chance. "
    "<b>Told t</b>: with a random or a fixed t only the image carries the noise level. A random t also disturbs the "
    "activations, and a fixed t far from the data sets the network for other noise: both hide what it can read near the data, "
    "and a fixed t near the data does not. With the t of the nearest other level the given t is almost right, and (told t) is "
    "what it says alone. A time-agnostic model has no t input.</p>"
)


def told_menu(pair: str) -> list[tuple[str, str]]:
    """(label, value) of the regimes of the told t that the stored atlases have."""
    return [(probes.told_label(told), told) for told in regimes(pair) or (probes.ANY,)]


def view_menu(pair: str) -> list[tuple[str, str]]:
    """(label, value) of the features that both atlases have."""
    there = [{row["view"] for row in atlas["layers"]} for atlas in atlases(pair)]
    return [(label, view) for label, view in VIEWS.items() if all(view in own for own in there)]


def atlas_code(pair: str, view: str, value: str, told: str) -> str:
    """Python code that reproduces the maps: the chosen value by layer and noise level, for both members."""
    names = [info.name for info in pairs.members(pair)]
    rows = f'[row for row in atlas["layers"] if row["view"] == {view!r} or row["name"] == "input"]'
    return f"""from explore import cards, probes
regimes = [probes.regimes(cards.atlas(name)) for name in {names}]
atlases = [own.get({told!r}) or own["any"] for own in regimes]  # the t that the conditioned model was told
rows = [{rows} for atlas in atlases]
[([row["name"] for row in own], [row[{value!r}] for row in own]) for own in rows]  # by log SNR: atlases[0]["levels"]
"""


def layer_menu(pair: str, view: str, told: str) -> list[tuple[str, str]]:
    """(label, value) of the layers that both atlases have in ``view``, and of the baselines that use no network."""
    rows = [[(row["name"], row["view"]) for row in atlas["layers"]] for atlas in atlases_in(pair, told)]
    common_rows = [row for row in rows[0] if row in rows[1]]
    layers = [(name, name) for name, own in common_rows if own == view and name != "input"]
    return layers + [(f"({own}: no network)", f"input:{own}") for name, own in common_rows if name == "input"]


def _row_key(layer: str, view: str) -> tuple[str, str]:
    """Name and view of the atlas row for one value of the layer menu."""
    name, _, reader = layer.partition(":")
    return (name, reader) if name == "input" else (layer, view)


def atlas_facts(pair: str, layer: str, view: str, level: float, told: str) -> str:
    """HTML table of one layer's results at one noise level, for both members."""
    key, found = _row_key(layer, view), atlases_in(pair, told)
    rows = [next(row for row in atlas["layers"] if (row["name"], row["view"]) == key) for atlas in found]
    number = found[0]["levels"].index(level)

    def interval(values: Sequence[float], digits: int = 3) -> str:
        return f" <small>[{values[0]:.{digits}f}, {values[1]:.{digits}f}]</small>"

    def gain(row: dict[str, Any]) -> str:
        own = row["gain_by_region"].get("near_the_data")
        return f"{own['value']:.2f}{interval([own['low'], own['high']], 2)}" if own else "none"

    def drawn(row: dict[str, Any]) -> str:
        return f"{row['r2_random_network']:.3f}" if row["r2_random_network"] is not None else "none"

    lines = [
        ("R² over all levels", [f"{row['r2']:.3f}{interval(row['r2_interval'])}" for row in rows]),
        ("R² in a random network", [drawn(row) for row in rows]),
        ("selectivity", [f"{row['selectivity']:.3f}" for row in rows]),
        (f"error at log SNR {level:g}", [f"{row['error'][number]:.3f}" for row in rows]),
        (f"error / yardstick at log SNR {level:g}", [f"{row['error_over_yardstick'][number]:.2f}" for row in rows]),
        (
            f"bias² / squared error at log SNR {level:g}",
            [f"{(row['bias'][number] / (row['error'][number] or 1)) ** 2:.0%}" for row in rows],
        ),
        ("gain over random, near the data", [gain(row) for row in rows]),
    ]
    head = [ui.swatch(color) + html.escape(title) for title, color in zip(pairs.titles(pair), pairs.colors(pair))]
    name = key[0] if key[0] != "input" else key[1]
    said = "" if told == probes.ANY else f"; conditioned model: {probes.told_label(told)}"
    caption = f"<b>{html.escape(name)}</b>, on {found[0]['images']} held-out images{said}"
    return ui.table(caption, ["", *head], [[name, *values] for name, values in lines])


def build(page: gr.Blocks, pair: gr.Dropdown) -> Change:
    opening = str(pair.value)
    levels, first = atlases(opening)[0]["levels"], told_menu(opening)[0][1]
    with gr.Column(elem_classes="tab-section"):
        ui.heading("clock-atlas", *SECTIONS["clock-atlas"])
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=280):
                value = gr.Dropdown(
                    list(VALUES.items()), value="error_over_yardstick", label="Quantity", filterable=False,
                    elem_id="atlas-value", info="Error over the yardstick (see the note), error in log SNR, or signed error.",
                )  # fmt: skip
                told = gr.Dropdown(
                    told_menu(opening), value=first, label="Told t", filterable=False, elem_id="atlas-told",
                    info="What t the conditioned model was given.",
                )  # fmt: skip
                view = gr.Dropdown(
                    view_menu(opening), value="mean_std", label="Features", filterable=False,
                    elem_id="atlas-view", info="Per channel, over the pixels.",
                )  # fmt: skip
                layer = gr.Dropdown(
                    layer_menu(opening, "mean_std", first), value=_best_layer(opening, "mean_std", first), label="Layer",
                    filterable=False, elem_id="atlas-layer", info="For the curve and the table below the maps.",
                )  # fmt: skip
                level = gr.Slider(
                    min(levels), max(levels), levels[len(levels) * 3 // 4], step=levels[1] - levels[0],
                    label="Noise level, log SNR", info="For the table below the maps; more is cleaner.", buttons=[],
                    elem_id="atlas-level",
                )  # fmt: skip
            with gr.Column(scale=3, min_width=320, elem_classes="tab-stage"):
                maps = gr.Plot(label="Layer by noise level", show_label=False, elem_id="clock-maps", elem_classes="tab-plot")
                code = ui.code_part("atlas")
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=320, elem_classes="tab-stage"):
                reading = gr.Plot(
                    label="Predicted against true noise level",
                    show_label=False,
                    elem_id="clock-reading",
                    elem_classes="tab-plot",
                )
            with gr.Column(scale=1, min_width=320, elem_classes="tab-stage"):
                facts = gr.HTML("", elem_id="clock-facts")
                gr.HTML(ATLAS_NOTE)

    def show_layer(pair: str, told: str, view: str, layer: str, level: float) -> dict[Any, Any]:
        found = atlases_in(pair, told)
        nearest = min(found[0]["levels"], key=lambda one: abs(one - level))
        key = _row_key(layer, view)
        curve = figures.reading_curve(found, pairs.titles(pair), *key, nearest, pairs.colors(pair))
        curve.update_layout(height=340)
        if key[0] == "input":
            curve.update_yaxes(title=f"estimate without a network ({key[1]})")
        return {reading: curve, facts: atlas_facts(pair, layer, view, nearest, told)}

    def show_maps(pair: str, value: str, told: str, view: str, layer: str, level: float) -> dict[Any, Any]:
        menu = layer_menu(pair, view, told)
        if layer not in [name for _, name in menu]:
            layer = _best_layer(pair, view, told)
        return {
            maps: figures.atlas_maps(atlases_in(pair, told), pairs.titles(pair), view, value),
            code: atlas_code(pair, view, value, told),
            layer_part: gr.update(choices=menu, value=layer),
            **show_layer(pair, told, view, layer, level),
        }

    def show_pair(pair: str, value: str, told: str, view: str, layer: str, level: float) -> dict[Any, Any]:
        tolds, views = told_menu(pair), view_menu(pair)  # another pair may have fewer
        told = told if told in [name for _, name in tolds] else tolds[0][1]
        view = view if view in [name for _, name in views] else views[0][1]
        return {
            told_part: gr.update(choices=tolds, value=told),
            view_part: gr.update(choices=views, value=view),
            **show_maps(pair, value, told, view, layer, level),
        }

    told_part, view_part, layer_part = told, view, layer
    chosen = [told, view, layer, level]
    shown = [maps, code, layer, reading, facts]
    for part in (value, told, view):
        part.input(show_maps, [pair, value, *chosen], shown, **ui.AT_ONCE)
    layer.input(show_layer, [pair, *chosen], [reading, facts], **ui.AT_ONCE)
    level.change(show_layer, [pair, *chosen], [reading, facts], trigger_mode="always_last", **ui.AT_ONCE)
    page.load(show_maps, [pair, value, *chosen], shown, **ui.AT_ONCE)
    return [value, *chosen], [told, view, *shown], show_pair


def _best_layer(pair: str, view: str, told: str) -> str:
    """The layer of ``view`` with the smallest error near the data, summed over both members."""
    errors: dict[str, float] = {}
    for atlas in atlases_in(pair, told):
        for row in atlas["layers"]:
            if row["view"] == view and row["name"] != "input":
                errors[row["name"]] = errors.get(row["name"], 0.0) + next(iter(row["error_by_region"].values()), -row["r2"])
    return min((name for _, name in layer_menu(pair, view, told) if name in errors), key=errors.__getitem__)
