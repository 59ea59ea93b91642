"""The pretrained models: ``checkpoints/`` -> verified Denoiser; tiny models for tests; the shared starting noise.

A model is one entry in ``checkpoints/index.json`` (name, pair, size and sha256 of its weights) and one folder
(config.json, weights.safetensors, README.md). Weights are read only after their size and sha256 match the index.
Depends on schedules, models, denoiser.
"""

from __future__ import annotations

import ctypes
import difflib
import functools
import hashlib
import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from explore.denoiser import Denoiser
from explore.models import ARCHITECTURES, build, count_parameters
from explore.schedules import SCHEDULES

ROOT = Path(os.environ.get("CLOCKLESS_CHECKPOINTS", Path(__file__).resolve().parent.parent / "checkpoints"))
PRECISIONS = ("auto", "float32", "bfloat16")
MAX_SEED = 2**32 - 1


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


def choose(kind: str, name: str, options: Iterable[str]) -> str:
    """Returns ``name`` if it is among ``options``.

    Raises:
        ValueError: Otherwise, naming near matches or all options.
    """
    options = list(options)
    if name in options:
        return name
    near = difflib.get_close_matches(name, options, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}? All: " if near else "choose from "
    raise ValueError(f"unknown {kind} {name!r}; {hint}{', '.join(options) or 'none (no checkpoint is installed)'}")


def read_json(path: Path) -> Any:
    """The JSON in ``path``.

    Raises:
        ValueError: If the file is missing or is not JSON, in one line.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"no file {path}") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"cannot read {path} as JSON: {error}") from None


def write_atomically(path: Path, content: bytes | str) -> None:
    """Writes ``content`` under a temporary name, then renames: readers see the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(temporary, path)


def save_state(path: Path, tensors: dict[str, Tensor], **metadata: Any) -> None:
    """Writes the state of a training run, tensors and JSON values, under a temporary name, then renames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    # Cloned: tensors that share memory, as tied or sliced ones do, cannot be stored.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    safetensors.torch.save_file(tensors, temporary, {name: json.dumps(value) for name, value in metadata.items()})
    os.replace(temporary, path)


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what :func:`save_state` wrote: tensors and JSON values.

    Raises:
        ValueError: If the file is something else.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = {name: json.loads(value) for name, value in file.metadata().items()}
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except Exception as error:  # the library raises its own, undocumented types
        raise ValueError(f"{path} is not a state file of this trainer: {error}") from None


def index(root: Path | None = None) -> dict[str, dict[str, Any]]:
    """The checkpoint index: name -> {pair, size, sha256}, in the order in which models are shown."""
    path = (root or ROOT) / "index.json"
    entries = read_json(path)
    try:
        return {entry["name"]: {key: entry[key] for key in ("pair", "size", "sha256")} for entry in entries["models"]}
    except (TypeError, KeyError) as error:
        raise ValueError(f"{path} is not a checkpoint index: {type(error).__name__} {error}") from None


def models(root: Path | None = None) -> list[ModelInfo]:
    """Every model of the index. Parameters are counted on the built network, not copied from a file."""
    return [info(name, root) for name in index(root)]


def info(name: str, root: Path | None = None) -> ModelInfo:
    """What is known of one model without reading its weights.

    Raises:
        ValueError: For an unknown name or a configuration that cannot be built.
    """
    entries = index(root)
    choose("model", name, entries)
    config = _config(name, root)
    with torch.device("meta"):
        parameters, without_time = count_parameters(
            ARCHITECTURES[config["architecture"]](config["time_conditioning"], **config["network"])
        )
    return ModelInfo(
        name=name,
        pair=entries[name]["pair"],
        parameters=parameters,
        parameters_without_time=without_time,
        sha256=entries[name]["sha256"],
        **{
            key: config[key]
            for key in (
                "dataset", "resolution", "architecture", "time_conditioning", "prediction", "schedule", "images_seen"
            )
        },
    )  # fmt: skip


def pairs(root: Path | None = None) -> dict[str, list[str]]:
    """Pair -> names of its members, the one that is told the time first."""
    grouped: dict[str, list[str]] = {}
    for name, entry in index(root).items():
        grouped.setdefault(entry["pair"], []).append(name)
    return grouped


def _config(name: str, root: Path | None) -> dict[str, Any]:
    path = (root or ROOT) / name / "config.json"
    config = read_json(path)
    needed = {
        "dataset": str, "resolution": int, "architecture": str, "time_conditioning": str, "network": dict,
        "prediction": str, "schedule": str, "images_seen": int,
    }  # fmt: skip
    for key, kind in needed.items():
        if not isinstance(config, dict) or not isinstance(config.get(key), kind):
            raise ValueError(f"{path}: {key!r} is missing or is not of type {kind.__name__}")
    choose("architecture", config["architecture"], ARCHITECTURES)
    choose("schedule", config["schedule"], SCHEDULES)
    return config


def load(name: str, precision: str = "auto", root: Path | None = None, device: str | torch.device = "cpu") -> Denoiser:
    """Loads a pretrained model.

    Args:
        name: A name of the index (``python -m explore models`` lists them).
        precision: ``auto`` (bfloat16 where the hardware is fast at it, else float32), ``float32`` or ``bfloat16``.
        root: Another checkpoint folder than the project's own.
        device: Where the network runs.

    Returns:
        A Denoiser in evaluation mode, without gradients for its parameters.

    Raises:
        ValueError: For an unknown name or precision, or weights that are missing, of the wrong size or hash, or that
            do not fit the configuration.
    """
    choose("precision", precision, PRECISIONS)
    entries = index(root)
    choose("model", name, entries)
    config = _config(name, root)
    path = (root or ROOT) / name / "weights.safetensors"
    tensors = read_weights(path, size=entries[name]["size"], sha256=entries[name]["sha256"])
    network = build(config["architecture"], config["time_conditioning"], config["network"])
    load_tensors(network, tensors, path)
    if precision == "auto":
        precision = "bfloat16" if fast_bfloat16(device) else "float32"
    network = network.to(device, getattr(torch, precision)).to(memory_format=torch.channels_last)
    network.eval().requires_grad_(False)
    if torch.device(device).type == "cpu":
        keep_freed_memory()
    resolution = config["resolution"]
    return Denoiser(network, SCHEDULES[config["schedule"]], config["prediction"], (3, resolution, resolution), name)


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


def load_tensors(network: torch.nn.Module, tensors: dict[str, Tensor], origin: Path | str) -> None:
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


def fast_bfloat16(device: str | torch.device = "cpu") -> bool:
    """Whether the hardware multiplies bfloat16 matrices natively (it can be a hundred times slower where it does not)."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.device(device).type != "cpu":
        return False
    # Feature flags rather than a timing: a timing could choose differently from one run to the next.
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)


def hardware_name(device: str | torch.device, processes: int = 1) -> str:
    """The hardware in words, for model cards and measurements."""
    if torch.device(device).type == "cuda":
        return f"{processes} x {torch.cuda.get_device_name(device)}"
    model = platform.processor() or platform.machine()
    try:
        rows = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = rows[0].split(":", 1)[1].strip() if rows else model
    except OSError:
        pass
    threads = torch.get_num_threads() * processes
    return f"CPU, {model}, {threads} thread{'s' if threads > 1 else ''}"


@functools.cache
def keep_freed_memory() -> bool:
    """Has glibc keep up to 256 MiB of freed memory for the next evaluation, for the rest of the process.

    By default it hands every large activation back to the system and faults its pages in again, evaluation after
    evaluation: a seventh of the sampling time on a CPU. Results are the same bits either way.

    Returns:
        Whether this C library could be asked; elsewhere nothing changes.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS and musl have no mallopt, Windows no CDLL(None)
        return False
    return bool(mallopt(trim_threshold, 256 * 2**20)) and bool(mallopt(mmap_threshold, 32 * 2**20))  # its upper limit


def check_seeds(seeds: Sequence[int]) -> list[int]:
    """``seeds`` as a list of Python integers.

    Raises:
        ValueError: If one is not an integer from 0 to 2^32 - 1.
    """
    for seed in seeds:
        if isinstance(seed, bool) or int(seed) != seed or not 0 <= seed <= MAX_SEED:
            raise ValueError(f"seed must be a whole number from 0 to {MAX_SEED}, got {seed}")
    return [int(seed) for seed in seeds]


def seed_range(seed: int, count: int) -> list[int]:
    """``count`` consecutive seeds from ``seed``; past 2^32 - 1 they continue at 0."""
    check_seeds([seed])
    return [(seed + offset) % (MAX_SEED + 1) for offset in range(count)]


def noise(seeds: Sequence[int], shape: Sequence[int], step: int = 0) -> Tensor:
    """Unit Gaussian noise, one seed an image, the same for every batch size, device and model.

    Args:
        seeds: N seeds, 0 to 2^32 - 1.
        shape: Shape of one image, such as (3, 32, 32).
        step: 0 is the starting noise; k > 0 is the noise of the k-th stochastic step.

    Returns:
        (N, *shape), float32, on the CPU.

    Raises:
        ValueError: For a seed outside the range.
    """
    draws = [
        np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, step]))).standard_normal(shape, np.float32)
        for seed in check_seeds(seeds)
    ]
    return torch.from_numpy(np.stack(draws)) if draws else torch.empty(0, *shape)


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
) -> Denoiser:
    """A Denoiser of a few thousand parameters for 8x8 images, all of them random (nothing left at zero), for tests.

    Args:
        architecture: A key of ``ARCHITECTURES``.
        time_conditioning: ``timestep``, ``constant`` or ``none``.
        prediction: A key of ``PREDICTIONS``.
        schedule: A key of ``SCHEDULES``; by default ``flow`` for velocity, else ``ddpm-cosine``.
        seed: Of the parameters.
    """
    choose("architecture", architecture, ARCHITECTURES)
    network = build(architecture, time_conditioning, TINY[architecture], seed)
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        with torch.no_grad():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    schedule = schedule or ("flow" if prediction == "velocity" else "ddpm-cosine")
    return Denoiser(network.eval().requires_grad_(False), SCHEDULES[schedule], prediction, (3, 8, 8), "tiny")
