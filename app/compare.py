"""The tab Compare: both members of a pair denoise the same noise, side by side.

The work is :class:`explore.experiments.Compare`; this file reads the settings (from the controls or the page's
address), shows the frames while they come, keeps the last run of each session for scrubbing and hands out the files.
"""

from __future__ import annotations

import contextlib
import functools
import html
import time
from collections.abc import Generator, Iterator, Mapping
from typing import Any

import gradio as gr
import torch

from app import endpoints, pairs, sampling, ui, works
from app.runs import RUNS, Run
from app.sampling import FIELDS, defaults, presets, read_settings, shown_values
from app.works import Work
from explore import figures, trajectories
from explore.data import to_uint8
from explore.experiments import Compare, Sample
from explore.seeds import keyed_noise, seed_range
from explore.trajectories import Comparison, Frame

UPDATE_SECONDS = 0.1  # frames that come faster are recorded but not sent while the run goes on
KIND = "comparison"  # of work


def tour() -> list[ui.Stop]:
    """What each of the presets shows."""
    told = {
        "eps pair, ODE: eta 0, unclamped": (
            "It fails",
            "Both members predict the noise. From the same noise they follow the plain ODE: does it "
            "matter which one is conditioned on t?",
            "The time-agnostic model leaves the range of images. Near pure noise alpha is close to 0, and a small error of the "
            "predicted noise is divided by alpha. The conditioned model drifts too, but less.",
        ),
        "eps pair, as in the paper: eta 1, clamped": (
            "Rescued",
            "The same two networks, with the sampler of the paper: the estimate is held in the range of pictures, and every "
            "step adds fresh noise.",
            "Both make faces, and the difference pictures are nearly gray (mind their contrast, it is marked). The networks "
            "are those of the last stop: what failed there was the way they were used.",
        ),
        "flow pair, Heun": (
            "Velocity",
            "This pair predicts the velocity of a straight path. Nothing is divided by a small number. Plain ODE again, no "
            "clamping: does the timestep matter now?",
            "Hardly: the same faces on both sides. In one step the time-agnostic model is still a little worse; how much "
            "that is, and with how many training seeds, stands in the README and on the cards.",
        ),
    }  # fmt: skip
    return [
        ui.Stop(*told[name], "stage", f"compare-example-{number}")
        for number, name in enumerate(presets(), start=1)
        if name in told
    ]


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
        given = shown_values(opening) | given
    return read_settings({"pair": opening.pair, **shown_values(defaults(given["pair"])), **given}), problems


def warm_up() -> None:
    """Loads the pairs and runs each network once, the opening pair first: the first click then need not wait."""
    opening = next(iter(presets().values())).pair
    for pair in sorted(pairs.comparable_pairs(), key=lambda pair: pair != opening):
        with contextlib.suppress(ValueError):  # a broken checkpoint is reported to whoever chooses it
            for denoiser in pairs.denoisers(pair):
                with torch.no_grad():
                    denoiser(keyed_noise([0], denoiser.shape), 0.5)
        if pair == opening:
            figures.difference_curve([])  # plotly imports most of itself here


# Runs ----------------------------------------------------------------------------------------------------------------


def _stream(run: Run) -> Generator[Frame]:
    """Frames of a run as they come, recorded in ``run``; ends early when it is told to stop.

    Those of a run that has its record already are not computed again.
    """
    if run.again:
        assert run.comparison is not None
        run.ended.set()
        yield from run.comparison.frames
        return
    settings = run.settings
    began = time.monotonic()
    stream = settings.stream(pairs.denoisers(settings.pair))
    try:
        for frame, comparison in stream:
            run.comparison, run.seconds = comparison, time.monotonic() - began
            yield frame
            if run.stop.is_set():
                break
    finally:
        run.ended.set()
        stream.close()  # also when the page stops the run or is closed: the sampler's tensors go now


def _write(run: Run, kind: str) -> str:
    """Writes one file of a run, ``png``, ``gif`` or ``npz``; returns its path."""
    assert run.comparison is not None
    settings, colors = run.settings, pairs.colors(run.settings.pair)
    content = {
        "png": lambda record: record.to_png(colors),
        "gif": lambda record: record.to_gif(colors),
        "npz": Comparison.to_npz,
    }[kind](run.comparison)
    own = settings.sampling
    parts = [settings.pair, own.sampler, own.steps, f"seed-{settings.seed}", f"count-{settings.count}"]
    parts += [f"{name}-{float(value):g}" for name, value in own.options.items()]
    path = run.folder / f"{'-'.join(map(str, parts))}.{kind}"
    path.write_bytes(content)
    return str(path)


# What the page shows -------------------------------------------------------------------------------------------------


def view(pair: str, frame: Frame | None, estimate: bool = True) -> str:
    """Six pictures: state and estimate of both members, and the difference of each.

    Args:
        pair: Whose titles and colors are shown.
        frame: What to show; None for the empty state, which says what will appear.
        estimate: Whether there is an estimate of the clean image yet.
    """
    titles, colors = pairs.titles(pair), pairs.colors(pair)
    coming = {
        "xt": ("from noise to image, step by step", "gray where the two agree"),
        "x0_hat": ("the clean image it expects, at every step", "gray where the two agree"),
    }
    cells = []
    for of, name in (("xt", "state xt"), ("x0_hat", "estimate x0_hat")):
        empty = frame is None or (of == "x0_hat" and not estimate)
        for member in (0, 1):
            body = f'<div class="empty">{coming[of][0]}</div>'
            if not empty:
                body = ui.picture(getattr(frame, of)[member], f"{titles[member]}, {of}, a grid of images")
            cells.append(ui.cell(f"{of} member-{member}", colors[member], titles[member], name, body))
        body, note = f'<div class="empty">{coming[of][1]}</div>', ""
        if frame is not None and not empty:
            gain = trajectories.difference_gain(frame, of)
            note = f" \u00d7{gain:g}"
            body = ui.picture(trajectories.difference_image(frame, of, gain), f"difference of {of}")
        cells.append(ui.cell(f"{of} difference", "#7f7f7f", "difference", f"{name}{note}", body))
    return f'<div class="pictures">{"".join(cells)}</div>'


def _at(frame: Frame, steps: int) -> str:
    return (
        f"step <b>{frame.index}</b> of {steps}, t = <b>{frame.t:.3f}</b>; mean |difference| of xt "
        f"<b>{frame.difference_xt:.4f}</b>, of x0_hat <b>{frame.difference_x0:.4f}</b>"
    )


def _summary(run: Run) -> str:
    """The figures of a run that has ended."""
    record = run.comparison
    assert record is not None
    last = record.differences[-1]
    if last["index"] == record.steps:
        took = f"{run.seconds:.1f} s and {record.evaluations} evaluations of each network"
        ended = f"<b>Finished</b> after {took}." if not run.again else f"<b>Finished</b>, cached: {took}."
    else:
        ended = f"<b>Stopped at step {last['index']} of {record.steps}</b> after {run.seconds:.1f} s."
    return (
        f"<p class='summary'>{ended} <b>Mean |difference| of the images: {last['xt']:.4f}</b> (2 is black against white; "
        "pictures are cut off at [-1, 1], the figure is not). One training seed: part of a difference is chance. "
        "Difference pictures show time-agnostic minus conditioned around gray, contrast as marked. The address of this page "
        "reproduces the run.</p>"
    )


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

# On a phone the pictures lie below the settings: bring them into sight.
SCROLL_JS = """() => {
  if (window.innerWidth <= 640) document.querySelector('#stage').scrollIntoView({behavior: 'smooth'});
}"""
# A link that carries settings runs by itself, unless something was wrong with it.
OPEN_JS = """(notice) => {
  const query = new URLSearchParams(window.location.search);
  if (!notice && FIELDS.some(name => query.has(name))) document.querySelector('#denoise').click();
}""".replace("FIELDS", str(list(FIELDS)))


def build(page: gr.Blocks) -> None:
    """Lays out the tab and connects it."""
    prepared = presets()
    opening = next(iter(prepared.values()))
    buttons = ui.examples("compare", prepared)
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=280):
            controls = sampling.build(opening, "compare")
        with gr.Column(scale=3, min_width=320, elem_id="stage"):
            with gr.Row():
                go = gr.Button("Denoise the same noise", variant="primary", elem_id="denoise", scale=4, min_width=180)
                halt = gr.Button("Stop", variant="stop", interactive=False, elem_id="stop", scale=1, min_width=64)
            notice = gr.HTML("", visible=False, elem_id="notice")
            status = gr.HTML(ui.status(ui.READY), elem_id="status")
            step = gr.Slider(
                0, 1, 0, step=1, label="Step", info="After a run: scrub through both members.",
                interactive=False, buttons=[], elem_id="scrub",
            )  # fmt: skip
            pictures = gr.HTML(view(opening.pair, None), elem_id="pictures")
            with gr.Column(visible=False) as results:
                summary = gr.HTML("", elem_id="summary")
                curve = gr.Plot(label="Difference between the members over t", show_label=False, elem_id="curve")
                with gr.Row():
                    files = {
                        kind: gr.DownloadButton(label, size="sm", interactive=False, min_width=90, elem_id=f"save-{kind}")
                        for kind, label in (("png", "PNG: images"), ("npz", "npz: frames"), ("gif", "GIF: film"))
                    }
                code = ui.code_part("compare")
    address = gr.Textbox("", visible="hidden", elem_id="address")

    def open_page(request: gr.Request) -> dict[Any, Any]:
        query = dict(request.query_params)
        if not any(name in query for name in FIELDS):
            return {
                notice: gr.update()
            }  # the page is as it was built; filling it again could undo what a quick person has typed
        settings, problems = from_address(query)
        text = html.escape("; ".join(problems), quote=False)
        said = f'<div class="notice" role="alert"><b>Not understood in the address:</b> {text}. Shown is the default.</div>'
        return {**sampling.fill(controls, settings), notice: gr.update(value=said if problems else "", visible=bool(problems))}

    def end(request: gr.Request) -> None:
        work = works.WORKS.get(str(request.session_hash), KIND)
        if work:
            work.stop.set()

    def run(work: Work, *values: Any) -> Generator[dict[Any, Any]]:
        """The noise at once, then at most ten updates a second."""
        busy = {step: gr.update(interactive=False), results: gr.update(visible=False)}
        settings = read_settings(dict(zip(FIELDS, values)))
        noise = _noise_frame(settings)
        current = RUNS.begin(work.session, settings, work)
        yield {
            notice: gr.update(value="", visible=False),
            status: ui.status("The same noise for both."),
            pictures: view(settings.pair, noise, estimate=False),
            address: settings.query,
            **busy,
        }
        steps = settings.sampling.steps
        with contextlib.closing(_stream(current)) as frames:
            for frame in frames:
                if work.at(frame.index / steps, f"Denoising: {_at(frame, steps)}", UPDATE_SECONDS):
                    yield {pictures: view(settings.pair, frame), **busy}

    def settle(request: gr.Request) -> dict[Any, Any]:
        """Shows the run's result, finished or stopped, ready for scrubbing."""
        session = str(request.session_hash)
        current, work = RUNS.get(session), works.WORKS.get(session, KIND)
        if work is not None and not (work.begun or work.stop.is_set()):
            return {halt: gr.update()}  # this was called by an older run, and a newer one waits for its turn
        if work is not None and work.failed:  # what is wrong was said; the run before stays as it is
            return {halt: gr.update(interactive=False)}
        if current is None or current.comparison is None:
            return {halt: gr.update(interactive=False), status: ui.status(ui.READY)}
        if not (current.ended.is_set() or current.stop.is_set()):
            return {halt: gr.update()}  # this was called by an older run, which a newer one has replaced
        record = current.comparison
        frame = record.frames[-1]
        return {
            halt: gr.update(interactive=False),
            pictures: view(record.pair, frame),
            status: ui.status(f"Shown: {_at(frame, record.steps)}", frame.index / record.steps),
            step: gr.update(maximum=max(1, frame.index), value=frame.index, interactive=frame.index > 0),
            results: gr.update(visible=True),
            summary: _summary(current),
            curve: figures.difference_curve(record.differences, at=frame.index),
            code: current.settings.code,
            **{button: gr.update(interactive=False, value=None) for button in files.values()},
        }

    def stop(request: gr.Request) -> dict[Any, Any]:
        end(request)
        return settle(request)

    def scrub(index: float, request: gr.Request) -> dict[Any, Any]:
        current = RUNS.get(str(request.session_hash))
        if current is None:
            return {status: ui.status("This run is no longer held: denoise again to scrub through it.")}
        if current.comparison is None or not (current.ended.is_set() or current.stop.is_set()):
            return {status: gr.update()}  # the slider was moved by the end of an older run
        record = current.comparison
        frame = min(record.frames, key=lambda frame: abs(frame.index - index))
        text = f"Shown: {_at(frame, record.steps)}"
        return {
            pictures: view(record.pair, frame),
            status: ui.status(text, frame.index / record.steps),
            curve: figures.difference_curve(record.differences, at=frame.index),
        }

    @ui.streamed
    def save(request: gr.Request) -> Iterator[dict[Any, Any]]:
        """Makes the files one after the other; ends early when the run is replaced meanwhile."""
        session = str(request.session_hash)
        current = RUNS.get(session)
        ready: dict[Any, Any] = {}
        for kind, button in files.items():
            if current is None or current.comparison is None or RUNS.get(session) is not current:
                return
            try:
                path = _write(current, kind)
            except FileNotFoundError:  # the run was dropped, and its folder with it
                return
            ready[button] = gr.update(value=path, interactive=True)
            yield dict(ready)  # all so far: of messages that come together the page may pass over all but the last

    saving: dict[str, Any] = {**ui.QUIET, "concurrency_id": "files", "concurrency_limit": 1}
    settings_parts, file_parts = list(controls.values()), list(files.values())
    shown_parts = [notice, status, pictures, halt, step, results, summary, curve, code, address, *file_parts]

    go.click(None, None, None, js=SCROLL_JS)
    running = ui.on_run(KIND, go, halt, status, run, settings_parts, shown_parts)
    running.then(settle, None, shown_parts, **ui.AT_ONCE).then(save, None, file_parts, **saving)
    for name, button in buttons.items():
        ui.on_example(button, "denoise", functools.partial(sampling.fill, controls, prepared[name]), None, settings_parts)
    halt.click(stop, None, shown_parts, **ui.AT_ONCE).then(save, None, file_parts, **saving)
    step.change(scrub, step, [pictures, status, curve], trigger_mode="always_last", **ui.AT_ONCE)
    controls["pair"].input(functools.partial(sampling.follow_pair, controls), controls["pair"], settings_parts, **ui.AT_ONCE)
    asked = [controls["pair"], controls["sampler"]]
    controls["sampler"].input(functools.partial(sampling.follow_sampler, controls), asked, settings_parts, **ui.AT_ONCE)
    address.change(None, address, None, js=ADDRESS_JS)
    page.load(open_page, None, [*settings_parts, notice], **ui.AT_ONCE).then(None, notice, None, js=OPEN_JS)
    page.unload(_forget)
    endpoints.add(Compare, downloads=2)
    endpoints.add(Sample, downloads=2)


def _forget(request: gr.Request) -> None:
    """Frees a session's run when its page is closed."""
    RUNS.drop(str(request.session_hash))


def _noise_frame(settings: Compare) -> Frame:
    """The state both members start from; shown before the first evaluation of a network."""
    denoiser = pairs.denoisers(settings.pair)[0]
    start = denoiser.start if settings.sampling.start is None else settings.sampling.start
    noise = keyed_noise(seed_range(settings.seed, settings.count), denoiser.shape)
    xt = to_uint8(float(denoiser.schedule.sigma(torch.tensor(start, dtype=torch.float64))) * noise)
    return Frame(0, start, torch.stack([xt, xt]), torch.stack([xt, xt]), 0.0, 0.0)
