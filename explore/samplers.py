"""Samplers: generators that yield one Step at a time, so streaming, recording and stopping come free.

Every sampler but ``descent`` walks a grid of t from ``start`` to 0, uniform in t. All yield ``steps + 1`` times: the state
before each step with the estimate made there, then the finished sample. :class:`Sampling` holds a sampler's settings, for
every experiment that samples. Depends on denoiser, seeds and values.
"""

from __future__ import annotations

import inspect
import itertools
import shlex
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from explore.denoiser import PREDICTIONS, Denoiser
from explore.seeds import check_seeds, keyed_noise
from explore.values import check_fields, choice, choose, plain_number, real, real_number, truth, whole, whole_number

MAX_STEPS = 1000


@dataclass(frozen=True)
class Step:
    """A state of the sampling path.

    Attributes:
        index: 0 before the first step, ``steps`` for the finished sample.
        t: Time of ``xt``, from ``start`` down to 0.
        xt: State (N, C, H, W).
        x0_hat: The model's estimate of the clean image at ``xt``; the finished sample itself at the end.
    """

    index: int
    t: float
    xt: Tensor
    x0_hat: Tensor


@dataclass(frozen=True)
class _Coefficients:
    """alpha and sigma as Python floats (float64) at one t; products with float32 tensors then round once."""

    alpha: float
    sigma: float
    logsnr: float


def _begin(
    denoiser: Denoiser, noise: Tensor, steps: int, seeds: Sequence[int] | None, start: float | None
) -> tuple[int, list[float], list[_Coefficients], Tensor]:
    """Checked steps, the times, the schedule at each, and the first state, sigma times the noise."""
    if seeds is not None and len(seeds) != len(noise):
        raise ValueError(f"seeds must hold one seed an image: got {len(seeds)} seeds for {len(noise)} images")
    steps = whole_number("steps", steps, 1, MAX_STEPS)
    begin = plain_number(denoiser.start if start is None else start)
    if begin is None or not 0 < begin <= 1:
        raise ValueError(f"start must be above 0 and at most 1, got {start}")
    start = float(begin)
    if denoiser.prediction == "eps" and denoiser.schedule.alpha(torch.tensor(start)) == 0:
        raise ValueError(f"start must be below {start} for an eps prediction on this schedule: no image is left there")
    times = torch.linspace(start, 0, steps + 1, dtype=torch.float64)
    schedule = denoiser.schedule
    columns = (schedule.alpha(times).tolist(), schedule.sigma(times).tolist(), schedule.logsnr(times).tolist())
    grid = [_Coefficients(*row) for row in zip(*columns)]
    return steps, times.tolist(), grid, grid[0].sigma * noise


def _fresh_noise(seeds: Sequence[int] | None, noise: Tensor, step: int) -> Tensor:
    seeds = range(len(noise)) if seeds is None else seeds
    return keyed_noise(seeds, noise.shape[1:], step).to(noise)


@torch.no_grad()
def ddim(
    denoiser: Denoiser,
    noise: Tensor,
    steps: int = 25,
    *,
    seeds: Sequence[int] | None = None,
    start: float | None = None,
    eta: float = 0.0,
    clamp: bool = False,
) -> Iterator[Step]:
    """DDIM. With ``clamp`` x0_hat is held in [-1, 1] and eps_hat is not recomputed, as in the paper.

    Args:
        denoiser: The model.
        noise: Unit Gaussian starting noise (N, C, H, W).
        steps: 1 to 1000; one evaluation of the network each.
        seeds: One an image, for the noise of stochastic steps; 0, 1, 2, ... by default.
        start: First t, by default the denoiser's.
        eta: 0 is the deterministic ODE, 1 as stochastic as DDPM.
        clamp: Hold x0_hat in [-1, 1].

    Source: Song et al., arXiv 2010.02502, equations 12 and 16, written for any alpha and sigma.
    """
    eta = real_number("eta", eta, 0, 1)
    steps, times, grid, xt = _begin(denoiser, noise, steps, seeds, start)
    for index, (now, then) in enumerate(itertools.pairwise(grid)):
        estimate = denoiser.estimate(xt, times[index])
        x0_hat = estimate.x0_hat.clamp(-1, 1) if clamp else estimate.x0_hat
        yield Step(index, times[index], xt, x0_hat)
        deviation = eta * _posterior_std(now, then)
        xt = then.alpha * x0_hat + max(then.sigma**2 - deviation**2, 0.0) ** 0.5 * estimate.eps_hat
        if deviation:
            xt = xt + deviation * _fresh_noise(seeds, noise, index + 1)
    yield Step(steps, 0.0, xt, xt)


@torch.no_grad()
def ddpm(
    denoiser: Denoiser,
    noise: Tensor,
    steps: int = 25,
    *,
    seeds: Sequence[int] | None = None,
    start: float | None = None,
    clamp: bool = True,
) -> Iterator[Step]:
    """Ancestral sampling from q(xs | xt, x0_hat): unlike ``ddim`` with eta 1, clamping x0_hat also changes the direction.

    Source: Ho et al., arXiv 2006.11239, equations 6 and 7, with x0_hat clamped to [-1, 1] as in its code, written for any
    alpha and sigma. Arguments as for :func:`ddim`.
    """
    steps, times, grid, xt = _begin(denoiser, noise, steps, seeds, start)
    for index, (now, then) in enumerate(itertools.pairwise(grid)):
        x0_hat = denoiser(xt, times[index])
        x0_hat = x0_hat.clamp(-1, 1) if clamp else x0_hat
        yield Step(index, times[index], xt, x0_hat)
        deviation = _posterior_std(now, then)
        kept = (now.alpha / then.alpha) * (then.sigma / now.sigma) ** 2  # weight of xt in the posterior mean
        xt = kept * xt + (then.alpha - kept * now.alpha) * x0_hat
        if deviation:
            xt = xt + deviation * _fresh_noise(seeds, noise, index + 1)
    yield Step(steps, 0.0, xt, xt)


def _posterior_std(now: _Coefficients, then: _Coefficients) -> float:
    """Standard deviation of q(xs | xt, x0): sigma_s sqrt(1 - (alpha_t sigma_s / (alpha_s sigma_t))^2)."""
    shrink = now.alpha * then.sigma / (then.alpha * now.sigma)
    return then.sigma * max(1 - shrink**2, 0.0) ** 0.5


@torch.no_grad()
def euler(
    denoiser: Denoiser,
    noise: Tensor,
    steps: int = 25,
    *,
    seeds: Sequence[int] | None = None,
    start: float | None = None,
) -> Iterator[Step]:
    """Euler's method on d xt / d t of the probability-flow ODE. On the linear path this is ``ddim`` with eta 0.

    Source: Song et al., arXiv 2011.13456, equation 13. Arguments as for :func:`ddim`; nothing is random.
    """
    steps, times, _, xt = _begin(denoiser, noise, steps, seeds, start)
    for index in range(steps):
        estimate = denoiser.estimate(xt, times[index])
        yield Step(index, times[index], xt, estimate.x0_hat)
        xt = xt + (times[index + 1] - times[index]) * estimate.drift
    yield Step(steps, 0.0, xt, xt)


@torch.no_grad()
def heun(
    denoiser: Denoiser,
    noise: Tensor,
    steps: int = 25,
    *,
    seeds: Sequence[int] | None = None,
    start: float | None = None,
) -> Iterator[Step]:
    """Heun's second-order method on the probability-flow ODE: two evaluations a step, one in the last, which is Euler's.

    Source: Karras et al., arXiv 2206.00364, algorithm 1, in t. Arguments as for :func:`ddim`; nothing is random.
    """
    steps, times, _, xt = _begin(denoiser, noise, steps, seeds, start)
    for index in range(steps):
        estimate = denoiser.estimate(xt, times[index])
        yield Step(index, times[index], xt, estimate.x0_hat)
        width = times[index + 1] - times[index]
        ahead = xt + width * estimate.drift
        if index < steps - 1:
            ahead = xt + width * 0.5 * (estimate.drift + denoiser.drift(ahead, times[index + 1]))
        xt = ahead
    yield Step(steps, 0.0, xt, xt)


@torch.no_grad()
def dpmpp_2m(
    denoiser: Denoiser,
    noise: Tensor,
    steps: int = 25,
    *,
    seeds: Sequence[int] | None = None,
    start: float | None = None,
) -> Iterator[Step]:
    """DPM-Solver++(2M): second-order multistep on x0_hat in logsnr / 2; first and last step of first order.

    Source: Lu et al., arXiv 2211.01095, algorithm 2. Arguments as for :func:`ddim`; nothing is random.
    """
    steps, times, grid, xt = _begin(denoiser, noise, steps, seeds, start)
    previous: Tensor | None = None
    width_before = 0.0
    for index, (now, then) in enumerate(itertools.pairwise(grid)):
        x0_hat = denoiser(xt, times[index])
        yield Step(index, times[index], xt, x0_hat)
        width = 0.5 * (then.logsnr - now.logsnr)  # infinite for the step from alpha = 0 and for the step to sigma = 0
        target = x0_hat
        if previous is not None and index < steps - 1:
            target = x0_hat + 0.5 * (width / width_before) * (x0_hat - previous)
        decay = then.sigma / now.sigma  # = exp(-width) alpha_s / alpha_t
        xt = decay * xt + (then.alpha - decay * now.alpha) * target
        previous, width_before = x0_hat, width
    yield Step(steps, 0.0, xt, xt)


LEFT = 0.01  # share of the noise that is left after the default steps of ``descent`` on an eqm prediction


@torch.no_grad()
def descent(
    denoiser: Denoiser,
    noise: Tensor,
    steps: int = 25,
    *,
    seeds: Sequence[int] | None = None,
    start: float | None = None,
    step_size: float | None = None,
) -> Iterator[Step]:
    """Autonomous sampling: follows the network's output with one step size, xt <- xt - step_size * output, without a schedule.

    For velocity and eqm predictions of time-agnostic networks. The default step size is start / steps for a velocity, which
    is ``euler``, and 1 - .01^(1 / steps) for eqm, whose straight path then has 1 % of its noise left. The t of the steps is
    that of the default step size whatever the step size is. It concerns a time-conditioned network, which is given it, and
    the x0_hat of a velocity that is shown; the path of a time-agnostic network does not depend on it.

    Source: Wang and Du, arXiv 2510.02300, gradient descent sampling. Other arguments as for :func:`ddim`; nothing is random.

    Raises:
        ValueError: For a prediction whose output does not lead to the data by itself.
    """
    check_suited("descent", denoiser.prediction)
    if step_size is not None and not real_number("step_size", step_size, 0, 1):
        raise ValueError("step_size must be above 0 and at most 1, got 0")
    steps, times, _, xt = _begin(denoiser, noise, steps, seeds, start)
    width = times[0] / steps
    if denoiser.prediction == "eqm":
        width = 1 - LEFT ** (1 / steps)
        times = [*(times[0] * (1 - width) ** index for index in range(steps)), 0.0]
    width = width if step_size is None else float(step_size)
    for index in range(steps):
        estimate = denoiser.estimate(xt, times[index])
        yield Step(index, times[index], xt, estimate.x0_hat)
        xt = xt - width * estimate.output
    yield Step(steps, 0.0, xt, xt)


SAMPLERS: dict[str, Callable[..., Iterator[Step]]] = {
    "ddim": ddim,
    "ddpm": ddpm,
    "euler": euler,
    "heun": heun,
    "dpmpp_2m": dpmpp_2m,
    "descent": descent,
}


def suited(sampler: str, prediction: str) -> bool:
    """Whether a sampler works with a prediction: ``descent`` needs an output that leads to the data by itself."""
    return sampler != "descent" or PREDICTIONS[prediction].leads


def check_suited(sampler: str, prediction: str) -> None:
    """Raises ValueError if a sampler does not work with a prediction."""
    if not suited(sampler, prediction):
        able = " or ".join(name for name in PREDICTIONS if suited(sampler, name))
        raise ValueError(f"sampler {sampler!r} follows the output of a {able} prediction, not that of {prediction}")


def options(sampler: str) -> set[str]:
    """Names of the keyword arguments that a sampler takes beyond ``seeds`` and ``start``, such as ``eta``."""
    choose("sampler", sampler, SAMPLERS)
    return set(inspect.signature(SAMPLERS[sampler]).parameters) - {"denoiser", "noise", "steps", "seeds", "start"}


def evaluations(sampler: str, steps: int) -> int:
    """How often a sampler calls the network (NFE) in ``steps`` steps."""
    choose("sampler", sampler, SAMPLERS)
    steps = whole_number("steps", steps, 1, MAX_STEPS)
    return 2 * steps - 1 if sampler == "heun" else steps


@dataclass(frozen=True)
class Sampling:
    """A sampler with its settings, checked.

    Attributes:
        sampler: A key of ``SAMPLERS``.
        steps: 1 to 1000.
        eta: 0 is the deterministic ODE, 1 is as stochastic as DDPM; None is the sampler's default.
        clamp: Whether x0_hat is clipped to [-1, 1]; None as for ``eta``.
        start: First t, above 0 and at most 1; None for the model's own.
        step_size: Of ``descent``, above 0 and at most 1; None as for ``eta``.

    Raises:
        ValueError: For a value out of range, or an option that the sampler does not have.
    """

    sampler: str = choice("sampler", lambda: SAMPLERS, "Sampler; by default what suits the model.", "heun")
    steps: int = whole(1, MAX_STEPS, "Steps, 1 to 1,000; by default what suits the model.", 25)
    eta: float | None = real(0, 1, "ddim only: 0 is the deterministic ODE, 1 fully stochastic.", None)
    clamp: bool | None = truth("ddim and ddpm: hold x0_hat in [-1, 1].", None)
    start: float | None = real(0, 1, "First t, above 0 and at most 1; by default the model's own.", None, above=True)
    step_size: float | None = real(0, 1, "descent only: step size; by default the sampler's own.", None, above=True)

    def __post_init__(self) -> None:
        check_fields(self)
        check_options(self.sampler, self.options)

    @staticmethod
    def for_model(model: Any, **given: Any) -> Sampling:
        """The default settings for a Denoiser or ModelInfo, updated with the values that are not None.

        Heun with 25 steps for velocity and eqm, with 18 for edm and uedm, as in arXiv 2206.00364; else DDIM with eta 1,
        clamped, 50 steps, as in arXiv 2606.20416. Another sampler has its own defaults, with 25 steps.

        Raises:
            ValueError: For a sampler that does not work with the model's prediction, and as ``Sampling``.
        """
        given = {name: value for name, value in given.items() if value is not None}
        check_suited(given.get("sampler", "heun"), model.prediction)
        if "sampler" in given or model.prediction in ("velocity", "eqm"):
            return Sampling(**given)
        if model.prediction in ("edm", "uedm"):
            return Sampling(**{"steps": 18, **given})
        suits: dict[str, Any] = {"sampler": "ddim", "steps": 50, "eta": 1.0, "clamp": True}
        return Sampling(**suits | given)

    @property
    def options(self) -> dict[str, Any]:
        """The sampler's keyword arguments besides steps and seeds, without those that are None."""
        chosen = {name: getattr(self, name) for name in ("eta", "clamp", "start", "step_size")}
        return {name: value for name, value in chosen.items() if value is not None}

    @property
    def arguments(self) -> dict[str, Any]:
        """``sampler``, ``steps`` and the options, as keyword arguments of :func:`sample`."""
        return {"sampler": self.sampler, "steps": self.steps, **self.options}

    @property
    def evaluations(self) -> int:
        """How often a network is called for one image."""
        return evaluations(self.sampler, self.steps)

    @property
    def flags(self) -> str:
        """As options of the command line: ``--sampler ddim --steps 50 --eta 1 --clamp``."""
        return " ".join(flag(name, value) for name, value in self.arguments.items())

    def stream(self, denoiser: Denoiser, seeds: Any) -> Iterator[Step]:
        """Samples one batch, one seed an image, step by step."""
        seeds = check_seeds(seeds)
        noise = keyed_noise(seeds, denoiser.shape).to(denoiser.device)
        return SAMPLERS[self.sampler](denoiser, noise, self.steps, seeds=seeds, **self.options)

    def run(self, denoiser: Denoiser, seeds: Any, *, batch: int = 64, progress: bool = False) -> Tensor:
        """Finished samples (N, C, H, W), float32 on the CPU; see :func:`sample`."""
        return sample(denoiser, seeds, batch=batch, progress=progress, **self.arguments)


def flag(name: str, value: Any) -> str:
    """A value as an option of the command line."""
    spelled = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{spelled}" if value else f"--no-{spelled}"
    return f"--{spelled} {value:.9g}" if isinstance(value, float) else f"--{spelled} {shlex.quote(str(value))}"


def sample(
    denoiser: Denoiser,
    seeds: Sequence[int],
    sampler: str = "heun",
    steps: int = 25,
    *,
    batch: int = 64,
    progress: bool = False,
    **kwargs: Any,
) -> Tensor:
    """Finished samples, one seed an image, in batches.

    Args:
        denoiser: The model.
        seeds: N seeds.
        sampler: A key of ``SAMPLERS``.
        steps: 1 to 1000.
        batch: Images in one pass of the network.
        progress: Show a progress bar.
        **kwargs: Passed to the sampler (``eta``, ``clamp``, ``start``, ``step_size``).

    Returns:
        (N, C, H, W) float32 on the CPU.

    Raises:
        ValueError: For a setting that is out of range or that the sampler does not have.
    """
    check_options(sampler, kwargs)
    seeds, batch = check_seeds(seeds), whole_number("batch", batch, 1)
    if not seeds:
        raise ValueError("seeds must hold at least one seed")
    parts = []
    with tqdm(total=len(seeds), unit="image", disable=not progress) as bar:
        for first in range(0, len(seeds), batch):
            chunk = seeds[first : first + batch]
            noise = keyed_noise(chunk, denoiser.shape).to(denoiser.device)
            [last] = deque(SAMPLERS[sampler](denoiser, noise, steps, seeds=chunk, **kwargs), maxlen=1)
            parts.append(last.xt.cpu())
            bar.update(len(chunk))
    return torch.cat(parts)


def check_options(sampler: str, kwargs: dict[str, Any]) -> None:
    """Raises ValueError for an unknown sampler, or if ``kwargs`` holds an option that it does not have."""
    choose("sampler", sampler, SAMPLERS)
    for name in kwargs:
        if name != "start" and name not in options(sampler):
            having = [other for other in SAMPLERS if name in options(other)]
            raise ValueError(f"sampler {sampler!r} has no option {name!r}; it belongs to {', '.join(having) or 'none'}")
