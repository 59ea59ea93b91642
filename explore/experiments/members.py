"""What experiments share that measure both members of a pair on the same images. Depends on cards, model, request, zoo."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from explore import cards, zoo
from explore.denoiser import Denoiser
from explore.evaluation import MembersResult
from explore.experiments.model import data_option, images_option, pair_option, seed_option, table
from explore.experiments.request import Load, Request
from explore.progress import Watch, quiet
from explore.statistics import Interval


@dataclass(frozen=True)
class OfMembers(Request):
    """An experiment with both members of a pair on held-out images, in float32.

    Attributes:
        pair: A pair of the checkpoint index.
        data: Source of images.
        images: Images of a split, at most.
        seed: First seed of the noise.
    """

    stores: ClassVar[bool] = True

    pair: str = pair_option()
    data: str = data_option()
    images: int = images_option(500)
    seed: int = seed_option()

    @abstractmethod
    def measure(self, denoisers: list[Denoiser], watch: Watch) -> MembersResult[Any]:
        """The comparison of the two models."""

    @property
    def members(self) -> list[str]:
        """Names of the two models."""
        return zoo.members_of(self.pair)

    def run(self, watch: Watch = quiet, load: Load = zoo.load) -> MembersResult[Any]:
        """As :meth:`measure` returns it."""
        return self.measure([load(name, "float32") for name in self.members], watch)

    def record(self, result: MembersResult[Any]) -> dict[str, Any]:
        """The rows, with how they were made."""
        return {"command": self.command, "request": self.to_json(), "members": self.members, **result.to_json()}

    def store(self, result: MembersResult[Any]) -> None:
        """Keeps the record in the metrics.json of both members."""
        for name in self.members:
            cards.store(name, self.verb, self.kept(result))

    def summary(self, result: MembersResult[Any]) -> str:
        """The rows as a table."""
        return table(_columns(row.to_json()) for row in result.rows)


def _columns(row: dict[str, Any]) -> dict[str, Any]:
    """A stored row without nested parts, with intervals as text."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        nested = isinstance(value, dict)
        found |= {f"{name} {part}": one for part, one in value.items()} if nested else {name: value}
    return {name: f"{Interval.from_json(value):.3g}" if isinstance(value, list) else value for name, value in found.items()}
