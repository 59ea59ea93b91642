"""The section Noise ruler: every estimate of the noise level of one noisy picture."""

from __future__ import annotations

import functools
import html
import random
import time
from collections.abc import Sequence
from typing import Any

import gradio as gr
from torch import Tensor

from app import pairs, ui
from app.clock.shared import SECTIONS, Change
from explore import figures, zoo
from explore.data import to_uint8
from explore.experiments import Ruler
from explore.experiments.ruler import MAX_LOGSNR, Estimate
from explore.values import choose, real_number

HIDDEN = 6.0  # a hidden log SNR is drawn from [-6, 6]: beyond this range images look alike
# Examples: log SNR.
NOISES = {"a little noise": 5.0, "as much noise as image": 0.0, "hardly any image": -5.0}
RULER_EMPTY = (
    ("clean", "the chosen image", ui.GRAY),
    ("noisy", "with the noise to be estimated", ui.GRAY),
)


def read_request(pair: Any, number: Any, path: str | None, logsnr: Any, seed: Any) -> Ruler:
    """The request of the controls.

    Raises:
        ValueError: For the first value that is not allowed, saying what is.
    """
    pair = choose("pair", str(pair)[:100], zoo.pairs())
    picture, index = pairs.source_of(pairs.members(pair)[0].dataset, number, path)
    return Ruler.parse({"model": pair, "picture": picture, "index": index, "logsnr": logsnr, "seed": seed})


def ruler_view(pictures: Sequence[tuple[str, str, Tensor]]) -> str:
    """HTML of images (title, description, uint8 (3, H, W)), enlarged without smoothing."""
    cells = [
        ui.cell("plain", ui.GRAY, title, what, ui.picture(picture[None], f"{title}, enlarged"))
        for title, what, picture in pictures
    ]
    return ui.pair_view(cells)


def ruler_table(rows: Sequence[Estimate], pair: str) -> str:
    """HTML table of the estimates: name, value with interval, description."""
    colors = [*pairs.colors(pair), *[ui.GRAY] * len(rows)]
    return ui.table(
        "Estimates of log SNR, with intervals of about 95%. The noisy image above is clipped to [-1, 1]; the estimators get "
        "the values without clipping.",
        ["estimator", "estimate", "method"],
        [
            [
                ui.swatch(color) + html.escape(row.reader),
                f"{row.value:.2f} <small>[{row.low:.2f}, {row.high:.2f}]</small>",
                html.escape(row.what),
            ]
            for row, color in zip(rows, colors)
        ],
    )


def build(pair: gr.Dropdown) -> Change:
    opening = str(pair.value)
    with gr.Column(elem_classes="tab-section"):
        ui.heading("clock-ruler", *SECTIONS["clock-ruler"])
        noises = ui.examples("ruler", NOISES)
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=280):
                number, upload = ui.image_controls("ruler", len(pairs.bank(opening)))
                amount = gr.Slider(
                    -MAX_LOGSNR, MAX_LOGSNR, 2.0, step=0.5, label="Noise, log SNR", buttons=[], elem_id="ruler-noise",
                    info="More is cleaner; at 0 image and noise have the same weight.",
                )  # fmt: skip
                seed = gr.Number(0, label="Seed of the noise", info="The same seed, the same noise.", elem_id="ruler-seed")
            with gr.Column(scale=3, min_width=320, elem_classes="tab-stage"):
                with gr.Row():
                    go = gr.Button("Measure", variant="primary", elem_id="ruler-go", scale=2, min_width=140)
                    hide = gr.Button("Hide the noise level and guess", elem_id="ruler-hide", scale=2, min_width=200)
                status = gr.HTML(ui.status(ui.READY), elem_id="ruler-status")
                with gr.Row(visible=False) as guessing:
                    guess = gr.Slider(
                        -MAX_LOGSNR, MAX_LOGSNR, 0.0, step=0.5, label="Your guess, log SNR", buttons=[], scale=3,
                        elem_id="ruler-guess", info="More is cleaner.",
                    )  # fmt: skip
                    reveal = gr.Button("Reveal", variant="primary", elem_id="ruler-reveal", scale=1, min_width=120)
                with gr.Row(equal_height=False):
                    with gr.Column(scale=2, min_width=300):
                        pictures = gr.HTML(ui.waiting(RULER_EMPTY), elem_id="ruler-pictures")
                    with gr.Column(scale=3, min_width=400, visible=False) as results:
                        figure = gr.Plot(
                            label="Estimates of the noise level",
                            show_label=False,
                            elem_id="ruler-figure",
                            elem_classes="tab-plot",
                        )
                table = gr.HTML("", elem_id="ruler-table")
                code = ui.code_part("ruler")
    hidden = gr.State(None)  # the request, until it is revealed

    def views(picture: Tensor, xt: Tensor, what: str) -> str:
        side = picture.shape[-1]
        return ruler_view([("clean", f"{side} x {side}", picture[0]), ("noisy", what, to_uint8(xt)[0])])

    def result(asked: Ruler, guessed: float | None = None) -> dict[Any, Any]:
        began, pair = time.monotonic(), str(asked.model)
        found = asked.run(load=pairs.load)
        rows = list(found.rows)
        if guessed is not None:
            rows.append(Estimate("your guess", "by eye", guessed, guessed, guessed))
        return {
            status: ui.status(f"Measured in {time.monotonic() - began:.1f} s: {html.escape(found.source)}", 1.0),
            pictures: views(found.picture, found.xt, f"log SNR {asked.logsnr:.2f}"),
            figure: figures.ruler_figure([vars(row) for row in rows], asked.logsnr, pairs.colors(pair)),
            table: ruler_table(rows, pair),
            code: asked.published.code,
            results: gr.update(visible=True),
            guessing: gr.update(visible=False),
            hidden: None,
        }

    def read(pair: str, number: float, path: str | None, logsnr: float, seed: float) -> dict[Any, Any]:
        """Adds the chosen noise and shows every estimate of its level."""
        return result(read_request(pair, number, path, logsnr, seed))

    def conceal(pair: str, number: float, path: str | None, seed: float) -> dict[Any, Any]:
        """Adds a hidden amount of noise. Shows no estimates, as they would reveal it."""
        asked = read_request(pair, number, path, random.uniform(-HIDDEN, HIDDEN), seed)
        picture, words, xt = asked.noisy(pairs.denoisers(pair)[0])
        said = "How noisy is it? Set your guess, then reveal the estimates and the true noise level."
        return {
            status: ui.status(f"{said} {html.escape(words)}"),
            pictures: views(picture, xt, "level hidden"),
            table: "",
            results: gr.update(visible=False),
            guessing: gr.update(visible=True),
            hidden: asked,
        }

    def uncover(held: Ruler | None, guessed: float) -> dict[Any, Any]:
        """Shows the estimates, the true log SNR and the guess."""
        if held is None:
            return {status: ui.status("Nothing is hidden: press a button to begin.")}
        return result(held, real_number("the guess", guessed, -MAX_LOGSNR, MAX_LOGSNR))

    def on_pair(pair: str) -> dict[Any, Any]:
        count = len(pairs.bank(pair))
        return {
            number: gr.update(maximum=max(2, count), value=1, interactive=count > 1),
            status: ui.status(ui.READY),
            pictures: ui.waiting(RULER_EMPTY),
            table: "",
            results: gr.update(visible=False),
            guessing: gr.update(visible=False),
            hidden: None,
        }

    shown = [pictures, figure, table, code, results, guessing, hidden]
    source = [pair, number, upload]
    ui.on_answer(go, read, [*source, amount, seed], shown, status, trigger_mode="always_last")
    for part in (amount, number):
        part.input(None, None, None, js=ui.rest_js("ruler-go"))
    for name, button in noises.items():
        values = {number: 1, upload: None, amount: NOISES[name]}
        ui.on_example(button, "ruler-go", functools.partial(dict, values), None, list(values))
    hide.click(ui.refusing(status)(conceal), [*source, seed], [status, *shown], **ui.AT_ONCE)
    ui.on_answer(reveal, uncover, [hidden, guess], shown, status)
    return [], [number, status, *(part for part in shown if part not in (figure, code))], on_pair
