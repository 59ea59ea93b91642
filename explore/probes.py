"""Linear readouts of the noise level from activations, fitted from streamed sums, and what makes them believable.

The noise level takes few values, so the sums of :class:`explore.activations.Statistics` hold all that ridge regression and
linear discriminants need for any target, any penalty and any grouping of the folds they were kept in. Every error is that
of a probe on images that it was not fitted to. Ridge after Hoerl and Kennard (1970); the control task after Hewitt and
Liang, arXiv 1909.03368; the bootstrap over images after Efron (1979), with Poisson weights, which can be summed up.
Depends on activations, bayes, data, denoiser, samplers, schedules, zoo.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from explore import bayes, files, zoo
from explore.activations import (
    FOLDS,
    LOGSNR_LEVELS,
    SUMMED,
    VIEWS,
    Batch,
    HookPoint,
    Statistics,
    Sums,
    hook_points,
    hooks,
    independent_clock,
    inner,
    level_times,
    statistics,
    sweep,
)  # fmt: skip
from explore.data import to_float
from explore.denoiser import Denoiser, misled
from explore.samplers import MAX_STEPS, SAMPLERS, Step, check_options
from explore.schedules import SCHEDULES, Schedule
from explore.seeds import check_seeds, keyed_noise
from explore.values import Note, choose, real_number, real_numbers, whole_number

PENALTIES = tuple(10.0**k for k in range(-10, 1))
BINS = 11  # classes of the classifier: three of the 33 levels each
CONTROLS = 10  # control tasks that are averaged
DRAWS = 200  # of the bootstrap
INTERVAL_IMAGES = 10  # of fewer, one of 200 draws is likely to hold none, and the rest says little
READER_SPACING = 0.025  # of log SNR, half the narrowest posterior of 3072 values


@dataclass(frozen=True)
class Target:
    """What is read of the noise level.

    Attributes:
        values: (schedule, t (L,)) -> (L,).
        slope: Its derivative in t.
    """

    values: Callable[[Schedule, Tensor], Tensor]
    slope: Callable[[Schedule, Tensor], Tensor]


TARGETS: dict[str, Target] = {
    "logsnr": Target(
        lambda schedule, t: schedule.logsnr(t),
        lambda schedule, t: 2 * (schedule.dalpha(t) / schedule.alpha(t) - schedule.dsigma(t) / schedule.sigma(t)),
    ),
    "log_sigma": Target(
        lambda schedule, t: schedule.sigma(t).log(), lambda schedule, t: schedule.dsigma(t) / schedule.sigma(t)
    ),
    "t": Target(lambda schedule, t: t, lambda schedule, t: torch.ones_like(t)),
}


def target_values(target: str, schedule: Schedule, levels: Sequence[float]) -> Tensor:
    """The target at every level of logsnr, float64 (L,).

    Raises:
        ValueError: For an unknown target, or a level that the schedule does not reach.
    """
    choose("target", target, TARGETS)
    return TARGETS[target].values(schedule, level_times(schedule, levels))


# Probes: fitted from sums -------------------------------------------------------------------------------------------------


class _Ridge:
    """Normal equations of standardised features for several targets (L, T), diagonalised once for every penalty."""

    def __init__(self, sums: Sums, values: Tensor) -> None:
        count, total, gram = sums.count, sums.total, sums.gram
        rows = count.sum()
        self.mean = total.sum(0) / rows  # (D,)
        self.target_mean = (count @ values) / rows  # (T,)
        covariance = gram / rows - torch.outer(self.mean, self.mean)
        variance = covariance.diagonal().clamp(min=0)
        # A feature that never changes (a dead channel) is left out, as dividing by its rounding error would not do.
        alive = variance > 1e-12 * (gram.diagonal() / rows)
        self.scale = torch.where(alive, variance.sqrt(), torch.inf)
        self.cross = total.T @ values / rows - torch.outer(self.mean, self.target_mean)  # (D, T)
        self.eigenvalues, self.vectors = torch.linalg.eigh(covariance / torch.outer(self.scale, self.scale))
        self.rotated = self.vectors.T @ (self.cross / self.scale[:, None])
        self.target_variance = count @ values.square() / rows - self.target_mean.square()

    def solve(self, penalties: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients (D, T) for features as they are and intercepts (T,), of a penalty for each target."""
        weights = self.vectors @ (self.rotated / (self.eigenvalues.clamp(min=0)[:, None] + penalties))
        coefficients = weights / self.scale[:, None]
        return coefficients, self.target_mean - self.mean @ coefficients


def squared_error(sums: Sums, values: Tensor, coefficients: Tensor, intercept: Tensor) -> Tensor:
    """Sum over rows of (value - features . coefficients - intercept)^2, from their sums; float64 (T,), one for each target.

    Args:
        sums: Of the rows.
        values: (L, T).
        coefficients: (D, T).
        intercept: (T,).
    """
    rest = values - intercept  # (L, T)
    mixed = (rest * (sums.total @ coefficients)).sum(0)
    return sums.count @ rest.square() - 2 * mixed + (coefficients * (sums.gram @ coefficients)).sum(0)


def _check_values(statistics: Statistics, values: Tensor) -> Tensor:
    if values.shape[:1] != statistics.count.shape[1:]:
        raise ValueError(f"values must be one for each of {statistics.count.shape[1]} levels, got {tuple(values.shape)}")
    if sum(bool(fold.sum() > 0) for fold in statistics.count) < 2:
        raise ValueError("cross-validation needs rows of at least two folds: give more images, such as by --split all")
    return values.double()


class RidgeProbe:
    """Ridge regression of a function of the noise level on standardised features.

    Equal to scikit-learn's ``StandardScaler`` and ``Ridge(alpha=penalty * rows)`` on the same rows; the penalty is the one
    with the smallest squared error over the folds, as ``GroupKFold`` gives it on the same folds.

    Args:
        penalties: Candidates, per row, positive.

    Attributes:
        penalty_: The one chosen.
        errors_: Mean squared error over the folds for each of ``penalties``, float64.
        coef_: float64 (D,), for features as they are.
        intercept_: A number.
        pattern_: float64 (D,), by how much features change with one unit of the target: the regression the other way
            round, which says where the signal lies (Haufe et al., 2014), as ``coef_`` does not.
        fold_coef_, fold_intercept_: (K, D) and (K,), fitted without fold k.
        held_out_error_: (L,), root mean square error by level on images it was not fitted to, once measured; 0 before.
    """

    penalty_: float
    errors_: Tensor
    coef_: Tensor
    intercept_: float
    pattern_: Tensor
    fold_coef_: Tensor
    fold_intercept_: Tensor
    held_out_error_: Tensor

    def __init__(self, penalties: Sequence[float] = PENALTIES) -> None:
        self.penalties = penalties

    def fit(self, statistics: Statistics, values: Tensor) -> RidgeProbe:
        """Fits the target that takes ``values`` (L,) at the levels.

        Raises:
            ValueError: For a penalty that is not positive, values of the wrong number, or fewer than two folds with rows.
        """
        [self.__dict__] = [vars(probe) for probe in fit_ridge(statistics, values[:, None], self.penalties)]
        return self

    def predict(self, features: Tensor) -> Tensor:
        """(N, D) -> (N,), float64.

        Raises:
            ValueError: If the features are not as many as it was fitted to.
        """
        if features.shape[-1] != len(self.coef_):
            raise ValueError(
                f"the probe reads {len(self.coef_)} features, here are {features.shape[-1]}: it was fitted to another model"
            )
        return features.double() @ self.coef_.to(features.device) + self.intercept_

    def predict_held_out(self, features: Tensor, fold: Tensor) -> Tensor:
        """(N, D) of the folds (N,) -> (N,), each by the probe that was fitted without its fold."""
        every = features.double().cpu() @ self.fold_coef_.T + self.fold_intercept_  # (N, K)
        return every.gather(1, fold[:, None])[:, 0]

    def score(self, statistics: Statistics, values: Tensor) -> float:
        """R^2 over all rows that ``statistics`` sums up."""
        sums, values = statistics.pooled(), values.double()[:, None]
        error = squared_error(sums, values, self.coef_[:, None], torch.tensor([self.intercept_]))
        return float(1 - error / _Ridge(sums, values).target_variance / sums.count.sum())


def fit_ridge(statistics: Statistics, values: Tensor, penalties: Sequence[float] = PENALTIES) -> list[RidgeProbe]:
    """A RidgeProbe for each column of ``values`` (L, T), for little more than the price of one; errors as in its ``fit``."""
    if not penalties or min(penalties) <= 0:
        raise ValueError(f"penalties must be positive, got {list(penalties)}")
    values = _check_values(statistics, values)
    folds, (_, features), targets = len(statistics.count), statistics.total.shape[1:], values.shape[1]
    filled = [k for k in range(folds) if statistics.count[k].sum() > 0]
    without = {k: _Ridge(statistics.pooled(without=k), values) for k in filled}
    squares = torch.zeros(len(penalties), targets, dtype=torch.float64)
    for k, rest in without.items():
        for number, penalty in enumerate(penalties):
            squares[number] += squared_error(statistics.fold(k), values, *rest.solve(torch.full((targets,), penalty)))
    chosen = squares.argmin(0)
    best = torch.tensor(penalties, dtype=torch.float64)[chosen]  # (T,)
    whole = _Ridge(statistics.pooled(), values)
    coefficients, intercept = whole.solve(best)
    patterns = whole.cross / whole.target_variance
    fold_coef, fold_intercept = torch.zeros(folds, features, targets), torch.zeros(folds, targets)
    fold_coef, fold_intercept = fold_coef.double(), fold_intercept.double()
    for k, rest in without.items():
        fold_coef[k], fold_intercept[k] = rest.solve(best)
    probes = []
    for number in range(targets):
        probe = RidgeProbe(penalties)
        probe.penalty_, probe.errors_ = penalties[int(chosen[number])], squares[:, number] / statistics.count.sum()
        probe.coef_, probe.intercept_ = coefficients[:, number], float(intercept[number])
        probe.pattern_, probe.held_out_error_ = patterns[:, number], torch.zeros(len(values), dtype=torch.float64)
        probe.fold_coef_, probe.fold_intercept_ = fold_coef[:, :, number], fold_intercept[:, number]
        probes.append(probe)
    return probes


class LevelClassifier:
    """Linear discriminant analysis over bins of the noise level, each bin the same number of neighbouring levels.

    Equal to scikit-learn's ``StandardScaler`` and ``LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)``.

    Args:
        bins: Number of bins, at least 2.
        shrinkage: Of the covariance within bins towards a multiple of the identity, in (0, 1].

    Attributes:
        bin_: int64 (L,), the bin of every level.
        coef_, intercept_: float64 (D, bins) and (bins,), for features as they are.
        fold_coef_, fold_intercept_: (K, D, bins) and (K, bins), fitted without fold k.
    """

    bin_: Tensor
    coef_: Tensor
    intercept_: Tensor
    fold_coef_: Tensor
    fold_intercept_: Tensor

    def __init__(self, bins: int = BINS, shrinkage: float = 1e-3) -> None:
        self.bins, self.shrinkage = bins, shrinkage

    def fit(self, statistics: Statistics, values: Tensor) -> LevelClassifier:
        """Fits bins of the target that takes ``values`` (L,) at the levels.

        Raises:
            ValueError: For fewer than 2 bins or more than levels, a shrinkage out of range, or as :class:`RidgeProbe`.
        """
        if not 2 <= self.bins <= len(values) or not 0 < self.shrinkage <= 1:
            raise ValueError(
                f"bins must be from 2 to the {len(values)} levels and shrinkage in (0, 1], got {self.bins} and {self.shrinkage}"
            )
        values = _check_values(statistics, values)
        self.bin_ = values.argsort().argsort() * self.bins // len(values)
        self.coef_, self.intercept_ = self._solve(statistics.pooled())
        folds = [
            self._solve(statistics.pooled(without=k)) if statistics.count[k].sum() > 0 else (self.coef_, self.intercept_)
            for k in range(len(statistics.count))
        ]
        self.fold_coef_, self.fold_intercept_ = (torch.stack(parts) for parts in zip(*folds))
        return self

    def _solve(self, sums: Sums) -> tuple[Tensor, Tensor]:
        belongs = torch.nn.functional.one_hot(self.bin_, self.bins).double()  # (L, bins)
        count = belongs.T @ sums.count  # (bins,)
        means = belongs.T @ sums.total / count[:, None]  # (bins, D)
        rows = count.sum()
        centre = (count / rows) @ means
        variance = (sums.gram.diagonal() / rows - centre.square()).clamp(min=0)
        scale = torch.where(variance > 1e-12 * sums.gram.diagonal() / rows, variance.sqrt(), torch.inf)
        within = (sums.gram - means.T @ (count[:, None] * means)) / rows / torch.outer(scale, scale)
        size = within.diagonal().mean()
        shrunk = (1 - self.shrinkage) * within + self.shrinkage * size * torch.eye(len(within), dtype=torch.float64)
        offset = (means - centre) / scale  # (bins, D), standardised means
        weights = torch.linalg.solve(shrunk, offset.T)  # (D, bins)
        intercept = (count / rows).log() - 0.5 * (offset.T * weights).sum(0)
        coefficients = weights / scale[:, None]
        return coefficients, intercept - centre @ coefficients

    def decision(self, features: Tensor) -> Tensor:
        """(N, D) -> log probabilities of the bins up to a constant of each row, (N, bins)."""
        return features.double() @ self.coef_.to(features.device) + self.intercept_.to(features.device)

    def predict_proba(self, features: Tensor) -> Tensor:
        """(N, D) -> (N, bins), float64."""
        return self.decision(features).softmax(1)

    def predict(self, features: Tensor) -> Tensor:
        """(N, D) -> (N,), the most probable bin, int64."""
        return self.decision(features).argmax(1)

    def predict_held_out(self, features: Tensor, fold: Tensor) -> Tensor:
        """(N, D) of the folds (N,) -> (N,), each by the classifier that was fitted without its fold."""
        every = torch.einsum("nd,kdb->nkb", features.double().cpu(), self.fold_coef_) + self.fold_intercept_
        return every[torch.arange(len(fold)), fold].argmax(1)

    def score(self, features: Tensor, levels: Tensor) -> float:
        """Share of rows (N, D) of ``levels`` (N,) whose bin is found."""
        return float((self.predict(features) == self.bin_[levels]).double().mean())


def control_values(values: Tensor, seed: int = 0) -> Tensor:
    """The control task: every level keeps its rows and gets the value of another level, at random.

    A probe that scores on it as well as on the true values reads what identifies a level, not its order.
    """
    return values[torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))]


# What could explain a probe away: readers of the picture itself, and networks that learned nothing ------------------------


def variance_features(xt: Tensor, schedule: Schedule) -> Tensor:
    """Variance over all values of a picture, its root and its logarithm: (B, 3)."""
    variance = xt.flatten(1).var(1).clamp_min(1e-12)
    return torch.stack([variance, variance.sqrt(), variance.log()], 1)


def band_features(xt: Tensor, schedule: Schedule, bands: int = 8) -> Tensor:
    """Logarithms of the mean power in rings of spatial frequency and their squares, (B, 16)."""
    height, width = xt.shape[-2:]
    power = torch.fft.rfft2(xt.float(), norm="ortho").abs().square().mean(1).flatten(1)  # (B, F)
    radius = (torch.fft.fftfreq(height)[:, None].square() + torch.fft.rfftfreq(width)[None].square()).sqrt().flatten()
    ring = (radius / 0.5 * bands).long().clamp(max=bands - 1)
    weights = torch.nn.functional.one_hot(ring, bands).float()
    energy = (power @ weights / weights.sum(0).clamp_min(1)).clamp_min(1e-12).log()
    return torch.cat([energy, energy.square()], 1)


def wavelet_features(xt: Tensor, schedule: Schedule) -> Tensor:
    """Noise by the median absolute deviation of the finest wavelet detail: the logsnr it implies, sigma and log sigma, (B, 3).

    Source: Donoho and Johnstone (1994), as scikit-image's ``estimate_sigma``.
    """
    from skimage.restoration import estimate_sigma

    pictures = xt.permute(0, 2, 3, 1).double().numpy()
    sigma = torch.tensor([estimate_sigma(one, average_sigmas=True, channel_axis=-1) for one in pictures]).clamp(1e-4, 0.9999)
    logsnr = schedule.logsnr(schedule.t_from_sigma(sigma)).clamp(-12, 12)
    return torch.stack([logsnr, sigma, sigma.log()], 1)


# Features of a noisy picture (B, C, H, W) alone, (B, D); a ridge probe is fitted to them as to those of a layer.
BASELINES: dict[str, Callable[[Tensor, Schedule], Tensor]] = {
    "variance": variance_features,
    "band energies": band_features,
    "wavelet MAD": wavelet_features,
}


def gaussian_features(gaussian: bayes.DiagonalGaussian, schedule: Schedule, levels: Sequence[float]) -> Callable[..., Tensor]:
    """Mean and spread of logsnr under the exact posterior of ``gaussian`` with the levels equally likely, (B, 2)."""
    points = bayes.Levels.points(schedule, level_times(schedule, levels))
    logsnr = schedule.logsnr(points.t)

    def features(xt: Tensor, schedule: Schedule) -> Tensor:
        read = bayes.posterior(gaussian, xt, points)
        return torch.stack([read.mean(logsnr), read.std(logsnr)], 1)

    return features


def redrawn(denoiser: Denoiser, seed: int = 0) -> Denoiser:
    """The same architecture with parameters drawn anew: what is readable without any learning.

    Every layer is initialised as PyTorch initialises it, also those that training begins with zeros, as a network whose
    blocks add nothing would be too weak an opponent; parameters without an initialiser of their own are Gaussian.
    """
    network = copy.deepcopy(inner(denoiser))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for module in network.modules():
            reset: Any = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
            else:
                for parameter in module.parameters(recurse=False):
                    parameter.normal_(std=0.02)
    return Denoiser(network, denoiser.schedule, denoiser.prediction, denoiser.shape, f"{denoiser.name}, drawn anew")


@torch.no_grad()
def hears(denoiser: Denoiser) -> bool:
    """Whether the network's output depends on the t it is given."""
    device = denoiser.device
    xt = keyed_noise([0], denoiser.shape).to(device)
    early, late = (denoiser.output(xt, t) for t in (0.2, 0.8))
    return not torch.equal(early, late)


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


# How well a layer tells the noise level ----------------------------------------------------------------------------------


class Errors:
    """Errors of held-out predictions by level, with a bootstrap over images, as sums that rows do not add memory to."""

    NAMES = ("rows", "error", "square", "hit")

    def __init__(self, values: Tensor, draws: int = DRAWS) -> None:
        """Takes the target's ``values`` (L,) and the number of bootstrap draws."""
        self.values = values.double()
        self.sums = torch.zeros(len(values), draws + 1, len(self.NAMES), dtype=torch.float64)

    def add(self, image: Tensor, level: int, predicted: Tensor, hit: Tensor) -> None:
        """Takes predictions and whether the bin was found, (B,) or (B P,), of ``image`` (B,) at one level."""
        error = (predicted - self.values[level]).unflatten(0, (len(image), -1))  # (B, P)
        hits = hit.double().unflatten(0, (len(image), -1))
        rows = torch.stack([torch.ones_like(error), error, error.square(), hits], 2).sum(1)  # (B, 4)
        weights = poisson_weights(tuple(image.tolist()), self.sums.shape[1] - 1)  # (B, draws + 1)
        self.sums[level] += weights.T @ rows

    def rms(self, chosen: Tensor) -> Tensor:
        """Root mean square error over the levels where ``chosen`` (L,) is true, of the estimate and each draw (1 + draws,)."""
        return (self.sums[chosen, :, 2].sum(0) / self.sums[chosen, :, 0].sum(0)).sqrt()

    def result(self) -> dict[str, Any]:
        """R^2, accuracy and, by level, bias, std and error, each with the interval that holds 95 % of the draws.

        The draws resample images, with the probes as they are.
        """
        rows, error, square, hit = self.sums.unbind(2)  # (L, draws + 1)
        bias = error / rows
        spread = (square / rows - bias.square()).clamp_min(0).sqrt()
        centre = self.values @ rows / rows.sum(0)
        r2 = 1 - square.sum(0) / (rows * (self.values[:, None] - centre).square()).sum(0)
        found: dict[str, Any] = {"r2": r2[0].item(), "r2_interval": _interval(r2)}
        found |= {"accuracy": (hit.sum(0) / rows.sum(0))[0].item(), "accuracy_interval": _interval(hit.sum(0) / rows.sum(0))}
        for name, values in (("bias", bias), ("std", spread), ("error", (square / rows).sqrt())):
            found[name] = values[:, 0].tolist()
            found[f"{name}_interval"] = [_interval(row) for row in values]
        return found


@functools.lru_cache(maxsize=4)  # every layer and level of a batch asks for the same ones
def poisson_weights(images: tuple[int, ...], draws: int) -> Tensor:
    """(B, 1 + draws): of each image 1 for the estimate, then Poisson(1) for each draw, the same in every run and process."""
    generators = (np.random.Generator(np.random.Philox(np.random.SeedSequence([2, image]))) for image in images)
    return torch.from_numpy(np.stack([np.concatenate([[1.0], generator.poisson(1.0, draws)]) for generator in generators]))


def note_few_images(count: int) -> None:
    """Says that intervals over so few images mean little; a draw of the bootstrap may hold none of them."""
    if count < INTERVAL_IMAGES:
        warnings.warn(
            f"intervals over images need at least {INTERVAL_IMAGES} images, here are {count}: those that cannot be computed "
            "are empty (null in JSON), and the others are too narrow",
            Note,
            stacklevel=3,
        )


def _interval(draws: Tensor) -> list[float]:
    """Of the estimate and its draws (1 + draws,)."""
    return torch.quantile(draws[1:], torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()


@dataclass
class Measured:
    """Probes of every layer and view of one network, and how well they read images that they were not fitted to.

    Attributes:
        probes: (layer, view) -> RidgeProbe, fitted to all images.
        errors: (layer, view) -> Errors.
        results: (layer, view) -> what :meth:`Errors.result` gives, with ``r2_control`` (mean over control tasks),
            ``selectivity`` (R^2 minus that) and ``r2_shuffled`` (levels dealt out anew).
    """

    probes: dict[tuple[str, str], RidgeProbe] = field(default_factory=dict)
    errors: dict[tuple[str, str], Errors] = field(default_factory=dict)
    results: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)


Reduce = Callable[[Tensor], Tensor]


def measure(
    denoiser: Denoiser,
    images: Tensor,
    layers: Sequence[str],
    views: Sequence[str] = ("mean",),
    *,
    target: str = "logsnr",
    levels: Sequence[float] = LOGSNR_LEVELS,
    baselines: dict[str, Callable[[Tensor, Schedule], Tensor]] | None = None,
    reduce: Reduce = lambda sums: sums,
    progress: str = "",
    **settings: Any,
) -> Measured:
    """Fits a probe to every layer and view, then shows the network every image again and reads it by the probe that was
    fitted without its fold.

    Args:
        denoiser: The model.
        images: uint8 or float (N, C, H, W), as for :func:`explore.activations.sweep`.
        layers: Names of hook points.
        views: Keys of ``VIEWS``.
        target: A key of ``TARGETS``.
        levels: Values of logsnr.
        baselines: Name -> features of the noisy picture alone; they are reported as the layer ``input``.
        reduce: Adds a tensor up over processes, each of which has its ``share`` of the images.
        progress: Name of the progress bars; none if empty.
        settings: seed, batch, given and share of the sweep.

    Raises:
        ValueError: For an unknown layer, view or target, a level out of reach, or fewer images than two folds hold.
    """
    values = target_values(target, denoiser.schedule, levels)

    def more(batch: Batch) -> dict[tuple[str, str], Tensor]:
        return {("input", name): f(batch.xt, denoiser.schedule) for name, f in (baselines or {}).items()}

    settings |= {"levels": levels}
    sums = statistics(denoiser, images, layers, views, more=more, progress=progress and f"{progress}, fitted", **settings)
    found, classifiers = Measured(), {}
    controls = torch.stack([values, *(control_values(values, seed) for seed in range(CONTROLS))], 1)  # (L, 1 + controls)
    variance = values.var(unbiased=False)
    for key, own in sums.items():
        for name in SUMMED:
            setattr(own, name, reduce(getattr(own, name)))
        probe, *control = fit_ridge(own, controls)
        r2_control = 1 - torch.stack([other.errors_.min() for other in control]).mean() / variance
        r2_shuffled = 1 - RidgeProbe().fit(own.shuffled(), values).errors_.min() / variance
        found.probes[key] = probe
        found.results[key] = {"r2_control": r2_control.item(), "r2_shuffled": r2_shuffled.item(), "penalty": probe.penalty_}
        classifiers[key] = LevelClassifier(min(BINS, len(values))).fit(own, values)
        found.errors[key] = Errors(values)
    for batch in sweep(denoiser, images, layers, views, progress=progress and f"{progress}, read", **settings):
        for key, features in {**batch.features, **more(batch)}.items():
            fold = (batch.image % FOLDS).repeat_interleave(len(features) // len(batch.image))
            predicted = found.probes[key].predict_held_out(features, fold)
            hit = classifiers[key].predict_held_out(features, fold) == classifiers[key].bin_[batch.level]
            found.errors[key].add(batch.image, batch.level, predicted, hit)
    for key, errors in found.errors.items():
        errors.sums = reduce(errors.sums)
        found.results[key] |= errors.result()
        found.probes[key].held_out_error_ = torch.tensor(found.results[key]["error"], dtype=torch.float64)
        found.results[key]["selectivity"] = found.results[key]["r2"] - found.results[key]["r2_control"]
    return found


# The atlas: every layer at every noise level, with its controls ------------------------------------------------------------

# Where on the path: the headline is the error near the data, as pooled statistics make R^2 near 1 cheap.
REGIONS: dict[str, tuple[float, float]] = {"near the data": (5, 8), "middle": (-1.5, 1.5), "near noise": (-8, -5)}
ATLAS_VIEWS = ("mean", "mean_std")


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
            row["error_over_yardstick_by_region"][name] = [(error[0] / unit).item(), *_interval(error / unit)]
            if other:  # the draws of both weigh the same images alike
                gain = drawn.errors[key].rms(chosen) / error
                row["gain_by_region"][name] = [gain[0].item(), *_interval(gain)]
    return row


def rounded(value: Any) -> Any:
    """``value`` with floats cut to 9 significant digits, in lists to 5: JSON that is read by people and kept in git."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [float(f"{part:.5g}") if isinstance(part, float) else rounded(part) for part in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


class Clock:
    """Fitted probes of one model: they read the implied clock, the noise level a layer believes it is at.

    Attributes:
        model: Name.
        target: A key of ``TARGETS``: what is read.
        schedule: The model's.
        levels: Values of logsnr that the probes were fitted at.
        probes: (given, layer, view) -> RidgeProbe. ``given`` is what the network was told while the probe was fitted:
            ``independent`` of the true t, or ``true``; ``any`` where the network does not hear it, and for the readers of
            the picture alone, whose layer is ``input``.
        best: (layer, view) with the smallest error near the data.
        sha256: Of the model's weights; empty where it is not known.
    """

    def __init__(
        self,
        model: str,
        target: str,
        schedule: Schedule,
        levels: Sequence[float],
        probes: dict[tuple[str, str, str], RidgeProbe],
        best: tuple[str, str],
        sha256: str = "",
    ) -> None:
        self.sha256 = sha256
        self.model, self.target, self.schedule, self.levels = model, target, schedule, list(levels)
        self.probes, self.best = probes, best

    def layers(self, view: str = "mean") -> list[str]:
        """Layers with a probe of ``view``, in the order of evaluation."""
        return list(dict.fromkeys(layer for _, layer, own in self.probes if own == view and layer != "input"))

    def probe(self, layer: str | None = None, view: str | None = None, given: str = "independent") -> RidgeProbe:
        """The probe of a layer, by default the best one.

        Args:
            layer: A hook point.
            view: A key of ``VIEWS``; by default the best one's if no layer is named, else ``mean``.
            given: ``independent`` or ``true``; alike for a network that does not hear the time.

        Raises:
            ValueError: For a layer, view or condition that no probe was fitted to.
        """
        layer, view = (self.best[0], view or self.best[1]) if layer is None else (layer, view or "mean")
        choose("condition", given, ("independent", "true"))
        choose("layer", layer, dict.fromkeys(own for _, own, _ in self.probes))
        choose("view", view, dict.fromkeys(own for _, name, own in self.probes if name == layer))
        return self.probes.get((given, layer, view)) or self.probes["any", layer, view]

    def uncertainty(self, probe: RidgeProbe, reading: float) -> float:
        """Root mean square error on held-out images, where the true value is what was read; between levels, interpolated."""
        values = target_values(self.target, self.schedule, self.levels)
        order = values.argsort()
        return float(np.interp(reading, values[order].numpy(), probe.held_out_error_[order].numpy()))

    @contextlib.contextmanager
    def follow(
        self, denoiser: Denoiser, layer: str | None = None, view: str | None = None, given: str = "independent"
    ) -> Iterator[list[Tensor]]:
        """Reads the clock at every evaluation of the network inside the block.

        Args:
            denoiser: The model that the probes were fitted to; a wrapper around it may be what is evaluated.
            layer: As for :meth:`probe`; so are ``view`` and ``given``.

        Yields:
            A list that grows by the reading of each evaluation, float64 (B,), or (B, P) for ``position``.
        """
        probe = self.probe(layer, view, given)
        layer, view = (self.best[0], view or self.best[1]) if layer is None else (layer, view or "mean")
        readings: list[Tensor] = []
        evaluations: list[bool] = []

        def read(module: nn.Module, inputs: Any, output: Tensor) -> None:
            value = probe.predict(VIEWS[view](output.detach()).cpu())
            value = value.unflatten(0, (len(output), -1)) if view == "position" else value
            readings[len(evaluations) - 1 :] = [value]  # of a module that is called several times, the last

        network = inner(denoiser)
        handle = network.register_forward_pre_hook(lambda *_: evaluations.append(True))
        try:
            with hooks(network, {layer: read}):
                yield readings
        finally:
            handle.remove()

    def save(self, path: Path) -> None:
        """Writes the probes as safetensors, float32, with what they are as JSON in the metadata."""
        tensors, entries = {}, []
        for number, ((given, layer, view), probe) in enumerate(self.probes.items()):
            tensors[f"{number}.coef"], tensors[f"{number}.pattern"] = probe.coef_.float(), probe.pattern_.float()
            tensors[f"{number}.error"] = probe.held_out_error_.float()
            entries.append(
                {"given": given, "layer": layer, "view": view, "intercept": probe.intercept_, "penalty": probe.penalty_}
            )
        about = {
            "model": self.model, "target": self.target, "levels": self.levels, "best": list(self.best), "probes": entries,
            "sha256": self.sha256,
        }  # fmt: skip
        files.save_state(path, tensors, kind="probes", **about)

    @staticmethod
    def read(path: Path, schedule: Schedule) -> Clock:
        """Reads what :meth:`save` wrote.

        Raises:
            ValueError: If the file is missing or is something else.
        """
        if not path.is_file():
            raise ValueError(f"no probes at {path}; `python -m explore probe` makes them")
        tensors, about = files.load_state(path)
        if about.get("kind") != "probes":
            raise ValueError(f"{path} does not hold probes")
        probes = {}
        for number, entry in enumerate(about["probes"]):
            probe = RidgeProbe()
            probe.coef_, probe.pattern_ = (tensors[f"{number}.{name}"].double() for name in ("coef", "pattern"))
            probe.intercept_, probe.penalty_ = entry["intercept"], entry["penalty"]
            probe.held_out_error_ = tensors[f"{number}.error"].double()
            probes[entry["given"], entry["layer"], entry["view"]] = probe
        best = (about["best"][0], about["best"][1])
        return Clock(about["model"], about["target"], schedule, about["levels"], probes, best, about.get("sha256", ""))


def load(model: str, root: Path | None = None) -> Clock:
    """The shipped probes of a model of the zoo, ready to read its implied clock; they need no data.

    Raises:
        ValueError: For an unknown model, or one whose probes are not there or belong to other weights.
    """
    folder = (root or zoo.ROOT) / model
    info = zoo.info(model, root)
    if not (folder / "atlas.json").is_file():
        raise ValueError(f"{model} has no atlas; `python -m explore probe {model} --data SOURCE --out {folder}` makes it")
    if files.read_json(folder / "atlas.json").get("sha256") != info.sha256:
        raise ValueError(f"the atlas of {model} was made of other weights; `python -m explore probe` makes it anew")
    return Clock.read(folder / "probes.safetensors", SCHEDULES[info.schedule])


def clock_stream(
    denoiser: Denoiser,
    clock: Clock,
    seeds: Sequence[int],
    *,
    layers: Sequence[str] | None = None,
    view: str = "mean",
    given: str | Sequence[str] = "independent",
    offset: float = 0.0,
    sampler: str = "heun",
    steps: int = 25,
    **options: Any,
) -> Generator[tuple[Step, dict[str, Any]], None, None]:
    """Samples step by step, and reads the implied clock of layers at every evaluation of the network, beside the true clock.

    While it is suspended its hooks stay on the network: close it before the network is put to other uses.

    Args:
        denoiser: The model.
        clock: Its probes.
        seeds: N seeds, one an image, sampled in one batch.
        layers: Hook points; by default the best one, in the view it is best in.
        view: Of the layers that are named.
        given: Which probes, see :class:`Clock`; several to read each layer by each of them.
        offset: The network is told t plus this, held in [0, 1].
        sampler: A key of ``SAMPLERS``; so are the further ``options`` a sampler's.
        steps: 1 to 1000.

    Yields:
        Each Step of the sampler, and the run so far: ``t`` (E,) of the evaluations in their order, ``target``, ``true``
        (E,), ``told`` (E,), the target's value at what the network was told, ``offset``, and for each layer ``name``,
        ``view``, ``given``, ``mean`` (E,), ``std`` (E,) over the images and ``readings`` (E, N).

    Raises:
        ValueError: For a layer without a probe, or a setting that is out of range.
    """
    check_options(sampler, options)
    seeds, offset = check_seeds(seeds), real_number("the clock's offset", offset, -1, 1)
    if not seeds:
        raise ValueError("seeds must hold at least one seed")
    named: list[tuple[str | None, str | None]] = [(None, None)] if layers is None else [(layer, view) for layer in layers]
    conditions = [given] if isinstance(given, str) else list(given)
    true: list[float] = []

    def note(module: nn.Module, inputs: Any) -> None:
        true.append(float(inputs[1].flatten()[0]))

    def so_far(streams: list[tuple[dict[str, str], list[Tensor]]]) -> dict[str, Any]:
        times = torch.tensor(true, dtype=torch.float64)
        values = TARGETS[clock.target].values
        rows = []
        for label, stream in streams:
            readings = torch.stack(stream) if stream else torch.zeros(0, len(seeds))  # (E, N)
            summary = {"mean": readings.mean(1).tolist(), "std": readings.std(1, unbiased=False).tolist()}
            rows.append({**label, **summary, "readings": readings.tolist()})
        return {
            "target": clock.target, "t": list(true), "true": values(denoiser.schedule, times).tolist(),
            "told": values(denoiser.schedule, (times + offset).clamp(0, 1)).tolist(), "offset": offset, "layers": rows,
        }  # fmt: skip

    shown = misled(denoiser, offset)
    with contextlib.ExitStack() as stack:
        streams = []
        for condition in conditions:
            for layer, own in named:
                stream = stack.enter_context(clock.follow(denoiser, layer, own, condition))
                label = {"name": layer or clock.best[0], "view": own or clock.best[1], "given": condition}
                streams.append((label, stream))
        handle = shown.network.register_forward_pre_hook(note)
        stack.callback(handle.remove)
        start = keyed_noise(seeds, denoiser.shape).to(denoiser.device)
        for step in SAMPLERS[sampler](shown, start, steps, seeds=seeds, **options):
            yield step, so_far(streams)


def clock_run(
    denoiser: Denoiser, clock: Clock, seeds: Sequence[int], *, steps: int = 25, progress: bool = False, **settings: Any
) -> dict[str, Any]:
    """What :func:`clock_stream` says at the end of the run.

    Args:
        denoiser: The model.
        clock: Its probes.
        seeds: N seeds, one an image.
        steps: 1 to 1000.
        progress: Show a progress bar.
        settings: Those of :func:`clock_stream`: layers, view, given, offset, sampler, and the sampler's options.

    Raises:
        ValueError: As :func:`clock_stream`.
    """
    steps = whole_number("steps", steps, 1, MAX_STEPS)
    stream = clock_stream(denoiser, clock, seeds, steps=steps, **settings)
    [(_, run)] = deque(tqdm(stream, total=steps + 1, unit="step", disable=not progress), maxlen=1)
    return run


@torch.no_grad()
def ruler(
    xt: Tensor,
    models: dict[str, tuple[Denoiser, Clock]],
    gaussian: bayes.DiagonalGaussian | None = None,
    x0: Tensor | None = None,
) -> list[dict[str, Any]]:
    """Every reader's opinion on how noisy one picture is, each named for what it is.

    A network that hears the time is told every level of its probes in turn, and its readings are averaged: it cannot take
    the answer from what it is told.

    Args:
        xt: The noisy picture (1, C, H, W).
        models: Title -> model and its probes; all of one schedule and shape.
        gaussian: A fit, whose exact posterior of t is one more reader.
        x0: The clean picture (1, C, H, W), for the reader who knows it.

    Returns:
        Rows of ``reader``, ``what`` it is, and ``value``, ``low`` and ``high``: log SNR and an interval of about 95 %.

    Raises:
        ValueError: For models of several schedules, or whose probes read something else than logsnr.
    """
    schedules = {id(denoiser.schedule) for denoiser, _ in models.values()}
    if len(schedules) != 1 or any(clock.target != "logsnr" for _, clock in models.values()):
        raise ValueError("the models must share one noise schedule, and their probes must read logsnr")
    rows = []

    def add(reader: str, what: str, value: float, low: float, high: float) -> None:
        rows.append({"reader": reader, "what": what, "value": value, "low": low, "high": high})

    def add_probe(reader: str, what: str, clock: Clock, probe: RidgeProbe, value: float) -> None:
        margin = 1.96 * clock.uncertainty(probe, value)
        add(reader, what, value, value - margin, value + margin)

    for title, (denoiser, clock) in models.items():
        times = level_times(denoiser.schedule, clock.levels).float() if hears(denoiser) else torch.tensor([0.5])
        with clock.follow(denoiser) as readings:
            denoiser.output(xt.expand(len(times), -1, -1, -1).to(denoiser.device), times.to(denoiser.device))
        name, view = clock.best
        add_probe(
            title, f"probe of {name} ({view}), as it errs on held-out images", clock, clock.probe(), readings[0].mean().item()
        )
    denoiser, clock = next(iter(models.values()))
    schedule = denoiser.schedule
    for name, features in BASELINES.items():
        if ("any", "input", name) in clock.probes:
            probe = clock.probes["any", "input", name]
            value = probe.predict(features(xt, schedule)).item()
            add_probe(name, "of the picture alone, no network", clock, probe, value)
    priors: list[tuple[str, bayes.Prior]] = [("Gaussian's posterior", gaussian)] if gaussian is not None else []
    if x0 is not None:
        priors.append(("who knows the clean picture", bayes.FiniteSet(x0, "this very picture")))
    for title, prior in priors:
        read = bayes.posterior(prior, xt, bayes.Levels.spaced(schedule, prior.dimension, prior.energy))
        logsnr = schedule.logsnr(read.levels.t)
        below = read.log_probability[0].exp().cumsum(0)  # of t, so from the clean end
        low, middle, high = (
            logsnr[int((below < share).sum().clamp(max=len(logsnr) - 1))].item() for share in (0.975, 0.5, 0.025)
        )
        add(title, f"exact posterior; prior: {read.prior}", middle, low, high)
    return rows


PROBES = {"ridge": RidgeProbe, "lda": LevelClassifier}
