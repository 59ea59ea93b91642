"""The tab Compare: both members of a pair denoise the same noise, side by side.

The work is :class:`explore.experiments.Compare`, recorded by :mod:`app.runs`. This file reads the settings from the controls
or the page's address, shows the frames while they come, lets the last run be scrubbed through and hands out its files.
"""

from __future__ import annotations

import contextlib
import functools
import html
from collections.abc import Iterator, Mapping
from typing import Any

import gradio as gr
import torch

from app import endpoints, pairs, sampling, ui, works
from app.runs import RUNS, Run, forget
from app.sampling import FIELDS, presets
from explore import figures, trajectories
from explore.data import to_uint8
from explore.experiments import Compare, Sample
from explore.seeds import keyed_noise
from explore.trajectories import Comparison, Frame

KIND = "comparison"  # of work
FILES = {"png": "PNG: images", "npz": "npz: frames", "gif": "GIF: film"}


def tour() -> list[ui.Stop]:
    """What each of the presets shows."""
    stops = {
        "eps pair, ODE: eta 0, unclamped": (
            "It fails",
            "Both models predict the noise and follow the plain ODE from the same noise. Does it matter which one gets t?",
            "The time-agnostic model leaves the range of images. Near pure noise hardly any signal is left, and a small error "
            "of the predicted noise is divided by a number near zero. The conditioned model strays too, but less.",
        ),
        "eps pair, as in the paper: eta 1, clamped": (
            "Rescued",
            "The same two networks with the sampler of the paper: the estimate is clamped to the range of images, and every "
            "step adds fresh noise.",
            "Both models make faces, and the difference images are nearly gray (their contrast is marked). The networks are "
            "the same as at the last stop: the sampler caused the failure.",
        ),
        "flow pair, Heun": (
            "Velocity",
            "This pair predicts the velocity of a straight path, so nothing is divided by a small number. Plain ODE again, no "
            "clamping: does time conditioning matter now?",
            "Hardly: both sides show the same faces. In a single step the time-agnostic model still has a higher loss: by 1 to "
            "3 % in the middle of the path, by about 10 % near the data. The README says how much at which noise level, and "
            "over how many training seeds.",
        ),
    }  # fmt: skip
    numbered = enumerate(presets(), start=1)
    return [ui.Stop(*stops[name], "stage", f"compare-example-{number}") for number, name in numbered if name in stops]


def from_address(query: Mapping[str, str]) -> tuple[Compare, list[str]]:
    """The request of a page's address and what was wrong with it; a missing or bad value falls back to its default."""
    opening = next(iter(presets().values()))
    problems = []
    given: dict[str, Any] = {}
    for name in (name for name in FIELDS if query.get(name)):
        try:
            Compare.parse({"pair": opening.pair, "sampler": given.get("sampler"), name: query[name]}, live=True)
            given[name] = query[name]
        except ValueError as error:
            problems.append(str(error))
    if "pair" not in given:
        given = sampling.shown_values(opening) | given
    shown = sampling.shown_values(sampling.defaults(given["pair"]))
    return sampling.read_settings({"pair": opening.pair, **shown, **given}), problems


def warm_up() -> None:
    """Loads the pairs and runs each network once, the opening pair first: the first click then need not wait."""
    opening = next(iter(presets().values())).pair
    for pair in sorted(pairs.comparable_pairs(), key=lambda pair: pair != opening):
        with contextlib.suppress(ValueError):  # a broken checkpoint is reported when it is chosen
            for denoiser in pairs.denoisers(pair):
                with torch.no_grad():
                    denoiser(keyed_noise([0], denoiser.shape), 0.5)
            pairs.layers(pair)
        if pair == opening:
            figures.difference_curve([])  # plotly imports most of itself here


# What the page shows -------------------------------------------------------------------------------------------------


def view(pair: str, frame: Frame | None, estimate: bool = True) -> str:
    """Six pictures: state and estimate of both members, and the difference of each.

    Args:
        pair: Whose titles and colors are shown.
        frame: What to show; None for the empty state, which says what will appear.
        estimate: Whether there is an estimate of the clean image yet.
    """
    coming = {"xt": "from noise to image, step by step", "x0_hat": "the expected clean image, at every step"}
    cells = []
    for of, name in (("xt", "state xt"), ("x0_hat", "estimate x0_hat")):
        there = frame if of == "xt" or estimate else None
        for member, (title, color) in enumerate(zip(pairs.titles(pair), pairs.colors(pair))):
            body = ui.empty(coming[of])
            if there is not None:
                body = ui.picture(getattr(there, of)[member], f"{title}, {of}, a grid of images")
            cells.append(ui.cell(f"{of} member-{member}", color, title, name, body))
        body, note = ui.empty("gray where the two agree"), ""
        if there is not None:
            gain = trajectories.difference_gain(there, of)
            note = f" \u00d7{gain:g}"
            body = ui.picture(trajectories.difference_image(there, of, gain), f"difference of {of}")
        cells.append(ui.cell(f"{of} difference", ui.GRAY, "difference", f"{name}{note}", body))
    return ui.pair_view(cells, "")


def _at(frame: Frame, steps: int) -> str:
    return (
        f"step <b>{frame.index}</b> of {steps}, t = <b>{frame.t:.3f}</b>; mean |difference| of xt "
        f"<b>{frame.difference_xt:.4f}</b>, of x0_hat <b>{frame.difference_x0:.4f}</b>"
    )


def _summary(run: Run) -> str:
    """The figures of a run that has ended."""
    record = run.record.comparison
    assert record is not None
    last = record.differences[-1]
    if last["index"] == record.steps:
        took = f"{run.record.seconds:.1f} s and {record.evaluations} evaluations of each network"
        ended = f"<b>Finished</b> (cached): {took}." if run.again else f"<b>Finished</b> after {took}."
    else:
        ended = f"<b>Stopped at step {last['index']} of {record.steps}</b> after {run.record.seconds:.1f} s."
    return (
        f"<p class='summary'>{ended} <b>Mean |difference| of the images: {last['xt']:.4f}</b> (2 is black against white; "
        "pictures are clipped to [-1, 1], this figure is not). One training seed: part of a difference is chance. "
        "Difference images show time-agnostic minus conditioned around gray, contrast as marked. The address of this page "
        "reproduces the run.</p>"
    )


def write(run: Run, kind: str) -> str:
    """Writes one file of a run, a key of ``FILES``; returns its path."""
    colors = pairs.colors(run.settings.pair)
    record, path = run.record.comparison, run.path(f".{kind}")
    assert record is not None
    made = {"png": lambda: record.to_png(colors), "gif": lambda: record.to_gif(colors), "npz": lambda: record.to_npz()}
    path.write_bytes(made[kind]())
    return str(path)


def noise_frame(settings: Compare) -> Frame:
    """The state both members start from; shown before the first evaluation of a network."""
    denoiser = pairs.denoisers(settings.pair)[0]
    start = denoiser.start if settings.sampling.start is None else settings.sampling.start
    noise = keyed_noise(settings.seeds, denoiser.shape)
    xt = to_uint8(float(denoiser.schedule.sigma(torch.tensor(start, dtype=torch.float64))) * noise)
    return Frame(0, start, torch.stack([xt, xt]), torch.stack([xt, xt]), 0.0, 0.0)


# The tab -------------------------------------------------------------------------------------------------------------

CSS = """
#stage { gap: 8px; }
#stage .html-container { padding: 0; }
#denoise, #stop { font-size: 1rem; padding: 8px; }
"""

# Settings that the address does not hold stay as they are, such as Gradio's own `__theme`.
ADDRESS_JS = """(query) => {
  if (!query) return;
  const url = new URL(window.location.href);
  for (const name of FIELDS) url.searchParams.delete(name);
  for (const [name, value] of new URLSearchParams(query)) url.searchParams.set(name, value);
  window.history.replaceState(window.history.state, "", url);
}""".replace("FIELDS", str(list(FIELDS)))
# A link that carries settings runs by itself, unless something was wrong with it.
OPEN_JS = """(notice) => {
  const query = new URLSearchParams(window.location.search);
  if (!notice && FIELDS.some(name => query.has(name))) document.querySelector('#denoise').click();
}""".replace("FIELDS", str(list(FIELDS)))


def build(page: gr.Blocks) -> None:
    """Builds the tab and connects its components."""
    prepared = presets()
    opening = next(iter(prepared.values()))
    buttons = ui.examples("compare", prepared)
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=280):
            controls = sampling.Controls.build("compare", opening)
        with gr.Column(scale=3, min_width=320, elem_id="stage"):
            notice = gr.HTML("", visible=False, elem_id="notice")
            go, halt, status = ui.run_button("compare", "Denoise the same noise", ids=("denoise", "stop", "status"))
            step = gr.Slider(
                0, 1, 0, step=1, label="Step", info="After a run: scrub through both members.",
                interactive=False, buttons=[], elem_id="scrub",
            )  # fmt: skip
            pictures = gr.HTML(view(opening.pair, None), elem_id="pictures")
            with gr.Column(visible=False) as results:
                summary = gr.HTML("", elem_id="summary")
                curve = gr.Plot(label="Difference between the members over t", show_label=False, elem_id="curve")
                files = ui.download_buttons("save", FILES)
                code = ui.code_part("compare")
    address = gr.Textbox("", visible="hidden", elem_id="address")

    def held(request: gr.Request) -> Run | None:
        return RUNS.get(str(request.session_hash), KIND)

    def open_page(request: gr.Request) -> dict[Any, Any]:
        query = dict(request.query_params)
        if not any(name in query for name in FIELDS):
            return {notice: gr.update()}  # filling the controls again could undo what a quick person has typed
        settings, problems = from_address(query)
        text = html.escape("; ".join(problems), quote=False)
        said = f'<div class="notice" role="alert"><b>Not understood in the address:</b> {text}. Shown is the default.</div>'
        return {**controls.fill(settings), notice: gr.update(value=said if problems else "", visible=bool(problems))}

    def run(session: str, *values: Any) -> ui.Messages:
        """Streams a run to the page, the noise first."""
        busy = {step: gr.update(interactive=False), results: gr.update(visible=False)}
        settings = sampling.read_settings(dict(zip(FIELDS, values)))
        current = RUNS.begin(session, KIND, settings)
        yield {
            **busy, notice: gr.update(value="", visible=False), status: ui.status("The same noise for both."),
            pictures: view(settings.pair, noise_frame(settings), estimate=False), address: settings.query,
        }  # fmt: skip
        steps = settings.sampling.steps
        with contextlib.closing(current.stream()) as stream:  # type: ignore[type-var]
            for frame in stream:
                draw = functools.partial(lambda frame: {pictures: view(settings.pair, frame), **busy}, frame)
                yield ui.Progress(f"Denoising: {_at(frame, steps)}", frame.index / steps, draw)

    def show(frame: Frame, record: Comparison) -> dict[Any, Any]:
        return {
            pictures: view(record.pair, frame),
            status: ui.status(f"Shown: {_at(frame, record.steps)}", frame.index / record.steps),
            curve: figures.difference_curve(record.differences, at=frame.index),
        }

    def settle(request: gr.Request) -> dict[Any, Any]:
        """Shows the run's result, finished or stopped, ready for scrubbing."""
        current, work = held(request), works.WORKS.get(str(request.session_hash), KIND)
        if work is not None and not (work.begun or work.stop.is_set()):
            return {halt: gr.update()}  # this was called by an older run, and a newer one waits for its turn
        if work is not None and work.failed:  # what is wrong was said; the run before stays as it is
            return {halt: gr.update(interactive=False)}
        if current is None or (record := current.record.comparison) is None:
            return {halt: gr.update(interactive=False), status: ui.status(ui.READY)}
        if not (current.ended.is_set() or current.stop.is_set()):
            return {halt: gr.update()}  # this was called by an older run, which a newer one has replaced
        frame = record.frames[-1]
        return {
            **show(frame, record),
            halt: gr.update(interactive=False),
            step: gr.update(maximum=max(1, frame.index), value=frame.index, interactive=frame.index > 0),
            results: gr.update(visible=True),
            summary: _summary(current),
            code: current.settings.code,
            **ui.no_downloads(files),
        }

    def stop(request: gr.Request) -> dict[Any, Any]:
        work = works.WORKS.get(str(request.session_hash), KIND)
        if work:
            work.stop.set()
        return settle(request)

    def scrub(index: float, request: gr.Request) -> dict[Any, Any]:
        current = held(request)
        if current is None:
            return {status: ui.status("This run is no longer held: denoise again to scrub through it.")}
        if current.record.comparison is None or not (current.ended.is_set() or current.stop.is_set()):
            return {status: gr.update()}  # the slider was moved by the end of an older run
        return show(current.record.frame(index), current.record.comparison)

    @ui.streamed
    def save(request: gr.Request) -> Iterator[dict[Any, Any]]:
        """Makes the files one after the other; ends early when the run is replaced meanwhile."""
        current = held(request)
        if current is not None and current.record.comparison is not None:
            yield from ui.save(files, functools.partial(write, current), lambda: held(request) is current)

    file_parts = list(files.values())
    shown = [pictures, step, results, summary, curve, code, *file_parts]
    running = ui.on_run(
        KIND, run, controls.listed, [notice, address, *shown], go=go, halt=halt, line=status, every=0.1, stoppable=False,
        first=ui.scroll_js("stage"),
    )  # fmt: skip
    running.then(settle, None, [status, halt, *shown], **ui.AT_ONCE).then(save, None, file_parts, **ui.FILES)
    halt.click(stop, None, [status, halt, *shown], **ui.AT_ONCE).then(save, None, file_parts, **ui.FILES)
    for name, button in buttons.items():
        ui.on_example(button, "denoise", functools.partial(controls.fill, prepared[name]), None, controls.listed)
    step.change(scrub, step, [pictures, status, curve], trigger_mode="always_last", **ui.AT_ONCE)
    controls.parts["pair"].input(controls.fill_sampling, controls.parts["pair"], controls.listed, **ui.AT_ONCE)
    address.change(None, address, None, js=ADDRESS_JS)
    page.load(open_page, None, [*controls.listed, notice], **ui.AT_ONCE).then(None, notice, None, js=OPEN_JS)
    page.unload(forget)
    endpoints.add(Compare, downloads=2)
    endpoints.add(Sample, downloads=2)
