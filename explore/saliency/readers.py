"""Pure readers of the noise level: functions of the norm, of the high-pass power or of the low-pass power of an image alone.

They calibrate what a network does when its input gets the norm or a frequency range of another noise level. Rescaling an image
also scales its high-pass content, so a pure reader of the high-pass power follows the norm too. Depends on activations,
frequency, probes, statistics.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from explore.activations import FOLDS, Statistics
from explore.frequency import HIGH_PASS, RINGS, by_ring, high_pass, swap_rings
from explore.probes import RidgeProbe
from explore.statistics import Interval, gap

READERS = ("norm", "high-pass", "low-pass")
DEGREE = 5  # a reader is a polynomial in a log power
EDITS = (
    "norm_patched", "high_pass_patched", "high_pass_patched_norm_kept", "low_pass_patched", "low_pass_patched_norm_kept"
)  # fmt: skip
NOT_SEPARABLE = "not separable"  # a conclusion, as are the names of readers


def edits(xt: Tensor, other: Tensor) -> dict[str, Tensor]:
    """``xt`` with one property of ``other``, both (B, C, H, W), by key of ``EDITS``."""

    def norm(pictures: Tensor) -> Tensor:
        return pictures.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)

    high, low = (swap_rings(xt, other, bands) for bands in (range(HIGH_PASS, RINGS), range(HIGH_PASS)))
    found = (xt * norm(other) / norm(xt), high, high * norm(xt) / norm(high), low, low * norm(xt) / norm(low))
    return dict(zip(EDITS, found, strict=True))


def _features(xt: Tensor) -> Tensor:
    """Powers 1 to ``DEGREE`` of the log power that each of ``READERS`` sees, float64 (readers, B, DEGREE)."""
    bands = by_ring(torch.fft.rfft2(xt.double(), norm="ortho").abs().square(), xt.shape[-1]) / xt[0].numel()
    high = high_pass(bands)
    power = torch.stack([bands.sum(1), high, bands.sum(1) - high]).clamp_min(1e-12).log()
    return torch.stack([power**k for k in range(1, DEGREE + 1)], 2)


def fit_readers(batches: Iterable[tuple[Tensor, int, Tensor]], values: Tensor) -> dict[str, RidgeProbe]:
    """The pure readers, by ridge regression and cross-validation over images as the probes of a network.

    Args:
        batches: (indices of the images (B,), index of the level, xt (B, C, H, W)).
        values: The target at every level, (L,).
    """
    sums = [Statistics(DEGREE, len(values)) for _ in READERS]
    for image, level, xt in batches:
        for own, features in zip(sums, _features(xt)):
            own.add(features, image, level)
    return {name: RidgeProbe().fit(own, values) for name, own in zip(READERS, sums)}


def read(readers: Mapping[str, RidgeProbe], xt: Tensor, image: Tensor) -> dict[str, Tensor]:
    """Prediction of each reader for ``xt`` (B, C, H, W), float64 (B,), by the fit without the fold of that ``image`` (B,)."""
    found = zip(readers.items(), _features(xt))
    return {name: probe.predict_held_out(features, image % FOLDS) for (name, probe), features in found}


def conclude(network: Mapping[str, Interval], readers: Mapping[str, Mapping[str, Interval]]) -> str:
    """Which of ``readers`` the network acts like, or ``not separable``.

    Distances are Euclidean, over all shares. The least distance of two is that of the nearest values inside their intervals.
    The network acts like a reader if it is nearer to it than the least distance to any other reader, and nearer than half the
    least distance between that reader and any other. Otherwise the readers differ too little, their shares are too uncertain,
    or the network is not near enough to any.

    Args:
        network: Share by key of ``EDITS``.
        readers: Name -> the same of a pure reader.
    """

    def least(one: Mapping[str, Interval], other: Mapping[str, Interval]) -> float:
        return math.hypot(*(gap(one[name], other[name]) for name in EDITS))

    for name, own in readers.items():
        distance = math.hypot(*(network[edit].value - own[edit].value for edit in EDITS))
        others = [shares for other, shares in readers.items() if other != name]
        if all(distance < min(least(network, other), least(own, other) / 2) for other in others):
            return name
    return NOT_SEPARABLE
