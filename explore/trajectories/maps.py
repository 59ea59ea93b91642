"""The result of a projection: one map of both members' paths."""

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
        seed: Seed of the projection.
        coordinates: float32 (2, N, F, dimensions).
        trustworthiness: 0 to 1, by scikit-learn: the extent to which neighbors on the map are neighbors in the space.
        neighbors: Number of neighbors for the trustworthiness.
        about: Results of the projection's own, such as the ``variance`` on each axis of PCA.
    """

    space: str
    projection: str
    seed: int
    coordinates: Tensor
    trustworthiness: float
    neighbors: int
    about: dict[str, Any]

    def axes(self) -> list[str]:
        """Returns the titles of the axes; for PCA with the share of the variance on each."""
        shares = self.about.get("variance", [None] * self.coordinates.shape[-1])
        name = {"pca": "PC"}.get(self.projection, self.projection.upper())
        return [f"{name} {k}" + (f" ({share:.1%})" if share is not None else "") for k, share in enumerate(shares, start=1)]

    def to_json(self) -> dict[str, Any]:
        """Returns everything except the coordinates."""
        return {
            "space": self.space, "projection": self.projection, "dimensions": self.coordinates.shape[-1], "seed": self.seed,
            "points": self.coordinates[..., 0].numel(), "fitted_on": "the union of both members' points",
            "trustworthiness": self.trustworthiness, "neighbors": self.neighbors, **self.about,
        }  # fmt: skip
