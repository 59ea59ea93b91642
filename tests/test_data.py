"""Images in, tensors out: sources, splits, crops, and one clear line for what cannot be read."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10

from explore import data, zoo
from explore.schedules import SCHEDULES
from explore.seeds import keyed_noise

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind, **({"lossless": True} if kind == "WEBP" else {}))
    return buffer.getvalue()


def write_zip(path, images, kind="PNG"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("dataset.json", json.dumps({"labels": []}))
        for number, pixels in enumerate(images):
            archive.writestr(f"{number:05d}.{kind.lower()}", encoded(pixels, kind))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_zip_gives_the_pixels(tmp_path, kind):
    write_zip(tmp_path / "x.zip", PIXELS, kind)
    images = data.load_images(tmp_path / "x.zip", 8, "all")
    assert images.dtype == torch.uint8 and images.shape == (60, 3, 8, 8)
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), PIXELS)


def test_every_twentieth_image_is_held_out(tmp_path):
    write_zip(tmp_path / "x.zip", PIXELS)
    train, test = (data.load_images(tmp_path / "x.zip", 8, split).permute(0, 2, 3, 1).numpy() for split in ("train", "test"))
    assert np.array_equal(test, PIXELS[19::20])
    assert np.array_equal(train, np.delete(PIXELS, [19, 39, 59], axis=0))


def test_folder_of_zips_has_its_own_splits(tmp_path):
    write_zip(tmp_path / "train-0.zip", PIXELS[:10])
    write_zip(tmp_path / "train-1.zip", PIXELS[10:20])
    write_zip(tmp_path / "test.zip", PIXELS[20:25])
    train, test = (data.load_images(tmp_path, 8, split).permute(0, 2, 3, 1).numpy() for split in ("train", "test"))
    assert np.array_equal(train, PIXELS[:20]) and np.array_equal(test, PIXELS[20:25])
    assert len(data.load_images(tmp_path, 8, "all")) == 25


def test_folder_with_subfolders(tmp_path):
    for split, pixels in (("train", PIXELS[0]), ("test", PIXELS[1])):
        (tmp_path / split).mkdir()
        (tmp_path / split / "a.png").write_bytes(encoded(pixels))
    assert np.array_equal(data.load_images(tmp_path, 8, "test")[0].permute(1, 2, 0).numpy(), PIXELS[1])


def test_torchvision_cifar10(tmp_path, monkeypatch):
    """torchvision's own files, written as the original archive has them."""
    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    flat = RNG.integers(0, 256, (3, 3072), dtype=np.uint8)
    for name, _ in CIFAR10.train_list + CIFAR10.test_list:
        (folder / name).write_bytes(pickle.dumps({"data": flat, "labels": [0, 1, 2]}))
    (folder / CIFAR10.meta["filename"]).write_bytes(pickle.dumps({CIFAR10.meta["key"]: ["a", "b", "c"]}))
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    monkeypatch.setenv("CLOCKLESS_DATA", str(tmp_path))
    assert np.array_equal(data.load_images("cifar10", 32, "test").numpy(), flat.reshape(3, 3, 32, 32))
    assert len(data.load_images("cifar10", 32, "train")) == 15


@pytest.mark.parametrize("source", ["cifar10", "celeba"])
def test_missing_torchvision_data_says_how_to_get_it(tmp_path, monkeypatch, source):
    monkeypatch.setenv("CLOCKLESS_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="download=True"):
        data.load_images(source, 32)


def test_celeba_is_cropped_around_the_face():
    """A bright square where the face is fills the crop, at full and at half size alike."""
    for (width, height), (left, top, right, bottom) in data.CELEBA_CROPS.items():
        side = right - left
        assert side == bottom - top and abs((left + right) / 2 - width / 2) < 1
        pixels = np.zeros((height, width, 3), dtype=np.uint8)
        pixels[top:bottom, left:right] = 200
        # The resizer's kernel reaches a few pixels over the edge of the box: brightness is exact inside, high at the edge.
        face = data.fit(Image.fromarray(pixels), 32)
        assert (face[6:-6, 6:-6] == 200).all() and face.min() > 150
        assert data.fit(Image.fromarray(np.roll(pixels, side // 3, axis=0)), 32)[:6].max() == 0


def test_other_shapes_are_cropped_to_the_central_square():
    pixels = np.zeros((10, 20, 3), dtype=np.uint8)
    pixels[:, 5:15] = 255
    assert (data.fit(Image.fromarray(pixels), 10) == 255).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path / "nothing", "no data at"),
        (lambda path: path, "holds no images"),
        (lambda path: (path / "a.zip").write_bytes(b"not a zip") and path / "a.zip", "as a zip file"),
        (lambda path: (path / "a.png").write_bytes(b"not an image") and path, "as an image"),
        (lambda path: (path / "a.png").write_bytes(encoded(PIXELS[0])[:60]) and path, "as an image"),
        (lambda path: "bank:nothing", "unknown bank"),
    ],
)
def test_bad_sources_give_one_clear_line(tmp_path, make, message):
    with pytest.raises(ValueError, match=message) as error:
        data.load_images(make(tmp_path), 8, "all")
    assert "\n" not in str(error.value)


def test_bad_split_and_resolution(tmp_path):
    with pytest.raises(ValueError, match="unknown split"):
        data.load_images(tmp_path, 8, "validation")
    with pytest.raises(ValueError, match="resolution"):
        data.load_images(tmp_path, 0)


def test_uint8_round_trip():
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(data.to_uint8(data.to_float(every)), every)
    assert data.to_uint8(torch.tensor([-5.0, 5.0])).tolist() == [0, 255]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_noising_has_the_schedule_s_moments(schedule):
    t = torch.tensor([0.0, 0.3, 0.9])
    x0, eps = torch.full((3, 3, 32, 32), 0.5), keyed_noise([0, 1, 2], (3, 32, 32))
    xt = data.add_noise(x0, eps, t, SCHEDULES[schedule])
    assert torch.equal(xt[0], x0[0])
    for image, time, noise in zip(xt, t.double(), eps):
        alpha, sigma = SCHEDULES[schedule].alpha(time), SCHEDULES[schedule].sigma(time)
        assert torch.allclose(image, (0.5 * alpha + sigma * noise.double()).float(), atol=1e-6)


def test_bank_is_what_its_record_says():
    """512 images a data set, lossless, at most 2 MB, of the hash and model that the record names."""
    import hashlib

    records = sorted(zoo.folder("bank").glob("*.json"))
    assert records
    for path in records:
        record, content = json.loads(path.read_text()), path.with_suffix(".zip").read_bytes()
        assert len(content) <= 2_000_000
        assert hashlib.sha256(content).hexdigest() == record["sha256"]
        assert record["model"] in zoo.index()
        images = data.load_images(f"bank:{path.stem}", 32, "all")
        assert images.shape == (512, 3, 32, 32)
        assert len(images.flatten(1).unique(dim=0)) == 512
        assert 20 < images.float().std() < 120  # photographs, not noise and not a flat color
