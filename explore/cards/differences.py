"""Differences between the members of a pair, over training seeds. Depends on encoder, evaluation, statistics, store, zoo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from explore import encoder, zoo
from explore.cards.store import by_seed, distances, other_seeds
from explore.evaluation import DENOISING_TIMES
from explore.statistics import Interval, seeds_mean

Difference = Callable[[dict[str, Any], dict[str, Any]], float | None]

SHARED = (  # what the distances of two models must have in common before one is subtracted from the other
    "features", "reference", "split", "reference_images", "count", "seeds", "sampler", "steps", "eta", "clamp", "start",
    "step_size", "clock_offset", "nfe", "encoder_sha256",
)  # fmt: skip


def _distance(part: str) -> Difference:
    def difference(conditioned: dict[str, Any], other: dict[str, Any]) -> float | None:
        a, b = distances(conditioned), distances(other)
        alike = a and b and all(a.get(key) == b.get(key) for key in SHARED)
        return b[part] - a[part] if alike else None

    return difference


def _noised(stored: dict[str, Any], kind: str) -> list[Any]:
    """On what images and noise a model's ``denoising`` or ``losses`` were measured."""
    record = stored.get(kind, {})
    return [*(record.get(key) for key in ("data", "images", "seed")), record.get("noise_draws", 1)]


def _denoised(t: float) -> Difference:
    def difference(conditioned: dict[str, Any], other: dict[str, Any]) -> float | None:
        parts = [stored.get("denoising", {}) for stored in (conditioned, other)]
        if _noised(conditioned, "denoising") != _noised(other, "denoising"):
            return None
        errors = [row["mse"] for part in parts for row in part.get("rows", []) if row["t"] == t]
        return errors[1] / errors[0] - 1 if len(errors) == 2 else None

    return difference


def _relative(row: dict[str, Any]) -> Interval:
    """Relative difference of a row of losses; from the absolute difference in records without it."""
    if "relative" in row:
        return Interval.from_json(row["relative"])
    loss, found = row["loss"]["conditioned"], Interval.from_json(row["loss"]["difference"])
    if found.low is None or found.high is None:
        return Interval(found.value / loss, None, None)
    return Interval(found.value / loss, found.low / loss, found.high / loss)


def _around(value: float, t: float, losses: dict[float, Interval]) -> Interval:
    """``value`` at ``t`` with the half width of the relative losses at the nearest t, its mean if two are equally near.

    A relative difference of the error of x0_hat is that of the loss, whose error differs by a factor of t only.
    """
    least = min((abs(time - t) for time in losses), default=0.0)
    near = [one for time, one in losses.items() if abs(time - t) < least + 1e-9]
    halves = [(one.high - one.low) / 2 for one in near if one.low is not None and one.high is not None]
    half = sum(halves) / len(halves) if halves else None
    return Interval(value, None, None) if half is None else Interval(value, value - half, value + half)


def _comparable(stored: dict[str, Any]) -> bool:
    """Whether distances are those of the encoder as it is now, or of another network altogether."""
    return (distances(stored) or {}).get("encoder_sha256") in (None, encoder.sha256())


DISTANCES = ("fd", "kid", "precision", "recall")
DENOISED = {f"denoising t={t}": t for t in DENOISING_TIMES}
# Name -> figure of the other member minus that of the conditioned one, None where they cannot be compared.
DIFFERENCES: dict[str, Difference] = {
    **{part: _distance(part) for part in DISTANCES},
    **{part: _denoised(t) for part, t in DENOISED.items()},
}


def differences(name: str, study: bool = False) -> dict[str, Any]:
    """A model's figures minus those of the conditioned member of its pair, over training seeds.

    Args:
        name: A member without the timestep.
        study: Whether the seeds are those of seeds.json alone. They were measured together, so that their distances
            belong together, even if the encoder and the shipped weights are other ones now.

    Returns:
        For each of ``DIFFERENCES`` (``fd``, ``kid``, ``precision``, ``recall``; ``denoising t=...``, the relative increase
        of the squared error): ``seeds``, ``values``, and their mean as a stored :class:`explore.statistics.Interval` over
        training seeds. ``losses`` has, by t, the same for the relative difference of the held-out loss. Where losses are
        stored, the intervals of denoising errors and losses are over training seeds, images and noise, see
        :func:`explore.statistics.seeds_mean`. With one training seed there is no interval. A seed counts only if both members
        were measured with the same settings; for denoising errors and losses, if it was measured on the images and the noise
        of the first seed. Distances count only in the features of the present encoder, except in a study.
        Empty for the conditioned member, for a pair without one, and for a study of one seed.
    """
    conditioning = {zoo.info(other).time_conditioning: other for other in zoo.pairs()[zoo.index()[name]["pair"]]}
    if conditioning.get("timestep") in (None, name):
        return {}
    measured = other_seeds if study else by_seed
    conditioned, own = measured(conditioning["timestep"]), measured(name)
    if study and len(own) < 2:
        return {}
    first = next(iter(own.values()))
    losses = {
        seed: {row["t"]: _relative(row) for row in stored["losses"]["rows"] if row["split"] == "test"}
        for seed, stored in own.items()
        if "losses" in stored
        and stored["losses"]["members"] == [conditioning["timestep"], name]
        and _noised(stored, "losses") == _noised(first, "losses")
    }
    found: dict[str, Any] = {}
    for part, difference in DIFFERENCES.items():
        values = {
            seed: difference(conditioned[seed], own[seed])
            for seed in conditioned
            if seed in own
            and (study or part not in DISTANCES or _comparable(own[seed]))
            and (part not in DENOISED or _noised(own[seed], "denoising") == _noised(first, "denoising"))
        }
        known = {seed: Interval(value, None, None) for seed, value in values.items() if value is not None}
        if part in DENOISED:
            known = {seed: _around(one.value, DENOISED[part], losses.get(seed, {})) for seed, one in known.items()}
        if known:
            found[part] = _over_seeds(known)
    times = sorted({t for rows in losses.values() for t in rows})
    if times:
        found["losses"] = [
            {"t": t, **_over_seeds({seed: rows[t] for seed, rows in losses.items() if t in rows})} for t in times
        ]
    return found


def _over_seeds(by_seed: dict[int, Interval]) -> dict[str, Any]:
    """The seeds, their values, and the mean with its interval."""
    mean = seeds_mean(list(by_seed.values())).to_json()
    return {"seeds": list(by_seed), "values": [one.value for one in by_seed.values()], **mean}
