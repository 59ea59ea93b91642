"""Bands of spatial frequency of an image. Depends on nothing of this project."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

RINGS = 8  # bands of spatial frequency, as wide as each other; the last holds the corners too
HIGH_PASS = RINGS // 2  # the first ring of the high-pass content: a quarter of a cycle a pixel


def rings(height: int, width: int) -> Tensor:
    """Band of every coefficient of ``rfft2``: int64 (H, W // 2 + 1), 0 the lowest, ``RINGS - 1`` the highest."""
    radius = (torch.fft.fftfreq(height)[:, None].square() + torch.fft.rfftfreq(width)[None].square()).sqrt()
    return (radius / 0.5 * RINGS).long().clamp(max=RINGS - 1)


def ring_edges() -> list[tuple[float, float]]:
    """Lower and upper end of every band in cycles a pixel; the last goes on into the corners."""
    return [(0.5 * k / RINGS, 0.5 * (k + 1) / RINGS) for k in range(RINGS)]


def _multiplicity(width: int) -> Tensor:
    """How many coefficients of ``fft2`` each column of ``rfft2`` stands for, (W // 2 + 1,)."""
    count = torch.full((width // 2 + 1,), 2.0)
    count[0] = 1.0
    if width % 2 == 0:
        count[-1] = 1.0
    return count


def by_ring(coefficients: Tensor, width: int) -> Tensor:
    """Sums a quantity (B, C, H, W // 2 + 1) of ``rfft2`` over channels and over the coefficients of each band, (B, RINGS)."""
    height = coefficients.shape[-2]
    weighted = (coefficients * _multiplicity(width).to(coefficients)).sum(1).flatten(1)  # (B, F)
    member = nn.functional.one_hot(rings(height, width).flatten(), RINGS).to(weighted)
    return weighted @ member


def swap_rings(xt: Tensor, other: Tensor, chosen: Sequence[int]) -> Tensor:
    """``xt`` with the bands ``chosen`` of ``other``, both (B, C, H, W)."""
    member = torch.isin(rings(*xt.shape[-2:]), torch.tensor(list(chosen)))
    mixed = torch.where(member.to(xt.device), torch.fft.rfft2(other), torch.fft.rfft2(xt))
    return torch.fft.irfft2(mixed, s=xt.shape[-2:])
