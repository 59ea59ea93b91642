"""What the tabs share: settings checked, pairs and their models, uploads, work that can be stopped, text as HTML, errors."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import html
import inspect
import io
import json
import math
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from explore import plots, trajectories, zoo
from explore.data import fit, load_images
from explore.denoiser import Denoiser

MODEL_QUEUE = "model"  # concurrency_id of everything that runs a network: one at a time
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
AT_ONCE: dict[str, Any] = {**QUIET, "queue": False}
ONE_MODEL: dict[str, Any] = {**QUIET, "concurrency_id": MODEL_QUEUE, "concurrency_limit": 1}
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
OWN_PICTURE = f"Your own: {', '.join(FORMATS)}"
MAX_PIXELS = 40_000_000  # of an upload, looked at before it is decoded
MAX_WORKS = 256  # pieces of work remembered over all sessions
MAX_ANSWERS = 64  # of each endpoint, kept for identical requests
READY = "Ready: press the button, or choose another setting first."
PICTURE_PIXELS = 384  # least width of a picture sent to the page, enlarged without smoothing


# Values of settings, from a control, a call or the text of an address ---------------------------------------------------


def number(name: str, value: Any, low: float, high: float, *, whole: bool = False, above: bool = False) -> float:
    """``value`` as a number from ``low`` (or ``above`` it) to ``high``.

    Raises:
        ValueError: For anything else, saying what is allowed.
    """
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    inside = low < found <= high if above else low <= found <= high  # false for nan
    if not inside or (whole and found != int(found)):
        kind = "a whole number" if whole else "a number"
        limits = f"above {low} and at most {high}" if above else f"from {low} to {high}"
        given = "nothing" if value is None or value == "" else str(value)[:40]
        raise ValueError(f"{name} must be {kind} {limits}, got {given}")
    return int(found) if whole else found


def truth(name: str, value: Any) -> bool:
    """``value`` as true or false.

    Raises:
        ValueError: For anything that is neither.
    """
    truths = {"1": True, "true": True, "0": False, "false": False}
    text = str(value).lower()
    if text not in truths:
        raise ValueError(f"{name} must be 0 or 1, got {text[:40]}")
    return truths[text]


# Models --------------------------------------------------------------------------------------------------------------


@functools.lru_cache
def comparable_pairs() -> list[str]:
    """Pairs with two members.

    Raises:
        ValueError: If there is none.
    """
    found = [pair for pair, names in zoo.pairs().items() if len(names) > 1]
    if not found:
        raise ValueError(f"no pair of models in {zoo.ROOT}")
    return found


@functools.lru_cache(maxsize=64)
def members(pair: str) -> list[zoo.ModelInfo]:
    """The two members of a pair that are compared, the one that is told the time first."""
    return [zoo.info(name) for name in trajectories.members_of(pair)]


@functools.lru_cache(maxsize=16)
def denoiser(name: str) -> Denoiser:
    """One model. Sessions share it: whoever hooks into a network takes a copy of it."""
    return zoo.load(name)


def denoisers(pair: str) -> list[Denoiser]:
    """The models of the two members that are compared, shared as that of :func:`denoiser`."""
    return [denoiser(info.name) for info in members(pair)]


def titles(pair: str) -> list[str]:
    """What each member is, in words."""
    return [trajectories.TITLES[info.time_conditioning] for info in members(pair)]


def colours(pair: str) -> list[str]:
    """Of the members."""
    return [plots.MEMBER_COLOURS[info.time_conditioning] for info in members(pair)]


def read_picture(path: str | Path, resolution: int) -> tuple[Tensor, str]:
    """An upload as the models see it.

    Args:
        path: Of the file.
        resolution: Height and width to return.

    Returns:
        uint8 (3, H, W), cropped to the square; and what was done to it, in words (empty if nothing is worth saying).

    Raises:
        ValueError: For a file that is no picture of ``FORMATS``, is damaged, or has more than ``MAX_PIXELS`` pixels.
    """
    said = []
    try:
        with Image.open(path, formats=FORMATS) as file:
            if file.width * file.height > MAX_PIXELS:
                raise ValueError(
                    f"the picture has {file.width} x {file.height} pixels; at most {MAX_PIXELS // 10**6} million are read"
                )
            image = ImageOps.exif_transpose(file)  # decodes it
        if image.mode.startswith("I"):  # 16 bits of grey
            grey = np.asarray(image).astype(np.float64) / 257
            image = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
        if image.mode in ("1", "L", "LA"):
            said.append("The picture is greyscale: its one channel stands for all three; the models learned from colour.")
        if "A" in image.getbands() or "transparency" in image.info:
            said.append("Transparent parts are white.")
            layer = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
        if min(image.size) < resolution:
            said.append(f"It was enlarged from {image.width} x {image.height} pixels, which leaves out fine detail.")
        array = fit(image.convert("RGB"), resolution)
    except (UnidentifiedImageError, OSError, SyntaxError, EOFError, Image.DecompressionBombError):
        raise ValueError(f"this file cannot be read as a picture; {', '.join(FORMATS)} can") from None
    return torch.from_numpy(array.copy()).permute(2, 0, 1).contiguous(), " ".join(said)


@functools.lru_cache(maxsize=16)
def bank(pair: str) -> Tensor:
    """Bundled pictures of the pair's kind, generated by one of this project's models, uint8 (N, 3, H, W); none if N is 0."""
    info = members(pair)[0]
    with contextlib.suppress(ValueError):
        return load_images(f"bank:{info.dataset}", info.resolution, "all")
    return torch.zeros(0, 3, info.resolution, info.resolution, dtype=torch.uint8)


# Work that goes on ---------------------------------------------------------------------------------------------------


@dataclass
class Work:
    """A run of a session: told to stop; whether it has begun, ended or failed; how far it came, in words and as a share."""

    stop: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    begun: bool = False
    failed: bool = False
    said: str = ""
    done: float = 0.0


class Works:
    """The work of each session, one of each kind at a time; the oldest is forgotten first."""

    def __init__(self) -> None:
        self._works: OrderedDict[tuple[str, str], Work] = OrderedDict()
        self._lock = threading.Lock()

    def plan(self, session: str, kind: str) -> Work:
        """New work that waits for its turn, and can be stopped while it does; ends the session's last one of its kind.

        If that one has not begun either, it is kept, with its stop: it is the same press of a button.
        """
        with self._lock:
            work = self._works.get((session, kind))
            if work is not None and not work.begun:
                return work
            if work is not None:
                del self._works[session, kind]  # the new one stands last
                work.stop.set()
            work = self._works[session, kind] = Work()
            while len(self._works) > MAX_WORKS:
                self._works.popitem(last=False)[1].stop.set()
            return work

    def begin(self, session: str, kind: str) -> Work:
        """The work that was planned, whose turn it is now, perhaps stopped already; without a plan, new work."""
        work = self.plan(session, kind)
        work.begun = True
        return work

    def before(self, work: Work) -> int:
        """Pieces of work, of all pages, that began to wait before ``work`` and have not ended."""
        with self._lock:
            count = 0
            for other in self._works.values():
                if other is work:
                    break
                count += not other.ended.is_set() and (other.begun or not other.stop.is_set())
            return count

    def get(self, session: str, kind: str) -> Work | None:
        """The session's last work of this kind."""
        with self._lock:
            return self._works.get((session, kind))

    def end(self, session: str, kind: str | None = None) -> None:
        """Ends and forgets a session's work, of all kinds if none is named; what still waits is told when it begins."""
        with self._lock:
            for key in [key for key in self._works if key[0] == session and kind in (None, key[1])]:
                work = self._works[key]
                work.stop.set()
                if work.begun or kind is None:
                    del self._works[key]

    def done(self, session: str, kind: str) -> None:
        """Forgets work that has ended by itself."""
        with self._lock:
            work = self._works.pop((session, kind), None)
            if work is not None:  # not if its client has left
                work.ended.set()


WORKS = Works()


def forget(request: gr.Request) -> None:
    """Ends a session's work when its page is closed."""
    WORKS.end(str(request.session_hash))


@contextlib.contextmanager
def calling(request: gr.Request | None) -> Iterator[Work]:
    """The work of one call of an endpoint; it is told to stop when its client leaves."""
    session, kind = str(request.session_hash if request else None), f"call {uuid.uuid4().hex}"
    work = WORKS.begin(session, kind)
    try:
        yield work
    finally:
        WORKS.done(session, kind)


def going_on(steps: Iterable[Any], work: Work) -> Iterator[Any]:
    """``steps``, as long as the work is not stopped.

    Raises:
        ValueError: When it is.
    """
    for step in steps:
        if work.stop.is_set():
            raise ValueError("the run was stopped; ask again")
        yield step


def announce(kind: str, button: gr.Button, halt: gr.Button, line: gr.HTML) -> None:
    """What a press of ``button`` does before its run: says that it waits, plans the work and lets it be stopped.

    The page takes a button's listeners in turn, each to its end, so this is connected before the run.
    """

    def plan(request: gr.Request) -> dict[Any, Any]:
        count = WORKS.before(WORKS.plan(str(request.session_hash), kind))
        others = f": {count} {'run is' if count == 1 else 'runs are'} before this one" if count else ""
        return {halt: gr.update(interactive=True), line: status(f"Waiting for the models{others}.")}

    button.click(None, None, line, js=WAIT_JS)
    button.click(plan, None, [halt, line], **AT_ONCE)


def stops(kind: str, running: Sequence[Any], halt: gr.Button, line: gr.HTML, wait: float = 0.5) -> None:
    """Connects the stop button to runs of this kind of work; what has come stays on the page.

    The runs end by themselves, as they look at their work's ``stop``. Gradio's ``cancels`` is not used: while it waits for
    the step that is under way, the page loses presses of the button that begins.

    Args:
        kind: Of work.
        running: Events of the runs, trigger_mode always_last.
        halt: The stop button.
        line: Where the status stands.
        wait: Seconds that a stop waits for the run to end, so that what it still says comes first.
    """

    def look(request: gr.Request) -> Work | None:
        return WORKS.get(str(request.session_hash), kind)

    def stopped(work: Work) -> dict[Any, Any]:
        return {halt: gr.update(interactive=False), line: status(f"<b>Stopped.</b> {work.said}", work.done)}

    def settle(request: gr.Request) -> dict[Any, Any]:
        work = look(request)
        if work is not None and work.stop.is_set():
            return stopped(work)
        # A newer run that waits or goes on is left alone.
        return {halt: gr.update() if work is not None and not work.ended.is_set() else gr.update(interactive=False)}

    def stop(request: gr.Request) -> dict[Any, Any]:
        work = look(request)
        if work is None or (work.ended.is_set() and not work.stop.is_set()):
            return {halt: gr.update(interactive=False), line: status(READY)}
        work.stop.set()
        if work.begun:
            work.ended.wait(wait)
        return stopped(work)

    for event in running:
        event.then(settle, None, [halt, line], **AT_ONCE)
    halt.click(stop, None, [halt, line], **AT_ONCE)


def streamed(function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """A listener that streams; where it ends without a message, its outputs stay, which Gradio would empty."""

    @functools.wraps(function)
    def stream(*values: Any) -> Iterator[Any]:
        told = False
        with contextlib.closing(function(*values)) as messages:  # type: ignore[type-var]
            for message in messages:
                told = True
                yield message
        if not told:
            yield gr.skip()

    return stream


def remembered(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that keeps its last answers for identical requests; its argument ``picture`` counts by its bytes.

    Who asks (a request or its work) makes no difference. For endpoints that run one at a time, as those of the models do.
    """
    answers: OrderedDict[Any, Any] = OrderedDict()
    parameters = inspect.signature(function)

    @functools.wraps(function)
    def answer(*values: Any) -> Any:
        bound = parameters.bind(*values)
        bound.apply_defaults()
        given = bound.arguments
        if picture := given.get("picture"):
            given["picture"] = hashlib.sha256(Path(picture).read_bytes()).digest()
        key = tuple(sorted((name, value) for name, value in given.items() if not isinstance(value, (gr.Request, Work))))
        if key not in answers:
            answers[key] = function(*values)  # a mistake is raised, and not kept
            while len(answers) > MAX_ANSWERS:
                answers.popitem(last=False)
        else:
            answers.move_to_end(key)
        return answers[key]

    return answer


# What pages show -----------------------------------------------------------------------------------------------------


def picture(images: Tensor, description: str) -> str:
    """``images`` uint8 (N, 3, H, W) as an HTML image that carries its PNG within."""
    columns = math.ceil(math.sqrt(len(images)))
    scale = math.ceil(PICTURE_PIXELS / (columns * (images.shape[-1] + 1) - 1))
    buffer = io.BytesIO()
    trajectories.grid(images, scale).save(buffer, format="PNG", compress_level=1)  # 5 ms; smaller would cost frames
    content = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(description)}" src="data:image/png;base64,{content}">'


def cell(kind: str, colour: str, title: str, what: str, body: str) -> str:
    """A picture under a bar in ``colour``, its title and what it shows."""
    return (
        f'<figure class="cell {kind}" style="--member:{colour}">'
        f"<figcaption><b>{html.escape(title)}</b> <span>{what}</span></figcaption>{body}</figure>"
    )


def waiting(cells: Sequence[tuple[str, str, str]]) -> str:
    """The empty state of a view: what will stand there, as (title, what will appear, colour) each."""
    body = "".join(cell("", colour, title, "", f'<div class="empty">{what}</div>') for title, what, colour in cells)
    return f'<div class="pictures two">{body}</div>'


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in HTML; the first cell of a row is its heading."""
    cells = "".join(f'<th scope="col">{name}</th>' if name else "<td></td>" for name in head)
    body = "".join(f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{value}</td>" for value in row[1:])}</tr>' for row in rows)
    return f'<table class="figures"><caption>{caption}</caption><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>'


@dataclass(frozen=True)
class Stop:
    """A stop of the guided tour; a tab's are what its function ``tour()`` returns, in order.

    Attributes:
        title: In a word or two, of the stop.
        question: What is looked into.
        look: What to look at, and what it shows.
        place: Id of what is brought into sight.
        press: Id of the button, an example or the one that begins, that shows it; empty where it is there already.
    """

    title: str
    question: str
    look: str
    place: str
    press: str = ""


def examples(prefix: str, names: Iterable[str]) -> dict[str, gr.Button]:
    """A row of buttons by name, to be connected by :func:`on_example`; their ids are PREFIX-example-1, -2, and so on."""
    with gr.Row(equal_height=True, elem_classes="examples", elem_id=f"{prefix}-examples"):
        return {
            name: gr.Button(name, size="sm", min_width=180, elem_id=f"{prefix}-example-{number}")
            for number, name in enumerate(names, start=1)
        }


def on_example(button: gr.Button, go: str, fill: Callable[..., dict[Any, Any]], inputs: Any, outputs: Sequence[Any]) -> None:
    """A click sets the controls ``outputs`` to what ``fill`` returns, then presses the button with the id ``go``."""
    # Pressed as after a control's change: if one of them presses it too, that is the same press.
    button.click(fill, inputs, list(outputs), **AT_ONCE).then(None, None, None, js=rest_js(go))


def code_part(prefix: str, code: str = "# Press the button above first.") -> gr.Code:
    """Where the Python stands that gives the arrays behind a tab's figures, as soon as there are any."""
    with gr.Accordion("Copy as code", open=False, elem_id=f"{prefix}-code-part"):
        return gr.Code(code, language="python", label="Python", interactive=False, elem_id=f"{prefix}-code")


def call(name: str, *values: Any, **named: Any) -> str:
    """A call as it is written in Python; strings that begin with ``=`` are expressions."""

    def written(value: Any) -> str:
        return value[1:] if isinstance(value, str) and value.startswith("=") else repr(value)

    return f"{name}({', '.join([*map(written, values), *(f'{key}={written(value)}' for key, value in named.items())])})"


def seeds(first: int, count: int) -> str:
    """Seeds as an argument of :func:`call`."""
    return "=" + call("zoo.seed_range", first, count)


def loaded(pair: str, dtype: str = "") -> str:
    """The line that loads both members of a pair."""
    names = [info.name for info in members(pair)]
    return f"models = [{call('zoo.load', '=name', *([dtype] if dtype else []))} for name in {names}]"


def pictured(dataset: str, resolution: int, number: int | None) -> list[str]:
    """Lines that give ``picture``, uint8 (3, H, W): the bundled one of this number, from 1, or an upload for None."""
    lines = ["from explore.data import add_noise, fit, load_images, to_float"]
    if number is None:
        lines += ["import torch", "from PIL import Image"]
        pixels = f'fit(Image.open("picture.png").convert("RGB"), {resolution}).copy()'
        return [*lines, f"picture = torch.from_numpy({pixels}).permute(2, 0, 1)"]
    return [*lines, f"picture = {call('load_images', f'bank:{dataset}', resolution, 'all')}[{number - 1}]"]


def heading(anchor: str, title: str, lead: str) -> gr.HTML:
    return gr.HTML(f'<h2 id="{anchor}" tabindex="-1">{title}</h2><p class="lead">{lead}</p>')


def status(text: str, done: float = 0.0) -> str:
    """A line of text over a bar of which the fraction ``done`` is filled."""
    return f'<div class="status">{text}<div class="bar"><i style="width:{100 * done:.1f}%"></i></div></div>'


def notice(error: ValueError) -> str:
    """``error`` as a line that stands where the status stood."""
    return f'<div class="notice" role="alert"><b>This cannot be run:</b> {html.escape(str(error), quote=False)}</div>'


def visible(error: ValueError) -> gr.Error:
    """``error`` as the message that the page and the clients show."""
    return gr.Error(html.escape(str(error), quote=False), title="This setting cannot be run", print_exception=False)


# Said by the page itself, before the server answers: others may be using the models.
WAIT_JS = f"() => {json.dumps(status('Waiting for the models.'))}"


def rest_js(button: str) -> str:
    """Script for the change of a control: once it has come to rest, it presses the button of this id."""
    return """() => {
  const timers = window.clocklessTimers ??= {};
  clearTimeout(timers["BUTTON"]);
  timers["BUTTON"] = setTimeout(() => document.querySelector("#BUTTON").click(), 350);
}""".replace("BUTTON", button)


CSS = """
.tab-section { border-top: 1px solid rgba(127,127,127,.35); padding-top: 14px; margin-top: 10px; gap: 10px; }
.tab-section h2 { font-size: 1.2rem; font-weight: 700; margin: 0; scroll-margin-top: 12px; }
.tab-section .lead { margin: .15rem 0 0; max-width: 75rem; }
.tab-section .html-container, .tab-head .html-container { padding: 0; }
.tab-stage, .examples { gap: 8px; }
.tab-head nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; font-size: .9rem; }
.tab-head nav a { color: var(--body-text-color); text-decoration: underline; padding: .3rem 0; }
.tab-section .note, .tab-head .note { font-size: .85rem; margin: 0; max-width: 62rem; opacity: .85; }
.pictures.two { grid-template-columns: repeat(2, minmax(0, 1fr)); max-width: 46rem; }
table.figures { border: 0 !important; border-collapse: collapse; width: 100%; max-width: 46rem; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
table.figures caption { text-align: left; padding-bottom: 4px; }
.tab-section table.figures :is(th, td) { text-align: left; vertical-align: top; padding: 3px 12px 3px 0;
  border: 0 solid rgba(127,127,127,.25) !important; border-bottom-width: 1px !important; font-weight: 400; }
.tab-section table.figures tr { border: 0 !important; }
.tab-section table.figures thead :is(th, td) { font-weight: 600; }
table.figures small { white-space: nowrap; opacity: .85; }
.swatch { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .45em; }
.tab-plot { overflow-x: auto !important; }
.tab-plot .modebar-container { display: none; }
/* Hidden by style, not by Gradio: a figure that is shown and filled at once sometimes stayed empty. */
.until-drawn:not(:has(.js-plotly-plot)) { visibility: hidden; height: 0; min-height: 0; overflow: hidden; }
.tab-plot:not(:has(.js-plotly-plot)) { visibility: hidden; height: 0; min-height: 0; padding: 0; border: 0; overflow: hidden; }
@media (max-width: 640px) {
  table.figures small { white-space: normal; }
  .tab-section table.figures :is(th, td) { padding-right: 8px; }
  .pictures.three { grid-template-columns: repeat(3, minmax(0, 1fr)); }
}
.pictures { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 10px 12px; }
/* The bars stand in one line, and so do the pictures, also where one title takes two lines. */
.pictures .cell { margin: 0; min-width: 0; border-top: 4px solid var(--member); display: flex; flex-direction: column;
  justify-content: space-between; }
.pictures figcaption { display: flex; flex-wrap: wrap; gap: 0 .5em; font-size: .85rem; padding: 3px 0; line-height: 1.3; }
.pictures figcaption span { opacity: .75; }
.pictures img { display: block; width: 100%; height: auto; }
.pictures .empty { aspect-ratio: 1; display: flex; align-items: center; justify-content: center; text-align: center;
  padding: 8%; border: 1.5px dashed rgba(127,127,127,.6); border-radius: 6px; font-size: .85rem; opacity: .8; }
.status { font-size: .9rem; font-variant-numeric: tabular-nums; }
.status .bar { height: 4px; margin-top: 5px; border-radius: 2px; background: rgba(127,127,127,.25); overflow: hidden; }
.status .bar i { display: block; height: 100%; background: currentColor; opacity: .65; }
.notice { border: 1.5px solid #D55E00; border-radius: 6px; padding: .5rem .7rem; font-size: .9rem; }
.summary { font-size: .9rem; margin: 0; }
/* One grey cannot be read on both a white and a dark page: the text of figures takes the colour of the page's text. */
.js-plotly-plot .main-svg text:not(.hovertext text) { fill: var(--body-text-color) !important; }
.js-plotly-plot .hoverlayer .legend .bg { fill: var(--background-fill-primary) !important; }
@media (max-width: 640px) {
  .pictures { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 8px; }
  .pictures .difference { order: 1; }
  .pictures figcaption { flex-direction: column; }
}
"""
