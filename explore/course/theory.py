"""The exact posterior of t, and samples of exact denoisers with t hidden. Depends on experiments, figures, panel."""

from __future__ import annotations

from collections.abc import Generator, Sized

import ipywidgets as widgets

from explore import figures
from explore.course.display import sheet
from explore.course.panel import Part, View, controls_of, following, picture_slider
from explore.experiments import ExactSampling, Posterior
from explore.experiments.exact import as_images
from explore.zoo import TITLES


def posterior(images: Sized, source: str = "bank:celeba") -> View:
    """p(t | xt) of a picture under three priors: a fitted Gaussian, the bundled pictures, and this picture alone.

    Args:
        images: The first pictures of the source, of which one is chosen.
        source: Where they come from.
    """

    def draw(index: int, t: float, schedule: str) -> list[Part]:
        asked = Posterior(source, t, index=index, schedule=schedule)
        found = asked.run()
        said = "; ".join(f"{row.name}: t = {row.mean:.4f} ± {row.std:.4f}" for row in found.rows)
        return [figures.posterior_curves([row.to_json() for row in found.rows], t), f"{said}.", asked]

    controls = {"index": picture_slider(images), **controls_of(Posterior, t=None, schedule=None)}
    words = "The posterior of t of one noisy picture under three priors, near the data and near pure noise."
    return View(draw, controls, words, [{"t": 0.1}, {"t": 0.9}])


def exact(size: int = 32, count: int = 16, steps: int = 25) -> View:
    """Samples of the exact denoiser of Gaussian images, with t hidden on a part of the path.

    Sampling starts at t = .999, on the linear schedule at .99, where its alpha is as small.

    Args:
        size: Height and width of the images.
        count: Images, at least 8.
        steps: Of DDIM.
    """

    def draw(target: str, schedule: str, hidden: tuple[float, float], eta: float) -> Generator[str, None, list[Part]]:
        start = 0.99 if schedule == "ddpm-linear" else 0.999
        values = {"target": target, "schedule": schedule, "hidden_from": hidden[0], "hidden_to": hidden[1], "size": size}
        asked = ExactSampling.parse(values | {"count": count, "sampler": "ddim", "steps": steps, "eta": eta, "start": start})
        _, found = yield from following(asked.stream(), "both networks", steps)
        titles = (TITLES["timestep"], f"t hidden from {hidden[0]:g} to {hidden[1]:g}")
        rows = {title: as_images(asked.prior, one[:8]).float() for title, one in zip(titles, found.samples)}
        said = "; ".join(f"{title}: {one:.3g}" for title, one in zip(titles, found.relative_frechet))
        about = f"Relative Frechet distance of {count} samples (perfect samples have about {1 / (2 * count):.3f})."
        return [sheet(rows), f"{about} {said}.", asked]

    controls = {
        **controls_of(ExactSampling, target=["eps", "x0", "v"], schedule=["ddpm-cosine", "ddpm-linear"]),
        "hidden": widgets.FloatRangeSlider(value=(0.0, 1.0), min=0.0, max=1.0, step=0.05, description="t hidden",
                                           continuous_update=False),
        **controls_of(ExactSampling, eta=0.0),
    }  # fmt: skip
    examples = [{"hidden": (0.0, 0.5)}, {"hidden": (0.95, 1.0)}]
    words = "Samples of the exact denoiser, conditioned on t and with t hidden on a part of the path."
    return View(draw, controls, words, examples, button="Sample")
