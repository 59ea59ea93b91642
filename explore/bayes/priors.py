"""Priors of the clean image: the interface, finite sets and mixtures. Depends on data and values.

A prior is a mixture of K simple components over coordinates z of an image. All results are float64 on the CPU.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from explore.data import to_float

SMALL = 2**22  # finite sets of at most so many values are multiplied in float64,
CANDIDATES = 16  # larger ones in float32, and so many of the largest terms again in float64


@functools.cache
def dct_matrix(size: int) -> Tensor:
    """The orthonormal DCT-II (size, size), one frequency a row."""
    place = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(torch.pi / size * (place + 0.5) * place[:, None]) * (2 / size) ** 0.5
    matrix[0] /= 2**0.5
    return matrix


class Prior(ABC):
    """A prior of x0: a mixture of simple components over vectors z of coordinates.

    Attributes:
        prior: A description of the assumption.
        basis: ``dct`` (orthonormal DCT of each channel) or ``plain`` (the pixels); posteriors do not depend on it.
        dimension: Number D of coordinates.
        energy: Largest mean |x0|^2 of a component.
        components: Their number K.
    """

    prior: str
    basis: str = "plain"
    dimension: int
    energy: float
    components: int = 1

    def coordinates(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W), or (B, ...) in the plain basis -> float64 (B, D).

        Raises:
            ValueError: For images of another size.
        """
        shape = tuple(images.shape[1:])
        if math.prod(shape) != self.dimension or (self.basis == "dct" and len(shape) != 3):
            raise ValueError(f"images of {self.dimension} values are needed ({self.prior}), got shape {shape}")
        z = images.double().cpu()
        return (dct_matrix(shape[-2]) @ z @ dct_matrix(shape[-1]).T if self.basis == "dct" else z).flatten(1)

    def to_images(self, z: Tensor, shape: Sequence[int]) -> Tensor:
        """(B, D) -> float64 images (B, *shape), ``shape`` that of one image."""
        images = z.reshape(len(z), *shape)
        return dct_matrix(shape[-2]).T @ images @ dct_matrix(shape[-1]) if self.basis == "dct" else images

    @abstractmethod
    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """``count`` samples of the prior, as coordinates (count, D)."""

    @abstractmethod
    def shared(self, z: Tensor, alpha: Tensor) -> Any:
        """Statistics of ``z`` (B, D) that serve all levels ``alpha`` (T,)."""

    @abstractmethod
    def log_components(self, z: Tensor, shared: Any, alpha: Tensor, sigma: Tensor) -> Tensor:
        """log of weight times density of ``z`` by level and component, (B, T, K), without the factor (2 pi)^(-D/2)."""

    @abstractmethod
    def combine(self, z: Tensor, weights: Tensor, alpha: Tensor, sigma: Tensor, c: Tensor, d: Tensor) -> Tensor:
        """sum_tk weights_tk (c_t E[x0|z,t,k] + d_t E[eps|z,t,k]), (B, D), of ``weights`` (B, T, K)."""


class FiniteSet(Prior):
    """The uniform prior over a finite set of images. At low noise its posterior is wrong for any other image."""

    def __init__(self, images: Tensor, prior: str = "") -> None:
        """Takes (N, ...) uint8 images, or float values in [-1, 1] whose precision is kept, and a description.

        Raises:
            ValueError: For no images.
        """
        if len(images) == 0:
            raise ValueError("a finite set needs at least one image")
        self.points = (to_float(images) if images.dtype == torch.uint8 else images.cpu()).flatten(1)  # (N, D)
        self.prior = prior or f"one of {len(images)} images, each equally likely"
        self.components, self.dimension = self.points.shape
        self.norms = torch.cat([part.double().square().sum(1) for part in self.points.split(4096)])  # (N,)
        self.energy = self.norms.max().item()

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        return self.points[torch.randint(self.components, (count,), generator=generator)].double()

    def shared(self, z: Tensor, alpha: Tensor) -> Any:
        """Inner products with the images, (B, N). Float32 alone would err by nats at sigma = .01."""
        if self.points.numel() <= SMALL:
            return z @ self.points.double().T
        inner = (z.float() @ self.points.float().T).double()
        # Images are ranked by |z - a x|^2. The ranking changes slowly with a: a few levels represent all.
        some = alpha[torch.linspace(0, len(alpha) - 1, min(16, len(alpha))).long()].tolist()
        best = torch.cat([(inner - 0.5 * a * self.norms).topk(min(CANDIDATES, self.components)).indices for a in some], 1)
        for row, found in enumerate(best):
            columns = found.unique()
            inner[row, columns] = self.points[columns].double() @ z[row]
        return inner

    def log_components(self, z: Tensor, shared: Any, alpha: Tensor, sigma: Tensor) -> Tensor:
        a, b = alpha[:, None], sigma[:, None]  # (T, 1)
        constant = -z.square().sum(1)[:, None, None] / (2 * b**2) - self.dimension * b.log() - math.log(self.components)
        # Of (B, T, N) values there can be millions: few passes over them.
        return (shared[:, None] * (a / b**2)).sub_(self.norms * (a / b) ** 2 / 2).add_(constant)

    def combine(self, z: Tensor, weights: Tensor, alpha: Tensor, sigma: Tensor, c: Tensor, d: Tensor) -> Tensor:
        factors = torch.einsum("btk,t->bk", weights, c - d * alpha / sigma)  # of x_k, as E[eps|z,t,k] = (z - a x_k) / b
        scaled = (weights.sum(2) @ (d / sigma))[:, None] * z
        if self.points.numel() <= SMALL:
            return scaled + factors @ self.points.double()
        largest = factors.abs().topk(min(CANDIDATES, self.components)).indices
        rest = factors.scatter(1, largest, 0.0).float() @ self.points.float()
        exact = [factors[row, found] @ self.points[found].double() for row, found in enumerate(largest)]
        return scaled + rest.double() + torch.stack(exact)


class Mixture(Prior):
    """A mixture of priors that share a basis, such as diagonal Gaussians."""

    def __init__(self, weights: Sequence[float], parts: Sequence[Prior], prior: str = "") -> None:
        """Takes a weight above 0 for each part (divided by their sum), and a description.

        Raises:
            ValueError: For parts of different sizes or bases, or weights that are not above 0.
        """
        if len({(p.dimension, p.basis) for p in parts}) != 1 or len(weights) != len(parts) or not min(weights) > 0:
            raise ValueError("a mixture needs parts of one size and basis, and a weight above 0 for each")
        self.parts, self.weights = parts, torch.tensor(weights, dtype=torch.float64) / sum(weights)
        self.prior = prior or f"a mixture of {len(parts)}: {', '.join(sorted({part.prior for part in parts}))}"
        self.dimension, self.basis = parts[0].dimension, parts[0].basis
        self.energy, self.components = max(p.energy for p in parts), sum(p.components for p in parts)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        chosen = torch.multinomial(self.weights, count, True, generator=generator)
        drawn = torch.stack([part.draw(count, generator) for part in self.parts])  # (K, count, D)
        return drawn[chosen, torch.arange(count)]

    def shared(self, z: Tensor, alpha: Tensor) -> Any:
        return [part.shared(z, alpha) for part in self.parts]

    def log_components(self, z: Tensor, shared: Any, alpha: Tensor, sigma: Tensor) -> Tensor:
        densities = [part.log_components(z, own, alpha, sigma) for part, own in zip(self.parts, shared)]
        return torch.cat([weight.log() + density for weight, density in zip(self.weights, densities)], 2)

    def combine(self, z: Tensor, weights: Tensor, alpha: Tensor, sigma: Tensor, c: Tensor, d: Tensor) -> Tensor:
        own = weights.split([part.components for part in self.parts], 2)
        return torch.stack([part.combine(z, w, alpha, sigma, c, d) for part, w in zip(self.parts, own)]).sum(0)


def _ring(count: int) -> Tensor:
    angle = torch.arange(count, dtype=torch.float64) * (2 * math.pi / count)
    return torch.stack([angle.cos(), angle.sin()], 1)


def _spiral(count: int) -> Tensor:
    part = torch.linspace(0.15, 1, count, dtype=torch.float64)
    return part[:, None] * torch.stack([(3 * math.pi * part).cos(), (3 * math.pi * part).sin()], 1)


def _moons(count: int) -> Tensor:
    angle = torch.linspace(0, math.pi, (count + 1) // 2, dtype=torch.float64)
    upper = torch.stack([angle.cos() - 0.4, angle.sin() - 0.2], 1)
    return torch.cat([upper, -upper])[:count] * 0.75


def _lattice(count: int) -> Tensor:
    side = math.ceil(math.sqrt(count))
    even = torch.linspace(-1, 1, max(2, side), dtype=torch.float64)
    return torch.cartesian_prod(even, even)[:count]


# Name -> (count) -> points (count, 2) within about [-1, 1]: finite sets that can be plotted.
PLANAR: dict[str, Callable[[int], Tensor]] = {"ring": _ring, "spiral": _spiral, "two moons": _moons, "lattice": _lattice}
