"""Two-stage baseline: t is estimated from the image, and the conditioned model is given the estimate.

It separates two reasons why a time-agnostic model can be worse: that t cannot be read from the image, and that its capacity is
spent on reading t. Beside it stands what not knowing t costs exactly, under a Gaussian fitted to the training images.
Depends on bayes, data, denoiser, probes, progress, results, seeds, statistics, and learning of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from explore import bayes, probes
from explore.data import add_noise, images_for, to_float
from explore.denoiser import Denoiser
from explore.evaluation.learning import target_at
from explore.probes import ProbeSet
from explore.progress import Watch, quiet
from explore.results import Stored
from explore.seeds import noise_draw
from explore.statistics import Interval, crossed_ratio

STAGE_LEVELS = (0.025, 0.075, 0.175, 0.275, 0.525, 0.775, 0.875, 0.925, 0.975)
LEAST_T = 1e-3  # estimates are held in [LEAST_T, 1 - LEAST_T]
TRUE_T, AGNOSTIC, POSTERIOR, EXACT = "true t", "time-agnostic model", "exact posterior", "exact cost"
PART = 64

Estimator = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class StageRow(Stored):
    """Held-out loss at one t with one source of t.

    Attributes:
        t: The true noise level.
        source: What the conditioned model is given: ``true t``, or the estimate of a probe of the time-agnostic model
            (``probe``), of a baseline or of the ``exact posterior``. ``time-agnostic model`` is given nothing. ``exact cost``
            is no trained model: the squared distance between the best conditioned and the best time-agnostic network.
        loss: Mean squared error of the network's output per value; for ``exact cost`` that squared distance.
        relative: ``loss`` minus that with the true t (``exact cost``: the cost itself), over the loss with the true t.
        error: Root mean squared error of the estimate in log SNR; None where nothing is estimated.
    """

    t: float
    source: str
    loss: float
    relative: Interval
    error: float | None = None


@dataclass(frozen=True)
class TwoStageResult(Stored):
    """Rows by t and source, on ``images`` held-out images crossed with ``noise_draws`` noise draws.

    Attributes:
        prior: Of the images, for the exact posterior and the exact cost; empty if no Gaussian is fitted to the data set.
    """

    data: str
    prediction: str
    images: int
    noise_draws: int
    seed: int
    prior: str
    rows: tuple[StageRow, ...]


def estimators(agnostic: Denoiser, probe_set: ProbeSet, gaussian: bayes.DiagonalGaussian | None) -> dict[str, Estimator]:
    """Name -> function of noisy images (B, C, H, W) that gives log SNR (B,), float64.

    Args:
        agnostic: The time-agnostic model.
        probe_set: Its probes, which read log SNR; baselines among them.
        gaussian: Prior for the posterior mean; none is given if it is None.
    """
    schedule = agnostic.schedule

    def probe(xt: Tensor) -> Tensor:
        with probe_set.follow(agnostic) as readings:
            agnostic.output(xt, 0.5)
        return readings[0].double()

    found: dict[str, Estimator] = {"probe": probe}
    for name, features in probes.BASELINES.items():
        if ("any", "input", name) in probe_set.probes:
            ridge = probe_set.probes["any", "input", name]
            found[name] = lambda xt, ridge=ridge, features=features: ridge.predict(features(xt, schedule)).double()  # type: ignore[misc]
    if gaussian is not None:
        levels = bayes.Levels.spaced(schedule, gaussian.dimension, gaussian.energy)
        found[POSTERIOR] = lambda xt: (read := bayes.posterior(gaussian, xt, levels)).mean(schedule.logsnr(read.levels.t))
    return found


@torch.no_grad()
def two_stage(
    members: Sequence[Denoiser],
    probe_set: ProbeSet,
    data: str,
    count: int = 200,
    noise_draws: int = 2,
    seed: int = 0,
    gaussian: bayes.DiagonalGaussian | None = None,
    levels: Sequence[float] = STAGE_LEVELS,
    watch: Watch = quiet,
) -> TwoStageResult:
    """Held-out loss of the conditioned model with the true and with estimated t, beside the time-agnostic model.

    All get the same images and noise, so that differences are paired. The probes were fitted to other noise, but may have
    been fitted to some of the same images.

    Args:
        members: The conditioned and the time-agnostic model.
        probe_set: Probes of the time-agnostic model for log SNR.
        data: Source of images; its ``test`` split is used.
        count: Images, at most.
        noise_draws: Noises for each image.
        seed: First seed of the noise.
        gaussian: Fitted to the training images, for the exact posterior and the exact cost. The cost is that of images
            drawn from it, as many as there are images, with t uniform.
        levels: Values of t.
        watch: Shows progress, see :mod:`explore.progress`.

    Raises:
        ValueError: If the probes do not read log SNR.
    """
    if probe_set.target != "logsnr":
        raise ValueError(f"the probes must read logsnr, not {probe_set.target}: fit them with --target logsnr")
    conditioned, agnostic = members
    clean = to_float(images_for(conditioned, data, "test", enlarge=False)[:count])
    sources = estimators(agnostic, probe_set, gaussian)
    rows: list[StageRow] = []
    for t in watch(list(levels), unit="level"):
        true = conditioned.schedule.logsnr(torch.tensor(t, dtype=torch.float64))
        losses: dict[str, list[Tensor]] = {name: [] for name in (TRUE_T, *sources, AGNOSTIC)}
        errors: dict[str, list[Tensor]] = {name: [] for name in sources}
        for draw in range(noise_draws):
            eps = noise_draw(seed, draw, len(clean), conditioned.shape)
            parts: dict[str, list[Tensor]] = {name: [] for name in losses}
            for x0, noise in zip(clean.split(PART), eps.split(PART)):
                xt, target = add_noise(x0, noise, t, conditioned.schedule), target_at(conditioned, x0, noise, t)
                parts[TRUE_T].append(_loss(conditioned, xt, t, target))
                parts[AGNOSTIC].append(_loss(agnostic, xt, 0.5, target))
                for name, estimate in sources.items():
                    logsnr = estimate(xt)
                    given = conditioned.schedule.t_from_logsnr(logsnr).clamp(LEAST_T, 1 - LEAST_T).float()
                    parts[name].append(_loss(conditioned, xt, given, target))
                    errors[name].append((logsnr - true).square())
            for name, found in parts.items():
                losses[name].append(torch.cat(found))
        reference = torch.stack(losses[TRUE_T], 1)
        for name, columns in losses.items():
            loss = torch.stack(columns, 1)
            error = torch.cat(errors[name]).mean().sqrt().item() if name in errors else None
            rows.append(StageRow(t, name, loss.mean().item(), crossed_ratio(loss - reference, reference), error))
        if gaussian is not None:
            cost = exact_cost(gaussian, conditioned, t, len(clean), noise_draws, seed)
            rows.append(StageRow(t, EXACT, cost.mean().item(), crossed_ratio(cost, reference)))
    prior = gaussian.prior if gaussian is not None else ""
    return TwoStageResult(data, conditioned.prediction, len(clean), noise_draws, seed, prior, tuple(rows))


@torch.no_grad()
def exact_cost(
    gaussian: bayes.DiagonalGaussian, denoiser: Denoiser, t: float, count: int, noise_draws: int = 1, seed: int = 0
) -> Tensor:
    """What not knowing t costs at t, under a Gaussian: (count, noise_draws), per value of an image, float64.

    The excess loss of the best time-agnostic network is the squared distance of its output to that of the best conditioned
    one, since the latter is the mean of the target given the noisy image and t.

    Args:
        gaussian: Prior of the images, which are drawn from it.
        denoiser: Its schedule, prediction and shape are used.
        t: Noise level.
        count: Images.
        noise_draws: Noises for each image.
        seed: Of images and noise.
    """
    levels = bayes.Levels.spaced(denoiser.schedule, gaussian.dimension, gaussian.energy)
    told, blind = (
        bayes.bayes_denoiser(gaussian, levels, denoiser.prediction, denoiser.shape, hidden=hidden) for hidden in (None, (0, 1))
    )
    generator = torch.Generator().manual_seed(seed)
    x0 = gaussian.to_images(gaussian.draw(count, generator), denoiser.shape)
    columns = []
    for _ in range(noise_draws):
        eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
        xt = add_noise(x0, eps, t, denoiser.schedule)
        found = [(told.output(part, t) - blind.output(part, t)).square().mean((1, 2, 3)) for part in xt.split(PART)]
        columns.append(torch.cat(found).double())
    return torch.stack(columns, 1)


def _loss(denoiser: Denoiser, xt: Tensor, t: Tensor | float, target: Tensor) -> Tensor:
    return (denoiser.output(xt, t) - target).square().mean((1, 2, 3)).double()
