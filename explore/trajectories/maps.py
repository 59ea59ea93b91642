"""One map of both members' paths, as a projection has drawn it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Map:
    """One projection of both members' paths, fitted on the union of their points.

    Attributes:
        space: ``xt``, ``x0_hat`` or a hook point.
        projection: Key of ``PROJECTIONS``.
        seed: Of the projection.
        coordinates: float32 (2, N, F, dimensions).
        trustworthiness: 0 to 1, scikit-learn's: how far the neighbours on the map are neighbours in the space.
        neighbours: How many were asked for.
        about: What the projection says of itself, such as the ``variance`` on each axis of PCA.
    """

    space: str
    projection: str
    seed: int
    coordinates: Tensor
    trustworthiness: float
    neighbours: int
    about: dict[str, Any]

    def axes(self) -> list[str]:
        """Titles of the axes: of PCA with the share of the variance that each holds."""
        shares = self.about.get("variance", [None] * self.coordinates.shape[-1])
        name = {"pca": "PC"}.get(self.projection, self.projection.upper())
        return [f"{name} {k}" + (f" ({share:.1%})" if share is not None else "") for k, share in enumerate(shares, start=1)]

    def to_json(self) -> dict[str, Any]:
        """All but the coordinates."""
        return {
            "space": self.space, "projection": self.projection, "dimensions": self.coordinates.shape[-1], "seed": self.seed,
            "points": self.coordinates[..., 0].numel(), "fitted_on": "the union of both members' points",
            "trustworthiness": self.trustworthiness, "neighbours": self.neighbours, **self.about,
        }  # fmt: skip
