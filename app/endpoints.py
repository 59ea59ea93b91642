"""Endpoints of experiments: names, types, defaults and help texts are those of the request's fields. Depends on pairs, ui,
works.

An option that names an image takes an uploaded file, as ``gradio_client.handle_file`` gives it, or bundled images.
"""

from __future__ import annotations

import inspect
import re
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from types import GenericAlias
from typing import Any

import gradio as gr

from app import pairs, ui, works
from explore import files
from explore.experiments import Request

MAX_ANSWERS = 64  # kept for identical requests
# Options of the command line only: folders of the server, and what it is fast at.
LOCAL = ("diffusers", "label", "precision", "probes")
FEWER: dict[str, Any] = {"count": 4, "checks": False}  # defaults below those of the command line: others wait for the models


class Answers:
    """Answers to requests, kept as files in one folder; the oldest are removed first."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[dict[str, Any], Path]] = OrderedDict()
        self._lock = threading.Lock()
        self._keep: Any = None

    def _folder(self, name: str) -> Path:
        if self._keep is None:  # removed at exit; Gradio serves a static folder in place, without copies
            self._keep = tempfile.TemporaryDirectory(prefix="clockless-answers-", ignore_cleanup_errors=True)
            gr.set_static_paths([self._keep.name])
        folder = Path(self._keep.name) / name
        folder.mkdir(exist_ok=True)
        return folder

    def get(self, asked: Request, work: works.Work) -> tuple[dict[str, Any], list[Path]]:
        """The record of the result and its files, computed or kept from an identical request.

        Raises:
            ValueError: If the request cannot be run, or the work is stopped.
        """
        name = f"{asked.verb}-{asked.key}"
        with self._lock:
            if name in self._known:
                self._known.move_to_end(name)
                record, folder = self._known[name]
                return record, [folder / part for part in record["files"]]

        def watch(steps: Iterable[Any], desc: str = "", total: int | None = None, unit: str = "it") -> Iterable[Any]:
            return works.going_on(steps, work)

        result = asked.run(watch, pairs.load)
        downloads = {f"{name}-{part}": content for part, content in asked.downloads(result).items()}
        with self._lock:
            folder = self._folder(name)
            for part, content in downloads.items():
                (folder / part).write_bytes(content)
            record = files.plain({**asked.published.record(result), "files": list(downloads)})
            self._known[name] = record, folder
            while len(self._known) > MAX_ANSWERS:
                shutil.rmtree(self._known.popitem(last=False)[1][1], ignore_errors=True)
        return record, [folder / part for part in downloads]


ANSWERS = Answers()


def _given(name: str, value: Any) -> Any:
    """The path of an uploaded file, or the name of bundled images; no other file or folder of the server.

    Raises:
        ValueError: For anything else.
    """
    if isinstance(value, dict) and value.get("meta") == {"_type": "gradio.FileData"}:  # Gradio has checked that it is an upload
        return pairs.uploaded(value["path"])
    if isinstance(value, str) and value.startswith("bank:"):
        return value
    raise ValueError(f"{name} must be an uploaded image file or bundled images such as bank:celeba")


def add(kind: type[Request], downloads: int) -> None:
    """Adds the endpoint of an experiment to the page that is being built.

    It returns the record of the result as JSON, then its files; identical requests are answered from files.

    Args:
        kind: The experiment.
        downloads: How many files its result has.
    """
    options = {name: one for name, one in kind.options().items() if name not in LOCAL}
    defaults = kind.defaults() | FEWER
    keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = []
    for name, one in options.items():
        must = one.positional or name not in defaults
        optional = not must and defaults[name] is None
        kinds: Any = list[one.kind] if one.many else one.kind  # type: ignore[name-defined]
        annotation: Any = gr.FileData | str if one.source else kinds
        annotation = annotation | None if optional else annotation
        default = inspect.Parameter.empty if must else defaults[name]
        parameters.append(inspect.Parameter(name, keyword, annotation=annotation, default=default))
    parameters.append(inspect.Parameter("request", keyword, annotation=gr.Request, default=None))
    parts: tuple[Any, ...] = (dict[str, Any], *[gr.FileData] * downloads)
    result: Any = GenericAlias(tuple, parts) if downloads else parts[0]
    signature = inspect.Signature(parameters, return_annotation=result)

    def answer(*given: Any, **named: Any) -> Any:
        bound = signature.bind(*given, **named)
        bound.apply_defaults()
        values = dict(bound.arguments)
        request = values.pop("request")
        try:
            values |= {name: _given(name, values[name]) for name, one in options.items() if one.source}
            asked = kind.parse(values, live=True)
            with works.calling(request) as work:
                record, paths = ANSWERS.get(asked, work)
        except ValueError as error:
            raise ui.visible(error) from error
        found = [gr.FileData(path=str(path)).model_dump() for path in paths]
        return (record, *found) if downloads else record

    answer.__signature__ = signature  # type: ignore[attr-defined]
    answer.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": result}
    text = re.sub(
        r":\w+:`[a-z_.]*([A-Za-z]+)`", r"\1", inspect.cleandoc(kind.__doc__ or "").partition("Attributes:")[0].strip()
    )
    listed = "\n".join(f"    {name}: {one.help}" for name, one in options.items())
    answer.__doc__ = f"{text}\n\nArgs:\n{listed}\n\nReturns:\n    The record of the result, then its files.\n"
    answer.__name__ = kind.verb
    gr.api(answer, api_name=kind.verb, concurrency_id=ui.MODEL_QUEUE, concurrency_limit=1)
