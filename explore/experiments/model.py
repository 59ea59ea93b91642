"""Options that several experiments share: which model, which images, which first seed. Depends on adapters, bayes,
data, probes, request, zoo.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from explore import adapters, bayes, probes, zoo
from explore.data import SPLITS, images_for, load_images, read_image
from explore.denoiser import Denoiser
from explore.experiments.request import Load, Request
from explore.samplers import Sampling
from explore.seeds import MAX_SEED
from explore.values import choice, text, whole

MAX_COUNT = 10_000


def seed_option() -> Any:
    """The field for the first seed."""
    return whole(0, MAX_SEED, "First seed, 0 to 4294967295; image i has seed + i.", 0)


def model_option() -> Any:
    """The field for one shipped model, which must be named."""
    return choice("model", zoo.index, "Name of a model; `models` lists them.", positional=True)


def pair_option() -> Any:
    """The field for a pair, which must be named."""
    return choice("pair", zoo.pairs, "Name of a pair, as listed by `models`.", positional=True)


def data_option() -> Any:
    """The field for a source of images, which must be named."""
    return text("cifar10, celeba, bank:NAME, or a folder or zip of images.", source=True)


def split_option() -> Any:
    """The field for a split of the images."""
    return choice("split", lambda: SPLITS, "Of the data.", "test")


def images_option(default: int) -> Any:
    """The field for how many images of a split are used."""
    return whole(1, MAX_COUNT, "Images of a split, at most; 1 to 10,000.", default)


@dataclass(frozen=True)
class OfModel(Request):
    """An experiment with one model: a shipped one, or a folder of diffusers."""

    model: str | None = choice("model", zoo.index, "Name of a model, or --diffusers in its place.", None, positional=True)
    diffusers: str | None = text("Folder of a diffusers UNet2DModel or DiTTransformer2DModel, in the place of MODEL.", None)
    label: int | None = whole(0, 10**6, "With --diffusers: the class asked of a network that has classes.", None)

    def check(self) -> None:
        """Exactly one model is named, and a label only for one that may have classes."""
        if (self.model is None) == (self.diffusers is None):
            raise ValueError("name one model: MODEL (`models` lists them) or --diffusers FOLDER")
        if self.label is not None and self.diffusers is None:
            raise ValueError("--label belongs to --diffusers: our models have no classes")

    def suits(self, **given: Any) -> Sampling:
        """What suits the model."""
        if self.diffusers is None:
            return Sampling.for_model(zoo.info(str(self.model)), **given)
        return Sampling.for_model(SimpleNamespace(prediction=adapters.prediction_of(self.diffusers)), **given)

    def check_store(self) -> None:
        """Results are kept with shipped models only."""
        if self.diffusers is not None:
            raise ValueError(f"--store keeps results with a shipped model, not with {self.diffusers}")

    def model_from(self, load: Load, precision: str = "float32") -> Denoiser:
        """The model."""
        if self.diffusers is not None:
            return adapters.from_diffusers(self.diffusers, self.label, precision)
        return load(str(self.model), precision)


@dataclass(frozen=True)
class OfModels(OfModel):
    """An experiment with one model, or with both members of a pair."""

    model: str | None = choice(
        "model", lambda: [*zoo.index(), *zoo.pairs()], "A model, a pair (both members), or --diffusers in its place.", None,
        positional=True,
    )  # fmt: skip

    @property
    def names(self) -> list[str]:
        """Names of the shipped models: one, two for a pair, none with ``diffusers``."""
        return zoo.members_of(str(self.model)) if self.model in zoo.pairs() else [self.model] if self.model else []

    def suits(self, **given: Any) -> Sampling:
        """What suits the models."""
        return Sampling.for_model(zoo.info(self.names[0]), **given) if self.names else super().suits(**given)

    def models_from(self, load: Load, precision: str = "float32") -> list[Denoiser]:
        """The models."""
        return [load(name, precision) for name in self.names] or [self.model_from(load, precision)]


def noise_draws_option() -> Any:
    """The field for how many noises each image gets."""
    return whole(1, 100, "Noises for each image, 1 to 100.", 4)


def probes_option() -> Any:
    """The field for a folder of fitted probes."""
    return text("Folder that `probe` wrote; by default the model's own probes.", None, source=True)


def probes_of(denoiser: Denoiser, folder: str | None) -> probes.ProbeSet:
    """The probes in a folder, or a shipped model's own.

    Raises:
        ValueError: If there are none, or they were fitted to other weights.
    """
    if folder is None:
        if (info := zoo.shipped(denoiser)) is None:
            raise ValueError(f"{denoiser.name} has no probes of its own: make them with `probe` and name --probes FOLDER")
        return probes.load(info.name)
    probe_set = probes.ProbeSet.read(Path(folder) / "probes.safetensors", denoiser.schedule)
    if probe_set.sha256 and denoiser.sha256 and probe_set.sha256 != denoiser.sha256:
        raise ValueError(f"the probes in {folder} were fitted to other weights ({probe_set.model}): run `probe` for this model")
    return probe_set


def one_image(source: str, index: int, shape: tuple[int, int, int]) -> tuple[Tensor, str]:
    """One image, uint8 (1, C, H, W), and a description, which says what was done to a file and counts images from 1.

    Args:
        source: An image file, or a source of images.
        index: Which image of a source, from 0.
        shape: (C, H, W) to return.
    """
    path, (channels, *size) = Path(source), shape
    if path.is_file() and path.suffix.lower() != ".zip":
        picture, said = read_image(path, size, channels)
        return picture[None], " ".join([f"{path.name}.", *said]) if said else path.name
    pictures = load_images(source, size, "all", channels=channels)
    if not 0 <= index < len(pictures):
        raise ValueError(f"index must be from 0 to {len(pictures) - 1} for {source}, got {index}")
    return pictures[index : index + 1], f"{path.name}, image {index + 1} of {len(pictures)}"


def held_out(denoiser: Denoiser, data: str, split: str, count: int, seed: int) -> tuple[Tensor, str]:
    """Images to show a model, uint8 or float (N, C, H, W), and what they are in words.

    Args:
        denoiser: The model.
        data: A source of images, or ``gaussian:NAME``: samples of a fitted Gaussian, whose exact posterior is known.
        split: Of the source.
        count: Images, at most.
        seed: Of the samples of a Gaussian.
    """
    if data.startswith("gaussian:"):  # not rounded to gray levels
        gaussian = bayes.fitted_gaussian(data.removeprefix("gaussian:"), denoiser.shape)
        drawn = gaussian.draw(count, torch.Generator().manual_seed(seed))
        return gaussian.to_images(drawn, denoiser.shape).float(), f"drawn from {gaussian.prior}"
    return images_for(denoiser, data, split)[:count], f"{Path(data).name}, split {split}"


def identity(denoiser: Denoiser) -> dict[str, Any]:
    """What a stored result says of its model; the sha256 of the weights tells models of one name apart."""
    return {"model": denoiser.name, "sha256": denoiser.sha256 or None}
