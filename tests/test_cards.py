"""Differences between members over training seeds: what counts, what is refused, and how it is told."""

import json
import sys

import pytest

from explore import cards, encoder, files, probes, zoo
from explore.__main__ import main
from explore.cards.tables import environment
from explore.interventions import InterventionResult, LossRow, Slope, SlopeRow
from explore.probes import BestBlock, Scored
from explore.statistics import Interval, Rank

SEEDS = (0, 1, 2)


def distances(fd, **changed):
    row = {"fd": fd, "kid": fd / 1000, "precision": 0.5, "recall": 0.4}
    return {
        "distance": "FD[cifar-resnet]", "features": "cifar-resnet", "reference": "toy", "split": "test", "count": 100,
        "reference_images": 50, "seeds": [0], "sampler": "euler", "steps": 4, "nfe": 4, "clock_offset": 0.0,
        "dtype": "float32", "hardware": "CPU", "command": "python -m explore evaluate", "per_seed": [{"seed": 0, **row}],
        **row, **changed,
    }  # fmt: skip


def folder(path, seed, fds, images=1000, learning_rate=1e-3):
    """A checkpoint folder of one pair, trained with ``seed``, whose members have the Fréchet distances ``fds``."""
    names = {member: f"toy-{member}" for member in fds}
    entries = [{"name": name, "pair": "toy", "size": 1, "sha256": f"{seed}{name}"} for name in names.values()]
    files.write_atomically(path / "index.json", json.dumps({"models": entries}))
    for member, name in names.items():
        training = {
            "pair": "toy", "seed": seed, "members": list(fds), "learning_rate": learning_rate, "sampler": {}, "batch_size": 4,
            "t_distribution": "uniform",
        }  # fmt: skip
        config = {
            "dataset": "toy", "resolution": 8, "architecture": "unet", "network": zoo.TINY["unet"],
            "time_conditioning": member, "prediction": "velocity", "schedule": "flow", "images_seen": images,
            "train_images": 10, "seconds": 1, "hardware": ["CPU"], "finished": True, "training": training,
        }  # fmt: skip
        files.write_atomically(path / name / "config.json", json.dumps(config))
        if fds[member] is not None:
            with zoo.using(path):
                cards.store(name, "distances-cifar-resnet", distances(fds[member]))
    return path


@pytest.fixture
def shipped(tmp_path):
    """The default zoo."""
    path = folder(tmp_path / "shipped", 0, {"timestep": 10.0, "none": 11.0})
    with zoo.using(path):
        yield path


def test_differences_over_training_seeds_have_students_interval(shipped, tmp_path):
    for seed, gap in ((1, 2.0), (2, 3.0)):
        assert cards.adopt(folder(tmp_path / str(seed), seed, {"timestep": 10.0, "none": 10.0 + gap}))
    found = cards.differences("toy-none")["fd"]
    assert found["seeds"] == [0, 1, 2] and found["values"] == pytest.approx([1.0, 2.0, 3.0])
    # Student's t of two degrees of freedom at 97.5 % is 4.30265; the standard error is 1 / sqrt(3).
    assert [found["low"], found["high"]] == pytest.approx([2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5], rel=1e-5)
    assert cards.differences("toy-timestep") == {}
    [told, untold] = cards.rows()
    assert told["training_seeds"] == [0, 1, 2] and told["differences"] == {} and told["fd"] == 10
    assert untold["differences"]["fd"] == found
    table = cards.tables()["differences"]
    assert "| toy-none | 3 | +2.00 (-0.48 to +4.48) |" in table and "toy-timestep" not in table


def test_one_training_seed_is_called_that(shipped):
    found = cards.differences("toy-none")["fd"]
    assert found["value"] == 1.0 and found["low"] is None and found["high"] is None
    assert "| toy-none | 1 | +1.00 |" in cards.tables()["differences"]


@pytest.mark.parametrize(
    "change", [{"count": 99}, {"seeds": [1]}, {"sampler": "heun"}, {"steps": 5}, {"reference": "other"}, {"eta": 1.0}]
)
def test_distances_measured_differently_are_not_subtracted(shipped, change):
    cards.store("toy-none", "distances-cifar-resnet", distances(11.0, **change))
    assert "fd" not in cards.differences("toy-none")


def test_seeds_measured_with_an_earlier_encoder_are_a_study_of_their_own(shipped, tmp_path):
    for seed, gap in ((0, 5.0), (1, 2.0), (2, 5.0)):
        other = folder(tmp_path / str(seed), seed, {"timestep": 10.0, "none": 10.0 + gap})
        with zoo.using(other):
            for name in ("toy-timestep", "toy-none"):
                fd = cards.metrics(name)["distances-cifar-resnet"]["fd"]
                cards.store(name, "distances-cifar-resnet", distances(fd, encoder_sha256="earlier"))
        if seed:
            cards.adopt(other)
        else:  # the shipped one, as it was measured then
            entries = {name: {"training": {}, "images_seen": 1000, "metrics": _stored(other, name)} for name in zoo.index()}
    assert cards.differences("toy-none", study=True)["fd"]["values"] == pytest.approx([2.0, 5.0])
    for name, entry in entries.items():
        path = shipped / name / "seeds.json"
        files.write_json(path, {"0": entry, **files.read_json(path)})
    assert cards.differences("toy-none")["fd"]["values"] == pytest.approx([1.0])
    assert cards.differences("toy-none", study=True)["fd"]["values"] == pytest.approx([5.0, 2.0, 5.0])
    assert cards.differences("toy-timestep", study=True) == {}
    assert list(cards.by_seed("toy-none")) == [0, 1, 2] and cards.by_seed("toy-none")[0] == cards.metrics("toy-none")
    tables = cards.tables()
    assert "| toy-none | 1 | +1.00 |" in tables["differences"] and "| toy-none | 3 | +4.00 (" in tables["study"]


def _stored(path, name):
    with zoo.using(path):
        return cards.metrics(name)


def test_a_study_of_one_seed_is_none(shipped, tmp_path):
    cards.adopt(folder(tmp_path / "other", 1, {"timestep": 10.0, "none": 12.0}))
    assert cards.differences("toy-none", study=True) == {} and "study" not in cards.tables()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": 0}, "has the training seed of the shipped one, 0"),
        ({"learning_rate": 2e-3}, "was trained by another recipe"),
        ({"images": 999}, "has images_seen 999, the shipped one 1000"),
        ({"fds": {"timestep": 10.0, "none": None}}, "toy-none in .* has no measurements"),
        ({"fds": {"timestep": 10.0, "constant": 1.0}}, "unknown model .toy-constant."),
    ],
)
def test_what_cannot_be_adopted_leaves_everything_as_it_was(shipped, tmp_path, arguments, message):
    other = folder(tmp_path / "other", **{"seed": 1, "fds": {"timestep": 10.0, "none": 12.0}, **arguments})
    with pytest.raises(ValueError, match=message):
        cards.adopt(other)
    assert not list(shipped.glob("*/seeds.json"))


def test_the_command_adopts(shipped, tmp_path, capsys):
    other = folder(tmp_path / "other", 7, {"timestep": 10.0, "none": 12.0})
    config = files.read_json(other / "toy-none" / "config.json") | {"segments": [{"precision": "bfloat16"}]}
    files.write_atomically(other / "toy-none" / "config.json", json.dumps(config))
    assert main(["adopt", str(other)]) == 0
    assert "toy-none: measured with the training seeds 0, 7" in capsys.readouterr().out
    kept = files.read_json(shipped / "toy-none" / "seeds.json")["7"]
    assert kept["sha256"] == "7toy-none" and kept["training"]["seed"] == 7 and kept["images_seen"] == 1000
    assert kept["segments"] == [{"precision": "bfloat16"}]
    assert "segments" not in files.read_json(shipped / "toy-timestep" / "seeds.json")["7"]
    assert not list(shipped.glob("*/weights.safetensors"))
    assert main(["adopt", str(shipped)]) == 2
    assert capsys.readouterr().err.startswith("error: toy-timestep in ")
    assert main(["adopt", str(tmp_path / "nowhere")]) == 2


def test_other_seeds_count_only_while_the_recipe_is_the_same(shipped, tmp_path):
    cards.adopt(folder(tmp_path / "other", 1, {"timestep": 10.0, "none": 12.0}))
    assert list(cards.by_seed("toy-none")) == [0, 1]
    config = files.read_json(shipped / "toy-none" / "config.json")
    config["images_seen"] = 2000
    files.write_atomically(shipped / "toy-none" / "config.json", json.dumps(config))
    assert list(cards.by_seed("toy-none")) == [0]


def test_tables_without_a_line_are_left_out(tmp_path):
    with zoo.using(folder(tmp_path, 0, {"timestep": None, "none": None})):
        assert list(cards.tables()) == ["models"]


def test_yardsticks_belong_to_their_encoder(shipped):
    index = files.read_json(shipped / "index.json") | {"encoder": {"name": encoder.NAME, "size": 1, "sha256": "a"}}
    files.write_atomically(shipped / "index.json", json.dumps(index))
    row = {"images": "train", "count": 50, "fd": 1.5, "kid": 0.002, "precision": 0.9, "recall": 0.8}
    result = {"features": encoder.NAME, "distance": "FD[toy]", "data": "toy", "held_out": 50, "command": "x", "rows": [row]}
    cards.store_yardsticks(result)
    assert "| toy | train | FD[toy] | 1.50 | 2.00 | 0.900 | 0.800 | 50 / 50 |" in cards.tables()["yardsticks"]
    description = {
        "network": {"width": 8, "classes": 10}, "accuracy": 0.91, "test_images": 5, "train_images": 9, "hardware": "CPU",
        "seconds": 60, "training": {"epochs": 1, "learning_rate": 0.1, "batch_size": 2, "seed": 0, "width": 8},
    }  # fmt: skip
    files.write_atomically(shipped / encoder.NAME / "config.json", json.dumps(description))
    cards.write_encoder_card()
    card = (shipped / encoder.NAME / "README.md").read_text()
    assert "Accuracy 91.00% on 5 test images" in card and "| train | 50 | 1.50 | 2.00 | 0.900 | 0.800 |" in card
    index["encoder"]["sha256"] = "b"
    files.write_atomically(shipped / "index.json", json.dumps(index))
    assert cards.yardsticks() == {} and "yardsticks" not in cards.tables()


def test_the_atlas_is_told_in_the_table_and_counts_for_its_weights_only(shipped):
    def over(value, half):
        return Interval(value, value - half, value + half).to_json()

    def row(name, view, error, gain):
        return {
            "name": name, "view": view, "r2": 0.9, "error_by_region": {"near_the_data": error, "near_noise": 1.0},
            "error_over_yardstick_by_region": {"near_the_data": over(10 * error, error), "near_noise": over(1, 0)},
            "gain_by_region": gain and {"near_the_data": over(gain, 1), "near_noise": over(1, 0)},
        }  # fmt: skip

    layers = [row("a", "mean", 2.0, 1.5), row("b", "mean", 1.0, 3.0), row("input", "variance", 0.5, None)]
    record = {"sha256": "0toy-none", "images": 1234, "best": {"name": "b", "view": "mean"}, "layers": layers}
    files.write_atomically(shipped / "toy-none" / "atlas.json", json.dumps(record))
    expected = "| toy-none | b (mean) | 10.0 (9.0 to 11.0) | 1.0 (1.0 to 1.0) | 3.00 (2.00 to 4.00) | 5.0 (variance) | 1,234 |"
    assert expected in cards.tables()["clocks"]
    files.write_atomically(shipped / "toy-none" / "atlas.json", json.dumps(record | {"sha256": "other weights"}))
    assert "clocks" not in cards.tables()


def test_a_card_names_the_regimes_of_an_atlas_and_the_blocks_chosen_on_other_images(monkeypatch):
    name = "celeba32-unet-velocity-timestep"
    record = json.loads((zoo.folder(name) / "atlas.json").read_text())
    halves = tuple(Scored("stem", "mean", 40.0 + k, Interval(42.0 + k, 41.0, 44.0)) for k in range(2))
    block = BestBlock("near_the_data", halves, Interval(42.5, 41.0, 44.0), Interval(42.1, 40.0, 45.0), (85.0, 51.0), (2.0, 1.2))
    other = {"told": "fixed:0.05", "given": "0.05", "best_block": block.to_json()} | {
        key: record[key] for key in ("best", "layers")
    }
    stored = record | {"told": "random", "best_block": block.to_json(), "others": [other]}
    tables, write = sys.modules["explore.cards.tables"], sys.modules["explore.cards.write"]
    monkeypatch.setattr(tables, "atlas", lambda one: stored)
    written = []
    monkeypatch.setattr(
        write,
        "_write",
        lambda path, template, **values: written.append(environment().get_template(template).render(values)),
    )
    cards.write_card(name, sampled=False)
    best = f"{record['best']['name']} ({record['best']['view']})"
    numbers = "42.1 (40.0 to 45.0) | 40.0 | 42.0 (41.0 to 44.0) | 41.0 | 43.0 (41.0 to 44.0) | 1.60 (1.20 to 2.00) |"
    for told in ("random", "fixed:0.05"):
        assert f"| {told} | {best} | {numbers}" in written[0]
        assert f"beats every block of this network (told t: {told})" in written[0]
    [row] = [row for row in record["layers"] if {key: row[key] for key in ("name", "view")} == record["best"]]
    share = probes.bias_share(row, record["levels"], "near_the_data")
    assert share > 0.5 and f"squared bias is {share:.0%} of the squared error" in written[0]
    assert "2 random networks" in written[0]


def test_tables_are_filled_in_where_their_headers_stand(capsys, tmp_path):
    text = "Before.\n\n| A | B |\n| --- | --- |\n| old | 1 |\n| older | 2 |\n\nAfter, a | b.\n\n| C |\n| --- |\n"
    new = {"one": "| A | B |\n| --- | --- |\n| new | 3 |", "two": "| C |\n| --- |\n| 4 |\n| 5 |"}
    filled = "Before.\n\n| A | B |\n| --- | --- |\n| new | 3 |\n\nAfter, a | b.\n\n| C |\n| --- |\n| 4 |\n| 5 |\n"
    assert cards.fill(text, new) == filled == cards.fill(filled, new)
    with pytest.raises(ValueError, match="the header of the table of two must be there once, is 0 times"):
        cards.fill(text.replace("| C |", ""), new)
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    assert main(["table", "--fill", str(page)]) == 2 and page.read_text() == "nothing\n"
    assert "must be there once" in capsys.readouterr().err


def test_loss_gaps_are_relative_to_the_conditioned_model(shipped):
    loss = {"conditioned": 0.5, "difference": {"value": 0.06, "low": 0.05, "high": 0.07}}
    rows = [{"split": split, "t": 0.025, "loss": loss} for split in ("train", "test")]
    for name in ("toy-timestep", "toy-none"):
        cards.store(name, "losses", {"members": ["toy-timestep", "toy-none"], "rows": rows})
    [gap] = cards.differences("toy-none")["losses"]
    assert gap["value"] == pytest.approx(0.12) and gap["t"] == 0.025 and gap["seeds"] == [0]
    assert "| toy-none | 1 | +12.0% |" in cards.tables()["losses"]


def test_a_card_shows_steering_against_its_controls(monkeypatch):
    """A record of today, and one from before there were several kinds of control."""
    name = "celeba32-unet-velocity-none"
    tables, write = sys.modules["explore.cards.tables"], sys.modules["explore.cards.write"]
    stored, rank = cards.metrics(name), Rank(0.4, 100, 0.1, 0.2, 1 / 101)
    slope = {"slope": Interval(0.5, 0.4, 0.6), "monotonic": True, "ranks": {"covariance": rank, "shuffled": rank}}
    told = Slope(**slope, used=True, told=Interval(1, 1, 1), of_told=Interval(0.25, 0.2, 0.3))
    rows = (SlopeRow(4.0, {"up": told, "predicted_noise": Slope(**slope, used=False)}),)
    loss = tuple(
        LossRow(0.025, 7.3, dose, Interval(dose / 10, dose / 10, dose / 10), {"covariance": rank, "shuffled": rank})
        for dose in (-2.0, 2.0)
    )
    settings = (name, "mid", "steer", "pattern", "logsnr", 64, 0, [4.0], [-2.0, 2.0], 100, ["up"], 1.0)
    result = InterventionResult(
        *settings, (), rows, data="words", loss=loss, control_images=8, partner="the partner", alignment={"covariance": 0.5}
    )
    written = []
    monkeypatch.setattr(
        write,
        "_write",
        lambda path, template, **values: written.append(environment().get_template(template).render(values)),
    )
    for record in (result.to_json() | {"command": "a command"}, OLD_STEERING):
        monkeypatch.setattr(tables, "metrics", lambda one, record=record: stored | {"steer": record})
        cards.write_card(name, sampled=False)
    assert "| True log SNR | Block | Slope | Of told | p, covariance | p, shuffled | Used | Monotonic |\n" in written[0]
    assert "| 4 | up | 0.500 (0.400 to 0.600) | 0.25 (0.20 to 0.30) | 0.010 | 0.010 | yes | yes |\n" in written[0]
    assert "| 4 | predicted noise | 0.500 (0.400 to 0.600) | | 0.010 | 0.010 | no | yes |\n" in written[0]
    assert "| t | Dose -2 | Dose +2 | Covariance | Shuffled |\n| --- | --- | --- | --- | --- |\n" in written[0]
    assert "| 0.025 | -20.0% (-20.0% to -20.0%) | +20.0% (+20.0% to +20.0%) | +10.0%, +20.0% | +10.0%, +20.0% |\n" in written[0]
    assert "cosine\nwith it is\n0.50 (covariance).\n" in written[0]
    assert "100 of each kind, on 8 of the images" in written[0] and "that of `the partner` per unit" in written[0]
    assert "| 4 | up | 0.500 (0.400 to 0.600) | 0.700 | yes |\n" in written[1] and "2 random directions" in written[1]


OLD_STEERING = {
    "layer": "mid", "direction": "pattern", "images": 64, "data": "words", "doses": [-2.0, 2.0], "controls": 2,
    "later": ["up"], "command": "a command",
    "slopes": [
        {
            "logsnr": 4.0,
            "quantities": {
                name: {
                    "slope": {"value": 0.5, "low": 0.4, "high": 0.6, "over": "images"}, "control": [0.1, -0.7],
                    "monotonic": True, "larger_than_every_control": False,
                }
                for name in ("up", "predicted_noise")
            },
        }
    ],
}  # fmt: skip


def measured(path, gaps, half=None):
    """Stores denoising errors with the relative differences ``gaps`` by t, and with ``half`` losses on both sides of each t.

    The half widths of their intervals are ``half`` - .01 and ``half`` + .01.
    """
    with zoo.using(path):
        for name, worse in (("toy-timestep", 0), ("toy-none", 1)):
            rows = [{"t": t, "mse": 0.5 * (1 + worse * gap)} for t, gap in gaps.items()]
            cards.store(name, "denoising", {"data": "toy", "images": 8, "seed": 0, "rows": rows})
            if half is None:
                continue
            intervals = [
                (t + offset, Interval(gap, gap - width, gap + width).to_json())
                for t, gap in gaps.items()
                for offset, width in ((-0.025, half - 0.01), (0.025, half + 0.01))
            ]
            rows = [{"split": "test", "t": t, "loss": {"conditioned": 0.5}, "relative": gap} for t, gap in intervals]
            cards.store(name, "losses", {"members": ["toy-timestep", "toy-none"], "noise_draws": 4, "rows": rows})
    return path


@pytest.mark.parametrize("half", [None, 0.03])
def test_differences_of_errors_are_also_over_images_and_noise_where_these_are_known(shipped, tmp_path, half):
    measured(shipped, {0.25: 0.02}, half)
    assert cards.differences("toy-none")["denoising t=0.25"]["low"] is None  # one training seed
    for seed, gap in ((1, 0.04), (2, 0.06)):
        cards.adopt(measured(folder(tmp_path / str(seed), seed, {"timestep": 10.0, "none": 11.0}), {0.25: gap}, half))
    found = cards.differences("toy-none")
    error, seeds = found["denoising t=0.25"], 4.30265 * 0.02 / 3**0.5
    shared = half or 0.0  # the mean of the two losses that are equally near
    assert error["values"] == pytest.approx([0.02, 0.04, 0.06])
    assert error["high"] - error["value"] == pytest.approx((seeds**2 + shared**2) ** 0.5, rel=1e-5)
    assert error["over"] == ("training seeds" if half is None else "training seeds, images and noise")
    assert found["fd"]["over"] == "training seeds" and ("losses" in found) == (half is not None)
    if half is not None:
        assert [row["t"] for row in found["losses"]] == [0.225, 0.275]
        assert found["losses"][0]["high"] - 0.04 == pytest.approx((seeds**2 + 0.02**2) ** 0.5, rel=1e-5)


def test_members_with_other_noise_draws_are_not_subtracted(shipped):
    measured(shipped, {0.25: 0.02})
    assert "denoising t=0.25" in cards.differences("toy-none")
    stored = cards.metrics("toy-none")["denoising"]
    for draws, compared in ((1, True), (4, False)):  # a record without the field has one
        cards.store("toy-none", "denoising", {**stored, "noise_draws": draws})
        assert ("denoising t=0.25" in cards.differences("toy-none")) == compared


def test_a_seed_measured_with_other_noise_does_not_count(shipped, tmp_path):
    measured(shipped, {0.25: 0.02}, 0.03)
    cards.adopt(measured(folder(tmp_path / "1", 1, {"timestep": 10.0, "none": 11.0}), {0.25: 0.04}, 0.03))
    found = cards.differences("toy-none")
    assert found["denoising t=0.25"]["seeds"] == [0, 1] == found["losses"][0]["seeds"]
    for name in ("toy-timestep", "toy-none"):
        for kind in ("denoising", "losses"):
            if kind in cards.metrics(name):
                cards.store(name, kind, {**cards.metrics(name)[kind], "noise_draws": 2})
    found = cards.differences("toy-none")
    assert found["denoising t=0.25"]["seeds"] == [0] == found["losses"][0]["seeds"]
    assert found["fd"]["seeds"] == [0, 1]


def test_losses_at_other_t_in_some_seeds_are_not_mixed_up(shipped, tmp_path):
    measured(shipped, {0.25: 0.02, 0.5: 0.01}, 0.03)
    cards.adopt(measured(folder(tmp_path / "1", 1, {"timestep": 10.0, "none": 11.0}), {0.5: 0.03}, 0.03))
    found = {round(row["t"], 3): row["values"] for row in cards.differences("toy-none")["losses"]}
    assert found == {0.225: [0.02], 0.275: [0.02], 0.475: [0.01, 0.03], 0.525: [0.01, 0.03]}


@pytest.mark.parametrize(
    ("draws", "said", "over"),
    [
        ({}, "one noise draw each", "images, one noise draw each"),
        ({"noise_draws": 4}, "4 noise draws each", "images and noise draws"),
    ],
)
def test_cards_say_what_intervals_of_losses_and_errors_are_over(shipped, draws, said, over):
    interval = Interval(0.12, 0.1, 0.14, over).to_json()
    relative = {"relative": interval} if draws else {}
    error = {"t": 0.5, "logsnr": 0.0, "mse": 0.12, "wiener": 0.24, "wins": 1.0}
    error |= {"error": interval, "relative": Interval(-0.5, -0.6, -0.4, over).to_json()} if draws else {}
    loss = {"conditioned": 0.5, "time_agnostic": 0.56, "difference": {"value": 0.06, "low": 0.05, "high": 0.07}}
    rows = [{"split": split, "t": 0.025, "loss": loss, "width": 0.1, **relative} for split in ("train", "test")]
    record = {"images": {"train": 8, "test": 8}, "prior": "toy", "command": "x", "rows": rows, **draws}
    row = {"t": 0.5, "way": "one step", "ssim": loss, "psnr": loss}
    for name in ("toy-timestep", "toy-none"):
        members = {"members": ["toy-timestep", "toy-none"]}
        cards.store(name, "losses", record | members)
        cards.store(name, "denoising", {"images": 8, "train_images": 9, "seed": 0, "command": "x", "rows": [error], **draws})
        cards.store(name, "fidelity", {"images": 8, "command": "x", "rows": [row], **members})
    (shipped / "toy-none" / "samples.png").touch()
    cards.write_card("toy-none", sampled=False)
    text = (shipped / "toy-none" / "README.md").read_text()
    assert f"8 held-out images, {said}, with seeds from 0" in text and f"8 held-out images, {said}, with the same noise" in text
    assert f"Intervals are 95 % over {over}, for one training seed." in text
    assert "with a 95 % interval over images, one noise draw each, for one training seed" in text  # fidelity has one
    assert ("+12.0% (+10.0% to +14.0%) | 0.1000 |" if draws else "+12.0% | 0.1000 |") in text
    assert ("| 0.12000 (0.10000 to 0.14000) | 0.24000 | -50.0% (-60.0% to -40.0%) |" if draws
            else "| 0.12000 | 0.24000 | -50.0% |") in text  # fmt: skip
    assert "0 (one training seed)" in text
