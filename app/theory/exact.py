"""The section on Gaussian images: the exact network with and without t, sampled live."""

from __future__ import annotations

import functools
import html
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
import torch
from torch import Tensor

from app import snippets, ui
from app.theory.shared import COLORS, LEVELS, MAX_SAMPLES, MAX_STEPS, PATHS, SECTIONS, TITLES
from explore import bayes
from explore.data import to_uint8
from explore.denoiser import PREDICTIONS, Denoiser
from explore.samplers import SAMPLERS
from explore.schedules import SCHEDULES
from explore.seeds import keyed_noise, seed_range
from explore.values import choose, real_number, truth_value, whole_number

KIND = "exact"  # of work
IMAGES = {False: (0.25, "plain"), True: (0.16, "dct")}  # clamp -> variance and basis of the Gaussian images
SIZES = (8, 16, 32)  # height and width of the Gaussian images
UPDATE_SECONDS = 0.25
# Examples: lower and upper end of the hidden range of t, clamp, eta and start.
HIDDEN = {
    "Hide t near the data: below .5": (0, 0.5, False, 0, 0.999),
    "Hide t near noise: above .95": (0.95, 1, False, 0, 0.999),
    "Rescue: clamp and fresh noise": (0, 1, True, 1, 0.99),
}


@dataclass(frozen=True)
class Exact:
    """Settings of this section.

    Attributes:
        target: A key of ``PREDICTIONS``.
        path: A key of ``SCHEDULES``.
        sampler: ``ddim`` or ``heun``.
        eta: 0 to 1; used by ddim only.
        clamp: Whether to clamp x0_hat to [-1, 1]; used by ddim only.
        start: First t, from .5 to 1.
        hidden: Range of t in which the second network does not receive t.
        size: Height and width of the images.
        count: Number of samples.
        steps: Sampling steps.
    """

    target: str
    path: str
    sampler: str
    eta: float
    clamp: bool
    start: float
    hidden: tuple[float, float]
    size: int
    count: int
    steps: int

    @property
    def options(self) -> dict[str, Any]:
        """Options of the sampler."""
        own = {"eta": self.eta, "clamp": self.clamp} if self.sampler == "ddim" else {}
        return {**own, "start": self.start}


def read_exact(
    target: Any, path: Any, sampler: Any, eta: Any, clamp: Any, start: Any, low: Any, high: Any, size: Any, count: Any,
    steps: Any,
) -> Exact:  # fmt: skip
    """Checks the values of the controls and returns them as Exact.

    Raises:
        ValueError: For the first invalid value; the message says which values are allowed.
    """
    low, high = real_number("hidden from", low, 0, 1), real_number("hidden to", high, 0, 1)
    if low >= high:
        raise ValueError(f"t is hidden from a smaller to a larger value, got {low:g} to {high:g}")
    found = Exact(
        target=choose("target", str(target)[:40], PREDICTIONS),
        path=choose("noise path", str(path)[:40], PATHS),
        sampler=choose("sampler", str(sampler)[:40], ("ddim", "heun")),
        eta=real_number("eta", eta, 0, 1),
        clamp=truth_value("clamp", clamp),
        start=real_number("the start", start, 0.5, 1),
        hidden=(low, high),
        size=int(choose("size", str(size)[:10], [str(one) for one in SIZES])),
        count=whole_number("the number of samples", count, 2, MAX_SAMPLES),
        steps=whole_number("steps", steps, 1, MAX_STEPS),
    )
    if PREDICTIONS[found.target].flow_only and found.path != "flow":
        raise ValueError(f"the target {found.target} is defined on the path flow only")
    if found.start > 0.9999 and found.path != "flow":
        raise ValueError("on this path no signal is left at t = 1: start at .9999 or before")
    if found.start > 0.9999 and found.target == "eps":
        raise ValueError("an eps prediction cannot start at t = 1, where alpha is 0: start at .9999 or before")
    return found


def exact_denoisers(settings: Exact) -> tuple[bayes.DiagonalGaussian, list[Denoiser]]:
    """The prior, and two exact networks: the conditioned one, and the one with t hidden."""
    # Clamping acts on pixels: it needs a basis that converts coordinates to pixels, and a small variance.
    prior = bayes.spectral_gaussian(settings.size, *IMAGES[settings.clamp])
    levels = bayes.Levels.midpoints(SCHEDULES[settings.path], LEVELS)
    shape = (3, settings.size, settings.size)
    return prior, [
        bayes.bayes_denoiser(prior, levels, settings.target, shape, hidden=hidden) for hidden in (None, settings.hidden)
    ]


def stream_exact(settings: Exact) -> Iterator[tuple[float, list[Tensor], list[float]]]:
    """Runs both samplers. Yields the fraction done, both states (N, 3, H, W), and both relative Fréchet distances."""
    prior, denoisers = exact_denoisers(settings)
    seeds = seed_range(0, settings.count)
    noise = keyed_noise(seeds, denoisers[0].shape).double()
    walks = [
        SAMPLERS[settings.sampler](denoiser, noise, settings.steps, seeds=seeds, **settings.options) for denoiser in denoisers
    ]
    for both in zip(*walks):
        states = [step.xt for step in both]
        images = [state if prior.basis == "dct" else _seen(prior, state) for state in states]
        yield both[0].index / settings.steps, images, [bayes.relative_frechet(prior, state) for state in states]


def exact_code(settings: Exact) -> str:
    """Python code that reproduces :func:`stream_exact`."""
    shape = (3, settings.size, settings.size)
    prior = snippets.call("bayes.spectral_gaussian", settings.size, *IMAGES[settings.clamp])
    network = snippets.call("bayes.bayes_denoiser", "=prior", "=levels", settings.target, shape, hidden="=hidden")
    run = snippets.call(
        f"SAMPLERS[{settings.sampler!r}]", "=network", "=noise", settings.steps, seeds="=seeds", **settings.options
    )  # fmt: skip
    return f"""from explore import bayes
from explore.samplers import SAMPLERS
from explore.schedules import SCHEDULES
from explore.seeds import keyed_noise, seed_range
prior, levels = {prior}, bayes.Levels.midpoints(SCHEDULES[{settings.path!r}], {LEVELS})
seeds = seed_range(0, {settings.count})
noise = keyed_noise(seeds, {shape}).double()
networks = [{network} for hidden in (None, {settings.hidden})]
samples = [list({run})[-1].xt for network in networks]
samples, [bayes.relative_frechet(prior, own) for own in samples]  # conditioned and not; coordinates of the prior's basis
"""


def _seen(prior: bayes.DiagonalGaussian, state: Tensor) -> Tensor:
    """Converts coordinates in the covariance's Fourier basis to images.

    Uses the Hartley transform, which is real, orthonormal and its own inverse, with the frequencies of the Fourier basis.
    """
    spectrum = torch.fft.fft2(state, norm="ortho")
    return spectrum.real - spectrum.imag


def exact_view(settings: Exact | None, images: Sequence[Tensor] | None) -> str:
    """HTML of both sets of samples, or of placeholders for None."""
    what = f"hidden from t = {settings.hidden[0]:g} to {settings.hidden[1]:g}" if settings else "the same noise"
    cells = []
    for number, (title, color) in enumerate(zip(TITLES, COLORS)):
        body = ui.empty("Press the button.")
        if images is not None:
            finite = torch.nan_to_num(images[number], nan=0.0, posinf=1.0, neginf=-1.0)
            body = ui.picture(to_uint8(finite[:16]), f"Samples of the {title} optimal network")
        cells.append(ui.cell("", color, title, what if number else "on the whole path", body))
    return ui.pair_view(cells)


def exact_words(settings: Exact, distances: Sequence[float], seconds: float) -> str:
    """HTML summary of both distances, with the prior."""
    prior, _ = exact_denoisers(settings)
    floor = 1 / (2 * settings.count)
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
        f"(perfect samples: about {floor:.3g}). {verdict} {settings.count} samples, seeds 0-{settings.count - 1}, "
        f"{settings.steps} steps of {settings.sampler}, {seconds:.1f} s.<br>Exact for: {html.escape(prior.prior)}; t one of "
        f"{LEVELS} midpoints, uniform. Large values are dominated by outliers; interpret only the ranking.</p>"
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
                        label="Predicts",
                        info="What the network gives.",
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
                    label="clamp x0_hat to [-1, 1]",
                    info="The images have variance .16, so that most fit.",
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
                    0, 1, 1, step=0.01, label="to", info="Above it, near noise, t is given.", buttons=[], elem_id="exact-high"
                )
                with gr.Row():
                    size = gr.Dropdown(
                        [str(one) for one in SIZES], value="16", label="Pixels", filterable=False, min_width=90,
                        elem_id="exact-size", info="A side.",
                    )  # fmt: skip
                    count = gr.Number(32, label="Samples", info=f"2 to {MAX_SAMPLES}", min_width=90, elem_id="exact-count")
                    steps = gr.Number(50, label="Steps", info=f"1 to {MAX_STEPS}", min_width=90, elem_id="exact-steps")
            with gr.Column(scale=3, min_width=320, elem_classes="tab-stage"):
                go, halt, status = ui.run_button("exact", "Sample both")
                pictures = gr.HTML(exact_view(None, None), elem_id="theory-exact-pictures")
                summary = gr.HTML("", elem_id="exact-summary")
                code = ui.code_part("exact")

    def run(session: str, *values: Any) -> ui.Messages:
        """Runs both samplers and streams the progress to the page."""
        began, settings = time.monotonic(), read_exact(*values)
        yield {summary: "", pictures: exact_view(settings, None)}
        for done, images, distances in stream_exact(settings):  # noqa: B007 (the last ones count)
            draw = functools.partial(lambda images: {pictures: exact_view(settings, images)}, images)
            yield ui.Progress(f"Sampling: {done:.0%} of the way", done, draw)
        yield {
            status: ui.status("Done.", 1.0), pictures: exact_view(settings, images),
            summary: exact_words(settings, distances, time.monotonic() - began), code: exact_code(settings),
        }  # fmt: skip

    asked = [target, path, sampler, eta, clamp, start, low, high, size, count, steps]
    ui.on_run(
        KIND, run, asked, [pictures, summary, code], go=go, halt=halt, line=status, every=UPDATE_SECONDS
    )  # fmt: skip
    for name, button in ready.items():
        values = dict(zip((low, high, clamp, eta, start), HIDDEN[name])) | {
            target: "eps", path: "ddpm-cosine", sampler: "ddim"
        }  # fmt: skip
        ui.on_example(button, "exact-go", functools.partial(dict, values), None, list(values))
