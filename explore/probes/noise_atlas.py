"""The atlas: every layer at every noise level, with its controls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from explore import bayes
from explore.activations import LOGSNR_LEVELS, SUMMED, HookPoint, hook_points, independent_clock, level_times, statistics
from explore.data import to_float
from explore.denoiser import Denoiser
from explore.probes.baselines import BASELINES, gaussian_features
from explore.probes.bootstrap import interval, note_few_images
from explore.probes.controls import hears, redrawn
from explore.probes.linear import RidgeProbe
from explore.probes.measurement import Measured, Reduce, measure
from explore.probes.probe_set import Clock
from explore.probes.targets import TARGETS, target_values
from explore.schedules import Schedule
from explore.seeds import check_seeds
from explore.values import real_numbers

READER_SPACING = 0.025  # of log SNR, half the narrowest posterior of 3072 values

# Where on the path: the headline is the error near the data, as pooled statistics make R^2 near 1 cheap.
REGIONS: dict[str, tuple[float, float]] = {"near the data": (5, 8), "middle": (-1.5, 1.5), "near noise": (-8, -5)}
ATLAS_VIEWS = ("mean", "mean_std")


def yardsticks(
    target: str, schedule: Schedule, levels: Sequence[float], energy: float, dimension: int,
    gaussian: bayes.DiagonalGaussian | None = None,
) -> dict[str, list[float]]:  # fmt: skip
    """Cramer-Rao widths of the target at every level, in its own unit.

    ``known image`` is that of readers who know the clean picture (|x0|^2 being ``energy``): whoever does not can only do
    worse, on any pictures, unless biased. ``gaussian`` is that of pictures drawn from the fitted Gaussian, and no bound for
    photographs.
    """
    found: dict[str, list[float]] = {"known image": []}
    if gaussian is not None:
        found["gaussian"] = []
    times = level_times(schedule, levels)
    for t, slope in zip(times.tolist(), TARGETS[target].slope(schedule, times).abs().tolist()):
        found["known image"].append(slope * bayes.known_image_information(schedule, t, dimension, energy) ** -0.5)
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
) -> tuple[dict[str, Any], Clock]:
    """Where a network knows the noise level, and how well, beside a network drawn anew and readers of the picture alone.

    A network that hears the time is told a t that says nothing of the true one, so that its layers can only know it from
    the picture; probes fitted while it is told the truth are kept beside those (see :class:`Clock`).

    Args:
        denoiser: The model.
        images: Held-out images, uint8 or float (N, C, H, W).
        layers: Names of hook points; by default all.
        views: Keys of ``VIEWS``.
        target: A key of ``TARGETS``.
        levels: Values of logsnr.
        gaussian: A fit whose exact posterior is one more baseline, and its Cramer-Rao width one more yardstick.
        reduce: Adds a tensor up over processes.
        progress: Show progress bars.
        settings: seed, batch and share of the sweep.

    Returns:
        What ``atlas.json`` holds but for the command, and the fitted probes.

    Raises:
        ValueError: As :func:`measure`.
    """
    schedule, levels = denoiser.schedule, real_numbers("each of levels", levels)
    points = hook_points(denoiser)
    layers = list(points) if layers is None else list(layers)
    if not layers:
        raise ValueError(f"{denoiser.name} has no hook points: no part of it with parameters gives images or tokens")
    [seed], heard = check_seeds([settings.get("seed", 0)]), hears(denoiser)
    note_few_images(len(images))
    given = independent_clock(schedule, levels) if heard else None
    readers = dict(BASELINES)
    if gaussian is not None:
        # Were the levels alone possible, they would be told apart without knowing any: between them it must be able to err.
        fine = torch.arange(min(levels), max(levels) + READER_SPACING / 2, READER_SPACING, dtype=torch.float64).tolist()
        readers["gaussian posterior"] = gaussian_features(gaussian, schedule, fine)
    shared: dict[str, Any] = {"target": target, "levels": levels, "given": given, "reduce": reduce, **settings}
    bar = "trained" if progress else ""
    trained = measure(denoiser, images, layers, views, baselines=readers, progress=bar, **shared)
    drawn = measure(redrawn(denoiser, seed), images, layers, views, progress="drawn anew" if progress else "", **shared)
    condition = "independent" if heard else "any"
    fitted = {("any" if key[0] == "input" else condition, *key): probe for key, probe in trained.probes.items()}
    if heard:
        told = {name: value for name, value in settings.items()} | {"levels": levels}
        for key, sums in statistics(
            denoiser, images, layers, views, progress="told the truth" if progress else "", **told
        ).items():
            for name in SUMMED:
                setattr(sums, name, reduce(getattr(sums, name)))
            fitted["true", *key] = RidgeProbe().fit(sums, target_values(target, schedule, levels))
    x0 = to_float(images) if images.dtype == torch.uint8 else images
    energy = x0.double().flatten(1).square().sum(1).mean().item()
    scale = yardsticks(target, schedule, levels, energy, x0[0].numel(), gaussian)
    rows = [_row(key, trained, drawn, scale["known image"], levels, points) for key in trained.results]
    # The part of the path nearest to the data that the levels reach decides; without any, the whole of them.
    best = min(
        (row for row in rows if row["name"] != "input"), key=lambda row: next(iter(row["error_by_region"].values()), -row["r2"])
    )
    record = {
        "target": target,
        "images": len(images),
        "seed": seed,
        "levels": list(levels),
        "t": level_times(schedule, levels).tolist(),
        "given": "independent of the true t" if heard else "not heard",
        "yardstick": "known image",
        "yardsticks": scale,
        "gaussian": gaussian.prior if gaussian is not None else None,
        "regions": {name: list(ends) for name, ends in REGIONS.items()},
        "best": {"name": best["name"], "view": best["view"]},
        "layers": rows,
    }
    clock = Clock(denoiser.name, target, schedule, levels, fitted, (best["name"], best["view"]), denoiser.sha256)
    return rounded(record), clock


def _row(
    key: tuple[str, str], trained: Measured, drawn: Measured, yardstick: Sequence[float], levels: Sequence[float],
    points: dict[str, HookPoint],
) -> dict[str, Any]:  # fmt: skip
    """One layer and view of the atlas; readers of the picture alone have no random network beside them."""
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
            row["error_over_yardstick_by_region"][name] = [(error[0] / unit).item(), *interval(error / unit)]
            if other:  # the draws of both weigh the same images alike
                gain = drawn.errors[key].rms(chosen) / error
                row["gain_by_region"][name] = [gain[0].item(), *interval(gain)]
    return row


def rounded(value: Any) -> Any:
    """``value`` with floats cut to 9 significant digits, in lists to 5: JSON that is read by people and kept in git."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [float(f"{part:.5g}") if isinstance(part, float) else rounded(part) for part in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value
