"""The atlas of a network: probe errors for every layer at every noise level, with controls and baselines.

Each layer is compared with a reinitialized network, with baselines that see only the noisy image, and with the Cramer-Rao bound
given x0. A conditioned network is probed in one or more regimes of the t that it is told. Depends on activations, bayes, data,
denoiser, schedules, seeds, values, and all modules of this package except noise_ruler.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from explore import bayes
from explore.activations import LOGSNR_LEVELS, SUMMED, HookPoint, Statistics, hook_points, level_times, statistics, sweep
from explore.data import to_float
from explore.denoiser import Denoiser
from explore.probes.baselines import BASELINES, gaussian_features
from explore.probes.controls import NO_T_INPUT, is_conditioned, reinitialized
from explore.probes.linear import RidgeProbe
from explore.probes.measurement import Measured, Reduce, measure
from explore.probes.probe_set import ProbeSet
from explore.probes.selection import BLOCKS, BestBlock, choose_and_score, refitted_rms
from explore.probes.targets import TARGETS, target_values
from explore.probes.told import ANY, check_regime, given_times, in_words
from explore.results import Rounded, Stored
from explore.schedules import Schedule
from explore.seeds import check_seeds
from explore.statistics import Interval, note_few_images, of_draws, of_refits
from explore.values import real_numbers, whole_number

READER_SPACING = 0.025  # in log SNR: half the width of the narrowest posterior for images of 3072 values

# Ranges of log SNR. The headline is the error near the data: an R^2 near 1 over all levels is easy to reach.
REGIONS: dict[str, tuple[float, float]] = {"near_the_data": (5, 8), "middle": (-1.5, 1.5), "near_noise": (-8, -5)}
ATLAS_VIEWS = ("mean", "mean_std", "log_std")
NETWORKS = 5  # reinitialized networks


@dataclass(frozen=True)
class AtlasRow(Stored):
    """Held-out results of one layer in one view, or of a baseline (``name`` is ``input``, ``view`` which one).

    Attributes:
        kind, shape: Of the activation.
        r2, accuracy: Over all levels, each with the ends of its interval.
        r2_random_network, error_random_network: Of the same block of the first reinitialized network; None for baselines.
        selectivity, r2_control, r2_shuffled: Control tasks; ``penalty``: of the ridge probe.
        bias, std, error: By level, each with the ends of its interval: ``error ** 2 = bias ** 2 + std ** 2``, of the mean
            prediction and of the spread over images and noise; ``error_over_yardstick``: over the Cramer-Rao bound.
        error_by_region, error_over_yardstick_by_region: By key of ``REGIONS``.
        gain_by_region: Error of the same block of the first reinitialized network over the own one.
    """

    name: str
    view: str
    r2: float
    r2_interval: list[float | None]
    r2_random_network: float | None
    selectivity: float
    r2_control: float
    r2_shuffled: float
    accuracy: float
    accuracy_interval: list[float | None]
    penalty: float
    bias: list[float]
    bias_interval: list[list[float | None]]
    std: list[float]
    std_interval: list[list[float | None]]
    error: list[float]
    error_interval: list[list[float | None]]
    error_over_yardstick: list[float]
    error_random_network: list[float] | None
    error_by_region: dict[str, float]
    error_over_yardstick_by_region: dict[str, Interval]
    gain_by_region: dict[str, Interval]
    kind: str | None = None
    shape: list[int] | None = None


@dataclass(frozen=True)
class Regime(Stored):
    """What an atlas holds of one more regime of the t that the network was told; the attributes are those of :class:`Atlas`."""

    told: str
    given: str
    best: dict[str, str]
    layers: tuple[AtlasRow, ...]
    best_block: BestBlock


@dataclass(frozen=True)
class Atlas(Rounded):
    """Where a network encodes the noise level: what ``atlas.json`` holds without the command.

    Attributes:
        model, sha256: The model and its weights.
        target, images, seed, levels, t: What was predicted, from how many images, first seed of the noise, and the levels.
        given: Which t the network was given, in words, or ``NO_T_INPUT``.
        yardstick, yardsticks: The key of the bound that errors are divided by, and all bounds, see :func:`yardsticks`.
        gaussian: Prior of the fitted Gaussian, in words.
        regions: Ends of each region in log SNR.
        best: ``name`` and ``view`` of the layer with the smallest error near the data.
        layers: One row per layer and view, then the baselines.
        data, dtype, hardware, torch: The images in words, and what it was computed with.
        told: The regime of ``given``, ``best``, ``layers`` and ``best_block``, see :mod:`explore.probes.told`. None if the
            network has no t input, and in atlases stored before there were regimes: they are of ``random``; see
            :func:`regimes`.
        best_block: The best block without selection bias, beside reinitialized networks.
        others: The other regimes.
    """

    model: str
    target: str
    images: int
    seed: int
    levels: list[float]
    t: list[float]
    given: str
    yardstick: str
    yardsticks: dict[str, list[float]]
    gaussian: str | None
    regions: dict[str, list[float]]
    best: dict[str, str]
    layers: tuple[AtlasRow, ...]
    sha256: str | None = None
    data: str | None = None
    dtype: str | None = None
    hardware: str | None = None
    torch: str | None = None
    told: str | None = None
    best_block: BestBlock | None = None
    others: tuple[Regime, ...] | None = None


def regimes(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Regime -> the atlas in that regime, from the contents of ``atlas.json``; ``any`` for a network without a t input."""
    first = record.get("told") or (ANY if record.get("given") == NO_T_INPUT else "random")
    return {first: record} | {part["told"]: record | part for part in record.get("others", [])}


def bias_share(row: Mapping[str, Any], levels: Sequence[float], region: str) -> float:
    """The part of a row's mean squared error in a region that is squared bias; the rest is spread over images and noise."""
    low, high = REGIONS[region]
    inside = [k for k, level in enumerate(levels) if low <= level <= high]
    return float(sum(row["bias"][k] ** 2 for k in inside) / sum(row["error"][k] ** 2 for k in inside))


def posterior_wins(record: Mapping[str, Any], region: str = "middle") -> tuple[float, float] | None:
    """Errors of the exact Gaussian posterior and of the best block in a region, if the posterior's is smaller; else None.

    Args:
        record: The contents of ``atlas.json`` or of one regime of it.
        region: A key of ``REGIONS``.
    """
    errors = {(row["name"], row["view"]): row["error_by_region"].get(region) for row in record["layers"]}
    posterior = errors.get(("input", "gaussian posterior"))
    blocks = [error for (name, _), error in errors.items() if name != "input" and error is not None]
    return (posterior, min(blocks)) if posterior is not None and blocks and posterior < min(blocks) else None


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
    told: Sequence[str] = ("random",),
    controls: int = NETWORKS,
    reduce: Reduce = lambda sums: sums,
    progress: bool = False,
    **settings: Any,
) -> tuple[Atlas, ProbeSet]:
    """Probe errors for every layer of a network, compared with reinitialized networks and with baselines.

    A time-conditioned network is told a t that is independent of the true t (``random``, ``fixed``) or nearly right
    (``nearest-wrong``), so that its layers can infer the noise level only from the image, or better from it. One more set of
    probes is fitted with the true t as input (see :class:`explore.probes.ProbeSet`).

    Args:
        denoiser: The model.
        images: Held-out images, uint8 or float (N, C, H, W).
        layers: Names of hook points; by default all.
        views: Keys of ``VIEWS``.
        target: A key of ``TARGETS``.
        levels: The L noise levels, as log SNR.
        gaussian: A Gaussian fit to the images. Its exact posterior is one more baseline, its Cramer-Rao bound one more
            yardstick.
        told: Regimes of the t that a conditioned network is told, see :mod:`explore.probes.told`; without effect for another.
        controls: Reinitialized networks, each probed in the same way as the trained one.
        reduce: Sums a tensor over processes, each of which holds its ``share`` of the images.
        progress: Show progress bars.
        settings: ``seed``, ``batch`` and ``share`` of :func:`explore.activations.sweep`.

    Returns:
        The atlas and the fitted probes.

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
    controls = whole_number("controls", controls, 1)
    names = list(dict.fromkeys(check_regime("told", one) for one in told)) if conditioned else [ANY]
    if not names:
        raise ValueError("told needs at least one regime")
    readers = dict(BASELINES)
    if gaussian is not None:
        # A prior on the probed levels alone would make the posterior too exact. A fine grid lets it err between levels.
        fine = torch.arange(min(levels), max(levels) + READER_SPACING / 2, READER_SPACING, dtype=torch.float64).tolist()
        readers["gaussian posterior"] = gaussian_features(gaussian, schedule, fine)
    x0 = to_float(images) if images.dtype == torch.uint8 else images
    energy = x0.double().flatten(1).square().sum(1).mean().item()
    scale = yardsticks(target, schedule, levels, energy, x0[0].numel(), gaussian)
    found = [
        _in_regime(
            one, denoiser, images, layers, views, target=target, levels=levels, readers=readers, controls=controls, seed=seed,
            yardstick=scale["given_x0"], points=points, reduce=reduce, progress=progress, settings=settings,
        )
        for one in names
    ]  # fmt: skip
    fitted: dict[tuple[str, str, str], RidgeProbe] = {}
    for _, own in found:
        fitted |= own
    if conditioned and "true" not in names:
        passes = settings | {"levels": levels, "progress": "true t" if progress else ""}
        for key, sums in _summed(statistics(denoiser, images, layers, views, **passes), reduce).items():
            fitted["true", *key] = RidgeProbe().fit(sums, target_values(target, schedule, levels))
    first, *others = (part for part, _ in found)
    record = Atlas(
        denoiser.name, target, len(images), seed, list(levels), level_times(schedule, levels).tolist(), given=first.given,
        yardstick="given_x0", yardsticks=scale, gaussian=gaussian.prior if gaussian is not None else None,
        regions={name: list(ends) for name, ends in REGIONS.items()}, best=first.best, layers=first.layers,
        sha256=denoiser.sha256 or None, told=first.told if conditioned else None, best_block=first.best_block,
        others=tuple(others) or None,
    )  # fmt: skip
    best = (first.best["name"], first.best["view"])
    return record, ProbeSet(denoiser.name, target, schedule, levels, fitted, best, denoiser.sha256)


def _summed(statistics: dict[tuple[str, str], Statistics], reduce: Reduce) -> dict[tuple[str, str], Statistics]:
    """The sums of all processes, in the place of those of one."""
    for sums in statistics.values():
        for name in SUMMED:
            setattr(sums, name, reduce(getattr(sums, name)))
    return statistics


def _in_regime(
    told: str, denoiser: Denoiser, images: Tensor, layers: Sequence[str], views: Sequence[str], *, target: str,
    levels: Sequence[float], readers: dict[str, Any], controls: int, seed: int, yardstick: Sequence[float],
    points: dict[str, HookPoint], reduce: Reduce, progress: bool, settings: dict[str, Any],
) -> tuple[Regime, dict[tuple[str, str, str], RidgeProbe]]:  # fmt: skip
    """The rows, the best block and the probes of one regime."""

    def bar(words: str) -> str:
        return f"{words}{'' if told == ANY else f', told {told}'}" if progress else ""

    shared: dict[str, Any] = {"levels": levels, "given": given_times(told, denoiser.schedule, levels), **settings}
    both = {"target": target, "reduce": reduce, **shared}
    trained = measure(denoiser, images, layers, views, baselines=readers, progress=bar("trained"), **both)
    place, width = torch.tensor(levels), torch.tensor(yardstick, dtype=torch.float64)
    inside = {name: (place >= low) & (place <= high) for name, (low, high) in REGIONS.items()}
    region = next((name for name, chosen in inside.items() if chosen.any()), "all")
    chosen = inside.get(region, torch.ones(len(levels), dtype=torch.bool))
    scale = width[chosen].square().mean().sqrt().item()
    drawn: Measured | None = None
    scores = []
    for k in range(controls):
        words = bar(f"reinitialized {k + 1} of {controls}")
        other = measure(reinitialized(denoiser, seed + k), images, layers, views, progress=words, control_tasks=False, **both)
        drawn = drawn or other
        scores.append(choose_and_score(other.errors, chosen, scale)[1].value)
    assert drawn is not None
    rows = [_row(key, trained, drawn, yardstick, levels, points) for key in trained.results]
    # Best: smallest error in the region nearest to the data that holds levels; without such a region, largest R^2.
    best = min((row for row in rows if row.name != "input"), key=lambda row: next(iter(row.error_by_region.values()), -row.r2))
    key = (best.name, best.view)
    halves, score = choose_and_score(trained.errors, chosen, scale)
    every, near = (Statistics(len(trained.probes[key].coef_), len(levels), BLOCKS) for _ in range(2))
    for batch in sweep(denoiser, images, key[:1], key[1:], progress=bar("refits"), **shared):
        every.add(batch.features[key], batch.image, batch.level)
        if chosen[batch.level]:
            near.add(batch.features[key], batch.image, batch.level)
    _summed({("", "every"): every, ("", "near"): near}, reduce)
    values = target_values(target, denoiser.schedule, levels)
    refitted = of_refits(refitted_rms(every, near, values, best.penalty) / scale)
    block = BestBlock(region, halves, score, refitted, tuple(scores), tuple(one / score.value for one in scores))
    given = NO_T_INPUT if told == ANY else in_words(told)
    fitted = {(ANY if key[0] == "input" else told, *key): probe for key, probe in trained.probes.items()}
    return Regime(told, given, {"name": best.name, "view": best.view}, tuple(rows), block), fitted


def _row(
    key: tuple[str, str], trained: Measured, drawn: Measured, yardstick: Sequence[float], levels: Sequence[float],
    points: dict[str, HookPoint],
) -> AtlasRow:  # fmt: skip
    """One layer and view of the atlas. Baselines have no entries for the reinitialized network."""
    result, other = trained.results[key], drawn.results.get(key)
    width, place = torch.tensor(yardstick, dtype=torch.float64), torch.tensor(levels)
    point = points.get(key[0])
    errors: dict[str, float] = {}
    over: dict[str, Interval] = {}
    gains: dict[str, Interval] = {}
    for name, (low, high) in REGIONS.items():
        chosen = (place >= low) & (place <= high)
        if chosen.any():
            error = trained.errors[key].rms(chosen)
            errors[name] = error[0].item()
            over[name] = of_draws(error / width[chosen].square().mean().sqrt())
            if other:  # both use the same bootstrap weights, so the replicates are paired
                gains[name] = of_draws(drawn.errors[key].rms(chosen) / error)
    return AtlasRow(
        *key, **{part.name: result[part.name] for part in fields(AtlasRow) if part.name in result},
        r2_random_network=other["r2"] if other else None, error_random_network=other["error"] if other else None,
        error_over_yardstick=(torch.tensor(result["error"], dtype=torch.float64) / width).tolist(), error_by_region=errors,
        error_over_yardstick_by_region=over, gain_by_region=gains, kind=point.kind if point else None,
        shape=list(point.shape) if point else None,
    )  # fmt: skip
