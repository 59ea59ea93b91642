"""The pretrained models: a folder of them -> verified Denoiser; opened files of this project's format; tiny models for tests.

A model is one entry in ``checkpoints/index.json`` (name, pair, size and sha256 of its weights) and one folder
(config.json, weights.safetensors, README.md). Weights are read only after their size and sha256 match the index.
Depends on schedules, models, denoiser, files, hardware, values.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from explore.denoiser import PREDICTIONS, Denoiser
from explore.files import file_sha256, read_json
from explore.hardware import PRECISIONS, settle
from explore.models import ARCHITECTURES, TIME_CONDITIONINGS, build, count_parameters
from explore.schedules import SCHEDULES
from explore.values import choose

SHIPPED = Path(__file__).resolve().parent.parent / "checkpoints"
# What each kind of member is called.
TITLES = {"timestep": "conditioned", "constant": "constant t", "none": "time-agnostic"}


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a model without reading its weights; the fields of ``python -m explore models``."""

    name: str
    pair: str
    dataset: str
    resolution: int
    architecture: str
    time_conditioning: str
    prediction: str
    schedule: str
    parameters: int
    parameters_without_time: int
    images_seen: int
    sha256: str


@dataclass(frozen=True)
class Zoo:
    """A folder of models: ``index.json`` and one folder per model."""

    root: Path

    def folder(self, name: str) -> Path:
        """Where the files of a model lie."""
        return self.root / name

    def companion(self, part: str) -> Path:
        """Where ``part`` (the encoder, ``bank``, ``gaussian``) lies: in this folder, or else in the shipped one.

        A folder that ``release`` made holds only models; what they are measured with comes from the shipped folder.
        """
        return self.root / part if (self.root / part).is_dir() or not (SHIPPED / part).is_dir() else SHIPPED / part

    def index(self) -> dict[str, dict[str, Any]]:
        """The checkpoint index: name -> {pair, size, sha256}, in the order in which models are shown."""
        path = self.root / "index.json"
        entries = read_json(path)
        try:
            return {entry["name"]: {key: entry[key] for key in ("pair", "size", "sha256")} for entry in entries["models"]}
        except (TypeError, KeyError) as error:
            raise ValueError(f"{path} is not a checkpoint index: {type(error).__name__} {error}") from None

    def models(self) -> list[ModelInfo]:
        """Every model of the index. Parameters are counted on the built network, not copied from a file."""
        return [self.info(name) for name in self.index()]

    def info(self, name: str) -> ModelInfo:
        """What is known of one model without reading its weights.

        Raises:
            ValueError: For an unknown name or a configuration that cannot be built.
        """
        entry, config = self._entry(name)
        parameters, without_time = _count(config["architecture"], config["time_conditioning"], json.dumps(config["network"]))
        return ModelInfo(
            name=name, pair=entry["pair"], parameters=parameters, parameters_without_time=without_time, sha256=entry["sha256"],
            **{key: config[key] for key in CONFIGURED if key != "network"},
        )  # fmt: skip

    def pairs(self) -> dict[str, list[str]]:
        """Pair -> names of its members, the conditioned one first."""
        grouped: dict[str, list[str]] = {}
        for name, entry in self.index().items():
            grouped.setdefault(entry["pair"], []).append(name)
        return grouped

    def members_of(self, pair: str) -> list[str]:
        """The two models of a pair that are compared: the conditioned and the time-agnostic one, or else the first two.

        Raises:
            ValueError: For an unknown pair, or one with a single member.
        """
        known = self.pairs()
        names = known[choose("pair", pair, known)]
        by_conditioning = {self.info(name).time_conditioning: name for name in names}
        if {"timestep", "none"} <= set(by_conditioning):
            return [by_conditioning["timestep"], by_conditioning["none"]]
        if len(names) < 2:
            raise ValueError(f"pair {pair!r} has one member only: {names[0]}")
        return names[:2]

    def load(self, name: str, precision: str = "auto", device: str | torch.device = "cpu") -> Denoiser:
        """Loads a pretrained model.

        Args:
            name: A name of the index (``python -m explore models`` lists them).
            precision: ``auto`` (bfloat16 where the hardware is fast at it, else float32), ``float32`` or ``bfloat16``.
            device: Where the network runs.

        Returns:
            A Denoiser in evaluation mode, without gradients for its parameters.

        Raises:
            ValueError: For an unknown name or precision, or weights that are missing, of the wrong size or hash, or that
                do not fit the configuration.
        """
        choose("precision", precision, PRECISIONS)
        entry, config = self._entry(name)
        path = self.folder(name) / "weights.safetensors"
        tensors = read_weights(path, size=entry["size"], sha256=entry["sha256"])
        network = build(config["architecture"], config["time_conditioning"], config["network"])
        load_tensors(network, tensors, path)
        return Denoiser(
            settle(network, precision, device), SCHEDULES[config["schedule"]], config["prediction"], _shape(config), name,
            source=str(self.root), sha256=entry["sha256"],
        )  # fmt: skip

    def shipped(self, denoiser: Denoiser) -> ModelInfo | None:
        """The model of this folder that a Denoiser is, by source and sha256 of its weights; None for any other."""
        if not denoiser.sha256 or denoiser.source != str(self.root):
            return None
        return next((self.info(name) for name, entry in self.index().items() if entry["sha256"] == denoiser.sha256), None)

    def _entry(self, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """A model's entry of the index and its checked configuration."""
        entries = self.index()
        choose("model", name, entries)
        path = self.folder(name) / "config.json"
        return entries[name], _checked_config(read_json(path), path)


# The default zoo -----------------------------------------------------------------------------------------------------------


_default = Zoo(Path(os.environ.get("CLOCKLESS_CHECKPOINTS", SHIPPED)))


def default() -> Zoo:
    """The zoo that the functions below use: the folder in CLOCKLESS_CHECKPOINTS, else ``checkpoints/``."""
    return _default


@contextlib.contextmanager
def using(root: Path) -> Iterator[Zoo]:
    """Makes the models in ``root`` the default zoo within the block."""
    global _default
    before, _default = _default, Zoo(root)
    try:
        yield _default
    finally:
        _default = before


def folder(name: str) -> Path:
    return _default.folder(name)


def companion(part: str) -> Path:
    return _default.companion(part)


def index() -> dict[str, dict[str, Any]]:
    return _default.index()


def models() -> list[ModelInfo]:
    return _default.models()


def info(name: str) -> ModelInfo:
    return _default.info(name)


def pairs() -> dict[str, list[str]]:
    return _default.pairs()


def members_of(pair: str) -> list[str]:
    return _default.members_of(pair)


def load(name: str, precision: str = "auto", device: str | torch.device = "cpu") -> Denoiser:
    """Loads a pretrained model of the default zoo; see :meth:`Zoo.load`."""
    return _default.load(name, precision, device)


def shipped(denoiser: Denoiser) -> ModelInfo | None:
    return _default.shipped(denoiser)


# Files of this project's format --------------------------------------------------------------------------------------------


CONFIGURED = {  # keys of a config.json that must be there, and their types
    "dataset": str, "resolution": int, "architecture": str, "time_conditioning": str, "network": dict,
    "prediction": str, "schedule": str, "images_seen": int,
}  # fmt: skip


@functools.cache
def _count(architecture: str, time_conditioning: str, network: str) -> tuple[int, int]:
    """Parameters of a network given as JSON, with and without those for t; kept, since building it takes .1 s."""
    with torch.device("meta"):
        return count_parameters(ARCHITECTURES[architecture](time_conditioning, **json.loads(network)))


def _checked_config(config: Any, path: Path | str) -> dict[str, Any]:
    for key, kind in CONFIGURED.items():
        if not isinstance(config, dict) or not isinstance(config.get(key), kind):
            raise ValueError(f"{path}: {key!r} is missing or is not of type {kind.__name__}")
    choose("architecture", config["architecture"], ARCHITECTURES)
    choose("schedule", config["schedule"], SCHEDULES)
    return config


def _shape(config: dict[str, Any]) -> tuple[int, int, int]:
    """(C, H, W) of one image of a checked configuration."""
    return int(config["network"].get("image_channels", 3)), config["resolution"], config["resolution"]


MAX_FOREIGN_BYTES, MAX_FOREIGN_PARAMETERS, MAX_FOREIGN_NUMBER = 64 * 2**20, 16_000_000, 1024


def open_files(config: Path, weights: Path, precision: str = "auto") -> Denoiser:
    """A model from somebody's ``config.json`` and ``weights.safetensors``, in this project's format but in no index.

    Sizes, names and shapes are checked against the architecture before any tensor is read or any memory taken for them.

    Args:
        config: As ``train`` and ``release`` write it.
        weights: safetensors, at most 64 MiB; no other format is read.
        precision: As for :meth:`Zoo.load`.

    Raises:
        ValueError: For files that are too large, are something else, do not fit each other, or a network of more than 16
            million parameters.
    """
    choose("precision", precision, PRECISIONS)
    for path, limit in ((config, 2**18), (weights, MAX_FOREIGN_BYTES)):
        if not path.is_file():
            raise ValueError(f"no file {path.name}")
        if path.stat().st_size > limit:
            raise ValueError(f"{path.name} has {path.stat().st_size:,} bytes; at most {limit:,} are read")
    found = _checked_config(read_json(config), config.name)
    choose("time_conditioning", str(found["time_conditioning"])[:40], TIME_CONDITIONINGS)
    choose("prediction", str(found["prediction"])[:40], PREDICTIONS)
    numbers = [*_numbers(found["network"]), found["resolution"]]
    if any(not 0 <= number <= MAX_FOREIGN_NUMBER for number in numbers) or len(numbers) > 64:
        raise ValueError(f"{config.name}: the numbers of a network must be from 0 to {MAX_FOREIGN_NUMBER}")
    if found["network"].get("resolution", found["resolution"]) != found["resolution"]:
        raise ValueError(f"{config.name}: the network's resolution is not the model's")
    try:
        with torch.device("meta"):
            sketch = ARCHITECTURES[found["architecture"]](found["time_conditioning"], **found["network"])
    except Exception as error:  # whatever an unfit configuration makes torch say
        raise ValueError(f"{config.name} describes no network: {' '.join(str(error).split())[:200]}") from None
    count = sum(parameter.numel() for parameter in sketch.parameters())
    if count > MAX_FOREIGN_PARAMETERS:
        raise ValueError(f"the network has {count:,} parameters; at most {MAX_FOREIGN_PARAMETERS:,} are opened here")
    try:
        with safetensors.safe_open(weights, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # the library raises its own, undocumented types
        raise ValueError(f"{weights.name} is not a safetensors file: {' '.join(str(error).split())[:200]}") from None
    expected = {name: tuple(tensor.shape) for name, tensor in sketch.state_dict().items()}
    wrong = [name for name in {**expected, **shapes} if expected.get(name) != shapes.get(name)]
    if wrong:
        name = wrong[0]
        shown = f"{weights.name} does not fit {config.name}: tensor {name[:80]!r}"
        if name not in expected:
            raise ValueError(f"{shown} is none of the network's")
        if name not in shapes:
            raise ValueError(f"{shown} is missing")
        raise ValueError(f"{shown} has shape {shapes[name]}, the network's is {expected[name]}")
    network = build(found["architecture"], found["time_conditioning"], found["network"])
    load_tensors(network, safetensors.torch.load_file(weights), weights.name)
    if not all(bool(parameter.isfinite().all()) for parameter in network.parameters()):
        raise ValueError(f"{weights.name} holds values that are not finite")
    return Denoiser(
        settle(network, precision, "cpu"), SCHEDULES[found["schedule"]], found["prediction"], _shape(found), "yours",
        source=str(weights), sha256=file_sha256(weights),
    )  # fmt: skip


def _numbers(value: Any) -> Iterator[float]:
    """Every number in JSON values."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _numbers(part)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield float(value)


def read_weights(path: Path, *, size: int, sha256: str) -> dict[str, Tensor]:
    """Reads a safetensors file after checking its size and hash.

    Raises:
        ValueError: If the file is missing, its size or sha256 differ, or it is not safetensors.
    """
    if not path.is_file():
        raise ValueError(f"no weights at {path}")
    actual = path.stat().st_size
    if actual != size:
        raise ValueError(f"{path} has {actual} bytes, the index says {size}: truncated or replaced")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise ValueError(f"{path} has sha256 {digest[:12]}..., the index says {sha256[:12]}...: corrupt or swapped")
    try:
        return safetensors.torch.load(content)
    except Exception as error:  # the library raises its own, undocumented types
        raise ValueError(f"{path} is not a safetensors file: {error}") from None


def load_tensors(network: nn.Module, tensors: dict[str, Tensor], origin: Path | str) -> None:
    """Copies ``tensors`` into ``network``, names and shapes matching exactly.

    Raises:
        ValueError: Naming the first tensor that is missing, unknown or of another shape.
    """
    expected = network.state_dict()
    for name in [*expected, *tensors]:
        if name not in tensors:
            raise ValueError(f"{origin} lacks the tensor {name!r} of this network")
        if name not in expected:
            raise ValueError(f"{origin} holds a tensor {name!r} that this network does not have")
        if tensors[name].shape != expected[name].shape:
            raise ValueError(
                f"{origin}: tensor {name!r} has shape {tuple(tensors[name].shape)}, not {tuple(expected[name].shape)}"
            )
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})


# Tiny models for tests -----------------------------------------------------------------------------------------------------


TINY: dict[str, dict[str, Any]] = {
    "unet": {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention": (4,), "head_channels": 8, "resolution": 8},
    "dit": {"width": 32, "depth": 2, "heads": 2, "patch": 2, "resolution": 8},
}


def tiny(
    architecture: str = "unet",
    time_conditioning: str = "timestep",
    prediction: str = "velocity",
    schedule: str | None = None,
    seed: int = 0,
    **network: Any,
) -> Denoiser:
    """A Denoiser of a few thousand parameters for 8x8 images, all of them random (nothing left at zero), for tests.

    Args:
        architecture: A key of ``ARCHITECTURES``.
        time_conditioning: ``timestep``, ``constant`` or ``none``.
        prediction: A key of ``PREDICTIONS``.
        schedule: A key of ``SCHEDULES``; by default ``flow`` for velocity and eqm, else ``ddpm-cosine``.
        seed: Of the parameters.
        network: Arguments of the architecture that differ from those in ``TINY``, such as ``pixel_channels=8``.
    """
    choose("architecture", architecture, ARCHITECTURES)
    built = build(architecture, time_conditioning, TINY[architecture] | network, seed)
    generator = torch.Generator().manual_seed(seed)
    for parameter in built.parameters():
        with torch.no_grad():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    schedule = schedule or ("flow" if PREDICTIONS[prediction].flow_only else "ddpm-cosine")
    return Denoiser(built.eval().requires_grad_(False), SCHEDULES[schedule], prediction, (3, 8, 8), "tiny")
