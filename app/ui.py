"""Parts of every tab: checked values, run and stop buttons, status lines, pictures, tables, examples. Depends on works."""

from __future__ import annotations

import base64
import contextlib
import functools
import html
import inspect
import io
import json
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import gradio as gr
from torch import Tensor

from app.works import WORKS, Stopped, Work
from explore.data import FORMATS
from explore.images import grid

MODEL_QUEUE = "model"  # concurrency_id of everything that runs a network: one at a time
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
AT_ONCE: dict[str, Any] = {**QUIET, "queue": False}
ONE_MODEL: dict[str, Any] = {**QUIET, "concurrency_id": MODEL_QUEUE, "concurrency_limit": 1}
OWN_PICTURE = f"Your own: {', '.join(FORMATS)}"
READY = "Ready: press the button, or choose another setting first."
PICTURE_PIXELS = 384  # least width of a picture sent to the page, enlarged without smoothing


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


def takes(names: Sequence[str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declares a listener ``(*values, request)`` as one that takes the values of these fields and the request, for Gradio."""

    def declared(function: Callable[..., Any]) -> Callable[..., Any]:
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [inspect.Parameter(name, kind) for name in names]
        parameters.append(inspect.Parameter("request", kind, annotation=gr.Request))
        function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        function.__annotations__ = {"request": gr.Request}
        return function

    return declared


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


def running(
    kind: str, line: gr.HTML, run: Callable[..., Generator[dict[Any, Any]]], count: int, halt: gr.Button | None = None,
    wrong: Mapping[Any, Any] = MappingProxyType({}),
) -> Callable[..., Iterator[Any]]:  # fmt: skip
    """A listener that streams a run which can be stopped.

    Args:
        kind: Of work.
        line: Where the status stands; a ValueError becomes a notice there.
        run: ``run(work, *values)`` yields what changes on the page and calls :meth:`Work.at` at each step; status line and
            stop button are added.
        count: Of values.
        halt: The stop button.
        wrong: What changes as well when there is an error.
    """

    @streamed
    @takes([f"value_{number}" for number in range(count)])
    def listen(*values: Any) -> Iterator[dict[Any, Any]]:
        *given, request = values
        work = WORKS.begin(str(request.session_hash), kind)
        # Said with every message: the end of an earlier run may reach the page after this one's beginning.
        going = {halt: gr.update(interactive=True)} if halt else {}
        try:
            if work.stop.is_set():  # while it waited
                return
            with contextlib.closing(run(work, *given)) as messages:
                for message in messages:
                    yield {**({line: status(work.said, work.done)} if work.said else {}), **going, **message}
        except Stopped:
            return
        except ValueError as error:
            work.failed = True
            yield {line: notice(error), **({halt: gr.update(interactive=False)} if halt else {}), **wrong}
        finally:
            work.ended.set()

    return listen


def on_run(
    kind: str, go: gr.Button, halt: gr.Button, line: gr.HTML, run: Callable[..., Any], inputs: Sequence[Any],
    outputs: Sequence[Any], wrong: Mapping[Any, Any] = MappingProxyType({}),
) -> Any:  # fmt: skip
    """Connects the button ``go`` to a run as in :func:`running`; returns its event, for :func:`stops`."""
    announce(kind, go, halt, line)
    listener = running(kind, line, run, len(inputs), halt, wrong)
    return go.click(listener, list(inputs), list(outputs), trigger_mode="always_last", **ONE_MODEL)


def noticed(line: gr.HTML) -> Callable[[Callable[..., dict[Any, Any]]], Callable[..., dict[Any, Any]]]:
    """Declares a listener whose ValueError becomes a notice in ``line``."""

    def declared(function: Callable[..., dict[Any, Any]]) -> Callable[..., dict[Any, Any]]:
        @functools.wraps(function)
        def listen(*values: Any) -> dict[Any, Any]:
            try:
                return function(*values)
            except ValueError as error:
                return {line: notice(error)}

        return listen

    return declared


def picture(images: Tensor, description: str) -> str:
    """``images`` uint8 (N, 3, H, W) as an HTML image that carries its PNG within."""
    columns = math.ceil(math.sqrt(len(images)))
    scale = math.ceil(PICTURE_PIXELS / (columns * (images.shape[-1] + 1) - 1))
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


def waiting(cells: Sequence[tuple[str, str, str]]) -> str:
    """The empty state of a view: what will stand there, as (title, what will appear, color) each."""
    body = "".join(cell("", color, title, "", f'<div class="empty">{what}</div>') for title, what, color in cells)
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


def go_and_stop(label: str, prefix: str) -> tuple[gr.Button, gr.Button]:
    """The button that begins a run, and the one that stops it; their ids are PREFIX-go and PREFIX-stop."""
    with gr.Row():
        return (
            gr.Button(label, variant="primary", elem_id=f"{prefix}-go", scale=4, min_width=150),
            gr.Button("Stop", variant="stop", interactive=False, elem_id=f"{prefix}-stop", scale=1, min_width=64),
        )


def plot(label: str, name: str) -> gr.Plot:
    """The place of a figure, with this id."""
    return gr.Plot(label=label, show_label=False, elem_id=name, elem_classes="tab-plot")


def picture_controls(prefix: str, count: int, visible: bool = True) -> tuple[gr.Slider, gr.File]:
    """The number of a bundled picture, of ``count``, and an upload, shown unless ``visible`` is false."""
    return (
        gr.Slider(
            1, max(2, count), 1, step=1, label="Bundled picture", info="Generated by one of these models.",
            interactive=count > 1, buttons=[], elem_id=f"{prefix}-bank",
        ),
        gr.File(
            label=OWN_PICTURE, file_types=["image"], type="filepath", height=170, visible=visible, elem_id=f"{prefix}-upload"
        ),
    )  # fmt: skip


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
