"""Linear readouts of the noise level from activations, fitted from streamed sums.

The noise level takes few values, so the sums of :class:`explore.activations.Statistics` hold all that ridge regression needs
for any target, any penalty and any grouping of the folds they were kept in. Ridge after Hoerl and Kennard (1970); the
control task after Hewitt and Liang, arXiv 1909.03368. Depends on activations, schedules, zoo.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from explore.activations import Statistics, Sums
from explore.schedules import Schedule
from explore.zoo import choose

# What can be read: (schedule, logsnr (L,)) -> (L,), float64.
TARGETS: dict[str, Callable[[Schedule, Tensor], Tensor]] = {
    "logsnr": lambda schedule, logsnr: logsnr,
    "log_sigma": lambda schedule, logsnr: schedule.sigma(schedule.t_from_logsnr(logsnr)).log(),
    "t": lambda schedule, logsnr: schedule.t_from_logsnr(logsnr),
}
PENALTIES = tuple(10.0**k for k in range(-10, 1))


def target_values(target: str, schedule: Schedule, levels: Sequence[float]) -> Tensor:
    """The target at every level of logsnr, float64 (L,).

    Raises:
        ValueError: For an unknown target.
    """
    choose("target", target, TARGETS)
    return TARGETS[target](schedule, torch.tensor(levels, dtype=torch.float64))


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
    """

    def __init__(self, penalties: Sequence[float] = PENALTIES) -> None:
        self.penalties = penalties

    def fit(self, statistics: Statistics, values: Tensor) -> RidgeProbe:
        """Fits the target that takes ``values`` (L,) at the levels.

        Raises:
            ValueError: For a penalty that is not positive, values of the wrong number, or fewer than two folds with rows.
        """
        if not self.penalties or min(self.penalties) <= 0:
            raise ValueError(f"penalties must be positive, got {list(self.penalties)}")
        if values.shape != statistics.count.shape[1:]:
            raise ValueError(f"values must be one for each of {statistics.count.shape[1]} levels, got {tuple(values.shape)}")
        values = values.double()
        filled = [k for k in range(len(statistics.count)) if statistics.count[k].sum() > 0]
        if len(filled) < 2:
            raise ValueError("cross-validation needs rows of at least two folds: give more images")
        squares = torch.zeros(len(self.penalties), dtype=torch.float64)
        for k in filled:
            rest = _Ridge(statistics.pooled(without=k), values)
            for number, penalty in enumerate(self.penalties):
                squares[number] += squared_error(statistics.fold(k), values, *rest.solve(penalty))
        self.errors_ = squares / statistics.count.sum()
        self.penalty_ = self.penalties[int(self.errors_.argmin())]
        self.coef_, self.intercept_ = _Ridge(statistics.pooled(), values).solve(self.penalty_)
        return self

    def predict(self, features: Tensor) -> Tensor:
        """(N, D) -> (N,), float64."""
        return features.double() @ self.coef_.to(features.device) + self.intercept_

    def score(self, statistics: Statistics, values: Tensor) -> float:
        """R^2 over all rows that ``statistics`` sums up."""
        sums, values = statistics.pooled(), values.double()
        mean = (sums.count @ values) / sums.count.sum()
        spread = sums.count @ (values - mean).square()
        return float(1 - squared_error(sums, values, self.coef_, self.intercept_) / spread)


class _Ridge:
    """Normal equations of standardised features, diagonalised once for every penalty."""

    def __init__(self, sums: Sums, values: Tensor) -> None:
        count, total, gram = sums.count, sums.total, sums.gram
        self.rows = count.sum()
        self.mean = total.sum(0) / self.rows  # (D,)
        self.target_mean = (count @ values) / self.rows
        covariance = gram / self.rows - torch.outer(self.mean, self.mean)
        variance = covariance.diagonal().clamp(min=0)
        # A feature that never changes (a dead channel) is left out, as dividing by its rounding error would not do.
        alive = variance > 1e-12 * (gram.diagonal() / self.rows)
        self.scale = torch.where(alive, variance.sqrt(), torch.inf)
        cross = (values @ total) / self.rows - self.target_mean * self.mean
        self.eigenvalues, self.vectors = torch.linalg.eigh(covariance / torch.outer(self.scale, self.scale))
        self.rotated = self.vectors.T @ (cross / self.scale)

    def solve(self, penalty: float) -> tuple[Tensor, float]:
        """Coefficients (D,) for features as they are, and the intercept."""
        weights = self.vectors @ (self.rotated / (self.eigenvalues.clamp(min=0) + penalty))
        coefficients = weights / self.scale
        return coefficients, float(self.target_mean - self.mean @ coefficients)


def squared_error(sums: Sums, values: Tensor, coefficients: Tensor, intercept: float) -> Tensor:
    """Sum over rows of (value - features . coefficients - intercept)^2, from their sums; float64, 0-dimensional."""
    rest = values - intercept  # (L,)
    return sums.count @ rest.square() - 2 * (rest @ sums.total) @ coefficients + coefficients @ sums.gram @ coefficients


def control_values(values: Tensor, seed: int = 0) -> Tensor:
    """The control task: every level keeps its rows and gets the value of another level, at random.

    A probe that scores on it as well as on the true values reads what identifies a level, not its order.
    """
    return values[torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))]
