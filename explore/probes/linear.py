"""Linear probes of the noise level, fitted from streamed sums: ridge regression and linear discriminant analysis.

The noise level takes few values. The sums in :class:`explore.activations.Statistics` are therefore sufficient for every target,
every penalty and every combination of folds, and no activation has to be stored. Ridge regression: Hoerl and Kennard (1970).
Depends on activations.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from explore.activations import Statistics, Sums

PENALTIES = tuple(10.0**k for k in range(-10, 1))
BINS = 11  # classes of the classifier: three of the 33 levels in each


class _Ridge:
    """Normal equations of standardized features for several targets (L, T). One eigendecomposition serves all penalties."""

    def __init__(self, sums: Sums, values: Tensor) -> None:
        count, total, gram = sums.count, sums.total, sums.gram
        rows = count.sum()
        self.mean = total.sum(0) / rows  # (D,)
        self.target_mean = (count @ values) / rows  # (T,)
        covariance = gram / rows - torch.outer(self.mean, self.mean)
        variance = covariance.diagonal().clamp(min=0)
        # A constant feature (a dead channel) gets zero weight: its variance is only rounding error.
        alive = variance > 1e-12 * (gram.diagonal() / rows)
        self.scale = torch.where(alive, variance.sqrt(), torch.inf)
        self.cross = total.T @ values / rows - torch.outer(self.mean, self.target_mean)  # (D, T)
        self.eigenvalues, self.vectors = torch.linalg.eigh(covariance / torch.outer(self.scale, self.scale))
        self.rotated = self.vectors.T @ (self.cross / self.scale[:, None])
        self.target_variance = count @ values.square() / rows - self.target_mean.square()

    def solve(self, penalties: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients (D, T) for unscaled features and intercepts (T,), with one penalty for each target."""
        weights = self.vectors @ (self.rotated / (self.eigenvalues.clamp(min=0)[:, None] + penalties))
        coefficients = weights / self.scale[:, None]
        return coefficients, self.target_mean - self.mean @ coefficients


def squared_error(sums: Sums, values: Tensor, coefficients: Tensor, intercept: Tensor) -> Tensor:
    """Sum of squared errors ``(value - features . coefficients - intercept)^2`` over all rows, float64 (T,).

    Args:
        sums: Sums over the rows.
        values: The T targets at every level, (L, T).
        coefficients: One column for each target, (D, T).
        intercept: One for each target, (T,).
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
    """Ridge regression of a function of the noise level on standardized features.

    The fit equals scikit-learn's ``StandardScaler`` and ``Ridge(alpha=penalty * rows)`` on the same rows. The penalty has the
    smallest squared error in cross-validation, equal to that of ``GroupKFold`` with the same folds.

    Args:
        penalties: Candidate penalties per row, positive.

    Attributes:
        penalty_: The selected penalty.
        errors_: Cross-validated mean squared error for each of ``penalties``, float64.
        coef_: Coefficients for unscaled features, float64 (D,).
        intercept_: A number.
        pattern_: Activation pattern, float64 (D,): the change of each feature per unit of the target. Unlike ``coef_``, it
            shows which features carry the signal (Haufe et al., 2014).
        fold_coef_, fold_intercept_: Coefficients (K, D) and intercepts (K,). Entry k is fitted without fold k.
        held_out_error_: Root mean square error by level on held-out images, (L,), in units of the target. It is 0 until
            :func:`explore.probes.measure` sets it.
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
        """Fits the probe and returns it.

        Args:
            statistics: Sums of the features over images and levels.
            values: The target at every level, (L,).

        Raises:
            ValueError: If a penalty is not positive, if there is not one value for each level, or if fewer than two folds
                have rows.
        """
        [self.__dict__] = [vars(probe) for probe in fit_ridge(statistics, values[:, None], self.penalties)]
        return self

    def predict(self, features: Tensor) -> Tensor:
        """Probe predictions for features (N, D), float64 (N,).

        Raises:
            ValueError: If the number of features D differs from that of the fit.
        """
        if features.shape[-1] != len(self.coef_):
            raise ValueError(
                f"the probe reads {len(self.coef_)} features, here are {features.shape[-1]}: it was fitted to another model"
            )
        return features.double() @ self.coef_.to(features.device) + self.intercept_

    def predict_held_out(self, features: Tensor, fold: Tensor) -> Tensor:
        """Held-out predictions for features (N, D), float64 (N,). Row i uses the fit without its fold ``fold[i]``."""
        every = features.double().cpu() @ self.fold_coef_.T + self.fold_intercept_  # (N, K)
        return every.gather(1, fold[:, None])[:, 0]

    def score(self, statistics: Statistics, values: Tensor) -> float:
        """R^2 over all rows in ``statistics``, for the target ``values`` (L,)."""
        sums, values = statistics.pooled(), values.double()[:, None]
        error = squared_error(sums, values, self.coef_[:, None], torch.tensor([self.intercept_]))
        return float(1 - error / _Ridge(sums, values).target_variance / sums.count.sum())


def fit_ridge(statistics: Statistics, values: Tensor, penalties: Sequence[float] = PENALTIES) -> list[RidgeProbe]:
    """Fits one RidgeProbe for each of the T targets, at little more than the cost of one.

    Args:
        statistics: Sums of the features over images and levels.
        values: One column for each target, (L, T).
        penalties: Candidate penalties per row, positive.

    Raises:
        ValueError: As :meth:`RidgeProbe.fit`.
    """
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
    """Linear discriminant analysis over bins of the noise level. Each bin holds the same number of adjacent levels.

    The fit equals scikit-learn's ``StandardScaler`` and ``LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)``.

    Args:
        bins: Number of bins, at least 2.
        shrinkage: Shrinkage of the within-bin covariance toward a multiple of the identity, in (0, 1].

    Attributes:
        bin_: The bin of every level, int64 (L,).
        coef_, intercept_: Coefficients (D, bins) for unscaled features and intercepts (bins,), float64.
        fold_coef_, fold_intercept_: (K, D, bins) and (K, bins). Entry k is fitted without fold k.
    """

    bin_: Tensor
    coef_: Tensor
    intercept_: Tensor
    fold_coef_: Tensor
    fold_intercept_: Tensor

    def __init__(self, bins: int = BINS, shrinkage: float = 1e-3) -> None:
        self.bins, self.shrinkage = bins, shrinkage

    def fit(self, statistics: Statistics, values: Tensor) -> LevelClassifier:
        """Fits the classifier and returns it.

        Args:
            statistics: Sums of the features over images and levels.
            values: The target at every level, (L,). Its order defines the bins.

        Raises:
            ValueError: If there are fewer than 2 bins or more bins than levels, if the shrinkage is out of range, if there is
                not one value for each level, or if fewer than two folds have rows.
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
        center = (count / rows) @ means
        variance = (sums.gram.diagonal() / rows - center.square()).clamp(min=0)
        scale = torch.where(variance > 1e-12 * sums.gram.diagonal() / rows, variance.sqrt(), torch.inf)
        within = (sums.gram - means.T @ (count[:, None] * means)) / rows / torch.outer(scale, scale)
        size = within.diagonal().mean().clamp_min(1e-12)  # 0 if no feature varies
        shrunk = (1 - self.shrinkage) * within + self.shrinkage * size * torch.eye(len(within), dtype=torch.float64)
        offset = (means - center) / scale  # (bins, D), standardized means
        weights = torch.linalg.solve(shrunk, offset.T)  # (D, bins)
        intercept = (count / rows).log() - 0.5 * (offset.T * weights).sum(0)
        coefficients = weights / scale[:, None]
        return coefficients, intercept - center @ coefficients

    def decision(self, features: Tensor) -> Tensor:
        """Log probabilities of the bins for features (N, D), up to a constant in each row; float64 (N, bins)."""
        return features.double() @ self.coef_.to(features.device) + self.intercept_.to(features.device)

    def predict_proba(self, features: Tensor) -> Tensor:
        """Probabilities of the bins for features (N, D), float64 (N, bins)."""
        return self.decision(features).softmax(1)

    def predict(self, features: Tensor) -> Tensor:
        """The most probable bin for features (N, D), int64 (N,)."""
        return self.decision(features).argmax(1)

    def predict_held_out(self, features: Tensor, fold: Tensor) -> Tensor:
        """Held-out bins for features (N, D), int64 (N,). Row i uses the fit without its fold ``fold[i]``."""
        every = torch.einsum("nd,kdb->nkb", features.double().cpu(), self.fold_coef_) + self.fold_intercept_
        return every[torch.arange(len(fold)), fold].argmax(1)

    def score(self, features: Tensor, levels: Tensor) -> float:
        """Accuracy on features (N, D) whose true levels are the indices ``levels`` (N,)."""
        return float((self.predict(features) == self.bin_[levels]).double().mean())


PROBES = {"ridge": RidgeProbe, "lda": LevelClassifier}
