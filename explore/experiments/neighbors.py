"""Neighbors, the memorization check: nearest training images of samples. Depends on evaluation, model, zoo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from explore import evaluation, zoo
from explore.experiments.model import MAX_COUNT, data_option, model_option, seed_option
from explore.experiments.request import Load, Request
from explore.images import png
from explore.progress import Watch, quiet
from explore.results import table
from explore.values import whole


@dataclass(frozen=True)
class Neighbors(Request):
    """Memorization check: the nearest training image of each of a model's samples, and how near held-out images come."""

    verb: ClassVar[str] = "neighbors"
    reading: ClassVar[str] = (
        "result.median, result.held_out_median, result.picture  # distances, and samples above their neighbors"
    )
    written: ClassVar[tuple[str, ...]] = ("neighbors.png", "neighbors.json")
    stores: ClassVar[bool] = True

    model: str = model_option()
    data: str = data_option()
    count: int = whole(1, MAX_COUNT, "Images, 1 to 10,000.", 64)
    seed: int = seed_option()

    def run(self, watch: Watch = quiet, load: Load = zoo.load) -> evaluation.NeighborsResult:
        """As :func:`explore.evaluation.neighbors` returns it."""
        return evaluation.neighbors(load(self.model, "float32"), self.data, self.count, self.seed)

    def files(self, result: evaluation.NeighborsResult) -> dict[str, Any]:
        """The picture and the record."""
        assert result.picture is not None  # only a stored result has none
        return {"neighbors.png": png(result.picture), "neighbors.json": self.record(result)}

    def summary(self, result: evaluation.NeighborsResult) -> str:
        """The distances as a table."""
        return table([{name: value for name, value in result.to_json().items() if name not in ("data", "seed")}])
