"""The section Steering: samples of one member unchanged, steered along a probe's direction, and along a random one."""

from __future__ import annotations

import contextlib
import functools
import html
import time
from collections.abc import Mapping
from typing import Any

import gradio as gr
from torch import Tensor

from app import pairs, ui, works
from app.clock.shared import SECTIONS, UPDATE_SECONDS, Change, number_fields
from explore import interventions, zoo
from explore.data import to_uint8
from explore.experiments import Steering
from explore.values import choose, whole_number

KIND = "steering"  # of work
MAX_DOSE = 4.0
# Examples: index of the member and dose.
PUSHES = {
    "time-agnostic, as if cleaner": (1, 2.0), "time-agnostic, as if noisier": (1, -2.0), "conditioned, as if cleaner": (0, 2.0),
}  # fmt: skip
RUN_TITLES = {"plain": "unsteered", "steered": "steered", "control": "random direction"}


def read_request(pair: Any, member: Any, layer: Any, dose: Any, seed: Any, count: Any, steps: Any) -> Steering:
    """The request of the controls.

    Raises:
        ValueError: For the first value that is not allowed, saying what is.
    """
    info = pairs.members(choose("pair", str(pair)[:100], zoo.pairs()))[whole_number("the member", member, 0, 1)]
    values = {"model": info.name, "layer": layer, "dose": dose, "seed": seed, "count": count, "steps": steps}
    return Steering.parse(values, live=True)


def steering_view(pair: str, member: int, states: Mapping[str, Tensor]) -> str:
    """HTML of the states by run (see ``RUN_TITLES``), uint8 (N, 3, H, W) each; placeholders for runs not yet started."""
    color, title = pairs.colors(pair)[member], pairs.titles(pair)[member]
    cells = []
    for name, words in RUN_TITLES.items():
        body = ui.empty("the same noise")
        if name in states:
            body = ui.picture(states[name], f"{title}, {words}, a grid of images")
        cells.append(ui.cell(name, color if name != "control" else ui.GRAY, words, "", body))
    return ui.pair_view(cells, "three")


def steering_summary(layer: str, dose: float, effect: dict[str, Any], seconds: float) -> str:
    """HTML summary of the result of :func:`explore.interventions.steered_figures`."""
    steered, control = effect["difference"]["steered"], effect["difference"]["control"]
    spread = ", ".join(f"{RUN_TITLES[name]} {value:.3f}" for name, value in effect["std"].items())
    return (
        f"<p class='summary'><b>Finished</b> after {seconds:.1f} s: {html.escape(layer)} steered by {dose:+g} log SNR. "
        f"<b>Mean |difference| from the unsteered samples: steered {steered:.4f}, random direction {control:.4f}</b> "
        f"(2 is black against white). Standard deviation: {spread}; about 0.5 for photographs. If a probe's direction "
        "changes the images no more than a random one, the network does not use it. This is a first look: one random "
        "direction and few images.</p>"
    )


def build(pair: gr.Dropdown) -> Change:
    opening = str(pair.value)
    with gr.Column(elem_classes="tab-section"):
        ui.heading("clock-steering", *SECTIONS["clock-steering"])
        pushes = ui.examples("steer", PUSHES)
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=280):
                member = gr.Radio(
                    [(title, number) for number, title in enumerate(pairs.titles(opening))], value=1, label="Member",
                    elem_id="steer-member", info="Whose activations are steered.",
                )  # fmt: skip
                layer = gr.Dropdown(
                    pairs.probed_layers(opening),
                    value=_steered_layer(opening),
                    label="Layer",
                    info="Steered at every step.",
                    filterable=False,
                    elem_id="steer-layer",
                )
                dose = gr.Slider(
                    -MAX_DOSE, MAX_DOSE, 2.0, step=0.5, label="Dose, log SNR", buttons=["reset"], elem_id="steer-dose",
                    info="Above 0: as if the input were cleaner than it is.",
                )  # fmt: skip
                numbers = number_fields("steer")
            with gr.Column(scale=3, min_width=320, elem_classes="tab-stage"):
                go, halt, status = ui.run_button("steer", "Steer")
                pictures = gr.HTML(steering_view(opening, 1, {}), elem_id="steer-pictures")
                summary = gr.HTML("", elem_id="steer-summary")
                code = ui.code_part("steer")

    def run(
        session: str, pair: str, member: int, layer: str, dose: float, seed: float, count: float, steps: float
    ) -> ui.Messages:  # fmt: skip
        """Runs the three samplings one after the other and streams the progress to the page."""
        began = time.monotonic()
        asked = read_request(pair, member, layer, dose, seed, count, steps)
        total = asked.sampling.steps
        states: dict[str, Tensor] = {}

        def draw() -> dict[Any, Any]:
            return {pictures: steering_view(pair, member, {run: to_uint8(xt) for run, xt in states.items()})}

        yield {summary: "", **draw()}
        with contextlib.closing(asked.stream(pairs.load(str(asked.model)), pairs.clocks(pair)[member])) as stream:
            for name, step in stream:
                states[name] = step.xt
                said = f"{RUN_TITLES[name]}: step <b>{step.index}</b> of {total}, t = <b>{step.t:.3f}</b>"
                yield ui.Progress(said, (len(states) - 1 + step.index / total) / len(RUN_TITLES), draw)
        effect = interventions.steered_figures(states)
        yield {
            **draw(),
            status: ui.status(f"Done: three runs of {total} steps.", 1.0),
            summary: steering_summary(layer, dose, effect, time.monotonic() - began),
            code: asked.code,
        }

    def on_pair(pair: str, request: gr.Request) -> dict[Any, Any]:
        works.WORKS.end(str(request.session_hash), KIND)
        return {
            member: gr.update(choices=[(title, number) for number, title in enumerate(pairs.titles(pair))], value=1),
            layer: gr.update(choices=pairs.probed_layers(pair), value=_steered_layer(pair)),
            pictures: steering_view(pair, 1, {}),
            status: ui.status(ui.READY),
            summary: "",
        }

    given = [pair, member, layer, dose, *numbers]
    ui.on_run(
        KIND, run, given, [pictures, summary, code], go=go, halt=halt, line=status, every=UPDATE_SECONDS
    )  # fmt: skip
    for name, button in pushes.items():
        push = dict(zip((member, dose), PUSHES[name]))
        ui.on_example(button, "steer-go", functools.partial(dict, push), None, list(push))
    return [], [member, layer, pictures, status, summary], on_pair


def _steered_layer(pair: str) -> str:
    """The default layer, an early one: steering there visibly changes the images."""
    layers = pairs.probed_layers(pair)
    return layers[len(layers) // 6]
