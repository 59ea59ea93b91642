"""The page of the tab Saliency: controls, handlers and examples."""

from __future__ import annotations

import contextlib
import functools
import html
import time
from dataclasses import replace
from typing import Any

import gradio as gr

from app import endpoints, pairs, sampling, ui, works
from app.runs import RUNS, forget
from app.saliency.asking import (
    REGIONS,
    as_code,
    ask,
    default_layer,
    denoisers,
    looked_layers,
    of_a_run,
    read_layers,
    read_settings,
    run_of,
    with_noise,
)
from app.saliency.views import NOTE, curves_figure, maps_figure, pictures_view, quality_table, routes_figure
from explore import saliency, zoo
from explore.experiments import Saliency
from explore.values import choose

KIND = "saliency"  # of work
SOURCES = {"bundled image": "bank", "my own image": "upload", "frame of the run in Compare": "run"}
TARGETS = {
    "implied noise level of a block": "implied-clock",
    "norm of the predicted noise": "noise-norm",
    "region of the estimate x0_hat": "x0-region",
    "error against the clean image": "loss",
}
METHODS = {
    "Integrated Gradients": "integrated-gradients",
    "gradient (saliency)": "saliency",
    "SmoothGrad": "smoothgrad",
    "input x gradient": "input-x-gradient",
    "occlusion": "occlusion",
    "frequency ablation, band by band": "frequency-ablation",
    "GradCAM at a block": "layer-gradcam",
    "conductance of a block": "layer-conductance",
}
BASELINES = {"mid-gray, no noise": "zero", "the image, blurred": "blurred", "flat, with as much noise": "matched-noise"}
CHANNELS = {"all channels": -1, "red": 0, "green": 1, "blue": 2}
# Name -> t, target, method, of a bundled image.
EXAMPLES = {
    "implied noise level, near the data": (0.1, "implied-clock", "integrated-gradients"),
    "implied noise level, near noise": (0.8, "implied-clock", "integrated-gradients"),
    "implied noise level, by frequency": (0.1, "implied-clock", "frequency-ablation"),
    "the predicted noise": (0.3, "noise-norm", "occlusion"),
}


def warm_up() -> None:
    """Imports what the first use would wait for."""
    import captum.attr  # noqa: F401
    import scipy.stats  # noqa: F401


@functools.lru_cache(maxsize=16)
def _method_menu(pair: str) -> list[tuple[str, str]]:
    """Methods that work on both members, by label."""
    refused = {name for one in denoisers(pair) for name, why in saliency.offered(one).items() if why}
    return [(label, name) for label, name in METHODS.items() if name not in refused]


def empty(pair: str) -> str:
    """Where the maps will be."""
    what = "which pixels the target depends on"
    return ui.waiting([(title, what, color) for title, color in zip(pairs.titles(pair), pairs.colors(pair))])


def target_note(target: str) -> str:
    """What the target is."""
    what = saliency.TARGETS[target].what
    return f"{what[0].upper()}{what[1:]}."


def method_note(method: str) -> str:
    """What the method does."""
    what = saliency.SALIENCY[method].what
    return f"{what[0].upper()}{what[1:]}."


def _target_menu(pair: str) -> list[tuple[str, str]]:
    return [(label, name) for label, name in TARGETS.items() if name != "implied-clock" or pairs.has_clocks(pair)]


def tour() -> list[ui.Stop]:
    """The first example."""
    return [
        ui.Stop(
            "Pixels",
            "Which pixels does the implied noise level depend on?",
            "Green raises the probe's prediction, purple lowers it, on one scale for both. Before you believe a map, look "
            "at the table: do the contributions add up to the prediction, and does a reinitialized network give another map?",
            "saliency-maps",
            "saliency-example-1",
        )
    ]


def build(page: gr.Blocks) -> None:
    """Builds the tab and connects its components."""
    known = pairs.comparable_pairs()
    opening = next((pair for pair in known if pairs.has_clocks(pair)), known[0])
    layers, looked = read_layers(opening), looked_layers(opening)
    targets = _target_menu(opening)
    with gr.Column(elem_classes="tab-section"):
        ui.heading(
            "saliency-maps",
            "Which pixels does the output depend on?",
            "The map attributes one number of each network to the pixels of its input: the implied noise level, the norm of "
            "the predicted noise, or a region of the estimated clean image.",
        )
        ready = ui.examples("saliency", EXAMPLES)
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=280):
                pair = gr.Dropdown(
                    known, value=opening, label="Pair", filterable=False, elem_id="saliency-pair",
                    info=sampling.PAIR_INFO,
                )  # fmt: skip
                source = gr.Radio(
                    list(SOURCES.items()), value="bank", label="Input", info="What both members are given.",
                    elem_id="saliency-source",
                )  # fmt: skip
                number, upload = ui.image_controls("saliency", len(pairs.bank(opening)), visible=False)
                t = gr.Slider(
                    0.02, 1.0, 0.3, step=0.02, label="Noise level t", buttons=[], elem_id="saliency-t",
                    info="0 is data, 1 is noise. For a run: its frame nearest to this t.",
                )  # fmt: skip
                seed = gr.Number(0, label="Seed", info="Of the noise, or of the image in Compare.", elem_id="saliency-seed")
                target = gr.Dropdown(
                    targets, value=targets[0][1], label="Target", filterable=False, elem_id="saliency-target",
                    info=target_note(targets[0][1]),
                )  # fmt: skip
                layer = gr.Dropdown(
                    layers, value=default_layer(opening) if layers else None, label="Probed block", filterable=False,
                    info="The prediction of its probe is attributed.", visible=targets[0][1] == "implied-clock",
                    elem_id="saliency-layer",
                )  # fmt: skip
                with gr.Row(visible=False) as region_row:
                    region = gr.Dropdown(
                        list(REGIONS.items()), value="middle", label="Region", filterable=False, elem_id="saliency-region",
                        min_width=100, info="Of x0_hat.",
                    )  # fmt: skip
                    channel = gr.Dropdown(
                        list(CHANNELS.items()), value=-1, label="Channel", filterable=False, elem_id="saliency-channel",
                        min_width=100, info="Of x0_hat.",
                    )  # fmt: skip
                method = gr.Dropdown(
                    _method_menu(opening), value="integrated-gradients", label="Method", filterable=False,
                    elem_id="saliency-method", info=method_note("integrated-gradients"),
                )  # fmt: skip
                at = gr.Dropdown(
                    looked, value=looked[0] if looked else None, label="Attributed block", filterable=False,
                    info="The map shows positions of its activation, not pixels.", visible=False, elem_id="saliency-at",
                )  # fmt: skip
                baseline = gr.Dropdown(
                    list(BASELINES.items()), value="zero", label="Baseline", filterable=False, elem_id="saliency-baseline",
                    info="What replaces a pixel that is left out.",
                )  # fmt: skip
            with gr.Column(scale=3, min_width=320, elem_classes="tab-stage"):
                go, halt, status = ui.run_button("saliency", "Show the maps")
                pictures = gr.HTML(empty(opening), elem_id="saliency-pictures")
                maps = gr.Plot(label="Maps", show_label=False, elem_id="saliency-figure", elem_classes="tab-plot")
                table = gr.HTML("", elem_id="saliency-table")
                curves = gr.Plot(
                    label="Deletion and insertion", show_label=False, elem_id="saliency-curves",
                    elem_classes="tab-plot",
                )  # fmt: skip
                ways = gr.Plot(
                    label="Through the t input", show_label=False, elem_id="saliency-routes",
                    elem_classes="tab-plot",
                )  # fmt: skip
                code = ui.code_part("saliency")
                gr.HTML(NOTE)

    def run(
        session: str, pair: str, source: str, number: float, path: str | None, t: float, seed: float, target: str, layer: str,
        region: str, channel: int, method: str, at: str, baseline: str,
    ) -> ui.Messages:  # fmt: skip
        """Streams maps and checks of both members to the page."""
        began = time.monotonic()
        channel_or_all = None if channel < 0 else channel
        asked = read_settings(pair, t, target, method, baseline, layer, at, region, channel_or_all, seed)
        yield {table: "", pictures: "", **dict.fromkeys((maps, curves, ways))}
        if source == "run":
            live = run_of(pair, session)
            record = RUNS.holding(live, asked.seed)
            if record is None:
                held = RUNS.begin(session, KIND, replace(live, seed=asked.seed, count=1))
                steps = live.sampling.steps
                with contextlib.closing(held.stream()) as stream:  # type: ignore[type-var]
                    for frame in stream:
                        yield ui.Progress(f"Sampling: step <b>{frame.index}</b> of {steps}", frame.index / steps)
                record = held.record
            shown = of_a_run(asked, record)
        else:
            if source == "upload" and not path:
                raise ValueError("upload an image first")
            which, image, words = pairs.chosen_image(pair, number, path if source == "upload" else None)
            dataset = pairs.members(pair)[0].dataset
            place = {"image": "image.png"} if which is None else {"image": f"bank:{dataset}", "index": which - 1}
            asked = replace(asked, **place)
            shown = with_noise(asked, image, words)
        whole: dict[Any, Any] = {pictures: pictures_view(pair, shown)}
        fresh: dict[Any, Any] = {}  # not sent yet
        yield {**whole, status: ui.status("The first map.", 0.0)}

        def send() -> dict[Any, Any]:
            sent = dict(fresh)
            fresh.clear()
            return sent

        total = 2 * (2 + (saliency.SALIENCY[asked.method].domain != "frequencies") + 1)
        for done, (words, found, through) in enumerate(ask(asked, shown), start=1):
            if len(found) == 2:
                new: dict[Any, Any] = {table: quality_table(asked, found, through)}
                if maps not in whole:
                    new[maps] = maps_figure(asked, shown, found)
                if ways not in whole and len(through) == 2:
                    new[ways] = routes_figure(asked, through)
                if curves not in whole and all("curves" in one.quality for one in found):
                    new[curves] = curves_figure(asked, found)
                whole |= new
                fresh |= new
            yield ui.Progress(f"Done: {html.escape(words)}", done / total, send)
        what = f" {html.escape(shown.words[:1].upper() + shown.words[1:])}." if shown.words else ""
        yield {
            **whole,
            code: as_code(asked, shown),
            status: ui.status(f"<b>Finished</b> after {time.monotonic() - began:.1f} s.{what}", 1.0),
        }

    def on_pair(pair: str, request: gr.Request) -> dict[Any, Any]:
        works.WORKS.end(str(request.session_hash), KIND)
        count, targets, layers, looked = len(pairs.bank(pair)), _target_menu(pair), read_layers(pair), looked_layers(pair)
        return {
            number: gr.update(maximum=max(2, count), value=1, interactive=count > 1),
            target: gr.update(choices=targets, value=targets[0][1], info=target_note(targets[0][1])),
            layer: gr.update(choices=layers, value=default_layer(pair) if layers else None, visible=bool(layers)),
            region_row: gr.update(visible=False),
            method: gr.update(choices=_method_menu(pair)),
            at: gr.update(choices=looked, value=looked[0] if looked else None),
            status: ui.status(ui.READY), pictures: empty(pair), table: "",
            **dict.fromkeys((maps, curves, ways)),
        }  # fmt: skip

    def picked(source: str, pair: str, request: gr.Request) -> dict[Any, Any]:
        first = run_of(choose("pair", str(pair)[:100], zoo.pairs()), str(request.session_hash)).seed
        return {
            number: gr.update(visible=source == "bank"), upload: gr.update(visible=source == "upload"),
            seed: first if source == "run" else gr.skip(),
        }  # fmt: skip

    def aimed(target: str) -> dict[Any, Any]:
        return {
            target_part: gr.update(info=target_note(target)),
            layer: gr.update(visible=target == "implied-clock"), region_row: gr.update(visible=target == "x0-region"),
        }  # fmt: skip

    def fitted(method: str) -> dict[Any, Any]:
        uses = saliency.SALIENCY[method].uses
        return {
            method_part: gr.update(info=method_note(method)),
            at: gr.update(visible="at" in uses), baseline: gr.update(visible="baseline" in uses),
        }  # fmt: skip

    target_part, method_part = target, method  # the listeners' arguments bear these names
    asked_for = [pair, source, number, upload, t, seed, target, layer, region, channel, method, at, baseline]
    ui.on_run(KIND, run, asked_for, [pictures, maps, table, curves, ways, code], go=go, halt=halt, line=status)
    pair.input(
        on_pair, pair,
        [number, target, layer, region_row, method, at, status, pictures, table, maps, curves, ways], **ui.AT_ONCE,
    )  # fmt: skip
    source.input(picked, [source, pair], [number, upload, seed], **ui.AT_ONCE)
    target.input(aimed, target, [target, layer, region_row], **ui.AT_ONCE)
    method.input(fitted, method, [method, at, baseline], **ui.AT_ONCE)
    for name, button in ready.items():

        def example(pair: str, name: str = name) -> dict[Any, Any]:
            noise_level, aim, way = EXAMPLES[name]
            choose("pair", str(pair)[:100], zoo.pairs())
            if aim == "implied-clock" and not pairs.has_clocks(pair):  # the menu lacks it, as no probe was fitted
                aim = "noise-norm"
            changes: dict[Any, Any] = {number: gr.update(visible=True, value=1), upload: gr.update(visible=False)}
            changes |= {source: "bank", t: noise_level, seed: 0, baseline: gr.update(value="zero")} | aimed(aim)
            for part, change in fitted(way).items():
                changes[part] = {**changes.get(part, {}), **change}
            changes[target]["value"], changes[method]["value"] = aim, way
            return changes

        outputs = [number, upload, source, t, seed, target, layer, region_row, method, at, baseline]
        ui.on_example(button, "saliency-go", example, pair, outputs)
    page.unload(forget)
    endpoints.add(Saliency, downloads=2)
