"""The exact posterior of t, and samples of exact denoisers with t hidden. Depends on bayes, panel."""

from __future__ import annotations

from collections import deque

import ipywidgets as widgets
from torch import Tensor

from explore import bayes, figures
from explore.course.display import sheet
from explore.course.panel import Part, View, menu, picture_slider, slider
from explore.data import add_noise, to_float
from explore.samplers import SAMPLERS
from explore.schedules import SCHEDULES
from explore.seeds import keyed_noise
from explore.zoo import TITLES


def posterior(images: Tensor, dataset: str = "celeba") -> View:
    """p(t | xt) of a picture under three priors: a fitted Gaussian, the given pictures, and this picture alone.

    Args:
        images: uint8 (N, 3, H, W), of the size of the fitted Gaussian.
        dataset: Of the shipped Gaussian.
    """
    gaussian = bayes.fitted_gaussian(dataset, images.shape[-1])
    finite = bayes.FiniteSet(images, f"one of {len(images)} pictures, no others")

    def draw(number: int, t: float, path: str) -> list[Part]:
        schedule, x0 = SCHEDULES[path], to_float(images[number : number + 1])
        xt = add_noise(x0, keyed_noise([number], x0.shape[1:]), t, schedule)
        priors = {"fitted Gaussian": gaussian, "these pictures": finite, "this picture": bayes.FiniteSet(x0)}
        rows, said = [], []
        for name, prior in priors.items():
            read = bayes.posterior(prior, xt, bayes.Levels.spaced(schedule, prior.dimension, prior.energy))
            p = read.log_probability[0].exp()
            density = (p / read.levels.edges.diff()).tolist()
            likely = [(a, b) for a, b in zip(read.levels.t.tolist(), density) if b > 1e-4 * max(density)]
            rows.append({"name": name, "t": [a for a, _ in likely], "density": [b for _, b in likely]})
            said.append(f"{name}: t = {read.mean().item():.4f} ± {read.std().item():.4f}")
        return [figures.posterior_curves(rows, t), "; ".join(said) + "."]

    controls = {
        "number": picture_slider(images), "t": slider("t", 0.3, 0.02, 0.98),
        "path": menu("path", SCHEDULES, "flow"),
    }  # fmt: skip
    words = "The posterior of t of one noisy picture under three priors, near the data and near pure noise."
    return View(draw, controls, words, [{"t": 0.1}, {"t": 0.9}])


def exact(prediction: str = "eps", path: str = "ddpm-cosine", resolution: int = 32, count: int = 16, steps: int = 25) -> View:
    """Samples of the exact denoiser of Gaussian images, with t hidden on a part of the path.

    Sampling starts at t = .999, on the linear schedule at .99, where its alpha is as small.

    Args:
        prediction: Initial target, a key of ``PREDICTIONS``.
        path: Initial schedule, a key of ``SCHEDULES``.
        resolution: Height and width of the images.
        count: Images, at least 8.
        steps: Of DDIM.
    """
    prior, shape = bayes.spectral_gaussian(resolution, basis="dct"), (3, resolution, resolution)

    def draw(target: str, path: str, hidden: tuple[float, float], eta: float) -> list[Part]:
        rows, said = {}, []
        for title, where in ((TITLES["timestep"], None), (f"t hidden from {hidden[0]:g} to {hidden[1]:g}", hidden)):
            levels = bayes.Levels.midpoints(SCHEDULES[path])
            denoiser = bayes.bayes_denoiser(prior, levels, target, shape, hidden=where)
            seeds = list(range(count))
            start = 0.99 if path == "ddpm-linear" else 0.999
            walk = SAMPLERS["ddim"](denoiser, keyed_noise(seeds, shape).double(), steps, seeds=seeds, eta=eta, start=start)
            [last] = deque(walk, maxlen=1)
            rows[title] = last.xt[:8].float()
            said.append(f"{title}: {bayes.relative_frechet(prior, last.xt):.3g}")
        floor = 1 / (2 * count)
        about = f"Relative Frechet distance of {count} samples (perfect samples have about {floor:.3f})."
        return [sheet(rows), f"{about} {'; '.join(said)}."]

    controls = {
        "target": menu("target", ["eps", "x0", "v"], prediction), "path": menu("path", ["ddpm-cosine", "ddpm-linear"], path),
        "hidden": widgets.FloatRangeSlider(value=(0.0, 1.0), min=0.0, max=1.0, step=0.05, description="t hidden",
                                           continuous_update=False),
        "eta": slider("eta", 0.0, 0.0, 1.0, 0.1),
    }  # fmt: skip
    examples = [{"hidden": (0.0, 0.5)}, {"hidden": (0.95, 1.0)}]
    words = "Samples of the exact denoiser, conditioned on t and with t hidden on a part of the path."
    return View(draw, controls, words, examples, button="Sample")
