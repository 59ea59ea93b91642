"""The tab Models: what was measured of every model, its card and samples; and your own model, checked and tried.

The figures are those that :mod:`explore.cards` keeps with the models; the cards are their README.md.
"""

from __future__ import annotations

import functools
import html
import re
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd
import torch
from gradio.processing_utils import save_file_to_cache
from pandas.io.formats.style import Styler
from PIL import Image

from app import pairs, ui, works
from explore import cards, figures, zoo
from explore.data import to_uint8
from explore.denoiser import Denoiser
from explore.probes import is_conditioned
from explore.samplers import Sampling, Step
from explore.seeds import seed_range
from explore.values import choose

OWN_IMAGES, OWN_STEPS = 16, 20
OWN_FILES = ("config.json", "weights.safetensors")
# Example -> the members of a pair, 0 the conditioned one, whose configuration and whose weights are given.
OWN_EXAMPLES = {
    "A model that ships with this page": (1, 1),
    "Weights that do not fit: see them refused": (1, 0),
}
# Figure -> by what it is multiplied in the table.
SHOWN = {"fd": 1, "kid": 1000, "precision": 1, "recall": 1, "step_error": 1, "clock_error_near_data": 1}
CONDITIONED = {"timestep": "yes", "constant": "constant", "none": "no"}
# Column -> pixels, so that all are in sight at 1024, and digits, or None for text.
COLUMNS = {
    "Model": (240, None), "Cond.": (68, None), "Predicts": (84, None), "Data": (62, None), "Size": (58, 2), "Seen": (58, 0),
    "FD": (56, 2), "KID": (58, 2), "Prec.": (64, 3), "Recall": (70, 3), "Step": (60, 4), "Clock": (64, 1),
}  # fmt: skip
UNSORTED, MORE_IS_BETTER = "training order", ("Prec.", "Recall")
NOTE = (
    "<p class='note'><b>Size</b>: millions of parameters. <b>Seen</b>: thousands of images, in training. <b>FD</b> is "
    "FD[cifar-resnet], the Fréchet distance of 500 samples (mean of three sampling seeds) "
    "to held-out photographs in the features of a small encoder of this project: it is not FID, and compares models of one "
    "data set only. <b>KID</b> is times 1,000. <b>Step</b>: mean squared error per pixel of one denoising step. <b>Clock</b>: "
    "error of the best layer's probe near the data over the Cramer-Rao bound given x0; conditioned models were given a random "
    "t, which disturbs them (tab Clock). These weights are "
    "of one training seed: small differences may be chance; the cards say what other seeds gave. Empty cells were "
    "not measured. Hover over a column's head for its filter menu.</p>"
)


@functools.lru_cache(maxsize=1)
def rows() -> list[dict[str, Any]]:
    """What is measured of every model: name, its fields, and figures or None."""
    return [{**asdict(info), **cards.figures(info)} for info in zoo.models()]


def table_code() -> str:
    """Python that gives what the table shows."""
    lines = [
        "from explore import cards, zoo",
        "rows = [(info, cards.figures(info)) for info in zoo.models()]",
        f"[(info.name, *(figures[key] for key in {list(SHOWN)})) for info, figures in rows]",
    ]
    return "\n".join(lines) + "\n"


def table() -> list[list[Any]]:
    """The rows of the page's table; what was not measured is empty."""

    def scaled(value: float | None, scale: float) -> float | None:
        return None if value is None else scale * value

    return [
        [
            row["name"], CONDITIONED[row["time_conditioning"]], row["prediction"], row["dataset"],
            scaled(row["parameters"], 1e-6), scaled(row["images_seen"], 1e-3),
            *(scaled(row[key], scale) for key, scale in SHOWN.items()),
        ]
        for row in rows()
    ]  # fmt: skip


def styled(column: str = UNSORTED) -> Styler:
    """The table with each column's digits, sorted by one of them: the best or smallest first, what was not measured last.

    Raises:
        ValueError: For an unknown column.
    """
    choose("column", column, [UNSORTED, *COLUMNS])
    forms = {name: f"{{:.{digits}f}}" for name, (_, digits) in COLUMNS.items() if digits is not None}
    rows = pd.DataFrame(table(), columns=list(COLUMNS))
    if column != UNSORTED:
        rows = rows.sort_values(column, ascending=column not in MORE_IS_BETTER, kind="stable", ignore_index=True)
    return rows.style.format(forms, na_rep="")


def card(name: str) -> tuple[str, str]:
    """A model's samples as an HTML picture, and its card in Markdown without them.

    Raises:
        ValueError: For an unknown model.
    """
    folder = zoo.folder(choose("model", name, zoo.index()))
    text = (folder / "README.md").read_text() if (folder / "README.md").is_file() else f"# {name}\n\nThis model has no card."
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)\n*", "", text)
    text = re.sub(r"(?m)^(#+) ", lambda found: "#" * min(6, len(found[1]) + 2) + " ", text)  # headings below the page's own
    info = zoo.info(name)
    picture = folder / "samples.png"
    if not picture.is_file():
        return "", text
    with Image.open(picture) as file:
        pixels = torch.frombuffer(bytearray(file.convert("RGB").tobytes()), dtype=torch.uint8)
        image = pixels.reshape(file.height, file.width, 3).permute(2, 0, 1)
    said = f"64 samples of {name}, seeds 0-63"
    cell = ui.cell(
        "", figures.MEMBER_COLORS[info.time_conditioning], name, "64 samples, seeds 0-63",
        ui.picture(image[None], said),
    )  # fmt: skip
    return f'<div class="pictures one">{cell}</div>', text


# A person's own model ------------------------------------------------------------------------------------------------------


def read_own(files: Sequence[str] | None) -> Denoiser:
    """The model in the files that were given.

    Raises:
        ValueError: If they are not the two that make a model, or as :func:`explore.zoo.open_files`.
    """
    by_name = {Path(file).name: Path(file) for file in files or []}
    missing = [name for name in OWN_FILES if name not in by_name]
    if missing:
        raise ValueError(f"a model is two files, {' and '.join(OWN_FILES)}; {' and '.join(missing)} is missing")
    config, weights = (by_name[name] for name in OWN_FILES)
    return zoo.open_files(config, weights)


def example_files(members: tuple[int, int], folder: str) -> list[str]:
    """Copies in ``folder`` of the configuration and the weights of these members of the first pair."""
    names = [info.name for info in pairs.members(pairs.comparable_pairs()[0])]
    return [save_file_to_cache(zoo.folder(names[member]) / file, folder) for member, file in zip(members, OWN_FILES)]


def own_words(denoiser: Denoiser, seconds: float) -> str:
    """HTML summary of an uploaded model."""
    count = sum(parameter.numel() for parameter in denoiser.network.parameters())
    heard = "its output depends on the given t" if is_conditioned(denoiser) else "its output does not depend on the given t"
    return (
        f"<p class='summary'><b>{count:,}</b> parameters; predicts <b>{html.escape(denoiser.prediction)}</b>; "
        f"{denoiser.shape[1]} x {denoiser.shape[2]} pixels; {heard}. {OWN_IMAGES} samples (seeds 0-{OWN_IMAGES - 1}) in "
        f"{seconds:.1f} s. To probe it: <code>python -m explore --zoo FOLDER release RUN</code>, "
        "then <code>python -m explore --zoo FOLDER probe</code>; the README says how, also for models of diffusers.</p>"
    )


CSS = """
.pictures.one { grid-template-columns: minmax(0, 1fr); max-width: 66rem; }
#models-table { min-width: 0; }
#models-table .cell-wrap { padding: 5px 4px; font-size: 12px; }
@media (max-width: 960px) {
  #models-table::before { content: "Scroll the table sideways: measurements are to the right."; display: block;
    font-size: .85rem; padding: 6px 2px; }
}
#models-card { max-width: 66rem; overflow-x: auto; }
#models-card table { display: block; overflow-x: auto; border: 0; font-variant-numeric: tabular-nums; }
#models-card :is(thead, tbody, tr) { border: 0; }
#models-card :is(th, td) { border: 0 solid rgba(127,127,127,.35); border-bottom-width: 1px; padding: 5px 14px 5px 0;
  overflow-wrap: normal; word-break: normal; text-align: left; }
/* A shade at the edge beyond which a table goes on: covers that move with the table hide it at either end. */
#models-card table { background:
  linear-gradient(to right, var(--body-background-fill) 60%, transparent) left / 40px 100% no-repeat local,
  linear-gradient(to left, var(--body-background-fill) 60%, transparent) right / 40px 100% no-repeat local,
  linear-gradient(to right, rgba(127,127,127,.5), transparent) left / 12px 100% no-repeat scroll,
  linear-gradient(to left, rgba(127,127,127,.5), transparent) right / 12px 100% no-repeat scroll; }
#models-card tr { background: none; }
@media (max-width: 640px) { #models-card td { white-space: nowrap; } }
"""


# The tab -------------------------------------------------------------------------------------------------------------------


def tour() -> list[ui.Stop]:
    """The table."""
    return [
        ui.Stop(
            "All figures",
            "One run is an anecdote. What was measured, over all pairs?",
            "Column <b>Step</b>, the error of one denoising step: time-agnostic is a little worse in every pair. Column "
            "<b>Clock</b>, how far off the best layer's probe is near the data: in most pairs that of the time-agnostic model "
            "is far smaller. Part of this gap comes from the random t that the conditioned models were given while they were "
            "probed (tab Clock). The cards below say how each was trained, and where it fails.",
            "models-measured",
        )
    ]


def build(page: gr.Blocks) -> None:
    """Builds the tab and connects its components."""
    names = list(zoo.index())
    sections = {"models-measured": "Measurements", "models-cards": "Model cards", "models-own": "Your own model"}
    links = "".join(f'<a href="#{anchor}">{title}</a>' for anchor, title in sections.items())
    with gr.Row(elem_classes="tab-head"):
        gr.HTML(f"<nav aria-label='Sections of this tab'>{links}</nav>")
    with gr.Column(elem_classes="tab-section"):
        ui.heading(
            "models-measured", sections["models-measured"],
            "Every pretrained model: whether it is conditioned on t, what it predicts, and how well it does. Members of a pair "
            "share everything else: data, data order, initialization, training noise, budget.",
        )  # fmt: skip
        with gr.Row():
            order = gr.Dropdown(
                [UNSORTED, *COLUMNS], value=UNSORTED, label="Order", filterable=False, scale=0, min_width=330,
                elem_id="models-order", info="Best or smallest first; text from A to Z.",
            )  # fmt: skip
        found = gr.Dataframe(
            headers=list(COLUMNS), value=[], interactive=False, show_label=False, label="Models", elem_id="models-table",
            datatype=["str" if digits is None else "number" for _, digits in COLUMNS.values()], max_height=640,
            column_widths=[f"{width}px" for width, _ in COLUMNS.values()], buttons=[],
        )  # fmt: skip
        gr.HTML(NOTE)
        ui.code_part("models-table", table_code())
    with gr.Column(elem_classes="tab-section"):
        ui.heading(
            "models-cards", sections["models-cards"],
            "How each was trained, on what, what it makes, where it fails, and the command behind every figure.",
        )  # fmt: skip
        chosen = gr.Dropdown(
            names, value=names[0], label="Model", filterable=False, elem_id="models-choice",
            info="Whose samples and card are shown.",
        )  # fmt: skip
        samples = gr.HTML("", elem_id="models-samples")
        text = gr.Markdown("", elem_id="models-card")
    with gr.Column(elem_classes="tab-section"):
        ui.heading(
            "models-own", sections["models-own"],
            "A model of this project's format: <code>config.json</code> and <code>weights.safetensors</code>, as "
            "<code>python -m explore train</code> makes them. Names, shapes and sizes are checked before anything is read; "
            "no pickle is opened, and nothing is kept.",
        )  # fmt: skip
        ready = ui.examples("own", OWN_EXAMPLES)
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=330):
                files = gr.File(
                    label="config.json and weights.safetensors", file_count="multiple", type="filepath", height=150,
                    file_types=[".json", ".safetensors"], elem_id="models-files",
                )  # fmt: skip
                go, halt, status = ui.run_button("models", "Check and sample", ready="Ready: upload two files.")
            with gr.Column(scale=3, min_width=320, elem_classes="tab-stage"):
                own = gr.HTML("", elem_id="models-own-samples")
                summary = gr.HTML("", elem_id="models-summary")

    def show(name: str) -> dict[Any, Any]:
        picture, words = card(str(name)[:200])
        return {samples: picture, text: words}

    def give(members: tuple[int, int]) -> dict[Any, Any]:
        return {files: example_files(members, files.GRADIO_CACHE)}

    def run(session: str, paths: list[str] | None) -> ui.Messages:
        """Checks the files, then streams samples."""
        began = time.monotonic()
        yield {own: "", summary: ""}
        denoiser = read_own(paths)
        sampling = Sampling.for_model(denoiser, steps=OWN_STEPS)
        yield {status: ui.status("The files fit. Sampling.")}

        def draw(step: Step) -> dict[Any, Any]:
            image = ui.picture(to_uint8(step.xt), "Samples of your model")
            return {own: ui.pair_view([ui.cell("", ui.GRAY, "your model", f"t = {step.t:.3f}", image)])}

        for step in sampling.stream(denoiser, seed_range(0, OWN_IMAGES)):
            said = f"Step <b>{step.index}</b> of {OWN_STEPS}"
            yield ui.Progress(said, step.index / OWN_STEPS, functools.partial(draw, step))
        yield {status: ui.status("Done.", 1.0), **draw(step), summary: own_words(denoiser, time.monotonic() - began)}

    order.input(styled, order, found, **ui.AT_ONCE)
    chosen.input(show, chosen, [samples, text], **ui.AT_ONCE)
    page.load(styled, order, found, **ui.AT_ONCE).then(show, chosen, [samples, text], **ui.AT_ONCE)
    ui.on_run("own model", run, [files], [own, summary], go=go, halt=halt, line=status)
    for name, button in ready.items():
        ui.on_example(button, "models-go", functools.partial(give, OWN_EXAMPLES[name]), None, [files])
    page.unload(works.forget)
    _endpoint()


def _endpoint() -> None:
    """The named endpoint ``/models`` for gradio_client, on components that the page does not show."""

    def models() -> list[dict[str, Any]]:
        """Every pretrained model and what was measured of it.

        Returns:
            Per model its name, pair, what it is and was trained on, parameters, and figures, null where nothing was measured:
            fd (with the distance's name, reference, sampler, count of samples, seeds, evaluations of the network), kid,
            precision, recall, step_error (mean squared error of one denoising step at t = .5) and clock_error_near_data (of
            its best layer's probe near the data, over the Cramer-Rao bound given x0; conditioned models are told a random t).
        """
        return rows()

    gr.Button("models", visible=False).click(
        models, None, gr.JSON(label="models", visible=False), api_name="models", queue=False
    )  # fmt: skip
