"""Edits do what they say and nothing else; planted networks that use a direction, or do not, are told apart."""

import json

import pytest
import torch
from torch import nn

from explore import zoo
from explore.activations import VIEWS, capture, hook_points
from explore.denoiser import Denoiser
from explore.interventions import (
    DIRECTIONS,
    INTERVENTIONS,
    STEERED_RUNS,
    InterventionResult,
    ablate,
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
    assert slopes["second"].larger_than_every_control
    probe.coef_[:] = torch.tensor([0.0, 1.0, 0.0])  # reads the same signal where it leads nowhere
    record = intervene(denoiser, clock, pictures(10), "first", direction="readout", doses=(-1.0, 1.0), levels=(0.0,))
    slopes = record.slopes[0].quantities
    assert slopes["first"].slope.value == pytest.approx(1.0, rel=1e-5)
    assert slopes["second"].slope.value == pytest.approx(0.0, abs=1e-6)
    assert not slopes["second"].larger_than_every_control and not slopes["second"].monotonic


@pytest.mark.parametrize("kind", INTERVENTIONS)
def test_reports_are_complete_and_can_be_written(subject, kind):
    denoiser, clock, layer = subject
    record = intervene(denoiser, clock, pictures(6), layer, kind, doses=(-1.0, 1.0), levels=(2.0, 0.0), controls=2)
    stored = json.loads(json.dumps(record.to_json()))
    assert InterventionResult.from_json(stored).to_json() == stored
    assert not record.rows or stored["rows"][0]["effects"][layer]["over"] == "images"
    later = list(hook_points(denoiser))
    assert record.later == later[later.index(layer) + 1 :]
    assert len(record.rows) == (2 if kind == "ablate" else 4)
    for row in record.rows:
        assert set(row.effects) == {layer, *record.later, "predicted_noise", "loss"} == set(row.control)
        for effect in row.effects.values():
            assert effect.low <= effect.value + 1e-9 and effect.value <= effect.high + 1e-9
        assert all(len(means) == 2 for means in row.control.values())
    if kind == "steer":
        own = {(row.logsnr, row.dose): row.effects[layer].value for row in record.rows}
        assert all(change == pytest.approx(dose, rel=1e-2) for (_, dose), change in own.items())


def test_the_record_of_an_effect_is_the_effect():
    denoiser, clock = planted(2.0)
    images = pictures(6)
    [row] = intervene(denoiser, clock, images, "first", doses=(1.0,), levels=(0.0,), controls=1, seed=3).rows
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
    ],
)
def test_mistakes_are_said_in_words(change, message):
    denoiser = zoo.tiny("dit", "none")
    _, clock = atlas(denoiser, pictures(10), levels=LEVELS, controls=1, views=("mean",))
    assert isinstance(clock, ProbeSet)
    with pytest.raises(ValueError, match=message):
        intervene(denoiser, clock, pictures(4), **{"layer": "block.0", **change})
