"""The tab Theory: what a picture tells of its noise level, exactly, and what not being told it costs.

Three sections, none with a trained network: the posterior of t of one picture under named priors, and its width; Gaussian
images on which the network of unlimited capacity is known, told t and not told t, sampled live; and a finite set of points
in the plane. The work is that of :mod:`explore.bayes`; this file reads the settings, shows what comes while it comes, and
puts it into words. Whatever is called exact names its prior.
"""

from __future__ import annotations

import functools
import html
import math
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from torch import Tensor

from app import common
from explore import bayes, figures, zoo
from explore.data import add_noise, load_images, to_float, to_uint8
from explore.denoiser import PREDICTIONS, Denoiser
from explore.samplers import SAMPLERS
from explore.schedules import SCHEDULES
from explore.seeds import MAX_SEED, keyed_noise, seed_range
from explore.values import choose

PATHS = {"flow": "flow (straight)", "ddpm-cosine": "DDPM, cosine", "ddpm-linear": "DDPM, linear"}
IMAGES = {False: (0.25, "plain"), True: (0.16, "dct")}  # variance and basis of the Gaussian images, clamped or not
LEVELS = 300  # values of t that the toys' posteriors run over, as in the exact table
MAX_STEPS, MAX_SAMPLES, MAX_POINTS = 100, 64, 64
SIZES = (8, 16, 32)  # pixels of the Gaussian images: more take the square of the time
WIDTH_TIMES = tuple(k / 40 for k in range(1, 40))
DIMENSIONS = (192, 768, 3072, 12288)
UPDATE_SECONDS = 0.25
# Examples: t hidden from and to, clamping, eta and start; pattern, number of points, typed ones, target and path.
HIDDEN = {
    "Hide t near the data: below .5": (0, 0.5, False, 0, 0.999),
    "Hide t near noise: above .95": (0.95, 1, False, 0, 0.999),
    "Rescue: clamp and fresh noise": (0, 1, True, 1, 0.99),
}
POINTS = {
    "two points": ("ring", 2, "-1, 0; 1, 0", "velocity", "flow"),
    "a spiral of 24": ("spiral", 24, "", "velocity", "flow"),
    "the spiral, predicting noise": ("spiral", 24, "", "eps", "ddpm-cosine"),
}
SECTIONS = {
    "theory-posterior": (
        "What does one picture tell?",
        "Noise is added to a picture. How probable is every amount of it, given what one assumes of pictures? Each curve is "
        "exact for its assumption, the prior, and says nothing beyond it.",
    ),
    "theory-exact": (
        "What does not knowing cost?",
        "Gaussian images with the spectrum of photographs: the best possible network is a formula, told the time or not. Both "
        "sample from the same noise. Hide t on the whole path, or on a part of it, and see which end matters.",
    ),
    "theory-plane": (
        "A finite set, in the plane",
        "The data are a few points. Both best possible networks start from the same noise and follow their paths; on a finite "
        "set nothing collapses, but what is never told the time can stop between the points.",
    ),
}


# A picture and its posteriors ----------------------------------------------------------------------------------------------


@functools.lru_cache
def datasets() -> list[str]:
    """Data sets with a shipped Gaussian at 32 px."""
    return sorted(path.stem.removesuffix("-32") for path in zoo.companion(bayes.GAUSSIANS).glob("*-32.safetensors"))


@functools.lru_cache(maxsize=8)
def bank(dataset: str) -> Tensor:
    """The bundled pictures of a data set, uint8 (N, 3, 32, 32)."""
    return load_images(f"bank:{dataset}", 32, "all")


@functools.lru_cache(maxsize=8)
def bank_set(dataset: str) -> bayes.FiniteSet:
    """The bundled pictures as a prior of which each is equally likely and no other occurs."""
    return bayes.FiniteSet(bank(dataset), f"one of the {len(bank(dataset))} bundled pictures of {dataset}, no others")


def priors(dataset: str, x0: Tensor) -> dict[str, bayes.Prior]:
    """Name -> prior, for the picture ``x0`` (1, 3, 32, 32) in [-1, 1]."""
    return {
        "Gaussian": bayes.fitted_gaussian(dataset, 32),
        "bundled pictures": bank_set(dataset),
        "this very picture": bayes.FiniteSet(x0, "this very picture, known beforehand"),
    }


def outside(name: str, prior: bayes.Prior, x0: Tensor) -> str:
    """Whether a picture lies outside a prior, in words; empty if it may be one of it."""
    if isinstance(prior, bayes.DiagonalGaussian):
        found, spread = bayes.surprise(prior, x0).item(), (2 / prior.dimension) ** 0.5
        if abs(found - 1) > 4 * spread:
            return (
                f"no draw of this Gaussian: its squared distance from the mean is {found:.2f} of what is expected, where draws "
                f"have 1 ± {spread:.2f}"
            )
    elif isinstance(prior, bayes.FiniteSet) and name != "this very picture":
        nearest = (prior.points.float() - x0.flatten(1)).square().mean(1).min().sqrt().item()
        if nearest > 1e-4:
            return f"not one of them: the nearest differs by {nearest:.2f} a pixel (pictures in [-1, 1])"
    return ""


def read_posteriors(picture: Tensor, dataset: str, path: str, t: float, seed: int) -> tuple[Tensor, list[dict[str, Any]]]:
    """``picture`` uint8 (3, 32, 32) with noise at ``t``, float32 (1, 3, 32, 32), and what each prior makes of it.

    Returns:
        The noisy picture, and rows of ``name``, ``prior`` in words, ``outside`` (see above), ``t`` (T,), ``density`` (T,), and
        ``mean``, ``std``, ``low`` and ``high`` of t, the ends of the interval of 95 %.
    """
    schedule, x0 = SCHEDULES[path], to_float(picture)[None]
    xt = add_noise(x0, keyed_noise([seed], picture.shape), t, schedule)
    rows = []
    for name, prior in priors(dataset, x0).items():
        read = bayes.posterior(prior, xt, bayes.Levels.spaced(schedule, prior.dimension, prior.energy))
        p = read.log_probability[0].exp()
        below = p.cumsum(0)
        low, high = (read.levels.t[int((below < share).sum().clamp(max=len(p) - 1))].item() for share in (0.025, 0.975))
        density = p / read.levels.edges.diff()  # cells differ in width
        rows.append(
            {
                "name": name, "prior": read.prior, "outside": outside(name, prior, x0), "t": read.levels.t.tolist(),
                "density": density.tolist(), "mean": read.mean().item(), "std": read.std().item(), "low": low, "high": high,
            }
        )  # fmt: skip
    return xt, rows


def posterior_code(dataset: str, number: int | None, path: str, t: float, seed: int) -> str:
    """Python that gives the posteriors: of the bundled picture of this number, from 1, or an upload for None."""
    lines = [
        "from explore import bayes, zoo", "from explore.schedules import SCHEDULES", *common.pictured(dataset, 32, number),
        f"schedule, x0 = SCHEDULES[{path!r}], to_float(picture)[None]",
        f"xt = add_noise(x0, keyed_noise([{seed}], picture.shape), {t!r}, schedule)",
        f"bundled = bayes.FiniteSet({common.call('load_images', f'bank:{dataset}', 32, 'all')})",
        f"priors = [{common.call('bayes.fitted_gaussian', dataset, 32)}, bundled, bayes.FiniteSet(x0)]",
        "levels = [bayes.Levels.spaced(schedule, prior.dimension, prior.energy) for prior in priors]",
        "read = [bayes.posterior(prior, xt, own) for prior, own in zip(priors, levels)]",
        "[(one.levels.t, one.log_probability[0].exp() / one.levels.edges.diff()) for one in read]  # t and density",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


@functools.lru_cache(maxsize=16)
def widths(dataset: str, path: str) -> list[dict[str, Any]]:
    """Width of the posterior of t by t, from Fisher information: for the fitted Gaussian and for who knows the picture."""
    prior, schedule = bayes.fitted_gaussian(dataset, 32), SCHEDULES[path]
    known = [bayes.known_image_information(schedule, t, prior.dimension, prior.energy) ** -0.5 for t in WIDTH_TIMES]
    read = [prior.information(schedule, t) ** -0.5 for t in WIDTH_TIMES]
    return [
        {"name": f"Gaussian fitted to {dataset}", "x": WIDTH_TIMES, "y": read},
        {"name": "who knows the picture", "x": WIDTH_TIMES, "y": known},
    ]


@functools.lru_cache(maxsize=4)
def dimensions() -> tuple[list[dict[str, Any]], float]:
    """Relative width of t by dimension, for one known point at 0 on the straight path at t = .5, and its log-log slope."""
    measured = []
    for d in DIMENSIONS:
        prior = bayes.FiniteSet(torch.zeros(1, d), f"one known point of {d} values, 0")
        measured.append(bayes.posterior_width(prior, bayes.Levels.spaced(SCHEDULES["flow"], d), 0.5, count=64).std / 0.5)
    x = torch.tensor(DIMENSIONS, dtype=torch.float64).log()
    y = torch.tensor(measured, dtype=torch.float64).log()
    slope = (((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()).item()
    rows: list[dict[str, Any]] = [
        {"name": "exact posterior, 64 draws each", "x": DIMENSIONS, "y": measured, "markers": True},
        {"name": "1 / sqrt(2 d)", "x": DIMENSIONS, "y": [(2 * d) ** -0.5 for d in DIMENSIONS]},
    ]
    return rows, slope


@functools.lru_cache(maxsize=16)
def prices(dataset: str, path: str) -> list[tuple[str, float, float, float]]:
    """What not knowing t costs by target: (target, price a value, its standard error, share of the target's mean square)."""
    prior, schedule = bayes.fitted_gaussian(dataset, 32), SCHEDULES[path]
    levels = bayes.Levels.spaced(schedule, prior.dimension, prior.energy)
    rows = []
    for target, rule in PREDICTIONS.items():
        if rule.flow_only and path != "flow":
            continue
        cost = bayes.price(prior, levels, target, count=16)
        one, zero = torch.ones_like(cost.t), torch.zeros_like(cost.t)
        alpha, sigma = schedule.alpha(cost.t), schedule.sigma(cost.t)
        c, d = rule.target(one, zero, alpha, sigma), rule.target(zero, one, alpha, sigma)
        square = (c.square() * prior.energy / prior.dimension + d.square()).mean().item()
        rows.append((target, cost.value / prior.dimension, cost.error / prior.dimension, cost.value / prior.dimension / square))
    return rows


def costs_code(dataset: str, path: str) -> str:
    """Python that gives the widths by noise level and by dimension, and the prices by target."""
    lines = [
        "import torch", "from explore import bayes", "from explore.denoiser import PREDICTIONS",
        "from explore.schedules import SCHEDULES",
        f"schedule, prior = SCHEDULES[{path!r}], {common.call('bayes.fitted_gaussian', dataset, 32)}",
        f"times = [k / {len(WIDTH_TIMES) + 1} for k in range(1, {len(WIDTH_TIMES) + 1})]",
        "read = [prior.information(schedule, t) ** -0.5 for t in times]  # std of t under the Gaussian",
        "known = [bayes.known_image_information(schedule, t, prior.dimension, prior.energy) ** -0.5 for t in times]",
        f"points = [bayes.FiniteSet(torch.zeros(1, d)) for d in {DIMENSIONS}]  # one known point: relative width by dimension",
        'own = [bayes.Levels.spaced(SCHEDULES["flow"], point.dimension) for point in points]',
        "by_dimension = [bayes.posterior_width(point, one, 0.5, count=64).std / 0.5 for point, one in zip(points, own)]",
        "levels = bayes.Levels.spaced(schedule, prior.dimension, prior.energy)",
        f"targets = [name for name, rule in PREDICTIONS.items() if {path == 'flow'} or not rule.flow_only]",
        "prices = [bayes.price(prior, levels, name, count=16).value / prior.dimension for name in targets]",
        "read, known, by_dimension, prices",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


# Gaussian images: the exact table, live -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exact:
    """What the panel samples.

    Attributes:
        target: A key of ``PREDICTIONS``.
        path: A key of ``SCHEDULES``.
        sampler: ``ddim`` or ``heun``.
        eta: 0 to 1, of ddim.
        clamp: Hold x0_hat in [-1, 1], of ddim.
        start: First t, from .5 to 1.
        hidden: Range of t within which the blind network is not told it.
        size: Height and width of the images.
        count: Samples.
        steps: Of the sampler.
    """

    target: str
    path: str
    sampler: str
    eta: float
    clamp: bool
    start: float
    hidden: tuple[float, float]
    size: int
    count: int
    steps: int

    @property
    def options(self) -> dict[str, Any]:
        """Of the sampler."""
        own = {"eta": self.eta, "clamp": self.clamp} if self.sampler == "ddim" else {}
        return {**own, "start": self.start}


def read_exact(
    target: Any,
    path: Any,
    sampler: Any,
    eta: Any,
    clamp: Any,
    start: Any,
    low: Any,
    high: Any,
    size: Any,
    count: Any,
    steps: Any,
) -> Exact:
    """Settings from controls or a call, each checked.

    Raises:
        ValueError: For the first value that is not allowed, saying what is.
    """
    low, high = common.number("hidden from", low, 0, 1), common.number("hidden to", high, 0, 1)
    if low >= high:
        raise ValueError(f"t is hidden from a smaller to a larger value, got {low:g} to {high:g}")
    found = Exact(
        target=choose("target", str(target)[:40], PREDICTIONS),
        path=choose("noise path", str(path)[:40], PATHS),
        sampler=choose("sampler", str(sampler)[:40], ("ddim", "heun")),
        eta=common.number("eta", eta, 0, 1),
        clamp=common.truth("clamp", clamp),
        start=common.number("the start", start, 0.5, 1),
        hidden=(low, high),
        size=int(choose("size", str(size)[:10], [str(one) for one in SIZES])),
        count=int(common.number("the number of samples", count, 2, MAX_SAMPLES, whole=True)),
        steps=int(common.number("steps", steps, 1, MAX_STEPS, whole=True)),
    )
    if PREDICTIONS[found.target].flow_only and found.path != "flow":
        raise ValueError(f"the target {found.target} is defined on the path flow only")
    if found.start > 0.9999 and found.path != "flow":
        raise ValueError("on this path the picture is gone at t = 1: start at .9999 or before")
    if found.start > 0.9999 and found.target == "eps":
        raise ValueError("an eps prediction cannot start at t = 1, where alpha is 0: start at .9999 or before")
    return found


def exact_denoisers(settings: Exact) -> tuple[bayes.DiagonalGaussian, list[Denoiser]]:
    """The prior, and the exact network told t and the one it is hidden from."""
    # Clamping needs pixels, so a basis in which coordinates are turned back into them, and values that mostly fit.
    prior = bayes.spectral_gaussian(settings.size, *IMAGES[settings.clamp])
    levels = bayes.Levels.midpoints(SCHEDULES[settings.path], LEVELS)
    shape = (3, settings.size, settings.size)
    return prior, [
        bayes.bayes_denoiser(prior, levels, settings.target, shape, hidden=hidden) for hidden in (None, settings.hidden)
    ]


def stream_exact(settings: Exact) -> Iterator[tuple[float, list[Tensor], list[float]]]:
    """Steps of both samplers: share done, both states (N, 3, H, W), and both relative Fréchet distances."""
    prior, denoisers = exact_denoisers(settings)
    seeds = seed_range(0, settings.count)
    noise = keyed_noise(seeds, denoisers[0].shape).double()
    walks = [
        SAMPLERS[settings.sampler](denoiser, noise, settings.steps, seeds=seeds, **settings.options) for denoiser in denoisers
    ]
    for both in zip(*walks):
        states = [step.xt for step in both]
        images = [state if prior.basis == "dct" else _seen(prior, state) for state in states]
        yield both[0].index / settings.steps, images, [bayes.relative_frechet(prior, state) for state in states]


def exact_code(settings: Exact) -> str:
    """Python that samples what :func:`stream_exact` does."""
    shape = (3, settings.size, settings.size)
    prior = common.call("bayes.spectral_gaussian", settings.size, *IMAGES[settings.clamp])
    network = common.call("bayes.bayes_denoiser", "=prior", "=levels", settings.target, shape, hidden="=hidden")
    run = common.call(
        f"SAMPLERS[{settings.sampler!r}]", "=network", "=noise", settings.steps, seeds="=seeds", **settings.options
    )  # fmt: skip
    return f"""from explore import bayes, zoo
from explore.samplers import SAMPLERS
from explore.schedules import SCHEDULES
prior, levels = {prior}, bayes.Levels.midpoints(SCHEDULES[{settings.path!r}], {LEVELS})
seeds = seed_range(0, {settings.count})
noise = keyed_noise(seeds, {shape}).double()
networks = [{network} for hidden in (None, {settings.hidden})]
samples = [list({run})[-1].xt for network in networks]
samples, [bayes.relative_frechet(prior, own) for own in samples]  # told t and not; coordinates of the prior's basis
"""


def _seen(prior: bayes.DiagonalGaussian, state: Tensor) -> Tensor:
    """Coordinates of the covariance's own basis, the Fourier basis, as pictures: real and imaginary parts side by side.

    A Hartley transform is orthonormal and real, and has the Fourier basis' frequencies.
    """
    spectrum = torch.fft.fft2(state, norm="ortho")
    return spectrum.real - spectrum.imag


# Points in the plane ---------------------------------------------------------------------------------------------------------


def read_points(text: Any, pattern: Any, count: Any) -> Tensor:
    """Points (K, 2): those typed as ``x, y; x, y; ...``, or else a pattern of ``count``.

    Raises:
        ValueError: For anything that is not such a list, too many points, or points beyond -2 to 2.
    """
    typed = str(text or "").strip()[:4000]
    if not typed:
        name = choose("pattern", str(pattern)[:40], bayes.PLANAR)
        return bayes.PLANAR[name](int(common.number("the number of points", count, 1, MAX_POINTS, whole=True)))
    points = []
    for part in filter(None, (part.strip() for part in re.split(r"[;\n]", typed))):
        values = [value for value in re.split(r"[,\s]+", part) if value]
        if len(values) != 2:
            raise ValueError(f"a point is two numbers, such as 0.5, -1; got {part[:40]!r}")
        points.append([common.number("a coordinate", value, -2, 2) for value in values])
    if not 1 <= len(points) <= MAX_POINTS:
        raise ValueError(f"1 to {MAX_POINTS} points are taken, got {len(points)}")
    return torch.tensor(points, dtype=torch.float64)


def planar(points: Tensor, target: str, path: str, start: float, steps: int, count: int) -> list[Tensor]:
    """Paths (N, S, 2) of the exact ODE on the finite set ``points`` (K, 2), told t and never told it, from the same noise.

    Raises:
        ValueError: For a target that the path does not have.
    """
    choose("target", target, PREDICTIONS), choose("noise path", path, PATHS)
    if PREDICTIONS[target].flow_only and path != "flow":
        raise ValueError(f"the target {target} is defined on the path flow only")
    prior = bayes.FiniteSet(points[:, :, None, None])
    levels = bayes.Levels.midpoints(SCHEDULES[path], LEVELS)
    seeds, found = seed_range(0, count), []
    for hidden in (None, (0.0, 1.0)):
        denoiser = bayes.bayes_denoiser(prior, levels, target, (2, 1, 1), hidden=hidden)
        noise = keyed_noise(seeds, denoiser.shape).double()
        walk = SAMPLERS["ddim"](denoiser, noise, steps, seeds=seeds, start=start)
        found.append(torch.stack([step.xt.flatten(1) for step in walk], 1))
    return found


def planar_code(typed: str, pattern: str, number: int, target: str, path: str, start: float, steps: int, count: int) -> str:
    """Python that follows what :func:`planar` does with the points of :func:`read_points`."""
    points = f"bayes.PLANAR[{pattern!r}]({number})"
    if typed.strip():
        points = common.call("torch.tensor", read_points(typed, pattern, number).tolist(), dtype="=torch.float64")
    network = common.call("bayes.bayes_denoiser", "=prior", "=levels", target, (2, 1, 1), hidden="=hidden")
    run = common.call("SAMPLERS['ddim']", "=network", "=noise", steps, seeds="=seeds", start=start)
    return f"""import torch
from explore import bayes, zoo
from explore.samplers import SAMPLERS
from explore.schedules import SCHEDULES
points = {points}
prior, levels = bayes.FiniteSet(points[:, :, None, None]), bayes.Levels.midpoints(SCHEDULES[{path!r}], {LEVELS})
seeds = seed_range(0, {count})
noise = keyed_noise(seeds, (2, 1, 1)).double()
networks = [{network} for hidden in (None, (0.0, 1.0))]
[torch.stack([step.xt.flatten(1) for step in {run}], 1) for network in networks]  # (N, S, 2) told t, and not
"""


# What the page shows ---------------------------------------------------------------------------------------------------------

TITLES, COLOURS = ("told the time", "never told the time"), (figures.TOLD, figures.UNTOLD)


def posterior_table(rows: Sequence[dict[str, Any]], t: float) -> str:
    """What each prior says of t, and whether the picture is one of it."""
    lines = [
        (
            f"{html.escape(row['name'])}<br><small style='white-space: normal'>prior: {html.escape(row['prior'])}</small>",
            f"{row['mean']:.4f} ± {row['std']:.4f}",
            f"{row['low']:.4f} to {row['high']:.4f}",
            html.escape(row["outside"]) or "may be one of it",
        )
        for row in rows
    ]
    head = ("", "t: mean and std", "95 %", "is the picture one of this prior?")
    return common.table(f"Exact under its prior, each. The true t is {t:g}.", head, lines)


def exact_view(settings: Exact | None, images: Sequence[Tensor] | None) -> str:
    """Both sets of samples, or where they will be."""
    what = f"hidden from t = {settings.hidden[0]:g} to {settings.hidden[1]:g}" if settings else "the same noise"
    cells = []
    for number, (title, colour) in enumerate(zip(("told the time", "not told the time"), COLOURS)):
        body = '<div class="empty">Press the button.</div>'
        if images is not None:
            finite = torch.nan_to_num(images[number], nan=0.0, posinf=1.0, neginf=-1.0)
            body = common.picture(to_uint8(finite[:16]), f"Samples of the exact network {title}")
        cells.append(common.cell("", colour, title, what if number else "on the whole path", body))
    return f'<div class="pictures two">{"".join(cells)}</div>'


def exact_words(settings: Exact, distances: Sequence[float], seconds: float) -> str:
    """What came out, and under which prior."""
    prior, _ = exact_denoisers(settings)
    floor = 1 / (2 * settings.count)
    told, blind = (f"{value:.3g}" if math.isfinite(value) else "infinite" for value in distances)
    ratio = distances[1] / max(distances[0], floor)
    verdict = (
        "Not knowing t costs next to nothing here."
        if distances[1] < 3 * max(distances[0], floor)
        else f"Not knowing t costs a factor of {ratio:.3g}."
        if math.isfinite(ratio)
        else "Without t the samples leave every bound."
    )
    return (
        f"<p class='summary'>Relative Fréchet distance: told <b>{told}</b>, not told <b>{blind}</b> (perfect samples: about "
        f"{floor:.3g}). {verdict} {settings.count} samples of seeds 0 to {settings.count - 1}, {settings.steps} steps of "
        f"{settings.sampler}, {seconds:.1f} s.<br>Exact for: {html.escape(prior.prior)}; t one of {LEVELS} midpoints, uniform. "
        "Large figures hang on a few coordinates: read their order.</p>"
    )


def plane_words(points: Tensor, paths: Sequence[Tensor], target: str, path: str) -> str:
    """How near the samples end to the data."""
    said = []
    for title, walk in zip(TITLES, paths):
        away = torch.cdist(walk[:, -1].double(), points.double()).amin(1)
        said.append(f"{title}: <b>{(away < 0.02).sum()}</b> of {len(away)} end on a point, mean distance {away.mean():.3f}")
    return (
        f"<p class='summary'>{'; '.join(said)}.<br>Exact for: one of these {len(points)} points, each equally likely, no "
        f"others; target {html.escape(target)}, path {html.escape(path)}, t one of {LEVELS} midpoints, uniform. In two "
        "dimensions a point tells little of its noise level; pictures have thousands.</p>"
    )


POSTERIOR_EMPTY = (
    ("clean", "the picture that is chosen", "#7f7f7f"),
    ("noisy", "with noise: how much, is the question", "#7f7f7f"),
)
PLANE_EMPTY = tuple(
    (title, "paths from noise to the points", colour) for title, colour in zip(TITLES, COLOURS)
)  # fmt: skip
# The plane from -2 to 2; a click adds a point to the field of typed ones.
PAD = """<svg viewBox="-2 -2 4 4" role="img" aria-label="The plane from -2 to 2 with your points; a click adds one">
<path d="M-2 0H2M0-2V2M-2-1H2M-2 1H2M-1-2V2M1-2V2"/><text text-anchor="middle" y=".35">click to add points</text><g></g>
</svg>"""
PAD_JS = """() => {
  if (window.clocklessPad) return;
  window.clocklessPad = text => {
    const dots = document.querySelector("#plane-pad g");
    if (!dots) return;
    const points = text.split(/[;\\n]/).map(part => part.trim().split(/[,\\s]+/).map(Number)).filter(one => one.length === 2);
    dots.replaceChildren(...points.map(([x, y]) => {
      const dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
      for (const [name, value] of Object.entries({cx: x, cy: -y, r: 0.07})) dot.setAttribute(name, value);
      return dot;
    }));
  };
  document.addEventListener("click", event => {
    const pad = event.target.closest?.("#plane-pad svg"), field = document.querySelector("#plane-typed :is(textarea, input)");
    if (!pad || !field) return;
    const box = pad.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * 4 - 2, y = 2 - (event.clientY - box.top) / box.height * 4;
    const known = field.value.trim().replace(/;$/, "");
    field.value = `${known}${known ? "; " : ""}${x.toFixed(2)}, ${y.toFixed(2)}`;
    field.dispatchEvent(new Event("input", {bubbles: true}));
    (REST)();
  });
}""".replace("REST", common.rest_js("plane-go"))
CSS = """
#plane-pad svg { display: block; width: 100%; max-width: 260px; margin: auto; cursor: crosshair; border-radius: 4px;
  border: 1px solid rgba(127,127,127,.5); }
#plane-pad path { fill: none; stroke: rgba(127,127,127,.35); stroke-width: .015; }
#plane-pad text { fill: var(--body-text-color); font-size: .26px; opacity: .8; pointer-events: none; }
#plane-pad svg:has(circle) text { display: none; }
#plane-pad circle { fill: var(--body-text-color); }
.theory-plot { min-width: 0; }
#theory-exact-pictures .pictures.two { max-width: 52rem; }
"""


# The tab -------------------------------------------------------------------------------------------------------------------


def tour() -> list[common.Stop]:
    """Why it works where it does, and why it fails where it fails."""
    found = [
        common.Stop(
            "Is it in the picture?",
            "Leave the networks aside. How well can t be known from one noisy picture at all?",
            "The curves are exact, each for what it assumes of pictures. They are narrow: a picture has thousands of values, "
            "and each carries noise. So t need not be told, it can be read.",
            "theory-posterior",
            "posterior-example-1",
        ),
        common.Stop(
            "What it costs",
            "And yet the noise prediction failed. Which end of the path is to blame? Here the best possible networks are "
            "known, and t is hidden from one of them near noise only.",
            "Hiding t above .95 is enough to ruin the samples; press the example beside it, which hides it below .5, near the "
            "data: that costs nothing. The last example rescues it, as in Compare.",
            "theory-exact",
            "exact-example-2",
        ),
    ]
    return found if datasets() else found[1:]


def build(page: gr.Blocks) -> None:
    """Lays out the tab and connects it."""
    links = "".join(f'<a href="#{anchor}">{title}</a>' for anchor, (title, _) in SECTIONS.items())
    with gr.Row(elem_classes="tab-head"):
        gr.HTML(f"<nav aria-label='Sections of this tab'>{links}</nav>")
    if datasets():
        _build_posterior(page)
    _build_exact()
    _build_plane(page)
    page.unload(common.forget)
    _endpoint()


def _build_posterior(page: gr.Blocks) -> None:
    opening = datasets()[0]
    with gr.Column(elem_classes="tab-section"):
        common.heading("theory-posterior", *SECTIONS["theory-posterior"])
        ready = common.examples("posterior", _noisy())
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=280):
                dataset = gr.Dropdown(
                    datasets(), value=opening, label="Pictures", filterable=False, elem_id="posterior-dataset",
                    info="Bundled ones were generated by our models; the Gaussian was fitted to the training images.",
                )  # fmt: skip
                number = gr.Slider(
                    1, max(2, len(bank(opening))), 1, step=1, label="Bundled picture", buttons=[], elem_id="posterior-bank",
                    info="Generated by one of our models.",
                )  # fmt: skip
                upload = gr.File(
                    label=common.OWN_PICTURE, file_types=["image"], type="filepath",
                    height=170, elem_id="posterior-upload",
                )  # fmt: skip
                path = gr.Dropdown(
                    [(title, name) for name, title in PATHS.items()], value="flow", label="Noise path", filterable=False,
                    elem_id="posterior-path", info="How picture and noise are mixed at each t.",
                )  # fmt: skip
                t = gr.Slider(
                    0.02, 0.98, 0.3, step=0.01, label="t", info="How much noise is added; 1 is noise alone.", buttons=[],
                    elem_id="posterior-t",
                )  # fmt: skip
                seed = gr.Number(
                    0, label="Seed of the noise", info="The same seed, the same noise.", elem_id="posterior-seed"
                )  # fmt: skip
            with gr.Column(scale=3, min_width=320, elem_classes="tab-stage"):
                go = gr.Button("Who knows t?", variant="primary", elem_id="posterior-go")
                status = gr.HTML(common.status(common.READY), elem_id="posterior-status")
                with gr.Row(equal_height=False):
                    with gr.Column(scale=2, min_width=280):
                        pictures = gr.HTML(common.waiting(POSTERIOR_EMPTY), elem_id="posterior-pictures")
                    with gr.Column(scale=3, min_width=320):
                        curves = gr.Plot(
                            show_label=False, label="p(t | x)", elem_id="posterior-curves", elem_classes="tab-plot"
                        )
                table = gr.HTML("", elem_id="posterior-table")
                code = common.code_part("posterior")
                with gr.Column(elem_classes="until-drawn"):
                    with gr.Row(equal_height=False):
                        with gr.Column(min_width=320):
                            gr.HTML("<p class='note'><b>Width by noise level</b>: one standard deviation of t, from Fisher "
                                    "information.</p>")  # fmt: skip
                            by_t = gr.Plot(
                                show_label=False, label="Width by t", elem_id="posterior-widths", elem_classes="tab-plot"
                            )
                        with gr.Column(min_width=320):
                            slope_note = gr.HTML("", elem_id="posterior-slope")
                            by_d = gr.Plot(
                                show_label=False,
                                label="Width by dimension",
                                elem_id="posterior-dimensions",
                                elem_classes="tab-plot",
                            )
                    price = gr.HTML("", elem_id="posterior-price")
                    costs = common.code_part("costs")

    def read(dataset: str, number: float, file: str | None, path: str, t: float, seed: float) -> dict[Any, Any]:
        """The posterior of t under each prior, and the curves behind it."""
        began = time.monotonic()
        try:
            choose("data set", str(dataset)[:40], datasets())
            choose("noise path", str(path)[:40], PATHS)
            t = common.number("t", t, 0.02, 0.98)
            seed = int(common.number("the seed", seed, 0, MAX_SEED, whole=True))
            which, picture, words = _picture(dataset, number, file)
            xt, rows = read_posteriors(picture, dataset, path, t, seed)
        except ValueError as error:
            return {status: common.notice(error)}
        views = [("clean", "32 x 32", picture), ("noisy", f"t = {t:g}", to_uint8(xt)[0])]
        cells = "".join(
            common.cell("", "#7f7f7f", name, what, common.picture(image[None], f"The {name} picture, {what}"))
            for name, what, image in views
        )
        return {
            status: common.status(f"Read in {time.monotonic() - began:.1f} s. {html.escape(words)}", 1.0),
            pictures: f'<div class="pictures two">{cells}</div>',
            curves: figures.posterior_curves(rows, t),
            table: posterior_table(rows, t),
            code: posterior_code(dataset, which, path, t, seed),
            by_t: figures.width_curves(widths(dataset, path), "t (1 is noise, 0 is data)", "std of t", t),
        }

    def also(dataset: str, path: str) -> dict[Any, Any]:
        """What belongs to no single picture."""
        rows, slope = dimensions()
        lines = [(name, f"{value:.2e} ± {error:.1e}", f"{share:.2%}") for name, value, error, share in prices(dataset, path)]
        caption = (
            f"The price of not knowing t, a value of a picture, by what the network predicts. Prior: "
            f"{html.escape(_prior(dataset))}; t uniform; path {path}; 16 draws, ± standard error."
        )
        return {
            by_d: figures.width_curves(rows, "values of a picture (log)", "relative std of t"),
            slope_note: "<p class='note'><b>Width by dimension</b>: one known point, straight path, t = .5. Slope on log "
            f"axes: {slope:.3f}; theory says -1/2.</p>",
            price: common.table(caption, ("predicts", "squared error", "of the target's mean square"), lines),
            costs: costs_code(dataset, path),
        }

    shown = [status, pictures, curves, table, code, by_t]
    asked = [dataset, number, upload, path, t, seed]
    go.click(None, None, status, js=common.WAIT_JS)
    go.click(read, asked, shown, trigger_mode="always_last", **common.ONE_MODEL).then(
        also, [dataset, path], [by_d, slope_note, price, costs], **common.ONE_MODEL
    )
    for part in (t, number):
        part.input(None, None, None, js=common.rest_js("posterior-go"))
    for name, button in ready.items():
        values: dict[Any, Any] = dict(zip((dataset, t), _noisy()[name])) | {path: "flow", upload: None}
        limit = {number: gr.update(maximum=max(2, len(bank(values[dataset]))), value=1)}
        common.on_example(button, "posterior-go", functools.partial(dict, values | limit), None, [*values, number])
    dataset.input(
        lambda name: gr.update(maximum=max(2, len(bank(choose("data set", name, datasets())))), value=1), dataset, number,
        **common.AT_ONCE,
    )  # fmt: skip


def _noisy() -> dict[str, tuple[str, float]]:
    """Data set and t of the examples, by name."""
    first, last = datasets()[0], datasets()[-1]
    return {
        f"{first}, a little noise": (first, 0.1),
        f"{first}, mostly noise": (first, 0.9),
        f"{last}, in between": (last, 0.4),
    }


def _prior(dataset: str) -> str:
    return bayes.fitted_gaussian(dataset, 32).prior


def _picture(dataset: str, number: Any, file: str | Path | None) -> tuple[int | None, Tensor, str]:
    """The bundled picture's number if one was chosen, the picture, uint8 (3, 32, 32), and words about it."""
    if file:
        return None, *common.read_picture(file, 32)
    which = int(common.number("the number of the picture", number, 1, len(bank(dataset)), whole=True))
    return which, bank(dataset)[which - 1], ""


def _build_exact() -> None:
    with gr.Column(elem_classes="tab-section"):
        common.heading("theory-exact", *SECTIONS["theory-exact"])
        ready = common.examples("exact", HIDDEN)
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=280):
                with gr.Row():
                    target = gr.Dropdown(
                        list(PREDICTIONS),
                        value="eps",
                        label="Predicts",
                        info="What the network gives.",
                        filterable=False,
                        min_width=120,
                        elem_id="exact-target",
                    )
                    path = gr.Dropdown(
                        [(title, name) for name, title in PATHS.items()], value="ddpm-cosine", label="Noise path",
                        filterable=False, min_width=170, elem_id="exact-path", info="How picture and noise are mixed.",
                    )  # fmt: skip
                sampler = gr.Dropdown(
                    ["ddim", "heun"], value="ddim", label="Sampler", filterable=False, elem_id="exact-sampler",
                    info="heun: an ODE solver of second order, of twice the price.",
                )  # fmt: skip
                eta = gr.Slider(
                    0, 1, 0, step=0.1, label="eta (ddim)", info="Fresh noise: 0 none, 1 as in DDPM.", buttons=[],
                    elem_id="exact-eta",
                )  # fmt: skip
                clamp = gr.Checkbox(
                    False,
                    label="clamp x0_hat to [-1, 1]",
                    info="Images of variance .16, which mostly fit.",
                    elem_id="exact-clamp",
                )
                start = gr.Slider(
                    0.9, 1, 0.99, step=0.001, label="Start of sampling, t", buttons=[], elem_id="exact-start",
                    info="1 is noise alone.",
                )  # fmt: skip
                low = gr.Slider(
                    0, 1, 0, step=0.01, label="t hidden from", info="Below it, near the data, t is told.", buttons=[],
                    elem_id="exact-low",
                )  # fmt: skip
                high = gr.Slider(
                    0, 1, 1, step=0.01, label="to", info="Above it, near noise, t is told.", buttons=[], elem_id="exact-high"
                )
                with gr.Row():
                    size = gr.Dropdown(
                        [str(one) for one in SIZES], value="16", label="Pixels", filterable=False, min_width=90,
                        elem_id="exact-size", info="A side.",
                    )  # fmt: skip
                    count = gr.Number(32, label="Samples", info=f"2 to {MAX_SAMPLES}", min_width=90, elem_id="exact-count")
                    steps = gr.Number(50, label="Steps", info=f"1 to {MAX_STEPS}", min_width=90, elem_id="exact-steps")
            with gr.Column(scale=3, min_width=320, elem_classes="tab-stage"):
                with gr.Row():
                    go = gr.Button("Sample both", variant="primary", elem_id="exact-go", scale=4, min_width=160)
                    halt = gr.Button("Stop", variant="stop", interactive=False, elem_id="exact-stop", scale=1, min_width=64)
                status = gr.HTML(common.status(common.READY), elem_id="exact-status")
                pictures = gr.HTML(exact_view(None, None), elem_id="theory-exact-pictures")
                summary = gr.HTML("", elem_id="exact-summary")
                code = common.code_part("exact")

    @common.streamed
    def run(
        target: str, path: str, sampler: str, eta: float, clamp: bool, start: float, low: float, high: float, size: str,
        count: float, steps: float, request: gr.Request,
    ) -> Iterator[dict[Any, Any]]:  # fmt: skip
        """Streams both samplers."""
        work = common.WORKS.begin(str(request.session_hash), "exact")
        began, shown = time.monotonic(), -math.inf
        try:
            if work.stop.is_set():  # while it waited
                return
            settings = read_exact(target, path, sampler, eta, clamp, start, low, high, size, count, steps)
            yield {halt: gr.update(interactive=True), summary: "", pictures: exact_view(settings, None)}
            distances: list[float] = []
            for done, images, distances in stream_exact(settings):  # noqa: B007 (the last ones count)
                work.said, work.done = f"{done:.0%} of the way", done
                if work.stop.is_set():
                    return
                if time.monotonic() - shown >= UPDATE_SECONDS and done < 1:
                    shown = time.monotonic()
                    yield {
                        status: common.status(f"Sampling: {work.said}", done), pictures: exact_view(settings, images),
                        halt: gr.update(interactive=True),
                    }  # fmt: skip
            yield {
                status: common.status("Done.", 1.0), pictures: exact_view(settings, images),
                summary: exact_words(settings, distances, time.monotonic() - began), code: exact_code(settings),
            }  # fmt: skip
        except ValueError as error:
            yield {status: common.notice(error)}
        finally:
            work.ended.set()

    asked = [target, path, sampler, eta, clamp, start, low, high, size, count, steps]
    shown = [status, pictures, summary, code, halt]

    common.announce("exact", go, halt, status)
    running = go.click(run, asked, shown, trigger_mode="always_last", **common.ONE_MODEL)
    common.stops("exact", [running], halt, status)
    for name, button in ready.items():
        values = dict(zip((low, high, clamp, eta, start), HIDDEN[name])) | {
            target: "eps", path: "ddpm-cosine", sampler: "ddim"
        }  # fmt: skip
        common.on_example(button, "exact-go", functools.partial(dict, values), None, list(values))


def _build_plane(page: gr.Blocks) -> None:
    with gr.Column(elem_classes="tab-section"):
        common.heading("theory-plane", *SECTIONS["theory-plane"])
        ready = common.examples("plane", POINTS)
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=280):
                pattern = gr.Dropdown(
                    list(bayes.PLANAR), value="spiral", label="Pattern", filterable=False, elem_id="plane-pattern",
                    info="Where the points of the finite set lie.",
                )  # fmt: skip
                number = gr.Slider(
                    1, MAX_POINTS, 24, step=1, label="Points", info="How many of the pattern.", buttons=[],
                    elem_id="plane-points",
                )  # fmt: skip
                typed = gr.Textbox(
                    "", label="Or your own points", placeholder="-1, 0; 1, 0; 0, 1.5", elem_id="plane-typed",
                    info="x, y; x, y; ... from -2 to 2. Empty: the pattern.", max_length=4000,
                )  # fmt: skip
                gr.HTML(PAD, elem_id="plane-pad")
                clear = gr.Button("Clear my points", size="sm", elem_id="plane-clear")
                with gr.Row():
                    target = gr.Dropdown(
                        list(PREDICTIONS), value="velocity", label="Predicts", filterable=False, min_width=120,
                        elem_id="plane-target", info="What the network gives.",
                    )  # fmt: skip
                    path = gr.Dropdown(
                        [(title, name) for name, title in PATHS.items()], value="flow", label="Noise path", filterable=False,
                        min_width=170, elem_id="plane-path", info="How point and noise are mixed.",
                    )  # fmt: skip
                with gr.Row():
                    steps = gr.Number(50, label="Steps", info=f"1 to {MAX_STEPS}", min_width=90, elem_id="plane-steps")
                    count = gr.Number(48, label="Samples", info=f"1 to {MAX_SAMPLES}", min_width=90, elem_id="plane-count")
            with gr.Column(scale=3, min_width=320, elem_classes="tab-stage"):
                go = gr.Button("Follow the paths", variant="primary", elem_id="plane-go")
                status = gr.HTML(common.status(common.READY), elem_id="plane-status")
                with gr.Row(equal_height=False):
                    planes = []
                    for title in TITLES:
                        with gr.Column(min_width=320):
                            planes.append(
                                gr.Plot(
                                    show_label=False, label=title, elem_id=f"plane-{title.split()[0]}", elem_classes="tab-plot"
                                )
                            )
                summary = gr.HTML(common.waiting(PLANE_EMPTY), elem_id="plane-summary")
                code = common.code_part("plane")

    def follow(pattern: str, number: float, typed: str, target: str, path: str, steps: float, count: float) -> dict[Any, Any]:
        """Both networks' paths."""
        try:
            points = read_points(typed, pattern, number)
            steps = int(common.number("steps", steps, 1, MAX_STEPS, whole=True))
            count = int(common.number("the number of samples", count, 1, MAX_SAMPLES, whole=True))
            start = 1.0 if path == "flow" and target != "eps" else 0.99
            paths = planar(points, str(target)[:40], str(path)[:40], start, steps, count)
        except ValueError as error:
            return {status: common.notice(error)}
        drawn = [
            figures.planar_paths(points.tolist(), torch.nan_to_num(walk).clamp(-1e3, 1e3).tolist(), title, colour)
            for walk, title, colour in zip(paths, TITLES, COLOURS)
        ]
        return {
            status: common.status("Done.", 1.0), **dict(zip(planes, drawn)), summary: plane_words(points, paths, target, path),
            code: planar_code(str(typed or ""), pattern, int(number), target, path, start, steps, count),
        }  # fmt: skip

    asked = [pattern, number, typed, target, path, steps, count]
    shown = [status, *planes, summary, code]
    go.click(None, None, status, js=common.WAIT_JS)
    go.click(follow, asked, shown, trigger_mode="always_last", **common.ONE_MODEL)
    number.input(None, None, None, js=common.rest_js("plane-go"))
    page.load(None, None, None, js=PAD_JS)
    typed.change(None, typed, None, js="text => window.clocklessPad?.(text ?? '')")
    clear.click(lambda: "", None, typed, **common.AT_ONCE)
    for name, button in ready.items():
        values = dict(zip((pattern, number, typed, target, path), POINTS[name]))
        common.on_example(button, "plane-go", functools.partial(dict, values), None, list(values))


def _endpoint() -> None:
    """The named endpoint ``/posterior`` for gradio_client, on components that the page does not show."""

    @common.remembered
    def posterior(picture: str, t: float, seed: int = 0, dataset: str = "celeba", schedule: str = "flow") -> dict[str, Any]:
        """The exact posterior of t of a picture with noise, under three priors that are named with their results.

        Args:
            picture: A picture file: PNG, JPEG, WebP, BMP or GIF; it is brought to 32 x 32 pixels.
            t: .02 to .98; 1 is noise.
            seed: Of the noise, 0 to 2^32 - 1.
            dataset: Whose fitted Gaussian and bundled pictures serve as priors: celeba or cifar10.
            schedule: flow, ddpm-cosine or ddpm-linear.

        Returns:
            Settings, and a row for each prior: name, prior in words, whether the picture lies outside it, mean, std and the
            ends of the 95 % interval of t, and t and density, the curve.
        """
        try:
            dataset = choose("data set", str(dataset)[:40], datasets())
            schedule = choose("schedule", str(schedule)[:40], PATHS)
            t = common.number("t", t, 0.02, 0.98)
            seed = int(common.number("seed", seed, 0, MAX_SEED, whole=True))
            if not picture:
                raise ValueError("a picture is needed")
            found, words = common.read_picture(picture, 32)
            _, rows = read_posteriors(found, dataset, schedule, t, seed)
        except ValueError as error:
            raise common.visible(error) from error
        # A key "path" would be taken for a file by clients.
        return {"dataset": dataset, "schedule": schedule, "t": t, "seed": seed, "picture": words, "rows": rows}

    asked: list[Any] = [
        gr.File(label="picture", type="filepath", visible=False),
        gr.Number(0.3, label="t", visible=False),
        gr.Number(0, label="seed", visible=False),
        gr.Textbox(datasets()[0] if datasets() else "", label="dataset", visible=False),
        gr.Textbox("flow", label="schedule", visible=False),
    ]
    answer = gr.JSON(label="posterior", visible=False)
    one_model: dict[str, Any] = {"concurrency_id": common.MODEL_QUEUE, "concurrency_limit": 1}
    gr.Button("posterior", visible=False).click(posterior, asked, answer, api_name="posterior", **one_model)
