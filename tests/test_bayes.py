"""Exact posteriors and denoisers against brute force, numerical integration and the curvature of divergences."""

import importlib.util
import itertools
import json
import sys
from collections import deque
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from scipy.special import logsumexp

from explore import bayes, files
from explore.bayes import (
    DiagonalGaussian,
    FiniteSet,
    Levels,
    Mixture,
    bayes_denoiser,
    conditional_mean,
    information_given_x0,
    marginal_mean,
    posterior,
    posterior_width,
    posteriors,
    priors,
    time_gap,
)
from explore.data import add_noise, to_uint8
from explore.denoiser import PREDICTIONS
from explore.samplers import SAMPLERS, sample
from explore.schedules import SCHEDULES
from explore.seeds import keyed_noise

FLOW, COSINE = SCHEDULES["flow"], SCHEDULES["ddpm-cosine"]
PATH = Path(__file__).resolve().parent.parent / "benchmarks" / "blind_table.py"
spec = importlib.util.spec_from_file_location("blind_table", PATH)
table = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = table  # dataclasses look their module up
spec.loader.exec_module(table)


def plain(mean, variance):
    return DiagonalGaussian(np.asarray(mean, float), np.asarray(variance, float), "plain")


def photographs(resolution=8, basis="plain"):
    return bayes.spectral_gaussian(resolution, 0.25, basis)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def both(schedule, t):
    """alpha and sigma as floats."""
    time = torch.tensor(t, dtype=torch.float64)
    return schedule.alpha(time).item(), schedule.sigma(time).item()


def log_normal(x, mean, variance):
    return -0.5 * ((x - mean) ** 2 / variance + np.log(2 * np.pi * variance))


# --- The posterior of t


def brute_force(points, xt, levels):
    """p(t | xt) and R parts of a finite set: a Gaussian density for every image, level and point, in float64."""
    alpha, sigma = levels.alpha.numpy(), levels.sigma.numpy()
    logs = np.empty((len(xt), len(alpha), len(points)))
    for i, z in enumerate(xt):
        for t, (a, b) in enumerate(zip(alpha, sigma)):
            for k, point in enumerate(points):
                logs[i, t, k] = log_normal(z, a * point, b**2).sum()
    return logs - logsumexp(logs, axis=(1, 2), keepdims=True)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("large", [False, True])
def test_a_finite_set_agrees_with_brute_force(schedule, large, monkeypatch):
    """In the small branch (float64 throughout) and the large one (float32, best candidates again)."""
    monkeypatch.setattr(priors, "SMALL", 0 if large else 2**22)
    monkeypatch.setattr(posteriors, "CHUNK", 64)  # several runs of levels
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (20, 48))
    prior = FiniteSet(torch.from_numpy(points))
    levels = Levels(SCHEDULES[schedule], torch.linspace(0.003, 0.999, 24, dtype=torch.float64))
    times = torch.tensor([0.01, 0.1, 0.5, 0.97], dtype=torch.float64)
    x0, eps = torch.from_numpy(points[[3, 4, 5, 6]]), torch.from_numpy(rng.standard_normal((4, 48)))
    xt = SCHEDULES[schedule].alpha(times)[:, None] * x0 + SCHEDULES[schedule].sigma(times)[:, None] * eps
    logs = brute_force(points, xt.numpy(), levels)
    found = posterior(prior, xt, levels)
    expected = logsumexp(logs, axis=2)
    likely = expected > -30
    assert found.log_probability.numpy()[likely] == pytest.approx(expected[likely], abs=2e-4 if large else 1e-8)
    # And f*: every level and image gives its own x0 and eps.
    for target, rule in PREDICTIONS.items():
        joint = np.exp(logs)[..., None]  # (B, T, K, 1)
        a, b = levels.alpha.numpy()[None, :, None, None], levels.sigma.numpy()[None, :, None, None]
        noise = (xt.numpy()[:, None, None] - a * points) / b
        answer = (joint * rule.target(points + 0 * noise, noise, a, b)).sum((1, 2))
        assert marginal_mean(prior, xt, levels, target).numpy() == pytest.approx(answer, abs=1e-4 if large else 1e-8)


def test_float32_alone_would_be_nats_off_where_the_large_branch_is_not(monkeypatch):
    torch.manual_seed(0)
    points = torch.rand(400, 3072) * 2 - 1
    levels = Levels(FLOW, torch.linspace(0.004, 0.02, 60, dtype=torch.float64))
    xt = 0.99 * points[:2].double() + 0.01 * torch.randn(2, 3072, dtype=torch.float64)
    exact = posterior(FiniteSet(points.double()), xt, levels).log_probability
    monkeypatch.setattr(priors, "SMALL", 0)
    prior = FiniteSet(points)
    assert (posterior(prior, xt, levels).log_probability - exact).abs().max() < 1e-3
    rough = (xt.float() @ points.T).double()
    scores = prior.log_components(xt, rough, levels.alpha, levels.sigma).logsumexp(2)
    assert (scores.log_softmax(1) - exact).abs().max() > 0.5


MEANS, DEVIATIONS, WEIGHTS = np.array([-0.8, 0.1, 0.7]), np.array([0.05, 0.3, 0.1]), np.array([1.0, 2.0, 3.0])


def trio():
    """A mixture over one value."""
    return Mixture(WEIGHTS.tolist(), [plain([m], [s**2]) for m, s in zip(MEANS, DEVIATIONS)], "three Gaussians of one value")


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("target", PREDICTIONS)
def test_a_mixture_agrees_with_numerical_integration(schedule, target):
    """Over x0 at every level: the posterior of t, R(z|t) and f*, with a prior of t and a loss weight."""
    path = SCHEDULES[schedule]
    levels = Levels(path, torch.linspace(0.05, 1, 15, dtype=torch.float64), lambda t: t * (1.1 - t), "t (1.1 - t)")
    z = np.array([-1.2, 0.05, 0.9])
    x0 = np.linspace(-3, 3, 24001)
    density = (WEIGHTS / WEIGHTS.sum() * np.exp(log_normal(x0[:, None], MEANS, DEVIATIONS**2))).sum(1)
    times = levels.t.numpy()
    mass = np.empty((len(z), len(times)))
    inside = np.empty((len(z), len(times)))
    for j, t in enumerate(times):
        a, b = both(path, t)
        for i, value in enumerate(z):
            joint = density * np.exp(log_normal(value, a * x0, b**2))
            wanted = PREDICTIONS[target].target(x0, (value - a * x0) / b, a, b)
            inside[i, j] = (joint * wanted).sum() / joint.sum()
            mass[i, j] = joint.sum() * times[j] * (1.1 - times[j])
    xt = torch.from_numpy(z)[:, None]
    for j in (0, 7, 13):
        assert conditional_mean(trio(), xt, times[j], path, target)[:, 0].numpy() == pytest.approx(inside[:, j], abs=1e-6)
    assert posterior(trio(), xt, levels).log_probability.exp().numpy() == pytest.approx(
        mass / mass.sum(1, keepdims=True), abs=1e-6
    )
    tilted = mass * times**2
    tilted /= tilted.sum(1, keepdims=True)
    answer = (tilted * inside).sum(1)
    found = marginal_mean(trio(), xt, levels, target, weight=torch.square)[:, 0]
    assert found.numpy() == pytest.approx(answer, abs=1e-6)
    assert np.abs(marginal_mean(trio(), xt, levels, target)[:, 0].numpy() - answer).max() > 1e-3  # the weight matters


def test_a_mixture_may_hold_finite_sets_and_knows_their_weight():
    """Two points of weight 1/4 each beside one of 1/2 are four points, two of them equal."""
    points = torch.tensor([[0.5, -0.2], [0.1, 0.9], [-0.7, 0.3], [-0.7, 0.3]], dtype=torch.float64)
    mixture = Mixture([1, 1], [FiniteSet(points[:2]), plain(points[2].numpy(), [0.0, 0.0])])
    xt, levels = torch.tensor([[0.2, 0.1], [-0.4, 0.5]]), Levels.midpoints(COSINE, 20)
    for target in ("eps", "x0"):
        assert torch.allclose(
            marginal_mean(mixture, xt, levels, target), marginal_mean(FiniteSet(points), xt, levels, target), atol=1e-10
        )
    assert mixture.components == 3 and mixture.energy == pytest.approx(0.82)


def test_the_dct_basis_changes_nothing_but_the_coordinates():
    """It is SciPy's; and a Gaussian that is white has the same posterior and denoiser in either basis."""
    torch.manual_seed(0)
    xt = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    dct, pixels = (DiagonalGaussian(np.zeros(72), np.full(72, 0.3), basis) for basis in ("dct", "plain"))
    assert dct.coordinates(xt).numpy() == pytest.approx(dctn(xt.numpy(), axes=(-2, -1), norm="ortho").reshape(2, 72))
    assert torch.allclose(dct.to_images(dct.coordinates(xt), (3, 4, 6)), xt)
    levels = Levels.midpoints(COSINE, 30)
    assert torch.allclose(posterior(dct, xt, levels).log_probability, posterior(pixels, xt, levels).log_probability)
    assert torch.allclose(marginal_mean(dct, xt, levels, "v"), marginal_mean(pixels, xt, levels, "v"))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("dimension", [2, 192, 3072])
def test_spaced_levels_are_as_fine_as_they_say(schedule, dimension):
    """Half a posterior width at most, known picture, and 1/300; in log sigma 0.6 % near the data at 3072 values."""
    path, energy = SCHEDULES[schedule], 0.25 * dimension
    levels = Levels.spaced(path, dimension, energy, split=1)
    for cell in range(5, len(levels.t) - 5, max(1, len(levels.t) // 20)):
        t = levels.t[cell].item()
        width = levels.edges.diff()[cell].item()
        assert width <= 1.03 / 300
        if min(abs(t * 1000 - round(t * 1000)), 1) > 0.2:  # the tables' derivatives jump at their knots
            assert width * information_given_x0(path, t, dimension, energy) ** 0.5 <= 0.53
    assert levels.log_mass.exp().sum() == pytest.approx(1)
    near = levels.sigma.log().diff()[:20]
    if dimension == 3072:
        assert near == pytest.approx(np.full(20, 0.0063), rel=0.05)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_splitting_the_cells_that_matter_is_as_good_as_splitting_all(schedule):
    prior = photographs(16)
    path = SCHEDULES[schedule]
    coarse, fine = (Levels.spaced(path, 768, prior.energy, split=split) for split in (8, 1))
    assert len(coarse.t) < len(fine.t) / 6
    for t in (0.03, 0.4, 0.98):
        x0 = prior.draw(2, seeded(1)).reshape(2, 3, 16, 16)
        xt = add_noise(x0, torch.randn(2, 3, 16, 16, dtype=torch.float64, generator=seeded(2)), t, path)
        one, other = posterior(prior, xt, coarse), posterior(prior, xt, fine)
        assert len(coarse.t) < len(one.levels.t) < len(fine.t) * (0.6 if t == 0.4 else 1)
        assert one.mean().numpy() == pytest.approx(other.mean().numpy(), rel=2e-3)
        assert one.std().numpy() == pytest.approx(other.std().numpy(), rel=1e-2)
        for target in ("eps", "x0"):
            assert torch.allclose(marginal_mean(prior, xt, coarse, target), marginal_mean(prior, xt, fine, target), atol=5e-3)


# --- Fisher information and width


def divergence(prior, schedule, one, other):
    """KL divergence between the distributions of xt at two times, closed form."""
    (a, b), (c, d) = both(schedule, one), both(schedule, other)
    first, second = a**2 * prior.variance + b**2, c**2 * prior.variance + d**2
    shift = ((a - c) * prior.mean) ** 2 / second
    return 0.5 * (first / second - 1 - np.log(first / second) + shift).sum()


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("t", [0.0505, 0.3005, 0.7005, 0.9505])  # between the knots of the tables
def test_information_is_the_curvature_of_the_divergence(schedule, t):
    rng = np.random.default_rng(0)
    prior = DiagonalGaussian(rng.standard_normal(48), rng.exponential(0.3, 48))
    step = 1e-5
    both_ways = sum(divergence(prior, SCHEDULES[schedule], t, t + sign * step) for sign in (1, -1))
    assert prior.information(SCHEDULES[schedule], t) == pytest.approx(both_ways / step**2, rel=1e-3)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("t", [0.0505, 0.4005, 0.9005])
def test_the_known_picture_is_a_point_mass(schedule, t):
    """The oracle's formula is the general one without variance, and the mean square of the log-likelihood's slope."""
    rng = np.random.default_rng(0)
    x0 = rng.uniform(-1, 1, 48)
    path = SCHEDULES[schedule]
    oracle = information_given_x0(path, t, 48, (x0**2).sum())
    assert oracle == pytest.approx(plain(x0, np.zeros(48)).information(path, t), rel=1e-12)
    (a, b), step = both(path, t), 1e-6
    xt = a * x0 + b * rng.standard_normal((20000, 48))
    ahead, behind = both(path, t + step), both(path, t - step)
    slopes = [log_normal(xt, c * x0, d**2).sum(1) for c, d in (ahead, behind)]
    assert oracle == pytest.approx((((slopes[0] - slopes[1]) / (2 * step)) ** 2).mean(), rel=0.05)


def test_fisher_information_is_the_slope_of_the_exact_log_likelihood():
    """Of a Gaussian, by finite differences over pictures; and a mixture has no more than readers who know the picture."""
    prior, t, step = photographs(), 0.3005, 1e-5
    levels = Levels(
        FLOW, torch.tensor([t - 3 * step, t - step, t + step, t + 3 * step], dtype=torch.float64)
    )  # around t -+ 2 step
    x0, eps = prior.draw(4000, seeded(0)), torch.randn(4000, 192, dtype=torch.float64, generator=seeded(1))
    found = posterior(prior, (1 - t) * x0 + t * eps, levels).log_probability
    slope = (found[:, 2] - found[:, 0]) / (4 * step)
    assert slope.square().mean().item() == pytest.approx(prior.information(FLOW, t), rel=0.08)


def test_one_known_point_at_zero_has_the_width_of_pure_noise():
    """On the linear path the width relative to t is 1 / sqrt(2 d), by formula and by the posterior: slope -1/2."""
    widths = {}
    for dimension in (192, 768, 3072):
        prior = plain(np.zeros(dimension), np.zeros(dimension))
        assert prior.information(FLOW, 0.4) ** -0.5 / 0.4 == pytest.approx((2 * dimension) ** -0.5)
        found = posterior_width(prior, Levels.spaced(FLOW, dimension), 0.4, count=200)
        assert found.bound == pytest.approx(found.bound_given_x0)
        widths[dimension] = found.std / 0.4
    # Known from elsewhere, where it was measured once; 1 / t^2 is Gamma((d - 1) / 2), so .05147 and .02557 are exact.
    assert widths[192] == pytest.approx(0.0516, rel=0.02) and widths[768] == pytest.approx(0.0254, rel=0.02)
    slope = np.polyfit(np.log(list(widths)), np.log(list(widths.values())), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.02)


@pytest.mark.parametrize("schedule, t", [("flow", 0.2), ("flow", 0.9), ("ddpm-cosine", 0.3), ("ddpm-linear", 0.2)])
def test_a_narrow_posterior_has_the_width_of_fisher(schedule, t):
    prior = photographs(16)
    levels = Levels.spaced(SCHEDULES[schedule], 768, prior.energy)
    found = posterior_width(prior, levels, t + 0.0005, count=100)
    assert found.bound < 0.15 * t
    assert found.std == pytest.approx(found.bound, rel=0.05)
    assert found.bound_given_x0 < found.bound
    assert "1/f^2" in found.prior and "t uniform on (" in found.prior


def test_near_noise_the_linear_path_stays_sharp_and_vp_does_not():
    prior = photographs(32)
    sharp = posterior_width(prior, Levels.spaced(FLOW, 3072, prior.energy), 0.99, count=8)
    vague = posterior_width(prior, Levels.spaced(COSINE, 3072, prior.energy), 0.99, count=8)
    assert sharp.bound == pytest.approx((2 * 3072) ** -0.5, rel=0.02)
    assert vague.bound > 20 * sharp.bound  # more than the whole range: it is the end at t = 1 that bounds t
    assert sharp.std < sharp.bound and vague.std > 3 * sharp.std


def test_the_width_of_sigma_near_the_data():
    """3072 values with a 1/f^2 spectrum of variance 0.25: image content hides low noise."""
    found = table.widths()["relative_std_of_sigma"]
    assert {sigma: round(std, 3) for sigma, std in found.items()} == {
        0.05: 0.301,
        0.2: 0.034,
        0.5: 0.017,
        3.0: 0.013,
        10.0: 0.013,
    }


# --- The gap


@pytest.mark.parametrize("schedule", ["ddpm-cosine", "ddpm-linear"])
def test_vp_on_unit_gaussian_data_hides_t_at_every_dimension(schedule):
    """xt is N(0, I) whatever t: the posterior is the prior, v costs nothing, eps d Var(b) and x0 d Var(a)."""
    dimension = 48
    prior = plain(np.zeros(dimension), np.ones(dimension))
    levels = Levels.midpoints(SCHEDULES[schedule], 100, lambda t: t, "t")
    xt = torch.randn(5, dimension)
    found = posterior(prior, xt, levels).log_probability
    assert found.numpy() == pytest.approx(levels.log_mass.expand(5, -1).numpy(), abs=1e-9)
    assert time_gap(prior, levels, "v", count=20).value < 1e-20
    mass = levels.log_mass.exp().numpy()
    for target, coefficient in (("eps", levels.sigma.numpy()), ("x0", levels.alpha.numpy())):
        variance = (mass * coefficient**2).sum() - (mass * coefficient).sum() ** 2
        cost = time_gap(prior, levels, target, count=400)
        assert abs(cost.value - dimension * variance) < 4 * cost.error < 0.1 * cost.value
        z = cost.gap / variance  # Var R = |z|^2 Var(b), draw by draw
        assert z.mean().item() == pytest.approx(dimension, rel=0.05) and cost.prior.endswith("t t on (0, 1)")


@pytest.mark.parametrize("target, weight", [("eps", None), ("x0", lambda t: (1 - t) ** 2)])
def test_the_gap_is_the_mean_distance_between_the_two_regressions(target, weight):
    """E[w |f* - R(z|t)|^2], by drawing (t, x0, eps) anew and never looking at a posterior's variance."""
    prior, levels = trio(), Levels.midpoints(FLOW, 20)
    cost = time_gap(prior, levels, target, weight=weight, count=3000)
    generator = seeded(9)
    total, each = 0.0, 500
    for t, mass in zip(levels.t.tolist(), levels.log_mass.exp().tolist()):
        x0 = prior.draw(each, generator)
        xt = (1 - t) * x0 + t * torch.randn(each, 1, dtype=torch.float64, generator=generator)
        squares = (
            (marginal_mean(prior, xt, levels, target, weight) - conditional_mean(prior, xt, t, FLOW, target)).square().sum(1)
        )
        total += mass * (weight(t) if weight else 1.0) * squares.mean().item()
    assert cost.error < 0.06 * cost.value
    assert abs(cost.value - total) < 4 * cost.error


def test_the_gap_vanishes_where_t_is_plain_and_the_levels_that_split_stand_for_all_t():
    prior = photographs(16)
    sharp = time_gap(prior, Levels(FLOW, torch.tensor([0.1, 0.3, 0.6, 0.9])), "velocity", count=20)
    assert sharp.value < 1e-12
    whole = time_gap(prior, Levels.spaced(FLOW, 768, prior.energy), "velocity", count=20)
    assert 1e-4 < whole.value < 0.1 * 768 and len(set(whole.t.tolist())) == 20


# --- As a denoiser


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_the_denoiser_is_told_t_or_is_not_and_the_samplers_route_stays(prediction):
    prior, shape = photographs(), (3, 8, 8)
    levels = Levels.midpoints(COSINE, 60)
    xt = torch.randn(3, *shape)
    knows, never, partly = (
        bayes_denoiser(prior, levels, prediction, shape, hidden=hidden) for hidden in (None, (0, 1), (0.5, 1))
    )
    times = (0.2, 0.6, 0.9)
    outputs = {t: [model.estimate(xt, t).output for model in (knows, never, partly)] for t in times}
    assert torch.equal(outputs[0.2][1], outputs[0.9][1])
    assert torch.equal(outputs[0.2][2], outputs[0.2][0]) and torch.equal(outputs[0.6][2], outputs[0.6][1])
    assert not torch.allclose(outputs[0.2][0], outputs[0.9][0], atol=1e-3)
    assert not torch.allclose(outputs[0.2][0], outputs[0.2][1], atol=1e-3)
    for t in times:  # whatever it predicts, told t it gives the posterior mean
        a, b = both(COSINE, t)
        l = torch.from_numpy(prior.variance).reshape(shape)  # noqa: E741
        estimate = knows.estimate(xt.double(), t)
        assert torch.allclose(estimate.x0_hat, a * l / (a**2 * l + b**2) * xt, atol=1e-5)
        assert torch.allclose(estimate.eps_hat, b / (a**2 * l + b**2) * xt, atol=1e-5)
    mixed = torch.tensor([0.2, 0.6, 0.2])
    rows = partly.output(xt, mixed)
    assert torch.allclose(rows[1], outputs[0.6][2][1]) and torch.equal(rows[[0, 2]], outputs[0.2][2][[0, 2]])
    assert never.estimate(xt, 0.3).x0_hat.dtype == torch.float32
    assert "time-agnostic" in never.name and "1/f^2" in never.name and "t uniform on (0, 1)" in never.name


def test_ddim_contracts_each_coordinate_as_the_recursion_says():
    """Told t every step multiplies each coordinate by a known number."""
    prior, shape = photographs(), (3, 8, 8)
    denoiser = bayes_denoiser(prior, Levels.midpoints(COSINE, 10), "eps", shape)
    noise = keyed_noise([0, 1], shape).double()
    last = deque(SAMPLERS["ddim"](denoiser, noise, 20, start=0.99), maxlen=1)[0].xt
    grid = np.linspace(0.99, 0, 21)
    factor = both(COSINE, 0.99)[1] * np.ones(192)
    for now, then in itertools.pairwise(grid):
        (a, b), (c, d) = both(COSINE, float(np.float32(now))), both(COSINE, then)
        factor *= (c * a * prior.variance + d * b) / (a**2 * prior.variance + b**2)
    assert last.flatten(1).numpy() == pytest.approx(factor * noise.flatten(1).numpy(), rel=1e-4)


@pytest.mark.parametrize("hidden", [None, (0, 1)])
def test_on_a_finite_set_samples_are_members(hidden):
    """Also not told t, the exact velocity model ends on the points; and ``sample`` takes it like any Denoiser."""
    points = torch.tensor([[0.9, 0.9], [-0.9, 0.2], [0.1, -0.8]], dtype=torch.float64).reshape(3, 1, 1, 2)
    points = points.repeat(1, 3, 16, 8)
    prior = FiniteSet(points)
    denoiser = bayes_denoiser(prior, Levels.spaced(FLOW, 768, prior.energy), "velocity", (3, 16, 16), hidden=hidden)
    samples = sample(denoiser, range(12), "euler", 50)
    distances = (samples[:, None] - points[None]).square().mean((2, 3, 4)).sqrt()
    # Told t the last step lands on the point; else the path is as long as noise of mean length, 1 +- 1 / sqrt(2 d).
    assert distances.min(1).values.max() < (0.001 if hidden is None else 0.1)
    assert len(set(distances.argmin(1).tolist())) > 1


def test_told_the_end_of_the_path_nothing_divides_by_zero():
    prior = FiniteSet(to_uint8(torch.rand(4, 3, 8, 8)))
    denoiser = bayes_denoiser(prior, Levels.midpoints(FLOW, 10), "velocity", (3, 8, 8))
    member = prior.points[:1].reshape(1, 3, 8, 8)
    assert torch.allclose(denoiser(member, 0.0), member) and denoiser(member, 1.0).isfinite().all()


# --- Fitting and keeping


def test_fit_recovers_the_spectrum_and_needs_images():
    rng = np.random.default_rng(0)
    images = to_uint8(torch.from_numpy(0.2 * rng.standard_normal((4000, 3, 4, 4)) + 0.1).float())
    prior = DiagonalGaussian.fit(images)
    assert prior.variance == pytest.approx(np.full(48, 0.04), rel=0.15)
    assert prior.mean.reshape(3, 4, 4)[:, 0, 0] == pytest.approx(np.full(3, 0.4), rel=0.05)  # 0.1 times sqrt(16)
    assert prior.prior == "a diagonal Gaussian in the DCT basis, fitted to 4000 images"
    with pytest.raises(ValueError, match="at least 2 images"):
        DiagonalGaussian.fit(images[:1])


@pytest.mark.parametrize("dtype, tolerance, size", [(torch.float32, 1e-6, 26_000), (torch.float16, 2e-3, 14_000)])
def test_a_fit_is_kept_without_pickle(tmp_path, dtype, tolerance, size):
    rng = np.random.default_rng(0)
    prior = DiagonalGaussian(rng.uniform(0.5, 4, 3072), 10 ** rng.uniform(-6, 2, 3072), prior="a test")
    path = tmp_path / "fit.safetensors"
    prior.save(path, dtype)
    assert path.stat().st_size < size and list(tmp_path.iterdir()) == [path]
    loaded = DiagonalGaussian.load(path)
    assert loaded.mean == pytest.approx(prior.mean, rel=tolerance)
    assert loaded.variance == pytest.approx(prior.variance, rel=2 * tolerance)
    assert (loaded.basis, loaded.prior) == ("dct", "a test")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"fit.safetensors is not"):
        DiagonalGaussian.load(path)
    files.save_state(path, {"mean": torch.zeros(2)}, kind="something")
    with pytest.raises(ValueError, match="does not hold a diagonal Gaussian"):
        DiagonalGaussian.load(path)


def test_draws_have_the_moments_of_their_prior():
    drawn = trio().draw(40000, seeded(3))[:, 0].numpy()
    share = WEIGHTS / WEIGHTS.sum()
    assert drawn.mean() == pytest.approx((share * MEANS).sum(), abs=0.02)
    assert (drawn**2).mean() == pytest.approx((share * (MEANS**2 + DEVIATIONS**2)).sum(), rel=0.02)
    points = torch.arange(6.0).reshape(3, 2)
    found, counts = FiniteSet(points).draw(3000, seeded(0)).unique(dim=0, return_counts=True)
    assert torch.equal(found.float(), points) and counts.min() > 900


XT, FEW = torch.zeros(1, 2), Levels.midpoints(FLOW, 4)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: Levels(FLOW, torch.tensor([0.5, 0.2])), "edges of t"),
        (lambda: Levels(FLOW, torch.tensor([0.0, 1.0]), torch.square), "needs a description"),
        (lambda: Levels(FLOW, torch.tensor([0.0, 1.0]), lambda t: t - 2, "t - 2"), "density of t must be finite"),
        (lambda: Levels.spaced(FLOW, 0), "out of range"),
        (lambda: Levels.spaced(FLOW, 4, spacing=3), "out of range"),
        (lambda: DiagonalGaussian(np.zeros(2), np.zeros(3)), "got shapes"),
        (lambda: DiagonalGaussian(np.zeros(2), -np.ones(2)), ">= 0"),
        (lambda: DiagonalGaussian(np.zeros(2), np.ones(2), "wavelet"), "unknown basis"),
        (lambda: FiniteSet(torch.zeros(0, 3, 8, 8)), "at least one image"),
        (lambda: Mixture([1], [plain([0], [1]), plain([0], [1])]), "a weight above 0 for each"),
        (lambda: Mixture([1, 0], [plain([0], [1])] * 2), "a weight above 0 for each"),
        (lambda: Mixture([1, 1], [plain([0], [1]), plain([0, 0], [1, 1])]), "one size and basis"),
        (lambda: posterior(plain([0], [1]), XT, FEW), "images of 1 values are needed"),
        (lambda: posterior(DiagonalGaussian(np.zeros(2), np.ones(2)), XT, FEW), r"got shape \(2,\)"),
        (lambda: posterior(plain([0, 0], [1, 1]), XT, FEW, lambda t: -t), "loss weight must be finite"),
        (lambda: conditional_mean(plain([0, 0], [1, 1]), XT, 0.5, FLOW, "noise"), "unknown prediction"),
        (lambda: time_gap(plain([0], [1]), FEW, "eps", count=1), "count of draws must be a whole number of at least 2"),
        (lambda: bayes_denoiser(plain([0], [1]), FEW, "eps", (3, 8, 8)), "does not have the 1 values"),
        (lambda: bayes_denoiser(plain([0], [1]), FEW, "eps", (1, 1, 1), hidden=(0.5, 0.2)), "hidden must be"),
        (lambda: bayes_denoiser(plain([0], [1]), Levels.midpoints(COSINE), "velocity", (1, 1, 1)), "'flow' only"),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


# --- The table


@pytest.fixture(scope="module")
def without_t():
    """What is left of every row without t, at a quarter of the size: 32 samples, 30 steps, 100 levels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "LEVELS", 100)
        toy = table.Toy(32, 30, 16, 0)
        wanted = [
            row for row in table.rows() if row.table in ("targets", "rescues", "where") and row.settings.get("start") != 0.99
        ]
        return {(row.table, row.name): toy.run(row.hidden, **row.settings) for row in wanted}


FLOOR = 0.025  # perfect samples have 1 / (2 x 32) = .016


def test_the_blind_table_comes_out_in_order(without_t):
    """Eps models break without t and are saved by noise and clamping; the others do not break."""
    of = {name: value for (section, name), value in without_t.items() if section == "targets"}
    for schedule in ("ddpm-cosine", "ddpm-linear"):
        assert of[f"eps, DDIM eta 0, {schedule}"] > max(1, 10 * of[f"eps, DDIM eta 1, {schedule}"])
    assert of["eps, DDIM eta 1, ddpm-linear"] > 2 * of["eps, DDIM eta 1, ddpm-cosine"]
    for name in ("x0, DDIM eta 0, ddpm-cosine", "v, DDIM eta 0, ddpm-cosine", "velocity, Euler, flow", "EDM, Heun, 18 steps"):
        assert of[name] < FLOOR
    for name in ("v, DDIM eta 0, ddpm-linear", "uEDM, Heun, 18 steps"):
        assert of[name] < 4 * FLOOR
    rescues = [value for (section, _), value in without_t.items() if section == "rescues"]
    ode, noisy, clamped, both_ways = rescues
    assert ode > 10 * clamped > 10 * noisy and both_ways < FLOOR


def test_told_t_the_same_rows_stay_at_the_floor():
    toy = table.Toy(32, 30, 16, 0)
    for row in list(table.rows())[:1] + [row for row in table.rows() if "EDM" in row.name]:
        assert toy.run(None, **row.settings) < FLOOR


def test_the_end_near_noise_is_where_a_blind_eps_ode_fails(without_t):
    data, middle, late, noise = (value for (section, _), value in without_t.items() if section == "where")
    assert max(data, middle, late) < FLOOR and noise > 5


def test_the_table_is_printed_and_written_whole(tmp_path, monkeypatch, capsys):
    report = table.measure(count=4, steps=3, runs=2, resolution=4)
    monkeypatch.setattr(table, "measure", lambda **_: report)
    out = tmp_path / "table.json"
    monkeypatch.setattr("sys.argv", ["blind_table.py", "--out", str(out)])
    threads = torch.get_num_threads()
    table.main()
    torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    assert "4 samples" in printed and "seeds 0-3, 4-7" in printed and "1/f^2" in printed
    for row in report["rows"]:
        assert row["row"] in printed and len(row["blind runs"]) == 2
    assert json.loads(out.read_text())["rows"] == json.loads(json.dumps(report["rows"]))
    assert list(tmp_path.iterdir()) == [out]


def test_the_readme_has_the_exact_tables_as_they_were_measured():
    stored = json.loads(PATH.with_suffix(".json").read_text())
    readme = (PATH.parent.parent / "README.md").read_text()
    for name, lines in table.markdown(stored).items():
        assert len(lines.splitlines()) > 2 and lines in readme, name
    assert table.fill(readme, stored) == readme


def test_the_readme_is_filled_with_quantiles_of_twenty_runs_and_the_range_of_three():
    stored, readme = json.loads(PATH.with_suffix(".json").read_text()), (PATH.parent.parent / "README.md").read_text()
    for runs, ends, said in ((20, (1.95, 19.05), "median (5 % to 95 %) of 20 runs, seeds 0 to 5119"),
                             (3, (1, 3), "median (range) of 3 runs, seeds 0 to 767")):  # fmt: skip
        values = [float(run + 1) for run in range(runs)]
        rows = [row | {"told runs": values, "blind runs": values[::-1]} for row in stored["rows"]]
        seeds = [[256 * run, 256 * run + 255] for run in range(runs)]
        filled = table.fill(readme, stored | {"runs": runs, "seeds": seeds, "rows": rows})
        cell = f"{(runs + 1) / 2:.3g} ({ends[0]:.3g} to {ends[1]:.3g})"
        assert filled.count(f"| {cell} | {cell} |") == len(rows)
        assert f"--runs {runs} --out benchmarks/blind_table.json`: {said}, 100 steps; " in filled
    with pytest.raises(ValueError, match="must be there once, is 0 times"):
        table.fill(readme.replace("blind_table.py --runs", "blind_table.py"), stored)
