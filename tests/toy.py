"""A data set, runs and a zoo of 8x8 pixels, for tests that need many passes of a network or weights of their own."""

import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from explore import training, zoo
from explore.__main__ import main


def pictures(path):
    """A folder of train.zip and test.zip with 40 smooth images of 8x8 pixels each."""
    path.mkdir()
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        smooth = gaussian_filter(rng.standard_normal((40, 8, 8, 3)), (0, 2, 2, 0))
        with zipfile.ZipFile(path / f"{split}.zip", "w") as archive:
            for number, image in enumerate((128 + 500 * smooth).clip(0, 255).astype(np.uint8)):
                buffer = io.BytesIO()
                Image.fromarray(image).save(buffer, format="PNG")
                archive.writestr(f"{number:04d}.png", buffer.getvalue())
    return path


def train(root: Path, images: int) -> Path:
    """Trains the pair ``toy`` into ``root``/run-IMAGES, on images that are written to ``root``/toy unless they are there."""
    if not (root / "toy").exists():
        pictures(root / "toy")
    config = training.TrainingConfig(
        pair="toy", dataset="toy", resolution=8, architecture="unet", network=zoo.TINY["unet"], prediction="velocity",
        schedule="flow", t_distribution="logit-normal", batch_size=16, learning_rate=3e-3, warmup_images=16,
        sampler={"name": "euler", "steps": 2}, images=images,
    )  # fmt: skip
    training.train(config, str(root / "toy"), root / f"run-{images}", log_images=32, grid_images=1000)
    return root / f"run-{images}"


def move(folder: Path) -> None:
    """Moves a member's weights at random: so short a run leaves the initial output."""
    weights = safetensors.torch.load_file(folder / "weights.safetensors")
    generator = torch.Generator().manual_seed(len(folder.name))
    weights = {name: one + 0.1 * torch.randn(one.shape, generator=generator).to(one) for name, one in weights.items()}
    safetensors.torch.save_file(weights, folder / "weights.safetensors")


def release(run: Path, folder: Path) -> Path:
    """A zoo in ``folder`` with the run's pair, its weights moved."""
    shutil.copytree(run, folder / "run")
    for member in ("toy-timestep", "toy-none"):
        move(folder / "run" / member)
    assert main(["--zoo", str(folder / "zoo"), "release", str(folder / "run")]) == 0
    return folder / "zoo"
