"""The section on the implied noise level during sampling, with the true or a shifted t."""

from __future__ import annotations

import contextlib
import functools
import html
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gradio as gr
import numpy as np
import torch
from torch import Tensor

from app import pairs, ui, works
from app.clock.shared import SECTIONS, UPDATE_SECONDS, Change, number_fields
from explore import figures, probes, zoo
from explore.data import to_uint8
from explore.experiments import Clock
from explore.probes.told import INDEPENDENT
from explore.samplers import Step
from explore.values import choose

KIND = "running"  # of work
MAX_OFFSET = 0.3
CURVE_SECONDS = 0.4  # at most one update of the curves in this time
BEST = ""  # value of the layer menu: each member's own best layer near the data
# Examples: shift of the timestep.
LIES = {"True t": 0.0, "Shifted t: .2 too noisy": 0.2, "Shifted t: .2 too clean": -0.2}


def read_request(pair: Any, layer: Any, seed: Any, count: Any, steps: Any, offset: Any) -> Clock:
    """The request of the controls: both members, with their probes of both conditions.

    Raises:
        ValueError: For the first value that is not allowed, saying what is.
    """
    pair = choose("pair", str(pair)[:100], zoo.pairs())
    named = {"layer": [layer], "view": pairs.sharper_view(pair, layer)} if layer else {}
    values = {
        "model": pair,
        "condition": [INDEPENDENT, "true"],
        "seed": seed,
        "count": count,
        "steps": steps,
        "clock_offset": offset,
    }
    return Clock.parse({**values, **named}, live=True)


def clock_path(pair: str, offset: float) -> dict[str, list[float]]:
    """The noise level along the whole path: ``t``, the ``true`` value, and that of the given t (``given``)."""
    denoiser, clock = pairs.denoisers(pair)[0], pairs.clocks(pair)[0]
    t = torch.linspace(1e-3, min(denoiser.start, 0.999), 150, dtype=torch.float64)
    values = probes.TARGETS[clock.target].values
    true, given = (values(denoiser.schedule, times).tolist() for times in (t, (t + offset).clamp(0, 1)))
    return {"t": t.tolist(), "true": true, "given": given}


def off_by(run: dict[str, Any], layer: dict[str, Any], levels: Sequence[float]) -> float:
    """Mean of implied minus true noise level over the evaluations whose true level lies in the range of ``levels``."""
    gaps = [mean - true for mean, true in zip(layer["mean"], run["true"]) if min(levels) <= true <= max(levels)]
    return float(np.mean(gaps)) if gaps else math.nan


def run_view(pair: str, states: Sequence[Tensor] | None) -> str:
    """HTML of both members' states, uint8 (N, 3, H, W) each, or of placeholders for None."""
    cells = []
    for member, (title, color) in enumerate(zip(pairs.titles(pair), pairs.colors(pair))):
        body = ui.empty("from noise to image, step by step")
        if states is not None:
            body = ui.picture(states[member], f"{title}, a grid of images")
        cells.append(ui.cell(f"member-{member}", color, title, "", body))
    return ui.pair_view(cells)


def run_curves(pair: str, runs: Sequence[dict[str, Any]], offset: float) -> Any:
    """Figure of the implied noise levels so far, with the true one and that of the given t."""
    blank = {"target": pairs.clocks(pair)[0].target, "offset": offset, "t": [], "layers": []}
    figure = figures.implied_level_curves(
        runs or [blank], pairs.titles(pair), pairs.colors(pair), path=clock_path(pair, offset)
    )  # fmt: skip
    return figure.update_layout(height=420)


def run_summary(
    asked: Clock, runs: Sequence[dict[str, Any]], samples: Sequence[Tensor], seconds: float,
    truthful: Sequence[Tensor] | None,
) -> str:  # fmt: skip
    """HTML summary of a finished run."""
    pair, rows = str(asked.model), []
    for run, title, color, clock in zip(runs, pairs.titles(pair), pairs.colors(pair), pairs.clocks(pair)):
        for layer in run["layers"]:
            words = f", fitted with {probes.told_label(layer['told'])}" if len(run["layers"]) > 1 else ""
            rows.append(
                [
                    f"{ui.swatch(color)}{html.escape(title)}{words}",
                    f"{html.escape(layer['name'])} <small>({layer['view']})</small>",
                    f"{off_by(run, layer, clock.levels):+.2f}",
                ]
            )
    unit = figures.UNITS[runs[0]["target"]]
    said = [f"<b>Finished</b> after {seconds:.1f} s ({asked.sampling.sampler}, {asked.sampling.steps} steps)."]
    if asked.clock_offset:
        for run, title in zip(runs, pairs.titles(pair)):
            if len(run["layers"]) == 1:  # the time-agnostic member
                said.append(
                    f"<b>Nothing changes for the {html.escape(title)} model:</b> it has no t input, so its images and "
                    "its implied noise level are those of the run with the true t."
                )
        if truthful is not None:
            changes = [(after - before).abs().mean().item() for after, before in zip(samples, truthful)]
            said.append(
                "Mean |difference| of the images from the run with the true t: "
                + ", ".join(f"{html.escape(title)} <b>{c:.4f}</b>" for title, c in zip(pairs.titles(pair), changes))
                + "."
            )
        else:
            said.append("Run once with a shift of 0 to see by how much the images change.")
    table = ui.table(f"Implied minus true noise level, mean over the run, in {unit}", ["", "layer", "implied minus true"], rows)
    return f"<p class='summary'>{' '.join(said)}</p>{table}"


def build(page: gr.Blocks, pair: gr.Dropdown) -> Change:
    opening = str(pair.value)
    with gr.Column(elem_classes="tab-section"):
        ui.heading("clock-running", *SECTIONS["clock-running"])
        lies = ui.examples("clock", LIES)
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=280):
                layer = gr.Dropdown(
                    _run_layers(opening), value=_run_layer(opening), label="Probed layer", filterable=False,
                    elem_id="clock-layer", info="The block whose probe predicts the noise level at every step.",
                )  # fmt: skip
                numbers = number_fields("clock")
                lie = gr.Slider(
                    -MAX_OFFSET, MAX_OFFSET, 0.0, step=0.05, label="Shift of the given t", buttons=["reset"],
                    elem_id="clock-lie",
                    info="The sampler keeps the true t.",
                )  # fmt: skip
                gr.HTML(
                    "<p class='note'>Both models rerun with the shifted t. The time-agnostic model has no t input, so nothing "
                    "changes for it.</p>"
                )
            with gr.Column(scale=3, min_width=320, elem_classes="tab-stage"):
                go, halt, status = ui.run_button("clock", "Run the clock")
                with gr.Row(equal_height=False):
                    with gr.Column(scale=3, min_width=420):
                        curves = gr.Plot(
                            label="Implied noise level over t",
                            show_label=False,
                            elem_id="clock-curves",
                            elem_classes="tab-plot",
                        )
                    with gr.Column(scale=2, min_width=320):
                        pictures = gr.HTML(run_view(opening, None), elem_id="clock-pictures")
                summary = gr.HTML("", elem_id="clock-summary")
                code = ui.code_part("clock")
    truthful = gr.State(None)  # request and samples of the last run with the true timestep

    def run(
        session: str, pair: str, layer: str, seed: float, count: float, steps: float, offset: float, before: Any
    ) -> ui.Messages:  # fmt: skip
        """Samples with both members and streams the progress to the page."""
        began, drawn = time.monotonic(), -math.inf
        asked = read_request(pair, layer, seed, count, steps, offset)
        yield {summary: "", curves: run_curves(pair, [], offset)}
        both: list[Step] = []
        runs: list[dict[str, Any]] = []

        def draw() -> dict[Any, Any]:
            nonlocal drawn
            change: dict[Any, Any] = {pictures: run_view(pair, [to_uint8(step.xt) for step in both])}
            if time.monotonic() - drawn >= CURVE_SECONDS:
                drawn = time.monotonic()
                change[curves] = run_curves(pair, runs, offset)
            return change

        with (
            pairs.copies(pair) as copies,
            contextlib.closing(asked.stream(copies, pairs.clocks(pair))) as stream,
        ):
            for both, runs in stream:  # noqa: B007 (the last ones count)
                said = f"Step <b>{both[0].index}</b> of {asked.sampling.steps}, t = <b>{both[0].t:.3f}</b>"
                yield ui.Progress(said, both[0].index / asked.sampling.steps, draw)
        samples = [step.xt for step in both]
        honest = replace(asked, clock_offset=0.0, layer=None, view="mean")  # the samples do not depend on the probes
        if offset == 0:
            before = (honest, samples)
        known = before[1] if before and before[0] == honest else None
        yield {
            status: ui.status(said, 1.0),
            pictures: run_view(pair, [to_uint8(xt) for xt in samples]),
            curves: run_curves(pair, runs, offset),
            summary: run_summary(asked, runs, samples, time.monotonic() - began, known),
            truthful: before,
            code: asked.code,
        }

    def on_pair(pair: str, offset: float, request: gr.Request) -> dict[Any, Any]:
        works.WORKS.end(str(request.session_hash), KIND)
        return {
            layer: gr.update(choices=_run_layers(pair), value=_run_layer(pair)),
            pictures: run_view(pair, None),
            curves: run_curves(pair, [], offset),
            status: ui.status(ui.READY),
            summary: "",
        }

    ui.on_run(
        KIND, run, [pair, layer, *numbers, lie, truthful], [curves, pictures, summary, code, truthful],
        go=go, halt=halt, line=status, every=UPDATE_SECONDS,
    )  # fmt: skip
    lie.change(None, None, None, js=ui.rest_js("clock-go"))
    for name, button in lies.items():
        ui.on_example(button, "clock-go", functools.partial(dict, {lie: LIES[name]}), None, [lie])
    page.load(lambda pair, offset: run_curves(pair, [], offset), [pair, lie], curves, **ui.AT_ONCE)
    return [lie], [layer, pictures, curves, status, summary], on_pair


def _run_layers(pair: str) -> list[tuple[str, str]]:
    """(label, value) of the layers that a probe can use during sampling."""
    best = " and ".join(dict.fromkeys(clock.best[0] for clock in pairs.clocks(pair)))
    return [*((name, name) for name in pairs.probed_layers(pair)), (f"each its best ({best})", BEST)]


def _run_layer(pair: str) -> str:
    """The default layer: the middle one, after the timestep embedding enters and before the last blocks discard it."""
    layers = pairs.probed_layers(pair)
    return layers[len(layers) // 2] if layers else BEST
