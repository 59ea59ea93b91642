"""Edits do what they say and nothing else; planted networks that use a direction, or do not, are told apart."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from explore import zoo
from explore.activations import VIEWS, capture, hook_points
from explore.denoiser import Denoiser
from explore.experiments import Intervene
from explore.interventions import (
    CONTROLS,
    DIRECTIONS,
    INTERVENTIONS,
    STEERED_RUNS,
    ControlSource,
    InterventionResult,
    Partner,
    ablate,
    control_directions,
    edited,
    given_vs_true,
    intervene,
    patch,
    random_direction,
    steer,
    steered_figures,
    steered_stream,
)
from explore.probes import ProbeSet, atlas
from explore.samplers import sample
from explore.schedules import SCHEDULES
from explore.seeds import keyed_noise

LEVELS = (-4.0, -2.0, 0.0, 2.0, 4.0)


def pictures(count):
    coarse = torch.rand(count, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    return (255 * torch.nn.functional.interpolate(coarse, size=8, mode="bilinear")).to(torch.uint8)


@pytest.fixture(scope="module", params=["unet", "dit"])
def subject(request):
    denoiser = zoo.tiny(request.param, "timestep")
    _, clock = atlas(denoiser, pictures(15), levels=LEVELS, controls=1)
    return denoiser, clock, "mid.block.0" if request.param == "unet" else "block.0"


def captured(denoiser, names, t=0.4):
    xt = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with capture(denoiser, names) as cache:
        output = denoiser.output(xt, t)
    return {name: cache[name].clone() for name in names} | {"output": output}


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_steering_moves_the_layers_own_reading_by_the_dose(subject, direction):
    denoiser, clock, layer = subject
    probe, names = clock.probe(layer), list(hook_points(denoiser))
    before = captured(denoiser, names)
    with edited(denoiser, layer, steer(-3 * DIRECTIONS[direction](probe))):
        after = captured(denoiser, names)
    moved = probe.predict(VIEWS["mean"](after[layer])) - probe.predict(VIEWS["mean"](before[layer]))
    assert moved.tolist() == pytest.approx([-3.0] * 3, rel=1e-3)
    for name in names[: names.index(layer)]:
        assert torch.equal(before[name], after[name])
    assert not torch.allclose(before["output"], after["output"])
    assert torch.equal(captured(denoiser, names)["output"], before["output"])  # nothing is left behind


def test_ablation_removes_one_component_and_nothing_else(subject):
    denoiser, clock, layer = subject
    vector = clock.probe(layer).coef_.float()
    unit = vector / vector.norm()
    before = captured(denoiser, [layer])[layer]
    with edited(denoiser, layer, ablate(vector, 0.25)):
        after = captured(denoiser, [layer])[layer]
    rows_before, rows_after = (VIEWS["position"](part) for part in (before, after))
    assert (rows_after @ unit).tolist() == pytest.approx([0.25] * len(rows_after), abs=1e-4)
    rest = torch.eye(len(unit)) - torch.outer(unit, unit)
    assert torch.allclose(rows_after @ rest, rows_before @ rest, atol=1e-4)


def test_patching_takes_the_component_of_the_other(subject):
    denoiser, clock, layer = subject
    vector = clock.probe(layer).coef_.float()
    unit = vector / vector.norm()
    here, there = (captured(denoiser, [layer], t)[layer] for t in (0.4, 0.8))
    with edited(denoiser, layer, patch(vector, there)):
        after = captured(denoiser, [layer])[layer]
    rows_here, rows_there, rows_after = (VIEWS["position"](part) for part in (here, there, after))
    assert torch.allclose(rows_after @ unit, rows_there @ unit, atol=1e-4)
    rest = torch.eye(len(unit)) - torch.outer(unit, unit)
    assert torch.allclose(rows_after @ rest, rows_here @ rest, atol=1e-4)


def test_edits_are_held_to_their_part_of_the_path(subject):
    denoiser, clock, layer = subject
    edit = steer(5 * DIRECTIONS["pattern"](clock.probe(layer)))
    plain = captured(denoiser, [], 0.4)["output"]
    with edited(denoiser, layer, edit, during=(0.5, 1.0)):
        assert torch.equal(captured(denoiser, [], 0.4)["output"], plain)
        # Within one batch, each image by its own t.
        mixed = captured(denoiser, [], torch.tensor([0.4, 0.6, 0.4]))["output"]
    bare = captured(denoiser, [], torch.tensor([0.4, 0.6, 0.4]))["output"]
    assert torch.allclose(mixed[[0, 2]], bare[[0, 2]], atol=1e-6) and not torch.allclose(mixed[1], bare[1])
    with pytest.raises(RuntimeError, match="stop"), edited(denoiser, layer, edit):
        raise RuntimeError("stop")
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in denoiser.modules()) == 0
    with pytest.raises(ValueError, match="during must be a range"), edited(denoiser, layer, edit, during=(0.8, 0.2)):
        pass


def test_random_directions_have_the_same_length():
    vector = torch.tensor([3.0, 4.0, 0.0], dtype=torch.float64)
    drawn = [random_direction(vector, seed) for seed in range(50)]
    assert all(direction.norm().item() == pytest.approx(5.0) for direction in drawn)
    assert torch.equal(drawn[3], random_direction(vector, 3)) and not torch.equal(drawn[3], drawn[4])
    assert torch.stack(drawn).mean(0).norm() < 2.0


class Planted(nn.Module):
    """Its first layer's first channel is the picture's mean square plus ``share`` times t; the second layer passes on
    ``used`` times that channel; a second channel holds the same signal and leads nowhere."""

    def __init__(self, used, share=0.0):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.share = share
        with torch.no_grad():
            for layer in (self.first, self.second):
                layer.bias.zero_()
            self.first.weight.copy_(torch.eye(3)[:, :, None, None])
            self.second.weight.zero_()
            self.second.weight[0, 0] = used
            self.second.weight[1, 2] = 1.0

    def forward(self, xt, t):
        energy = xt.square().mean((1, 2, 3), keepdim=True) + self.share * t.reshape(-1, 1, 1, 1)
        signal = torch.cat([energy, energy, 0.01 * xt.mean((1, 2, 3), keepdim=True)], 1).expand(-1, -1, *xt.shape[2:])
        return self.second(self.first(signal))


def planted(used, share=0.0):
    denoiser = Denoiser(Planted(used, share).requires_grad_(False), SCHEDULES["flow"], "velocity", (3, 8, 8), "planted")
    _, clock = atlas(denoiser, pictures(40), levels=LEVELS, controls=1, views=("mean",))
    return denoiser, clock


def test_a_used_direction_is_told_from_an_unused_one():
    denoiser, clock = planted(2.0)
    probe = clock.probe("first")
    probe.coef_[:] = torch.tensor([1.0, 0.0, 0.0])  # reads the channel that is passed on
    clock.probe("second").coef_[:] = torch.tensor([1.0, 0.0, 0.0])  # and so does the second layer's
    record = intervene(
        denoiser, clock, pictures(10), "first", direction="readout", doses=(-1.0, 1.0), levels=(0.0,), controls=4
    )
    [slopes] = (row.quantities for row in record.slopes)
    assert slopes["first"].slope.value == pytest.approx(1.0, rel=1e-5) and slopes["first"].monotonic
    assert slopes["second"].slope.value == pytest.approx(2.0, rel=1e-4)
    assert slopes["second"].ranks["isotropic"].p == 1 / 5
    probe.coef_[:] = torch.tensor([0.0, 1.0, 0.0])  # reads the same signal where it leads nowhere
    record = intervene(
        denoiser, clock, pictures(10), "first", direction="readout", doses=(-1.0, 1.0), levels=(0.0,), controls=4
    )
    slopes = record.slopes[0].quantities
    assert slopes["first"].slope.value == pytest.approx(1.0, rel=1e-5)
    assert slopes["second"].slope.value == pytest.approx(0.0, abs=1e-6)
    assert slopes["second"].ranks["isotropic"].p == 1.0 and not slopes["second"].monotonic


@pytest.mark.parametrize("kind", INTERVENTIONS)
def test_reports_are_complete_and_can_be_written(subject, kind):
    denoiser, clock, layer = subject
    record = intervene(denoiser, clock, pictures(6), layer, kind, doses=(-1.0, 1.0), levels=(2.0, 0.0), controls=2)
    stored = json.loads(json.dumps(record.to_json()))
    assert InterventionResult.from_json(stored).to_json() == stored
    assert not record.rows or stored["rows"][0]["effects"][layer]["over"] == "images"
    later = list(hook_points(denoiser))
    assert record.later == later[later.index(layer) + 1 :]
    assert len(record.rows) == (2 if kind == "ablate" else 4) and record.control_images == 4
    assert len(record.loss) == (20 if kind == "ablate" else 40)
    assert all(row.change.low <= row.change.value <= row.change.high and set(row.ranks) == set(CONTROLS) for row in record.loss)
    for row in record.rows:
        assert set(row.effects) == {layer, *record.later, "predicted_noise", "loss"} == set(row.control)
        for effect in row.effects.values():
            assert effect.low <= effect.value + 1e-9 and effect.value <= effect.high + 1e-9
        assert all(set(by) == set(CONTROLS) and all(len(means) == 2 for means in by.values()) for by in row.control.values())
    if kind == "steer":
        own = {(row.logsnr, row.dose): row.effects[layer].value for row in record.rows}
        assert all(change == pytest.approx(dose, rel=1e-2) for (_, dose), change in own.items())


# Controls ------------------------------------------------------------------------------------------------------------------


class Wide(nn.Module):
    """First layer: the picture's mean square, ``spread`` times its brightness, then other linear functions of the picture.

    The second layer's first channel is ``reads`` (C,) times the first layer.
    """

    def __init__(self, reads, spread):
        super().__init__()
        channels = len(reads)
        self.first, self.second = nn.Conv2d(channels, channels, 1, bias=False), nn.Conv2d(channels, 3, 1, bias=False)
        weights = torch.randn(channels - 2, 3, 8, 8, generator=torch.Generator().manual_seed(5)) / 192**0.5
        self.register_buffer("weights", weights)
        self.spread = spread
        with torch.no_grad():
            self.first.weight.copy_(torch.eye(channels)[:, :, None, None])
            self.second.weight.zero_()
            self.second.weight[0, :, 0, 0] = torch.tensor(reads)
            self.second.weight[1, 0] = 1.0

    def forward(self, xt, t):
        found = [xt.square().mean((1, 2, 3))[:, None], self.spread * xt.mean((1, 2, 3))[:, None]]
        signal = torch.cat([*found, torch.einsum("bchw,kchw->bk", xt, self.weights)], 1)
        return self.second(self.first(signal[:, :, None, None].expand(-1, -1, *xt.shape[2:])))


def wide(reads, direction, spread=1.0):
    """A Wide network, and its probes: that of the first layer has ``direction``, that of the second its first channel."""
    denoiser = Denoiser(Wide(reads, spread).requires_grad_(False), SCHEDULES["flow"], "velocity", (3, 8, 8), "wide")
    _, clock = atlas(denoiser, pictures(40), levels=LEVELS, views=("mean",))
    direction = torch.tensor(direction, dtype=torch.float64)
    for name, vector in (("first", direction), ("second", torch.tensor([1.0, 0.0, 0.0]).double())):
        probe = clock.probe(name)
        probe.coef_, probe.pattern_ = vector / vector.norm(), vector / vector.norm()
    return denoiser, clock


def unit(place, channels, size=1.0):
    return [size * (k == place) for k in range(channels)]


def slopes_of(denoiser, clock, **settings):
    settings = {"doses": (-1.0, 1.0), "levels": (0.0,), "controls": 40, "loss_times": (), **settings}
    return intervene(denoiser, clock, pictures(20), "first", **settings).slopes[0].quantities


def test_a_direction_that_the_next_layer_reads_counts_as_used():
    found = slopes_of(*wide(unit(0, 12, 2.0), unit(0, 12)))
    assert found["second"].slope.value == pytest.approx(2.0, rel=1e-4)
    assert [found["second"].ranks[kind].p for kind in ("covariance", "shuffled")] == [1 / 41] * 2
    assert found["second"].used is True
    assert found["first"].used is None  # of the layer itself


def test_alignment_is_the_cosine_of_the_controls_with_the_direction():
    denoiser, clock = wide(unit(0, 12), unit(0, 12), spread=1000.0)
    settings = {"doses": (1.0,), "levels": (0.0,), "controls": 20, "loss_times": ()}
    found = intervene(denoiser, clock, pictures(20), "first", **settings).alignment
    vector = DIRECTIONS["pattern"](clock.probe("first"))
    drawn = torch.stack([random_direction(vector, k) for k in range(20)])
    assert found["isotropic"] == pytest.approx(np.median(torch.cosine_similarity(drawn, vector[None]).abs().numpy()))
    assert found["covariance"] < 0.01  # nearly all variance is along another channel


def test_a_decodable_direction_that_no_layer_reads_does_not_count_as_used():
    found = slopes_of(*wide(unit(3, 12, 2.0), unit(0, 12)))
    assert found["first"].slope.value == pytest.approx(1.0, rel=1e-4)
    assert found["second"].slope.value == pytest.approx(0.0, abs=1e-6) and found["second"].ranks["covariance"].p == 1.0
    assert found["second"].used is False


def test_a_reaction_to_the_direction_of_highest_variance_does_not_count_as_used():
    """The direction has a component along it, so that it exceeds isotropic directions, which have hardly any."""
    channels = 48
    direction = [0.9, 0.44, *[0.0] * (channels - 2)]
    found = slopes_of(*wide(unit(1, channels), direction, spread=40.0))["second"]
    assert found.ranks["isotropic"].p <= 0.05 < min(found.ranks[kind].p for kind in ("covariance", "shuffled"))
    assert found.used is False


def test_p_values_of_a_null_direction_are_uniform():
    """It is drawn from the covariance on other noise than the controls; isotropic directions are no such draws."""
    from scipy.stats import kstest

    denoiser, clock = wide(unit(1, 6), unit(0, 6), spread=3.0)
    source = ControlSource(denoiser, clock, pictures(40), "first", seed=10_000)
    drawn = control_directions(source, torch.ones(6).double(), ("isotropic", "covariance"), 80)
    found = {}
    for kind, directions in drawn.items():
        ranks = []
        for seed, direction in enumerate(directions):
            probe = clock.probe("first")
            probe.coef_ = probe.pattern_ = direction
            settings = {"seed": seed, "control_kinds": ("covariance",), "controls": 19, "control_images": 1}
            ranks.append(slopes_of(denoiser, clock, **settings)["second"].ranks["covariance"].p)
        found[kind] = torch.tensor(ranks)
    jitter = torch.rand(80, generator=torch.Generator().manual_seed(0)) / 20  # p has 20 values
    assert kstest(found["covariance"] - jitter, "uniform").pvalue > 0.05
    assert kstest(found["isotropic"] - jitter, "uniform").pvalue < 1e-3
    assert (found["covariance"] <= 0.05).double().mean() < 0.12


def test_a_verdict_needs_enough_controls_of_both_kinds():
    case = wide(unit(0, 12), unit(0, 12))
    assert slopes_of(*case, controls=19)["second"].used is True
    assert slopes_of(*case, controls=18)["second"].used is None
    assert slopes_of(*case, controls=9, quantile=0.9)["second"].used is True
    assert slopes_of(*case, control_kinds=("covariance",))["second"].used is None
    with pytest.raises(ValueError, match="unknown control 'covarance'; did you mean covariance"):
        slopes_of(*case, control_kinds=("covarance",))


def test_control_directions_have_the_covariance_and_the_length():
    denoiser, clock = wide(unit(0, 6), unit(0, 6), spread=3.0)
    source = ControlSource(denoiser, clock, pictures(40), "first")
    assert source.features.shape == (40, len(LEVELS), 6)
    rows = source.features.flatten(0, 1)
    drawn = CONTROLS["covariance"](source, torch.ones(6).double(), 20_000)
    expected = torch.cov(rows.T, correction=0)
    assert torch.allclose(torch.cov(drawn.T), expected, atol=0.03 * expected.diagonal().max().item())
    for vectors in control_directions(source, 3 * torch.ones(6).double(), tuple(CONTROLS), 5).values():
        assert vectors.norm(dim=1).tolist() == pytest.approx([3 * 6**0.5] * 5)
        assert len({tuple(vector) for vector in vectors.tolist()}) == 5


def test_shuffled_controls_are_directions_of_probes_of_shuffled_levels():
    """The pattern of such a probe is the covariance of the features and the shuffled levels, summed here row by row."""
    denoiser, clock = wide(unit(0, 6), unit(0, 6))
    source = ControlSource(denoiser, clock, pictures(40), "first", seed=7)
    [found] = control_directions(source, torch.ones(6).double(), ("shuffled",), 1)["shuffled"]
    draws = np.random.default_rng([5, 7]).random((40, len(LEVELS))).argsort(1)
    # Image i at its level draws[i, l] is told to be at level l.
    target = torch.tensor(LEVELS).double()
    covariance = torch.zeros(6).double()
    for image in range(40):
        for level in range(len(LEVELS)):
            covariance += source.features[image, draws[image, level]] * (target[level] - target.mean())
    assert abs(torch.cosine_similarity(found, covariance, 0).item()) == pytest.approx(1.0, abs=1e-6)


def test_effects_of_directions_in_one_batch_are_those_of_each_alone(subject):
    denoiser, clock, layer = subject
    settings = {"doses": (2.0,), "levels": (0.0,), "control_kinds": ("isotropic",), "loss_times": ()}
    for kind in INTERVENTIONS:
        [row] = intervene(denoiser, clock, pictures(10), layer, kind, controls=7, control_images=10, **settings).rows
        vector = DIRECTIONS["pattern"](clock.probe(layer))
        for k in (0, 6):  # the direction of another probe set takes the place of the probe's
            other = copy.deepcopy(clock)
            other.probe(layer).pattern_ = random_direction(vector, k)
            scale = other.probe(layer).pattern_ @ other.probe(layer).coef_
            other.probe(layer).coef_ = other.probe(layer).coef_ / scale
            own = intervene(denoiser, other, pictures(10), layer, kind, controls=1, **settings).rows[0].effects
            for name in ("predicted_noise", "loss"):
                assert row.control[name]["isotropic"][k] == pytest.approx(own[name].value, rel=1e-3, abs=1e-6), (kind, name)


def test_loss_by_t_is_the_loss_by_t():
    denoiser, clock = planted(2.0)
    settings = {"doses": (-4.0, -1.0, 1.0, 2.0), "levels": (0.0,), "controls": 3, "control_kinds": ("isotropic",)}
    record = intervene(denoiser, clock, pictures(10), "first", loss_times=(0.25, 0.5), **settings)
    assert [(row.t, row.dose) for row in record.loss] == [(0.25, -2.0), (0.25, 2.0), (0.5, -2.0), (0.5, 2.0)]
    [at] = intervene(denoiser, clock, pictures(10), "first", **{**settings, "doses": (2.0,)}, loss_times=()).rows
    assert record.loss[3].logsnr == pytest.approx(0.0) and record.loss[3].change == at.effects["loss"]
    controls = sorted(at.control["loss"]["isotropic"])
    assert record.loss[3].ranks["isotropic"].median == pytest.approx(controls[1], rel=1e-6)
    # The doses of patch are levels that the component comes from, so the controls have both.
    patched = intervene(denoiser, clock, pictures(10), "first", "patch", loss_times=(0.5,), **settings).loss
    for row in patched:
        changed = {**settings, "doses": (row.dose,)}
        [at] = intervene(denoiser, clock, pictures(10), "first", "patch", loss_times=(), **changed).rows
        controls = sorted(at.control["loss"]["isotropic"])
        assert row.change == at.effects["loss"]
        assert row.ranks["isotropic"].median == pytest.approx(controls[1], rel=1e-6)
    assert patched[0].ranks["isotropic"].median != patched[1].ranks["isotropic"].median


def test_the_scale_is_what_the_conditioned_model_does_when_its_t_is_shifted():
    told, told_clock = planted(2.0, share=50.0)
    probe = told_clock.probe("second", "mean", "true")
    denoiser, clock = planted(2.0)
    images, shifts = pictures(10), (-1.0, 1.0)
    settings = {"doses": shifts, "levels": (0.0,), "controls": 1, "loss_times": ()}
    record = intervene(denoiser, clock, images, "first", partner=Partner(told, told_clock), **settings)
    found = record.slopes[0].quantities
    # The second layer's first channel is 2 x 50 t; shifts of log SNR by -1 and 1 change t by the same amount.
    step = torch.sigmoid(torch.tensor(0.5)).item() - 0.5
    assert found["second"].told.value == pytest.approx(-2 * 50 * step * probe.coef_[0].item(), rel=1e-3)
    xt = 0.5 * (images.float() / 127.5 - 1) + 0.5 * keyed_noise(range(10), (3, 8, 8))
    norms = [(xt + 0.5 * told.output(xt, 0.5 - s * step)).flatten(1).square().mean(1).sqrt().log() for s in shifts]
    assert found["predicted_noise"].told.value == pytest.approx((norms[1] - norms[0]).mean().item() / 2, rel=1e-3)
    for name in ("second", "predicted_noise"):
        ratio = found[name].slope.value / found[name].told.value
        assert found[name].of_told.value == pytest.approx(ratio, rel=1e-6)
    bare = intervene(denoiser, clock, images, "first", partner=Partner(told), **settings).slopes[0].quantities
    assert bare["second"].told is None and bare["predicted_noise"].told == found["predicted_noise"].told
    alone = intervene(denoiser, clock, images, "first", **settings)
    assert alone.partner is None and alone.slopes[0].quantities["predicted_noise"].of_told is None


def test_stored_records_with_one_kind_of_control_stay_readable():
    found = {name: zoo.folder(name) / "metrics.json" for name in zoo.index()}
    stored = [record for path in found.values() if (record := json.loads(path.read_text()).get("steer"))]
    assert stored
    for record in stored:
        result = InterventionResult.from_json(record)
        written = json.loads(json.dumps(result.to_json()))
        assert InterventionResult.from_json(written).to_json() == written
        if "control_images" not in record:
            for row, before in zip(result.slopes, record["slopes"]):
                for name, slope in row.quantities.items():
                    magnitudes = list(map(abs, before["quantities"][name]["control"]))
                    beaten = before["quantities"][name]["larger_than_every_control"]
                    assert slope.used is None and slope.of_told is None
                    assert slope.ranks["isotropic"].n == len(magnitudes)
                    assert (slope.ranks["isotropic"].p == 1 / (1 + len(magnitudes))) == beaten


@pytest.mark.parametrize("kind", INTERVENTIONS)
def test_summary_figures_and_stored_part_show_the_controls(kind):
    told, told_clock = planted(2.0, share=50.0)
    denoiser, clock = planted(2.0)
    settings = {"doses": (-1.0, 1.0), "levels": (0.0, 2.0), "controls": 20, "loss_times": (0.3, 0.6)}
    result = intervene(denoiser, clock, pictures(10), "first", kind, partner=Partner(told, told_clock), **settings)
    asked = Intervene("celeba32-unet-velocity-none", data="bank:celeba", kind=kind, layer="mid.block.1")
    summary, kept, drawn = asked.summary(result), asked.kept(result), asked.figures(result)
    assert "95% of covariance" in summary and "controls on 4 of them" in summary and "rows" in kept and not kept["rows"]
    assert len(kept["loss"]) == (2 if kind == "ablate" else 4) and set(kept["loss"][0]["ranks"]) == set(CONTROLS)
    assert {trace.name for trace in drawn[-1].data} >= {f"{name}, median" for name in CONTROLS}
    assert len(drawn) == (2 if kind == "ablate" else 3)
    if kind != "ablate":
        slope = kept["slopes"][0]["quantities"]["second"]
        assert set(slope) == {"slope", "monotonic", "ranks", "used", "told", "of_told"} and "p (shuffled)" in summary
        [shown] = [one for one in drawn[0].data if one.name == "shuffled" and one.showlegend]
        rank = slope["ranks"]["shuffled"]
        assert shown.x[list(shown.y).index("second")] == pytest.approx(rank["value"] / rank["quantile"], rel=1e-6)
        assert (shown.marker.symbol[list(shown.y).index("second")] == "square") == slope["used"]


def test_the_record_of_an_effect_is_the_effect():
    denoiser, clock = planted(2.0)
    images = pictures(6)
    settings = {"doses": (1.0,), "levels": (0.0,), "controls": 1, "loss_times": ()}
    [row] = intervene(denoiser, clock, images, "first", seed=3, **settings).rows
    t, x0, eps = row.t, images.float() / 127.5 - 1, keyed_noise(range(3, 9), (3, 8, 8))
    xt = (1 - t) * x0 + t * eps
    plain = denoiser.estimate(xt, t)
    with edited(denoiser, "first", steer(DIRECTIONS["pattern"](clock.probe("first")))):
        after = denoiser.estimate(xt, t)
    norms = [e.eps_hat.flatten(1).square().mean(1).sqrt().log() for e in (plain, after)]
    assert row.effects["predicted_noise"].value == pytest.approx((norms[1] - norms[0]).mean().item(), rel=1e-4)
    losses = [(e.output - (eps - x0)).square().mean().item() for e in (plain, after)]
    assert row.effects["loss"].value == pytest.approx(losses[1] / losses[0] - 1, rel=1e-4)


def test_trust_in_the_label_and_in_the_picture():
    images = pictures(20)
    denoiser, clock = planted(1.0)
    for row in given_vs_true(denoiser, clock, images, levels=(-1.0, 0.0, 1.0)).layers:
        assert row.given.value == pytest.approx(0.0, abs=1e-9) and row.true.value > 0.5
    denoiser, clock = planted(1.0, share=50.0)  # the label drowns the picture
    for row in given_vs_true(denoiser, clock, images, levels=(-1.0, 0.0, 1.0)).layers:
        assert row.given.value > 0.5 and abs(row.true.value) < 0.1
        assert row.given.low <= row.given.value <= row.given.high
        grid = torch.tensor(row.grid)
        fitted = (grid.mean(0)[2] - grid.mean(0)[0]) / 2
        assert fitted.item() == pytest.approx(row.given.value, rel=1e-6)


def steered(*arguments, **settings):
    """The last images of each run."""
    return {name: step.xt for name, step in steered_stream(*arguments, **settings)}


def test_steered_samples_stand_beside_a_control(subject):
    denoiser, clock, layer = subject
    images = steered(denoiser, clock, [0, 1], layer, 2.0, sampler="euler", steps=3)
    assert {name: tuple(one.shape) for name, one in images.items()} == dict.fromkeys(STEERED_RUNS, (2, 3, 8, 8))
    difference = steered_figures(images)["difference"]
    assert difference["steered"] > 0 and difference["control"] > 0
    still = steered(denoiser, clock, [0, 1], layer, 0.0, sampler="euler", steps=3)
    assert steered_figures(still)["difference"] == {"steered": 0.0, "control": 0.0}
    with pytest.raises(ValueError, match="unknown direction 'up'; choose from pattern, readout"):
        steered(denoiser, clock, [0], layer, 1.0, direction="up")


def test_steering_streams_every_step_and_can_be_left_early(subject):
    denoiser, clock, layer = subject
    settings = {"sampler": "euler", "steps": 3, "seed": 1}
    states = list(steered_stream(denoiser, clock, [4, 5, 6], layer, 2.0, **settings))
    assert [(name, step.index) for name, step in states] == [(name, k) for name in STEERED_RUNS for k in range(4)]
    last = {name: step.xt for name, step in states}
    alone = steered(denoiser, clock, [6], layer, 2.0, **settings)
    assert all(torch.allclose(last[name][2:], images, atol=1e-4) for name, images in alone.items())
    assert torch.equal(last["plain"], sample(denoiser, [4, 5, 6], "euler", 3))
    stream = steered_stream(denoiser, clock, [4], layer, 2.0, **settings)
    assert [next(stream)[0] for _ in range(5)][-1] == "steered"
    stream.close()
    assert sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in denoiser.modules()) == 0
    with pytest.raises(ValueError, match="at least one seed"):
        steered(denoiser, clock, [], layer, 1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "stear"}, "unknown intervention 'stear'; did you mean steer"),
        ({"kind": "swap"}, "the intervention swap is now called patch"),
        ({"kind": "erase"}, "the intervention erase is now called ablate"),
        ({"layer": "nowhere"}, "unknown layer 'nowhere'"),
        ({"levels": (-999.0,)}, "levels must be values of logsnr that the schedule reaches"),
        ({"controls": 0}, "controls must be a whole number of at least 1"),
        ({"control_images": 0}, "control_images must be a whole number of at least 1"),
    ],
)
def test_mistakes_are_said_in_words(change, message):
    denoiser = zoo.tiny("dit", "none")
    _, clock = atlas(denoiser, pictures(10), levels=LEVELS, controls=1, views=("mean",))
    assert isinstance(clock, ProbeSet)
    with pytest.raises(ValueError, match=message):
        intervene(denoiser, clock, pictures(4), **{"layer": "block.0", **change})
