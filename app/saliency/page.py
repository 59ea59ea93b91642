"""The page of the tab Saliency: controls, listeners, examples and its stop of the tour."""

from __future__ import annotations

import functools
import html
import time
from collections.abc import Generator
from typing import Any

import gradio as gr

from app import pairs, ui, works
from app.saliency.asking import as_code, ask
from app.saliency.endpoints import build as build_endpoint
from app.saliency.settings import (
    REGIONS,
    default_layer,
    denoisers,
    looked_layers,
    of_a_run,
    read_layers,
    read_settings,
    run_of,
    with_noise,
)
from app.saliency.views import (
    NOTE,
    curves_figure,
    empty,
    maps_figure,
    method_note,
    pictures_view,
    quality_table,
    routes_figure,
    target_note,
)
from app.works import Work
from explore import saliency
from explore.saliency import Attribution, Routes

SOURCES = {"a bundled picture": "bank", "my own picture": "upload", "a frame of the run in Compare": "run"}
TARGETS = {
    "implied noise level of a layer": "implied-clock",
    "norm of the predicted noise": "noise-norm",
    "region of the estimate x0_hat": "x0-region",
    "error against the clean picture": "loss",
}
METHODS = {
    "Integrated Gradients": "integrated-gradients",
    "gradient (saliency)": "saliency",
    "SmoothGrad": "smoothgrad",
    "input x gradient": "input-x-gradient",
    "occlusion": "occlusion",
    "bands of frequency, one left out at a time": "frequency-ablation",
    "GradCAM at a block": "layer-gradcam",
    "conductance of a block": "layer-conductance",
}
BASELINES = {"mid-gray, no noise": "zero", "the picture, blurred": "blurred", "flat, with as much noise": "matched-noise"}
CHANNELS = {"all channels": -1, "red": 0, "green": 1, "blue": 2}
# Name -> t, target, method, of a bundled picture.
EXAMPLES = {
    "noise level, near the data": (0.1, "implied-clock", "integrated-gradients"),
    "noise level, near noise": (0.8, "implied-clock", "integrated-gradients"),
    "noise level, by frequency": (0.1, "implied-clock", "frequency-ablation"),
    "the predicted noise": (0.3, "noise-norm", "occlusion"),
}


def warm_up() -> None:
    """Imports what the first use would wait for."""
    import captum.attr  # noqa: F401
    import scipy.stats  # noqa: F401


@functools.lru_cache(maxsize=16)
def method_menu(pair: str) -> list[tuple[str, str]]:
    """Methods that work on both members, by label."""
    refused = {name for one in denoisers(pair) for name, why in saliency.offered(one).items() if why}
    return [(label, name) for label, name in METHODS.items() if name not in refused]


def target_menu(pair: str) -> list[tuple[str, str]]:
    return [(label, name) for label, name in TARGETS.items() if name != "implied-clock" or pairs.has_clock(pair)]


def tour() -> list[ui.Stop]:
    """The first example."""
    return [
        ui.Stop(
            "Pixels",
            "Which pixels does it read the noise level from?",
            "Green adds to the reading, purple takes from it, on one scale for both. Before you believe a map, look at the "
            "table: does it add up to the reading, and does a reinitialized network give another one?",
            "saliency-maps",
            "saliency-example-1",
        )
    ]


def build(page: gr.Blocks) -> None:
    """Lays out the tab and connects it."""
    able = pairs.comparable_pairs()
    opening = next((pair for pair in able if pairs.has_clock(pair)), able[0])
    layers, looked = read_layers(opening), looked_layers(opening)
    targets = target_menu(opening)
    with gr.Column(elem_classes="tab-section"):
        ui.heading(
            "saliency-maps",
            "Which pixels is it read from?",
            "One number of each network is shared out over the picture it is shown: the noise level that it takes the picture "
            "to have, the noise that it predicts, or a part of the picture that it sees behind the noise.",
        )
        ready = ui.examples("saliency", EXAMPLES)
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=280):
                pair = pairs.menu(able, opening, "saliency")
                source = gr.Radio(
                    list(SOURCES.items()), value="bank", label="Shown", info="What both members look at.",
                    elem_id="saliency-source",
                )  # fmt: skip
                number, upload = ui.picture_controls("saliency", len(pairs.bank(opening)), visible=False)
                t = gr.Slider(
                    0.02, 1.0, 0.3, step=0.02, label="Noise level t", buttons=[], elem_id="saliency-t",
                    info="Noise up to here is added (1: nothing else); of a run, the frame nearest to it.",
                )  # fmt: skip
                seed = gr.Number(0, label="Seed", info="of the noise, or of an image in Compare", elem_id="saliency-seed")
                target = gr.Dropdown(
                    targets, value=targets[0][1], label="Target", filterable=False, elem_id="saliency-target",
                    info=target_note(targets[0][1]),
                )  # fmt: skip
                layer = gr.Dropdown(
                    layers, value=default_layer(opening) if layers else None, label="Layer of the probe",
                    info="Its probe prediction is attributed.", filterable=False, visible=targets[0][1] == "implied-clock",
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
                    method_menu(opening), value="integrated-gradients", label="Method", filterable=False,
                    elem_id="saliency-method", info=method_note("integrated-gradients"),
                )  # fmt: skip
                at = gr.Dropdown(
                    looked, value=looked[0] if looked else None, label="Block that the method looks at", filterable=False,
                    info="Its positions are shown in place of pixels.", visible=False, elem_id="saliency-at",
                )  # fmt: skip
                baseline = gr.Dropdown(
                    list(BASELINES.items()), value="zero", label="Baseline", filterable=False, elem_id="saliency-baseline",
                    info="What replaces a missing pixel.",
                )  # fmt: skip
            with gr.Column(scale=3, min_width=320, elem_classes="tab-stage"):
                go, halt = ui.go_and_stop("Show the maps", "saliency")
                status = gr.HTML(ui.status(ui.READY), elem_id="saliency-status")
                pictures = gr.HTML(empty(opening), elem_id="saliency-pictures")
                maps = ui.plot("Maps", "saliency-figure")
                table = gr.HTML("", elem_id="saliency-table")
                curves = ui.plot("Deletion and insertion", "saliency-curves")
                ways = ui.plot("Through the t input", "saliency-routes")
                code = ui.code_part("saliency")
                gr.HTML(NOTE)

    def run(
        work: Work, pair: str, source: str, number: float, path: str | None, t: float, seed: float, target: str, layer: str,
        region: str, channel: int, method: str, at: str, baseline: str,
    ) -> Generator[dict[Any, Any]]:  # fmt: skip
        """Maps, then checks, of both members."""
        began = time.monotonic()
        settings = read_settings(pair, t, target, method, baseline, layer, at, region, channel, seed)
        yield {table: "", pictures: "", **dict.fromkeys((maps, curves, ways))}
        live = run_of(pair, work.session)
        if source == "run":
            shown = of_a_run(settings, live, work.at)
        elif source == "upload" and not path:
            raise ValueError("upload a picture first")
        else:
            _, picture, words = pairs.chosen(pair, number, path if source == "upload" else None)
            shown = with_noise(settings, picture, words)
        # Of messages that come together the page may pass over all but the last, so that one has everything once more.
        whole: dict[Any, Any] = {pictures: pictures_view(pair, shown)}
        yield {**whole, status: ui.status("The first map.")}
        total = 2 * (2 + (saliency.SALIENCY[method].domain != "frequencies") + 1)
        found: list[Attribution] = []
        through: list[Routes] = []
        for done, (words, found, through) in enumerate(ask(settings, shown), start=1):
            work.at(done / total, f"Done: {html.escape(words)}")
            change: dict[Any, Any] = {}
            if len(found) == 2:
                change[table] = quality_table(settings, found, through)
                if done == 2:
                    change[maps] = maps_figure(settings, shown, found)
                if len(through) == 2 and done == 4:
                    change[ways] = routes_figure(settings, through)
                if curves not in whole and all("curves" in one.quality for one in found):
                    change[curves] = curves_figure(settings, found)
            whole |= change
            yield change
        what = f" {html.escape(shown.words[:1].upper() + shown.words[1:])}." if shown.words else ""
        yield {
            **whole,
            code: as_code(settings, source, int(number), live),
            status: ui.status(f"<b>Finished</b> after {time.monotonic() - began:.1f} s.{what}", 1.0),
        }

    def on_pair(pair: str, request: gr.Request) -> dict[Any, Any]:
        works.WORKS.end(str(request.session_hash), "saliency")
        count, targets, layers, looked = len(pairs.bank(pair)), target_menu(pair), read_layers(pair), looked_layers(pair)
        return {
            number: gr.update(maximum=max(2, count), value=1, interactive=count > 1),
            target: gr.update(choices=targets, value=targets[0][1], info=target_note(targets[0][1])),
            layer: gr.update(choices=layers, value=default_layer(pair) if layers else None, visible=bool(layers)),
            region_row: gr.update(visible=False),
            method: gr.update(choices=method_menu(pair)),
            at: gr.update(choices=looked, value=looked[0] if looked else None),
            status: ui.status(ui.READY), pictures: empty(pair), table: "",
            **dict.fromkeys((maps, curves, ways)),
        }  # fmt: skip

    def picked(source: str, pair: str, request: gr.Request) -> dict[Any, Any]:
        first = run_of(pairs.known(pair), str(request.session_hash)).seed
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
    parts = [status, pictures, maps, table, curves, ways, code, halt]
    asked_for = [pair, source, number, upload, t, seed, target, layer, region, channel, method, at, baseline]
    event = ui.on_run("saliency", go, halt, status, run, asked_for, parts)
    ui.stops("saliency", [event], halt, status)
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
            pairs.known(pair)
            if aim == "implied-clock" and not pairs.has_clock(pair):  # the menu lacks it, as no probe was fitted
                aim = "noise-norm"
            changes: dict[Any, Any] = {number: gr.update(visible=True, value=1), upload: gr.update(visible=False)}
            changes |= {source: "bank", t: noise_level, seed: 0, baseline: gr.update(value="zero")} | aimed(aim)
            for part, change in fitted(way).items():
                changes[part] = {**changes.get(part, {}), **change}
            changes[target]["value"], changes[method]["value"] = aim, way
            return changes

        outputs = [number, upload, source, t, seed, target, layer, region_row, method, at, baseline]
        ui.on_example(button, "saliency-go", example, pair, outputs)
    page.unload(works.forget)
    build_endpoint(opening)
