"""Ridge from streamed sums is scikit-learn's on the stored rows; planted signals are found and shuffled ones are not."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from explore import zoo
from explore.activations import FOLDS, LOGSNR_LEVELS, Statistics, capture, statistics, sweep
from explore.probes import RidgeProbe, control_values, target_values
from explore.schedules import SCHEDULES

LEVELS, IMAGES, WIDTH = 7, 40, 12
VALUES = torch.linspace(-3, 3, LEVELS, dtype=torch.float64)


def planted(seed=0, signal=1.0):
    """Rows (images x levels, WIDTH) in which the level is a noisy linear function, with offsets and scales of their own."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(99)
    image, level = (part.ravel() for part in np.meshgrid(np.arange(IMAGES), np.arange(LEVELS), indexing="ij"))
    rows = rng.normal(size=(IMAGES * LEVELS, WIDTH)) + rng.normal(size=(IMAGES, WIDTH))[image]
    rows += signal * np.outer(VALUES.numpy()[level], fixed.normal(size=WIDTH))
    return rows * 10 ** fixed.uniform(-2, 2, WIDTH) + 50 * fixed.normal(size=WIDTH), image, level


def summed(rows, image, level):
    found = Statistics(WIDTH, LEVELS)
    for number in range(LEVELS):
        chosen = level == number
        found.add(torch.from_numpy(rows[chosen]), torch.from_numpy(image[chosen]), number)
    return found


def test_ridge_is_scikit_learns():
    rows, image, level = planted()
    probe = RidgeProbe([1e-2]).fit(summed(rows, image, level), VALUES)
    model = make_pipeline(StandardScaler(), Ridge(alpha=1e-2 * len(rows))).fit(rows, VALUES.numpy()[level])
    predicted = probe.predict(torch.from_numpy(rows)).numpy()
    assert predicted == pytest.approx(model.predict(rows), rel=1e-6, abs=1e-9)
    assert probe.score(summed(rows, image, level), VALUES) == pytest.approx(model.score(rows, VALUES.numpy()[level]), rel=1e-9)


def test_cross_validation_is_that_of_grouped_folds():
    rows, image, level = planted(signal=0.3)
    target = VALUES.numpy()[level]
    penalties = [1e-4, 1e-2, 1.0, 10.0]
    probe = RidgeProbe(penalties).fit(summed(rows, image, level), VALUES)
    # GroupKFold deals groups of one size out in turn: the folds are those of image mod K.
    folds = list(GroupKFold(FOLDS).split(rows, target, image))
    assert {frozenset(np.unique(image[test] % FOLDS)) for _, test in folds} == {frozenset([k]) for k in range(FOLDS)}
    errors = []
    for penalty in penalties:
        squares = 0.0
        for train, test in folds:
            model = make_pipeline(StandardScaler(), Ridge(alpha=penalty * len(train))).fit(rows[train], target[train])
            squares += np.square(model.predict(rows[test]) - target[test]).sum()
        errors.append(squares / len(rows))
    assert probe.errors_.numpy() == pytest.approx(errors, rel=1e-6)
    assert probe.penalty_ == penalties[int(np.argmin(errors))]


def test_a_planted_signal_is_found_and_a_shuffled_one_is_not():
    fitted, fresh = summed(*planted(signal=2.0)), summed(*planted(seed=1, signal=2.0))
    assert RidgeProbe().fit(fitted, VALUES).score(fresh, VALUES) > 0.95
    fitted, fresh = summed(*planted(signal=0.0)), summed(*planted(seed=1, signal=0.0))
    assert abs(RidgeProbe().fit(fitted, VALUES).score(fresh, VALUES)) < 0.1
    control = control_values(VALUES, seed=3)
    assert sorted(control.tolist()) == sorted(VALUES.tolist()) and not torch.equal(control, VALUES)


def test_a_channel_that_never_changes_does_no_harm():
    rows, image, level = planted()
    rows[:, 3] = 7.0
    probe = RidgeProbe([1e-3]).fit(summed(rows, image, level), VALUES)
    assert probe.coef_[3] == 0 and torch.isfinite(probe.coef_).all()
    kept = np.delete(np.arange(WIDTH), 3)
    model = make_pipeline(StandardScaler(), Ridge(alpha=1e-3 * len(rows))).fit(rows[:, kept], VALUES.numpy()[level])
    assert probe.predict(torch.from_numpy(rows)).numpy() == pytest.approx(model.predict(rows[:, kept]), rel=1e-6, abs=1e-9)


def test_sums_of_parts_are_those_of_the_whole():
    denoiser = zoo.tiny("unet", "none")
    images = torch.randint(0, 256, (11, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    layers, levels = ["down.0.block.0", "mid.block.1"], (-4.0, 0.0, 4.0)
    settings = {"layers": layers, "views": ("mean", "mean_std", "position"), "levels": levels, "seed": 5}
    whole = statistics(denoiser, images, batch=11, **settings)
    parts = [statistics(denoiser, images, batch=4, share=(k, 3), **settings) for k in range(3)]
    for key, expected in whole.items():
        merged = parts[0][key].merge(parts[1][key]).merge(parts[2][key])
        assert torch.equal(merged.count, expected.count)
        assert merged.count.sum() == 33 * (64 if key == ("down.0.block.0", "position") else 16 if key[1] == "position" else 1)
        assert torch.allclose(merged.gram, expected.gram, rtol=1e-5, atol=1e-7)
        assert torch.allclose(merged.total, expected.total, rtol=1e-5, atol=1e-6)


def test_a_sweep_shows_what_it_says():
    denoiser = zoo.tiny("dit", "timestep")
    images = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    told = []
    batches = list(sweep(denoiser, images, ["block.1"], levels=(2.0, -2.0), seed=9, told=lambda t: told.append(t) or 1 - t))
    assert [(batch.level, batch.image.tolist()) for batch in batches] == [(0, [0, 1, 2]), (1, [0, 1, 2])]
    t = denoiser.schedule.t_from_logsnr(torch.tensor(-2.0, dtype=torch.float64)).item()
    assert told[1].tolist() == pytest.approx([t] * 3, rel=1e-6)
    x0 = images.float() / 127.5 - 1
    expected = (1 - t) * x0 + t * zoo.noise([9, 10, 11], (3, 8, 8), step=1)
    assert torch.allclose(batches[1].xt, expected, atol=1e-5)
    with capture(denoiser, ["block.1"]) as cache:
        denoiser.output(expected, torch.full((3,), 1 - t))
    assert torch.allclose(batches[1].features["block.1", "mean"], cache["block.1"].mean(1), atol=1e-5)
    with pytest.raises(ValueError, match="unknown view 'median'"):
        next(sweep(denoiser, images, ["block.1"], views=("median",)))


def test_targets_agree_with_the_schedule():
    for name, schedule in SCHEDULES.items():
        t = target_values("t", schedule, LOGSNR_LEVELS)
        assert ((t > 0) & (t < 1)).all(), name
        assert target_values("log_sigma", schedule, LOGSNR_LEVELS).numpy() == pytest.approx(schedule.sigma(t).log().numpy())
        assert schedule.logsnr(t).numpy() == pytest.approx(target_values("logsnr", schedule, LOGSNR_LEVELS).numpy(), abs=1e-6)
    with pytest.raises(ValueError, match="unknown target 'time'; choose from logsnr, log_sigma, t"):
        target_values("time", SCHEDULES["flow"], LOGSNR_LEVELS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: RidgeProbe([0.0]).fit(s, VALUES), "penalties must be positive"),
        (lambda s: RidgeProbe().fit(s, VALUES[:3]), "one for each of 7 levels"),
        (lambda s: RidgeProbe().fit(Statistics(WIDTH, LEVELS), VALUES), "at least two folds"),
        (lambda s: Statistics(3, 3, folds=1), "folds 2"),
    ],
)
def test_mistakes_are_said_in_words(change, message):
    with pytest.raises(ValueError, match=message):
        change(summed(*planted()))


def test_a_linear_layer_tells_the_noise_level_by_its_spread_alone():
    """Noise has no mean: the average over positions of a linear layer cannot tell its level, the deviation can."""
    denoiser = zoo.tiny("unet", "none")
    smooth = torch.nn.functional.interpolate(torch.rand(30, 3, 2, 2, generator=torch.Generator().manual_seed(0)), size=8)
    settings = {"layers": ["stem"], "views": ("mean", "mean_std"), "seed": 1}
    found = statistics(denoiser, (255 * smooth).to(torch.uint8), **settings)
    values = target_values("logsnr", denoiser.schedule, LOGSNR_LEVELS)
    scores = {view: RidgeProbe().fit(sums, values).score(sums, values) for (_, view), sums in found.items()}
    assert scores["mean"] < 0.1 and 0.7 < scores["mean_std"] <= 1
    control = control_values(values)
    assert RidgeProbe().fit(found["stem", "mean_std"], control).score(found["stem", "mean_std"], control) < 0.5
