"""The section on one image: its posterior of t under several priors, the posterior's width, and the cost of hiding t."""

from __future__ import annotations

import functools
import html
import time
from collections.abc import Sequence
from typing import Any

import gradio as gr
import torch
from torch import Tensor

from app import pairs, snippets, ui
from app.theory.shared import PATHS, SECTIONS
from explore import bayes, figures
from explore.data import load_images, to_uint8
from explore.denoiser import PREDICTIONS
from explore.experiments import Posterior
from explore.experiments.posterior import PosteriorRow, datasets
from explore.schedules import SCHEDULES
from explore.values import choose

WIDTH_TIMES = tuple(k / 40 for k in range(1, 40))
DIMENSIONS = (192, 768, 3072, 12288)
POSTERIOR_EMPTY = (
    ("clean", "the chosen image", ui.GRAY),
    ("noisy", "with noise of an unknown level", ui.GRAY),
)


@functools.lru_cache(maxsize=8)
def bank(dataset: str) -> Tensor:
    """The bundled images of a data set, uint8 (N, 3, 32, 32)."""
    return load_images(f"bank:{dataset}", 32, "all")


@functools.lru_cache(maxsize=16)
def widths(dataset: str, path: str) -> list[dict[str, Any]]:
    """Curves of posterior width over t, from Fisher information: under the fitted Gaussian, and given x0."""
    prior, schedule = bayes.fitted_gaussian(dataset, 32), SCHEDULES[path]
    known = [bayes.information_given_x0(schedule, t, prior.dimension, prior.energy) ** -0.5 for t in WIDTH_TIMES]
    read = [prior.information(schedule, t) ** -0.5 for t in WIDTH_TIMES]
    return [
        {"name": f"Gaussian fitted to {dataset}", "x": WIDTH_TIMES, "y": read},
        {"name": "Cramer-Rao bound given x0", "x": WIDTH_TIMES, "y": known},
    ]


@functools.lru_cache(maxsize=4)
def dimensions() -> tuple[list[dict[str, Any]], float]:
    """Curves of relative posterior width over dimension, for one known point at 0 (flow, t = .5), and the log-log slope."""
    measured = []
    for d in DIMENSIONS:
        prior = bayes.FiniteSet(torch.zeros(1, d), f"one known point of {d} values, 0")
        measured.append(bayes.posterior_width(prior, bayes.Levels.spaced(SCHEDULES["flow"], d), 0.5, count=64).std / 0.5)
    x = torch.tensor(DIMENSIONS, dtype=torch.float64).log()
    y = torch.tensor(measured, dtype=torch.float64).log()
    slope = (((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()).item()
    rows: list[dict[str, Any]] = [
        {"name": "exact posterior, 64 draws each", "x": DIMENSIONS, "y": measured, "markers": True},
        {"name": "1 / sqrt(2 d)", "x": DIMENSIONS, "y": [(2 * d) ** -0.5 for d in DIMENSIONS]},
    ]
    return rows, slope


@functools.lru_cache(maxsize=16)
def prices(dataset: str, path: str) -> list[tuple[str, float, float, float]]:
    """Cost of hiding t: (target, cost per value, its standard error, cost as a fraction of the target's mean square)."""
    prior, schedule = bayes.fitted_gaussian(dataset, 32), SCHEDULES[path]
    levels = bayes.Levels.spaced(schedule, prior.dimension, prior.energy)
    rows = []
    for target, rule in PREDICTIONS.items():
        if rule.flow_only and path != "flow":
            continue
        cost = bayes.time_gap(prior, levels, target, count=16)
        one, zero = torch.ones_like(cost.t), torch.zeros_like(cost.t)
        alpha, sigma = schedule.alpha(cost.t), schedule.sigma(cost.t)
        c, d = rule.target(one, zero, alpha, sigma), rule.target(zero, one, alpha, sigma)
        square = (c.square() * prior.energy / prior.dimension + d.square()).mean().item()
        rows.append((target, cost.value / prior.dimension, cost.error / prior.dimension, cost.value / prior.dimension / square))
    return rows


def costs_code(dataset: str, path: str) -> str:
    """Python code that reproduces the widths by t and by dimension, and the costs by target."""
    lines = [
        "import torch", "from explore import bayes", "from explore.denoiser import PREDICTIONS",
        "from explore.schedules import SCHEDULES",
        f"schedule, prior = SCHEDULES[{path!r}], {snippets.call('bayes.fitted_gaussian', dataset, 32)}",
        f"times = [k / {len(WIDTH_TIMES) + 1} for k in range(1, {len(WIDTH_TIMES) + 1})]",
        "read = [prior.information(schedule, t) ** -0.5 for t in times]  # std of t under the Gaussian",
        "known = [bayes.information_given_x0(schedule, t, prior.dimension, prior.energy) ** -0.5 for t in times]",
        f"points = [bayes.FiniteSet(torch.zeros(1, d)) for d in {DIMENSIONS}]  # one known point: relative width by dimension",
        'own = [bayes.Levels.spaced(SCHEDULES["flow"], point.dimension) for point in points]',
        "by_dimension = [bayes.posterior_width(point, one, 0.5, count=64).std / 0.5 for point, one in zip(points, own)]",
        "levels = bayes.Levels.spaced(schedule, prior.dimension, prior.energy)",
        f"targets = [name for name, rule in PREDICTIONS.items() if {path == 'flow'} or not rule.flow_only]",
        "prices = [bayes.time_gap(prior, levels, name, count=16).value / prior.dimension for name in targets]",
        "read, known, by_dimension, prices",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def posterior_table(rows: Sequence[PosteriorRow], t: float) -> str:
    """HTML table of the posteriors: mean, std, 95 % interval, and whether the image lies outside the prior."""
    lines = [
        (
            f"{html.escape(row.name)}<br><small style='white-space: normal'>prior: {html.escape(row.prior)}</small>",
            f"<span class='figure'>{row.mean:.4f} ± {row.std:.4f}</span>",
            f"<span class='figure'>{row.low:.4f} to {row.high:.4f}</span>",
            f"no: {html.escape(row.outside)}" if row.outside else "not excluded",
        )
        for row in rows
    ]
    head = ("", "t: mean ± std", "95% interval", "image plausible under the prior?")
    return ui.table(f"Each row is exact under its prior. The true t is {t:g}.", head, lines)


def build(page: gr.Blocks) -> None:
    opening = datasets()[0]
    with gr.Column(elem_classes="tab-section"):
        ui.heading("theory-posterior", *SECTIONS["theory-posterior"])
        ready = ui.examples("posterior", _noisy())
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=280):
                dataset = gr.Dropdown(
                    datasets(), value=opening, label="Images", filterable=False, elem_id="posterior-dataset",
                    info="Bundled ones were generated by our models; the Gaussian was fitted to the training images.",
                )  # fmt: skip
                number, upload = ui.image_controls("posterior", len(bank(opening)))
                path = gr.Dropdown(
                    [(title, name) for name, title in PATHS.items()], value="flow", label="Noise path", filterable=False,
                    elem_id="posterior-path", info="How image and noise are mixed at each t.",
                )  # fmt: skip
                t = gr.Slider(
                    0.02, 0.98, 0.3, step=0.01, label="t", info="How much noise is added; 1 is noise alone.", buttons=[],
                    elem_id="posterior-t",
                )  # fmt: skip
                seed = gr.Number(
                    0, label="Seed of the noise", info="The same seed, the same noise.", elem_id="posterior-seed"
                )  # fmt: skip
            with gr.Column(scale=3, min_width=320, elem_classes="tab-stage"):
                go = gr.Button("Compute posterior", variant="primary", elem_id="posterior-go")
                status = gr.HTML(ui.status(ui.READY), elem_id="posterior-status")
                with gr.Row(equal_height=False):
                    with gr.Column(scale=2, min_width=280):
                        pictures = gr.HTML(ui.waiting(POSTERIOR_EMPTY), elem_id="posterior-pictures")
                    with gr.Column(scale=3, min_width=320):
                        curves = gr.Plot(
                            show_label=False, label="p(t | x)", elem_id="posterior-curves", elem_classes="tab-plot"
                        )
                table = gr.HTML("", elem_id="posterior-table")
                code = ui.code_part("posterior")
                with gr.Column(elem_classes="until-drawn"):
                    with gr.Row(equal_height=False):
                        with gr.Column(min_width=320):
                            gr.HTML("<p class='note'><b>Width by noise level</b>: one standard deviation of t, from Fisher "
                                    "information.</p>")  # fmt: skip
                            by_t = gr.Plot(
                                show_label=False, label="Width by t", elem_id="posterior-widths", elem_classes="tab-plot"
                            )
                        with gr.Column(min_width=320):
                            slope_note = gr.HTML("", elem_id="posterior-slope")
                            by_d = gr.Plot(
                                show_label=False,
                                label="Width by dimension",
                                elem_id="posterior-dimensions",
                                elem_classes="tab-plot",
                            )
                    price = gr.HTML("", elem_id="posterior-price")
                    costs = ui.code_part("costs")

    def read(dataset: str, number: float, file: str | None, path: str, t: float, seed: float) -> dict[Any, Any]:
        """Computes and shows the posterior of t under each prior."""
        began = time.monotonic()
        picture, index = pairs.source_of(dataset, number, file)
        values = {"picture": picture, "index": index, "dataset": dataset, "schedule": path, "t": t, "seed": seed}
        asked = Posterior.parse(values)
        found = asked.run()
        views = [("clean", "32 x 32", found.picture[0]), ("noisy", f"t = {t:g}", to_uint8(found.xt)[0])]
        cells = (
            ui.cell("", ui.GRAY, name, what, ui.picture(image[None], f"The {name} image, {what}"))
            for name, what, image in views
        )
        return {
            status: ui.status(f"Computed in {time.monotonic() - began:.1f} s: {html.escape(found.source)}", 1.0),
            pictures: ui.pair_view(cells),
            curves: figures.posterior_curves([vars(row) for row in found.rows], t),
            table: posterior_table(found.rows, t),
            code: asked.published.code,
            by_t: figures.width_curves(widths(dataset, path), "t (1 is noise, 0 is data)", "std of t", t),
        }

    def also(dataset: str, path: str) -> dict[Any, Any]:
        """Shows the results that do not depend on the image: width by dimension, and cost by target."""
        rows, slope = dimensions()
        lines = [(name, f"{value:.2e} ± {error:.1e}", f"{share:.2%}") for name, value, error, share in prices(dataset, path)]
        caption = (
            f"Cost of hiding t per pixel value, by prediction type. Prior: "
            f"{html.escape(_prior(dataset))}; t uniform; path {path}; 16 draws, ± standard error."
        )
        return {
            by_d: figures.width_curves(rows, "dimension: values per image (log)", "relative std of t"),
            slope_note: "<p class='note'><b>Width by dimension</b>: one known point, straight path, t = .5. Slope on log "
            f"axes: {slope:.3f}; theory says -1/2.</p>",
            price: ui.table(caption, ("prediction type", "squared error", "share of the target's mean square"), lines),
            costs: costs_code(dataset, path),
        }

    shown = [pictures, curves, table, code, by_t]
    ui.on_answer(go, read, [dataset, number, upload, path, t, seed], shown, status, trigger_mode="always_last").then(
        also, [dataset, path], [by_d, slope_note, price, costs], **ui.ONE_MODEL
    )
    for part in (t, number):
        part.input(None, None, None, js=ui.rest_js("posterior-go"))
    for name, button in ready.items():
        values: dict[Any, Any] = dict(zip((dataset, t), _noisy()[name])) | {path: "flow", upload: None}
        limit = {number: gr.update(maximum=max(2, len(bank(values[dataset]))), value=1)}
        ui.on_example(button, "posterior-go", functools.partial(dict, values | limit), None, [*values, number])
    dataset.input(
        lambda name: gr.update(maximum=max(2, len(bank(choose("data set", name, datasets())))), value=1), dataset, number,
        **ui.AT_ONCE,
    )  # fmt: skip


def _noisy() -> dict[str, tuple[str, float]]:
    """Name of an example -> its data set and t."""
    first, last = datasets()[0], datasets()[-1]
    return {
        f"{first}, a little noise": (first, 0.1),
        f"{first}, mostly noise": (first, 0.9),
        f"{last}, in between": (last, 0.4),
    }


def _prior(dataset: str) -> str:
    return bayes.fitted_gaussian(dataset, 32).prior
