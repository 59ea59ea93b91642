"""Samplers against diffusers' schedulers on the same network, and against the exact answer for Gaussian data."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
)
from torch import Tensor, nn

from explore import zoo
from explore.data import to_uint8
from explore.denoiser import PREDICTIONS, Denoiser
from explore.hardware import keep_freed_memory
from explore.models import ARCHITECTURES
from explore.samplers import SAMPLERS, Sampling, Step, check_options, evaluations, options, sample, suited
from explore.schedules import SCHEDULES, Schedule
from explore.seeds import keyed_noise

every_sampler = pytest.mark.parametrize("sampler", SAMPLERS)
scheduled = pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "descent"])
# Every prediction and every schedule once or twice; their full product is test_denoiser's.
combinations = pytest.mark.parametrize(
    "prediction, schedule",
    [
        ("eps", "ddpm-linear"),
        ("x0", "ddpm-cosine"),
        ("v", "ddpm-cosine"),
        ("eps", "flow"),
        ("velocity", "flow"),
        ("edm", "edm"),
        ("uedm", "uedm"),
        ("eqm", "flow"),
    ],
)

TABLES = {"ddpm-linear": "linear", "ddpm-cosine": "squaredcos_cap_v2"}
NAMES = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}  # in diffusers
tables = pytest.mark.parametrize("schedule", TABLES)
predictions = pytest.mark.parametrize("prediction", NAMES)
STOCHASTIC: dict[str, dict[str, Any]] = {"ddpm": {"clamp": False}, "ddim": {"eta": 1.0}}
SEEDS = [3, 1, 4]


def last(steps: Any) -> Tensor:
    """The finished sample."""
    return list(steps)[-1].xt


def assert_close(ours: Tensor, theirs: Tensor, relative: float = 1e-4) -> None:
    """Equal but for rounding, relative to the largest value: what a sum of float32 products promises."""
    assert theirs.isfinite().all() and theirs.std() > 0.05
    error = (ours - theirs).abs().max() / theirs.abs().max()
    assert error < relative, f"relative error {error:.2e}"


# --- Against diffusers. t = 0.9, 0.8, ..., 0.1 of ours are k = 899, 799, ..., 99 of the 1000-step tables, and t = 0 is
# alphas_cumprod = 1 (``set_alpha_to_one``). Nearer to t = 1 the tables' own float32 rounding, divided by alpha, is seen.


def walk(scheduler: Any, denoiser: Denoiser, noise: Tensor, **step: Callable[[int], Tensor]) -> Tensor:
    """diffusers' sampling loop with our network; ``step`` holds functions of the step's number (1 for the first)."""
    xt = denoiser.schedule.sigma(torch.tensor(0.9)) * noise
    for number, k in enumerate(range(899, 0, -100), start=1):
        output = denoiser.output(xt, (k + 1) / 1000)
        xt = scheduler.step(output, k, xt, **{name: value(number) for name, value in step.items()}).prev_sample
    return xt


@tables
@predictions
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("clamp", [False, True])
def test_ddim_is_that_of_diffusers(schedule: str, prediction: str, eta: float, clamp: bool) -> None:
    denoiser = zoo.tiny("unet", "timestep", prediction, schedule)
    noise = keyed_noise(SEEDS, denoiser.shape)
    scheduler = DDIMScheduler(
        beta_schedule=TABLES[schedule], prediction_type=NAMES[prediction], clip_sample=clamp, set_alpha_to_one=True
    )
    scheduler.set_timesteps(10)  # sets the stride of 100
    theirs = walk(scheduler, denoiser, noise, eta=lambda _: eta, variance_noise=lambda n: keyed_noise(SEEDS, denoiser.shape, n))
    ours = last(SAMPLERS["ddim"](denoiser, noise, 9, seeds=SEEDS, start=0.9, eta=eta, clamp=clamp))
    assert_close(ours, theirs)


@tables
@predictions
@pytest.mark.parametrize("clamp", [False, True])
def test_ddpm_is_that_of_diffusers(schedule: str, prediction: str, clamp: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser = zoo.tiny("unet", "timestep", prediction, schedule)
    noise = keyed_noise(SEEDS, denoiser.shape)
    scheduler = DDPMScheduler(
        beta_schedule=TABLES[schedule], prediction_type=NAMES[prediction], variance_type="fixed_small", clip_sample=clamp
    )
    scheduler.set_timesteps(timesteps=list(range(899, 0, -100)))
    draws = iter(keyed_noise(SEEDS, denoiser.shape, number) for number in range(1, 10))
    # This scheduler cannot be handed its noise; it is drawn by this function.
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: next(draws))
    theirs = walk(scheduler, denoiser, noise)
    ours = last(SAMPLERS["ddpm"](denoiser, noise, 9, seeds=SEEDS, start=0.9, clamp=clamp))
    assert_close(ours, theirs)


@pytest.mark.parametrize("steps", [9, 18])  # diffusers treats the end of fewer than 15 steps in a way of its own
@pytest.mark.parametrize("prediction, schedule", [*((p, s) for p in NAMES for s in TABLES), ("velocity", "flow")])
def test_dpmpp_2m_is_that_of_diffusers(prediction: str, schedule: str, steps: int) -> None:
    denoiser = zoo.tiny("unet", "timestep", prediction, schedule)
    noise, flow = keyed_noise(SEEDS, denoiser.shape), schedule == "flow"
    scheduler = DPMSolverMultistepScheduler(
        beta_schedule=TABLES.get(schedule, "linear"),
        prediction_type="flow_prediction" if flow else NAMES[prediction],
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        lower_order_final=True,
        euler_at_final=True,
        use_flow_sigmas=flow,
    )
    start = 1.0 if flow else 0.9
    times = torch.linspace(start, 0, steps + 1, dtype=torch.float64)[:-1]
    scheduler.set_timesteps(steps)
    if flow:
        levels = times
    else:  # this scheduler's sigma is sigma / alpha
        abar = scheduler.alphas_cumprod.double()[(times * 1000).round().long() - 1]
        levels = ((1 - abar) / abar).sqrt()
    scheduler.sigmas = torch.cat([levels, torch.zeros(1)]).float()
    scheduler.timesteps = torch.arange(steps)  # names for the steps; only their number matters once sigmas are set
    xt = denoiser.schedule.sigma(times[0]).float() * noise
    for number, t in enumerate(times.tolist()):
        xt = scheduler.step(denoiser.output(xt, t), scheduler.timesteps[number], xt).prev_sample
    assert_close(last(SAMPLERS["dpmpp_2m"](denoiser, noise, steps, start=start)), xt)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("steps", [1, 2, 12])
@pytest.mark.parametrize("sampler", ["euler", "ddim", "heun"])
def test_flow_samplers_are_those_of_diffusers(sampler: str, steps: int, architecture: str) -> None:
    denoiser = zoo.tiny(architecture)
    noise = keyed_noise(SEEDS, denoiser.shape)
    grid = torch.linspace(1, 0, steps + 1)
    if sampler == "heun":
        scheduler: Any = FlowMatchHeunDiscreteScheduler()
        scheduler.set_timesteps(max(steps, 2))
        # Its own grid ends at t = 0.001 before 0, ours is uniform: the same list of levels, ours in it.
        scheduler.sigmas = torch.cat([grid[:1], grid[1:-1].repeat_interleave(2), grid[-1:]])
        scheduler.timesteps = 1000 * torch.cat([grid[:1], grid[1:-1].repeat_interleave(2)])
    else:
        scheduler = FlowMatchEulerDiscreteScheduler()
        scheduler.set_timesteps(sigmas=grid[:-1].tolist())
    assert len(scheduler.timesteps) == evaluations(sampler, steps)
    xt = noise
    for timestep in scheduler.timesteps:
        xt = scheduler.step(denoiser.output(xt, timestep / 1000), timestep, xt).prev_sample
    assert_close(last(SAMPLERS[sampler](denoiser, noise, steps)), xt)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_ddim_is_euler_on_the_linear_path(architecture: str) -> None:
    denoiser = zoo.tiny(architecture)
    noise = keyed_noise(SEEDS, denoiser.shape)
    for one, other in zip(SAMPLERS["ddim"](denoiser, noise, 10), SAMPLERS["euler"](denoiser, noise, 10)):
        torch.testing.assert_close(one.xt, other.xt, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(one.x0_hat, other.x0_hat, rtol=1e-4, atol=1e-5)


# --- Against the exact answer: data N(MEAN, SPREAD^2) in every pixel, whose Bayes denoiser and ODE have closed forms.

MEAN, SPREAD = 0.3, 0.5


class GaussianBayes(nn.Module):
    """The network that a perfect training run on N(MEAN, SPREAD^2) data would end with."""

    def __init__(self, schedule: Schedule, prediction: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.schedule, self.prediction = schedule, prediction
        self.mean = nn.Parameter(torch.tensor(MEAN, dtype=dtype))  # a parameter: the denoiser computes in its dtype

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        time = t.to(xt.dtype)[:, None, None, None]
        alpha, sigma = self.schedule.alpha(time), self.schedule.sigma(time)
        centred = (xt - alpha * self.mean) / (alpha**2 * SPREAD**2 + sigma**2)
        x0, eps = self.mean + alpha * SPREAD**2 * centred, sigma * centred  # E[x0 | xt], E[eps | xt]
        s = sigma / alpha.clamp_min(1e-30)
        c_skip, c_out = 0.25 / (0.25 + s**2), 0.5 * s / (0.25 + s**2) ** 0.5  # of EDM
        return {
            "x0": x0, "eps": eps, "v": alpha * eps - sigma * x0, "velocity": eps - x0, "eqm": sigma * (eps - x0),
            "edm": (x0 - c_skip * (x0 + s * eps)) / c_out, "uedm": x0 - c_skip * (x0 + s * eps),
        }[self.prediction]  # fmt: skip


def gaussian(prediction: str, schedule: str, dtype: torch.dtype = torch.float64, side: int = 4) -> Denoiser:
    path = SCHEDULES[schedule]
    return Denoiser(GaussianBayes(path, prediction, dtype), path, prediction, (3, side, side), "gaussian")


def exact_path(schedule: str, x_start: Tensor, start: float, t: float) -> Tensor:
    """Where the probability-flow ODE is at ``t``: each pixel keeps its place in units of the spread."""
    times = torch.tensor([start, t], dtype=torch.float64)
    alpha, sigma = SCHEDULES[schedule].alpha(times), SCHEDULES[schedule].sigma(times)
    spread = (alpha**2 * SPREAD**2 + sigma**2).sqrt()
    return alpha[1] * MEAN + spread[1] / spread[0] * (x_start - alpha[0] * MEAN)


# Order of convergence between 80 and 160 steps. dpmpp_2m is of second order in logsnr, whose steps near the data stay
# log 2, log 3/2, ... wide however many there are: it comes to 2 more slowly, but is well above the first-order ones.
ORDERS = {"ddim": (0.9, 1.1), "euler": (0.9, 1.1), "heun": (1.7, 2.2), "dpmpp_2m": (1.4, 2.2)}


@combinations
@pytest.mark.parametrize("sampler", ORDERS)
def test_deterministic_samplers_converge_at_their_order(sampler: str, prediction: str, schedule: str) -> None:
    denoiser = gaussian(prediction, schedule)
    noise = keyed_noise(range(8), denoiser.shape).double()
    errors = []
    for steps in (80, 160):
        path = list(SAMPLERS[sampler](denoiser, noise, steps))
        distances = [step.xt - exact_path(schedule, path[0].xt, denoiser.start, step.t) for step in path]
        errors.append(max(distance.square().mean().sqrt().item() for distance in distances))  # largest along the path
    low, high = ORDERS[sampler]
    assert errors[1] < (0.012 if high < 2 else 0.002), errors
    assert low < math.log2(errors[0] / errors[1]) < high, errors


def test_the_gaussian_is_asked_of_everything() -> None:
    assert set(ORDERS) | set(STOCHASTIC) | {"descent"} == set(SAMPLERS)
    asked = combinations.args[1]
    assert {prediction for prediction, _ in asked} == set(PREDICTIONS)
    assert {schedule for _, schedule in asked} == set(SCHEDULES)


@combinations
@pytest.mark.parametrize("sampler", STOCHASTIC)
def test_stochastic_samplers_reach_the_distribution(sampler: str, prediction: str, schedule: str) -> None:
    denoiser = gaussian(prediction, schedule, torch.float32, side=32)
    seeds = range(100, 104)
    noise = keyed_noise(seeds, denoiser.shape)
    samples = last(SAMPLERS[sampler](denoiser, noise, 300, seeds=seeds, **STOCHASTIC[sampler]))
    count = samples.numel()  # 12,288 pixels: five standard errors, and for the spread the bias of 300 steps
    assert samples.mean().item() == pytest.approx(MEAN, abs=5 * SPREAD / count**0.5)
    assert samples.std().item() == pytest.approx(SPREAD, abs=5 * SPREAD / (2 * count) ** 0.5 + 0.015)
    excess = ((samples - samples.mean()) / samples.std()).pow(4).mean().item() - 3
    assert abs(excess) < 5 * (24 / count) ** 0.5
    # The path forgets where it began: its end is nearly independent of the starting noise, that of the ODE is not.
    together = torch.stack([samples.flatten(), noise.flatten()])
    assert (
        abs(torch.corrcoef(together)[0, 1])
        < 0.2
        < torch.corrcoef(torch.stack([last(SAMPLERS["ddim"](denoiser, noise, 20)).flatten(), noise.flatten()]))[0, 1]
    )


@tables
def test_clamping_changes_the_direction_in_ddpm_and_not_in_ddim(schedule: str) -> None:
    denoiser = zoo.tiny("unet", "timestep", "eps", schedule)
    noise = keyed_noise(SEEDS, denoiser.shape)
    kwargs: dict[str, Any] = {"seeds": SEEDS, "start": 0.9}
    free = [last(SAMPLERS[name](denoiser, noise, 9, **kwargs, **extra, clamp=False)) for name, extra in STOCHASTIC_ARGS]
    held = [last(SAMPLERS[name](denoiser, noise, 9, **kwargs, **extra, clamp=True)) for name, extra in STOCHASTIC_ARGS]
    assert_close(free[0], free[1])  # the same process, written in two ways
    assert (held[0] - held[1]).abs().max() > 0.01


STOCHASTIC_ARGS: list[tuple[str, dict[str, Any]]] = [("ddim", {"eta": 1.0}), ("ddpm", {})]


# --- Autonomous sampling.


class OnePoint(nn.Module):
    """The exact velocity or eqm network of data that are a single image, all ``MEAN``; for eqm it does not depend on t."""

    def __init__(self, prediction: str) -> None:
        super().__init__()
        self.prediction, self.mean = prediction, nn.Parameter(torch.tensor(MEAN, dtype=torch.float64))

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        away = xt - self.mean  # t (eps - x0) on the straight path to x0 = MEAN
        return away if self.prediction == "eqm" else away / t.to(xt.dtype)[:, None, None, None]


@pytest.mark.parametrize("step_size, left", [(0.3, 0.7**9), (1.0, 0.0), (None, 0.01)])
def test_descent_on_eqm_shrinks_the_noise_by_one_factor_a_step(step_size: float | None, left: float) -> None:
    denoiser = Denoiser(OnePoint("eqm"), SCHEDULES["flow"], "eqm", (3, 4, 4))
    noise = keyed_noise(SEEDS, denoiser.shape).double()
    path = list(SAMPLERS["descent"](denoiser, noise, 9, step_size=step_size))
    torch.testing.assert_close(path[-1].xt, MEAN + left * (noise - MEAN))
    for step in path[:-1]:
        torch.testing.assert_close(step.x0_hat, torch.full_like(noise, MEAN))
    if step_size is None:  # a conditioned network is given the t that the state has
        for step in path[:-1]:
            torch.testing.assert_close(step.xt, (1 - step.t) * MEAN + step.t * noise)


@pytest.mark.parametrize("conditioning", ["timestep", "none"])
def test_descent_on_a_velocity_is_euler_at_its_default_step_size(conditioning: str) -> None:
    denoiser = zoo.tiny("unet", conditioning)
    noise = keyed_noise(SEEDS, denoiser.shape)
    for start in (None, 0.8):
        one, other = (list(SAMPLERS[name](denoiser, noise, 8, start=start)) for name in ("descent", "euler"))
        for ours, theirs in zip(one, other):
            assert ours.t == theirs.t
            torch.testing.assert_close(ours.xt, theirs.xt, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(ours.x0_hat, theirs.x0_hat, rtol=1e-4, atol=1e-5)


def test_a_time_agnostic_network_descends_without_t() -> None:
    denoiser = zoo.tiny("unet", "none")
    xt = keyed_noise(SEEDS, denoiser.shape)
    expected = xt
    for _ in range(6):
        expected = expected - 0.05 * denoiser.network(expected.contiguous(memory_format=torch.channels_last), torch.zeros(3))
    torch.testing.assert_close(last(SAMPLERS["descent"](denoiser, xt, 6, step_size=0.05)), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        last(Sampling("descent", 6, step_size=0.05).stream(denoiser, SEEDS)), expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "edm", "uedm"])
def test_descent_is_refused_where_the_output_is_no_direction(prediction: str) -> None:
    denoiser = zoo.tiny("unet", "none", prediction)
    message = f"sampler 'descent' follows the output of a velocity or eqm prediction, not that of {prediction}"
    for call in (lambda: sample(denoiser, [0], "descent", 2), lambda: Sampling.for_model(denoiser, sampler="descent")):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("step_size", [0, -0.1, 1.5, float("nan")])
def test_bad_step_size(step_size: float) -> None:
    with pytest.raises(ValueError, match="step_size must be"):
        sample(zoo.tiny(), [0], "descent", 2, step_size=step_size)
    with pytest.raises(ValueError, match="step_size must be above 0 and at most 1"):
        Sampling("descent", step_size=step_size)


# --- The contract of the stream.

# Every sampler as the app offers it, the stochastic kind of ddim included.
RUNS: list[tuple[str, dict[str, Any]]] = [*((name, {}) for name in SAMPLERS), ("ddim", {"eta": 1.0, "clamp": True})]
every_run = pytest.mark.parametrize("sampler, extra", RUNS)


@every_run
@pytest.mark.parametrize("prediction", ["velocity", "eps"])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_stream_of_steps(sampler: str, extra: dict[str, Any], prediction: str, steps: int) -> None:
    denoiser = zoo.tiny("unet", "timestep", prediction)
    if not suited(sampler, prediction):
        with pytest.raises(ValueError, match="follows the output of"):
            next(SAMPLERS[sampler](denoiser, keyed_noise(SEEDS, denoiser.shape), steps))
        return
    calls: list[float] = []
    denoiser.network.register_forward_pre_hook(lambda module, args: calls.append(args[1][0].item()))
    noise = keyed_noise(SEEDS, denoiser.shape)
    stream: list[Step] = list(SAMPLERS[sampler](denoiser, noise, steps, seeds=SEEDS, **extra))
    assert len(calls) == evaluations(sampler, steps) == (2 * steps - 1 if sampler == "heun" else steps)
    assert [step.index for step in stream] == list(range(steps + 1))
    times = [step.t for step in stream]
    assert times[0] == denoiser.start and times[-1] == 0.0 and times == sorted(set(times), reverse=True)
    assert calls[0] == pytest.approx(denoiser.start)
    sigma = denoiser.schedule.sigma(torch.tensor(denoiser.start))
    torch.testing.assert_close(stream[0].xt, sigma * noise)
    assert torch.equal(stream[-1].xt, stream[-1].x0_hat)
    for step in stream:
        assert step.xt.shape == step.x0_hat.shape == noise.shape
        assert step.xt.dtype == step.x0_hat.dtype == torch.float32
        assert step.xt.isfinite().all()
    for step in stream[:-1]:
        x0_hat = denoiser(step.xt, step.t)
        clamps = extra.get("clamp", sampler == "ddpm")
        assert torch.equal(step.x0_hat, x0_hat.clamp(-1, 1) if clamps else x0_hat)


@every_sampler
def test_the_states_given_out_are_never_changed_afterwards(sampler: str) -> None:
    denoiser = zoo.tiny()
    copies, originals = [], []
    for step in SAMPLERS[sampler](denoiser, keyed_noise(SEEDS, denoiser.shape), 5, seeds=SEEDS):
        copies.append((step.xt.clone(), step.x0_hat.clone()))
        originals.append((step.xt, step.x0_hat))
    for (a, b), (c, d) in zip(copies, originals):
        assert torch.equal(a, c) and torch.equal(b, d)


@every_sampler
def test_no_gradients_inside_and_the_callers_mode_outside(sampler: str) -> None:
    denoiser = zoo.tiny()
    denoiser.network.requires_grad_(True)
    noise = keyed_noise(SEEDS, denoiser.shape).requires_grad_(True)
    for step in SAMPLERS[sampler](denoiser, noise, 3, seeds=SEEDS):
        assert torch.is_grad_enabled()
        assert not step.xt.requires_grad and not step.x0_hat.requires_grad


@every_run
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("prediction", ["velocity", "eps"])
def test_an_image_is_the_same_alone_and_among_64(
    sampler: str, extra: dict[str, Any], architecture: str, prediction: str
) -> None:
    denoiser = zoo.tiny(architecture, "none", prediction)
    seeds = list(range(64))
    if not suited(sampler, prediction):
        with pytest.raises(
            ValueError, match=f"sampler '{sampler}' follows the output of a velocity or eqm prediction, not that"
        ):
            sample(denoiser, seeds, sampler, 5, **extra)
        return
    together = to_uint8(sample(denoiser, seeds, sampler, 5, **extra)).int()
    alone = torch.cat([to_uint8(sample(denoiser, [seed], sampler, 5, **extra)) for seed in (0, 40, 63)]).int()
    assert together[[0, 40, 63]].float().std() > 5
    assert (alone - together[[0, 40, 63]]).abs().max() <= 1
    backwards = to_uint8(sample(denoiser, seeds[::-1], sampler, 5, batch=24, **extra)).int()
    assert (backwards.flip(0) - together).abs().max() <= 1


@every_run
def test_repeated_settings_give_identical_bytes(sampler: str, extra: dict[str, Any]) -> None:
    first, again = (sample(zoo.tiny(), SEEDS, sampler, 5, **extra) for _ in range(2))
    assert first.numpy().tobytes() == again.numpy().tobytes()
    other = sample(zoo.tiny(), [seed + 1 for seed in SEEDS], sampler, 5, **extra)
    assert not torch.equal(first, other)


@scheduled
def test_members_get_the_same_noise(sampler: str) -> None:
    # The noise belongs to seed and step: a model whose output does not matter (x0_hat clamped to a constant) shows it.
    class Constant(nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.value = nn.Parameter(torch.tensor(value))

        def forward(self, xt: Tensor, t: Tensor) -> Tensor:
            return self.value.expand_as(xt)

    paths = []
    for value in (0.25, 0.75):
        denoiser = Denoiser(Constant(value), SCHEDULES["ddpm-cosine"], "x0", (3, 4, 4))
        noise = keyed_noise(SEEDS, denoiser.shape)
        paths.append(list(SAMPLERS[sampler](denoiser, noise, 6, seeds=SEEDS)))
    for one, other in zip(*paths):
        shift = other.xt - one.xt  # without what the two models said, nothing differs: one shift for every pixel
        assert shift.std() < 1e-4 and torch.equal(one.xt, other.xt) == (one.index == 0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sample_returns_the_last_step(architecture: str) -> None:
    denoiser = zoo.tiny(architecture)
    got = sample(denoiser, SEEDS, "heun", 4, batch=2)
    expected = last(SAMPLERS["heun"](denoiser, keyed_noise(SEEDS, denoiser.shape), 4))
    assert got.shape == (3, *denoiser.shape) and got.dtype == torch.float32
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_samples_from_a_bfloat16_network_are_float32_and_near() -> None:
    precise = sample(zoo.tiny(), SEEDS, "heun", 4)
    denoiser = zoo.tiny()
    denoiser.network.to(torch.bfloat16)
    rough = sample(denoiser, SEEDS, "heun", 4)
    assert rough.dtype == torch.float32
    assert 0 < (rough - precise).square().mean().sqrt() < 0.05 * precise.std()


# --- Requests out of range.


@every_sampler
@pytest.mark.parametrize("steps", [0, -1, 1001, 2.5, "10", True, None])
def test_bad_steps(sampler: str, steps: Any) -> None:
    denoiser = zoo.tiny()
    with pytest.raises(ValueError, match=f"steps must be a whole number from 1 to 1000, got {steps}"):
        list(SAMPLERS[sampler](denoiser, keyed_noise([0], denoiser.shape), steps))


@every_sampler
@pytest.mark.parametrize("start", [0.0, -0.1, 1.1, float("nan")])
def test_bad_start(sampler: str, start: float) -> None:
    with pytest.raises(ValueError, match="start must be above 0 and at most 1"):
        sample(zoo.tiny(), [0], sampler, 2, start=start)


@scheduled
def test_an_eps_prediction_does_not_start_where_no_image_is_left(sampler: str) -> None:
    denoiser = zoo.tiny("unet", "timestep", "eps", "flow")
    assert denoiser.start == 0.991
    assert sample(denoiser, SEEDS, sampler, 3).isfinite().all()
    with pytest.raises(ValueError, match=r"start must be below 1.0 for an eps prediction"):
        sample(denoiser, SEEDS, sampler, 3, start=1.0)


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan")])
def test_bad_eta(eta: float) -> None:
    with pytest.raises(ValueError, match="eta must be a number from 0 to 1"):
        sample(zoo.tiny(), [0], "ddim", 2, eta=eta)


@every_sampler
@pytest.mark.parametrize("count", [0, 2, 4])
def test_seeds_of_the_wrong_length_are_refused_before_the_first_step(sampler: str, count: int) -> None:
    denoiser = zoo.tiny()
    with pytest.raises(ValueError, match=f"one seed an image: got {count} seeds for 3 images"):
        next(SAMPLERS[sampler](denoiser, keyed_noise(SEEDS, denoiser.shape), 3, seeds=range(count)))


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, True])
def test_bad_seeds(seed: Any) -> None:
    message = f"seed must be a whole number from 0 to 4294967295, got {seed}"
    with pytest.raises(ValueError, match=message):
        keyed_noise([0, seed], (3, 4, 4))
    with pytest.raises(ValueError, match=message):
        sample(zoo.tiny(), [0, seed], "heun", 2)


def test_unknown_sampler() -> None:
    for call in (lambda: sample(zoo.tiny(), [0], "hein"), lambda: options("hein"), lambda: evaluations("hein", 3)):
        with pytest.raises(ValueError, match=r"unknown sampler 'hein'; .*heun.*euler"):
            call()


@every_sampler
def test_options_belong_to_samplers(sampler: str) -> None:
    takes = {"ddim": {"eta", "clamp"}, "ddpm": {"clamp"}, "descent": {"step_size"}}.get(sampler, set())
    assert options(sampler) == takes
    check_options(sampler, dict.fromkeys(takes | {"start"}))
    for name in {"eta", "clamp"} - takes:
        with pytest.raises(ValueError, match=f"sampler '{sampler}' has no option '{name}'; it belongs to ddim"):
            sample(zoo.tiny(), [0], sampler, 2, **{name: 1})
    with pytest.raises(ValueError, match=f"sampler '{sampler}' has no option 'churn'; it belongs to none"):
        sample(zoo.tiny(), [0], sampler, 2, churn=1)


# --- The shared noise.


def test_noise_belongs_to_the_seed() -> None:
    shape = (3, 8, 8)
    together = keyed_noise([5, 6, 7], shape)
    assert together.shape == (3, *shape) and together.dtype == torch.float32
    for position, seed in enumerate([5, 6, 7]):
        assert torch.equal(keyed_noise([seed], shape)[0], together[position])
    assert torch.equal(keyed_noise([7, 5], shape), together[[2, 0]])
    assert torch.equal(keyed_noise([np.int64(5)], shape), together[:1])  # seeds may come from an array
    assert keyed_noise([], shape).shape == (0, *shape)


def test_noise_is_unit_gaussian_and_differs_by_seed_and_step() -> None:
    draws = torch.stack([keyed_noise(range(32), (3, 32, 32), step) for step in range(4)])  # 393,216 numbers
    count = draws.numel()
    assert abs(draws.mean().item()) < 5 / count**0.5
    assert abs(draws.var().item() - 1) < 5 * (2 / count) ** 0.5
    assert abs(draws.pow(4).mean().item() - 3) < 5 * (96 / count) ** 0.5
    rows = draws.flatten(0, 1).flatten(1)  # one row a (step, seed)
    correlations = torch.corrcoef(rows) - torch.eye(len(rows))
    assert correlations.abs().max() < 6 / rows.shape[1] ** 0.5
    ends = keyed_noise([0, 2**32 - 1], (3, 8, 8))
    assert abs(torch.corrcoef(ends.flatten(1))[0, 1]) < 6 / 192**0.5


def test_freed_memory_is_kept_for_the_next_evaluation() -> None:
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
    if platform.libc_ver()[0] != "glibc":
        return  # another C library has no such setting: that it says so is all there is to check
    import resource  # not on Windows

    faults = []
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(50):
            activations = [torch.ones(2**20) for _ in range(4)]  # 4 x 4 MiB = 4,096 pages at a time
            del activations
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert faults[1] < 4096  # 200,000 where every list is given back to the system
