"""Held-out errors of probes for every layer and view of one network, with control tasks.

Every error is measured on images that the probe was not fitted to. Depends on activations, denoiser, schedules, and targets,
linear, controls and errors of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from explore.activations import FOLDS, LOGSNR_LEVELS, SUMMED, Batch, statistics, sweep
from explore.denoiser import Denoiser
from explore.probes.controls import control_values
from explore.probes.errors import Errors
from explore.probes.linear import BINS, LevelClassifier, RidgeProbe, fit_ridge
from explore.probes.targets import TARGETS, target_values
from explore.schedules import Schedule

CONTROLS = 10  # control tasks in the average
TOLD_T = "told t"  # the baseline that has the given t alone
Reduce = Callable[[Tensor], Tensor]


@dataclass
class Measured:
    """Probes of every layer and view of one network, and their errors on held-out images.

    Attributes:
        probes: (layer, view) -> RidgeProbe fitted to all images.
        errors: (layer, view) -> Errors.
        results: (layer, view) -> the result of :meth:`explore.probes.Errors.result`, with four more entries: ``r2_control``
            (mean R^2 over control tasks), ``selectivity`` (R^2 minus ``r2_control``), ``r2_shuffled`` (R^2 with the levels of
            each image permuted) and ``penalty``.
    """

    probes: dict[tuple[str, str], RidgeProbe] = field(default_factory=dict)
    errors: dict[tuple[str, str], Errors] = field(default_factory=dict)
    results: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)


def measure(
    denoiser: Denoiser,
    images: Tensor,
    layers: Sequence[str],
    views: Sequence[str] = ("mean",),
    *,
    target: str = "logsnr",
    levels: Sequence[float] = LOGSNR_LEVELS,
    baselines: dict[str, Callable[[Tensor, Schedule], Tensor]] | None = None,
    control_tasks: bool = True,
    reduce: Reduce = lambda sums: sums,
    progress: str = "",
    **settings: Any,
) -> Measured:
    """Fits a probe to every layer and view, and measures its errors on held-out images.

    The network sees every image twice: the first pass fits the probes, the second predicts each image with the fit without
    its fold.

    Args:
        denoiser: The model.
        images: uint8 or float (N, C, H, W), as for :func:`explore.activations.sweep`.
        layers: Names of hook points.
        views: Keys of ``VIEWS``.
        target: A key of ``TARGETS``.
        levels: The L noise levels, as log SNR.
        baselines: Name -> function of the noisy image alone, as in ``BASELINES``. Their layer is called ``input``. Where the
            network is given another t than the true one, one more of them, ``TOLD_T``, is the target at the t given: it shows
            what the given t alone says of the true one.
        control_tasks: Whether to fit the control tasks and the classifier. Without them, results have no ``r2_control``,
            ``selectivity`` and ``r2_shuffled``, and an accuracy of 0.
        reduce: Sums a tensor over processes, each of which holds its ``share`` of the images.
        progress: Label of the progress bars; no bars if empty.
        settings: ``seed``, ``batch``, ``given`` and ``share`` of :func:`explore.activations.sweep`.

    Raises:
        ValueError: If a layer, view or target is unknown, if the schedule does not reach a level, or if fewer than two folds
            have images.
    """
    values = target_values(target, denoiser.schedule, levels)

    def more(batch: Batch) -> dict[tuple[str, str], Tensor]:
        found = {("input", name): f(batch.xt, denoiser.schedule) for name, f in (baselines or {}).items()}
        if baselines and settings.get("given"):
            found["input", TOLD_T] = told_values(batch.time)[:, None]
        return found

    def told_values(t: Tensor) -> Tensor:
        return TARGETS[target].values(denoiser.schedule, t.double().clamp(1e-4, 1 - 1e-4))

    settings = settings | {"levels": levels}
    sums = statistics(denoiser, images, layers, views, more=more, progress=progress and f"{progress}, fit", **settings)
    found, classifiers = Measured(), {}
    controls = torch.stack([values, *(control_values(values, seed) for seed in range(CONTROLS))], 1)  # (L, 1 + controls)
    variance = values.var(unbiased=False)
    for key, own in sums.items():
        for name in SUMMED:
            setattr(own, name, reduce(getattr(own, name)))
        found.errors[key] = Errors(values)
        if not control_tasks:
            found.probes[key] = RidgeProbe().fit(own, values)
            found.results[key] = {"penalty": found.probes[key].penalty_}
            continue
        probe, *control = fit_ridge(own, controls)
        r2_control = 1 - torch.stack([other.errors_.min() for other in control]).mean() / variance
        r2_shuffled = 1 - RidgeProbe().fit(own.shuffled(), values).errors_.min() / variance
        found.probes[key] = probe
        found.results[key] = {"r2_control": r2_control.item(), "r2_shuffled": r2_shuffled.item(), "penalty": probe.penalty_}
        classifiers[key] = LevelClassifier(min(BINS, len(values))).fit(own, values)
    for batch in sweep(denoiser, images, layers, views, progress=progress and f"{progress}, held out", **settings):
        for key, features in {**batch.features, **more(batch)}.items():
            fold = (batch.image % FOLDS).repeat_interleave(len(features) // len(batch.image))
            predicted = found.probes[key].predict_held_out(features, fold)
            hit = torch.zeros(len(fold), dtype=torch.bool)
            if control_tasks:
                hit = classifiers[key].predict_held_out(features, fold) == classifiers[key].bin_[batch.level]
            found.errors[key].add(batch.image, batch.level, predicted, hit)
    for key, errors in found.errors.items():
        errors.sums = reduce(errors.sums)
        found.results[key] |= errors.result()
        found.probes[key].held_out_error_ = torch.tensor(found.results[key]["error"], dtype=torch.float64)
        if control_tasks:
            found.results[key]["selectivity"] = found.results[key]["r2"] - found.results[key]["r2_control"]
    return found
