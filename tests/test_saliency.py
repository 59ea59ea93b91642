"""Maps against answers known beforehand: linear networks, planted readouts, shipped models; every method on every network."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from explore import figures, probes, saliency, zoo
from explore.__main__ import main
from explore.activations import VIEWS
from explore.data import load_images, to_float
from explore.denoiser import Denoiser, shifted
from explore.probes import ProbeSet, RidgeProbe, atlas
from explore.saliency import BASELINES, NEVER_OFFERED, RINGS, SALIENCY, TARGETS, attribute, routes
from explore.schedules import SCHEDULES
from explore.seeds import keyed_noise

LEVELS = (-4.0, -2.0, 0.0, 2.0, 4.0)
PIXELS = [name for name, method in SALIENCY.items() if method.domain == "pixels"]
LAYERS = [name for name, method in SALIENCY.items() if method.domain == "layer"]
BANDS = [name for name, method in SALIENCY.items() if method.tells_bands]


def pictures(count, side=8):
    coarse = torch.rand(count, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    return (255 * nn.functional.interpolate(coarse, size=side, mode="bilinear")).to(torch.uint8)


def noisy(count=2, side=8, seed=1):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def readout(layer, coefficients, schedule="flow", view="mean"):
    """A ProbeSet of one probe with these coefficients."""
    probe = RidgeProbe()
    probe.coef_ = torch.as_tensor(coefficients, dtype=torch.float64)
    probe.pattern_, probe.intercept_, probe.penalty_ = probe.coef_.clone(), 0.25, 1.0
    probe.held_out_error_ = torch.zeros(len(LEVELS), dtype=torch.float64)
    return ProbeSet("planted", "logsnr", SCHEDULES[schedule], LEVELS, {("any", layer, view): probe}, (layer, view))


@pytest.fixture(
    scope="module",
    params=["unet-none", "unet-timestep", "dit-none", "dit-timestep", "dit-pixels-timestep"],
)
def tiny(request):
    architecture, *pixels, conditioning = request.param.split("-")
    denoiser = zoo.tiny(architecture, conditioning, **({"pixel_channels": 8} if pixels else {}))
    return denoiser, atlas(denoiser, pictures(10), levels=LEVELS, controls=1)[1]


# A linear network ------------------------------------------------------------------------------------------------------


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.last = nn.Conv2d(4, 3, 3, padding=1, bias=False)

    def forward(self, xt, t):
        return self.last(self.first(xt))


@pytest.fixture(scope="module")
def linear():
    torch.manual_seed(0)
    return Denoiser(Linear().requires_grad_(False), SCHEDULES["flow"], "x0", (3, 8, 8), "linear")


BOX, CHANNEL = (2, 1, 3, 4), 1


def linear_weights(denoiser):
    """d mean(x0_hat[channel, box]) / d xt, one column of the matrix at a time: no gradient is taken."""
    basis = torch.eye(3 * 8 * 8).reshape(-1, 3, 8, 8)
    top, left, tall, wide = BOX
    return denoiser.network(basis, None)[:, CHANNEL, top : top + tall, left : left + wide].mean((1, 2)).reshape(1, 3, 8, 8)


@pytest.mark.parametrize("method", PIXELS)
@pytest.mark.parametrize("baseline", BASELINES)
def test_on_a_linear_network_every_method_returns_the_weights(linear, method, baseline):
    xt, weights = noisy(), linear_weights(linear)
    found = attribute(
        linear, xt, 0.4, "x0-region", method, box=BOX, channel=CHANNEL, baseline=baseline, window=1, checks=["completeness"]
    )
    reference = BASELINES[baseline](xt, 0.4, 0)
    expected = {
        "saliency": weights.expand(2, -1, -1, -1),
        "smoothgrad": weights.expand(2, -1, -1, -1),
        "input-x-gradient": weights * xt,
        "integrated-gradients": weights * (xt - reference),
    }
    if method == "occlusion":  # channels go together
        assert torch.allclose(found.values.sum(1), (weights * (xt - reference)).sum(1), atol=1e-5)
    else:
        assert torch.allclose(found.values, expected[method], atol=1e-5)
    if SALIENCY[method].complete:
        assert found.quality["completeness"]["relative_gap"] < 1e-3
        assert torch.allclose(found.bands.sum(1), found.output - found.reference_output, atol=1e-5)
    assert found.map.shape == (2, 8, 8) and found.values.shape == (2, 3, 8, 8)


def test_conductance_of_a_linear_network_is_weight_times_activation(linear):
    xt = noisy()
    found = attribute(linear, xt, 0.4, "x0-region", "layer-conductance", at="first", channel=CHANNEL, checks=[])
    hidden = linear.network.first(xt)
    basis = torch.eye(4 * 8 * 8).reshape(-1, 4, 8, 8)
    weights = linear.network.last(basis)[:, CHANNEL].mean((1, 2)).reshape(1, 4, 8, 8)
    assert torch.allclose(found.values, weights * hidden, atol=1e-5)
    assert torch.allclose(found.map.flatten(1).sum(1).double(), found.output, atol=1e-5)


def test_frequencies_of_a_linear_network_sum_to_the_difference(linear):
    found = attribute(linear, noisy(), 0.4, "x0-region", "frequency-ablation", checks=[])
    assert found.values.shape == (2, RINGS)
    assert torch.allclose(found.values.sum(1).double(), found.output - found.reference_output, atol=1e-5)


# Planted readouts --------------------------------------------------------------------------------------------------------


class Planted(nn.Module):
    """``second`` is the energy of what ``pick`` leaves of the picture; its mean is what a probe reads."""

    def __init__(self, pick, tokens=False):
        super().__init__()
        self.first, self.second, self.pick, self.tokens = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), pick, tokens
        if tokens:
            self.second = nn.Linear(3, 3)
        with torch.no_grad():
            for layer in (self.first, self.second):
                layer.bias.zero_()
                layer.weight.copy_(torch.eye(3).reshape(layer.weight.shape))

    def forward(self, xt, t):
        energy = self.pick(self.first(xt)).square()
        if not self.tokens:
            return self.second(energy)
        coarse = nn.functional.avg_pool2d(energy, 2)
        tokens = self.second(coarse.flatten(2).transpose(1, 2))  # (B, L, C)
        return nn.functional.interpolate(tokens.transpose(1, 2).unflatten(2, coarse.shape[2:]), scale_factor=2.0)


PATCH = (slice(10, 22), slice(5, 17))  # of 32 x 32, not where occlusion's squares begin
RING = 5


def patch_variance(h):
    kept = torch.zeros_like(h)
    kept[:, :, *PATCH] = 1.0
    mean = (h * kept).sum((2, 3), keepdim=True) / kept.sum((2, 3), keepdim=True)
    return (h - mean) * kept


def band_energy(h):
    return saliency.swap_rings(torch.zeros_like(h), h, [RING])


def planted(pick, tokens=False):
    network = Planted(pick, tokens).requires_grad_(False)
    return Denoiser(network, SCHEDULES["flow"], "velocity", (3, 32, 32), "planted"), readout("second", [1.0, 1.0, 1.0])


@pytest.mark.parametrize("baseline", ["zero", "matched-noise"])
@pytest.mark.parametrize("tokens", [False, True], ids=["images", "tokens"])
@pytest.mark.parametrize("method", PIXELS + LAYERS)
def test_the_variance_of_one_patch_is_found_there(method, tokens, baseline):
    denoiser, clock = planted(patch_variance, tokens)
    found = attribute(denoiser, noisy(side=32), 0.5, method=method, probe_set=clock, baseline=baseline, checks=[])
    size = found.values.abs().sum(1) if found.domain == "pixels" else found.map.abs()
    share = size[:, *PATCH].sum((1, 2)) / size.sum((1, 2))
    assert share.min() >= 0.8, f"{method} puts {share.tolist()} there"


@pytest.mark.parametrize("baseline", ["zero", "matched-noise"])
@pytest.mark.parametrize("method", BANDS)
def test_the_energy_of_one_band_is_found_there(method, baseline):
    denoiser, clock = planted(band_energy)
    found = attribute(denoiser, noisy(side=32), 0.5, method=method, probe_set=clock, baseline=baseline, checks=[])
    assert found.band_shares[:, RING].min() >= 0.8, found.band_shares
    assert torch.allclose(found.band_shares.sum(1), torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("method", [name for name in SALIENCY if name not in BANDS])
def test_methods_that_cannot_tell_bands_say_nothing_of_them(method):
    denoiser, clock = planted(band_energy)
    found = attribute(denoiser, noisy(side=32), 0.5, method=method, probe_set=clock, checks=[])
    assert found.bands is None and found.band_shares is None


def test_gradcam_refuses_a_layer_of_which_it_sees_nothing():
    denoiser, clock = planted(patch_variance)
    with pytest.raises(ValueError, match=r"layer-gradcam is not available at first: it uses .* of the gradient"):
        attribute(denoiser, noisy(side=32), 0.5, method="layer-gradcam", at="first", probe_set=clock, checks=[])


# Shipped models ----------------------------------------------------------------------------------------------------------


def shipped(name, t, count=1):
    denoiser = zoo.load(name, "float32")
    x0 = to_float(load_images("bank:celeba", 32, "all")[:count])
    xt = (1 - t) * x0 + t * keyed_noise(range(count), denoiser.shape)  # the pairs below are on the straight path
    return denoiser, probes.load(name), xt, x0


SHIPPED = ("celeba32-unet-velocity-none", "celeba32-unet-velocity-timestep", "celeba32-dit4-velocity-none")


@pytest.mark.parametrize("t", [0.15, 0.7])
@pytest.mark.parametrize("name", SHIPPED)
def test_integrated_gradients_are_complete_on_shipped_models(name, t):
    denoiser, clock, xt, _ = shipped(name, t)
    for target, layer in (("implied-clock", None), ("noise-norm", None)):
        found = attribute(denoiser, xt, t, target, probe_set=clock, layer=layer, checks=["completeness"])
        assert found.quality["completeness"]["relative_gap"] <= 0.01
        assert found.notes == ()
        total = found.values.double().sum().item()
        assert total == pytest.approx((found.output - found.reference_output).item(), rel=0.01)


@pytest.mark.parametrize("name", SHIPPED[::2])
def test_conductance_of_the_layer_that_is_read_is_nearly_complete(name):
    denoiser, clock, xt, _ = shipped(name, 0.5)
    found = attribute(denoiser, xt, 0.5, method="layer-conductance", probe_set=clock, checks=["completeness"])
    assert found.at == clock.best[0] and found.quality["completeness"]["share"] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    "method", ["saliency", "input-x-gradient", pytest.param("integrated-gradients", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", SHIPPED[::2])
def test_maps_of_shipped_models_change_with_randomised_parameters(name, method):
    denoiser, clock, xt, _ = shipped(name, 0.5)
    found = attribute(denoiser, xt, 0.5, method=method, probe_set=clock, steps=16 if method.startswith("int") else None,
                      checks=["randomization"])  # fmt: skip
    check = found.quality["randomization"]
    assert check["passes"] and abs(check["rank_correlation"]) < 0.3 and abs(check["of_sizes"]) < 0.3


def test_a_map_that_no_parameter_changes_fails_the_check():
    denoiser, clock = planted(patch_variance)  # the patch is there whatever the parameters
    found = attribute(denoiser, noisy(1, side=32), 0.5, method="saliency", probe_set=clock, checks=["randomization"])
    assert found.quality["randomization"]["of_sizes"] > 0.3 and not found.quality["randomization"]["passes"]
    assert any("fails the check" in note for note in found.notes)


# Every method on every architecture ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("method", SALIENCY)
def test_every_method_on_every_architecture(tiny, method, target):
    denoiser, clock = tiny
    assert saliency.offered(denoiser)[method] == ""
    xt = noisy()
    at = None
    if SALIENCY[method].domain == "layer":
        at = "down.0.block.0" if "down.0.block.0" in clock.layers() else "block.0"
    try:
        found = attribute(
            denoiser, xt, 0.6, target, method, probe_set=clock, layer=clock.layers()[-3], x0=to_float(pictures(2)), at=at,
            checks=["completeness"],
        )  # fmt: skip
    except ValueError as error:
        assert method == "layer-gradcam" and "it uses the gradient's mean over positions" in str(error)
        return
    assert found.map.isfinite().all() and found.map.abs().sum() > 0 and found.map.shape == (2, 8, 8)
    if method == "integrated-gradients":
        assert found.quality["completeness"]["relative_gap"] <= 0.01
    assert json.loads(json.dumps(found.to_json()))["method"] == method
    # Alone or in a batch, a picture's map is its own (SmoothGrad's noise and the steps are drawn for the batch).
    if method not in ("smoothgrad", "integrated-gradients") and target != "loss":
        alone = attribute(denoiser, xt[:1], 0.6, target, method, probe_set=clock, layer=clock.layers()[-3], at=at, checks=[])
        assert torch.allclose(alone.values, found.values[:1], atol=1e-4 * found.values.abs().max().item())


def test_what_is_never_on_offer_is_said_in_words(tiny):
    denoiser, clock = tiny
    for name, why in NEVER_OFFERED.items():
        assert saliency.offered(denoiser)[name] == why
        with pytest.raises(ValueError, match=f"{name} is not available: captum"):
            attribute(denoiser, noisy(), 0.5, method=name, probe_set=clock)
    assert all(saliency.layers_for(denoiser, name) for name in LAYERS)
    assert saliency.layers_for(denoiser, "saliency") == []


def test_a_network_without_gradients_is_offered_what_needs_none():
    class Frozen(Linear):
        def forward(self, xt, t):
            with torch.no_grad():
                return super().forward(xt, t)

    denoiser = Denoiser(Frozen().requires_grad_(False), SCHEDULES["flow"], "x0", (3, 8, 8), "frozen")
    offered = saliency.offered(denoiser)
    assert [name for name in SALIENCY if not offered[name]] == ["occlusion", "frequency-ablation"]
    with pytest.raises(ValueError, match="saliency is not available for frozen: the network's output has no gradient"):
        attribute(denoiser, noisy(), 0.5, "x0-region", "saliency")


def test_tokens_without_a_grid_are_not_offered():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.ModuleList([nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))])

        def forward(self, xt, t):
            tokens = torch.cat([xt.mean((2, 3))[:, None], xt.flatten(2).transpose(1, 2)], 1)  # with one more than pixels
            return self.block[0](tokens)[:, 1:].transpose(1, 2).unflatten(2, xt.shape[2:])

    denoiser = Denoiser(Odd().requires_grad_(False), SCHEDULES["flow"], "x0", (3, 8, 8), "odd")
    offered = saliency.offered(denoiser)
    assert {name for name in SALIENCY if offered[name]} == set(LAYERS)
    assert all("grid" in offered[name] for name in LAYERS)


def test_nothing_is_left_on_the_model_and_repeats_are_the_same(tiny):
    denoiser, clock = tiny
    xt = noisy()
    before = denoiser.output(xt, 0.5)
    first, second = (attribute(denoiser, xt, 0.5, method="smoothgrad", probe_set=clock, seed=3, checks=[]) for _ in range(2))
    assert torch.equal(first.values, second.values)
    assert torch.equal(denoiser.output(xt, 0.5), before)
    assert sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in denoiser.modules()) == 0


def test_readable_features_are_those_of_the_probes():
    activation = noisy(3) @ torch.randn(8, 8)
    for shown in (activation, activation.flatten(2).transpose(1, 2)):
        for view in ("mean", "mean_std", "log_std"):
            assert torch.allclose(saliency.targets._features(shown, view), VIEWS[view](shown), atol=1e-5)
    flat = torch.ones(1, 3, 8, 8, requires_grad=True)
    saliency.targets._features(flat, "mean_std").sum().backward()
    assert flat.grad.isfinite().all()  # a spread of 0 has no slope of its own


# Quality -----------------------------------------------------------------------------------------------------------------


def test_deletion_and_insertion_begin_and_end_where_they_should(tiny):
    denoiser, clock = tiny
    xt, t = noisy(1), 0.5
    curve = attribute(denoiser, xt, t, method="saliency", probe_set=clock, checks=["curves"]).quality["curves"]
    subject = saliency.Subject(denoiser, t, probe_set=clock)
    told, known = torch.tensor([t]), torch.empty(1, 0)
    refilled = [saliency.targets.matched_noise(xt, 0.5, 1 + k) for k in range(saliency.checks.REFILLS)]
    whole = subject.values(xt, told, known)
    gone = torch.cat([subject.values(one, told, known) for one in refilled])
    for ends, value in (
        (("deletion", 0), whole),
        (("insertion", -1), whole),
        (("deletion", -1), gone),
        (("insertion", 0), gone),
    ):
        assert curve[ends[0]][ends[1]] == pytest.approx(value.mean().item(), rel=1e-4, abs=1e-5)
    assert len(curve["deletion"]) == len(curve["fractions"]) == len(curve["insertion_random"])


def test_deleting_the_patch_that_is_read_changes_more_than_deleting_at_random():
    denoiser, clock = planted(patch_variance)
    xt = noisy(1, side=32)
    xt[:, :, *PATCH] *= 3
    curve = attribute(denoiser, xt, 0.5, probe_set=clock, checks=["curves"]).quality["curves"]
    assert curve["deletion_area"] > 1.3 * curve["deletion_random_area"]
    assert curve["insertion_area"] < 0.7 * curve["insertion_random_area"]


def test_the_refill_keeps_the_noise_level():
    x0 = to_float(pictures(4, 32))
    sigma = 0.4
    xt = 0.6 * x0 + sigma * noisy(4, 32)
    other = saliency.targets.matched_noise(xt, sigma, 7)
    assert torch.allclose(other.mean((2, 3)), xt.mean((2, 3)), atol=0.1)
    assert (other - xt.mean((2, 3), keepdim=True)).std().item() == pytest.approx(sigma, rel=0.05)
    assert not torch.allclose(other, saliency.targets.matched_noise(xt, sigma, 8))


# Frequencies -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [7, 8, 32])
def test_bands_against_numpy(side):
    values = np.random.default_rng(0).standard_normal((2, 3, side, side))
    power = np.abs(np.fft.fft2(values, norm="ortho")) ** 2
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None])
    ring = np.minimum((radius / 0.5 * RINGS).astype(int), RINGS - 1)
    expected = np.stack([power[:, :, ring == k].sum((1, 2)) for k in range(RINGS)], 1)
    half = torch.fft.rfft2(torch.from_numpy(values), norm="ortho").abs().square()
    found = saliency.by_ring(half, side)
    assert np.allclose(found.numpy(), expected)
    assert found.sum(1).tolist() == pytest.approx((values**2).sum((1, 2, 3)).tolist())
    one, other = torch.from_numpy(values).split(1)
    low, high = saliency.swap_rings(one, other, range(4, RINGS)), saliency.swap_rings(one, other, range(4))
    assert torch.allclose(low + high, one + other)
    assert torch.allclose(saliency.swap_rings(one, other, range(RINGS)), other)


# What comes through the clock ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["unet", "dit"])
def test_the_clock_of_a_network_that_hears_nothing_is_zero_by_definition(architecture):
    for conditioning, blocks in (("none", 0), ("constant", 1)):
        denoiser = zoo.tiny(architecture, conditioning)
        found = routes(denoiser, noisy(), 0.5)
        assert found.given_t.tolist() == [0.0, 0.0] and "by definition" in found.note
        assert torch.allclose(found.image, found.output - found.reference_output)
        assert (len(found.blocks) > 0) == bool(blocks) and all(part.abs().sum() == 0 for part in found.blocks.values())


@pytest.mark.parametrize("prediction", ["velocity", "eps", "x0"])
@pytest.mark.parametrize("architecture", ["unet", "dit"])
def test_clock_and_picture_sum_to_the_difference_with_the_outputs_t_held_fixed(architecture, prediction):
    denoiser, xt, t = zoo.tiny(architecture, "timestep", prediction), noisy(), 0.7

    def norm(model, pictures):
        return model.eps_hat(pictures, t).double().flatten(1).square().mean(1).sqrt()

    for given in (None, 0.2):
        found = routes(denoiser, xt, t, given=given, baseline="zero")
        lied = denoiser if given is None else shifted(denoiser, given - t)
        assert torch.allclose(found.output, norm(lied, xt), atol=1e-5)
        assert found.relative_gap <= 0.01
        difference = found.output - found.reference_output
        assert ((found.given_t + found.image - difference).abs() <= 0.0101 * difference.abs()).all()
        assert torch.allclose(torch.stack(list(found.blocks.values())).sum(0), found.given_t)
        assert found.given_t.abs().min() > 0
    assert json.loads(json.dumps(found.to_json()))["blocks"].keys() == found.blocks.keys()


class Told(nn.Module):
    """Adds 2 t to a picture, by no layer of this project."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1)

    def forward(self, xt, t):
        return xt + 2 * t.reshape(-1, 1, 1, 1) + 0 * self.first(xt)


def test_time_that_enters_otherwise_is_told_apart_by_exchange():
    denoiser = Denoiser(Told().requires_grad_(False), SCHEDULES["flow"], "x0", (3, 8, 8), "told")
    xt = noisy()
    found = routes(denoiser, xt, 0.9, "x0-region", baseline="zero")
    assert found.given_t.tolist() == pytest.approx([2 * (0.9 - 0.5)] * 2, rel=1e-5)  # 0.5: the average of all t
    assert found.image.tolist() == pytest.approx(xt.mean((1, 2, 3)).tolist(), rel=1e-4, abs=1e-6)
    assert found.blocks == {} and "no block" in found.note


def test_what_the_clock_adds_shows_in_the_implied_clock_too(tiny):
    denoiser, clock = tiny
    found = routes(denoiser, noisy(), 0.5, "implied-clock", probe_set=clock, layer=clock.layers()[2], baseline="zero")
    names = {name.removesuffix(".0") for name in found.blocks}
    later = clock.layers()[-1]
    assert later not in names  # blocks after the one that is read have no part in it
    assert found.relative_gap <= 0.01 or "not complete" in found.note


# Mistakes, pictures, the command line ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "salience"}, "unknown method 'salience'; did you mean saliency"),
        ({"target": "clock"}, "unknown target 'clock'; "),
        ({"baseline": "black"}, "unknown baseline 'black'; choose from zero, blurred, matched-noise"),
        ({"steps": 1}, "steps must be a whole number from 2 to 512, got 1"),
        ({"t": 1.5}, "t must be a number from 0 to 1, got 1.5"),
        ({"given": 2.0}, "given must be from 0 to 1"),
        ({"target": "loss"}, "the target loss needs x0"),
        ({"target": "x0-region", "box": (0, 0, 9, 1)}, "box must be .* within 8 x 8 pixels"),
        ({"target": "x0-region", "channel": 3}, "channel must be a whole number from 0 to 2, got 3"),
        ({"at": "block.0"}, "at is only for layer methods"),
        ({"method": "layer-gradcam", "at": "nowhere"}, "unknown layer 'nowhere'"),
        ({"method": "layer-gradcam", "at": "head"}, "head comes after the probed layer block.0"),
        ({"layer": "nowhere"}, "unknown layer 'nowhere'"),
        ({"probe_set": None}, "the target implied-clock needs the model's probes"),
        ({"window": 9}, "window, in pixels, must be a whole number from 1 to 8"),
        ({"checks": ["all"]}, "unknown check 'all'; choose from completeness, curves, randomization"),
    ],
)  # fmt: skip
def test_mistakes_are_said_in_words(change, message):
    denoiser = zoo.tiny("dit", "none")
    clock = readout("block.0", [1.0] * 32)
    settings = {"t": 0.5, "probe_set": clock, "checks": [], **change}
    with pytest.raises(ValueError, match=message):
        attribute(denoiser, noisy(), **settings)
    with pytest.raises(ValueError, match="xt must be"):
        attribute(denoiser, noisy(side=16), 0.5, probe_set=clock)


def test_two_maps_share_one_scale():
    small, large = torch.full((1, 8, 8), 0.1), torch.full((1, 8, 8), -1.0)
    limit = saliency.scale_of([small, large])
    assert limit == pytest.approx(1.0)
    pale, full = (saliency.overlay(torch.full((1, 3, 8, 8), 128, dtype=torch.uint8), one, limit) for one in (small, large))
    assert pale.shape == (1, 3, 8, 8) and pale.dtype == torch.uint8
    assert (full[0, :, 0, 0].int() - torch.tensor(saliency.maps.NEGATIVE)).abs().max() < 12
    assert (pale[0, :, 0, 0].int() - 167).abs().max() < 16  # nearly the pale picture
    assert saliency.scale_of([torch.zeros(1, 8, 8)]) == 1.0


def test_figures_hold_members_to_one_scale_and_their_colors():
    maps = [torch.randn(8, 8, generator=torch.Generator().manual_seed(k)).mul(10**k).tolist() for k in range(2)]
    grey = torch.zeros(8, 8, 3, dtype=torch.uint8).tolist()
    figure = figures.saliency_maps([grey, grey], maps, ["told", "never told"], 7.0)
    told, untold = [trace for trace in figure.data if trace.type == "heatmap"]
    assert (told.zmin, told.zmax) == (untold.zmin, untold.zmax) == (-7.0, 7.0)
    assert [trace.showscale for trace in (told, untold)] == [False, True] and told.colorscale == untold.colorscale
    assert [note.font.color for note in figure.layout.annotations] == [figures.CONDITIONED, figures.TIME_AGNOSTIC]
    size = figures.saliency_maps([grey], maps[:1], ["told"], 7.0, signed=False).data[1]
    assert size.zmin == 0 and size.zmax == 7


def test_the_command_writes_both_members_of_a_pair_on_one_scale(tmp_path, capsys):
    arguments = ["saliency", "celeba32-unet-velocity", "--image", "bank:celeba", "--index", "3", "--t", "0.5", "--seed", "2",
                 "--method", "input-x-gradient", "--steps", "8", "--no-checks", "--out", str(tmp_path)]  # fmt: skip
    assert main(arguments) == 0
    record = json.loads((tmp_path / "saliency.json").read_text())
    assert [one["model"] for one in record["members"]] == zoo.pairs()["celeba32-unet-velocity"]
    assert len({one["layer"] for one in record["members"]}) == 1
    assert record["members"][1]["routes"]["given_t"] == [0.0]
    arrays = np.load(tmp_path / "saliency.npz")
    maps = [torch.from_numpy(arrays[f"map_{k}"]) for k in range(2)]
    assert record["scale"] == pytest.approx(saliency.scale_of(maps), rel=1e-6)
    alone = attribute(
        zoo.load("celeba32-unet-velocity-none", "float32"), torch.from_numpy(arrays["xt_1"]), 0.5, method="input-x-gradient",
        probe_set=probes.load("celeba32-unet-velocity-none"), checks=[],
    )  # fmt: skip
    assert torch.allclose(alone.map, maps[1], atol=1e-6)
    assert (tmp_path / "saliency.png").stat().st_size > 1000
    page = (tmp_path / "saliency.html").read_text()
    assert page.count("plotly-graph-div") >= 2 and "http://cdn" not in page
    assert not list(tmp_path.glob(".*"))
    assert "through the t input" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "lrp"], "lrp is not available: captum has no propagation rule"),
        (["--image", "no-such-file.png"], "no data at 'no-such-file.png'"),
        (["--index", "512"], "index must be from 0 to 511"),
        (["--t", "2"], "t must be above 0 and at most 1, got 2"),
        (["--target", "x0-region", "--box", "1,2,3"], "box must be four whole numbers"),
    ],
)
def test_mistakes_on_the_command_line_give_one_line(arguments, message, tmp_path, capsys):
    assert main(["saliency", "celeba32-unet-velocity-none", "--out", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert error.splitlines()[-1].startswith("error: ") and message in error
    assert not (tmp_path / "out").exists()


def test_an_image_file_and_too_few_images(tmp_path, capsys):
    from PIL import Image

    path = tmp_path / "face.png"
    Image.fromarray(pictures(1, 40)[0].permute(1, 2, 0).numpy()).save(path)
    out = tmp_path / "out"
    arguments = ["saliency", "celeba32-dit4-velocity-none", "--image", str(path), "--method", "saliency", "--target", "loss"]
    assert main([*arguments, "--no-checks", "--out", str(out)]) == 0
    assert math.isfinite(json.loads((out / "saliency.json").read_text())["members"][0]["output"][0])
    assert main(["reading", "celeba32-dit4-velocity-none", "--data", "bank:celeba", "--images", "5", "--out", str(out)]) == 2
    assert "at least 10 images are needed" in capsys.readouterr().err
