"""Ridge from streamed sums is scikit-learn's on the stored rows; planted signals are found and shuffled ones are not."""

import json

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from explore import bayes, probes, zoo
from explore.activations import (
    FOLDS,
    LOGSNR_LEVELS,
    VIEWS,
    Statistics,
    capture,
    hook_points,
    independent_times,
    level_times,
    statistics,
    sweep,
)
from explore.denoiser import shifted
from explore.files import plain
from explore.probes import (
    BASELINES,
    Errors,
    LevelClassifier,
    ProbeSet,
    RidgeProbe,
    atlas,
    control_values,
    fit_ridge,
    implied_level_run,
    implied_level_stream,
    measure,
    target_values,
)
from explore.schedules import SCHEDULES
from explore.seeds import keyed_noise

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
    batches = list(
        sweep(denoiser, images, ["block.1"], levels=(2.0, -2.0), seed=9, given=lambda image, level: 0.2 + 0.1 * image)
    )
    assert [(batch.level, batch.image.tolist()) for batch in batches] == [(0, [0, 1, 2]), (1, [0, 1, 2])]
    t = denoiser.schedule.t_from_logsnr(torch.tensor(-2.0, dtype=torch.float64)).item()
    x0 = images.float() / 127.5 - 1
    expected = (1 - t) * x0 + t * keyed_noise([9, 10, 11], (3, 8, 8), step=1)
    assert torch.allclose(batches[1].xt, expected, atol=1e-5)
    with capture(denoiser, ["block.1"]) as cache:
        denoiser.output(expected, torch.tensor([0.2, 0.3, 0.4]))
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


def pictures(count, seed=0):
    """Smooth pictures (count, 3, 8, 8), uint8: unlike white noise, they hide the noise level where there is little of it."""
    coarse = torch.rand(count, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
    return (255 * torch.nn.functional.interpolate(coarse, size=8, mode="bilinear")).to(torch.uint8)


def test_several_targets_at_once_are_each_on_its_own():
    sums = summed(*planted())
    values = torch.stack([VALUES, VALUES.square(), control_values(VALUES)], 1)
    for number, probe in enumerate(fit_ridge(sums, values)):
        alone = RidgeProbe().fit(sums, values[:, number])
        assert torch.allclose(probe.coef_, alone.coef_, rtol=1e-9) and probe.penalty_ == alone.penalty_
        assert torch.allclose(probe.errors_, alone.errors_, rtol=1e-9)


def test_the_pattern_is_the_regression_of_the_features():
    rows, image, level = planted()
    probe = RidgeProbe().fit(summed(rows, image, level), VALUES)
    slopes = np.polyfit(VALUES.numpy()[level], rows, 1)[0]
    assert probe.pattern_.numpy() == pytest.approx(slopes, rel=1e-8)


def test_the_classifier_is_scikit_learns():
    rows, image, level = planted(signal=0.5)
    mine = LevelClassifier(bins=3, shrinkage=0.01).fit(summed(rows, image, level), VALUES)
    assert mine.bin_.tolist() == [0, 0, 0, 1, 1, 2, 2]
    bins = mine.bin_.numpy()[level]
    theirs = make_pipeline(StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.01)).fit(rows, bins)
    assert mine.predict_proba(torch.from_numpy(rows)).numpy() == pytest.approx(theirs.predict_proba(rows), abs=1e-8)
    assert mine.score(torch.from_numpy(rows), torch.from_numpy(level)) == theirs.score(rows, bins) > 0.5
    # Held-out predictions are those of a classifier that was fitted without the fold.
    fold = image % FOLDS
    held_out = mine.predict_held_out(torch.from_numpy(rows), torch.from_numpy(fold))
    for k in range(FOLDS):
        theirs.fit(rows[fold != k], bins[fold != k])
        assert held_out[fold == k].tolist() == theirs.predict(rows[fold == k]).tolist()


def test_levels_dealt_out_anew_cannot_be_read():
    sums = summed(*planted(signal=2.0))
    assert RidgeProbe().fit(sums, VALUES).score(sums, VALUES) > 0.95
    errors = RidgeProbe().fit(sums.shuffled(), VALUES).errors_
    assert -0.15 < 1 - errors.min() / VALUES.var(unbiased=False) < 0.05


def test_what_is_measured_is_what_stored_activations_give():
    """R^2, bias, spread and error by level, recomputed with scikit-learn on activations of every image and level."""
    denoiser, images, levels = zoo.tiny("unet", "none"), pictures(20), (-6.0, -2.0, 2.0, 6.0)
    found = measure(denoiser, images, ["mid.block.0"], ["mean", "position"], levels=levels, seed=4, batch=8)
    values = np.array(levels)
    for view in ("mean", "position"):
        rows, image, level = [], [], []
        for batch in sweep(denoiser, images, ["mid.block.0"], [view], levels=levels, seed=4, batch=20):
            part = batch.features["mid.block.0", view].double().numpy()
            rows.append(part)
            image.append(np.repeat(batch.image.numpy(), len(part) // 20))
            level.append(np.full(len(part), batch.level))
        rows, image, level = np.concatenate(rows), np.concatenate(image), np.concatenate(level)
        target, result = values[level], found.results["mid.block.0", view]
        predicted = np.empty(len(rows))
        for k in range(FOLDS):
            train = image % FOLDS != k
            model = make_pipeline(StandardScaler(), Ridge(alpha=result["penalty"] * train.sum())).fit(
                rows[train], target[train]
            )
            predicted[~train] = model.predict(rows[~train])
        error = predicted - target
        assert result["r2"] == pytest.approx(1 - (error**2).sum() / ((target - target.mean()) ** 2).sum(), abs=1e-5)
        for number in range(4):
            own = error[level == number]
            assert result["bias"][number] == pytest.approx(own.mean(), abs=1e-4)
            assert result["std"][number] == pytest.approx(own.std(), rel=1e-4)
            assert result["error"][number] == pytest.approx(np.sqrt((own**2).mean()), rel=1e-4)
            low, high = result["error_interval"][number]
            assert low < result["error"][number] < high


def test_shares_of_several_processes_add_up():
    """What reduce does across processes, done here by adding the sums of two passes."""
    denoiser, images = zoo.tiny("unet", "timestep"), pictures(12)
    settings = {"levels": (-4.0, 0.0, 4.0), "given": independent_times(denoiser.schedule, (-4.0, 0.0, 4.0)), "batch": 4}
    whole = measure(denoiser, images, ["mid.block.0"], **settings).results["mid.block.0", "mean"]
    sums = []
    for k in range(2):
        own = []

        def note(part, own=own):
            own.append(part.clone())
            return part

        measure(denoiser, images, ["mid.block.0"], share=(k, 2), reduce=note, **settings)
        sums.append(own)
    # The second round replaces each process's sums by the total, as a real reduction would.
    totals = [a + b for a, b in zip(*sums)][:4]
    queue = list(totals)
    errors = []

    def share_of(k):
        left = list(queue)

        def reduce(part):
            if left:
                return left.pop(0)
            errors.append(part.clone())
            return part

        return measure(denoiser, images, ["mid.block.0"], share=(k, 2), reduce=reduce, **settings)

    parts = [share_of(k) for k in range(2)]
    joined = Errors(target_values("logsnr", denoiser.schedule, (-4.0, 0.0, 4.0)))
    joined.sums = errors[0] + errors[1]
    assert joined.result()["r2"] == pytest.approx(whole["r2"], rel=1e-6)
    assert joined.result()["error_interval"] == pytest.approx(np.array(whole["error_interval"]), rel=1e-6)
    assert parts[0].results["mid.block.0", "mean"]["r2_control"] == pytest.approx(whole["r2_control"], rel=1e-6)


def test_bootstrap_intervals_are_those_of_resampled_images():
    """Against numpy's resampling of whole images: the same width within what draws allow."""
    rng = np.random.default_rng(0)
    per_image = rng.normal(size=60)
    errors = Errors(torch.zeros(1), draws=2000)
    errors.add(torch.arange(60), 0, torch.from_numpy(per_image), torch.zeros(60, dtype=torch.bool))
    low, high = errors.result()["bias_interval"][0]
    drawn = per_image[rng.integers(0, 60, (4000, 60))].mean(1)
    assert errors.result()["bias"][0] == pytest.approx(per_image.mean())
    assert high - low == pytest.approx(np.quantile(drawn, 0.975) - np.quantile(drawn, 0.025), rel=0.1)


def test_readers_of_the_picture_read_noise():
    schedule = SCHEDULES["ddpm-cosine"]
    t = level_times(schedule, (4.0, 0.0, -2.0))
    for time in t:
        flat = 0.2 + torch.zeros(8, 3, 32, 32)
        xt = schedule.alpha(time).float() * flat + schedule.sigma(time).float() * keyed_noise(range(8), (3, 32, 32))
        logsnr, sigma, _ = BASELINES["wavelet MAD"](xt, schedule).unbind(1)
        assert sigma.mean().item() == pytest.approx(schedule.sigma(time).item(), rel=0.1)
        assert logsnr.mean().item() == pytest.approx(schedule.logsnr(time).item(), abs=0.4)
        variance = BASELINES["variance"](xt, schedule)[:, 0]
        assert variance.mean().item() == pytest.approx(schedule.sigma(time).item() ** 2, rel=0.1)
        bands = BASELINES["band energies"](xt, schedule)[:, 4:8].exp()  # white noise is alike in every band but the lowest
        assert bands.mean().item() == pytest.approx(schedule.sigma(time).item() ** 2, rel=0.15)


@pytest.mark.parametrize("centre", [5.0, 0.0])
def test_on_pictures_of_the_gaussian_no_reader_beats_its_posterior(centre):
    """The prior-averaged squared error of probes and baselines is at least the exact posterior variance."""
    levels = tuple(centre + 0.1 * (k - 8) for k in range(17))
    variance = np.random.default_rng(0).uniform(0.01, 0.5, 192)
    gaussian = bayes.DiagonalGaussian(np.zeros(192), variance)
    denoiser = zoo.tiny("unet", "none")
    images = gaussian.to_images(gaussian.draw(200, torch.Generator().manual_seed(1)), (3, 8, 8)).float()
    readers = BASELINES | {"gaussian posterior": probes.gaussian_features(gaussian, denoiser.schedule, levels)}
    found = measure(denoiser, images, ["stem", "mid.block.0"], ["mean_std"], levels=levels, baselines=readers)
    points = bayes.Levels.points(denoiser.schedule, level_times(denoiser.schedule, levels))
    logsnr = torch.tensor(levels, dtype=torch.float64)
    spread = [
        bayes.posterior(gaussian, b.xt, points).std(logsnr).square().mean() for b in sweep(denoiser, images, [], levels=levels)
    ]
    least = torch.stack(spread).mean().item()
    everything = torch.ones(len(levels), dtype=torch.bool)
    squares = {key: errors.rms(everything).square() for key, errors in found.errors.items()}
    assert 0 < least < logsnr.var().item()  # the posterior says something, and is not a point
    for key, draws in squares.items():
        assert torch.quantile(draws[1:], 0.975) >= least, key
    exact = squares["input", "gaussian posterior"]
    assert exact[0].item() == pytest.approx(least, rel=0.1)
    assert all(draws[0] >= 0.97 * exact[0] for draws in squares.values())


def test_yardsticks_are_those_of_the_science():
    schedule, levels, energy = SCHEDULES["flow"], (3.0, 0.0, -3.0), 700.0
    t = level_times(schedule, levels)
    width = t / (2 * 3072 + energy / (1 - t) ** 2 * (1 - t) ** 2) ** 0.5  # Var t = t^2 / (2 d + |x0|^2) on the linear path
    assert probes.yardsticks("t", schedule, levels, energy, 3072)["given_x0"] == pytest.approx(width.tolist(), rel=1e-9)
    for target in probes.TARGETS:
        step = 1e-6
        values = probes.TARGETS[target].values
        slope = (values(schedule, t + step) - values(schedule, t - step)) / (2 * step)
        assert probes.TARGETS[target].slope(schedule, t).tolist() == pytest.approx(slope.tolist(), rel=1e-6)
        expected = (slope.abs() * width).tolist()
        assert probes.yardsticks(target, schedule, levels, energy, 3072)["given_x0"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("architecture", ["unet", "dit"])
def test_a_network_drawn_anew(architecture):
    denoiser = zoo.tiny(architecture, "timestep")
    before = torch.get_rng_state()
    first, again, other = (probes.reinitialized(denoiser, seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    xt = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(first.output(xt, 0.3), again.output(xt, 0.3))
    assert not torch.allclose(first.output(xt, 0.3), other.output(xt, 0.3))
    assert not torch.allclose(first.output(xt, 0.3), denoiser.output(xt, 0.3)) and first.output(xt, 0.3).std() > 1e-3


def test_who_hears_the_time():
    for conditioning, expected in (("timestep", True), ("constant", False), ("none", False)):
        assert probes.is_conditioned(zoo.tiny("unet", conditioning)) is expected


def test_a_given_clock_can_say_nothing_of_the_true_one():
    levels = tuple(range(-3, 4))
    clock = independent_times(SCHEDULES["flow"], levels)
    images = torch.arange(500)
    given = torch.stack([clock(images, level) for level in range(7)], 1)  # (500, 7)
    times = level_times(SCHEDULES["flow"], levels).float()
    assert all(sorted(row.tolist()) == sorted(times.tolist()) for row in given)  # every image is told every level once
    true = times.expand(500, 7)
    assert abs(np.corrcoef(true.flatten(), given.flatten())[0, 1]) < 0.05
    assert torch.equal(clock(images[[7, 3]], 2), given[[7, 3], 2])  # whatever else is in the batch


@pytest.fixture(scope="module")
def told():
    denoiser = zoo.tiny("unet", "timestep")
    return denoiser, *atlas(denoiser, pictures(15), levels=(-6.0, -5.0, -1.0, 1.0, 5.0, 6.0), seed=2, controls=1)


def test_an_atlas_holds_what_it_says(told):
    denoiser, record, clock = told
    layers = list(hook_points(denoiser))
    assert [(row.name, row.view) for row in record.layers][: len(probes.ATLAS_VIEWS) * len(layers)] == [
        (name, view) for name in layers for view in probes.ATLAS_VIEWS
    ]
    assert {row.view for row in record.layers if row.name == "input"} == {*BASELINES, probes.TOLD_T}
    for row in record.layers:
        assert all(len(getattr(row, name)) == 6 for name in ("bias", "std", "error", "error_over_yardstick"))
        width = np.array(record.yardsticks["given_x0"])
        assert np.array(row.error_over_yardstick) * width == pytest.approx(row.error, rel=1e-3)
        assert row.selectivity == pytest.approx(row.r2 - row.r2_control, abs=1e-3)
        assert (row.r2_random_network is None) == (row.name == "input")
        assert set(row.error_by_region) == set(probes.REGIONS)
        near = np.sqrt(np.mean(np.square(row.error[4:])))
        assert row.error_by_region["near_the_data"] == pytest.approx(near, rel=1e-3)
    least = min(row.error_by_region["near_the_data"] for row in record.layers if row.name != "input")
    [best] = [row for row in record.layers if row.error_by_region["near_the_data"] == least and row.name != "input"]
    assert record.best == {"name": best.name, "view": best.view}
    assert {given for given, layer, _ in clock.probes if layer != "input"} == {"random", "true"}
    stored = json.loads(json.dumps(plain(record.to_json())))  # nan is null: 15 images are few for intervals
    assert plain(probes.Atlas.from_json(stored).to_json()) == stored


def test_probes_are_kept_in_a_file(told, tmp_path):
    denoiser, _, clock = told
    clock.save(tmp_path / "probes.safetensors")
    again = ProbeSet.read(tmp_path / "probes.safetensors", denoiser.schedule)
    assert list(again.probes) == list(clock.probes) and again.best == clock.best and again.target == "logsnr"
    for key, probe in clock.probes.items():
        features = torch.randn(3, len(probe.coef_), generator=torch.Generator().manual_seed(0))
        assert torch.allclose(again.probes[key].predict(features), probe.predict(features), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="no probes at"):
        ProbeSet.read(tmp_path / "absent.safetensors", denoiser.schedule)
    with pytest.raises(ValueError, match=r"unknown layer 'mid\.block\.7'; did you mean mid\.block\.1 or mid\.block\.0"):
        clock.probe("mid.block.7")
    with pytest.raises(
        ValueError, match="unknown condition 'false'; choose from independent, random, fixed, nearest-wrong, true"
    ):
        clock.probe("mid.block.1", given="false")
    with pytest.raises(ValueError, match=r"has no probes with the condition fixed:0\.05; it has random, true"):
        clock.probe("mid.block.1", given="fixed")
    with pytest.raises(ValueError, match="unknown view 'position'"):
        clock.probe("mid.block.1", "position")


def test_the_clock_is_read_while_sampling(told):
    denoiser, _, clock = told
    found = implied_level_run(denoiser, clock, [5, 6], layers=["mid.block.0", "norm"], sampler="heun", steps=4)
    t = torch.linspace(1, 0, 5).tolist()
    assert found["t"] == pytest.approx([t[0], t[1], t[1], t[2], t[2], t[3], t[3]])
    assert found["true"][3] == pytest.approx(denoiser.schedule.logsnr(torch.tensor(0.5)).item(), abs=1e-5)
    assert [row["name"] for row in found["layers"]] == ["mid.block.0", "norm"]
    with capture(denoiser, ["norm"]) as cache:
        denoiser.output(keyed_noise([5, 6], (3, 8, 8)), 1.0)
    expected = clock.probe("norm", "mean").predict(VIEWS["mean"](cache["norm"]))
    assert found["layers"][1]["readings"][0] == pytest.approx(expected.tolist(), rel=1e-5)
    assert found["layers"][1]["mean"][0] == pytest.approx(expected.mean().item(), rel=1e-5)
    lied = implied_level_run(denoiser, clock, [5, 6], layers=["norm"], steps=4, offset=-0.3)
    assert lied["t"] == pytest.approx(found["t"])  # the sampler keeps the true clock
    assert lied["layers"][0]["readings"][0] != pytest.approx(expected.tolist(), rel=1e-5)
    assert sum(len(module._forward_hooks) for module in denoiser.modules()) == 0
    with capture(denoiser, ["norm"]) as cache:
        shifted(denoiser, -0.3).output(keyed_noise([5, 6], (3, 8, 8)), 1.0)
    expected = clock.probe("norm", "mean").predict(VIEWS["mean"](cache["norm"]))
    assert lied["layers"][0]["readings"][0] == pytest.approx(expected.tolist(), rel=1e-5)


def test_the_clock_streams_what_the_run_holds_and_can_be_left_early(told):
    denoiser, _, clock = told
    settings = {"layers": ["norm"], "given": ["independent", "true"], "steps": 4, "offset": 0.1}
    run = implied_level_run(denoiser, clock, [5, 6], **settings)
    states = [(step, so_far) for step, so_far in implied_level_stream(denoiser, clock, [5, 6], **settings)]
    assert [step.index for step, _ in states] == [0, 1, 2, 3, 4] and states[-1][1] == run
    assert [len(so_far["t"]) for _, so_far in states] == [1, 3, 5, 7, 7]  # Heun's evaluations
    for _, so_far in states:
        for row, whole in zip(so_far["layers"], run["layers"]):
            assert row["mean"] == whole["mean"][: len(row["mean"])]
    assert [row["given"] for row in run["layers"]] == ["independent", "true"]
    assert run["layers"][0]["mean"] != run["layers"][1]["mean"]
    assert run["given"][3] == pytest.approx(denoiser.schedule.logsnr(torch.tensor(0.6)).item(), abs=1e-5)  # t = 0.5
    stream = implied_level_stream(denoiser, clock, [5], steps=4)
    next(stream)
    assert sum(len(module._forward_hooks) for module in denoiser.modules()) > 0
    stream.close()
    assert sum(len(module._forward_hooks) for module in denoiser.modules()) == 0
    with pytest.raises(ValueError, match="has no option 'eta'"):
        next(implied_level_stream(denoiser, clock, [5], sampler="heun", eta=1.0))
    with pytest.raises(ValueError, match="at least one seed"):
        implied_level_run(denoiser, clock, [])


def test_a_probe_reads_a_map(told):
    denoiser, *_ = told
    found = measure(denoiser, pictures(10), ["mid.block.0"], ["position"], levels=(-4.0, 0.0, 4.0))
    fitted = {("any", *key): probe for key, probe in found.probes.items()}
    clock = ProbeSet("tiny", "logsnr", denoiser.schedule, (-4.0, 0.0, 4.0), fitted, ("mid.block.0", "position"))
    with clock.follow(denoiser) as readings:
        denoiser.output(torch.randn(2, 3, 8, 8), 0.5)
    assert readings[0].shape == (2, 16)  # 4 x 4 positions


def test_the_ruler_names_its_readers_and_exact_ones_are_right(told):
    denoiser, record, clock = told
    gaussian = bayes.DiagonalGaussian(np.zeros(192), np.random.default_rng(0).uniform(0.01, 0.5, 192))
    x0 = gaussian.to_images(gaussian.draw(60, torch.Generator().manual_seed(1)), (3, 8, 8)).float()
    t = level_times(denoiser.schedule, [1.0]).item()
    xt = (1 - t) * x0 + t * keyed_noise(range(60), (3, 8, 8))
    covered = {"Gaussian posterior": 0, "posterior given x0": 0}
    for number in range(60):
        part = slice(number, number + 1)
        rows = {row["reader"]: row for row in probes.ruler(xt[part], {"told": (denoiser, clock)}, gaussian, x0[part])}
        assert list(rows) == ["told", *BASELINES, *covered]
        assert all(row["low"] <= row["value"] <= row["high"] for row in rows.values())
        for name in covered:
            covered[name] += rows[name]["low"] <= 1.0 <= rows[name]["high"]
    assert all(0.85 * 60 <= count <= 60 for count in covered.values()), covered
    assert "fitted" not in rows["posterior given x0"]["what"] and "the clean image" in rows["posterior given x0"]["what"]
    # What a network is told does not decide: its reading is the mean over every level it could be told.
    with clock.follow(denoiser) as readings:
        for level in record.levels:
            denoiser.output(xt[part], level_times(denoiser.schedule, [level]).item())
    assert rows["told"]["value"] == pytest.approx(torch.stack(readings).mean().item(), rel=1e-4)
    other = zoo.tiny("unet", "none", "eps")
    with pytest.raises(ValueError, match="must share one noise schedule"):
        probes.ruler(xt[:1], {"a": (denoiser, clock), "b": (other, clock)})
