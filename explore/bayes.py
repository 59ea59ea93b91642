"""Exact statements about t under a stated prior: p(t | xt), Bayes denoisers told and not told t, the price of not knowing.

``xt = alpha(t) x0 + sigma(t) eps`` with x0 from a finite set of images, a Gaussian of independent coordinates, or a mixture.
A network trained with the loss ``w(t) |f - r|^2`` on the target ``r = c x0 + d eps`` tends to
``R(z|t) = c E[x0|z,t] + d E[eps|z,t]`` if it is told t, and to ``f*(z) = sum_t p_w(t|z) R(z|t)`` if it is not, with
``p_w(t|z)`` proportional to ``p(z|t) p(t) w(t)``; the difference is ``E_z[W(z) Var_{p_w(t|z)} R(z|t)]`` with ``W = E[w|z]``.

Each figure is exact under its prior and says nothing of pictures outside it: priors and results carry their prior in words.
Source: Sun et al., arXiv 2502.13129, for f*. Everything is computed in float64 on the CPU.
Depends on schedules, denoiser, zoo (for files) and data (for pixel values).
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from explore import files, zoo
from explore.data import to_float
from explore.denoiser import PREDICTIONS, Denoiser
from explore.schedules import Schedule
from explore.values import choose, image_shape, plain_number, real_number, whole_number

Function = Callable[[Tensor], Tensor]  # of t, elementwise
Target = str | Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # a key of PREDICTIONS, or linear, like Prediction.target

SIGMA_LEAST = 1e-6  # told t = 0 a point mass would divide by sigma = 0
TAIL = 30.0  # levels less likely than the best by a factor of e^30 do not count
SMALL = 2**22  # finite sets of at most so many values are multiplied in float64 throughout,
CANDIDATES = 16  # larger ones in float32, and so many of the largest terms again in float64
GAUSSIANS = "gaussian"  # folder of the shipped fits, beside the models
CHUNK = 2**23  # values of an intermediate (images, levels, components)


class Levels:
    """Cells of t that every sum over t runs over, and how likely t is to lie in each before anything is seen.

    Attributes:
        t, alpha, sigma: (T,) float64, of the cells' midpoints, which stand for the cells; sigma is above 0.
        log_mass: (T,) log of the cells' prior probabilities.
        prior: p(t) in words.
    """

    def __init__(
        self, schedule: Schedule, edges: Tensor, density: Function | None = None, words: str = "uniform", split: int = 1
    ) -> None:
        """Takes ``edges`` (T + 1,) in [0, 1]; ``density``, p(t) up to a factor, and what it is in ``words``; and into how
        many parts a cell is ``split`` where the posterior of some picture lies (1 takes the cells as they are).

        Raises:
            ValueError: For edges out of order or range, or a density without words or that is none.
        """
        if edges.ndim != 1 or len(edges) < 2 or edges[0] < 0 or edges[-1] > 1 or not (edges.diff() > 0).all():
            raise ValueError("edges of t must be at least 2 numbers in [0, 1], increasing")
        if (density is None) != (words == "uniform"):
            raise ValueError("a density of t needs words that say what it is")
        self.schedule, self.edges, self.density, self.words, self.split = schedule, edges.double(), density, words, split
        self.t = (self.edges[1:] + self.edges[:-1]) / 2
        self.alpha, self.sigma = schedule.alpha(self.t), schedule.sigma(self.t).clamp_min(SIGMA_LEAST)
        mass = self.edges.diff() * (1.0 if density is None else _checked(density(self.t), "density of t"))
        self.log_mass = (mass / mass.sum()).log()
        self.prior = f"t {words} on ({edges[0]:.3g}, {edges[-1]:.3g})"

    @classmethod
    def midpoints(cls, schedule: Schedule, count: int = 300, density: Function | None = None, words: str = "uniform") -> Levels:
        """``count`` equal cells of (0, 1): t has their midpoints as values, and no others."""
        count = whole_number("count", count, 1)
        return cls(schedule, torch.linspace(0, 1, count + 1, dtype=torch.float64), density, words)

    @classmethod
    def points(cls, schedule: Schedule, t: Tensor) -> Levels:
        """The values ``t`` (T,) in (0, 1), each equally likely, and no others; in their given order.

        Raises:
            ValueError: For values out of range.
        """
        if t.ndim != 1 or len(t) == 0 or not ((t > 0) & (t < 1)).all():
            raise ValueError("points of t must be at least one number in (0, 1)")
        levels = cls(schedule, torch.tensor([0.0, 1.0]))
        levels.t = t.double()
        levels.alpha, levels.sigma = schedule.alpha(levels.t), schedule.sigma(levels.t).clamp_min(SIGMA_LEAST)
        levels.log_mass = torch.full((len(t),), -math.log(len(t)), dtype=torch.float64)
        levels.prior = f"t one of {len(t)} values from {t.min():.3g} to {t.max():.3g}, each equally likely"
        return levels

    @classmethod
    def spaced(
        cls, schedule: Schedule, dimension: int, energy: float = 0.0, density: Function | None = None, words: str = "uniform",
        *, spacing: float = 0.5, split: int = 8, lowest: float = 1e-3,
    ) -> Levels:  # fmt: skip
        """Cells that, once those that matter are split, are no wider than ``spacing`` posterior widths, nor than 1/300.

        The width is that for a known picture, which other priors do not undercut: near the data cells are even in log sigma,
        0.6 % for 3072 values.

        Args:
            schedule: The noise path.
            dimension: Values d of one image, at least 1.
            energy: Largest |x0|^2 that occurs.
            density: p(t) up to a factor; uniform by default.
            words: What ``density`` is.
            spacing: In posterior standard deviations, at most 1.
            split: Cells are so many times wider at first, which is enough to see where the posterior is.
            lowest: Least sigma, in (0, 1); t below it is left out.

        Raises:
            ValueError: For numbers out of range.
        """
        if dimension < 1 or energy < 0 or not 0 < spacing <= 1 or split < 1 or not 0 < lowest < 1:
            given = f"{dimension}, {energy}, {spacing}, {split}, {lowest}"
            raise ValueError(f"dimension, energy, spacing, split or lowest sigma out of range: {given}")
        even = torch.linspace(0, 1, 4001, dtype=torch.float64)[1:]
        t = torch.cat([10 ** (10 * (even - 1)), even]).unique()  # fine near 0, and near 1
        t = t[schedule.sigma(t) >= lowest]
        a, b = schedule.alpha(t), schedule.sigma(t)
        # Arc length in the metric of Fisher information counts posterior widths, and needs no derivative.
        widths = (2 * dimension * b.log().diff() ** 2 + energy * (a.diff() / b[1:]) ** 2).sqrt()
        cells = torch.cat([torch.zeros(1), torch.maximum(widths / spacing, 300 * t.diff()).cumsum(0)]) / split
        total = cells[-1].item()
        edges = np.interp(np.linspace(0, total, math.ceil(total) + 1), cells.numpy(), t.numpy())
        return cls(schedule, torch.from_numpy(edges), density, words, split)

    def refined(self, needed: Tensor) -> Levels:
        """The same with the cells where ``needed`` (T,) is true split."""
        parts = torch.where(needed, self.split, 1)
        within = torch.cat([torch.arange(count, dtype=torch.float64) / count for count in parts.tolist()])
        starts = self.edges[:-1].repeat_interleave(parts) + within * self.edges.diff().repeat_interleave(parts)
        return Levels(self.schedule, torch.cat([starts, self.edges[-1:]]), self.density, self.words)


def _checked(values: Tensor, name: str) -> Tensor:
    if not values.isfinite().all() or (values < 0).any() or not (values > 0).any():
        raise ValueError(f"the {name} must be finite and not negative, and somewhere above 0")
    return values


@functools.cache
def _dct(size: int) -> Tensor:
    """The orthonormal DCT-II (size, size), one frequency a row."""
    place = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(torch.pi / size * (place + 0.5) * place[:, None]) * (2 / size) ** 0.5
    matrix[0] /= 2**0.5
    return matrix


class Prior(ABC):
    """What x0 may be: a mixture of simple components over vectors z of coordinates.

    Attributes:
        prior: The assumption in words.
        basis: ``dct`` (orthonormal DCT of each colour) or ``plain`` (the pixels); posteriors do not depend on it.
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
        return (_dct(shape[-2]) @ z @ _dct(shape[-1]).T if self.basis == "dct" else z).flatten(1)

    def to_images(self, z: Tensor, shape: Sequence[int]) -> Tensor:
        """(B, D) -> float64 images (B, *shape), ``shape`` that of one image."""
        images = z.reshape(len(z), *shape)
        return _dct(shape[-2]).T @ images @ _dct(shape[-1]) if self.basis == "dct" else images

    @abstractmethod
    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """``count`` pictures of the prior, as coordinates (count, D)."""

    @abstractmethod
    def shared(self, z: Tensor, alpha: Tensor) -> Any:
        """What the formulas need of ``z`` (B, D) at all of the levels ``alpha`` (T,)."""

    @abstractmethod
    def log_components(self, z: Tensor, shared: Any, alpha: Tensor, sigma: Tensor) -> Tensor:
        """log of weight times density of ``z`` by level and component, (B, T, K), but for the factor (2 pi)^(-D/2)."""

    @abstractmethod
    def combine(self, z: Tensor, weights: Tensor, alpha: Tensor, sigma: Tensor, c: Tensor, d: Tensor) -> Tensor:
        """sum_tk weights_tk (c_t E[x0|z,t,k] + d_t E[eps|z,t,k]), (B, D), of ``weights`` (B, T, K)."""


@dataclass(frozen=True, eq=False)
class DiagonalGaussian(Prior):
    """Images whose coordinates, in the DCT basis (orthonormal, per colour) or plain, are independent Gaussians.

    Attributes:
        mean: float64 (D,).
        variance: float64 (D,), not negative.
        basis: ``dct`` or ``plain``.
        prior: The assumption in words.

    Raises:
        ValueError: For arrays that do not fit together, or a negative variance.
    """

    mean: np.ndarray
    variance: np.ndarray
    basis: str = "dct"
    prior: str = "a diagonal Gaussian"

    def __post_init__(self) -> None:
        choose("basis", self.basis, ("dct", "plain"))
        mean, variance = np.asarray(self.mean, np.float64), np.asarray(self.variance, np.float64)
        if mean.ndim != 1 or mean.shape != variance.shape or not (variance >= 0).all():
            raise ValueError(f"a Gaussian needs mean (D,) and variance (D,) >= 0, got shapes {mean.shape} and {variance.shape}")
        energy = float((mean**2 + variance).sum())
        vars(self).update(mean=mean, variance=variance, dimension=len(mean), energy=energy)  # frozen for everybody else

    @staticmethod
    def fit(images: Tensor) -> DiagonalGaussian:
        """Fits mean and variance in the DCT basis to uint8 ``images`` (N, C, H, W), N at least 2.

        Raises:
            ValueError: For fewer images.
        """
        if len(images) < 2:
            raise ValueError(f"a Gaussian is fitted to at least 2 images, got {len(images)}")
        z = torch.cat(
            [(_dct(part.shape[-2]) @ to_float(part).double() @ _dct(part.shape[-1]).T) for part in images.split(4096)]
        )
        words = f"a diagonal Gaussian in the DCT basis, fitted to {len(images)} images"
        return DiagonalGaussian(z.flatten(1).mean(0).numpy(), z.flatten(1).var(0).numpy(), prior=words)

    def information(self, schedule: Schedule, t: float) -> float:
        """Fisher information about t at ``t`` in (0, 1), in 1 / t^2; its inverse root is the width of the posterior of t.

        ``sum_i [ ((2 a a' l_i + 2 b b') / s_i)^2 / 2 + a'^2 m_i^2 / s_i ]`` with ``s_i = a^2 l_i + b^2``. The width is
        that of the best unbiased reader of t under this prior, not a bound for photographs.
        """
        a, b, da, db = _path(schedule, t)
        total = a**2 * self.variance + b**2
        slope = 2 * a * da * self.variance + 2 * b * db
        return float((0.5 * (slope / total) ** 2 + da**2 * self.mean**2 / total).sum())

    def save(self, path: Path, dtype: torch.dtype = torch.float32) -> None:
        """Writes safetensors with basis and words as JSON; float16 keeps means and deviations to a thousandth."""
        # Deviations, not variances: those of fine detail would fall below what float16 holds.
        tensors = {"mean": torch.from_numpy(self.mean), "std": torch.from_numpy(self.variance).sqrt()}
        stored = {name: tensor.to(dtype) for name, tensor in tensors.items()}
        files.save_state(path, stored, kind="diagonal gaussian", basis=self.basis, prior=self.prior)

    @staticmethod
    def load(path: Path) -> DiagonalGaussian:
        """Reads what :meth:`save` wrote.

        Raises:
            ValueError: If the file is something else.
        """
        tensors, about = files.load_state(path)
        if about.get("kind") != "diagonal gaussian" or set(tensors) != {"mean", "std"}:
            raise ValueError(f"{path} does not hold a diagonal Gaussian")
        mean, std = (tensors[name].double().numpy() for name in ("mean", "std"))
        return DiagonalGaussian(mean, std**2, about["basis"], about["prior"])

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        noise = torch.randn(count, self.dimension, dtype=torch.float64, generator=generator)
        return torch.from_numpy(self.mean) + torch.from_numpy(self.variance).sqrt() * noise

    def shared(self, z: Tensor, alpha: Tensor) -> Any:
        return z.square()

    def log_components(self, z: Tensor, shared: Any, alpha: Tensor, sigma: Tensor) -> Tensor:
        mean, precision = torch.from_numpy(self.mean), self._precision(alpha, sigma)  # (D,), (T, D)
        distance = shared @ precision.T  # (B, T), (z - a m)^2 / s
        if mean.any():
            distance = distance - 2 * alpha * (z @ (mean * precision).T) + alpha**2 * (precision @ mean.square())
        return -0.5 * (distance - precision.log().sum(1))[:, :, None]

    def combine(self, z: Tensor, weights: Tensor, alpha: Tensor, sigma: Tensor, c: Tensor, d: Tensor) -> Tensor:
        mean, variance, precision = torch.from_numpy(self.mean), torch.from_numpy(self.variance), self._precision(alpha, sigma)
        # E[x0] = (a l z + b^2 m) / s and E[eps] = b (z - a m) / s are linear in z, so matrix products serve all levels.
        a, b, p = alpha, sigma, weights[:, :, 0]  # (T,), (T,), (B, T)
        total = ((p * (c * a)) @ precision * variance + (p * (d * b)) @ precision) * z
        return total + (p * (b * (c * b - d * a))) @ precision * mean if mean.any() else total

    def _precision(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """1 / s, (T, D)."""
        return 1 / (alpha.square()[:, None] * torch.from_numpy(self.variance) + sigma.square()[:, None])


class FiniteSet(Prior):
    """Images of which each is equally likely and no other occurs; at low noise its posterior misreads any other picture."""

    def __init__(self, images: Tensor, prior: str = "") -> None:
        """Takes (N, ...) uint8 images or float values in [-1, 1] (which keep their precision), and words for them.

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
        """Inner products with the images, (B, N). In float32 alone they would err by nats at sigma = .01."""
        if self.points.numel() <= SMALL:
            return z @ self.points.double().T
        inner = (z.float() @ self.points.float().T).double()
        # Images are ranked by |z - a x|^2. The ranking changes slowly with a: some of the levels speak for all.
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
    """A mixture of priors over one basis, such as diagonal Gaussians."""

    def __init__(self, weights: Sequence[float], parts: Sequence[Prior], prior: str = "") -> None:
        """Takes a weight above 0 for each part (divided by their sum), and words for the whole.

        Raises:
            ValueError: For parts that do not fit together, or weights that are not above 0.
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


def _path(schedule: Schedule, t: float) -> list[float]:
    """alpha, sigma and their derivatives at ``t``."""
    time = torch.tensor(t, dtype=torch.float64)
    return [f(time).item() for f in (schedule.alpha, schedule.sigma, schedule.dalpha, schedule.dsigma)]


def known_image_information(schedule: Schedule, t: float, dimension: int, energy: float) -> float:
    """Fisher information about t for a reader who knows the clean picture, ``2 d (b'/b)^2 + a'^2 |x0|^2 / b^2``, in 1 / t^2.

    Prior: one known picture. The inverse root is the Cramer-Rao width; no reader without the picture is told more.

    Args:
        schedule: The noise path.
        t: In (0, 1).
        dimension: Values d of the picture.
        energy: |x0|^2, or its mean over pictures.
    """
    _, b, da, db = _path(schedule, t)
    return 2 * dimension * (db / b) ** 2 + da**2 * energy / b**2


@dataclass(frozen=True, eq=False)
class Posterior:
    """p(t | xt), or p_w(t | xt) with a loss weight, of B pictures.

    Attributes:
        levels: The T levels, refined where one of the pictures needs it.
        log_probability: (B, T), float64.
        weight: (B,) mean loss weight W = E[w | xt]; 1 without one.
        prior: What is assumed of the image and of t, in words.
    """

    levels: Levels
    log_probability: Tensor
    weight: Tensor
    prior: str

    def mean(self, values: Tensor | None = None) -> Tensor:
        """(B,) posterior mean of ``values`` (T,), by default t."""
        return self.log_probability.exp() @ (self.levels.t if values is None else values)

    def std(self, values: Tensor | None = None) -> Tensor:
        """(B,) posterior standard deviation of ``values`` (T,), by default t."""
        values = self.levels.t if values is None else values
        return (self.log_probability.exp() * (values - self.mean(values)[:, None]).square()).sum(1).sqrt()


def posterior(prior: Prior, xt: Tensor, levels: Levels, weight: Function | None = None) -> Posterior:
    """The exact posterior of t of noisy images ``xt`` (B, C, H, W), tilted by the loss weight w(t) >= 0 if there is one.

    Raises:
        ValueError: For images of another size, or a weight that is negative, infinite or zero everywhere.
    """
    return _read(prior, prior.coordinates(xt), levels, weight)[0]


def _read(prior: Prior, z: Tensor, levels: Levels, weight: Function | None) -> tuple[Posterior, Any]:
    """The posterior of ``z`` (B, D), and what ``prior`` shares between levels."""
    shared = prior.shared(z, levels.alpha)
    likelihood = _log_likelihood(prior, z, shared, levels.alpha, levels.sigma)  # (B, T)
    if levels.split > 1:
        score = likelihood + levels.log_mass
        needed = (score > score.amax(1, keepdim=True) - TAIL).any(0)
        levels, parts = levels.refined(needed), torch.where(needed, levels.split, 1)
        likelihood, fresh = likelihood.repeat_interleave(parts, 1), needed.repeat_interleave(parts)
        likelihood[:, fresh] = _log_likelihood(prior, z, shared, levels.alpha[fresh], levels.sigma[fresh])
    score = likelihood + levels.log_mass
    words, plain = f"{prior.prior}; {levels.prior}", score.log_softmax(1)
    if weight is None:
        return Posterior(levels, plain, torch.ones(len(z), dtype=torch.float64), words), shared
    tilted = plain + _checked(weight(levels.t), "loss weight").log()
    total = tilted.logsumexp(1)
    return Posterior(levels, tilted - total[:, None], total.exp(), f"{words}; tilted by a loss weight"), shared


def _slices(prior: Prior, images: int, levels: int) -> Iterator[slice]:
    """Runs of levels short enough to hold (images, run, components)."""
    run = max(1, CHUNK // (images * prior.components))
    return (slice(first, first + run) for first in range(0, levels, run))


def _log_likelihood(prior: Prior, z: Tensor, shared: Any, alpha: Tensor, sigma: Tensor) -> Tensor:
    """log p(z | t) up to a constant, (B, T)."""
    parts = _slices(prior, len(z), len(alpha))
    return torch.cat([prior.log_components(z, shared, alpha[part], sigma[part]).logsumexp(2) for part in parts], 1)


def _average(prior: Prior, z: Tensor, shared: Any, p: Tensor, alpha: Tensor, sigma: Tensor, target: Target) -> Tensor:
    """sum_t p_t R(z|t), (B, D), of ``p`` (B, T)."""
    rule = PREDICTIONS[choose("prediction", target, PREDICTIONS)].target if isinstance(target, str) else target
    one, zero = torch.ones_like(alpha), torch.zeros_like(alpha)
    c, d = rule(one, zero, alpha, sigma), rule(zero, one, alpha, sigma)  # every target is linear in x0 and eps
    total = torch.zeros_like(z)
    for part in _slices(prior, len(z), len(alpha)):
        levels = alpha[part], sigma[part]
        weights = p[:, part, None]  # (B, t, K)
        if prior.components > 1:
            weights = weights * prior.log_components(z, shared, *levels).softmax(2)
        total = total + prior.combine(z, weights, *levels, c[part], d[part])
    return total


def _active(read: Posterior) -> tuple[Tensor, Tensor, Tensor]:
    """Probability (B, t), alpha and sigma (t,) of the levels that matter to some picture."""
    active = (read.log_probability > -TAIL - math.log(len(read.levels.t))).any(0)
    return read.log_probability.exp()[:, active], read.levels.alpha[active], read.levels.sigma[active]


def told(prior: Prior, xt: Tensor, t: float, schedule: Schedule, target: Target = "x0") -> Tensor:
    """R(xt | t), what a network that is told t would learn to output; E[x0 | xt, t] by default.

    Args:
        prior: Of the images.
        xt: (B, C, H, W).
        t: In [0, 1].
        schedule: The noise path.
        target: A key of ``PREDICTIONS``, or a function (x0, eps, alpha, sigma) -> target, linear in x0 and eps.

    Returns:
        float64, in the shape of ``xt``.

    Raises:
        ValueError: For an unknown target or images of another size.
    """
    z, time = prior.coordinates(xt), torch.tensor([t], dtype=torch.float64)
    alpha, sigma = schedule.alpha(time), schedule.sigma(time).clamp_min(SIGMA_LEAST)
    certain = torch.ones(len(z), 1, dtype=torch.float64)
    return prior.to_images(_average(prior, z, prior.shared(z, alpha), certain, alpha, sigma, target), xt.shape[1:])


def blind(prior: Prior, xt: Tensor, levels: Levels, target: Target = "x0", weight: Function | None = None) -> Tensor:
    """f*(xt) = sum_t p_w(t | xt) R(xt | t), what a network that is never told t would learn; E[x0 | xt] by default.

    Args, returns and errors are those of :func:`told` and :func:`posterior`.
    """
    z = prior.coordinates(xt)
    read, shared = _read(prior, z, levels, weight)
    return prior.to_images(_average(prior, z, shared, *_active(read), target), xt.shape[1:])


@dataclass(frozen=True, eq=False)
class Price:
    """What not knowing t costs, in weighted squared error summed over the values of an image.

    Attributes:
        value: Mean of ``gap``.
        error: Its standard error over the draws.
        t: (N,) the t of each draw.
        gap: (N,) W(z) Var_{p_w(t|z)} R(z|t) of each draw z.
        prior: What is assumed of the image and of t, in words.
    """

    value: float
    error: float
    t: Tensor
    gap: Tensor
    prior: str


def price(
    prior: Prior, levels: Levels, target: Target, *, weight: Function | None = None, count: int = 256, seed: int = 0
) -> Price:
    """The price of not knowing t, E_z[W(z) Var_{p_w(t|z)} R(z|t)], over ``count`` >= 2 draws of (t, x0, eps).

    Draws of t are even within cells that get split; other cells stand for their midpoint alone. Arguments and errors are
    those of :func:`told` and :func:`posterior`.
    """
    count = whole_number("count of draws", count, 2)
    generator = torch.Generator().manual_seed(whole_number("seed", seed, 0))
    cell = torch.multinomial(levels.log_mass.exp(), count, True, generator=generator)
    place = torch.rand(count, dtype=torch.float64, generator=generator) if levels.split > 1 else 0.5
    t = levels.edges[cell] + place * levels.edges.diff()[cell]
    noisy = _noised(prior.draw(count, generator), t, levels.schedule, generator)
    gaps = []
    for z in noisy.split(256):
        read, shared = _read(prior, z, levels, weight)
        p, alpha, sigma = _active(read)
        mean = _average(prior, z, shared, p, alpha, sigma, target)
        variance, certain = torch.zeros(len(z), dtype=torch.float64), torch.ones(len(z), 1, dtype=torch.float64)
        for level in range(len(alpha)):  # about the mean: a difference of second moments would lose its digits
            here = slice(level, level + 1)
            value = _average(prior, z, shared, certain, alpha[here], sigma[here], target)  # R(z|t), (B, D)
            variance += p[:, level] * (value - mean).square().sum(1)
        gaps.append(read.weight * variance)
    gap = torch.cat(gaps)
    return Price(gap.mean().item(), gap.std().item() / count**0.5, t, gap, read.prior)


def _noised(x0: Tensor, t: Tensor, schedule: Schedule, generator: torch.Generator) -> Tensor:
    """``x0`` (B, D) at ``t`` (B,)."""
    eps = torch.randn(x0.shape, dtype=torch.float64, generator=generator)
    return schedule.alpha(t)[:, None] * x0 + schedule.sigma(t)[:, None] * eps


@dataclass(frozen=True)
class Width:
    """How sharply pictures of a prior tell their t.

    Attributes:
        t: The true one.
        std: Root mean square of the posterior's standard deviation over the pictures drawn.
        fisher: Inverse root of the Fisher information; None where no closed form exists.
        oracle: The same for readers who know the clean picture, |x0|^2 being the mean of those drawn.
        prior: What is assumed of the image and of t, in words.
    """

    t: float
    std: float
    fisher: float | None
    oracle: float
    prior: str


def posterior_width(prior: Prior, levels: Levels, t: float, *, count: int = 64, seed: int = 0) -> Width:
    """Width of the exact posterior of t over ``count`` pictures of the prior noised to ``t`` in (0, 1), beside theory's."""
    t, count = real_number("t", t, 0, 1), whole_number("count", count, 1)
    generator = torch.Generator().manual_seed(whole_number("seed", seed, 0))
    x0 = prior.draw(count, generator)
    read, _ = _read(prior, _noised(x0, torch.full((count,), t, dtype=torch.float64), levels.schedule, generator), levels, None)
    energy = x0.square().sum(1).mean().item()
    oracle = known_image_information(levels.schedule, t, prior.dimension, energy) ** -0.5
    fisher = prior.information(levels.schedule, t) ** -0.5 if isinstance(prior, DiagonalGaussian) else None
    return Width(t, read.std().square().mean().sqrt().item(), fisher, oracle, read.prior)


class BayesNetwork(nn.Module):
    """What a network of unlimited capacity would output, called like any other; see :func:`bayes_denoiser`."""

    def __init__(
        self, prior: Prior, levels: Levels, prediction: str, hidden: tuple[float, float] | None, weight: Function | None
    ) -> None:
        super().__init__()
        self.prior, self.levels, self.prediction, self.hidden, self.weight = prior, levels, prediction, hidden, weight
        # A parameter, so that whoever asks for the network's dtype and device is answered.
        self.t = nn.Parameter(levels.t.clone(), requires_grad=False)

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        """``xt`` (B, C, H, W) and ``t`` (B,) -> the output, in the shape and dtype of ``xt``."""
        output = torch.empty_like(xt)
        low, high = self.hidden or (2.0, 2.0)
        given = torch.where((t >= low) & (t <= high), -1.0, t)  # -1: not told
        values = given.unique().tolist()
        for value in values:
            rows = given == value if len(values) > 1 else slice(None)
            if value < 0:
                output[rows] = blind(self.prior, xt[rows], self.levels, self.prediction, self.weight).to(xt)
            else:
                output[rows] = told(self.prior, xt[rows], value, self.levels.schedule, self.prediction).to(xt)
        return output


def bayes_denoiser(
    prior: Prior, levels: Levels, prediction: str, shape: tuple[int, int, int], *,
    hidden: tuple[float, float] | None = None, weight: Function | None = None,
) -> Denoiser:  # fmt: skip
    """The exact denoiser of ``prior``, for samplers and instruments that take any Denoiser. Its name states the prior.

    Whether the network is told t is one thing; x0_hat and eps_hat follow from its output by the rules of
    ``explore.denoiser``, which know t in either case, as they do for a trained network.

    Args:
        prior: Of the images.
        levels: Of t, with its prior and the noise path.
        prediction: A key of ``PREDICTIONS``.
        shape: (C, H, W) of one image.
        hidden: Range of t, ends included, within which the output does not depend on the t that the network is given:
            (0, 1) never tells it the time, (0, 0.5) tells it above 0.5 only, None always.
        weight: Loss weight w(t) >= 0 of the regression without t.

    Raises:
        ValueError: For a shape that does not fit the prior, a range out of order or of [0, 1], or as ``Denoiser``.
    """
    shape = image_shape(shape)
    if math.prod(shape) != prior.dimension:
        raise ValueError(f"images of shape {tuple(shape)} have not the {prior.dimension} values of the prior ({prior.prior})")
    if hidden is not None and not 0 <= hidden[0] <= hidden[1] <= 1:
        raise ValueError(f"the range in which t is hidden must be (low, high) within [0, 1], got {hidden}")
    clock = "told t" if hidden is None else "not told t" if hidden == (0, 1) else f"not told t from {hidden[0]} to {hidden[1]}"
    network = BayesNetwork(prior, levels, prediction, hidden, weight).eval()
    return Denoiser(network, levels.schedule, prediction, shape, f"exact, {clock}; {prior.prior}; {levels.prior}")


def spectral_gaussian(resolution: int = 32, variance: float = 0.25, basis: str = "plain") -> DiagonalGaussian:
    """Images (3, resolution, resolution) with the 1/f^2 spectrum of photographs, the toy on which everything is exact.

    Args:
        resolution: Height and width, at least 1.
        variance: Mean variance of a value, above 0.
        basis: ``dct``, or ``plain``: coordinates are those of the covariance's own basis, whichever that is.

    Raises:
        ValueError: For an unknown basis or numbers out of range.
    """
    choose("basis", basis, ("dct", "plain"))
    if resolution < 1 or variance <= 0:
        raise ValueError(f"resolution must be at least 1 and the variance above 0, got {resolution} and {variance}")
    place = np.arange(resolution)
    # The k-th function of the DCT has k / 2 cycles an image.
    frequency = place / 2 if basis == "dct" else np.fft.fftfreq(resolution) * resolution
    radial = np.maximum(np.hypot(frequency[:, None], frequency), 0.7)
    spectrum = np.tile((radial**-2).ravel(), 3)
    spectrum *= variance / spectrum.mean()
    words = f"Gaussian images with a 1/f^2 spectrum of mean variance {variance} ({basis} basis)"
    return DiagonalGaussian(np.zeros_like(spectrum), spectrum, basis, words)


def relative_frechet(prior: DiagonalGaussian, samples: Tensor) -> float:
    """``sum_i (std_i - sqrt(l_i))^2 / sum_i l_i``, the Fréchet distance of ``samples`` (N, C, H, W) to ``prior``, relative.

    Perfect samples have about 1 / (2 N); samples that are not finite are infinitely far.
    """
    std = prior.coordinates(samples).std(0).numpy()
    found = float(((std - np.sqrt(prior.variance)) ** 2).sum() / prior.variance.sum())
    return found if math.isfinite(found) else math.inf


def surprise(prior: DiagonalGaussian, images: Tensor) -> Tensor:
    """How far clean images (B, C, H, W) lie from what ``prior`` expects: mean of (z - m)^2 / l over the coordinates, (B,).

    It is 1 on average for pictures of the prior, with a standard deviation of sqrt(2 / D) over them; far from 1, what is exact
    under the prior is no statement about the picture. Coordinates without variance are left out.
    """
    z, variance = prior.coordinates(images), torch.from_numpy(prior.variance)
    alive = variance > 0
    return ((z - torch.from_numpy(prior.mean)).square()[:, alive] / variance[alive]).mean(1)


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


# Name -> (count) -> points (count, 2) within about [-1, 1], for a finite set that can be looked at.
PLANAR: dict[str, Callable[[int], Tensor]] = {"ring": _ring, "spiral": _spiral, "two moons": _moons, "lattice": _lattice}


def fitted_gaussian(dataset: str, resolution: int | Sequence[int]) -> DiagonalGaussian:
    """The shipped fit to the training images of a data set at a resolution; it takes the place of data a person lacks.

    Args:
        dataset: Such as ``celeba``.
        resolution: Height and width in pixels, or the shape (C, H, W) of a model's images.

    Raises:
        ValueError: If none is shipped for it; all that are shipped are of square color images.
    """
    if plain_number(resolution) is None:
        channels, height, width = image_shape(resolution)
        if channels != 3 or height != width:
            raise ValueError(f"the fitted Gaussians are of 3 x N x N images, the model's are {channels} x {height} x {width}")
        resolution = height
    resolution = whole_number("resolution", resolution, 1)
    folder = zoo.companion(GAUSSIANS)
    choose("fitted Gaussian", f"{dataset}-{resolution}", sorted(path.stem for path in folder.glob("*.safetensors")))
    return DiagonalGaussian.load(folder / f"{dataset}-{resolution}.safetensors")
