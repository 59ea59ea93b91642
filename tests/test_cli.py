"""The command line: what it writes, and one clear line with status 2 for every mistake."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from PIL import Image

from explore import cards, probes, zoo
from explore.__main__ import app, main
from explore.schedules import SCHEDULES

ROOT = Path(__file__).resolve().parent.parent

NAMES = list(zoo.index())
PAIR = next(iter(zoo.pairs()))
RECIPE = str(zoo.folder("recipes") / "celeba32-unet-velocity.json")


def test_models_lists_the_fields(capsys):
    assert main(["models", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == NAMES
    assert list(rows[0]) == [
        "name", "pair", "dataset", "resolution", "architecture", "time_conditioning", "prediction", "schedule",
        "parameters", "parameters_without_time", "images_seen", "sha256",
    ]  # fmt: skip


def test_models_table_shows_every_model(capsys):
    main(["models"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == NAMES


def test_sample_writes_grid_and_npz(tmp_path):
    arguments = ["sample", NAMES[0], "--seed", "3", "--count", "4", "--steps", "3", "--sampler", "heun"]
    assert main([*arguments, "--precision", "float32", "--out", str(tmp_path / "a")]) == 0
    stored = np.load(tmp_path / "a" / "samples.npz")
    assert stored["images"].dtype == np.uint8 and stored["images"].shape == (4, 32, 32, 3)
    assert stored["seeds"].tolist() == [3, 4, 5, 6]
    assert Image.open(tmp_path / "a" / "grid.png").size[0] >= 256
    assert main([*arguments, "--precision", "float32", "--out", str(tmp_path / "b")]) == 0
    assert (tmp_path / "a" / "samples.npz").read_bytes() == (tmp_path / "b" / "samples.npz").read_bytes()
    assert not list(tmp_path.rglob("*.tmp"))


def test_compare_writes_grid_gif_and_json(tmp_path):
    assert main(["compare", PAIR, "--count", "2", "--sampler", "euler", "--steps", "4", "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "compare.json").read_text())
    assert record["pair"] == PAIR and len(record["members"]) == 2 and record["seeds"] == [0, 1]
    assert [row["index"] for row in record["per_step"]] == [0, 1, 2, 3, 4]
    assert record["per_step"][0]["xt"] == 0 < record["per_step"][-1]["xt"]
    assert record["per_step"][-1]["t"] == 0
    animation = Image.open(tmp_path / "trajectory.gif")
    assert animation.n_frames == 5
    assert Image.open(tmp_path / "grid.png").size[0] > 256


def test_compare_in_chunks_is_compare_at_once(tmp_path, monkeypatch):
    arguments = ["compare", PAIR, "--count", "5", "--sampler", "euler", "--steps", "2", "--precision", "float32"]
    main([*arguments, "--out", str(tmp_path / "once")])
    monkeypatch.setattr("explore.trajectories.MAX_IMAGES", 2)
    main([*arguments, "--out", str(tmp_path / "chunks")])
    once, chunks = (json.loads((tmp_path / name / "compare.json").read_text()) for name in ("once", "chunks"))
    assert once["seeds"] == chunks["seeds"]
    for one, other in zip(once["per_step"], chunks["per_step"]):
        assert one == pytest.approx(other, abs=1e-5)


def test_denoising_prints_and_can_be_rerun(capsys):
    assert main(["denoising", NAMES[0], "--data", "bank:celeba", "--images", "8", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["command"].startswith(f"python -m explore denoising {NAMES[0]}")
    assert main(["denoising", NAMES[0], "--data", "bank:celeba", "--images", "8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == first


def test_table_gives_every_figure_with_what_it_was_measured_on(capsys):
    assert main(["table", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == NAMES
    fields = (
        "parameters", "parameters_without_time", "images_seen", "sha256", "fd", "kid", "precision", "recall", "features",
        "reference", "count", "sampler", "nfe", "seeds", "training_seeds", "flops", "images_per_second",
    )  # fmt: skip
    for row in rows:
        assert set(fields) <= set(row)
        several = row["pair"] in ("celeba32-unet-velocity", "celeba32-unet-eps")
        assert row["training_seeds"] == ([0, 1, 2] if several else [0]) and row["flops"] > 1e8
        assert "denoising" in row["metrics"]
        if several and row["time_conditioning"] == "none":  # minus the conditioned model
            # Only its weights were there when the encoder was replaced, and when noise was drawn four times.
            assert row["differences"]["fd"]["seeds"] == row["differences"]["denoising t=0.5"]["seeds"] == [0]
            found = cards.differences(row["name"], study=True)["denoising t=0.5"]
            assert found["seeds"] == [0, 1, 2] and found["low"] < found["value"] < found["high"]


def test_layers_are_a_tree_with_shapes(capsys):
    assert main(["layers", NAMES[0], "--json"]) == 0
    points = {point["name"]: point for point in json.loads(capsys.readouterr().out)}
    assert points["down.1.block.0"]["shape"] == [64, 16, 16]
    assert main(["layers", NAMES[0]]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:5] == ["down", "  0", "    block", "      0       ResidualBlock     32 x 32 x 32  down.0.block.0"]
    assert sum(line.endswith(tuple(points)) and " x " in line for line in lines) == len(points)
    assert main(["layers", "nothing"]) == 2


def test_train_takes_images_batch_size_and_seed_over_the_recipe(tmp_path):
    recipe = {
        "pair": "test", "dataset": "bank", "resolution": 8, "architecture": "unet", "network": zoo.TINY["unet"],
        "prediction": "velocity", "schedule": "flow", "images": 10_000, "sampler": {"name": "euler", "steps": 2},
    }  # fmt: skip
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    arguments = ["train", str(tmp_path / "recipe.json"), "--data", "bank:celeba", "--out", str(tmp_path / "run")]
    assert main([*arguments, "--images", "48", "--batch-size", "16", "--seed", "3"]) == 0
    config = json.loads((tmp_path / "run" / "test-none" / "config.json").read_text())
    assert config["images_seen"] == 48 and config["finished"]
    assert [config["training"][name] for name in ("images", "batch_size", "seed")] == [48, 16, 3]
    arguments[arguments.index(str(tmp_path / "run"))] = str(tmp_path / "one")
    assert main([*arguments, "--images", "48", "--batch-size", "16", "--seed", "3", "--member", "constant"]) == 0
    assert [path.parent.name for path in (tmp_path / "one").glob("*/weights.safetensors")] == ["test-constant"]


@pytest.mark.parametrize("command", [command.name or command.callback.__name__ for command in app.registered_commands])
def test_every_command_has_help(command, capsys):
    assert main([command, "--help"]) == 0
    assert "Usage:" in capsys.readouterr().out


BAD = [
    (["sample", "nothing"], "unknown model 'nothing'"),
    (["sample", NAMES[0], "--seed", "-1"], "seed must be"),
    (["sample", NAMES[0], "--seed", "4294967296"], "seed must be"),
    (["sample", NAMES[0], "--seed", "one"], "seed must be a whole number"),
    (["sample", NAMES[0], "--count", "0"], "count must be a whole number from 1 to 10000"),
    (["sample", NAMES[0], "--count", "10001"], "count must be a whole number from 1 to 10000"),
    (["sample", NAMES[0], "--steps", "0"], "steps must be a whole number from 1 to 1000"),
    (["sample", NAMES[0], "--steps", "1001"], "steps must be a whole number from 1 to 1000"),
    (["sample", NAMES[0], "--sampler", "hein"], "unknown sampler 'hein'; did you mean heun"),
    (["sample", NAMES[0], "--sampler", "heun", "--eta", "1"], "has no option 'eta'; it belongs to ddim"),
    (["sample", NAMES[0], "--sampler", "ddim", "--eta", "2"], "eta must be a number from 0 to 1"),
    (["sample", NAMES[0], "--start", "0"], "start must be above 0"),
    (["sample", NAMES[0], "--precision", "int8"], "unknown precision"),
    (["sample", NAMES[0], "--colour"], "--colour"),
    (["compare", "nothing"], "unknown pair 'nothing'"),
    (["compare", PAIR, "--count", "0"], "count must be"),
    (["train", "nothing.json", "--data", "bank:celeba"], "no file nothing.json"),
    (["train", RECIPE, "--data", "nothing"], "no data at"),
    (["train", RECIPE, "--data", "bank:celeba", "--batch-size", "0"], "batch_size must be positive, got 0"),
    (["train", RECIPE, "--data", "bank:celeba", "--seed", "-1"], "seed must be"),
    (["release", "nothing"], "holds no exported model"),
    (["denoising", NAMES[0], "--data", "nothing"], "no data at"),
    (["nothing"], "nothing"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_mistakes_give_one_line_and_status_2(arguments, message, tmp_path, capsys):
    with_out = [*arguments, "--out", str(tmp_path / "out")] if arguments[0] in ("sample", "compare", "train") else arguments
    assert main(with_out) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and message in errors[0]
    assert not (tmp_path / "out").exists()


def test_two_images_give_valid_json_and_a_word_on_intervals(tmp_path, capsys):
    arguments = [
        "probe",
        NAMES[1],
        "--data",
        "bank:celeba",
        "--images",
        "2",
        "--layer",
        "stem",
        "--view",
        "mean",
        "--controls",
        "1",
    ]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    assert "note: intervals over images need at least 10 images, here are 2" in capsys.readouterr().err

    def refuse(constant):
        raise AssertionError(constant)

    atlas = json.loads((tmp_path / "atlas.json").read_text(), parse_constant=refuse)
    [row] = [row for row in atlas["layers"] if row["name"] == "stem"]
    assert row["r2_interval"] == [None, None] and isinstance(row["r2"], float)


def test_course_outside_a_checkout_says_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("explore.course.course", lambda: [])
    assert main(["course"]) == 2
    assert "no notebooks in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:1000], "truncated or replaced"),
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "corrupt or swapped"),
    ],
)
def test_damaged_weights_give_one_line_and_status_2(tmp_path, capsys, damage, message):
    import shutil

    root = tmp_path / "checkpoints"
    shutil.copytree(zoo.default().root, root, ignore=shutil.ignore_patterns("bank"))
    path = root / NAMES[0] / "weights.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    assert main(["--zoo", str(root), "sample", NAMES[0], "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


def test_as_a_process():
    """Through the shell, as a person calls it: one line on stderr, nothing on stdout, status 2."""
    run = subprocess.run(
        [sys.executable, "-m", "explore", "sample", "nothing", "--out", "x"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 2 and run.stdout == ""
    assert len(run.stderr.splitlines()) == 1 and run.stderr.startswith("error: unknown model 'nothing'")


@pytest.mark.slow
def test_two_processes_measure_what_one_does(tmp_path):
    """`probe` and `evaluate` under accelerate: the sums and samples of two processes give the figures of one to 1e-6."""
    commands = {
        "probe": ["probe", "toy-timestep", "--data", "bank:celeba", "--split", "all", "--images", "10",
                  "--layer", "stem", "--layer", "mid.block.0", "--controls", "1", "--precision", "float32", "--out"],
        "evaluate": ["evaluate", "toy-none", "--reference", "bank:celeba", "--split", "all", "--count", "16",
                     "--seeds", "0", "1", "2", "--sampler", "euler", "--steps", "2", "--precision", "float32", "--out"],
    }  # fmt: skip
    root = toy.release(toy.train(tmp_path, images=32), tmp_path)
    alone = [sys.executable, "-m", "explore"]
    team = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1"]
    team += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "-m", "explore"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CLOCKLESS_CHECKPOINTS": str(root)}
    for name, command in commands.items():
        found = []
        for launch, folder in ((alone, tmp_path / "one"), (team, tmp_path / "two")):
            out = folder / "probe" if name == "probe" else folder / "evaluate.json"
            done = subprocess.run([*launch, *command, str(out)], cwd=ROOT, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-2000:]
            found.append(json.loads((out / "atlas.json" if name == "probe" else out).read_text()))
        one, two = found
        if name == "evaluate":
            assert [row["fd"] for row in two["per_seed"]] == pytest.approx([row["fd"] for row in one["per_seed"]], rel=1e-6)
            assert not list((tmp_path / "two").glob("*.part"))
            continue
        assert [row["name"] for row in one["layers"]] == [row["name"] for row in two["layers"]]
        for row, other in zip(one["layers"], two["layers"]):
            for key in ("r2", "r2_random_network", "selectivity"):
                assert other[key] == pytest.approx(row[key], abs=1e-6), (row["name"], key)
        # The probes themselves are kept with all digits: they read the same of the same features.
        first, second = (
            probes.ProbeSet.read(tmp_path / run / "probe" / "probes.safetensors", SCHEDULES["flow"]) for run in ("one", "two")
        )
        # Two layers in three views, at a random and at the true t; three baselines and the given t; no Gaussian fits `toy`.
        assert list(first.probes) == list(second.probes) and len(first.probes) == 16
        generator = torch.Generator().manual_seed(0)
        for key, own in first.probes.items():
            scale = own.coef_.abs().max()
            assert (own.coef_ - second.probes[key].coef_).abs().max() < 1e-4 * scale, key
            features = torch.rand(5, len(own.coef_), generator=generator)
            assert torch.allclose(own.predict(features), second.probes[key].predict(features), rtol=1e-4, atol=1e-4)
