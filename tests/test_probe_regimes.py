"""What a conditioned network is told while it is probed, the choice of the best block, and intervals with refits."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from explore import figures, probes, zoo
from explore.activations import FOLDS, VIEWS, Statistics, capture, level_times
from explore.denoiser import Denoiser
from explore.experiments.clock import Clock
from explore.experiments.probe import Probe, Probed
from explore.probes import Errors, RidgeProbe, atlas, choose_and_score, given_times, refitted_rms
from explore.probes.selection import BLOCKS
from explore.rebuild import deviation
from explore.samplers import Sampling
from explore.schedules import SCHEDULES
from explore.seeds import keyed_noise
from explore.statistics import of_refits

LEVELS = (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0)
VALUES = torch.linspace(-2, 2, 5, dtype=torch.float64)


class Spread(nn.Module):
    """The log of the image's spread, from which the noise level can be read, plus a large function of the told t."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(5.0))

    def forward(self, xt, t):
        level = (xt[..., 1:] - xt[..., :-1]).flatten(1).std(1).log()
        told = SCHEDULES["flow"].logsnr(t.clamp(1e-3, 1 - 1e-3))
        return (level + self.gain * told)[:, None, None, None].expand(-1, 2, 4, 4)


class Planted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = Spread(), nn.Conv2d(2, 3, 1)

    def forward(self, xt, t):
        return xt + self.head(self.stem(xt, t)).mean((2, 3), keepdim=True)


def pictures(count, seed=0):
    coarse = torch.rand(count, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
    return (255 * torch.nn.functional.interpolate(coarse, size=8, mode="bilinear")).to(torch.uint8)


@pytest.fixture
def one_baseline(monkeypatch):
    monkeypatch.setattr("explore.probes.noise_atlas.BASELINES", {"variance": probes.BASELINES["variance"]})


def test_a_nuisance_of_t_masks_the_noise_level_under_a_random_t_and_not_under_a_fixed_one(one_baseline):
    denoiser = Denoiser(Planted(), SCHEDULES["flow"], "velocity", (3, 8, 8), "planted")
    told = ("random", "fixed:0.05", "nearest-wrong", "true")
    record, clock = atlas(denoiser, pictures(40), layers=["stem"], views=["mean"], levels=LEVELS, told=told, controls=1)
    shown = probes.regimes(json.loads(json.dumps(record.to_json())))
    assert tuple(shown) == told == (record.told, *(other.told for other in record.others))
    rows = {name: {(row["name"], row["view"]): row for row in one["layers"]} for name, one in shown.items()}
    r2 = {name: own["stem", "mean"]["r2"] for name, own in rows.items()}
    assert r2["random"] < 0.3 and r2["fixed:0.05"] > 0.9 and r2["true"] > 0.9, r2
    # The told t alone says nothing if it is random or fixed, and much if it is a neighbor's; then it is all that is readable.
    alone = {name: own["input", "told t"]["r2"] for name, own in rows.items() if name != "true"}
    assert max(alone["random"], alone["fixed:0.05"]) < 0.05 and alone["nearest-wrong"] > 0.4, alone
    assert r2["nearest-wrong"] == pytest.approx(alone["nearest-wrong"], abs=0.1)
    maps = figures.atlas_maps([shown["fixed:0.05"], shown["nearest-wrong"]], ["a", "b"], "mean", "std").data
    assert list(maps[0].y) == ["stem", "(variance)"] and list(maps[1].y) == ["stem", "(variance)", "(told t)"]
    assert ("input", "told t") not in rows["true"]
    # Baselines do not see t; each probe belongs to the regime in which it was fitted.
    assert len({own["input", "variance"]["r2"] for own in rows.values()}) == 1
    assert {given for given, layer, _ in clock.probes if layer != "input"} == set(told) and clock.regime == "random"
    fixed, random = (clock.probe("stem", given=name) for name in ("fixed:0.05", "random"))
    assert clock.probe("stem") is random and fixed.coef_.abs().max() > 5 * random.coef_.abs().max()
    with clock.follow(denoiser, "stem", given="fixed:0.05") as readings:
        t = level_times(denoiser.schedule, [0.0]).item()
        x0 = pictures(20, seed=1) / 127.5 - 1
        denoiser.output((1 - t) * x0 + t * torch.randn(x0.shape, generator=torch.Generator().manual_seed(0)), 0.05)
    assert abs(readings[0].mean().item()) < 0.5


def test_a_network_without_t_has_one_regime(one_baseline):
    denoiser = zoo.tiny("unet", "none")
    record, clock = atlas(
        denoiser, pictures(30), layers=["stem"], levels=(-5.0, 0.0, 5.0), told=("fixed", "random"), controls=2
    )
    assert record.told is None and record.others is None and clock.regime == "any"
    assert list(probes.regimes(record.to_json())) == ["any"] and not any(row.view == "told t" for row in record.layers)
    assert clock.probe("stem") is clock.probe("stem", given="true") is clock.probe("stem", given="random")
    assert len(record.best_block.random_networks) == len(record.best_block.gains) == 2


def test_a_fixed_regime_serves_the_ruler_with_its_own_t(one_baseline):
    denoiser = zoo.tiny("unet", "timestep")
    _, clock = atlas(denoiser, pictures(15), layers=["norm"], levels=(-5.0, 0.0, 5.0), told=("fixed:0.3",), controls=1)
    xt = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    [row, *_] = probes.ruler(xt, {"tiny": (denoiser, clock)})
    with clock.follow(denoiser) as readings:
        denoiser.output(xt, 0.3)
    assert clock.regime == "fixed:0.3" and row["value"] == pytest.approx(readings[0].item(), rel=1e-5)
    assert ", fitted with fixed t = 0.3;" in row["what"]


def test_the_clock_is_read_by_probes_of_every_regime_that_was_fitted(one_baseline, tmp_path):
    denoiser = Denoiser(Planted(), SCHEDULES["flow"], "velocity", (3, 8, 8), "planted")
    told = ("random", "fixed:0.05")
    _, clock = atlas(denoiser, pictures(15), layers=["stem"], views=["mean"], levels=LEVELS, told=told, controls=1)
    clock.save(tmp_path / "probes.safetensors")

    def asked(*condition):
        return Clock(
            "celeba32-unet-velocity-timestep", probes=str(tmp_path), condition=condition, count=3, sampling=Sampling("euler", 2)
        )

    request = asked("independent", "fixed", "random", "true")
    assert request.condition == ("independent", "fixed:0.05", "random", "true") and "--condition fixed:0.05" in request.command
    result = request.run(load=lambda name, precision: denoiser)
    [run] = result.members
    with capture(denoiser, ["stem"]) as cache:
        denoiser.output(keyed_noise([0, 1, 2], (3, 8, 8)), 1.0)
    regimes = ("random", "fixed:0.05", "random", "true")
    for row, given, regime in zip(run.layers, request.condition, regimes):
        expected = clock.probes[regime, "stem", "mean"].predict(VIEWS["mean"](cache["stem"]))
        assert (row["given"], row["told"]) == (given, regime)
        assert row["readings"][0] == pytest.approx(expected.tolist(), rel=1e-4)
    assert abs(run.layers[0]["mean"][0] - run.layers[1]["mean"][0]) > 1  # told t = 1, the probe of the fixed t is far off
    # The regime is named wherever the predictions are shown.
    legend = [line.name for line in request.figures(result)[0].data if line.name]
    for words in ("random t", "fixed t = 0.05", "true t"):
        assert f"planted, fitted with {words}" in legend and words in request.summary(result)
    single = asked("fixed")
    [figure] = single.figures(single.run(load=lambda name, precision: denoiser))
    assert [line.name for line in figure.data if line.name] == ["true", "planted, fitted with fixed t = 0.05"]
    words = "planted has no probes with the condition nearest-wrong; it has random, fixed:0.05, true"
    with pytest.raises(ValueError, match=words):
        asked("nearest-wrong").run(load=lambda name, precision: denoiser)
    with pytest.raises(ValueError, match="unknown condition 'fixd'; did you mean fixed"):
        asked("fixd")


def test_the_clock_of_a_network_without_t_has_one_curve(one_baseline):
    denoiser = zoo.tiny("unet", "none")
    _, clock = atlas(denoiser, pictures(15), layers=["norm"], levels=(-5.0, 0.0, 5.0), controls=1)
    asked = Clock("celeba32-unet-velocity-none", condition=("fixed:0.3", "true"), count=2, sampling=Sampling("euler", 2))
    *_, (_, [run]) = asked.stream([denoiser], [clock])
    assert [(row["given"], row["told"]) for row in run["layers"]] == [("independent", "any")]
    assert [line.name for line in figures.implied_level_curves([run], ["tiny"]).data if line.name] == ["true", "tiny"]


def test_the_nearest_wrong_t_is_that_of_a_neighbor_on_either_side():
    levels = (2.0, -2.0, 0.0, 1.0, -1.0)  # in any order
    images = torch.arange(40)
    given = given_times("nearest-wrong", SCHEDULES["flow"], levels)
    told = [SCHEDULES["flow"].logsnr(given(images, level).double()).round().tolist() for level in range(5)]
    assert set(told[0]) == {1.0} and set(told[1]) == {-1.0}  # the ends have one neighbor
    for level, near in ((2, (-1, 1)), (3, (0, 2)), (4, (-2, 0))):
        assert [told[level].count(one) for one in near] == [20, 20]
    with pytest.raises(ValueError, match="at least two levels"):
        given_times("nearest-wrong", SCHEDULES["flow"], (0.0,))


def test_the_regimes_are_one_option_of_the_request():
    asked = Probe.parse({"model": "celeba32-unet-velocity-timestep", "data": "bank:celeba", "told": "random,fixed,fixed:0.5"})
    assert asked.told == ("random", "fixed:0.05", "fixed:0.5") and "--told fixed:0.05 --told fixed:0.5" in asked.command
    assert 'told=("random", "fixed:0.05", "fixed:0.5")' in asked.code.replace("'", '"')
    stored = asked.to_json()
    assert Probe.from_json(stored) == asked
    assert Probe.from_json({key: value for key, value in stored.items() if key not in ("told", "controls")}).told == ("random",)
    for bad, words in (("fixd", "did you mean fixed"), ("fixed:2", "from 0 to 1, got 2"), ("random:0.5", "only fixed has a t")):
        with pytest.raises(ValueError, match=words):
            Probe("celeba32-unet-velocity-timestep", data="bank:celeba", told=(bad,))


def test_stored_probes_and_atlases_are_of_the_random_regime():
    clock = probes.load("celeba32-unet-velocity-timestep")
    assert clock.regime == "random" and clock.probe() is clock.probes["random", *clock.best]
    record = json.loads((zoo.folder("celeba32-unet-velocity-timestep") / "atlas.json").read_text())
    assert "random" in probes.regimes(record) and probes.Atlas.from_json(record).layers


def test_the_log_of_the_spread_is_a_view():
    activation = torch.randn(3, 5, 4, 4, generator=torch.Generator().manual_seed(0)) * 3
    activation[:, 2] = 1.5
    found = VIEWS["log_std"](activation)
    assert torch.allclose(found[:, :5], activation.mean((2, 3)), atol=1e-6)
    kept = [0, 1, 3, 4]
    assert torch.allclose(found[:, 5:][:, kept], activation.flatten(2).std(2).log()[:, kept], atol=1e-5)
    assert torch.isfinite(found).all()


def test_errors_split_into_bias_and_spread_of_a_known_estimator():
    """Predictions 0.6 y + 0.5 + N(0, 0.3^2): the bias at y is 0.5 - 0.4 y, the spread 0.3."""
    rng, images = np.random.default_rng(0), torch.arange(4000)
    errors = Errors(VALUES)
    for level, value in enumerate(VALUES.tolist()):
        noise = torch.from_numpy(rng.normal(0, 0.3, len(images)))
        errors.add(images, level, 0.6 * value + 0.5 + noise, torch.zeros(len(images)))
    found = errors.result()
    expected = 0.5 - 0.4 * VALUES
    assert found["bias"] == pytest.approx(expected.tolist(), abs=0.02)
    assert found["std"] == pytest.approx([0.3] * 5, rel=0.05)
    assert np.square(found["error"]) == pytest.approx(np.square(found["bias"]) + np.square(found["std"]), rel=1e-9)
    row = {"bias": found["bias"], "error": found["error"]}
    share = probes.bias_share(row, [5.0, 6.0, 7.0, 0.0, 1.0], "near_the_data")
    assert share == pytest.approx(float(expected[:3].square().sum() / (expected[:3].square().sum() + 3 * 0.09)), rel=0.02)


def rows(seed, images, features, signal=1.0):
    """(images, 5 levels, features): the level along one direction, what an image adds at all levels, and noise."""
    rng = np.random.default_rng(seed)
    direction = np.random.default_rng(99).normal(size=features) / features**0.5
    found = signal * np.outer(VALUES.numpy(), direction) + rng.normal(size=(images, 1, features))
    return torch.from_numpy(found + rng.normal(size=(images, 5, features)))


def summed(features, folds, levels=range(5)):
    images, found = torch.arange(len(features)), Statistics(features.shape[2], 5, folds)
    for level in levels:
        found.add(features[:, level], images, level)
    return found


def errors_of(features, penalty, fitted=None):
    """Errors of held-out predictions, as ``measure`` accumulates them; with ``fitted``, of a probe fitted to those features."""
    images, errors = torch.arange(len(features)), Errors(VALUES)
    probe = RidgeProbe([penalty]).fit(summed(features if fitted is None else fitted, FOLDS), VALUES)
    for level in range(5):
        own = features[:, level]
        predicted = probe.predict_held_out(own, images % FOLDS) if fitted is None else probe.predict(own)
        errors.add(images, level, predicted, torch.zeros(len(images)))
    return errors


@pytest.mark.parametrize("crossed", [False, True])
def test_a_block_scored_on_other_images_has_no_selection_bias(crossed):
    """Blocks of pure noise are all alike: the smallest error is too small where it was chosen, and not on the other half.

    Where the images of one half are in the fits that predict the other (``crossed``), a score can be too large, as
    cross-validated ones at chance level are, but never too small.
    """
    chosen, scored, average, near = [], [], [], torch.tensor([False, False, False, True, True])
    for number in range(12):
        blocks = [[rows(100 * number + k + other, 40, 4, signal=0.0) for other in (0, 50)] for k in range(12)]
        errors = {("b", str(k)): errors_of(one, 1e-6, None if crossed else other) for k, (one, other) in enumerate(blocks)}
        halves, _ = choose_and_score({**errors, ("input", "variance"): Errors(VALUES)}, near)
        chosen += [half.chosen for half in halves]
        scored += [half.scored.value for half in halves]
        average.append(np.mean([error.rms(near)[0].item() for error in errors.values()]))
    spread = np.std(scored) / len(scored) ** 0.5
    assert np.mean(chosen) < np.mean(average) - 3 * spread
    assert np.mean(scored) > np.mean(average) - 3 * spread
    assert crossed or np.mean(scored) < np.mean(average) + 3 * spread


def test_refits_reproduce_the_held_out_error_and_its_interval_covers():
    """30 data sets of one design: the interval holds the error expected over data sets as often as it says, or more often."""
    near, penalty, found, covered = torch.tensor([False, False, False, True, True]), 1e-3, [], 0
    intervals = []
    for seed in range(30):
        features = rows(seed, 60, 4)
        draws = refitted_rms(summed(features, BLOCKS), summed(features, BLOCKS, (3, 4)), VALUES, penalty)
        assert draws[0].item() == pytest.approx(errors_of(features, penalty).rms(near)[0].item(), rel=1e-6)
        intervals.append(of_refits(draws))
        found.append(draws[0].item())
    expected = np.mean(np.square(found)) ** 0.5
    covered = sum(one.low <= expected <= one.high for one in intervals)
    assert covered >= 26, covered  # 28.5 of 30 are expected, 25 or fewer have a chance of 2 %
    width = np.mean([one.high - one.low for one in intervals])
    assert 0.8 < width / (3.92 * np.std(found)) < 1.8  # not by being too wide
    assert "refits" in intervals[0].over


def test_an_atlas_says_how_the_best_block_was_chosen(one_baseline):
    denoiser = zoo.tiny("unet", "timestep")
    record, clock = atlas(denoiser, pictures(40), layers=["stem", "mid.block.0"], levels=(-5.0, 0.0, 5.0, 6.0), controls=2)
    best = record.best_block
    assert best.region == "near_the_data" and len(best.halves) == len(best.gains) == 2
    [row] = [row for row in record.layers if {"name": row.name, "view": row.view} == record.best]
    assert best.refitted.value == pytest.approx(row.error_over_yardstick_by_region["near_the_data"].value, rel=1e-6)
    assert best.refitted.low < best.refitted.value < best.refitted.high
    pooled = np.sqrt(np.mean(np.square([half.scored.value for half in best.halves])))
    assert best.error_over_yardstick.value == pytest.approx(pooled)
    assert best.gains == pytest.approx([one / pooled for one in best.random_networks])
    assert best.random_networks[0] != best.random_networks[1]
    stored = json.loads(json.dumps(record.to_json()))
    assert probes.Atlas.from_json(stored).to_json() == stored
    said = Probe("celeba32-unet-velocity-timestep", data="bank:celeba").summary(Probed(record, clock, 40))
    for words in ("told t: independent of the true t", "with refits of the probe", "2 random networks at their own best block"):
        assert words in said
    assert f"bias^2 is {probes.bias_share(vars(row), record.levels, 'near_the_data'):.0%} of its squared error" in said


def test_an_atlas_is_compared_with_a_stored_one_row_by_row():
    def record(*rows):
        halves = [{"name": "a", "view": "mean", "chosen": value} for value in (1.0, 2.0)]  # the same block twice
        return {
            "halves": halves,
            "layers": [{"name": name, "view": "mean", "r2": 0.5, "error": [error]} for name, error in rows],
        }

    stored = record(("a", 1.0), ("b", 2.0))
    assert deviation(stored, record(("a", 1.0), ("new", 9.0), ("b", 2.0)))[0] == 0
    assert deviation(stored, record(("new", 9.0), ("a", 1.0), ("b", 1.0)))[0] == pytest.approx(0.5)
    assert deviation(stored, record(("a", 1.0)))[0] == np.inf
    assert deviation(stored, {**stored, "halves": stored["halves"][::-1]})[0] == pytest.approx(0.5)


def test_the_posterior_wins_only_where_no_block_has_a_smaller_error():
    def row(name, view, error):
        return {"name": name, "view": view, "error_by_region": {"middle": error}}

    layers = [row("a", "mean", 0.3), row("b", "mean", 0.2), row("input", "variance", 0.05)]
    posterior = row("input", "gaussian posterior", 0.1)
    assert probes.posterior_wins({"layers": [*layers, posterior]}) == (0.1, 0.2)
    assert probes.posterior_wins({"layers": [*layers, row("input", "gaussian posterior", 0.25)]}) is None
    assert probes.posterior_wins({"layers": layers}) is None
    assert probes.posterior_wins({"layers": [*layers, posterior]}, "near_noise") is None
