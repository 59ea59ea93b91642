"""What a person can ask for, as one frozen dataclass: everything else about an experiment is derived from its fields.

A request declares each option once (:func:`explore.values.option`): its kind, range, default and help text. From the fields
come parsing of values from a command line, an address, the API or JSON with one message for each mistake, the command that
reproduces the result, Python to copy, the query of a page's address, and the key under which a result is kept. How a result
becomes JSON, files and a summary is here too. Depends on cards, hardware, progress, results, samplers, values and zoo.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import urlencode

from explore import cards, zoo
from explore.denoiser import Denoiser
from explore.hardware import computed_with, dtype_name
from explore.progress import Watch, quiet
from explore.results import columns, table
from explore.samplers import Sampling, flag
from explore.values import Option, check_fields, choose, options_of

Load = Callable[[str, str], Denoiser]
PRECISIONS_HELP = "auto (bfloat16 where the hardware is fast at it), float32 or bfloat16."


def sampling_field() -> Any:
    """The field for a :class:`Sampling`; its own fields are options of the request. By default what suits the model."""
    return field(default=None, metadata={"sampling": True})


@dataclass(frozen=True)
class Request(ABC):
    """One experiment with its settings. Subclasses are frozen dataclasses whose fields are options, and ``run``.

    Attributes:
        verb: Name of the experiment: on the command line, in the API and in messages.
        reading: Python that shows what the result holds, for :attr:`code`.
        most_images: Largest ``count`` where results are shown while they come; None if there is no such limit.
        written: Names of the files that the command line writes into a folder; if there are none, it prints the summary, or
            with --json the record. Two of them, ``NAME.json`` and ``NAME.html``, need no more than :meth:`figures`.
        stores: Whether the result can be kept with the model that it was measured on.
        stored_as: Under which name, in a model's metrics.json; by default :attr:`name`.
        resumes: Whether the command continues after an interruption: ``run`` takes ``work``, a folder for what is finished, and
            the command writes the record as one file.
        dtype: In which it computes, where there is no option ``precision``.
    """

    verb: ClassVar[str]
    reading: ClassVar[str] = ""
    written: ClassVar[tuple[str, ...]] = ()
    stores: ClassVar[bool] = False
    stored_as: ClassVar[str] = ""
    resumes: ClassVar[bool] = False
    dtype: ClassVar[str] = "float32"
    most_images: ClassVar[int | None] = None

    def __post_init__(self) -> None:
        check_fields(self)
        self.check()
        if self._sampling_name() and getattr(self, "sampling", None) is None:
            object.__setattr__(self, "sampling", self.suits())

    def suits(self, **given: Any) -> Sampling:
        """The sampler's settings that suit the model asked for, with the values ``given`` in their place."""
        return Sampling(**given)

    def check_store(self) -> None:  # noqa: B027  most results can be stored whatever the request is
        """Checks before the work begins whether the result can be stored.

        Raises:
            ValueError: If not.
        """

    def check(self) -> None:  # noqa: B027  most requests have no such fields
        """Checks fields that depend on each other; each alone is checked before.

        Raises:
            ValueError: If they do not fit.
        """

    @abstractmethod
    def run(self, watch: Watch = quiet, load: Load = zoo.load) -> Any:
        """The result.

        None in the processes of ``accelerate launch`` that only help the first one.

        Args:
            watch: Shows progress, see :mod:`explore.progress`.
            load: (name, precision) -> model; the app shares loaded models between requests.
        """

    @property
    def name(self) -> str:
        """Of the files."""
        return self.verb

    def figures(self, result: Any) -> list[Any]:
        """Plotly figures of the result, for ``NAME.html``."""
        return []

    def files(self, result: Any) -> dict[str, Any]:
        """File name, one of ``written``, -> content; a dict is written as JSON. By default the record and the figures."""
        if not self.written:
            return {}
        from explore import figures  # imported here: the trainer runs where there is no plotly

        return {f"{self.name}.json": self.record(result), f"{self.name}.html": figures.page(self.figures(result))}

    def downloads(self, result: Any) -> dict[str, bytes]:
        """File name -> content of what a caller of the endpoint gets beside the record; by default all files but JSON."""
        return {name: content for name, content in self.files(result).items() if isinstance(content, bytes)}

    def record(self, result: Any) -> dict[str, Any]:
        """The result as JSON, with how it was made; what the result itself says of its dtype and hardware counts."""
        return {**self.provenance, **result.to_json()}

    @property
    def provenance(self) -> dict[str, Any]:
        """How a result is made on this machine: command, request, and :func:`explore.hardware.computed_with`."""
        dtype = dtype_name(getattr(self, "precision", self.dtype))
        return {"command": self.command, "request": self.to_json(), **computed_with(dtype)}

    def summary(self, result: Any) -> str:
        """What the command line says at the end: by default the rows of the result as a table."""
        return table(columns(row) for row in result.rows)

    @property
    def published(self) -> Self:
        """The request with the name of each folder in the place of its path, as shipped files store it."""
        named = {
            part.name: Path(value).name
            for part in fields(self)
            if "option" in part.metadata and part.metadata["option"].source and (value := getattr(self, part.name))
        }
        return replace(self, **named) if named else self

    def kept(self, result: Any) -> dict[str, Any]:
        """What :meth:`store` keeps: the record of the request as it is published."""
        return self.published.record(result)

    @property
    def holders(self) -> list[str]:
        """Models with which :meth:`store` keeps the result."""
        model = getattr(self, "model", None)
        return [] if model is None else [model]

    def store(self, result: Any) -> None:
        """Keeps the result in the metrics.json of the models that it was measured on, where ``stores`` is true.

        Raises:
            ValueError: Where it is not.
        """
        if not self.stores or not self.holders:
            raise ValueError(f"results of {self.verb} are not kept with a model")
        for model in self.holders:
            cards.store(model, self.stored_as or self.name, self.kept(result))

    @classmethod
    def _sampling_name(cls) -> str | None:
        return next((part.name for part in fields(cls) if part.metadata.get("sampling")), None)

    @classmethod
    def options(cls) -> dict[str, Option]:
        """Name -> Option of everything that can be given, the sampler's settings among them, in the order of declaration."""
        found: dict[str, Option] = {}
        for part in fields(cls):
            found |= options_of(Sampling) if part.metadata.get("sampling") else {part.name: part.metadata["option"]}
        return found

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Name -> default of every option that has one; None where it depends on the model."""
        found: dict[str, Any] = {}
        for part in fields(cls):
            if part.metadata.get("sampling"):
                found |= dict.fromkeys(options_of(Sampling))
            elif part.default is not MISSING:
                found[part.name] = part.default
        return found

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, live: bool = False) -> Self:
        """A request from values by name; text is read as what it spells; None, empty text or an empty list is the default.

        Args:
            values: Such as those of a command line, an address or a JSON object.
            live: Whether the result is shown while it comes, which allows ``most_images`` at once.

        Raises:
            ValueError: For a name that is no option, a value that is not allowed, or one that is missing.
        """
        known = cls.options()
        for name in values:
            choose(f"option of {cls.verb}", name, known)
        given = {name: known[name].read(name, value) for name, value in values.items() if value not in (None, "", [], ())}
        if live and cls.most_images is not None and given.get("count", 0) > cls.most_images:
            raise ValueError(f"count must be a whole number from 1 to {cls.most_images}, got {given['count']}")
        missing = [name for name in known if name not in given and name not in cls.defaults()]
        if missing:
            raise ValueError(f"{cls.verb} needs {' and '.join(missing)}")
        sampling = {name: given.pop(name) for name in options_of(Sampling) if name in given and cls._sampling_name()}
        request = cls(**given)
        if sampling:
            object.__setattr__(request, "sampling", request.suits(**sampling))
        return request

    @property
    def values(self) -> dict[str, Any]:
        """Every option that has a value, by name; :meth:`parse` gives the request back."""
        found: dict[str, Any] = {}
        for part in fields(self):
            value = getattr(self, part.name)
            found |= value.arguments if isinstance(value, Sampling) else {part.name: value}
        return {name: value for name, value in found.items() if value is not None}

    def to_json(self) -> dict[str, Any]:
        """``values`` with the verb, as results store them."""
        return {"experiment": self.verb, **self.values}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The request that :meth:`to_json` gave.

        Raises:
            ValueError: For another experiment's, or a value that is no longer allowed.
        """
        if stored.get("experiment") != cls.verb:
            raise ValueError(f"this is a request of {stored.get('experiment')!r}, not of {cls.verb!r}")
        return cls.parse({name: value for name, value in stored.items() if name != "experiment"})

    @property
    def command(self) -> str:
        """The command line that runs exactly this."""
        known = self.options()
        words = [shlex.quote(str(value)) for name, value in self.values.items() if known[name].positional]
        flags = [
            flag(name, one)
            for name, value in self.values.items()
            if not known[name].positional
            for one in (value if isinstance(value, tuple) else (value,))
        ]
        return " ".join(["python -m explore", self.verb, *words, *flags])

    @property
    def code(self) -> str:
        """Python that runs exactly this."""
        parts = []
        imports = [f"from explore.experiments import {type(self).__name__}"]
        for part in fields(self):
            value = getattr(self, part.name)
            if isinstance(value, Sampling):
                imports.append("from explore.samplers import Sampling")
                inside = ", ".join(f"{name}={_written(one)}" for name, one in value.arguments.items())
                parts.append(f"{part.name}=Sampling({inside})")
            elif value != part.default:
                parts.append(_written(value) if part.metadata["option"].positional else f"{part.name}={_written(value)}")
        listed = "".join(f"\n    {part}," for part in parts)
        return "\n".join(imports) + f"\n\nresult = {type(self).__name__}({listed}\n).run()\n{self.reading}".rstrip() + "\n"

    @property
    def query(self) -> str:
        """The request as the query of a page's address, without what is at its default of every model."""
        plain = {
            part.name: part.default for part in fields(self) if "option" in part.metadata and part.metadata["option"].choices
        }
        shown = {name: value for name, value in self.values.items() if plain.get(name, MISSING) != value}

        def spelled(value: Any) -> Any:
            if isinstance(value, tuple):
                return ",".join(map(str, value))
            return int(value) if isinstance(value, bool) else value

        return urlencode({name: spelled(value) for name, value in shown.items()})

    @property
    def key(self) -> str:
        """A name for the result: equal for equal requests, 16 hexadecimal digits."""
        content = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def _written(value: Any) -> str:
    """A value as it is written in Python."""
    return json.dumps(value) if isinstance(value, str) else repr(value)
