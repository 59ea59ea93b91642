"""Checks of a map: completeness, deletion and insertion curves, and the map of a reinitialized network.

Deleted pixels are replaced by noise of the same level, which keeps the noise level. Sources: deletion and insertion (arXiv
1806.07421), reinitialized parameters (arXiv 1810.03292). Depends on denoiser, maps, methods, probes, targets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explore.denoiser import Denoiser
from explore.probes import reinitialized
from explore.saliency.maps import UNCHANGED, Attribution, relative_gap, unchecked
from explore.saliency.methods import SALIENCY, Case
from explore.saliency.targets import matched_noise

FRACTIONS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # of pixels deleted or inserted
REFILLS = 3  # draws of the noise that replaces deleted pixels
REDRAWS = (0, 1, 2)  # seeds of the reinitialized networks


def _completeness(record: Attribution, case: Case, denoiser: Denoiser, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The sum of the values and the target's difference from the baseline; None for methods that need not be complete."""
    if not SALIENCY[record.method].complete:
        return None
    difference = record.output - record.reference_output
    total = record.values.double().flatten(1).sum(1)
    return {
        "sum": total.tolist(),
        "difference": difference.tolist(),
        "gap": (total - difference).abs().max().item(),
        "relative_gap": relative_gap(record.values, difference).max().item(),
        "share": (total.sum() / difference.sum()).item() if difference.sum() != 0 else 0.0,
    }


def _curves(record: Attribution, case: Case, denoiser: Denoiser, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The target as pixels are deleted, or inserted, in the order of the map's magnitude and in random orders.

    Deleted pixels get the image's mean color and noise of the same level. ``area`` is the mean distance from the target's
    value: large for a good order of deletion, small for a good order of insertion. Compare it with that of random orders.
    """
    if record.domain == "frequencies":
        return None
    subject, xt = case.subject, case.xt
    sigma = float(subject.denoiser.schedule.sigma(torch.tensor(subject.t, dtype=torch.float64)))
    pixels = xt.shape[-2] * xt.shape[-1]
    size = record.map.abs().flatten(1).numpy()
    generator = np.random.default_rng([4, case.seed])
    found: dict[str, Any] = {"fractions": list(FRACTIONS)}
    values: dict[str, list[Tensor]] = {name: [] for name in ("deletion", "insertion", "deletion_random", "insertion_random")}
    for refill in range(REFILLS):
        other = matched_noise(xt, sigma, case.seed + 1 + refill * len(xt))
        drawn = generator.random(size.shape)
        for ending in ("", "_random"):
            # Ties, such as the pixels of one position of a layer, are broken at random.
            order = np.stack([np.lexsort((one, -row)) for one, row in zip(drawn, size if not ending else 0 * size)])
            rank = torch.from_numpy(order.argsort(1)).to(xt.device).unflatten(1, xt.shape[-2:])[:, None]  # (B, 1, H, W)
            for name in ("deletion", "insertion"):
                shown = []
                for fraction in FRACTIONS:
                    first = rank < round(fraction * pixels)
                    shown.append(torch.where(first == (name == "insertion"), xt, other))
                count = len(FRACTIONS)
                more = case.t_given.repeat(count), case.x0.repeat(count, *[1] * (case.x0.ndim - 1))
                read = subject.values(torch.cat(shown), *more)
                values[f"{name}{ending}"].append(read.unflatten(0, (count, len(xt))))
    for name, runs in values.items():
        mean = torch.stack(runs).mean(0)  # (fractions, B)
        found[name] = mean.mean(1).tolist()
        found[f"{name}_area"] = torch.stack(runs).sub(record.output).abs().mean().item()
    return found


def rank_correlation(one: Tensor, other: Tensor) -> float | None:
    """Spearman's rank correlation of two maps; None if one of them is constant."""
    from scipy.stats import spearmanr  # imported here: the trainer runs where there is no SciPy

    if one.max() == one.min() or other.max() == other.min():
        return None
    return float(spearmanr(one.flatten().numpy(), other.flatten().numpy()).statistic)


def _randomization(record: Attribution, case: Case, denoiser: Denoiser, settings: dict[str, Any]) -> dict[str, Any]:
    """Rank correlation of the map with that of the reinitialized network, of the values and of their magnitudes.

    Both are means over images and draws. The map passes if their absolute values are below ``UNCHANGED``. Occlusion is slow
    and has one draw.
    """
    signed, sizes, refused = [], [], ""
    draws = REDRAWS[:1] if record.method == "occlusion" else REDRAWS
    for seed in draws:
        try:
            other, _, _ = unchecked(
                reinitialized(denoiser, seed), case.xt, case.subject.t, record.target, record.method, **settings
            )
        except ValueError as error:  # such as GradCAM, if it misses the random network's gradient
            refused = str(error)
            continue
        for one, two in zip(*((part.bands if part.domain == "frequencies" else part.map) for part in (record, other))):
            signed.append(rank_correlation(one, two))
            sizes.append(rank_correlation(one.abs(), two.abs()))
    known = [value for value in signed if value is not None], [value for value in sizes if value is not None]
    found: dict[str, Any] = {"draws": len(draws)}
    if not known[0] or not known[1]:
        return found | {"rank_correlation": None, "of_sizes": None, "passes": True, "why": refused or "the other map is flat"}
    mean = [sum(values) / len(values) for values in known]
    largest = [max(map(abs, values)) for values in known]
    passes = max(map(abs, mean)) < UNCHANGED
    return found | {"rank_correlation": mean[0], "of_sizes": mean[1], "largest": max(largest), "passes": passes}


# name -> function of (attribution, case, model, settings of attribute) that returns JSON, or None if it is not defined
CHECKS: dict[str, Callable[[Attribution, Case, Denoiser, dict[str, Any]], dict[str, Any] | None]] = {
    "completeness": _completeness,
    "curves": _curves,
    "randomization": _randomization,
}
