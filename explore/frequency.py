"""Radial bands of spatial frequency of an image: rings of equal width in the frequency plane.

Depends on nothing of this project.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

RINGS = 8  # bands of equal width; the last one includes the corners of the frequency plane
HIGH_PASS = RINGS // 2  # first band of the high-pass content: a quarter of a cycle per pixel


def rings(height: int, width: int, count: int = RINGS, *, whole: bool = False) -> Tensor:
    """Band of every coefficient of ``rfft2``, int64 (H, W // 2 + 1); with ``whole`` of ``fft2``, (H, W).

    Band 0 has the lowest frequencies, band ``count - 1`` the highest.
    """
    horizontal = (torch.fft.fftfreq if whole else torch.fft.rfftfreq)(width)
    radius = (torch.fft.fftfreq(height)[:, None].square() + horizontal[None].square()).sqrt()
    return (radius / 0.5 * count).long().clamp(max=count - 1)


def ring_edges() -> list[tuple[float, float]]:
    """Lower and upper end of every band in cycles per pixel. The last band goes on into the corners."""
    return [(0.5 * k / RINGS, 0.5 * (k + 1) / RINGS) for k in range(RINGS)]


def by_ring(coefficients: Tensor, width: int) -> Tensor:
    """Sums a quantity (B, C, H, W // 2 + 1) of ``rfft2`` over channels and over the coefficients of each band, (B, RINGS).

    Coefficients that stand for two of ``fft2`` count twice.
    """
    copies = torch.full((width // 2 + 1,), 2.0)
    copies[0] = 1.0
    if width % 2 == 0:
        copies[-1] = 1.0
    weighted = (coefficients * copies.to(coefficients)).sum(1).flatten(1)  # (B, F)
    member = nn.functional.one_hot(rings(coefficients.shape[-2], width).flatten(), RINGS).to(weighted)
    return weighted @ member


def high_pass(bands: Tensor) -> Tensor:
    """Sum over the high-pass bands of a quantity by band, (..., RINGS) -> (...)."""
    return bands[..., HIGH_PASS:].sum(-1)


def swap_rings(xt: Tensor, other: Tensor, chosen: Sequence[int]) -> Tensor:
    """Returns ``xt`` with the bands ``chosen`` of ``other``, both (B, C, H, W)."""
    member = torch.isin(rings(*xt.shape[-2:]), torch.tensor(list(chosen)))
    mixed = torch.where(member.to(xt.device), torch.fft.rfft2(other), torch.fft.rfft2(xt))
    return torch.fft.irfft2(mixed, s=xt.shape[-2:])
