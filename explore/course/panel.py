"""View: controls and what follows from them, as a widget with a static version. Depends on display, experiments.

A view is a function from the values of its controls to parts: pictures, plotly figures, text, and requests, which are shown as
Python to copy. It is drawn once for each setting, kept, and redrawn when a control changes.
"""

from __future__ import annotations

import html
import json
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence, Sized
from typing import Any, TypeAlias

import ipywidgets as widgets
import plotly.graph_objects as go
from PIL import Image

from explore import zoo
from explore.course.display import INK, PLOTLY, TWINS, WIDTH, cell_text, image_data, stack, stills, text_block
from explore.experiments import Request
from explore.images import png
from explore.values import Option

KEPT = 64  # drawings of a view that are kept
WIDEST = 100  # positions of a slider for whole numbers; wider ranges get a number field

Part: TypeAlias = Image.Image | go.Figure | str | Request
Drawn: TypeAlias = Sequence[Part] | Generator[str, None, Sequence[Part]]


class View:
    """Controls, and parts that are redrawn when one of them changes; displayed as a widget with a static version.

    Args:
        draw: Values of the controls by name -> parts, or a generator that yields its progress in words and returns the parts.
            A ValueError is shown as a message; interrupting the kernel stops the drawing.
        controls: Name -> widget with a ``value``.
        words: Alternative text of the static version.
        examples: Settings that the static version shows, each the values that differ from the controls' first ones.
        button: Title of a button that starts the drawing, for views that take longer than a moment; none if empty.

    Attributes:
        button: The button, or None.
        parts: What is shown now.
        message: Progress, or what was wrong with the last setting; empty if nothing was.
        drawings: How often something was drawn.
    """

    def __init__(
        self,
        draw: Callable[..., Drawn],
        controls: Mapping[str, Any],
        words: str,
        examples: Sequence[Mapping[str, Any]] = ({},),
        button: str = "",
    ) -> None:
        self._draw, self.controls, self.words, self.examples = draw, dict(controls), words, list(examples)
        self._first = {name: control.value for name, control in self.controls.items()}
        self._kept: OrderedDict[str, list[Part]] = OrderedDict()
        self.parts: list[Part] = []
        self.drawings = 0
        self._message = widgets.HTML()
        self._boxes: list[Any] = []
        self.button = widgets.Button(description=button, button_style="primary") if button else None
        for control in self.controls.values():
            control.layout.max_width = "100%"
            if self.button is None:
                control.observe(lambda change: self.update(), names="value")
        if self.button is not None:
            self.button.on_click(lambda button: self.update())
        shown = [*self.controls.values(), *([self.button] if self.button else [])]
        self._bar = widgets.HBox(shown, layout=widgets.Layout(flex_flow="row wrap"))
        self.widget = widgets.VBox([self._bar, self._message])
        self.update()

    @property
    def message(self) -> str:
        """As text without markup."""
        return re.sub(r"<[^>]*>", "", self._message.value)

    def _say(self, words: str, color: str = INK) -> None:
        self._message.value = words and f'<span style="color:{color}">{html.escape(words)}</span>'

    def _parts(self, values: Mapping[str, Any]) -> list[Part]:
        key = repr(sorted(values.items()))
        if key not in self._kept:
            drawn = self._draw(**values)
            while isinstance(drawn, Generator):
                try:
                    self._say(next(drawn))
                except StopIteration as end:
                    drawn = end.value
            self._kept[key] = list(drawn)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return self._kept[key]

    def update(self) -> None:
        """Draws what the controls say now."""
        if self.button is not None:
            self.button.disabled = True
        try:
            self.parts = self._parts({name: control.value for name, control in self.controls.items()})
            self._say("")
        except (ValueError, KeyboardInterrupt) as error:
            self._say(str(error) or "Stopped.", "#b00020")
            if isinstance(error, KeyboardInterrupt) and not self.drawings:
                raise  # the cell that makes the view was interrupted, not a press of the button
            return
        finally:
            if self.button is not None:
                self.button.disabled = False
        self.drawings += 1
        kinds = [_box_kind(part) for part in self.parts]
        if kinds != [type(box) for box in self._boxes]:
            self._boxes = [kind() for kind in kinds]
            self.widget.children = (self._bar, self._message, *self._boxes)
        for box, part in zip(self._boxes, self.parts):
            if isinstance(part, str):
                box.value = f'<p style="margin:4px 0;line-height:1.45">{html.escape(part)}</p>'
            elif isinstance(part, Request):
                box.value = f"<details><summary>Python</summary><pre>{html.escape(part.code)}</pre></details>"
            elif isinstance(part, Image.Image):
                box.layout.max_width, box.layout.object_fit, box.layout.align_self = "100%", "contain", "flex-start"
                box.value = png(part)
            else:
                data = {PLOTLY: json.loads(part.to_json()), "text/plain": self.words}
                box.outputs = ({"output_type": "display_data", "data": data, "metadata": {}},)

    def twin(self) -> Image.Image | None:
        """The static version: settings, pictures and text of the examples. None if nothing of them can be drawn."""
        drawn = [(settings, self._parts({**self._first, **settings})) for settings in self.examples]
        charts = iter(stills([part for _, parts in drawn for part in parts if isinstance(part, go.Figure)], WIDTH))
        blocks: list[Image.Image] = []
        seen = False
        for settings, parts in drawn:
            if settings:
                named = (f"{self.controls[name].description} = {_said(value)}" for name, value in settings.items())
                blocks.append(text_block(", ".join(named), 18, INK))
            for part in parts:
                still = next(charts) if isinstance(part, go.Figure) else part
                if isinstance(still, Image.Image):
                    seen = True
                    # Figures have 1.5 pixels for one of CSS, pictures have one: both end at the width of the page.
                    size = (WIDTH, WIDTH * still.height // still.width)
                    blocks.append(still if still is part else still.resize(size, Image.Resampling.LANCZOS))
                elif isinstance(still, str):
                    blocks.append(text_block(still, 15, "#555555"))
        return stack(blocks) if seen else None

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        data: dict[str, Any] = {**self.widget._repr_mimebundle_(), "text/plain": self.words}
        metadata: dict[str, Any] = {}
        if os.environ.get(TWINS) and (still := self.twin()) is not None:
            more, metadata = image_data(still, self.words, WIDTH)
            data |= more
        return data, metadata


def _box_kind(part: Part) -> type:
    if isinstance(part, (str, Request)):
        return widgets.HTML
    return widgets.Image if isinstance(part, Image.Image) else widgets.Output


def _said(value: Any) -> str:
    if isinstance(value, tuple):
        return " to ".join(map(_said, value))
    return f"{value:g}" if isinstance(value, float) else cell_text(value)


# Controls -------------------------------------------------------------------------------------------------------------------


def controls_of(kind: type[Request], **first: Any) -> dict[str, Any]:
    """Name -> widget for options of an experiment, with the range, choices, default and help text that the request declares.

    Args:
        kind: The experiment.
        first: Option -> value to begin with, None for the default; or a list of the choices to offer.
    """
    options, defaults = kind.options(), kind.defaults()
    return {
        name: _control(name, options[name], defaults.get(name) if value is None else value) for name, value in first.items()
    }


def _control(name: str, option: Option, value: Any) -> Any:
    words: dict[str, Any] = {"description": name.replace("_", " "), "tooltip": option.help}
    if isinstance(value, (list, range)):
        return widgets.Dropdown(options=list(value), **words)
    if option.choices is not None:
        choices = list(option.choices())
        return widgets.Dropdown(options=choices, value=choices[0] if value is None else value, **words)
    if option.kind is bool:
        return widgets.Checkbox(bool(value), **words)
    low, high = option.limits or (0, 0)
    value = low if value is None else value
    if option.kind is float:
        step = (high - low) / WIDEST
        return widgets.FloatSlider(value, min=low, max=high, step=step, continuous_update=False, **words)
    if high - low > WIDEST:
        return widgets.BoundedIntText(value, min=low, max=high, **words)
    return widgets.IntSlider(value, min=low, max=high, continuous_update=False, **words)


def following(stream: Iterable[Any], title: str, total: int) -> Generator[str, None, Any]:
    """The last item of a stream of steps; yields the progress in words, for the ``draw`` of a view."""
    last = None
    for number, last in enumerate(stream):  # noqa: B007  returned below
        yield f"{title}: step {number} of {total}"
    return last


def slider(name: str, value: float, low: float, high: float, step: float = 0.01) -> Any:
    """A slider for what no request declares."""
    kind = widgets.IntSlider if isinstance(value, int) else widgets.FloatSlider
    return kind(value=value, min=low, max=high, step=step, description=name, continuous_update=False)


def menu(name: str, choices: Iterable[Any], value: Any = None) -> Any:
    """A menu of what no request declares."""
    listed = list(choices)
    return widgets.Dropdown(options=listed, value=listed[0] if value is None else value, description=name)


def picture_slider(images: Sized) -> Any:
    """Which of the pictures is shown."""
    return slider("picture", 0, 0, len(images) - 1, 1)


def titles_of(names: Iterable[str]) -> list[str]:
    """Titles of models by their names: conditioned, time-agnostic."""
    return [zoo.TITLES[zoo.info(name).time_conditioning] for name in names]
