"""Differences between the members of a pair, over training seeds. Depends on evaluation, schedules, store, zoo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from explore import zoo
from explore.cards.store import by_seed, distances
from explore.evaluation import DENOISING_TIMES
from explore.schedules import SCHEDULES
from explore.statistics import student_mean

Difference = Callable[[dict[str, Any], dict[str, Any]], float | None]

SHARED = (  # what the distances of two models must have in common before one is subtracted from the other
    "features", "reference", "split", "reference_images", "count", "seeds", "sampler", "steps", "eta", "clamp", "start",
    "step_size", "clock_offset", "nfe",
)  # fmt: skip


def _distance(part: str) -> Difference:
    def difference(conditioned: dict[str, Any], other: dict[str, Any]) -> float | None:
        a, b = distances(conditioned), distances(other)
        alike = a and b and all(a.get(key) == b.get(key) for key in SHARED)
        return b[part] - a[part] if alike else None

    return difference


def _denoised(t: float) -> Difference:
    def difference(conditioned: dict[str, Any], other: dict[str, Any]) -> float | None:
        parts = [stored.get("denoising", {}) for stored in (conditioned, other)]
        if any(part.get(key) != parts[0].get(key) for part in parts for key in ("data", "images", "seed")):
            return None
        errors = [row["mse"] for part in parts for row in part.get("rows", []) if row["t"] == t]
        return errors[1] / errors[0] - 1 if len(errors) == 2 else None

    return difference


# Name -> figure of the other member minus that of the conditioned one, None where they cannot be compared.
DIFFERENCES: dict[str, Difference] = {
    **{part: _distance(part) for part in ("fd", "kid", "precision", "recall")},
    **{f"denoising t={t}": _denoised(t) for t in DENOISING_TIMES},
}


def differences(name: str) -> dict[str, Any]:
    """A model's figures minus those of the conditioned member of its pair, over all training seeds.

    Args:
        name: A member without the timestep.

    Returns:
        For each of ``DIFFERENCES`` (``fd``, ``kid``, ``precision``, ``recall``; ``denoising t=...``, the relative increase
        of the squared error): ``seeds``, ``values``, and their mean as a stored :class:`explore.statistics.Interval` over
        training seeds. ``losses`` has the same by t, with the posterior's ``width``. Only seeds at which both members were
        measured alike count. Empty for the conditioned member and where the pair has none.
    """
    conditioning = {zoo.info(other).time_conditioning: other for other in zoo.pairs()[zoo.index()[name]["pair"]]}
    if conditioning.get("timestep") in (None, name):
        return {}
    conditioned, own = by_seed(conditioning["timestep"]), by_seed(name)
    found: dict[str, Any] = {}
    for part, difference in DIFFERENCES.items():
        values = {seed: difference(conditioned[seed], own[seed]) for seed in conditioned if seed in own}
        known = {seed: value for seed, value in values.items() if value is not None}
        if known:
            found[part] = {"seeds": list(known), "values": list(known.values()), **student_mean(list(known.values())).to_json()}
    curves = {
        seed: [row for row in stored["losses"]["rows"] if row["split"] == "test"]
        for seed, stored in own.items()
        if "losses" in stored and stored["losses"]["members"] == [conditioning["timestep"], name]
    }
    if curves:
        found["losses"] = [
            {
                "t": rows[0]["t"],
                "width": rows[0]["width"],
                "seeds": list(curves),
                "values": gaps,
                **student_mean(gaps).to_json(),
            }
            for rows in zip(*curves.values())
            for gaps in [[row["loss"]["difference"]["value"] for row in rows]]
        ]
    return found


def where_gaps_sit(gaps: list[dict[str, Any]], schedule: str) -> dict[str, float]:
    """Whether the loss gap by t is largest where the posterior of t is widest.

    Args:
        gaps: ``losses`` of :func:`differences`.
        schedule: The model's; it turns a width of t into a width of log SNR or log sigma.

    Returns:
        Spearman's rank correlation of the mean gap with the width of ``t``, ``logsnr`` and ``log_sigma``, each from -1 to 1.
    """
    from scipy.stats import spearmanr  # imported here: the trainer runs where there is no SciPy

    t, step, path = torch.tensor([row["t"] for row in gaps], dtype=torch.float64), 1e-3, SCHEDULES[schedule]
    meanings = {"t": lambda t: t, "logsnr": path.logsnr, "log_sigma": lambda t: path.sigma(t).log()}
    means, width = [row["value"] for row in gaps], torch.tensor([row["width"] for row in gaps], dtype=torch.float64)
    return {
        name: float(spearmanr(means, width * (meaning(t + step) - meaning(t - step)).abs() / (2 * step)).statistic)
        for name, meaning in meanings.items()
    }
