"""Distances are torch-fidelity's, an interrupted evaluation goes on, and what cannot be a reference is said in one line."""

import json
import shutil
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from explore import cards, data, encoder, evaluation, files, zoo
from explore.__main__ import main
from explore.bayes import DiagonalGaussian
from explore.hardware import fast_bfloat16
from explore.samplers import Sampling
from explore.schedules import SCHEDULES
from explore.seeds import keyed_noise
from explore.statistics import crossed_mean, crossed_ratio

TINY = {"width": 8}


def network(seed: int = 0) -> encoder.ResNet:
    torch.manual_seed(seed)
    return encoder.ResNet(**TINY).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two folders of 96 and 80 small pictures that differ in contrast."""
    rng = np.random.default_rng(0)
    paths = []
    for name, count, contrast in (("one", 96, 40), ("two", 80, 70)):
        paths.append(tmp_path_factory.mktemp(name))
        coarse = rng.standard_normal((count, 8, 8, 3)).repeat(2, axis=1).repeat(2, axis=2)
        for number, pixels in enumerate((128 + contrast * coarse).clip(0, 255).astype(np.uint8)):
            Image.fromarray(pixels).save(paths[-1] / f"{number:03d}.png")
    return paths


@pytest.fixture
def toy(monkeypatch):
    """Features of a random encoder in the place of those that are shipped."""
    own = network()
    space = evaluation.Features("FD[toy]", lambda weights, device: lambda images: own.features(data.to_float(images)))
    monkeypatch.setitem(evaluation.FEATURES, "toy", space)
    return space.load(None, torch.device("cpu"))


def test_distances_are_those_of_torch_fidelity_on_the_same_folders(folders, toy):
    import torch_fidelity
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

    class Extractor(FeatureExtractorBase):
        def __init__(self, name, features_list, **kwargs):
            super().__init__(name, features_list)

        get_provided_features_list = staticmethod(lambda: ("pooled",))
        get_default_feature_layer_for_metric = staticmethod(lambda metric: "pooled")
        can_be_compiled = staticmethod(lambda: False)

        def forward(self, images):
            return (toy(images),)

    torch_fidelity.register_feature_extractor("clockless-toy", Extractor)
    theirs = torch_fidelity.calculate_metrics(
        input1=str(folders[0]), input2=str(folders[1]), feature_extractor="clockless-toy", cuda=False, fid=True, kid=True,
        prc=True, kid_subset_size=80, samples_shuffle=False, cache=False, verbose=False,
    )  # fmt: skip
    ours = evaluation.distances(*(evaluation.extract(data.load_images(path, 16, "all"), toy) for path in folders))
    names = {
        "fd": "frechet_inception_distance", "kid": "kernel_inception_distance_mean", "kid_std": "kernel_inception_distance_std",
        "precision": "precision", "recall": "recall",
    }  # fmt: skip
    assert ours["fd"] > 0 and ours["precision"] > 0
    for name, other in names.items():
        assert ours[name] == pytest.approx(theirs[other], rel=1e-3, abs=1e-9), name


def test_a_wrong_clock_changes_the_samples_of_the_model_that_has_one(folders, toy):
    for conditioning, same in (("timestep", False), ("none", True)):
        results = [
            evaluation.evaluate(zoo.tiny("unet", conditioning), str(folders[0]), clock_offset=offset, **SETTINGS)
            for offset in (0.0, 0.3)
        ]
        assert (results[0].fd == results[1].fd) == same
        assert results[1].clock_offset == 0.3


SETTINGS = {"split": "all", "count": 24, "features": "toy", "sampler": "ddim", "steps": 2}


def test_an_interrupted_evaluation_goes_on_where_it_was(folders, toy, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation.samples, "SAMPLE_BATCH", 8)
    denoiser, reference = zoo.tiny(), str(folders[0])
    whole = evaluation.evaluate(denoiser, reference, seeds=[0, 3], **SETTINGS)
    calls: list[int] = []

    def sampled(denoiser, seeds, **options):
        if len(calls) == 4:
            raise KeyboardInterrupt
        calls.append(seeds[0])
        return original(denoiser, seeds, **options)

    original = evaluation.samples.sample
    monkeypatch.setattr(evaluation.samples, "sample", sampled)
    with pytest.raises(KeyboardInterrupt):
        evaluation.evaluate(denoiser, reference, seeds=[0, 3], work=tmp_path, **SETTINGS)
    assert calls == [0, 8, 16, 300_000]
    with pytest.raises(ValueError, match="unfinished evaluation with other settings"):
        evaluation.evaluate(denoiser, reference, seeds=[0, 3], work=tmp_path, **{**SETTINGS, "steps": 3})
    calls.clear()
    again = evaluation.evaluate(denoiser, reference, seeds=[0, 3], work=tmp_path, **SETTINGS)
    assert calls == [300_008, 300_016]  # nothing is sampled twice
    assert again.per_seed == whole.per_seed
    assert [row.seed for row in whole.per_seed] == [0, 3] and whole.nfe == 2
    assert whole.per_seed[0].fd != whole.per_seed[1].fd
    assert whole.fd == pytest.approx(np.mean([row.fd for row in whole.per_seed]))
    stored = json.loads(json.dumps(whole.to_json()))
    assert evaluation.DistancesResult.from_json(stored) == whole


def test_the_command_writes_what_it_measured(folders, toy, tmp_path, capsys):
    name = next(iter(zoo.index()))
    out = tmp_path / "result.json"
    arguments = ["evaluate", name, "--reference", "bank:celeba", "--split", "all", "--count", "16", "--features", "toy"]
    assert main([*arguments, "--seeds", "0", "1", "--steps", "2", "--sampler", "euler", "--out", str(out)]) == 0
    assert "precision" in capsys.readouterr().out
    result = json.loads(out.read_text())
    assert result["command"] == (
        f"python -m explore evaluate {name} --reference bank:celeba --split all --count 16 --features toy --seeds 0 --seeds 1 "
        "--sampler euler --steps 2 --precision auto --clock-offset 0 --device auto"
    )
    assert result["reference_images"] == 512 and result["seeds"] == [0, 1] and len(result["per_seed"]) == 2
    assert result["distance"] == "FD[toy]" and result["images_per_second"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["result.json"]  # the unfinished work is gone


def test_samples_of_one_machine_are_measured_on_another(folders, toy, tmp_path, monkeypatch, capsys):
    name = next(iter(zoo.index()))
    out = tmp_path / "result.json"
    arguments = ["evaluate", name, "--reference", "bank:celeba", "--count", "16", "--features", "toy", "--out", str(out)]
    arguments += ["--steps", "2", "--sampler", "euler"]
    assert main([*arguments, "--sample-only", "--device", "cpu"]) == 0
    assert not out.exists() and (tmp_path / "result.json.part").is_dir()
    monkeypatch.setattr(evaluation.samples, "sample", None)  # nothing is left to sample
    assert main(arguments) == 0
    result = json.loads(out.read_text())
    assert result["precision"] == result["per_seed"][0]["precision"]
    assert result["dtype"] in ("float32", "bfloat16") and "CPU" in result["hardware"]
    assert not (tmp_path / "result.json.part").exists()
    assert main([*arguments, "--device", "tpu"]) == 2
    assert "unknown device 'tpu'; " in capsys.readouterr().err


def test_yardsticks_order_damage_as_it_grows(folders, toy, tmp_path):
    for split, path in zip(("train", "test"), (folders[0], folders[0])):
        with zipfile.ZipFile(tmp_path / f"{split}.zip", "w") as archive:
            for number, file in enumerate(sorted(path.iterdir())):
                if (number % 2 == 0) == (split == "train"):
                    archive.write(file, file.name)
    result = evaluation.yardsticks(str(tmp_path), 16, features="toy", count=20)
    rows = {row.images: row.fd for row in result.rows}
    assert 0 < rows["noised, 0.1"] < rows["noised, 0.2"]  # in any features; the rest is asked of the shipped encoder, below
    assert result.rows[0].count == 20 and result.rows[1].count == result.held_out == 48
    assert result == evaluation.yardsticks(str(tmp_path), 16, features="toy", count=20)
    with pytest.raises(ValueError, match="count must be from 16 to the 48 training images, got 49"):
        evaluation.yardsticks(str(tmp_path), 16, features="toy", count=49)


def test_the_shipped_encoder_orders_damage_to_photographs_as_it_grows():
    stored = cards.yardsticks()
    assert {"celeba-cifar-resnet", "cifar10-cifar-resnet"} <= set(stored)
    for result in stored.values():
        rows = {row["images"]: row["fd"] for row in result["rows"]}
        for little, much in (("blurred, 3x3 box", "blurred, 5x5 box"), ("noised, 0.1", "noised, 0.2")):
            assert 5 * rows["train"] < rows[little] < rows[much], (result["data"], little)
        # Foreign parts are seen, but not how large they are: the README says so.
        assert 2 * rows["train"] < min(rows["a quarter swapped"], rows["half swapped"])


def test_the_shipped_encoder_tells_pictures_of_things_from_pictures_of_faces():
    """Photographs are not here; but the banks' generated pictures of two data sets must lie apart in its features."""
    description = files.read_json(zoo.folder(encoder.NAME) / "config.json")
    assert description["accuracy"] >= 0.92 and description["test_images"] >= 5000
    space = evaluation.FEATURES["cifar-resnet"].load(None, torch.device("cpu"))
    things, faces = (
        evaluation.extract(data.load_images(f"bank:{name}", 32, "all")[:256], space) for name in ("cifar10", "celeba")
    )
    apart = evaluation.distances(things, faces)["fd"]
    within = [evaluation.distances(part[::2], part[1::2])["fd"] for part in (things, faces)]
    assert apart > 5 * max(within)


def picture(size, mode="RGB"):
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (size, size, 3), dtype=np.uint8)).convert(mode)


def unreadable(path):
    (path / "a.png").write_bytes(b"no picture")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: [picture(16).save(path / f"{i:02d}.png") for i in range(20)], "is 16x16, smaller than the 32x32"),
        (lambda path: picture(32).save(path / "a.png"), "at least 16 images"),
        (lambda path: [picture(32).save(path / f"{i:02d}.png") for i in range(15)], "at least 16 images"),
        (unreadable, "cannot read"),
        (lambda path: (path / "a.txt").write_text("no picture"), "holds no images"),
    ],
)
def test_what_cannot_be_a_reference_is_said_in_one_line(make, message, toy, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    make(tmp_path / "images")
    name = next(iter(zoo.index()))
    arguments = ["evaluate", name, "--reference", str(tmp_path / "images"), "--split", "all", "--features", "toy"]
    assert main([*arguments, "--count", "16", "--out", str(tmp_path / "out.json")]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note:")]
    assert len(errors) == 1 and errors[0].startswith("error:") and message in errors[0]
    assert not (tmp_path / "out.json").exists() and not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": "vgg"}, "unknown features 'vgg'; choose from cifar-resnet, inception"),
        ({"count": 15}, "count must be a whole number from 16 to 100000, got 15"),
        ({"seeds": [1, 1]}, "seeds must be different"),
        ({"seeds": [-1]}, "seed of a set of samples must be a whole number"),
    ],
)
def test_bad_settings(change, message, folders, toy):
    with pytest.raises(ValueError, match=message):
        evaluation.evaluate(zoo.tiny(), str(folders[0]), **{**SETTINGS, **change})


def test_only_the_standard_inception_is_taken(tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"anything")
    with pytest.raises(ValueError, match="Inception's standard weights have 6726825d"):
        evaluation.FEATURES["inception"].load(tmp_path / "weights.pth", torch.device("cpu"))
    with pytest.raises(ValueError, match="no file"):
        evaluation.FEATURES["inception"].load(tmp_path / "nothing.pth", torch.device("cpu"))


# Members of a pair ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def splits(folders, tmp_path_factory):
    """The first folder as a train and a test split."""
    path = tmp_path_factory.mktemp("splits")
    for split in ("train", "test"):
        (path / split).mkdir()
    for number, file in enumerate(sorted(folders[0].iterdir())):
        shutil.copy(file, path / ("test" if number % 4 == 0 else "train") / file.name)
    return str(path)


class Oracle:
    """A denoiser for the held-out images: knows them, up to a share of grey."""

    def __init__(self, x0, grey):
        self.x0, self.grey = x0, grey

    def __call__(self, xt, t):
        alpha, sigma = 1 - t.reshape(-1, 1, 1, 1), t.reshape(-1, 1, 1, 1)
        distance = torch.cdist((xt / alpha).flatten(1), self.x0.flatten(1))
        estimate = (1 - self.grey) * self.x0[distance.argmin(1)]
        return (xt - estimate) / sigma  # the velocity that leads there

    def parameters(self):
        return iter(())


def oracle(splits, grey):
    denoiser = zoo.tiny(prediction="velocity")
    denoiser.__dict__["_modules"].pop("network")
    denoiser.__dict__["network"] = Oracle(data.to_float(data.load_images(splits, 8, "test")), grey)
    return denoiser


def test_fidelity_of_an_oracle_is_whole_and_of_a_greyer_one_less(splits):
    result = evaluation.fidelity([oracle(splits, 0.0), oracle(splits, 0.2)], splits, times=(0.1, 0.3), sampler="euler", steps=4)
    assert result.images == 24 and len(result.rows) == 4
    for row in result.rows:
        assert row.ssim.conditioned > 0.999 and row.psnr.conditioned > 45
        assert row.ssim.time_agnostic < row.ssim.conditioned
        low, high = row.ssim.difference.ends
        assert low <= row.ssim.difference.value <= high < 0
        assert row.psnr.difference.value == pytest.approx(row.psnr.time_agnostic - row.psnr.conditioned)
    stored = json.loads(json.dumps(result.to_json()))
    assert evaluation.FidelityResult.from_json(stored).to_json() == stored


def test_losses_by_t_are_those_of_the_training_target(splits):
    told, untold = zoo.tiny("unet", "timestep"), zoo.tiny("unet", "none")
    result = evaluation.losses([told, untold], splits, count=8, seed=5, levels=4, noise_draws=2)
    assert [row.t for row in result.rows] == [0.125, 0.375, 0.625, 0.875] * 2
    row = next(row for row in result.rows if row.split == "test" and row.t == 0.625)
    x0 = data.to_float(data.load_images(splits, 8, "test")[:8])
    noises = [keyed_noise(range(first, first + 8), (3, 8, 8)) for first in (5, 100_005)]
    errors = {}
    for denoiser in (told, untold):
        outputs = [denoiser.network(0.375 * x0 + 0.625 * eps, torch.full((8,), 0.625)) - (eps - x0) for eps in noises]
        errors[denoiser] = torch.stack([output.square().mean((1, 2, 3)) for output in outputs], 1)
    assert row.loss.conditioned == pytest.approx(errors[told].mean().item(), rel=1e-5)
    assert row.loss.time_agnostic == pytest.approx(errors[untold].mean().item(), rel=1e-5)
    for found, expected in (
        (row.loss.difference, crossed_mean(errors[untold] - errors[told])),
        (row.relative, crossed_ratio(errors[untold], errors[told], less=1.0)),
    ):
        assert [found.value, *found.ends] == pytest.approx([expected.value, *expected.ends], rel=1e-2)
        assert found.low < found.value < found.high and found.over == "images and noise draws"
    stored = json.loads(json.dumps(result.to_json()))
    assert evaluation.LossesResult.from_json(stored).to_json() == stored and stored["noise_draws"] == 2
    single = evaluation.losses([told, untold], splits, count=8, seed=5, levels=1, noise_draws=1)
    assert {row.relative.over for row in single.rows} == {"images, one noise draw each"}
    del stored["noise_draws"]  # as records were before
    assert evaluation.LossesResult.from_json(stored).noise_draws == 1
    prior = DiagonalGaussian.fit(data.load_images(splits, 8, "train"))
    assert row.width == prior.information(SCHEDULES["flow"], 0.625) ** -0.5


def test_denoising_errors_are_the_mean_over_noise_draws_and_relative_to_the_wiener_filter(splits):
    denoiser, asked = zoo.tiny("unet", "none"), {"count": 8, "times": (0.5,)}
    both = evaluation.denoising(denoiser, splits, seed=5, noise_draws=2, **asked)
    single = [evaluation.denoising(denoiser, splits, seed=seed, noise_draws=1, **asked) for seed in (5, 100_005)]
    [row], parts = both.rows, [one.rows[0] for one in single]
    for name in ("mse", "wiener", "wins"):
        assert getattr(row, name) == pytest.approx(np.mean([getattr(part, name) for part in parts]))
    assert row.error.value == row.mse and row.relative.value == pytest.approx(row.mse / row.wiener - 1)
    assert row.relative.low < row.relative.value < row.relative.high and row.error.over == "images and noise draws"
    assert {part.error.over for part in parts} == {"images, one noise draw each"}
    stored = json.loads(json.dumps(both.to_json()))
    assert evaluation.DenoisingResult.from_json(stored) == both and (both.images, both.noise_draws) == (8, 2)
    before = {name: row[name] for row in stored["rows"] for name in ("t", "logsnr", "mse", "wiener", "wins")}
    older = evaluation.DenoisingResult.from_json({**stored, "rows": [before]})
    assert older.rows[0].relative is None and older.rows[0].mse == row.mse


def test_the_relative_loss_is_that_of_the_denoising_error(splits):
    """The error of x0_hat is that of the output times a factor of t, so members compare alike in both."""
    members = [zoo.tiny("unet", "timestep"), zoo.tiny("unet", "none")]
    losses = evaluation.losses(members, splits, count=8, levels=2, noise_draws=2)
    [row] = [row for row in losses.rows if row.split == "test" and row.t == 0.25]
    errors = [evaluation.denoising(one, splits, 8, times=(0.25,), noise_draws=2).rows[0].mse for one in members]
    assert row.relative.value == pytest.approx(errors[1] / errors[0] - 1, rel=1e-3)


def test_neighbors_finds_memorized_images(splits, monkeypatch):
    train = data.load_images(splits, 8, "train")
    unlike = torch.randint(0, 256, (8, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    mixed = torch.cat([train[:4], train[4:8].flip(3), unlike])
    monkeypatch.setattr(evaluation.memorization, "sample", lambda denoiser, seeds, **options: data.to_float(mixed))
    result = evaluation.neighbors(zoo.tiny(), splits, count=16)
    assert result.smallest < 1e-3 < result.held_out_smallest
    assert result.nearer_than_held_out == 0.5
    assert result.picture.size == (2 * (16 * 9 - 1), 2 * (2 * 9 - 1))


@pytest.mark.parametrize("command", ["fidelity", "losses"])
def test_pair_commands_print_and_can_be_rerun(command, capsys, monkeypatch):
    monkeypatch.setattr(Sampling, "for_model", lambda denoiser: Sampling("heun", 3))  # only to be quick
    pair = next(iter(zoo.pairs()))
    assert main([command, pair, "--data", "bank:celeba", "--images", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    draws = " --noise-draws 4" if command == "losses" else ""
    assert result["command"] == f"python -m explore {command} {pair} --data bank:celeba --images 2 --seed 0{draws}"
    assert len(result["members"]) == 2 and result["rows"]


# The encoder ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Zips of pictures whose class is their color; names are not in the order of dataset.json."""
    path = tmp_path_factory.mktemp("labelled")
    rng = np.random.default_rng(0)
    for name, count in (("train-0", 48), ("train-1", 48), ("test", 30)):
        labels = []
        with zipfile.ZipFile(path / f"{name}.zip", "w") as archive:
            for number in reversed(range(count)):
                kind = int(rng.integers(3))
                pixels = rng.integers(0, 90, (32, 32, 3), dtype=np.uint8)
                pixels[:, :, kind] += 120
                with archive.open(f"{number:03d}.png", "w") as file:
                    Image.fromarray(pixels).save(file, format="PNG")
                labels.append([f"{number:03d}.png", kind])
            archive.writestr("dataset.json", json.dumps({"labels": labels}))
    return str(path)


def test_labels_belong_to_the_images(labelled):
    for split, count in (("train", 96), ("test", 30)):
        images, labels = data.load_images(labelled, 32, split), data.load_labels(labelled, split)
        assert len(labels) == count
        assert torch.equal(images.float().mean((2, 3)).argmax(1), labels)
    with pytest.raises(ValueError, match="has no labels"):
        data.load_labels("nothing", "train")


CONFIG = encoder.EncoderConfig(**TINY, epochs=4, batch_size=16, learning_rate=0.05)


@pytest.fixture(scope="module")
def run(labelled, tmp_path_factory):
    out = tmp_path_factory.mktemp("encoder")
    return out, encoder.train_encoder(CONFIG, labelled, out)


def test_the_encoder_learns(run):
    out, description = run
    assert description["accuracy"] > 0.9 and len(description["accuracy_by_epoch"]) == 4
    assert json.loads((out / "config.json").read_text()) == description


def test_an_interrupted_encoder_goes_on_the_same(run, labelled, tmp_path, monkeypatch):
    save = encoder._save

    def save_and_die(*arguments):
        save(*arguments)
        if arguments[-1]["epoch"] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(encoder, "_save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        encoder.train_encoder(CONFIG, labelled, tmp_path)
    assert not (tmp_path / "weights.safetensors").exists()
    monkeypatch.undo()
    monkeypatch.setattr("explore.hardware.processor_name", lambda device: "another processor")
    parts = encoder.train_encoder(CONFIG, labelled, tmp_path)["segments"]
    [own] = run[1]["segments"]
    assert parts == [own, own | {"first_image": 2 * 96, "processor": "another processor"}]
    assert encoder.train_encoder(CONFIG, labelled, tmp_path)["segments"] == parts  # it was finished
    assert (tmp_path / "weights.safetensors").read_bytes() == (run[0] / "weights.safetensors").read_bytes()
    with pytest.raises(ValueError, match="another configuration"):
        encoder.train_encoder(encoder.EncoderConfig(**TINY, epochs=5), labelled, tmp_path)


def test_an_encoder_starts_from_another_run(run, labelled, tmp_path):
    asked = encoder.EncoderConfig(**TINY, epochs=1, batch_size=16, learning_rate=1e-9)  # so the weights stay as they were
    found = encoder.train_encoder(asked, labelled, tmp_path / "second", init_from=run[0])
    assert found["training"]["before"] == run[1]["training"] and found["accuracy"] > 0.9
    first, second = (safetensors.torch.load_file(path / "weights.safetensors") for path in (run[0], tmp_path / "second"))
    assert all(torch.allclose(first[name], second[name], atol=1e-3) for name in first if name.endswith("weight"))
    with zoo.using(tmp_path / "zoo"):
        encoder.release(tmp_path / "second")
        cards.write_encoder_card()
        text = (tmp_path / "zoo" / "cifar-resnet" / "README.md").read_text()
    assert f"From image 0: {'bfloat16' if fast_bfloat16() else 'float32'} on " in text
    assert "after 5 epochs" in text and "--epochs 4 " in text and "--init-from FIRST --out RUN`" in text
    with pytest.raises(ValueError, match="no file"):
        encoder.train_encoder(asked, labelled, tmp_path / "third", init_from=tmp_path / "nothing")
    assert not (tmp_path / "third").exists()


def test_the_encoder_is_shipped_and_checked(run, tmp_path, labelled):
    (tmp_path / "index.json").write_text(json.dumps({"models": []}))
    (tmp_path / "cifar-resnet").mkdir()  # its own folder, so the one that ships is not taken
    with zoo.using(tmp_path):
        with pytest.raises(ValueError, match="no encoder is shipped"):
            encoder.load_encoder()
        assert encoder.release(run[0]) == "cifar-resnet"
        loaded = encoder.load_encoder()
    images, labels = data.load_images(labelled, 32, "test"), data.load_labels(labelled, "test")
    assert (loaded(data.to_float(images)).argmax(1) == labels).float().mean() > 0.9
    assert loaded.features(data.to_float(images)).shape == (30, 64)
    path = tmp_path / "cifar-resnet" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with zoo.using(tmp_path):
        with pytest.raises(ValueError, match="truncated or replaced"):
            encoder.load_encoder()
        with pytest.raises(ValueError, match="no file"):
            encoder.release(tmp_path / "nothing")


def test_augmentation_shifts_and_mirrors():
    images = torch.zeros(200, 3, 32, 32, dtype=torch.uint8)
    images[:, :, 10, 5] = 255
    out = encoder.augment(images, torch.Generator().manual_seed(0))
    assert out.shape == images.shape
    bright = (out[:, 0] == 1).nonzero()  # (200, 3): image, row, column
    assert bright[:, 0].tolist() == list(range(200))
    rows, columns = bright[:, 1], bright[:, 2]
    assert set(rows.tolist()) == set(range(6, 15))
    assert set(columns.tolist()) == {*range(1, 10), *range(31 - 9, 31)}
