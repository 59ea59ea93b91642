"""Interventions: activations are changed along the direction of a probe, and the effects are measured.

Effects are changes of the noise level that later layers imply, of the predicted noise, of the loss and of the samples.

- ``steer`` adds the direction at every position, so that the layer's own probe prediction moves by a stated amount.
- ``patch`` (activation patching) replaces the component along the direction by that of the same image at another noise level.
- ``ablate`` replaces the component by its mean.

Each is compared with random directions of the same length. A network need not use a direction that decodes well.
:func:`given_vs_true` varies the given and the true t of a conditioned network independently. Depends on activations, data,
denoiser, probes, results, samplers, seeds, statistics.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from explore.activations import VIEWS, capture, hook_points, hooks, inner, level_times
from explore.data import add_noise, to_float
from explore.denoiser import PREDICTIONS, Denoiser
from explore.probes import ProbeSet, RidgeProbe, target_values
from explore.results import Rounded, Stored
from explore.samplers import SAMPLERS, Step, check_options
from explore.seeds import check_seeds, keyed_noise, seed_range
from explore.statistics import Interval, image_mean, image_ratio, note_few_images, poisson_weights
from explore.values import choose, real_number, real_numbers, whole_number

Edit = Callable[[Tensor], Tensor]  # an activation (B, C, H, W) or (B, L, C) -> the same, changed


def _channels(vector: Tensor, activation: Tensor) -> Tensor:
    """``vector`` (C,), shaped to broadcast with an activation."""
    vector = vector.to(activation)
    return vector.reshape(1, -1, 1, 1) if activation.ndim == 4 else vector


def _component(activation: Tensor, unit: Tensor) -> Tensor:
    """Component of every position along ``unit`` (C,), as a map (B, 1, H, W) or (B, L, 1)."""
    return (activation * _channels(unit, activation)).sum(1 if activation.ndim == 4 else -1, keepdim=True)


def steer(vector: Tensor) -> Edit:
    """An edit that adds ``vector`` (C,) at every position."""
    return lambda activation: activation + _channels(vector, activation)


def ablate(vector: Tensor, center: float = 0.0) -> Edit:
    """An edit that replaces the component of every position along ``vector`` (C,) by ``center``."""
    unit = vector / vector.norm()
    return lambda activation: activation + (center - _component(activation, unit)) * _channels(unit, activation)


def patch(vector: Tensor, other: Tensor) -> Edit:
    """An edit that replaces the component along ``vector`` (C,) by that of the activation ``other``, at every position."""
    unit = vector / vector.norm()
    return lambda activation: activation + _component(other - activation, unit) * _channels(unit, activation)


@contextlib.contextmanager
def edited(denoiser: Denoiser, layer: str, edit: Edit, during: tuple[float, float] = (0.0, 1.0)) -> Iterator[None]:
    """Changes the output of a layer inside the block, in everything that evaluates the network.

    Args:
        denoiser: The model. Its network gets the hooks, so wrappers of the denoiser are edited too.
        layer: A hook point, or any other module. If it returns several values, the first tensor is changed.
        edit: The change of its output.
        during: Range (low, high) of the t that the network is given, ends included, in which the edit applies.

    Raises:
        ValueError: If the layer is unknown, or the range is not within [0, 1].
    """
    low, high = real_numbers("each end of during", during)
    if not 0 <= low <= high <= 1:
        raise ValueError(f"during must be a range (low, high) of t within [0, 1], got {during}")
    network = inner(denoiser)
    now: list[Tensor] = []

    def note(module: nn.Module, inputs: Any) -> None:
        now[:] = [inputs[1].clone()]  # the network may change its input in place

    def change(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        t = now[0].flatten()
        if not ((t >= low) & (t <= high)).any():
            return output
        inside = ((t >= low) & (t <= high)).reshape(-1, *[1] * (output.ndim - 1))
        return torch.where(inside, edit(output), output).to(output.dtype)

    handle = network.register_forward_pre_hook(note)
    try:
        with hooks(network, {layer: change}):
            yield
    finally:
        handle.remove()


# Directions (C,) that move a layer's own probe prediction, in the view ``mean``, by 1 --------------------------------------


def readout(probe: RidgeProbe) -> Tensor:
    """The shortest vector that moves the probe prediction by 1: the coefficients over their squared norm."""
    return probe.coef_ / probe.coef_.square().sum()


def pattern(probe: RidgeProbe) -> Tensor:
    """The direction in which the layer changes with the noise level, scaled to move the probe prediction by 1."""
    return probe.pattern_ / (probe.pattern_ @ probe.coef_)


DIRECTIONS: dict[str, Callable[[RidgeProbe], Tensor]] = {"pattern": pattern, "readout": readout}


def random_direction(vector: Tensor, seed: int) -> Tensor:
    """A random direction (C,) of the same length as ``vector``, uniform on the sphere."""
    draw = torch.from_numpy(np.random.default_rng([3, seed]).standard_normal(len(vector)))
    return draw / draw.norm() * vector.norm()


# Effects -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EffectRow(Stored):
    """Effects of one dose at one noise level.

    Attributes:
        logsnr, t: The true noise level.
        dose: 0 for ``ablate``.
        effects: Changes due to the direction, means over images: of the implied noise level by layer, of the log norm of the
            ``predicted_noise`` and, relative, of the ``loss``.
        control: The same due to each random direction.
    """

    logsnr: float
    t: float
    dose: float
    effects: dict[str, Interval]
    control: dict[str, list[float]]


@dataclass(frozen=True)
class Slope(Stored):
    """Change of one quantity per unit of dose, least squares through 0.

    Attributes:
        slope: For the direction.
        control: For each random direction.
        monotonic: Whether the mean change is monotonic in the dose.
        larger_than_every_control: Whether its magnitude exceeds that of every random direction.
    """

    slope: Interval
    control: list[float]
    monotonic: bool
    larger_than_every_control: bool


@dataclass(frozen=True)
class SlopeRow(Stored):
    """Slopes at one noise level, by quantity: names of layers, and ``predicted_noise``."""

    logsnr: float
    quantities: dict[str, Slope]


@dataclass(frozen=True)
class InterventionResult(Rounded):
    """Effects of an intervention on a layer, and those of random directions of the same length.

    Attributes:
        model, sha256: The model and its weights.
        layer, kind, direction: What was changed, and how.
        target: What the probes predict.
        images, seed, data: Number of images, first seed of the noise, and the source in words.
        levels: True noise levels, log SNR.
        doses, controls: Doses, and the number of random directions.
        later: Later layers with probes.
        norm: Length of the direction.
        rows: By level and dose.
        slopes: By level; empty for ``ablate``, which has no doses.
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


class _Bench:
    """Held-out images, and the network's outputs for them at any noise level, edited or not."""

    def __init__(self, denoiser: Denoiser, probe_set: ProbeSet, images: Tensor, layer: str, seed: int) -> None:
        self.denoiser, self.probe_set, self.layer = denoiser, probe_set, layer
        self.x0 = to_float(images) if images.dtype == torch.uint8 else images.float()
        self.seeds = seed_range(seed, len(images))
        order = list(hook_points(denoiser))
        self.later = [name for name in probe_set.layers("mean") if order.index(name) > order.index(layer)]
        self.read = {name: probe_set.probe(name, "mean") for name in [layer, *self.later]}
        self.weights = poisson_weights(range(len(images)))  # (N, 1 + draws)

    def noisy(self, t: float) -> tuple[Tensor, Tensor]:
        """Returns xt, and eps, which is the same at every level."""
        eps = keyed_noise(self.seeds, self.denoiser.shape)
        return add_noise(self.x0, eps, t, self.denoiser.schedule), eps

    @torch.no_grad()
    def run(self, t: float, edit: Edit | None) -> dict[str, Tensor]:
        """Probe predictions of the layer and later ones, log norm of the predicted noise, and squared error: (N,) each."""
        xt, eps = self.noisy(t)
        denoiser, time = self.denoiser, torch.tensor(t, dtype=torch.float64)
        alpha, sigma = denoiser.schedule.alpha(time).float(), denoiser.schedule.sigma(time).float()
        with contextlib.ExitStack() as stack:
            if edit is not None:
                stack.enter_context(edited(denoiser, self.layer, edit))
            cache = stack.enter_context(capture(denoiser, list(self.read)))
            estimate = denoiser.estimate(xt, t)
        found = {name: probe.predict(VIEWS["mean"](cache[name]).cpu()) for name, probe in self.read.items()}
        found["predicted_noise"] = estimate.eps_hat.double().flatten(1).square().mean(1).sqrt().log()
        target = PREDICTIONS[denoiser.prediction].target(self.x0, eps, alpha, sigma)
        found["loss"] = (estimate.output - target).double().flatten(1).square().mean(1)
        return found

    @torch.no_grad()
    def activation(self, t: float) -> Tensor:
        """The activation of the layer, not edited."""
        with capture(self.denoiser, [self.layer]) as cache:
            self.denoiser.output(self.noisy(t)[0], t)
        return cache[self.layer]


def _effects(plain: dict[str, Tensor], after: dict[str, Tensor], weights: Tensor) -> dict[str, Interval]:
    """Mean change of every quantity; of the loss, the relative change of the mean."""
    found = {name: image_mean(after[name] - plain[name], weights) for name in plain if name != "loss"}
    found["loss"] = image_ratio(after["loss"], plain["loss"], weights, less=1.0)
    return found


DOSES = (-4.0, -2.0, -1.0, 1.0, 2.0, 4.0)
STAGES = (4.0, 0.0, -4.0)


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
    controls: int = 8,
    seed: int = 0,
    progress: Callable[[Any], Any] = lambda jobs: jobs,
) -> InterventionResult:
    """Changes a layer along its probe's direction and along random ones of the same length, and measures the effects.

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
        controls: Number of random directions.
        seed: Seed of the noise and of the random directions.
        progress: Wraps the list of runs, as tqdm does.

    Raises:
        ValueError: If the layer, kind or direction is unknown, or the schedule does not reach a level.
    """
    choose("intervention", kind, INTERVENTIONS, RENAMED)
    choose("direction", direction, DIRECTIONS)
    controls, [seed] = whole_number("controls", controls, 1), check_seeds([seed])
    levels = real_numbers("each of levels", levels)
    note_few_images(len(images))
    probe = probe_set.probe(layer, "mean")
    bench = _Bench(denoiser, probe_set, images, layer, seed)
    vector = DIRECTIONS[direction](probe)
    vectors = [vector, *(random_direction(vector, seed + k) for k in range(controls))]
    doses = real_numbers("each of doses", doses) if kind != "ablate" else [0.0]
    times = level_times(denoiser.schedule, levels).tolist()
    jobs = [(level, t, dose) for level, t in zip(levels, times) for dose in doses]
    rows: list[EffectRow] = []
    images_of: dict[float, list[dict[str, Tensor]]] = {}  # level -> change of every reading by dose, (N,) each
    plain: dict[str, Tensor] = {}
    for level, t, dose in progress(jobs):
        if level not in images_of:
            plain, images_of[level] = bench.run(t, None), []
        runs = [bench.run(t, edit) for edit in INTERVENTIONS[kind](bench, vectors, level, t, dose)]
        effects = [_effects(plain, run, bench.weights) for run in runs]
        control = {name: [effect[name].value for effect in effects[1:]] for name in plain}
        rows.append(EffectRow(level, t, dose, effects[0], control))
        images_of[level].append({name: runs[0][name] - plain[name] for name in plain if name != "loss"})
    slopes = () if kind == "ablate" else (_slopes(one, doses, rows, images_of[one], bench.weights) for one in levels)
    return InterventionResult(
        denoiser.name, layer, kind, direction, probe_set.target, len(images), seed, list(levels), list(doses), controls,
        bench.later, vector.norm().item(), tuple(rows), tuple(slopes), denoiser.sha256 or None,
    )  # fmt: skip


def _slopes(
    level: float, doses: Sequence[float], rows: Sequence[EffectRow], changes: list[dict[str, Tensor]], weights: Tensor
) -> SlopeRow:
    """Change of every quantity per unit of dose at one level."""
    dose = torch.tensor(doses, dtype=torch.float64)
    here = [row for row in rows if row.logsnr == level]
    found = {}
    for name in changes[0]:
        by_image = torch.stack([change[name] for change in changes], 1)  # (N, doses)
        slope = image_mean(by_image @ dose / dose.square().sum(), weights)
        random = torch.tensor([row.control[name] for row in here], dtype=torch.float64)  # (doses, controls)
        others = (dose @ random / dose.square().sum()).tolist()
        order = [change for _, change in sorted([(0.0, 0.0), *zip(doses, by_image.mean(0).tolist())])]
        steps = [after - before for before, after in itertools.pairwise(order)]
        monotonic = min(steps) > 0 or max(steps) < 0
        larger = abs(slope.value) > max(map(abs, others))
        found[name] = Slope(slope, others, monotonic, larger)
    return SlopeRow(level, found)


def _steering(bench: _Bench, vectors: list[Tensor], level: float, t: float, dose: float) -> list[Edit]:
    return [steer(dose * vector) for vector in vectors]


def _patching(bench: _Bench, vectors: list[Tensor], level: float, t: float, dose: float) -> list[Edit]:
    [source] = level_times(bench.denoiser.schedule, [level + dose]).tolist()
    other = bench.activation(source)
    return [patch(vector, other) for vector in vectors]


def _ablating(bench: _Bench, vectors: list[Tensor], level: float, t: float, dose: float) -> list[Edit]:
    # The center is the layer's mean over images at all stages: what is ablated are differences between noise levels.
    means = [VIEWS["mean"](bench.activation(time)).double().mean(0) for time in _stage_times(bench)]
    center = torch.stack(means).mean(0).cpu()
    return [ablate(vector, float(center @ (vector / vector.norm()))) for vector in vectors]


def _stage_times(bench: _Bench) -> list[float]:
    return level_times(bench.denoiser.schedule, STAGES).tolist()


# kind -> function of (bench, the direction and its controls, level, t, dose) that returns an edit for each of them
INTERVENTIONS: dict[str, Callable[[_Bench, list[Tensor], float, float, float], list[Edit]]] = {
    "steer": _steering,
    "patch": _patching,
    "ablate": _ablating,
}
RENAMED = {"swap": "patch", "erase": "ablate"}  # old name -> new name


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


@dataclass(frozen=True)
class FollowedRow(Stored):
    """Slopes of one layer's implied noise level on the true and on the given level, over images.

    ``grid`` is the mean probe prediction by true (rows) and given level; None in metrics.json.
    """

    name: str
    true: Interval
    given: Interval
    grid: list[list[float]] | None = None


@dataclass(frozen=True)
class GivenVsTrueResult(Rounded):
    """How much each layer depends on the true and on the given noise level; attributes as in :class:`InterventionResult`."""

    model: str
    target: str
    levels: list[float]
    images: int
    seed: int
    layers: tuple[FollowedRow, ...]
    sha256: str | None = None
    data: str | None = None


LIE_LEVELS = (-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0)


@torch.no_grad()
def given_vs_true(
    denoiser: Denoiser,
    probe_set: ProbeSet,
    images: Tensor,
    *,
    levels: Sequence[float] = LIE_LEVELS,
    seed: int = 0,
    progress: Callable[[Any], Any] = lambda jobs: jobs,
) -> GivenVsTrueResult:
    """Evaluates a network at every pair of a true and a given noise level: which one does each layer follow?

    The probes are those fitted with the true t as input, so they use every source of the noise level, the image or the given
    t. The slopes of the implied noise level on the true and on the given level say how much a layer depends on each.

    Args:
        denoiser: The model.
        probe_set: Its probes.
        images: Held-out images, uint8 or float (N, C, H, W).
        levels: True and given levels, values of logsnr.
        seed: Seed of the noise.
        progress: Wraps the list of true levels, as tqdm does.
    """
    levels = real_numbers("each of levels", levels)
    note_few_images(len(images))
    x0 = to_float(images) if images.dtype == torch.uint8 else images.float()
    seeds, names = seed_range(seed, len(images)), probe_set.layers("mean")
    weights = poisson_weights(range(len(images)))
    times = level_times(denoiser.schedule, levels).tolist()
    # Slopes on centered levels, per image. Every pair of levels occurs, so the two slopes are independent.
    values = target_values(probe_set.target, denoiser.schedule, levels)
    centered = (values - values.mean()) / (values - values.mean()).square().sum() / len(values)
    slopes = {name: {"true": torch.zeros(len(images)).double(), "given": torch.zeros(len(images)).double()} for name in names}
    grids = {name: torch.zeros(len(levels), len(levels), dtype=torch.float64) for name in names}
    with capture(denoiser, names) as cache:
        for row, t in enumerate(progress(times)):
            xt = add_noise(x0, keyed_noise(seeds, denoiser.shape), t, denoiser.schedule)
            for column, given in enumerate(times):
                denoiser.output(xt, given)
                for name in names:
                    reading = probe_set.probe(name, "mean", "true").predict(VIEWS["mean"](cache[name]).cpu())
                    slopes[name]["true"] += centered[row] * reading
                    slopes[name]["given"] += centered[column] * reading
                    grids[name][row, column] = reading.mean()
    rows = (
        FollowedRow(name, image_mean(slope["true"], weights), image_mean(slope["given"], weights), grids[name].tolist())
        for name, slope in slopes.items()
    )
    settings = (denoiser.name, probe_set.target, list(levels), len(images), seed)
    return GivenVsTrueResult(*settings, tuple(rows), denoiser.sha256 or None)
