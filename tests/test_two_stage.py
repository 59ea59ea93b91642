"""The two-stage baseline on exact denoisers, whose losses are known."""

from typing import ClassVar

import pytest
import torch

from explore import bayes, evaluation
from explore.schedules import SCHEDULES

SHAPE = (3, 8, 8)
PRIOR = bayes.spectral_gaussian(8, 0.04, "dct")


def exact(prediction: str = "eps", schedule: str = "ddpm-cosine"):
    """The best conditioned and the best time-agnostic denoiser of images from a Gaussian."""
    levels = bayes.Levels.spaced(SCHEDULES[schedule], PRIOR.dimension, PRIOR.energy)
    return [bayes.bayes_denoiser(PRIOR, levels, prediction, SHAPE, hidden=hidden) for hidden in (None, (0, 1))]


class Known:
    """Stands for probes that read log SNR; what they read is set by the test."""

    target = "logsnr"


@pytest.fixture
def images(monkeypatch):
    """64 images drawn from the prior, in the place of a data set."""
    drawn = PRIOR.to_images(PRIOR.draw(64, torch.Generator().manual_seed(0)), SHAPE).float()
    monkeypatch.setattr("explore.evaluation.staged.images_for", lambda *args, **kwargs: drawn)
    monkeypatch.setattr("explore.evaluation.staged.to_float", lambda images: images)
    return drawn


def measured(monkeypatch, estimates, levels=(0.9,), **arguments):
    monkeypatch.setattr("explore.evaluation.staged.estimators", lambda *args: estimates)
    result = evaluation.two_stage(exact(), Known(), "toy", 64, 2, 0, PRIOR, levels, **arguments)
    return {(row.t, row.source): row for row in result.rows}


def test_the_true_t_costs_nothing_and_a_wrong_one_does(images, monkeypatch):
    true = SCHEDULES["ddpm-cosine"].logsnr(torch.tensor(0.9, dtype=torch.float64))
    found = measured(monkeypatch, {"right": lambda xt: true.expand(len(xt)), "off": lambda xt: true.expand(len(xt)) + 2})
    right, off = found[0.9, "right"], found[0.9, "off"]
    assert right.error == pytest.approx(0, abs=1e-6) and abs(right.relative.value) < 1e-5
    assert off.error == pytest.approx(2) and off.relative.low > 10 * abs(right.relative.value)
    assert found[0.9, "true t"].relative.value == 0 and found[0.9, "true t"].error is None


def test_the_time_agnostic_model_pays_the_exact_cost(images, monkeypatch):
    """The best conditioned output is the mean of the target, so the excess loss of another is its squared distance to it."""
    found = measured(monkeypatch, {}, levels=(0.3, 0.9))
    for t in (0.3, 0.9):
        cost, paid = found[t, "exact cost"], found[t, "time-agnostic model"]
        assert cost.relative.low <= paid.relative.high and paid.relative.low <= cost.relative.high
        assert paid.loss == pytest.approx(found[t, "true t"].loss + cost.loss, rel=0.2)
    # The exact gap, averaged over t, is the average of the costs by t.
    levels = bayes.Levels.spaced(SCHEDULES["ddpm-cosine"], PRIOR.dimension, PRIOR.energy)
    times = torch.linspace(0.025, 0.975, 20).tolist()
    costs = [evaluation.exact_cost(PRIOR, exact()[0], t, 64).mean().item() for t in times]
    gap = bayes.time_gap(PRIOR, levels, "eps", count=2000)
    assert sum(costs) / len(costs) == pytest.approx(gap.value / PRIOR.dimension, rel=0.3)
    assert found[0.9, "exact cost"].relative.value > 20 * found[0.3, "exact cost"].relative.value  # eps pays near pure noise


def test_the_posterior_mean_reads_the_level_of_images_from_the_prior(images):
    class Probes(Known):
        probes: ClassVar[dict] = {}

    estimates = evaluation.estimators(exact("velocity", "flow")[1], Probes(), PRIOR)
    assert list(estimates) == ["probe", "exact posterior"]  # no baselines were fitted
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    for t in (0.2, 0.5, 0.8):
        read = estimates["exact posterior"]((1 - t) * images + t * noise)
        true = SCHEDULES["flow"].logsnr(torch.tensor(t, dtype=torch.float64))
        width = PRIOR.information(SCHEDULES["flow"], t) ** -0.5 * 2 / (t * (1 - t))  # of log SNR, 2 log((1 - t) / t)
        assert (read - true).square().mean().sqrt() < 1.5 * width


def test_probes_of_another_target_are_refused():
    class Sigma(Known):
        target = "sigma"

    with pytest.raises(ValueError, match="the probes must read logsnr, not sigma"):
        evaluation.two_stage(exact(), Sigma(), "toy")


def test_the_figure_has_a_line_for_each_source_with_a_loss():
    from explore import figures

    end = {"low": 0.01, "high": 0.03, "value": 0.02}
    rows = [{"t": t, "source": source, "relative": end} for t in (0.1, 0.9) for source in ("probe", "exact cost")]
    rows += [{"t": 0.1, "source": "true t", "relative": {"low": 0.0, "high": 0.0, "value": 0.0}}]
    assert [trace.name for trace in figures.two_stage(rows).data] == ["probe", "exact cost"]
