"""The trainer: fair to the members of a pair, the same after a kill and on several processes."""

import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from explore import files, training, zoo
from explore.__main__ import main
from explore.hardware import fast_bfloat16
from explore.models import ARCHITECTURES, TIME_CONDITIONINGS
from explore.samplers import Sampling, sample

RECIPE = {
    "pair": "test",
    "dataset": "test",
    "resolution": 8,
    "architecture": "unet",
    "network": zoo.TINY["unet"],
    "prediction": "velocity",
    "schedule": "flow",
    "t_distribution": "logit-normal",
    "images": 480,
    "batch_size": 16,
    "learning_rate": 3e-3,
    "warmup_images": 64,
    "sampler": {"name": "euler", "steps": 2},
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A zip of 100 smooth images of 8x8 pixels."""
    path = tmp_path_factory.mktemp("data") / "images.zip"
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.standard_normal((100, 8, 8, 3)), (0, 2, 2, 0))
    pixels = (128 + 500 * smooth).clip(0, 255).astype(np.uint8)
    with zipfile.ZipFile(path, "w") as archive:
        for number, image in enumerate(pixels):
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, format="PNG")
            archive.writestr(f"{number:04d}.png", buffer.getvalue())
    return str(path)


def recipe(**changes):
    return training.TrainingConfig(**{**RECIPE, **changes})


def weights(out, member="none", pair="test"):
    return safetensors.torch.load_file(out / f"{pair}-{member}" / "weights.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def log(out):
    return [json.loads(line) for line in (out / training.LOG).read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(images, tmp_path_factory):
    """An uninterrupted run."""
    return training.train(recipe(), images, tmp_path_factory.mktemp("run"), log_images=64, grid_images=240)


def test_it_learns_and_leaves_what_it_promises(finished):
    losses = [entry["loss"] for entry in log(finished) if "loss" in entry]
    for member in ("test-timestep", "test-none"):
        assert losses[-1][member] < 0.9 * losses[0][member]
    assert [entry["step"] for entry in log(finished) if "held_out_loss" in entry] == [15, 30]
    assert all(entry["images_per_second"] > 0 for entry in log(finished) if "loss" in entry)
    assert sorted(path.name for path in finished.glob("grid-*.png")) == ["grid-000000240.png", "grid-000000480.png"]
    config = json.loads((finished / "test-none" / "config.json").read_text())
    assert config["images_seen"] == 480 and config["finished"] and config["train_images"] == 95
    assert config["training"] == json.loads(json.dumps(RECIPE)) | {
        key: config["training"][key] for key in config["training"] if key not in RECIPE
    }


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_member_trains_the_same_in_any_company(images, tmp_path, architecture):
    """Rule 1: neither the other members nor their order touch a member's data, noise, masks or weights."""
    changes = {"architecture": architecture, "network": {**zoo.TINY[architecture], "dropout": 0.1}, "images": 96}
    alone = training.train(recipe(members=("none",), **changes), images, tmp_path / "alone")
    among = training.train(recipe(members=TIME_CONDITIONINGS, **changes), images, tmp_path / "among")
    assert same(weights(alone), weights(among))
    assert not torch.equal(weights(among)["head.weight"], weights(among, "timestep")["head.weight"])


def test_all_members_step_on_the_same_batches(images, tmp_path, monkeypatch):
    """Rule 1: one run gives ``constant`` the images, times and noise of its pair, step by step."""
    seen, step = [], training.Member.step

    def watched(member, xt, t, target, number):
        seen.append((number, member.time_conditioning, [part.clone() for part in (xt, t, target)]))
        return step(member, xt, t, target, number)

    monkeypatch.setattr(training.Member, "step", watched)
    training.train(recipe(members=TIME_CONDITIONINGS, images=48), images, tmp_path)
    assert [entry[:2] for entry in seen] == [(number, member) for number in range(3) for member in TIME_CONDITIONINGS]
    for number in range(3):
        first, *others = [parts for at, _, parts in seen if at == number]
        assert all(torch.equal(one, other) for parts in others for one, other in zip(first, parts, strict=True))
    assert not torch.equal(seen[0][2][0], seen[-1][2][0])


def command(config, images, out, *flags):
    return [sys.executable, "-m", "explore", "train", str(config), "--data", images, "--out", str(out), *flags]


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(images, tmp_path):
    """SIGKILL at moments of its own choosing; the weights at the end are those of the uninterrupted run, bit for bit.

    Both are processes of their own: sums of the same numbers may end in other bits where a process lived through other tests.
    """
    config, out, finished = tmp_path / "recipe.json", tmp_path / "out", tmp_path / "finished"
    config.write_text(json.dumps(RECIPE))
    flags = ("--save-every", "0", "--log-images", "64", "--grid-images", "240")
    subprocess.run(command(config, images, finished, *flags), check=True, stderr=subprocess.DEVNULL)
    for kills in range(2):
        process = subprocess.Popen(command(config, images, out, *flags), stderr=subprocess.DEVNULL)
        state = out / training.STATE
        before = state.stat().st_mtime_ns if state.exists() else 0
        deadline = time.monotonic() + 120
        while process.poll() is None and (not state.exists() or state.stat().st_mtime_ns == before):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(0.05 * kills)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command(config, images, out, *flags), check=True, stderr=subprocess.DEVNULL)
    for member in ("timestep", "none"):
        assert same(weights(out, member), weights(finished, member))
    steps = [entry["step"] for entry in log(out) if "loss" in entry]
    assert steps == [entry["step"] for entry in log(finished) if "loss" in entry]


def test_time_limit_ends_cleanly_and_can_be_resumed(images, finished, tmp_path):
    training.train(recipe(), images, tmp_path, limit_seconds=0)
    config = json.loads((tmp_path / "test-none" / "config.json").read_text())
    assert config["images_seen"] == 16 and not config["finished"]
    training.train(recipe(), images, tmp_path, limit_seconds=1000)
    assert same(weights(tmp_path), weights(finished))


def test_each_part_of_a_run_names_its_machine_and_precision(images, tmp_path, monkeypatch):
    def segments():
        training.train(recipe(), images, tmp_path, limit_seconds=0)  # one step
        return json.loads((tmp_path / "test-none" / "config.json").read_text())["segments"]

    [own] = segments()
    assert segments() == [own]  # the same machine goes on
    monkeypatch.setattr("explore.hardware.processor_name", lambda device: "another processor")
    assert segments() == [own, own | {"first_image": 32, "processor": "another processor"}] == segments()
    assert own["first_image"] == 0 and own["threads"] == torch.get_num_threads() and own["processes"] == 1
    assert own["precision"] == ("bfloat16" if fast_bfloat16() else "float32") and own["torch"] == torch.__version__


def test_another_configuration_does_not_resume(images, finished):
    with pytest.raises(ValueError, match=r"learning_rate = 0\.003, the configuration says 0.1"):
        training.train(recipe(learning_rate=0.1), images, finished)
    with pytest.raises(ValueError, match="was trained on 95 images"):
        training.train(recipe(), images, finished, limit_images=50)


def test_init_from_goes_on_from_weights_and_adds_up_images(images, finished, tmp_path):
    out = training.train(recipe(images=160, learning_rate=1e-9), images, tmp_path / "more", init_from=finished)
    assert json.loads((out / "test-none" / "config.json").read_text())["images_seen"] == 640
    before, after = weights(finished), weights(out)
    assert all(torch.allclose(before[name].float(), after[name].float(), atol=2e-3) for name in before)
    with pytest.raises(ValueError, match="no weights of test-none"):
        training.train(recipe(members=("none",)), images, tmp_path / "none", init_from=tmp_path)


def test_release_ships_a_run(finished, tmp_path):
    with zoo.using(tmp_path):
        assert training.release(finished) == ["test-timestep", "test-none"]
        assert zoo.pairs() == {"test": ["test-timestep", "test-none"]}
        loaded = zoo.load("test-none", "float32")
        assert all(torch.equal(loaded.network.state_dict()[name], tensor.float()) for name, tensor in weights(finished).items())
        training.release(finished)
        assert len(zoo.index()) == 2
        with pytest.raises(ValueError, match="holds no exported model"):
            training.release(tmp_path / "test-none")


def test_the_command_releases_into_a_folder(finished, tmp_path, capsys):
    assert main(["--zoo", str(tmp_path / "zoo"), "release", str(finished)]) == 0
    assert f"test-none is in {tmp_path / 'zoo'}" in capsys.readouterr().out
    text = (tmp_path / "zoo" / "test-none" / "README.md").read_text()
    assert "# test-none" in text and f"From image 0: {'bfloat16' if fast_bfloat16() else 'float32'} on " in text
    assert main(["--zoo", str(tmp_path / "zoo"), "models", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["test-timestep", "test-none"]
    assert zoo.default().root == zoo.SHIPPED
    assert main(["--zoo", str(tmp_path / "nowhere"), "models"]) == 2


def test_a_member_trained_later_stands_beside_its_pair(images, finished, tmp_path):
    """The draws are keyed by (seed, step): a member trained alone is the one that the whole pair would have had."""
    alone = training.train(recipe(members=("none",)), images, tmp_path / "alone")
    assert all(torch.equal(tensor, weights(finished)[name]) for name, tensor in weights(alone).items())
    later = training.train(recipe(members=("constant",), images=160), images, tmp_path / "later")
    other = training.train(recipe(pair="other", members=("none",), images=160), images, tmp_path / "other")
    with zoo.using(tmp_path / "zoo") as released:
        for run in (finished, other, later):
            training.release(run)
    assert list(released.index()) == ["test-timestep", "test-none", "test-constant", "other-none"]


@pytest.mark.slow
def test_two_processes_train_as_one(images, tmp_path):
    """The same global batch on one process and on two under accelerate: the same weights up to rounding."""
    config = tmp_path / "recipe.json"
    config.write_text(json.dumps(RECIPE | {"images": 160, "learning_rate": 1e-3}))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command(config, images, tmp_path / "one"), check=True, env=environment)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    subprocess.run(launch + command(config, images, tmp_path / "two")[1:], check=True, env=environment)
    one, two = (safetensors.torch.load_file(tmp_path / run / training.STATE) for run in ("one", "two"))
    start = recipe(images=160)
    initial = training.build("unet", "none", start.network, start.seed).state_dict()
    moved = {name: (one[f"none/network/{name}"] - initial[name]).abs().max() for name in initial}
    assert max(moved.values()) > 1e-3
    for name in one:
        if "/network/" in name:
            assert torch.allclose(one[name], two[name], atol=2e-5), name


def test_data_order_is_shuffled_passes():
    config = recipe()
    seen = np.concatenate([training.batch_indices(config, step, 40) for step in range(10)])
    for number in range(4):
        assert sorted(seen[40 * number : 40 * (number + 1)]) == list(range(40))
    assert not np.array_equal(seen[:40], seen[40:80])


def test_recipes_train_constant_with_its_pair():
    members = [training.TrainingConfig.read(path).members for path in zoo.folder("recipes").glob("*.json")]
    assert any("constant" in one for one in members)
    assert all({"timestep", "none"} <= set(one) for one in members)


def test_shipped_members_of_a_pair_had_the_same_training():
    """Draws are keyed by seed and step: with an equal recipe, a member of another run had the batches of its pair too."""
    for names in zoo.pairs().values():
        first, *others = [json.loads((zoo.folder(name) / "config.json").read_text()) for name in names]
        for other in others:
            for key in ("images_seen", "train_images", "dataset"):
                assert other[key] == first[key]
            assert other["training"] | {"members": 0} == first["training"] | {"members": 0}


def test_rate_warms_up_and_decays_to_zero():
    config = recipe(images=16_000, warmup_images=1600)
    rates = [config.rate(step) for step in range(1001)]
    assert rates[0] == pytest.approx(config.learning_rate / 100)
    assert max(rates) <= config.learning_rate and rates.index(max(rates)) in (99, 100)
    assert rates[1000] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction": "noise"}, "unknown prediction 'noise'; choose from eps, x0, v, velocity, edm, uedm, eqm"),
        ({"lerning_rate": 1}, "did you mean learning_rate"),
        ({"members": ["never"]}, "unknown member 'never'; did you mean|choose from"),
        ({"members": []}, "members must be"),
        ({"batch_size": 0}, "batch_size must be positive"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_bad_recipes_give_one_clear_line(tmp_path, change, message):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(RECIPE | change))
    with pytest.raises(ValueError, match=message) as error:
        training.TrainingConfig.read(path)
    assert "\n" not in str(error.value)


def test_recipes_in_the_repository_are_readable_and_within_limits():
    paths = sorted(zoo.folder("recipes").glob("*.json")) + [zoo.folder(name) / "config.json" for name in zoo.index()]
    assert len(paths) > len(zoo.index()) > 0
    for path in paths:
        config = training.TrainingConfig.read(path)
        for member in config.members:
            with torch.device("meta"):
                network = ARCHITECTURES[config.architecture](member, **config.network)
            assert sum(parameter.numel() for parameter in network.parameters()) <= 4_500_000


@pytest.mark.parametrize("name", ["celeba32-unet-edm", "celeba32-unet-uedm", "celeba32-unet-eqm"])
def test_the_recipes_of_edm_and_eqm_train_and_their_models_sample(name, tmp_path):
    config = training.TrainingConfig.read(zoo.folder("recipes") / f"{name}.json")
    assert (config.images, config.batch_size, config.half_life, config.members) == (400_000, 32, 10_000, ("timestep", "none"))
    short = replace(config, images=16, batch_size=8, sampler={"name": config.sampler["name"], "steps": 1})
    training.train(short, "bank:celeba", tmp_path, limit_images=32, log_images=8)
    assert [entry["step"] for entry in log(tmp_path) if "loss" in entry] == [1, 2]
    for member in config.members:
        folder = tmp_path / f"{name}-{member}"
        assert json.loads((folder / "config.json").read_text())["images_seen"] == 16
        denoiser = zoo.open_files(folder / "config.json", folder / "weights.safetensors", "float32")
        assert Sampling.for_model(denoiser) == Sampling(config.sampler["name"], config.sampler["steps"])
        assert sample(denoiser, [0], config.sampler["name"], 2).isfinite().all()


FIXTURES = Path(__file__).resolve().parent / "fixtures"


def test_a_state_from_before_new_fields_goes_on(tmp_path):
    """Written after one step, before states named their data: fields that are absent mean their defaults."""
    state = tmp_path / training.STATE
    state.write_bytes((FIXTURES / "state.safetensors").read_bytes())
    before, about = files.load_state(state)
    assert about["progress"]["step"] == 1 and "data_sha256" not in about["progress"]
    config = training.TrainingConfig.read(FIXTURES / "recipe.json")
    training.train(config, "bank:celeba", tmp_path)
    after, about = files.load_state(state)
    assert about["progress"]["step"] == 8 and len(about["progress"]["data_sha256"]) == 64
    assert [part["first_image"] for part in about["progress"]["segments"]] == [16]  # the first step's is not recorded
    assert before.keys() == after.keys() and not torch.equal(
        before["none/network/stem.weight"], after["none/network/stem.weight"]
    )
    description = json.loads((tmp_path / "fixture-none" / "config.json").read_text())
    assert description["finished"] and description["images_seen"] == 128


def test_as_many_other_images_do_not_resume(images, tmp_path):
    training.train(recipe(), images, tmp_path / "run", limit_seconds=0)
    content = (tmp_path / "run" / training.STATE).read_bytes()
    with zipfile.ZipFile(images) as archive, zipfile.ZipFile(tmp_path / "other.zip", "w") as other:
        for name in archive.namelist():  # the same pictures under other names, so in another order
            other.writestr(f"{99 - int(name[:4]):04d}.png", archive.read(name))
    with pytest.raises(ValueError, match=r"was trained on other images \(sha256 .* though as many") as error:
        training.train(recipe(), str(tmp_path / "other.zip"), tmp_path / "run")
    assert "\n" not in str(error.value) and (tmp_path / "run" / training.STATE).read_bytes() == content
    (tmp_path / "same.zip").write_bytes(Path(images).read_bytes())  # content counts, not the name
    training.train(recipe(), str(tmp_path / "same.zip"), tmp_path / "run", limit_seconds=0)


def test_identical_runs_write_identical_weights(images, tmp_path):
    for name in ("one", "two"):
        training.train(recipe(images=32), images, tmp_path / name)
    for member in ("timestep", "none"):
        one, two = (tmp_path / name / f"test-{member}" / "weights.safetensors" for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


def test_a_second_training_in_one_folder_says_so_at_once(images, tmp_path):
    with (
        files.claimed(tmp_path / "run", "training"),
        pytest.raises(ValueError, match=r"another training is writing to .*run: wait for its end, or choose another folder"),
    ):
        training.train(recipe(), "no such data", tmp_path / "run")
    training.train(recipe(images=16), images, tmp_path / "run")
    with pytest.raises(ValueError, match="no data at"):
        training.train(recipe(), "no such data", tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_a_model_of_one_channel_trains_on_brightness(images, tmp_path):
    config = recipe(images=32, network={**zoo.TINY["unet"], "image_channels": 1})
    with pytest.warns(UserWarning, match="colors are dropped"):
        training.train(config, images, tmp_path)
    assert weights(tmp_path)["stem.weight"].shape[1] == 1
    folder = tmp_path / "test-none"
    denoiser = zoo.open_files(folder / "config.json", folder / "weights.safetensors", "float32")
    assert denoiser.shape == (1, 8, 8) and denoiser(torch.zeros(1, 1, 8, 8), 0.5).shape == (1, 1, 8, 8)
