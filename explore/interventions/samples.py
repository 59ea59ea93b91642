"""Samples of a model with a layer steered at every step.

Depends on denoiser, probes, samplers, seeds, values, and edits and directions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from typing import Any

from torch import Tensor

from explore.denoiser import Denoiser
from explore.interventions.directions import DIRECTIONS, random_direction
from explore.interventions.edits import edited, steer
from explore.probes import ProbeSet
from explore.samplers import SAMPLERS, Step, check_options
from explore.seeds import check_seeds, keyed_noise
from explore.values import choose, real_number

STEERED_RUNS = ("plain", "steered", "control")


def steered_stream(
    denoiser: Denoiser,
    probe_set: ProbeSet,
    seeds: Sequence[int],
    layer: str,
    dose: float,
    *,
    direction: str = "pattern",
    during: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
    sampler: str = "heun",
    steps: int = 25,
    **options: Any,
) -> Generator[tuple[str, Step], None, None]:
    """Samples without a change, then with a layer steered, then steered along a random direction of the same length.

    The hooks stay on the network until the generator ends or is closed.

    Args:
        denoiser: The model.
        probe_set: Its probes.
        seeds: N seeds, one per image, sampled in one batch.
        layer: A hook point with a probe.
        dose: Change of the layer's own probe prediction, in the probe's unit.
        direction: A key of ``DIRECTIONS``.
        during: Range (low, high) of t in which the layer is steered.
        seed: Seed of the random direction.
        sampler: A key of ``SAMPLERS``; ``options`` are the sampler's.
        steps: 1 to 1000.

    Yields:
        Name of the run, of ``STEERED_RUNS`` in this order, and each of its Steps.

    Raises:
        ValueError: If the layer or direction is unknown, or a setting is out of range.
    """
    seeds, [seed] = check_seeds(seeds), check_seeds([seed])
    vector = real_number("dose", dose) * DIRECTIONS[choose("direction", direction, DIRECTIONS)](probe_set.probe(layer, "mean"))
    check_options(sampler, options)
    if not seeds:
        raise ValueError("seeds must hold at least one seed")
    start = keyed_noise(seeds, denoiser.shape).to(denoiser.device)
    for name, added in zip(STEERED_RUNS, (None, vector, random_direction(vector, seed))):
        with contextlib.nullcontext() if added is None else edited(denoiser, layer, steer(added), during):
            for step in SAMPLERS[sampler](denoiser, start, steps, seeds=seeds, **options):
                yield name, step


def steered_figures(images: dict[str, Tensor]) -> dict[str, Any]:
    """Differences between steered samples and plain ones.

    Args:
        images: Name of the run, of ``STEERED_RUNS`` -> its samples (N, C, H, W).

    Returns:
        ``difference``: mean absolute difference of ``steered`` and ``control`` from ``plain``; ``std``: standard deviation of
        each run.
    """
    return {
        "difference": {name: (images[name] - images["plain"]).abs().mean().item() for name in ("steered", "control")},
        "std": {name: picture.std().item() for name, picture in images.items()},
    }
