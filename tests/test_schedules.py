"""Schedules against diffusers' tables, against their own inverses and against finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from explore.schedules import SCHEDULES, T_DISTRIBUTIONS, T_FLOOR, DDPMSchedule, FlowSchedule, ScaledVESchedule

DIFFUSERS = {"ddpm-linear": "linear", "ddpm-cosine": "squaredcos_cap_v2"}
INNER = torch.linspace(0.0005, 0.9995, 1998, dtype=torch.float64)  # t without its ends, on and between the knots

every_schedule = pytest.mark.parametrize("name", SCHEDULES)
every_table = pytest.mark.parametrize("name", DIFFUSERS)


def test_every_table_is_checked_against_diffusers() -> None:
    assert {name for name, schedule in SCHEDULES.items() if isinstance(schedule, DDPMSchedule)} == set(DIFFUSERS)


@every_table
def test_knots_are_the_table_of_diffusers(name: str) -> None:
    k = torch.arange(1000, dtype=torch.float64)
    expected = DDPMScheduler(1000, beta_schedule=DIFFUSERS[name]).alphas_cumprod.double()
    alpha, sigma = SCHEDULES[name].alpha((k + 1) / 1000), SCHEDULES[name].sigma((k + 1) / 1000)
    torch.testing.assert_close(alpha**2, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(sigma**2, 1 - expected, rtol=0, atol=1e-6)


@every_table
def test_interpolation_is_log_linear_in_alpha_squared(name: str) -> None:
    schedule, k = SCHEDULES[name], torch.arange(1000, dtype=torch.float64)[:, None]
    part = torch.tensor([0.1, 0.5, 0.75], dtype=torch.float64)
    left, right = schedule.alpha(k / 1000).log(), schedule.alpha((k + 1) / 1000).log()
    between = schedule.alpha((k + part) / 1000).log()  # (1000, 3)
    torch.testing.assert_close(between, left + part * (right - left), rtol=0, atol=1e-10)


@every_schedule
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_data_is_untouched_at_zero(name: str, dtype: torch.dtype) -> None:
    zero = torch.zeros(1, dtype=dtype)
    assert SCHEDULES[name].alpha(zero).item() == 1.0
    assert SCHEDULES[name].sigma(zero).item() == 0.0
    assert SCHEDULES[name].logsnr(zero).item() == float("inf")


@pytest.mark.parametrize("name, spread", [("edm", 0.5), ("uedm", 1.0)])
def test_the_ve_path_is_scaled_by_the_published_input_scaling(name: str, spread: float) -> None:
    """xt = c_in (x0 + s eps) up to a constant, s from 0 to 80; data of standard deviation ``spread`` keep it at every t."""
    schedule = SCHEDULES[name]
    assert isinstance(schedule, ScaledVESchedule)
    level = schedule.level(INNER)
    torch.testing.assert_close(schedule.sigma(INNER) / schedule.alpha(INNER), level, rtol=1e-9, atol=0)
    torch.testing.assert_close(schedule.alpha(INNER), spread / (spread**2 + level**2).sqrt())
    total = schedule.alpha(INNER) ** 2 * spread**2 + schedule.sigma(INNER) ** 2
    torch.testing.assert_close(total, torch.full_like(INNER, spread**2))
    ends = schedule.level(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert ends.tolist() == pytest.approx([0.0, 80.0], rel=1e-12)
    assert schedule.t_from_level(torch.tensor([-1e-9, 100.0])).tolist() == [0.0, 1.0]


def test_even_steps_of_t_are_the_steps_of_edm() -> None:
    """s + .002 is a seventh power of a linear function of t, as in EDM's equation 5 with rho = 7, from .002 to 80."""
    t = torch.linspace(0, 1, 18, dtype=torch.float64)
    ends = 0.002 ** (1 / 7), 80 ** (1 / 7)
    published = (ends[0] + t * (ends[1] - ends[0])) ** 7
    shift = 1 - 0.002 / 80  # s runs down to 0 and still begins at 80
    torch.testing.assert_close(SCHEDULES["edm"].level(t) * shift + 0.002, published)


def quantiles(name: str, schedule: str, parts: list[float]) -> Tensor:
    return T_DISTRIBUTIONS[name].quantile(SCHEDULES[schedule], torch.tensor(parts, dtype=torch.float64))


@every_schedule
def test_training_draws_of_t_have_the_quantiles_of_their_distribution(name: str) -> None:
    for distribution in T_DISTRIBUTIONS.values():
        drawn = distribution.draw(SCHEDULES[name], 20_000, torch.Generator().manual_seed(0), torch.device("cpu"))
        assert drawn.dtype == torch.float32 and (drawn >= 0).all() and (drawn <= 1).all()
        for part in (0.1, 0.5, 0.9):
            here = distribution.quantile(SCHEDULES[name], torch.tensor([part], dtype=torch.float64)).item()
            assert (drawn < here).float().mean().item() == pytest.approx(part, abs=5 * 0.5 / 20_000**0.5)


def test_log_normal_t_is_that_of_edm() -> None:
    """ln s has location -1.2 and scale 1.2 (table 1 of the paper), here at its median and one deviation above."""
    above = 0.5 * (1 + math.erf(2**-0.5))
    for name in ("edm", "uedm"):
        t = quantiles("log-normal", name, [0.5, above])
        schedule = SCHEDULES[name]
        assert (schedule.sigma(t) / schedule.alpha(t)).log().tolist() == pytest.approx([-1.2, 0.0], abs=1e-6)
    assert quantiles("logit-normal", "flow", [0.5, above]).tolist() == pytest.approx([0.5, 1 / (1 + math.exp(-1))])
    assert quantiles("uniform", "flow", [0.25]).tolist() == [0.25]


def test_flow_is_the_straight_path() -> None:
    schedule = SCHEDULES["flow"]
    assert isinstance(schedule, FlowSchedule) and schedule.start == 1.0
    torch.testing.assert_close(schedule.alpha(INNER) + schedule.sigma(INNER), torch.ones_like(INNER))
    assert torch.equal(schedule.sigma(INNER), INNER)


@every_schedule
@pytest.mark.parametrize(
    "method", ["alpha", "sigma", "logsnr", "dalpha", "dsigma", "t_from_logsnr", "t_from_alpha", "t_from_sigma"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (5,), (3, 1, 1, 1), (2, 3, 4)])
def test_dtype_and_shape_are_kept(name: str, method: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    argument = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    before = argument.clone()
    result = getattr(SCHEDULES[name], method)(argument)
    assert result.dtype == dtype and result.shape == shape
    assert torch.equal(argument, before) and result.data_ptr() != argument.data_ptr()


@every_schedule
def test_a_strided_input_gives_what_a_contiguous_one_does(name: str) -> None:
    t = torch.rand(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for method in ("alpha", "sigma", "logsnr", "t_from_logsnr", "t_from_alpha", "t_from_sigma"):
        f = getattr(SCHEDULES[name], method)
        assert torch.equal(f(t.T), f(t).T)


@every_schedule
def test_alpha_falls_sigma_rises_and_float32_agrees_with_float64(name: str) -> None:
    schedule = SCHEDULES[name]
    assert (schedule.alpha(INNER).diff() < 0).all()
    assert (schedule.sigma(INNER).diff() > 0).all()
    assert (schedule.logsnr(INNER).diff() < 0).all()
    for method in ("alpha", "sigma"):
        f = getattr(schedule, method)
        torch.testing.assert_close(f(INNER.float()), f(INNER).float(), rtol=1e-4, atol=1e-6)


@every_schedule
def test_logsnr_is_that_of_alpha_and_sigma(name: str) -> None:
    schedule = SCHEDULES[name]
    expected = torch.log(schedule.alpha(INNER) ** 2 / schedule.sigma(INNER) ** 2)
    torch.testing.assert_close(schedule.logsnr(INNER), expected, rtol=1e-9, atol=1e-9)


@every_schedule
@pytest.mark.parametrize("quantity", ["logsnr", "alpha", "sigma"])
def test_round_trips(name: str, quantity: str) -> None:
    schedule = SCHEDULES[name]
    there, back = getattr(schedule, quantity), getattr(schedule, f"t_from_{quantity}")
    # Flat stretches lose digits on the way: sigma^2 is 1 - 2e-9 at the cosine schedule's end.
    torch.testing.assert_close(back(there(INNER)), INNER, rtol=0, atol=1e-6 if quantity == "sigma" else 1e-9)
    if quantity == "logsnr":  # the range that probes read, also in the networks' own precision
        levels = torch.linspace(-8, 8, 33)
        torch.testing.assert_close(there(back(levels)), levels, rtol=0, atol=2e-2)
        torch.testing.assert_close(there(back(levels.double())), levels.double(), rtol=0, atol=1e-8)


@every_schedule
def test_logsnr_beyond_the_ends_gives_the_ends(name: str) -> None:
    beyond = torch.tensor([float("inf"), 1e4, -1e4, float("-inf")], dtype=torch.float64)
    assert SCHEDULES[name].t_from_logsnr(beyond).tolist() == pytest.approx([0, 0, 1, 1], abs=1e-12)


@every_schedule
@pytest.mark.parametrize("quantity", ["alpha", "sigma"])
def test_derivatives_match_finite_differences(name: str, quantity: str) -> None:
    schedule = SCHEDULES[name]
    t = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000  # mid-segment: tables have kinks at their knots
    f, width = getattr(schedule, quantity), 1e-6
    difference = (f(t + width) - f(t - width)) / (2 * width)
    torch.testing.assert_close(getattr(schedule, f"d{quantity}")(t), difference, rtol=1e-6, atol=1e-6)


@every_schedule
def test_derivatives_are_finite_at_both_ends(name: str) -> None:
    schedule, ends = SCHEDULES[name], torch.tensor([0.0, T_FLOOR, 1.0])
    # alpha of the scaled variance-exploding path begins flat
    assert schedule.dalpha(ends).isfinite().all() and (schedule.dalpha(ends)[1:] < 0).all() and schedule.dalpha(ends)[0] <= 0
    assert schedule.dsigma(ends).isfinite().all() and (schedule.dsigma(ends) > 0).all()
    assert schedule.dsigma(ends)[0].item() == pytest.approx(schedule.dsigma(ends)[1].item(), rel=1e-3)


def test_the_derivative_at_a_knot_is_that_of_the_segment_to_its_right() -> None:
    knot = torch.tensor([0.5], dtype=torch.float64)
    for name in DIFFUSERS:
        f = SCHEDULES[name].alpha
        right, left = (f(knot + 1e-7) - f(knot)) / 1e-7, (f(knot) - f(knot - 1e-7)) / 1e-7
        given = SCHEDULES[name].dalpha(knot)
        assert (given - right).abs() < 1e-5 and (given - left).abs() > 1e-4


def test_default_starts() -> None:
    assert {name: SCHEDULES[name].start for name in SCHEDULES} == {
        "ddpm-linear": 0.991,
        "ddpm-cosine": 0.991,
        "flow": 1.0,
        "edm": 1.0,
        "uedm": 1.0,
    }


def test_betas_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"betas must have shape \(1000,\), got \(10,\)"):
        DDPMSchedule(torch.full((10,), 0.1))
