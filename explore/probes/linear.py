"""Linear probes of the noise level, fitted from streamed sums."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from explore.activations import Statistics, Sums

PENALTIES = tuple(10.0**k for k in range(-10, 1))
BINS = 11  # classes of the classifier: three of the 33 levels each


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


PROBES = {"ridge": RidgeProbe, "lda": LevelClassifier}
