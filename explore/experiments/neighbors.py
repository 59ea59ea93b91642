"""Neighbors, the memorization check: nearest training images of samples. Depends on cards, evaluation, model, zoo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from PIL import Image

from explore import cards, evaluation, zoo
from explore.experiments.model import MAX_COUNT, data_option, model_option, seed_option, table
from explore.experiments.request import Load, Request
from explore.images import png
from explore.progress import Watch, quiet
from explore.values import whole


@dataclass(frozen=True)
class Neighbors(Request):
    """Memorization check: the nearest training image of each of a model's samples, and how near held-out images come.

    Attributes:
        model: A name of the checkpoint index.
        data: Source of the images that the model was trained on.
        count: Samples, 1 to 10,000.
        seed: Seed of the first sample.
    """

    verb: ClassVar[str] = "neighbors"
    reading: ClassVar[str] = "figures, picture = result  # distances, and samples above their neighbors"
    written: ClassVar[tuple[str, ...]] = ("neighbors.png", "neighbors.json")
    stores: ClassVar[bool] = True

    model: str = model_option()
    data: str = data_option()
    count: int = whole(1, MAX_COUNT, "Images, 1 to 10,000.", 64)
    seed: int = seed_option()

    def run(self, watch: Watch = quiet, load: Load = zoo.load) -> tuple[dict[str, Any], Image.Image]:
        """As :func:`explore.evaluation.neighbors` returns it."""
        return evaluation.neighbors(load(self.model, "float32"), self.data, self.count, self.seed)

    def record(self, result: tuple[dict[str, Any], Image.Image]) -> dict[str, Any]:
        """The distances, with how they were made."""
        return {"command": self.command, "request": self.to_json(), **result[0]}

    def files(self, result: tuple[dict[str, Any], Image.Image]) -> dict[str, Any]:
        """The picture and the record."""
        return {"neighbors.png": png(result[1]), "neighbors.json": self.record(result)}

    def store(self, result: tuple[dict[str, Any], Image.Image]) -> None:
        """Keeps the record in the model's metrics.json."""
        cards.store(self.model, self.verb, self.kept(result))

    def summary(self, result: tuple[dict[str, Any], Image.Image]) -> str:
        """The distances as a table."""
        return table([{name: value for name, value in result[0].items() if name not in ("data", "seed")}])
