"""Errors by noise level, with a bootstrap over images."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explore.values import Note

DRAWS = 200  # of the bootstrap
INTERVAL_IMAGES = 10  # of fewer, one of 200 draws is likely to hold none, and the rest says little


class Errors:
    """Errors of held-out predictions by level, with a bootstrap over images, as sums that rows do not add memory to."""

    NAMES = ("rows", "error", "square", "hit")

    def __init__(self, values: Tensor, draws: int = DRAWS) -> None:
        """Takes the target's ``values`` (L,) and the number of bootstrap draws."""
        self.values = values.double()
        self.sums = torch.zeros(len(values), draws + 1, len(self.NAMES), dtype=torch.float64)

    def add(self, image: Tensor, level: int, predicted: Tensor, hit: Tensor) -> None:
        """Takes predictions and whether the bin was found, (B,) or (B P,), of ``image`` (B,) at one level."""
        error = (predicted - self.values[level]).unflatten(0, (len(image), -1))  # (B, P)
        hits = hit.double().unflatten(0, (len(image), -1))
        rows = torch.stack([torch.ones_like(error), error, error.square(), hits], 2).sum(1)  # (B, 4)
        weights = poisson_weights(tuple(image.tolist()), self.sums.shape[1] - 1)  # (B, draws + 1)
        self.sums[level] += weights.T @ rows

    def rms(self, chosen: Tensor) -> Tensor:
        """Root mean square error over the levels where ``chosen`` (L,) is true, of the estimate and each draw (1 + draws,)."""
        return (self.sums[chosen, :, 2].sum(0) / self.sums[chosen, :, 0].sum(0)).sqrt()

    def result(self) -> dict[str, Any]:
        """R^2, accuracy and, by level, bias, std and error, each with the interval that holds 95 % of the draws.

        The draws resample images, with the probes as they are.
        """
        rows, error, square, hit = self.sums.unbind(2)  # (L, draws + 1)
        bias = error / rows
        spread = (square / rows - bias.square()).clamp_min(0).sqrt()
        centre = self.values @ rows / rows.sum(0)
        r2 = 1 - square.sum(0) / (rows * (self.values[:, None] - centre).square()).sum(0)
        found: dict[str, Any] = {"r2": r2[0].item(), "r2_interval": interval(r2)}
        found |= {"accuracy": (hit.sum(0) / rows.sum(0))[0].item(), "accuracy_interval": interval(hit.sum(0) / rows.sum(0))}
        for name, values in (("bias", bias), ("std", spread), ("error", (square / rows).sqrt())):
            found[name] = values[:, 0].tolist()
            found[f"{name}_interval"] = [interval(row) for row in values]
        return found


@functools.lru_cache(maxsize=4)  # every layer and level of a batch asks for the same ones
def poisson_weights(images: tuple[int, ...], draws: int) -> Tensor:
    """(B, 1 + draws): of each image 1 for the estimate, then Poisson(1) for each draw, the same in every run and process."""
    generators = (np.random.Generator(np.random.Philox(np.random.SeedSequence([2, image]))) for image in images)
    return torch.from_numpy(np.stack([np.concatenate([[1.0], generator.poisson(1.0, draws)]) for generator in generators]))


def note_few_images(count: int) -> None:
    """Says that intervals over so few images mean little; a draw of the bootstrap may hold none of them."""
    if count < INTERVAL_IMAGES:
        warnings.warn(
            f"intervals over images need at least {INTERVAL_IMAGES} images, here are {count}: those that cannot be computed "
            "are empty (null in JSON), and the others are too narrow",
            Note,
            stacklevel=3,
        )


def interval(draws: Tensor) -> list[float]:
    """Of the estimate and its draws (1 + draws,)."""
    return torch.quantile(draws[1:], torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
