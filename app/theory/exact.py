"""The section on Gaussian images: the exact network with and without t, sampled live."""

from __future__ import annotations

import functools
import html
import math
import time
from typing import Any

import gradio as gr
import torch

from app import ui
from app.theory.shared import COLORS, PATHS, SECTIONS, TITLES
from explore.data import to_uint8
from explore.denoiser import PREDICTIONS
from explore.experiments import ExactSamples, ExactSampling
from explore.experiments.exact import LEVELS, as_images
from explore.samplers import MAX_STEPS

KIND = "exact"  # of work
UPDATE_SECONDS = 0.25
# Examples: lower and upper end of the hidden range of t, clamp, eta and start.
HIDDEN = {
    "Hide t near the data: below .5": (0, 0.5, False, 0, 0.999),
    "Hide t near noise: above .95": (0.95, 1, False, 0, 0.999),
    "Rescue: clamp and fresh noise": (0, 1, True, 1, 0.99),
}


def read_request(
    target: Any, schedule: Any, sampler: Any, eta: Any, clamp: Any, start: Any, low: Any, high: Any, size: Any, count: Any,
    steps: Any,
) -> ExactSampling:  # fmt: skip
    """The request of the controls; eta and clamp are of ddim only.

    Raises:
        ValueError: For the first value that is not allowed, saying what is.
    """
    values = {
        "target": target, "schedule": schedule, "sampler": sampler, "start": start, "hidden_from": low, "hidden_to": high,
        "size": size, "count": count, "steps": steps,
    }  # fmt: skip
    return ExactSampling.parse(values | ({"eta": eta, "clamp": clamp} if sampler == "ddim" else {}))


def exact_view(asked: ExactSampling | None, found: ExactSamples | None) -> str:
    """HTML of both sets of samples, or of placeholders for None."""
    what = f"t hidden from {asked.hidden_from:g} to {asked.hidden_to:g}" if asked else "the same noise"
    cells = []
    for number, (title, color) in enumerate(zip(TITLES, COLORS)):
        body = ui.empty("Press the button.")
        if asked is not None and found is not None:
            images = as_images(asked.prior, found.samples[number][:16])
            finite = torch.nan_to_num(images, nan=0.0, posinf=1.0, neginf=-1.0)
            body = ui.picture(to_uint8(finite), f"Samples of the {title} optimal network")
        cells.append(ui.cell("", color, title, what if number else "t given on the whole path", body))
    return ui.pair_view(cells)


def exact_words(asked: ExactSampling, found: ExactSamples, seconds: float) -> str:
    """HTML summary of both distances, with the prior."""
    distances, floor = found.relative_frechet, 1 / (2 * asked.count)
    with_t, without = (f"{value:.3g}" if math.isfinite(value) else "infinite" for value in distances)
    ratio = distances[1] / max(distances[0], floor)
    verdict = (
        "Hiding t costs next to nothing here."
        if distances[1] < 3 * max(distances[0], floor)
        else f"Hiding t costs a factor of {ratio:.3g}."
        if math.isfinite(ratio)
        else "Without t the samples diverge."
    )
    return (
        f"<p class='summary'>Relative Fréchet distance: conditioned <b>{with_t}</b>, time-agnostic <b>{without}</b> "
        f"(perfect samples: about {floor:.3g}). {verdict} {asked.count} samples, seeds 0-{asked.count - 1}, "
        f"{asked.sampling.steps} steps of {asked.sampling.sampler}, {seconds:.1f} s.<br>Exact for: "
        f"{html.escape(found.prior)}; t one of {LEVELS} midpoints, uniform. "
        "Large values are dominated by outliers; interpret only the ranking.</p>"
    )


def build() -> None:
    with gr.Column(elem_classes="tab-section"):
        ui.heading("theory-exact", *SECTIONS["theory-exact"])
        ready = ui.examples("exact", HIDDEN)
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=280):
                with gr.Row():
                    target = gr.Dropdown(
                        list(PREDICTIONS),
                        value="eps",
                        label="Prediction type",
                        info="What the network predicts.",
                        filterable=False,
                        min_width=120,
                        elem_id="exact-target",
                    )
                    path = gr.Dropdown(
                        [(title, name) for name, title in PATHS.items()], value="ddpm-cosine", label="Noise path",
                        filterable=False, min_width=170, elem_id="exact-path", info="How image and noise are mixed.",
                    )  # fmt: skip
                sampler = gr.Dropdown(
                    ["ddim", "heun"], value="ddim", label="Sampler", filterable=False, elem_id="exact-sampler",
                    info="heun: an ODE solver of second order, at twice the cost.",
                )  # fmt: skip
                eta = gr.Slider(
                    0, 1, 0, step=0.1, label="eta (ddim)", info="Fresh noise: 0 none, 1 as in DDPM.", buttons=[],
                    elem_id="exact-eta",
                )  # fmt: skip
                clamp = gr.Checkbox(
                    False,
                    label="Clamp x0_hat to [-1, 1]",
                    info="With clamping, the image variance is .16 instead of .25.",
                    elem_id="exact-clamp",
                )
                start = gr.Slider(
                    0.9, 1, 0.99, step=0.001, label="Start of sampling, t", buttons=[], elem_id="exact-start",
                    info="1 is noise alone.",
                )  # fmt: skip
                low = gr.Slider(
                    0, 1, 0, step=0.01, label="t hidden from", info="Below it, near the data, t is given.", buttons=[],
                    elem_id="exact-low",
                )  # fmt: skip
                high = gr.Slider(
                    0,
                    1,
                    1,
                    step=0.01,
                    label="t hidden up to",
                    info="Above it, near noise, t is given.",
                    buttons=[],
                    elem_id="exact-high",
                )
                with gr.Row():
                    size = gr.Dropdown(
                        ["8", "16", "32"], value="16", label="Pixels", filterable=False, min_width=90,
                        elem_id="exact-size", info="Per side.",
                    )  # fmt: skip
                    count = gr.Number(32, label="Samples", info="2 to 64", min_width=90, elem_id="exact-count")
                    steps = gr.Number(50, label="Steps", info=f"1 to {MAX_STEPS}", min_width=90, elem_id="exact-steps")
            with gr.Column(scale=3, min_width=320, elem_classes="tab-stage"):
                go, halt, status = ui.run_button("exact", "Sample both")
                pictures = gr.HTML(exact_view(None, None), elem_id="theory-exact-pictures")
                summary = gr.HTML("", elem_id="exact-summary")
                code = ui.code_part("exact")

    def run(session: str, *values: Any) -> ui.Messages:
        """Runs both samplers and streams the progress to the page."""
        began, asked = time.monotonic(), read_request(*values)
        yield {summary: "", pictures: exact_view(asked, None)}
        for step, found in asked.stream():
            draw = functools.partial(lambda found: {pictures: exact_view(asked, found)}, found)
            done = step / asked.sampling.steps
            yield ui.Progress(f"Sampling: {done:.0%} of the way", done, draw)
        yield {
            status: ui.status("Done.", 1.0), pictures: exact_view(asked, found),
            summary: exact_words(asked, found, time.monotonic() - began), code: asked.code,
        }  # fmt: skip

    given = [target, path, sampler, eta, clamp, start, low, high, size, count, steps]
    ui.on_run(
        KIND, run, given, [pictures, summary, code], go=go, halt=halt, line=status, every=UPDATE_SECONDS
    )  # fmt: skip
    for name, button in ready.items():
        values = dict(zip((low, high, clamp, eta, start), HIDDEN[name])) | {
            target: "eps", path: "ddpm-cosine", sampler: "ddim"
        }  # fmt: skip
        ui.on_example(button, "exact-go", functools.partial(dict, values), None, list(values))
