"""The atlas of a network: probe errors for every layer at every noise level, with controls and baselines.

Each layer is compared with a reinitialized network, with baselines that see only the noisy image, and with the Cramer-Rao bound
given x0. Depends on activations, bayes, data, denoiser, schedules, seeds, values, and all modules of this package except
noise_ruler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from explore import bayes
from explore.activations import LOGSNR_LEVELS, SUMMED, HookPoint, hook_points, independent_times, level_times, statistics
from explore.data import to_float
from explore.denoiser import Denoiser
from explore.probes.baselines import BASELINES, gaussian_features
from explore.probes.controls import NO_T_INPUT, is_conditioned, reinitialized
from explore.probes.linear import RidgeProbe
from explore.probes.measurement import Measured, Reduce, measure
from explore.probes.probe_set import ProbeSet
from explore.probes.targets import TARGETS, target_values
from explore.results import rounded
from explore.schedules import Schedule
from explore.seeds import check_seeds
from explore.statistics import note_few_images, of_draws
from explore.values import real_numbers

READER_SPACING = 0.025  # in log SNR: half the width of the narrowest posterior for images of 3072 values

# Ranges of log SNR. The headline is the error near the data: an R^2 near 1 over all levels is easy to reach.
REGIONS: dict[str, tuple[float, float]] = {"near_the_data": (5, 8), "middle": (-1.5, 1.5), "near_noise": (-8, -5)}
ATLAS_VIEWS = ("mean", "mean_std")


def yardsticks(
    target: str, schedule: Schedule, levels: Sequence[float], energy: float, dimension: int,
    gaussian: bayes.DiagonalGaussian | None = None,
) -> dict[str, list[float]]:  # fmt: skip
    """Cramer-Rao bounds on the standard deviation of an estimate of the target, at every level, in units of the target.

    Args:
        target: A key of ``TARGETS``.
        schedule: The noise schedule.
        levels: The L noise levels, as log SNR.
        energy: Mean squared norm |x0|^2 of the clean images.
        dimension: Number of values in an image.
        gaussian: A Gaussian fit to the images.

    Returns:
        ``given_x0``: the Cramer-Rao bound given x0, L numbers. An unbiased estimator that does not know x0 cannot beat it,
        whatever the images are. ``gaussian``, if a fit is given: the bound for images drawn from it, L numbers. It is not a
        bound for photographs.
    """
    found: dict[str, list[float]] = {"given_x0": []}
    if gaussian is not None:
        found["gaussian"] = []
    times = level_times(schedule, levels)
    for t, slope in zip(times.tolist(), TARGETS[target].slope(schedule, times).abs().tolist()):
        found["given_x0"].append(slope * bayes.information_given_x0(schedule, t, dimension, energy) ** -0.5)
        if gaussian is not None:
            found["gaussian"].append(slope * gaussian.information(schedule, t) ** -0.5)
    return found


def atlas(
    denoiser: Denoiser,
    images: Tensor,
    *,
    layers: Sequence[str] | None = None,
    views: Sequence[str] = ATLAS_VIEWS,
    target: str = "logsnr",
    levels: Sequence[float] = LOGSNR_LEVELS,
    gaussian: bayes.DiagonalGaussian | None = None,
    reduce: Reduce = lambda sums: sums,
    progress: bool = False,
    **settings: Any,
) -> tuple[dict[str, Any], ProbeSet]:
    """Probe errors for every layer of a network, compared with a reinitialized network and with baselines.

    A time-conditioned network gets an input t that is independent of the true t, so that its layers can infer the noise level
    only from the image. A second set of probes is fitted with the true t as input (see :class:`explore.probes.ProbeSet`).

    Args:
        denoiser: The model.
        images: Held-out images, uint8 or float (N, C, H, W).
        layers: Names of hook points; by default all.
        views: Keys of ``VIEWS``.
        target: A key of ``TARGETS``.
        levels: The L noise levels, as log SNR.
        gaussian: A Gaussian fit to the images. Its exact posterior is one more baseline, its Cramer-Rao bound one more
            yardstick.
        reduce: Sums a tensor over processes, each of which holds its ``share`` of the images.
        progress: Show progress bars.
        settings: ``seed``, ``batch`` and ``share`` of :func:`explore.activations.sweep`.

    Returns:
        The contents of ``atlas.json`` without the command, and the fitted probes.

    Raises:
        ValueError: As :func:`explore.probes.measure`, or if the model has no hook points.
    """
    schedule, levels = denoiser.schedule, real_numbers("each of levels", levels)
    points = hook_points(denoiser)
    layers = list(points) if layers is None else list(layers)
    if not layers:
        raise ValueError(f"{denoiser.name} has no hook points: no part of it with parameters gives images or tokens")
    [seed], conditioned = check_seeds([settings.get("seed", 0)]), is_conditioned(denoiser)
    note_few_images(len(images))
    given = independent_times(schedule, levels) if conditioned else None
    readers = dict(BASELINES)
    if gaussian is not None:
        # A prior on the probed levels alone would make the posterior too exact. A fine grid lets it err between levels.
        fine = torch.arange(min(levels), max(levels) + READER_SPACING / 2, READER_SPACING, dtype=torch.float64).tolist()
        readers["gaussian posterior"] = gaussian_features(gaussian, schedule, fine)
    shared: dict[str, Any] = {"target": target, "levels": levels, "given": given, "reduce": reduce, **settings}
    bar = "trained" if progress else ""
    trained = measure(denoiser, images, layers, views, baselines=readers, progress=bar, **shared)
    drawn = measure(
        reinitialized(denoiser, seed), images, layers, views, progress="reinitialized" if progress else "", **shared
    )
    condition = "independent" if conditioned else "any"
    fitted = {("any" if key[0] == "input" else condition, *key): probe for key, probe in trained.probes.items()}
    if conditioned:
        own = settings | {"levels": levels}
        for key, sums in statistics(denoiser, images, layers, views, progress="true t" if progress else "", **own).items():
            for name in SUMMED:
                setattr(sums, name, reduce(getattr(sums, name)))
            fitted["true", *key] = RidgeProbe().fit(sums, target_values(target, schedule, levels))
    x0 = to_float(images) if images.dtype == torch.uint8 else images
    energy = x0.double().flatten(1).square().sum(1).mean().item()
    scale = yardsticks(target, schedule, levels, energy, x0[0].numel(), gaussian)
    rows = [_row(key, trained, drawn, scale["given_x0"], levels, points) for key in trained.results]
    # Best: smallest error in the region nearest to the data that holds levels; without such a region, largest R^2.
    best = min(
        (row for row in rows if row["name"] != "input"), key=lambda row: next(iter(row["error_by_region"].values()), -row["r2"])
    )
    record = {
        "target": target,
        "images": len(images),
        "seed": seed,
        "levels": list(levels),
        "t": level_times(schedule, levels).tolist(),
        "given": "independent of the true t" if conditioned else NO_T_INPUT,
        "yardstick": "given_x0",
        "yardsticks": scale,
        "gaussian": gaussian.prior if gaussian is not None else None,
        "regions": {name: list(ends) for name, ends in REGIONS.items()},
        "best": {"name": best["name"], "view": best["view"]},
        "layers": rows,
    }
    clock = ProbeSet(denoiser.name, target, schedule, levels, fitted, (best["name"], best["view"]), denoiser.sha256)
    return rounded(record), clock


def _row(
    key: tuple[str, str], trained: Measured, drawn: Measured, yardstick: Sequence[float], levels: Sequence[float],
    points: dict[str, HookPoint],
) -> dict[str, Any]:  # fmt: skip
    """One layer and view of the atlas. Baselines have no entries for the reinitialized network."""
    result, other = trained.results[key], drawn.results.get(key)
    width, place = torch.tensor(yardstick, dtype=torch.float64), torch.tensor(levels)
    row: dict[str, Any] = {"name": key[0], "view": key[1]}
    if key[0] in points:
        row |= {"kind": points[key[0]].kind, "shape": list(points[key[0]].shape)}
    row |= {name: result[name] for name in ("r2", "r2_interval")}
    row["r2_random_network"] = other["r2"] if other else None
    row |= {
        name: result[name] for name in ("selectivity", "r2_control", "r2_shuffled", "accuracy", "accuracy_interval", "penalty")
    }
    row |= {name: result[name] for name in ("bias", "bias_interval", "std", "std_interval", "error", "error_interval")}
    row["error_over_yardstick"] = (torch.tensor(result["error"], dtype=torch.float64) / width).tolist()
    row["error_random_network"] = other["error"] if other else None
    row["error_by_region"], row["error_over_yardstick_by_region"], row["gain_by_region"] = {}, {}, {}
    for name, (low, high) in REGIONS.items():
        chosen = (place >= low) & (place <= high)
        if chosen.any():
            error = trained.errors[key].rms(chosen)
            row["error_by_region"][name] = error[0].item()
            unit = width[chosen].square().mean().sqrt()
            row["error_over_yardstick_by_region"][name] = of_draws(error / unit).to_json()
            if other:  # both use the same bootstrap weights, so the replicates are paired
                gain = drawn.errors[key].rms(chosen) / error
                row["gain_by_region"][name] = of_draws(gain).to_json()
    return row
