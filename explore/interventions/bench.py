"""A model with held-out images: what it computes at a noise level, with a layer edited, or with another t given.

Depends on activations, data, denoiser, probes, seeds, values and edits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from explore.activations import VIEWS, capture, hooks, inner, level_times
from explore.data import add_noise, to_float
from explore.denoiser import PREDICTIONS, Denoiser
from explore.interventions.edits import Edit, ablate, edited, patch, steer
from explore.probes import RidgeProbe
from explore.seeds import keyed_noise, seed_range

# (directions (K, C), n) -> the edit of a batch of K blocks, each of the first n images, one direction for each block.
Maker = Callable[[Tensor, int], Edit]
ROWS = 64  # in one pass, where several directions share it


class Bench:
    """A model, images and their noise.

    Args:
        denoiser: The model.
        images: Held-out images, uint8 or float (N, C, H, W).
        probes: Layer -> probe of it, in the view ``mean``.
        seed: Seed of the noise.
    """

    def __init__(self, denoiser: Denoiser, images: Tensor, probes: Mapping[str, RidgeProbe], seed: int) -> None:
        self.denoiser, self.probes = denoiser, probes
        self.x0 = to_float(images) if images.dtype == torch.uint8 else images.float()
        self.seeds = seed_range(seed, len(images))

    def noisy(self, t: float) -> tuple[Tensor, Tensor]:
        """Returns xt, and eps, which is the same at every level."""
        eps = keyed_noise(self.seeds, self.denoiser.shape)
        return add_noise(self.x0, eps, t, self.denoiser.schedule), eps

    def run(self, t: float, given: float | None = None) -> dict[str, Tensor]:
        """Probe predictions of the layers, log norm of the ``predicted_noise``, and squared error, the ``loss``: (N,) each.

        Args:
            t: The true t.
            given: The network's input t; by default the true one.
        """
        return self._measured(t, t if given is None else given, len(self.x0))

    def run_edited(self, t: float, layer: str, make: Maker, vectors: Tensor, count: int) -> dict[str, Tensor]:
        """As :meth:`run`, for the first ``count`` images with ``layer`` edited along each of ``vectors`` (K, C): (K, count)."""
        found = []
        for some in vectors.split(max(1, ROWS // count)):
            with edited(self.denoiser, layer, make(some, count)):
                found.append(self._measured(t, t, count, len(some)))
        return {name: torch.cat([part[name].reshape(-1, count) for part in found]) for name in found[0]}

    @torch.no_grad()
    def _measured(self, t: float, given: float, count: int, copies: int = 1) -> dict[str, Tensor]:
        denoiser = self.denoiser
        xt, eps = (part[:count] for part in self.noisy(t))
        found: dict[str, Tensor] = {}

        def read(name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
            found[name] = self.probes[name].predict(VIEWS["mean"](output).cpu())

        with hooks(inner(denoiser), {name: functools.partial(read, name) for name in self.probes}):
            output = denoiser.output(xt.repeat(copies, 1, 1, 1), given)
        estimate = denoiser.read(output, xt.repeat(copies, 1, 1, 1), t)  # eps_hat is computed with the true t
        found["predicted_noise"] = estimate.eps_hat.double().flatten(1).square().mean(1).sqrt().log()
        time = torch.tensor(t, dtype=torch.float64)
        alpha, sigma = denoiser.schedule.alpha(time).float(), denoiser.schedule.sigma(time).float()
        target = PREDICTIONS[denoiser.prediction].target(self.x0[:count], eps, alpha, sigma).repeat(copies, 1, 1, 1)
        found["loss"] = (estimate.output - target).double().flatten(1).square().mean(1)
        return found

    @torch.no_grad()
    def activation(self, layer: str, t: float) -> Tensor:
        """The activation of a layer, not edited."""
        with capture(self.denoiser, [layer]) as cache:
            self.denoiser.output(self.noisy(t)[0], t)
        return cache[layer]


STAGES = (4.0, 0.0, -4.0)  # log SNR near the data, in the middle and near the noise


def _steering(bench: Bench, layer: str, level: float, dose: float) -> Maker:
    return lambda vectors, count: steer(dose * vectors)


def _patching(bench: Bench, layer: str, level: float, dose: float) -> Maker:
    [source] = level_times(bench.denoiser.schedule, [level + dose]).tolist()
    other = bench.activation(layer, source)
    return lambda vectors, count: patch(vectors, other[:count].repeat(len(vectors), *[1] * (other.ndim - 1)))


def _ablating(bench: Bench, layer: str, level: float, dose: float) -> Maker:
    # The center is the layer's mean over images at all stages: what is ablated are differences between noise levels.
    times = level_times(bench.denoiser.schedule, STAGES).tolist()
    means = [VIEWS["mean"](bench.activation(layer, time)).double().mean(0) for time in times]
    center = torch.stack(means).mean(0).cpu()
    return lambda vectors, count: ablate(vectors, (vectors / vectors.norm(dim=1, keepdim=True)) @ center)


# kind -> function of (bench, layer, level, dose) that returns the Maker of its edits
INTERVENTIONS: dict[str, Callable[[Bench, str, float, float], Maker]] = {
    "steer": _steering,
    "patch": _patching,
    "ablate": _ablating,
}
RENAMED = {"swap": "patch", "erase": "ablate"}  # old name -> new name
