"""The algebra between a network's output and (x0, eps, drift), and the dtypes at the denoiser's edges."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from explore import zoo
from explore.data import add_noise
from explore.denoiser import PREDICTIONS, Denoiser, shifted
from explore.models import ARCHITECTURES
from explore.schedules import SCHEDULES
from explore.seeds import keyed_noise

COMBINATIONS = [(p, s) for p in PREDICTIONS for s in SCHEDULES if s == "flow" or not PREDICTIONS[p].flow_only]
combinations = pytest.mark.parametrize("prediction, schedule", COMBINATIONS)
SHAPE = (3, 4, 4)


class Fixed(nn.Module):
    """A network that answers what it was given, whatever it is asked."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = nn.Parameter(answer)  # a parameter, so that the denoiser computes in the answer's dtype

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        assert xt.dtype == self.answer.dtype and xt.is_contiguous(memory_format=torch.channels_last)
        assert t.shape == (len(xt),) and t.dtype == torch.float32
        return self.answer


def exact_output(prediction: str, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """What a perfect network says, written out here from the papers and not taken from PREDICTIONS."""
    y, s = x0 + sigma / alpha * eps, sigma / alpha  # EDM's state, its noise level, and its standard deviation of the data, 0.5
    c_skip, c_out = 0.25 / (0.25 + s**2), 0.5 * s / (0.25 + s**2) ** 0.5
    return {
        "eps": eps, "x0": x0, "v": alpha * eps - sigma * x0, "velocity": eps - x0,
        "edm": (x0 - c_skip * y) / c_out, "uedm": x0 - c_skip * y, "eqm": sigma * (eps - x0),
    }[prediction]  # fmt: skip


def pair(seed: int = 0, count: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x0 = torch.rand(count, *SHAPE, generator=generator, dtype=torch.float64) * 2 - 1
    return x0, torch.randn(count, *SHAPE, generator=generator, dtype=torch.float64)


def test_velocity_and_eqm_need_the_straight_path_and_nothing_else_is_excluded() -> None:
    assert len(COMBINATIONS) == 5 * len(SCHEDULES) + 2
    for name in ("ddpm-linear", "ddpm-cosine", "edm"):
        for prediction in ("velocity", "eqm"):
            with pytest.raises(ValueError, match=f"prediction '{prediction}' is defined on the schedule 'flow' only"):
                Denoiser(nn.Identity(), SCHEDULES[name], prediction, SHAPE)


def test_unknown_prediction_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown prediction 'score'; choose from eps, x0, v, velocity, edm, uedm, eqm"):
        Denoiser(nn.Identity(), SCHEDULES["flow"], "score", SHAPE)


@combinations
def test_exact_output_gives_exact_estimates(prediction: str, schedule: str) -> None:
    path = SCHEDULES[schedule]
    x0, eps = pair()
    t = torch.tensor([0.05, 0.3, 0.5, 0.7003, 0.95], dtype=torch.float64)
    alpha, sigma, dalpha, dsigma = (f(t)[:, None, None, None] for f in (path.alpha, path.sigma, path.dalpha, path.dsigma))
    output = exact_output(prediction, x0, eps, alpha, sigma)
    torch.testing.assert_close(PREDICTIONS[prediction].target(x0, eps, alpha, sigma), output)

    denoiser = Denoiser(Fixed(output), path, prediction, SHAPE)
    xt = add_noise(x0, eps, t, path)
    torch.testing.assert_close(xt, alpha * x0 + sigma * eps)
    estimate = denoiser.estimate(xt, t)
    torch.testing.assert_close(estimate.output, output)
    torch.testing.assert_close(estimate.x0_hat, x0, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(estimate.eps_hat, eps, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(estimate.drift, dalpha * x0 + dsigma * eps, rtol=1e-9, atol=1e-9)
    for method, expected in (
        (denoiser, estimate.x0_hat),
        (denoiser.eps_hat, estimate.eps_hat),
        (denoiser.drift, estimate.drift),
    ):
        assert torch.equal(method(xt, t), expected)


@combinations
def test_drift_is_the_velocity_of_the_path_itself(prediction: str, schedule: str) -> None:
    path, (x0, eps), t, width = SCHEDULES[schedule], pair(), 0.4005, 1e-6
    ahead, behind = add_noise(x0, eps, t + width, path), add_noise(x0, eps, t - width, path)
    alpha, sigma = (f(torch.tensor(t, dtype=torch.float64)) for f in (path.alpha, path.sigma))
    denoiser = Denoiser(Fixed(exact_output(prediction, x0, eps, alpha, sigma)), path, prediction, SHAPE)
    drift = denoiser.drift(add_noise(x0, eps, t, path), t)
    torch.testing.assert_close(drift, (ahead - behind) / (2 * width), rtol=1e-6, atol=1e-6)


@combinations
def test_estimates_are_finite_at_zero(prediction: str, schedule: str) -> None:
    denoiser = zoo.tiny("unet", "timestep", prediction, schedule)
    xt = torch.randn(2, *denoiser.shape, generator=torch.Generator().manual_seed(0))
    estimate = denoiser.estimate(xt, 0.0)
    for name in ("output", "x0_hat", "eps_hat", "drift"):
        assert getattr(estimate, name).isfinite().all(), name
    if prediction not in ("x0", "uedm", "eqm"):  # alpha = 1 and sigma = 0: xt is the clean image
        torch.testing.assert_close(estimate.x0_hat, xt)


def test_the_output_of_edm_has_unit_variance_and_so_loss_weight_one() -> None:
    """For data of standard deviation 0.5 the target has variance 1 at every t: EDM's weight times c_out^2 is 1."""
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 200_000, generator=generator, dtype=torch.float64)
    for t in (0.05, 0.3, 0.9):
        alpha, sigma = (f(torch.tensor(t, dtype=torch.float64)) for f in (SCHEDULES["edm"].alpha, SCHEDULES["edm"].sigma))
        target = PREDICTIONS["edm"].target(0.5 * x0, eps, alpha, sigma)
        assert target.var().item() == pytest.approx(1, abs=0.02)
        s = (sigma / alpha).item()
        weight, c_out = (s**2 + 0.25) / (0.5 * s) ** 2, 0.5 * s / (0.25 + s**2) ** 0.5
        assert weight * c_out**2 == pytest.approx(1)


@combinations
def test_estimates_are_finite_where_sampling_starts(prediction: str, schedule: str) -> None:
    denoiser = zoo.tiny("unet", "timestep", prediction, schedule)
    estimate = denoiser.estimate(torch.randn(2, *denoiser.shape), denoiser.start)
    for name in ("x0_hat", "eps_hat", "drift"):
        assert getattr(estimate, name).isfinite().all(), name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_bfloat16_network_takes_and_returns_float32(architecture: str, prediction: str) -> None:
    denoiser = zoo.tiny(architecture, "timestep", prediction)
    xt = torch.randn(2, *denoiser.shape, generator=torch.Generator().manual_seed(0))
    precise = denoiser.estimate(xt, 0.5)
    denoiser.network.to(torch.bfloat16)
    rough = denoiser.estimate(xt, 0.5)
    assert denoiser.dtype == torch.bfloat16
    for name in ("output", "x0_hat", "eps_hat", "drift"):
        assert getattr(rough, name).dtype == torch.float32
        error = (getattr(rough, name) - getattr(precise, name)).square().mean().sqrt()
        assert 0 < error < 0.1 * getattr(precise, name).square().mean().sqrt(), name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_t_is_a_number_or_one_an_image(architecture: str) -> None:
    denoiser = zoo.tiny(architecture)
    xt = torch.randn(3, *denoiser.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(denoiser(xt, 0.25), denoiser(xt, torch.full((3,), 0.25)))
    each = denoiser(xt, torch.tensor([0.25, 0.5, 1.0]))
    torch.testing.assert_close(each[1:2], denoiser(xt[1:2], 0.5), rtol=1e-4, atol=1e-5)


def test_gradients_reach_the_input() -> None:  # saliency needs them; only samplers switch them off
    denoiser = zoo.tiny()
    xt = torch.randn(1, *denoiser.shape).requires_grad_(True)
    denoiser(xt, 0.5).sum().backward()
    assert xt.grad is not None and xt.grad.abs().max() > 0


@pytest.mark.parametrize("conditioning", ["timestep", "none"])
def test_a_misled_network_is_told_another_time_and_nothing_else_changes(conditioning: str) -> None:
    denoiser = zoo.tiny("unet", conditioning, "eps")
    xt = keyed_noise([0, 1], denoiser.shape)
    other = shifted(denoiser, 0.2)
    assert torch.equal(other.output(xt, 0.5), denoiser.output(xt, 0.7))
    assert torch.equal(other.output(xt, 0.5), denoiser.output(xt, 0.5)) == (conditioning == "none")
    assert torch.equal(other.output(xt, 0.9), denoiser.output(xt, 1.0))  # never beyond the ends
    time = torch.tensor(0.5)
    expected = (xt - denoiser.schedule.sigma(time) * denoiser.output(xt, 0.7)) / denoiser.schedule.alpha(time)
    torch.testing.assert_close(other(xt, 0.5), expected)
    assert shifted(denoiser, 0) is denoiser
    with pytest.raises(ValueError, match="offset must be a number from -1 to 1"):
        shifted(denoiser, 1.5)
