"""Errors of held-out predictions by noise level, with intervals from a bootstrap over images. Depends on statistics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from explore.statistics import DRAWS, of_draws, poisson_weights


class Errors:
    """Accumulates errors of held-out predictions by level, with a bootstrap over images, in memory independent of the rows.

    Args:
        values: The target at every level, (L,).
        draws: Number of bootstrap replicates.

    Attributes:
        values: The target at every level, float64 (L,).
        sums: Weighted sums of ``NAMES`` by half of the images, float64 (2, L, 1 + draws, 4). Entry 0 of axis 2 is the estimate
            on all images. Images 0, 1, 4, 5, ... are the first half: each half has images of every fold.
    """

    NAMES = ("rows", "error", "square", "hit")

    def __init__(self, values: Tensor, draws: int = DRAWS) -> None:
        self.values = values.double()
        self.sums = torch.zeros(2, len(values), draws + 1, len(self.NAMES), dtype=torch.float64)

    def add(self, image: Tensor, level: int, predicted: Tensor, hit: Tensor) -> None:
        """Adds the predictions of one batch at one level.

        Args:
            image: Indices of the images, (B,).
            level: Index of the level.
            predicted: Predictions in units of the target, (B,) or (B P,) for P positions of each image.
            hit: Whether the classifier chose the right bin, of the shape of ``predicted``.
        """
        error = (predicted - self.values[level]).unflatten(0, (len(image), -1))  # (B, P)
        hits = hit.double().unflatten(0, (len(image), -1))
        rows = torch.stack([torch.ones_like(error), error, error.square(), hits], 2).sum(1)  # (B, 4)
        weights = poisson_weights(tuple(image.tolist()), self.sums.shape[2] - 1)  # (B, draws + 1)
        for half, sums in enumerate(self.sums):
            own = image // 2 % 2 == half
            sums[level] += weights[own].T @ rows[own]

    def rms(self, chosen: Tensor, half: int | None = None) -> Tensor:
        """Root mean square error over the levels where ``chosen`` (L,) is true, (1 + draws,): the estimate, then replicates.

        Args:
            chosen: Which levels count, (L,).
            half: Only images of this half, 0 or 1; by default all.
        """
        sums = (self.sums.sum(0) if half is None else self.sums[half])[chosen].sum(0)  # (1 + draws, 4)
        return (sums[:, 2] / sums[:, 0]).sqrt()

    def result(self) -> dict[str, Any]:
        """R^2, accuracy and, by level, bias, std and error, each with a 95 % bootstrap interval.

        The squared error of a level is ``bias ** 2 + std ** 2``: of the mean prediction at that level, and the spread of the
        predictions over images and noise around it. The bootstrap resamples images. It does not refit the probes.

        Returns:
            ``r2`` and ``accuracy``, each a number; ``bias``, ``std`` and ``error`` (root mean square), each a list of L numbers
            in units of the target. ``NAME_interval`` holds the ends of the interval of each.
        """
        rows, error, square, hit = self.sums.sum(0).unbind(2)  # (L, draws + 1)
        bias = error / rows
        spread = (square / rows - bias.square()).clamp_min(0).sqrt()
        center = self.values @ rows / rows.sum(0)
        r2 = 1 - square.sum(0) / (rows * (self.values[:, None] - center).square()).sum(0)
        found: dict[str, Any] = {"r2": r2[0].item(), "r2_interval": of_draws(r2).ends}
        accuracy = of_draws(hit.sum(0) / rows.sum(0))
        found |= {"accuracy": accuracy.value, "accuracy_interval": accuracy.ends}
        for name, values in (("bias", bias), ("std", spread), ("error", (square / rows).sqrt())):
            found[name] = values[:, 0].tolist()
            found[f"{name}_interval"] = [of_draws(row).ends for row in values]
        return found
