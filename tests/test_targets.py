"""EDM, uEDM and EqM: the exact network of Gaussian images is what the trainer's loss leads to and what the samplers need."""

from collections import deque

import numpy as np
import pytest
import torch

from explore import training, zoo
from explore.__main__ import main
from explore.bayes import (
    DiagonalGaussian,
    FiniteSet,
    Levels,
    bayes_denoiser,
    drift_gain,
    error_gains,
    relative_frechet,
    spectral_gaussian,
)
from explore.experiments import ExactSampling, Gain, PlaneFlow
from explore.samplers import SAMPLERS
from explore.schedules import SCHEDULES, T_DISTRIBUTIONS
from explore.seeds import keyed_noise
from explore.training import TrainingConfig

RECIPE = {"pair": "test", "dataset": "test", "resolution": 8, "architecture": "unet", "network": zoo.TINY["unet"]}
SHAPE = (3, 16, 16)


@pytest.mark.parametrize(
    "prediction, schedule, distribution",
    [("edm", "edm", "log-normal"), ("uedm", "uedm", "log-normal"), ("eqm", "flow", "uniform"),
     ("velocity", "flow", "logit-normal")],
)  # fmt: skip
@pytest.mark.parametrize("agnostic", [False, True])
def test_the_exact_network_is_a_fixed_point_of_the_training_loss(prediction, schedule, distribution, agnostic):
    """The slope of the trainer's loss at the exact network of Gaussian images is 0 in every direction, and not beside it."""
    config = TrainingConfig(**RECIPE, prediction=prediction, schedule=schedule, t_distribution=distribution)
    path = SCHEDULES[schedule]
    t = T_DISTRIBUTIONS[distribution].quantile(path, (torch.arange(12, dtype=torch.float64) + 0.5) / 12)
    prior = DiagonalGaussian(np.array([0.3, 0.0, -0.2]), np.array([0.4, 0.1, 0.02]), "plain")
    exact = bayes_denoiser(prior, Levels.points(path, t), prediction, (3, 1, 1), hidden=(0, 1) if agnostic else None).network
    generator = torch.Generator().manual_seed(0)
    times = t.repeat(1500)
    x0 = prior.draw(len(times), generator).reshape(-1, 3, 1, 1)
    eps = torch.randn(x0.shape, dtype=torch.float64, generator=generator)
    xt, target = training.noised(config, x0, eps, times)
    said = exact(xt.double(), times)
    length = xt.square().sum(1, keepdim=True).sqrt()
    for direction in (torch.ones_like(xt), xt, said, xt / (0.1 + length), torch.sin(3 * xt)):
        slope = ((said - target) * direction).sum((1, 2, 3))
        assert abs(slope.mean()) < 4.5 * slope.std() / len(slope) ** 0.5
        beside = ((said + 0.1 * direction - target) * direction).sum((1, 2, 3))
        assert beside.mean() > 4.5 * beside.std() / len(beside) ** 0.5


@pytest.mark.parametrize("prediction", ["edm", "uedm"])
def test_heun_in_18_steps_samples_a_gaussian_without_t_too(prediction):
    """As the exact table has it for EDM and uEDM: at the floor with t, and near it without; t as in EDM's training."""
    prior, path = spectral_gaussian(16), SCHEDULES[prediction]
    t = T_DISTRIBUTIONS["log-normal"].quantile(path, (torch.arange(200, dtype=torch.float64) + 0.5) / 200)
    noise = keyed_noise(range(64), SHAPE).double()
    found = []
    for hidden in (None, (0, 1)):
        denoiser = bayes_denoiser(prior, Levels.points(path, t), prediction, SHAPE, hidden=hidden)
        found.append(relative_frechet(prior, deque(SAMPLERS["heun"](denoiser, noise, 18), maxlen=1)[0].xt))
    assert found[0] < 1.5 / 128 and found[1] < 3 / 128  # perfect samples have about 1 / (2 x 64)


def test_the_exact_experiment_takes_the_training_distribution_of_t_and_autonomous_sampling():
    asked = ExactSampling(target="uedm", schedule="uedm", t_distribution="log-normal", size=8, count=4)
    levels = asked.denoisers[1].network.levels
    path = SCHEDULES["uedm"]
    assert (path.sigma(levels.t) / path.alpha(levels.t)).log().mean().item() == pytest.approx(-1.2, abs=0.01)
    assert len(levels.t) == 300 and "--t-distribution log-normal" in asked.command
    found = ExactSampling.parse(
        {"target": "eqm", "schedule": "flow", "size": 8, "count": 32, "sampler": "descent", "steps": 30, "step_size": 0.3}
    ).run()
    assert found.relative_frechet[1] < 0.1 < found.relative_frechet[0]  # given the t of another step size, not given t
    for wrong in ({"target": "eps"}, {"target": "edm", "schedule": "edm"}):
        with pytest.raises(ValueError, match="sampler 'descent' follows the output of a velocity or eqm prediction"):
            ExactSampling.parse({"sampler": "descent", **wrong})
        with pytest.raises(ValueError, match="sampler 'descent' follows the output of a velocity or eqm prediction"):
            PlaneFlow.parse({"sampler": "descent", "schedule": "ddpm-cosine", **wrong})


def test_a_time_agnostic_eqm_field_takes_any_step_size_and_a_conditioned_one_does_not():
    """Descent on the exact field of Gaussian images: at twice the default step size the given t is not that of the state."""
    prior, found = spectral_gaussian(16), {}
    noise = keyed_noise(range(32), SHAPE).double()
    for hidden in (None, (0, 1)):
        denoiser = bayes_denoiser(prior, Levels.midpoints(SCHEDULES["flow"], 150), "eqm", SHAPE, hidden=hidden)
        for step_size in (None, 0.2):
            walk = SAMPLERS["descent"](denoiser, noise, 40, step_size=step_size)
            found[hidden, step_size] = relative_frechet(prior, deque(walk, maxlen=1)[0].xt)
    assert max(found[(0, 1), None], found[(0, 1), 0.2], found[None, None]) < 2 / 64  # perfect samples have about 1 / (2 x 32)
    assert found[None, 0.2] > 5 * found[(0, 1), 0.2]


def test_members_of_a_finite_set_are_equilibria_of_the_time_agnostic_eqm_field():
    """Descent ends on the points, and more steps change nothing; the field at a point is nearly 0."""
    points = torch.tensor([[0.9, 0.9], [-0.9, 0.2], [0.1, -0.8]], dtype=torch.float64).reshape(3, 1, 1, 2)
    prior = FiniteSet(points.repeat(1, 3, 16, 8))
    levels = Levels.spaced(SCHEDULES["flow"], prior.dimension, prior.energy)
    denoiser = bayes_denoiser(prior, levels, "eqm", SHAPE, hidden=(0, 1))
    noise, images = keyed_noise(range(6), SHAPE).double(), prior.points.reshape(3, *SHAPE)
    assert denoiser.output(images, 0.5).square().mean().sqrt() < 0.01
    ends = [deque(SAMPLERS["descent"](denoiser, noise, steps, step_size=0.2), maxlen=1)[0].xt for steps in (40, 60)]
    away = [(end[:, None] - images).square().mean((2, 3, 4)).sqrt().amin(1).max() for end in ends]
    assert away[0] < 0.01 and away[1] <= away[0]


def gain_of(prediction, schedule, t):
    """The slope of the drift in the output, by hand from x0_hat and eps_hat of each prediction."""
    time = torch.tensor(t, dtype=torch.float64)
    path = SCHEDULES[schedule]
    a, b, da, db = (f(time).item() for f in (path.alpha, path.sigma, path.dalpha, path.dsigma))
    q = (0.25 * a**2 + b**2) ** 0.5
    return {
        "eps": db - da * b / a, "x0": da - db * a / b, "v": db * a - da * b, "velocity": 1.0, "eqm": 1 / t,
        "edm": 0.5 * (da * b - db * a) / q, "uedm": da - db * a / b,
    }[prediction]  # fmt: skip


@pytest.mark.parametrize(
    "prediction, schedule",
    [("eps", "ddpm-cosine"), ("x0", "ddpm-cosine"), ("v", "ddpm-cosine"), ("velocity", "flow"), ("eqm", "flow"),
     ("edm", "edm"), ("uedm", "uedm")],
)  # fmt: skip
def test_the_error_of_the_drift_is_the_gain_times_that_of_the_output(prediction, schedule):
    levels = Levels.midpoints(SCHEDULES[schedule], 60)
    rows = error_gains(spectral_gaussian(8), levels, prediction, (3, 8, 8), (0.02, 0.3, 0.9), count=6)
    for row in rows:
        assert row.gain == pytest.approx(abs(gain_of(prediction, schedule, row.t)), rel=1e-5)
        assert row.drift_error.value == pytest.approx(row.gain * row.output_error.value, rel=1e-5)
        assert row.output_error.low <= row.output_error.value <= row.output_error.high and row.output_error.value > 0


def test_hiding_t_from_a_v_prediction_of_white_images_adds_nothing():
    """On a variance-preserving path N(0, I) images hide t, and v is 0 whatever t is; eps is off by |b - E[b]| |xt|."""
    prior = DiagonalGaussian(np.zeros(192), np.ones(192), "plain")
    levels = Levels.midpoints(SCHEDULES["ddpm-cosine"], 50)
    for row in error_gains(prior, levels, "v", (3, 8, 8), (0.1, 0.7), count=4):
        assert row.output_error.value < 1e-9 and row.drift_error.value < 1e-9
    [row] = error_gains(prior, levels, "eps", (3, 8, 8), (0.3,), count=200)
    off = abs(SCHEDULES["ddpm-cosine"].sigma(torch.tensor(0.3, dtype=torch.float64)) - levels.sigma.mean()).item()
    assert row.output_error.value == pytest.approx(off, rel=0.02)


def test_the_gain_of_eps_grows_without_bound_near_the_data_and_that_of_a_velocity_is_one():
    paths = (("eps", "ddpm-cosine"), ("velocity", "flow"))
    eps, velocity = (
        [drift_gain(bayes_denoiser(spectral_gaussian(8), Levels.midpoints(SCHEDULES[schedule], 5), prediction, (3, 8, 8)), t)
         for t in (0.2, 8e-4, 2e-4)]
        for prediction, schedule in paths
    )  # fmt: skip
    assert eps[1] > 1.2 * eps[0] and eps[2] == pytest.approx(2 * eps[1], rel=0.02)  # sigma' goes as t^(-1/2) to the data
    assert velocity == pytest.approx([1, 1, 1])


def test_the_gain_experiment_names_its_prior_and_refuses_t_without_an_image(capsys):
    found = Gain("velocity", "flow", times=(0.05, 0.5), size=8, count=4).run()
    assert [row.t for row in found.rows] == [0.05, 0.5] and found.images == 4 and "1/f^2" in found.prior
    assert type(found).from_json(found.to_json()).rows[1].gain == pytest.approx(1)
    assert main(["gain", "--target", "eqm", "--schedule", "flow", "--times", "0.1", "--size", "8", "--count", "3"]) == 0
    assert "exact for: Gaussian images" in capsys.readouterr().out
    for times, message in (((0.0,), "must be above 0"), ((1.0,), "divides by alpha")):
        with pytest.raises(ValueError, match=message):
            Gain("eps", times=times)
