"""Options that several experiments share: which model, which images, which first seed. Depends on adapters, request, zoo."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from explore import adapters, zoo
from explore.denoiser import Denoiser
from explore.experiments.request import Request
from explore.samplers import Sampling
from explore.seeds import MAX_SEED
from explore.values import choice, text, whole

MAX_COUNT = 10_000


def seed_option() -> Any:
    """The field for the first seed."""
    return whole(0, MAX_SEED, "First seed, 0 to 4294967295; image i has seed + i.", 0)


def model_option() -> Any:
    """The field for one shipped model, which must be named."""
    return choice("model", zoo.index, "Name of a model; `models` lists them.", positional=True)


def pair_option() -> Any:
    """The field for a pair, which must be named."""
    return choice("pair", zoo.pairs, "Name of a pair, as listed by `models`.", positional=True)


def data_option() -> Any:
    """The field for a source of images, which must be named."""
    return text("cifar10, celeba, bank:NAME, or a folder or zip of images.", source=True)


def images_option(default: int) -> Any:
    """The field for how many images of a split are used."""
    return whole(1, MAX_COUNT, "Images of a split, at most; 1 to 10,000.", default)


@dataclass(frozen=True)
class OfModel(Request):
    """An experiment with one model: a shipped one, or a folder of diffusers.

    Attributes:
        model: A name of the checkpoint index, or None with ``diffusers``.
        diffusers: Folder of a diffusers ``UNet2DModel`` or ``DiTTransformer2DModel``.
        label: With ``diffusers``: the class asked of a network that has classes.
    """

    model: str | None = choice("model", zoo.index, "Name of a model, or --diffusers in its place.", None, positional=True)
    diffusers: str | None = text("Folder of a diffusers UNet2DModel or DiTTransformer2DModel, in the place of MODEL.", None)
    label: int | None = whole(0, 10**6, "With --diffusers: the class asked of a network that has classes.", None)

    def check(self) -> None:
        """Exactly one model is named, and a label only for one that may have classes."""
        if (self.model is None) == (self.diffusers is None):
            raise ValueError("name one model: MODEL (`models` lists them) or --diffusers FOLDER")
        if self.label is not None and self.diffusers is None:
            raise ValueError("--label belongs to --diffusers: our models have no classes")

    def suits(self, **given: Any) -> Sampling:
        """What suits the model."""
        if self.diffusers is None:
            return Sampling.for_model(zoo.info(str(self.model)), **given)
        return Sampling.for_model(SimpleNamespace(prediction=adapters.prediction_of(self.diffusers)), **given)

    def load(self, precision: str = "float32") -> Denoiser:
        """The model."""
        if self.diffusers is not None:
            return adapters.from_diffusers(self.diffusers, self.label, precision)
        return zoo.load(str(self.model), precision)


def table(rows: Iterable[dict[str, Any]]) -> str:
    """Rows as aligned columns, numbers to the right."""
    rows = list(rows)
    cells = [list(rows[0])] + [
        [f"{v:,}" if isinstance(v, int) else f"{v:.5g}" if isinstance(v, float) else str(v) for v in row.values()]
        for row in rows
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    numeric = [isinstance(value, (int, float)) for value in rows[0].values()]
    lines = ["  ".join(cell.rjust(w) if n else cell.ljust(w) for cell, w, n in zip(row, widths, numeric)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)
