"""What the tabs share: values of settings, controls, text as HTML, errors, and one skeleton of a run. Depends on works."""

from __future__ import annotations

import base64
import contextlib
import functools
import html
import inspect
import io
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from torch import Tensor

from app.works import WORKS, Work
from explore.data import FORMATS
from explore.images import grid

MODEL_QUEUE = "model"  # concurrency_id of everything that runs a network: one at a time
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
AT_ONCE: dict[str, Any] = {**QUIET, "queue": False}
ONE_MODEL: dict[str, Any] = {**QUIET, "concurrency_id": MODEL_QUEUE, "concurrency_limit": 1}
FILES: dict[str, Any] = {**QUIET, "concurrency_id": "files", "concurrency_limit": 1}
READY = "Ready: press the button, or choose another setting first."
MIN_PIXELS = 384  # least width of an image sent to the page, enlarged without smoothing
GRAY = "#7f7f7f"


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        said: In words, HTML.
        done: As a share.
        draw: Gives the updates that show it; called only when the page is updated.
    """

    said: str
    done: float
    draw: Callable[[], Mapping[Any, Any]] = dict


Messages = Iterator[Progress | Mapping[Any, Any]]


def run_button(prefix: str, name: str, *, ids: Sequence[str] = (), ready: str = READY) -> tuple[gr.Button, gr.Button, gr.HTML]:
    """The button that begins a run, the one that stops it, and the status line below them."""
    go_id, stop_id, status_id = ids or (f"{prefix}-go", f"{prefix}-stop", f"{prefix}-status")
    with gr.Row():
        go = gr.Button(name, variant="primary", elem_id=go_id, scale=4, min_width=180)
        halt = gr.Button("Stop", variant="stop", interactive=False, elem_id=stop_id, scale=1, min_width=64)
    return go, halt, gr.HTML(status(ready), elem_id=status_id)


def on_run(
    kind: str, steps: Callable[..., Messages], inputs: Sequence[Any], outputs: Sequence[Any], *,
    go: gr.Button, halt: gr.Button, line: gr.HTML, every: float = 0.15, stoppable: bool = True, first: str = "",
) -> Any:  # fmt: skip
    """Connects a run to the buttons that begin and stop it.

    The page says that the run waits, then ``steps`` streams: every update at once, progress at most once in ``every``
    seconds. The run ends early when it is stopped, and then closes ``steps``; a ValueError is shown where the status stands.

    Args:
        kind: Of work; a session has one run of each kind at a time.
        steps: (session, values of ``inputs``) -> progress and updates, the last of which has everything once more: of messages
            that come together the page may pass over all but the last.
        inputs: Components whose values are read.
        outputs: Components that updates change, without ``halt`` and ``line``.
        go: Begins the run.
        halt: Stops it.
        line: Holds the status.
        every: Seconds.
        stoppable: Whether ``halt`` is connected here, as :func:`on_stop` does it.
        first: Script of the page that runs before.

    Returns:
        The event of the run.
    """

    press = gr.Number(0, visible="hidden")  # when the button was pressed: a call belongs to one press

    def plan(pressed: float, request: gr.Request) -> dict[Any, Any]:
        count = WORKS.before(WORKS.plan(str(request.session_hash), kind, pressed))
        others = f": {count} {'run is' if count == 1 else 'runs are'} before this one" if count else ""
        return {halt: gr.update(interactive=True), line: status(f"Waiting for the models{others}.")}

    @streamed
    def listen(*values: Any) -> Iterator[dict[Any, Any]]:
        pressed, *chosen, request = values
        work = WORKS.begin(session := str(request.session_hash), kind, pressed)
        # Said with every update: the end of an earlier run may reach the page after this one's beginning.
        shown, going = -math.inf, {halt: gr.update(interactive=True)}
        messages = steps(session, *chosen)
        try:
            if work.stop.is_set():  # while it waited
                return
            for message in messages:
                if isinstance(message, Progress):
                    work.said, work.done = message.said, message.done
                    if work.stop.is_set():
                        return
                    if message.done > 0 and time.monotonic() - shown < every:
                        continue
                    shown = time.monotonic()
                    message = {line: status(work.said, work.done), **message.draw()}
                yield {**going, **message}
        except ValueError as error:
            work.failed = True
            yield {line: notice(error), halt: gr.update(interactive=False)}
        finally:
            work.ended.set()
            messages.close()  # type: ignore[attr-defined]  # also when the page is closed: hooks and tensors go now

    takes(listen, 1 + len(inputs))
    # The page takes a button's listeners in turn, each to its end: these two come before the run.
    go.click(None, None, [line, press], js=PRESS_JS)
    go.click(plan, press, [halt, line], **AT_ONCE)
    if first:
        go.click(None, None, None, js=first)
    event = go.click(listen, [press, *inputs], [line, halt, *outputs], trigger_mode="always_last", **ONE_MODEL)
    if stoppable:
        on_stop(kind, event, halt, line)
    return event


def takes(listener: Any, count: int) -> None:
    """Declares a listener ``(*values, request)`` as one that takes ``count`` values and the request, for Gradio."""
    plain = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(f"value_{number}", plain) for number in range(count)]
    parameters.append(inspect.Parameter("request", plain, annotation=gr.Request))
    listener.__signature__, listener.__annotations__ = inspect.Signature(parameters), {"request": gr.Request}


def on_stop(kind: str, running: Any, halt: gr.Button, line: gr.HTML, wait: float = 0.5) -> None:
    """Connects the stop button to a run; what has come stays on the page.

    Gradio's ``cancels`` is not used: while it waits for the step that is under way, the page loses presses of the button
    that begins.

    Args:
        kind: Of work.
        running: Event of the run, or the last one that follows from it.
        halt: The stop button.
        line: Holds the status.
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

    running.then(settle, None, [halt, line], **AT_ONCE)
    halt.click(stop, None, [halt, line], **AT_ONCE)


def refusing(line: gr.HTML) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A listener whose ValueError is shown where the status stands."""

    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def answer(*values: Any) -> Any:
            try:
                return function(*values)
            except ValueError as error:
                return {line: notice(error)}

        return answer

    return wrapped


def on_answer(
    go: gr.Button, answer: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Any], line: gr.HTML, **how: Any
) -> Any:
    """Connects a button to an answer that comes at once, without a stream; ``line`` says that it waits."""
    go.click(None, None, line, js=WAIT_JS)
    return go.click(refusing(line)(answer), list(inputs), [line, *outputs], **ONE_MODEL, **how)


def download_buttons(prefix: str, labels: Mapping[str, str]) -> dict[str, gr.DownloadButton]:
    """A row of buttons by kind of file, with ids ``PREFIX-KIND``."""
    with gr.Row():
        return {
            kind: gr.DownloadButton(label, size="sm", interactive=False, min_width=90, elem_id=f"{prefix}-{kind}")
            for kind, label in labels.items()
        }


def no_downloads(files: Mapping[str, gr.DownloadButton]) -> dict[Any, Any]:
    """Updates of the buttons until their files are made."""
    return {button: gr.update(interactive=False, value=None) for button in files.values()}


def save(files: Mapping[str, gr.DownloadButton], write: Callable[[str], Any], held: Callable[[], bool]) -> Iterator[Any]:
    """Updates of the buttons of files, one after the other, as ``write(kind)`` makes them while the run is ``held``."""
    ready: dict[Any, Any] = {}
    for kind, button in files.items():
        if not held():
            return
        try:
            path = write(kind)
        except FileNotFoundError:  # the run was dropped meanwhile, and its folder with it
            return
        ready[button] = gr.update(value=path, interactive=True)
        yield dict(ready)  # all so far: the page may skip all but the last of several quick updates


def streamed(function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """A listener that streams; where it ends without a message, its outputs stay, which Gradio would empty."""

    @functools.wraps(function)
    def stream(*values: Any) -> Iterator[Any]:
        spoke = False
        with contextlib.closing(function(*values)) as messages:  # type: ignore[type-var]
            for message in messages:
                spoke = True
                yield message
        if not spoke:
            yield gr.skip()

    return stream


def picture(images: Tensor, description: str) -> str:
    """``images`` uint8 (N, 3, H, W) as an HTML image that carries its PNG within."""
    columns = math.ceil(math.sqrt(len(images)))
    scale = math.ceil(MIN_PIXELS / (columns * (images.shape[-1] + 1) - 1))
    buffer = io.BytesIO()
    grid(images, scale).save(buffer, format="PNG", compress_level=1)  # 5 ms; smaller would cost frames
    content = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(description)}" src="data:image/png;base64,{content}">'


def cell(kind: str, color: str, title: str, what: str, body: str) -> str:
    """A picture under a bar in ``color``, its title and what it shows."""
    return (
        f'<figure class="cell {kind}" style="--member:{color}">'
        f"<figcaption><b>{html.escape(title)}</b> <span>{what}</span></figcaption>{body}</figure>"
    )


def pair_view(cells: Iterable[str], kind: str = "two") -> str:
    """Cells beside each other."""
    return f'<div class="pictures {kind}">{"".join(cells)}</div>'


def empty(words: str) -> str:
    """What stands where a picture will be."""
    return f'<div class="empty">{words}</div>'


def swatch(color: str) -> str:
    """A dot in the color of a member."""
    return f'<i class="swatch" style="background:{color}"></i>'


def waiting(cells: Sequence[tuple[str, str, str]]) -> str:
    """The empty state of a view: what will stand there, as (title, what will appear, color) each."""
    return pair_view(cell("", color, title, "", empty(what)) for title, what, color in cells)


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
    """A labeled row of buttons by name, for :func:`on_example`; their ids are PREFIX-example-1, -2, and so on."""
    with gr.Row(equal_height=True, elem_classes="examples", elem_id=f"{prefix}-examples"):
        gr.HTML("Examples:", elem_classes="examples-label")
        return {
            name: gr.Button(name, size="sm", min_width=180, elem_id=f"{prefix}-example-{number}")
            for number, name in enumerate(names, start=1)
        }


def on_example(button: gr.Button, go: str, fill: Callable[..., dict[Any, Any]], inputs: Any, outputs: Sequence[Any]) -> None:
    """A click sets the controls ``outputs`` to what ``fill`` returns, then presses the button with the id ``go``."""
    # Pressed as after a control's change: if one of them presses it too, that is the same press.
    button.click(fill, inputs, list(outputs), **AT_ONCE).then(None, None, None, js=rest_js(go))


def image_controls(prefix: str, bundled: int, **own: Any) -> tuple[gr.Slider, gr.File]:
    """A slider over the ``bundled`` images, numbered from 1, and an upload in its place; ``own`` are options of the upload."""
    number = gr.Slider(
        1, max(2, bundled), 1, step=1, label="Bundled image", info="Generated by one of our models.", interactive=bundled > 1,
        buttons=[], elem_id=f"{prefix}-bank",
    )  # fmt: skip
    upload = gr.File(
        label=f"Your own: {', '.join(FORMATS)}", file_types=["image"], type="filepath", height=170,
        elem_id=f"{prefix}-upload", **own,
    )  # fmt: skip
    return number, upload


def code_part(prefix: str, code: str = "# Press the button above first.") -> gr.Code:
    """Where the Python stands that gives the arrays behind a tab's figures, as soon as there are any."""
    with gr.Accordion("Copy as code", open=False, elem_id=f"{prefix}-code-part"):
        return gr.Code(code, language="python", label="Python", interactive=False, elem_id=f"{prefix}-code")


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
PRESS_JS = f"() => [{json.dumps(status('Waiting for the models.'))}, Date.now()]"
WAIT_JS = f"() => {json.dumps(status('Waiting for the models.'))}"


def rest_js(button: str) -> str:
    """Script for the change of a control: once it has come to rest, it presses the button of this id."""
    return """() => {
  const timers = window.clocklessTimers ??= {};
  clearTimeout(timers["BUTTON"]);
  timers["BUTTON"] = setTimeout(() => document.querySelector("#BUTTON").click(), 350);
}""".replace("BUTTON", button)


def scroll_js(place: str) -> str:
    """Script that brings a place into sight on a phone, where results lie below the settings."""
    return f"""() => {{
  if (window.innerWidth <= 640) document.querySelector('#{place}').scrollIntoView({{behavior: 'smooth'}});
}}"""
