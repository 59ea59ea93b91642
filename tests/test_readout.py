"""Where a model reads the noise level, on networks that read it where the test planted it."""

import json
import sys

import pytest
import torch
from test_saliency import LEVELS, band_energy, noisy, pictures, planted
from torch import nn

from explore import cards, figures, saliency, zoo
from explore.activations import statistics
from explore.cards.tables import environment
from explore.denoiser import Denoiser
from explore.experiments import Reading
from explore.probes import ProbeSet, RidgeProbe, atlas, target_values
from explore.saliency import RINGS, SALIENCY
from explore.saliency.readers import EDITS, NOT_SEPARABLE, READERS, conclude
from explore.saliency.readout import _Bench, _chosen, norm_or_high_pass, two_levels
from explore.schedules import SCHEDULES
from explore.statistics import Interval, poisson_weights

FLOW = SCHEDULES["flow"]


def test_textures_are_thirds_by_the_clean_picture():
    x0 = torch.zeros(1, 3, 32, 32)
    x0[..., 16:] = noisy(1, 32)[..., 16:]
    third = saliency.readout.textures(x0)
    counts = torch.bincount(third.flatten(), minlength=3).tolist()
    assert sum(counts) == 1024 and max(counts) - min(counts) <= 16
    assert (third[0, :, :16] < 2).all() and (third[0, :, 16:] > 0).all()
    flat = saliency.readout.texture_shares((third == 0).double(), third)
    assert flat.tolist() == [[1.0, 0.0, 0.0]]
    assert saliency.readout.texture_shares(torch.ones(1, 32, 32), third)[0].tolist() == pytest.approx([1 / 3] * 3)
    assert saliency.readout.textures(torch.rand(2, 3, 10, 10)).shape == (2, 10, 10)


# Norm, high-pass or low-pass content --------------------------------------------------------------------------------------


def test_norm_and_high_pass_content_are_told_apart():
    images = pictures(12, 32)
    for pick, shares in ((lambda h: h, {"norm_patched": 1.0, "high_pass_patched_norm_kept": 0.0}),
                         (band_energy, {"high_pass_patched": 1.0, "low_pass_patched": 0.0})):  # fmt: skip
        denoiser, clock = planted(pick)
        bench = _Bench(denoiser, clock, images, (0.0,), 0, 8)
        for row in norm_or_high_pass(bench, {"probe_set": clock}):
            for name, share in shares.items():
                assert row.share[name].value == pytest.approx(share, abs=0.02)
                assert row.share[name].low <= row.share[name].value + 1e-6


SEEN = {"norm": range(RINGS), "high-pass": range(RINGS // 2, RINGS), "low-pass": range(RINGS // 2)}


class PureReader(nn.Module):
    """Its only layer knows the power of some bands of the image, and powers of its logarithm."""

    def __init__(self, bands):
        super().__init__()
        self.bands, self.layer, self.out = bands, nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 3, 1, bias=False)
        for layer in (self.layer, self.out):
            layer.weight = nn.Parameter(torch.eye(3).reshape(3, 3, 1, 1))

    def forward(self, xt, t):
        seen = saliency.swap_rings(torch.zeros_like(xt), xt, self.bands)
        power = seen.square().mean((1, 2, 3)).log()
        powers = torch.stack([power, power**2, power**3], 1)
        return self.out(self.layer(powers[:, :, None, None].expand_as(xt)))


def pure_reader(name, images, schedule=FLOW):
    """The network, and a probe of its layer that is fitted as those of other networks."""
    denoiser = Denoiser(PureReader(SEEN[name]).requires_grad_(False), schedule, "x0", (3, 32, 32), name)
    levels = tuple(range(-8, 9))
    sums = statistics(denoiser, images, ["layer"], levels=levels)["layer", "mean"]
    probe = RidgeProbe().fit(sums, target_values("logsnr", schedule, levels))
    probe_set = ProbeSet(name, "logsnr", schedule, levels, {("any", "layer", "mean"): probe}, ("layer", "mean"))
    return denoiser, probe_set


def rows_of(name, images, levels, schedule=FLOW):
    denoiser, probe_set = pure_reader(name, images, schedule)
    return norm_or_high_pass(_Bench(denoiser, probe_set, images, levels, 0, 32), {"probe_set": probe_set})


@pytest.mark.parametrize(
    ("name", "levels"), [("norm", (-6.0, -4.0, 0.0)), ("high-pass", (-6.0, -4.0, 0.0, 4.0)), ("low-pass", (6.0,))]
)
def test_a_network_that_is_a_pure_reader_is_named(name, levels):
    for row in rows_of(name, pictures(32, 32), levels):
        assert row.conclusion == name, (row.logsnr, row.other_logsnr)
        for other, found in row.readers.items():  # whatever function of the power they are
            own = found.share
            exact = {"norm": (1, 0, 0), "high-pass": (1, 0), "low-pass": (0, 1)}[other]
            edits = EDITS[::2] if other == "norm" else EDITS[1::2]
            assert [own[edit].value for edit in edits] == pytest.approx(exact, abs=1e-3)
        assert row.output_change.low <= row.output_change.value <= row.output_change.high
        if name == "norm":  # the output knows nothing else either
            assert [row.output[edit].value for edit in EDITS[::2]] == pytest.approx((1, 0, 0), abs=1e-3)


@pytest.mark.parametrize("name", READERS)
def test_a_pure_reader_is_never_taken_for_another(name):
    rows = rows_of(name, pictures(32, 32), (-2.0, 2.0)) + rows_of(name, pictures(32, 32), (-4.0, 4.0), SCHEDULES["ddpm-cosine"])
    assert {row.conclusion for row in rows} <= {name, NOT_SEPARABLE}


def test_rescaling_alone_cannot_tell_the_norm_from_the_high_pass_content_in_the_noise():
    [away, toward] = rows_of("high-pass", pictures(32, 32), (-4.0,))
    for row in (away, toward):
        assert row.share["norm_patched"].value > 0.9 and row.everything.value > 0.3  # and yet
        assert row.conclusion == "high-pass"


def test_readers_of_the_same_content_are_not_separable(monkeypatch):
    monkeypatch.setattr("explore.saliency.readers.high_pass", lambda bands: bands.sum(-1) / 2)  # all readers see the norm
    for row in rows_of("norm", pictures(32, 32), (-4.0, 0.0)):
        norm, high, low = (row.readers[name].share for name in READERS)
        assert all(high[edit].value == pytest.approx(norm[edit].value, abs=1e-2) == low[edit].value for edit in EDITS)
        assert row.conclusion == NOT_SEPARABLE


def shares(*values, half=0.05):
    return {edit: Interval(value, value - half, value + half) for edit, value in zip(EDITS, values, strict=True)}


def test_a_conclusion_needs_readers_that_differ_by_more_than_their_intervals():
    readers = {"norm": shares(1, 0.8, 0, 0.2, 0), "high-pass": shares(1, 1, 0.2, 0, -0.2), "low-pass": shares(1, 0, -1, 1, 1)}
    for name, own in readers.items():
        assert conclude(own, readers) == name
        wide = {edit: Interval(one.value, one.value - 1, one.value + 1) for edit, one in own.items()}
        assert conclude(wide, readers) == NOT_SEPARABLE  # any reader is inside the network's interval
        assert conclude(own, {**readers, name: wide}) == NOT_SEPARABLE
        assert conclude(own, {**readers, "high-pass": readers["norm"]}) == (name if name == "low-pass" else NOT_SEPARABLE)
    middle = shares(1, 0.9, 0.1, 0.1, -0.1, half=0.001)
    assert conclude(middle, readers) == NOT_SEPARABLE  # exactly half-way
    assert conclude(shares(0, 0, 0, 0, 0, half=0.001), readers) == NOT_SEPARABLE  # far from all


# Two noise levels in one image -------------------------------------------------------------------------------------------


WHITE = 100.0  # value of every clean pixel, so that each position shows its own noise level: alpha is about xt / WHITE


class Positional(nn.Module):
    """``early`` knows the level at every position, ``late`` its mean over the image; if ``pooled``, both know the mean."""

    def __init__(self, pooled):
        super().__init__()
        self.early, self.late, self.pooled = nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 3, 1, bias=False), pooled
        for layer in (self.early, self.late):
            layer.weight = nn.Parameter(torch.eye(3).reshape(3, 3, 1, 1))

    def forward(self, xt, t):
        alpha = (xt.mean(1, keepdim=True) / WHITE).clamp(1e-3, 1 - 1e-3)
        level = (2 * (alpha / (1 - alpha)).log()).expand_as(xt)
        pool = level.mean((2, 3), keepdim=True).expand_as(xt)
        early = self.early(pool if self.pooled else level)
        return self.late(early.mean((2, 3), keepdim=True).expand_as(xt))


def halves_of(pooled):
    denoiser = Denoiser(Positional(pooled).requires_grad_(False), FLOW, "velocity", (3, 16, 16), "positional")
    probes = {("any", layer, "mean"): RidgeProbe() for layer in ("early", "late")}
    probe_set = ProbeSet("positional", "logsnr", FLOW, LEVELS, probes, ("late", "mean"))
    found = two_levels(_Bench(denoiser, probe_set, torch.full((24, 3, 16, 16), WHITE), (0.0,), 0, 8))
    assert found.images == 24 and found.fitted_images == 19 and len(found.rows) == 6
    return found, {layer: [row for row in found.rows if row.layer == layer] for layer in ("early", "late")}


def is_chance(row):
    return row.error == pytest.approx(row.one_number, abs=0.05) and abs(row.contrast.value) < 0.02


def test_a_block_with_the_level_of_every_position_tells_two_levels_apart():
    found, rows = halves_of(pooled=False)
    for row in rows["early"]:
        assert row.error < 0.2 and row.contrast.value == pytest.approx(1, abs=0.05)
        assert row.error_interval.low <= row.error == row.error_interval.value <= row.error_interval.high
    assert all(is_chance(row) for row in rows["late"])
    assert found.best == "early" and [half.layer for half in found.halves] == ["early", "early"]
    assert all(half.error.value < 0.2 and half.contrast.value == pytest.approx(1, abs=0.05) for half in found.halves)


def test_one_pooled_number_does_not_tell_two_levels_apart_in_any_block():
    found, rows = halves_of(pooled=True)
    assert all(is_chance(row) for own in rows.values() for row in own)
    assert all(half.error.value == pytest.approx(2, abs=0.05) for half in found.halves)


def test_a_block_is_scored_on_images_that_did_not_choose_it():
    first = torch.arange(24) // 2 % 2 == 0
    lucky = torch.where(first, 1.0, 9.0)  # squared errors: good only on the first half
    scores = {"lucky": torch.stack([lucky, 1 / lucky]), "steady": torch.full((2, 24), 4.0)}
    one, other = _chosen(scores, poisson_weights(range(24)))
    assert (one.layer, one.chosen, one.error.value) == ("lucky", 1.0, 3.0)
    assert one.contrast.value == pytest.approx(1 / 9)
    assert (other.layer, other.chosen, other.error.value, other.contrast.value) == ("steady", 2.0, 2.0, 4.0)


# Whole results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        pytest.param("unet", {}, marks=pytest.mark.slow),
        ("dit", {}),
        pytest.param("dit", {"pixel_channels": 8}, marks=pytest.mark.slow),
    ],
    ids=["unet", "dit", "dit-pixels"],
)
def test_the_reading_of_a_model_can_be_written(architecture, options):
    denoiser = zoo.tiny(architecture, "timestep", **options)
    _, clock = atlas(denoiser, pictures(10), levels=LEVELS, controls=1)
    found = saliency.reading(
        denoiser, clock, pictures(20), levels=(-2.0, 2.0), steps=8, attributed=10, layer=clock.layers()[-2]
    )
    stored = json.loads(json.dumps(found.to_json()))
    assert saliency.ReadingResult.from_json(stored).to_json() == stored
    assert (stored["images"], stored["attributed"], found.two_levels.images) == (20, 10, 20)
    assert {one.n for row in found.norm_or_high_pass for one in row.share.values()} == {20}
    assert {row.high_pass.n for row in found.where} == {row.share.n for row in found.routes.rows} == {10}
    assert all(row.output is None and row.output_change is None for row in found.norm_or_high_pass)  # it gets the t
    assert {row.layer for row in found.two_levels.rows} == set(clock.layers())
    assert "NaN" not in json.dumps(stored)
    assert found.given.startswith("a t drawn independently") and found.conditioned
    assert {row.method for row in found.where} == set(saliency.READING_METHODS)
    for row in found.where:
        assert sum(band.value for band in row.bands) == pytest.approx(1)
        assert sum(part.value for part in row.texture.values()) == pytest.approx(1)
        assert all(part.low <= part.value <= part.high for part in row.texture.values())
    assert {row.method for row in found.checks} == set(SALIENCY)
    assert all(row.refused or row.passes is not None for row in found.checks)
    assert len(found.routes.rows) == 2
    # Figures of two members, on what one of them gave.
    both, titles = [found, found], ["conditioned", "time-agnostic"]
    for figure in (figures.reading_shares(both, titles), figures.band_shares(both, titles), figures.clock_shift(both, titles),
                   figures.two_levels(both, titles), figures.blocks_with_two_levels(both, titles),
                   figures.pure_readers(found, "told")):  # fmt: skip
        assert figure.layout.height >= 300 and len(figure.data) >= 4
    network, norm = figures.pure_readers(found, "told").data[:2]
    assert network.x == tuple(row.share["norm_patched"].value for row in found.norm_or_high_pass)
    assert norm.x == pytest.approx([1.0] * len(network.x), abs=1e-4) and list(network.y)[:2] == ["-2 to -4", "-2 to 0"]
    said = Reading(zoo.models()[0].name, data="celeba").summary(found)
    assert said.count("pure reader: high-pass") == 4 and "size of the output" not in said
    assert all(half.layer in said.splitlines()[-4 + number] for number, half in enumerate(found.two_levels.halves))
    stacked = figures.band_shares(both, titles)
    for level in range(2):
        assert sum(bar.y[level] for bar in stacked.data[:RINGS]) == pytest.approx(100)


def card(name, record, monkeypatch):
    """The model card with this record of the study."""
    tables, write = sys.modules["explore.cards.tables"], sys.modules["explore.cards.write"]
    stored, written = cards.metrics(name) | {"saliency": record}, []
    monkeypatch.setattr(tables, "metrics", lambda one: stored if one == name else cards.metrics(one))
    monkeypatch.setattr(
        write, "_write", lambda path, template, **values: written.append(environment().get_template(template).render(values))
    )
    cards.write_card(name, sampled=False)
    return written[0]


def without(value, names):
    """JSON without keys."""
    if isinstance(value, list):
        return [without(one, names) for one in value]
    return {key: without(one, names) for key, one in value.items() if key not in names} if isinstance(value, dict) else value


def test_cards_print_what_a_record_has(monkeypatch):
    name = "celeba32-dit4-velocity-none"
    old = cards.metrics(name)["saliency"]
    calibrated = ("norm_or_high_pass", "two_levels")
    missing = ("readers", "conclusion", "everything", "output", "output_change", "error_interval", "halves")
    old |= {part: without(old[part], missing) for part in calibrated}
    text = card(name, old, monkeypatch)
    firsts = {row["layer"]: row for row in reversed(old["two_levels"]["rows"])}
    assert len(firsts) > 5 and all(f"| {layer} | {row['error']:.2f} |" in text for layer, row in firsts.items())
    assert "Acts like" not in text and "Chosen on" not in text.split("## Saliency")[1]
    new = old | {
        "norm_or_high_pass": [row.to_json() for row in rows_of("high-pass", pictures(16, 32), (-4.0, 4.0))],
        "two_levels": halves_of(pooled=False)[0].to_json(),
    }
    text = card(name, new, monkeypatch).split("## Saliency")[1]
    assert text.count("| high-pass |") == 4 and text.count("1.00 / 0.00 / 0.00") == 4  # the norm reader, at each pair
    [chosen] = [line for line in text.splitlines() if line.startswith("| half 1 | early | 0.0")]
    assert chosen.count(" to ") == 2
    assert [line for line in text.splitlines() if line.startswith("| late | 2.00 (")]
