"""Effects of changing a layer along the direction of its probe, compared with control directions of the same length.

Depends on activations, data, denoiser, probes, results, seeds, statistics, values, and directions, bench and told.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from explore.activations import hook_points, level_times
from explore.denoiser import Denoiser
from explore.interventions.bench import INTERVENTIONS, RENAMED, STAGES, Bench, Maker
from explore.interventions.directions import CONTROLS, DECISIVE, DIRECTIONS, ControlSource, control_directions
from explore.interventions.told import Partner
from explore.probes import ProbeSet
from explore.results import Rounded, Stored
from explore.seeds import check_seeds
from explore.statistics import Interval, Rank, image_mean, image_ratio, note_few_images, poisson_weights, rank_among
from explore.values import choose, real_number, real_numbers, whole_number


@dataclass(frozen=True)
class EffectRow(Stored):
    """Effects of one dose at one noise level.

    Attributes:
        logsnr, t: The true noise level.
        dose: 0 for ``ablate``.
        effects: Changes due to the direction, means over images: of the implied noise level by layer, of the log norm of the
            ``predicted_noise`` and, relative, of the ``loss``.
        control: Quantity -> kind of control -> the same due to each control direction, means over the control images.
    """

    logsnr: float
    t: float
    dose: float
    effects: dict[str, Interval]
    control: dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class Slope(Stored):
    """Change of one quantity per unit of dose, least squares through 0.

    Attributes:
        slope: For the direction, over all images.
        monotonic: Whether the mean change is monotonic in the dose.
        ranks: Kind of control -> rank of the slope's magnitude among the control directions, all on the control images.
        used: Whether the magnitude exceeds the quantile of the ``DECISIVE`` kinds of control: each p-value is at most 1 minus
            the quantile. None without these kinds, with too few directions, and for the layer that is changed.
        told: The conditioned model's change per unit of log SNR by which its given t is shifted; None if it is not known.
        of_told: ``slope`` over ``told``.
    """

    slope: Interval
    monotonic: bool
    ranks: dict[str, Rank] = field(default_factory=dict)
    used: bool | None = None
    told: Interval | None = None
    of_told: Interval | None = None

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """As :meth:`Stored.from_json`. Older records have the slopes of isotropic directions, as ``control``."""
        if "control" in stored:
            magnitudes = list(map(abs, stored["control"]))
            stored = {**stored, "ranks": {"isotropic": rank_among(abs(stored["slope"]["value"]), magnitudes).to_json()}}
        return super().from_json(stored)


@dataclass(frozen=True)
class SlopeRow(Stored):
    """Slopes at one noise level, by quantity: names of layers, and ``predicted_noise``."""

    logsnr: float
    quantities: dict[str, Slope]


@dataclass(frozen=True)
class LossRow(Stored):
    """Relative change of the mean loss at one noise level.

    Attributes:
        t, logsnr: The true noise level.
        dose: 0 for ``ablate``.
        change: Due to the direction, over all images.
        ranks: Kind of control -> rank of the change among those due to the control directions, on the control images. For
            ``steer``, the controls have the positive dose: opposite directions are equally probable.
    """

    t: float
    logsnr: float
    dose: float
    change: Interval
    ranks: dict[str, Rank]


@dataclass(frozen=True)
class InterventionResult(Rounded):
    """Effects of an intervention on a layer, and those of control directions of the same length.

    Attributes:
        model, sha256: The model and its weights.
        layer, kind, direction: What was changed, and how.
        target: What the probes predict.
        images, seed, data: Number of images, first seed of the noise, and the source in words.
        levels: True noise levels, log SNR.
        doses: Doses.
        controls, control_images: Number of control directions of each kind, and of images that they are measured on.
        quantile: Of the controls, which a direction must exceed to count as used.
        later: Later layers with probes.
        norm: Length of the direction.
        rows: By level and dose.
        slopes: By level; empty for ``ablate``, which has no doses.
        loss: By t and dose.
        partner: The conditioned model that ``told`` is measured on; None if there is none.
        alignment: Kind of control -> median magnitude of the cosine between its directions and that of the probe.
    """

    model: str
    layer: str
    kind: str
    direction: str
    target: str
    images: int
    seed: int
    levels: list[float]
    doses: list[float]
    controls: int
    later: list[str]
    norm: float
    rows: tuple[EffectRow, ...] = ()
    slopes: tuple[SlopeRow, ...] = ()
    sha256: str | None = None
    data: str | None = None
    loss: tuple[LossRow, ...] = ()
    control_images: int | None = None
    quantile: float = 0.95
    partner: str | None = None
    alignment: dict[str, float] = field(default_factory=dict)


DOSES = (-4.0, -2.0, -1.0, 1.0, 2.0, 4.0)
LOSS_TIMES = tuple((k + 0.5) / 20 for k in range(20))
CONTROL_IMAGES = 4


def intervene(
    denoiser: Denoiser,
    probe_set: ProbeSet,
    images: Tensor,
    layer: str,
    kind: str = "steer",
    *,
    direction: str = "pattern",
    levels: Sequence[float] = STAGES,
    doses: Sequence[float] = DOSES,
    controls: int = 100,
    control_kinds: Sequence[str] = tuple(CONTROLS),
    control_images: int = CONTROL_IMAGES,
    quantile: float = 0.95,
    loss_times: Sequence[float] = LOSS_TIMES,
    partner: Partner | None = None,
    seed: int = 0,
    progress: Callable[[Any], Any] = lambda jobs: jobs,
) -> InterventionResult:
    """Changes a layer along its probe's direction and along controls of the same length, and measures the effects.

    A verdict "used" says that what follows reacts more to the direction than to nearly all others in which the layer varies. No
    verdict says that a direction is not used: where the noise level causes most of the layer's variance, the controls are close
    to the direction themselves (``alignment``), and few effects can exceed theirs. Each verdict is a test of its own, and a few
    of many say "used" by chance.

    Args:
        denoiser: The model.
        probe_set: Its probes.
        images: Held-out images, uint8 or float (N, C, H, W).
        layer: A hook point with a probe.
        kind: A key of ``INTERVENTIONS``.
        direction: A key of ``DIRECTIONS``.
        levels: True noise levels, values of logsnr.
        doses: For ``steer``, the change of the layer's own probe prediction, in the probe's unit. For ``patch``, the
            difference between the level that the component comes from and the true one. Not used by ``ablate``.
        controls: Number of control directions of each kind.
        control_kinds: Keys of ``CONTROLS``.
        control_images: Images that the controls are measured on, the first of ``images``. What differs between directions
            differs much more than what differs between images.
        quantile: Of the controls, which a direction must exceed to count as used.
        loss_times: True t at which the change of the loss is measured, at the middle one of the doses in both signs.
        partner: The conditioned model of the pair, if there is one. It is compared if the probes predict log SNR.
        seed: Seed of the noise and of the controls.
        progress: Wraps the lists of runs, as tqdm does.

    Raises:
        ValueError: If the layer, kind, direction or kind of control is unknown, if the schedule does not reach a level, or if
            there are too few images to fit the probes of shuffled targets.
    """
    choose("intervention", kind, INTERVENTIONS, RENAMED)
    choose("direction", direction, DIRECTIONS)
    controls, [seed] = whole_number("controls", controls, 1), check_seeds([seed])
    few = min(whole_number("control_images", control_images, 1), len(images))
    quantile, levels = real_number("quantile", quantile, 0, 1), real_numbers("each of levels", levels)
    doses = real_numbers("each of doses", doses) if kind != "ablate" else [0.0]
    note_few_images(len(images))
    order, vector = list(hook_points(denoiser)), DIRECTIONS[direction](probe_set.probe(layer, "mean"))
    later = [name for name in probe_set.layers("mean") if order.index(name) > order.index(layer)]
    times = level_times(denoiser.schedule, levels).tolist()
    source = ControlSource(denoiser, probe_set, images, layer, direction, seed)
    drawn = control_directions(source, vector, control_kinds, controls)
    bench = Bench(denoiser, images, {name: probe_set.probe(name, "mean") for name in [layer, *later]}, seed)
    compared = _Compared(bench, layer, vector, drawn, few, quantile)
    rows: list[EffectRow] = []
    changes: dict[float, list[dict[str, Tensor]]] = {}  # level -> change of every quantity by dose, (N,) each
    plain: dict[str, Tensor] = {}
    for level, t, dose in progress([(level, t, dose) for level, t in zip(levels, times) for dose in doses]):
        if level not in changes:
            plain, changes[level] = bench.run(t), []
        make = INTERVENTIONS[kind](bench, layer, level, dose)
        own, control = compared.own(t, make), compared.control(t, make, plain)
        effects = {name: image_mean(own[name] - plain[name], compared.weights) for name in plain if name != "loss"}
        effects["loss"] = image_ratio(own["loss"], plain["loss"], compared.weights, less=1.0)
        rows.append(EffectRow(level, t, dose, effects, control))
        changes[level].append({name: own[name] - plain[name] for name in plain if name != "loss"})
    slopes: list[SlopeRow] = []
    if kind != "ablate":
        partner = partner if probe_set.target == "logsnr" else None
        told = partner.slopes(images, later, levels, doses, seed) if partner else {}
        for level in levels:
            here = [row for row in rows if row.logsnr == level]
            slopes.append(SlopeRow(level, compared.slopes(doses, here, changes[level], told.get(level, {}))))
    loss = compared.loss(kind, loss_times, doses, progress)
    cosines = {name: (vectors @ vector / vector.norm().square()).abs().tolist() for name, vectors in drawn.items()}
    return InterventionResult(
        denoiser.name, layer, kind, direction, probe_set.target, len(images), seed, list(levels), list(doses), controls,
        later, vector.norm().item(), tuple(rows), tuple(slopes), denoiser.sha256 or None, loss=tuple(loss),
        control_images=few, quantile=quantile, partner=partner.denoiser.name if partner and slopes else None,
        alignment={name: rank_among(1.0, values).median for name, values in cosines.items()},
    )  # fmt: skip


class _Compared:
    """The direction of a layer's probe, and controls by kind, on one bench; the controls on the first ``few`` images."""

    def __init__(
        self, bench: Bench, layer: str, vector: Tensor, controls: Mapping[str, Tensor], few: int, quantile: float
    ) -> None:
        self.bench, self.layer, self.vector, self.controls = bench, layer, vector, controls
        self.few, self.quantile = few, quantile
        self.weights = poisson_weights(range(len(bench.x0)))  # (N, 1 + draws)

    def own(self, t: float, make: Maker) -> dict[str, Tensor]:
        """What is measured with the direction, (N,) each."""
        found = self.bench.run_edited(t, self.layer, make, self.vector[None], len(self.bench.x0))
        return {name: values[0] for name, values in found.items()}

    def control(self, t: float, make: Maker, plain: dict[str, Tensor]) -> dict[str, dict[str, list[float]]]:
        """Quantity -> kind -> change due to each control direction."""
        found: dict[str, dict[str, list[float]]] = {name: {} for name in plain}
        for kind, vectors in self.controls.items():
            after = self.bench.run_edited(t, self.layer, make, vectors, self.few)
            for name, before in plain.items():
                means, mean = after[name].mean(1), before[: self.few].mean()
                found[name][kind] = (means / mean - 1 if name == "loss" else means - mean).tolist()
        return found

    def slopes(
        self,
        doses: Sequence[float],
        rows: Sequence[EffectRow],
        changes: Sequence[dict[str, Tensor]],
        told: Mapping[str, Tensor],
    ) -> dict[str, Slope]:
        """Change of every quantity per unit of dose at one level."""
        dose = torch.tensor(doses, dtype=torch.float64)
        per_unit = dose / dose.square().sum()
        found = {}
        for name in changes[0]:
            by_image = torch.stack([change[name] for change in changes], 1)  # (N, doses)
            own = by_image @ per_unit
            order = [change for _, change in sorted([(0.0, 0.0), *zip(doses, by_image.mean(0).tolist())])]
            steps = [after - before for before, after in itertools.pairwise(order)]
            ranks = {}
            for kind in self.controls:
                others = per_unit @ torch.tensor([row.control[name][kind] for row in rows], dtype=torch.float64)
                ranks[kind] = rank_among(own[: self.few].mean().abs().item(), others.abs().tolist(), self.quantile)
            found[name] = Slope(
                image_mean(own, self.weights), min(steps) > 0 or max(steps) < 0, ranks,
                None if name == self.layer else self._used(ranks),
                image_mean(told[name], self.weights) if name in told else None,
                image_ratio(own, told[name], self.weights) if name in told else None,
            )  # fmt: skip
        return found

    def _used(self, ranks: Mapping[str, Rank]) -> bool | None:
        verdicts = [ranks[kind].significant(1 - self.quantile) if kind in ranks else None for kind in DECISIVE]
        return None if None in verdicts else all(verdicts)

    def loss(
        self, kind: str, times: Sequence[float], doses: Sequence[float], progress: Callable[[Any], Iterable[float]]
    ) -> list[LossRow]:
        """Relative change of the loss at each of ``times``, at the middle one of the doses in both signs."""
        schedule = self.bench.denoiser.schedule
        dose = sorted(map(abs, doses))[len(doses) // 2]
        found = []
        for t in progress(real_numbers("each of loss_times", times, 0, 1)):
            level, plain = schedule.logsnr(torch.tensor(t, dtype=torch.float64)).item(), self.bench.run(t)
            if kind == "patch" and not all(_reached(schedule, level + sign * dose) for sign in (-1, 1)):
                continue
            doses = (-dose, dose) if dose else (0.0,)
            makers = {signed: INTERVENTIONS[kind](self.bench, self.layer, level, signed) for signed in doses}
            controls = {
                signed: self.control(t, makers[signed], plain)["loss"] for signed in (doses if kind == "patch" else (dose,))
            }
            for signed, make in makers.items():
                after = self.own(t, make)["loss"]
                change = (after[: self.few].mean() / plain["loss"][: self.few].mean() - 1).item()
                others = controls.get(signed, controls[dose])
                ranks = {name: rank_among(change, others[name], self.quantile) for name in others}
                found.append(LossRow(t, level, signed, image_ratio(after, plain["loss"], self.weights, less=1.0), ranks))
        return found


def _reached(schedule: Any, level: float) -> bool:
    """Whether a schedule reaches a log SNR."""
    try:
        return len(level_times(schedule, [level])) == 1
    except ValueError:
        return False
