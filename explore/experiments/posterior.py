"""Posterior: the exact p(t | xt) of one noisy image under three priors. Depends on bayes, data, figures, model, schedules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from explore import bayes, zoo
from explore.data import add_noise, load_images, to_float
from explore.experiments.model import one_image, seed_option
from explore.experiments.request import Load, Request
from explore.progress import Watch, quiet
from explore.results import Stored, table
from explore.schedules import SCHEDULES
from explore.seeds import keyed_noise
from explore.values import choice, real, text, whole

SIZE = 32  # pixels; Gaussians are fitted and images bundled at this resolution


def datasets() -> list[str]:
    """Names of the data sets with a Gaussian fitted at 32 px."""
    return [name.removesuffix(f"-{SIZE}") for name in bayes.fitted_names() if name.endswith(f"-{SIZE}")]


@dataclass(frozen=True)
class PosteriorRow(Stored):
    """The posterior of t under one prior: density (T,) on the grid t (T,), mean, std and the ends of the 95 % interval.

    ``prior`` describes the priors of the image and of t. ``outside`` says why the image is no sample; empty if it may be one.
    """

    name: str
    prior: str
    outside: str
    t: list[float]
    density: list[float]
    mean: float
    std: float
    low: float
    high: float


@dataclass(frozen=True)
class Posteriors(Stored):
    """The image, uint8 (1, 3, 32, 32), its source, the noisy image, one row per prior, and the bound given x0."""

    unstored: ClassVar[tuple[str, ...]] = ("picture", "xt")

    picture: Tensor
    source: str
    xt: Tensor
    rows: tuple[PosteriorRow, ...]
    bound_given_x0: float


def outside(prior: bayes.Prior, x0: Tensor) -> str:
    """Why ``x0`` (1, 3, 32, 32) is no sample of ``prior``; empty if it may be one."""
    if isinstance(prior, bayes.DiagonalGaussian):
        found, spread = bayes.relative_mahalanobis(prior, x0).item(), (2 / prior.dimension) ** 0.5
        if abs(found - 1) > 4 * spread:
            return f"its squared distance from the mean is {found:.2f} times that of samples of this Gaussian, 1 ± {spread:.2f}"
    elif isinstance(prior, bayes.FiniteSet):
        nearest = (prior.points.float() - x0.flatten(1)).square().mean(1).min().sqrt().item()
        if nearest > 1e-4:
            return f"it is not in this set: the nearest image differs by {nearest:.2f} (RMS, pixels in [-1, 1])"
    return ""


@dataclass(frozen=True)
class Posterior(Request):
    """Exact posterior of t of one noisy image, under a fitted Gaussian, the bundled images, and given x0."""

    verb: ClassVar[str] = "posterior"
    reading: ClassVar[str] = "[(row.name, row.mean, row.std) for row in result.rows], result.bound_given_x0"
    written: ClassVar[tuple[str, ...]] = ("posterior.json", "posterior.html")
    dtype: ClassVar[str] = "float64"

    picture: str = text("Image file, or a source of images such as bank:celeba.", "bank:celeba", source=True)
    t: float = real(0.02, 0.98, "Noise level of the image, 0.02 to 0.98; 1 is noise.", 0.3)
    seed: int = seed_option()
    index: int = whole(0, 10**7, "Which image of a source, from 0.", 0)
    dataset: str = choice("dataset", datasets, "Whose fitted Gaussian and bundled images are priors.", "celeba")
    schedule: str = choice("schedule", lambda: SCHEDULES, "How image and noise are mixed at each t.", "flow")

    def run(self, watch: Watch = quiet, load: Load = zoo.load) -> Posteriors:
        """The posteriors; no model is used."""
        schedule = SCHEDULES[self.schedule]
        picture, words = one_image(self.picture, self.index, (3, SIZE, SIZE))
        x0, bundled = to_float(picture), load_images(f"bank:{self.dataset}", SIZE, "all")
        xt = add_noise(x0, keyed_noise([self.seed], picture.shape[1:]), self.t, schedule)
        priors: dict[str, bayes.Prior] = {
            "fitted Gaussian": bayes.fitted_gaussian(self.dataset, SIZE),
            "bundled images": bayes.FiniteSet(bundled, f"one of the {len(bundled)} bundled images of {self.dataset}"),
            "given x0": bayes.FiniteSet(x0, "this image"),
        }
        rows = []
        for name, prior in watch(list(priors.items()), desc="priors"):
            found = bayes.posterior(prior, xt, bayes.Levels.spaced(schedule, prior.dimension, prior.energy))
            p = found.log_probability[0].exp()
            ends = torch.searchsorted(p.cumsum(0), torch.tensor([0.025, 0.975], dtype=p.dtype)).clamp(max=len(p) - 1)
            low, high = found.levels.t[ends].tolist()
            density = p / found.levels.edges.diff()  # cells differ in width
            rows.append(
                PosteriorRow(
                    name, found.prior, outside(prior, x0), found.levels.t.tolist(), density.tolist(), found.mean().item(),
                    found.std().item(), low, high,
                )
            )  # fmt: skip
        bound = bayes.information_given_x0(schedule, self.t, x0.numel(), x0.double().square().sum().item()) ** -0.5
        return Posteriors(picture, words, xt, tuple(rows), bound)

    def figures(self, result: Posteriors) -> list[Any]:
        """One figure."""
        from explore import figures  # imported here: the trainer runs where there is no plotly

        curves = figures.posterior_curves([row.to_json() for row in result.rows], self.t)
        return [curves]

    def summary(self, result: Posteriors) -> str:
        """Mean, standard deviation and 95 % interval of t under each prior."""
        columns = ("name", "mean", "std", "low", "high")
        rows = [{name: getattr(row, name) for name in columns} for row in result.rows]
        notes = [f"{row.name}: the image is no sample of this prior: {row.outside}" for row in result.rows if row.outside]
        about = f"{result.source}, t = {self.t:g}, seed {self.seed}, {self.schedule}"
        return "\n".join([table(rows), f"Cramer-Rao bound given x0: {result.bound_given_x0:.3g}", *notes, about])
