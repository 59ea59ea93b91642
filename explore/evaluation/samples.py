"""Distances between a model's samples and reference images. Depends on data, denoiser, features, files, hardware, results,
samplers."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from torch import Tensor
from tqdm.auto import tqdm

from explore import files
from explore.data import images_for, to_uint8
from explore.denoiser import Denoiser, shifted
from explore.evaluation.features import FEATURES, MIN_IMAGES, distances, extract
from explore.hardware import Team, hardware_name
from explore.results import Stored
from explore.samplers import Sampling, evaluations, sample
from explore.seeds import MAX_SEED
from explore.values import choose, whole_number, whole_numbers

SEED_BLOCK = 100_000  # number of samples that one seed of an evaluation stands for
SAMPLE_BATCH = 250


@dataclass(frozen=True)
class DistancesRow(Stored):
    """Distances of one set of samples, as :func:`explore.evaluation.distances` returns them; ``seed`` names the set."""

    seed: int
    fd: float
    kid: float
    kid_std: float
    precision: float
    recall: float


@dataclass(frozen=True)
class DistancesResult(Stored):
    """Distances between a model's samples and reference images.

    Attributes:
        distance: Name of the Fréchet distance in these ``features``.
        reference, split, reference_images: The reference images.
        count, seeds: Samples per set, and the sets.
        sampler, steps, eta, clamp, start, clock_offset: How they were sampled.
        nfe, images_per_second, dtype, hardware: Network evaluations per sample, the speed, and where it was measured.
        per_seed: Of each set.
        fd, kid, precision, recall: Means over the sets.
        encoder_sha256: Of the weights behind the features, if they are this project's.
    """

    model: str
    distance: str
    reference: str
    split: str
    reference_images: int
    features: str
    count: int
    seeds: list[int]
    sampler: str
    steps: int
    clock_offset: float
    nfe: int
    images_per_second: float
    dtype: str
    hardware: str
    per_seed: tuple[DistancesRow, ...]
    fd: float
    kid: float
    precision: float
    recall: float
    eta: float | None = None
    clamp: bool | None = None
    start: float | None = None
    step_size: float | None = None
    encoder_sha256: str | None = None

    @property
    def rows(self) -> tuple[DistancesRow, ...]:
        """One per set of samples."""
        return self.per_seed


def evaluate(
    denoiser: Denoiser,
    reference: str,
    *,
    split: str = "test",
    features: str = "cifar-resnet",
    weights: Path | None = None,
    **sampling: Any,
) -> DistancesResult:
    """Distances between a model's samples and reference images.

    Args:
        denoiser: The model.
        reference: Source of the reference images, see :func:`explore.data.load_images`.
        split: Split of the reference.
        features, weights, **sampling: As for :func:`sample_features`.

    Raises:
        ValueError: If a setting is out of range, or the reference cannot be used.
    """
    choose("features", features, FEATURES)
    images = images_for(denoiser, reference, split, enlarge=False)
    if len(images) < MIN_IMAGES:
        raise ValueError(f"distances need at least {MIN_IMAGES} images, {reference} has {len(images)} for split {split!r}")
    space = FEATURES[features].load(weights, denoiser.device)
    reference_features = extract(images, space, "reference")
    sets, record = sample_features(denoiser, features=features, space=space, **sampling)
    rows = tuple(DistancesRow(seed, **distances(part, reference_features)) for seed, part in sets.items())
    means: dict[str, Any] = {
        key: float(np.mean([getattr(row, key) for row in rows])) for key in ("fd", "kid", "precision", "recall")
    }
    return DistancesResult(
        model=denoiser.name, distance=FEATURES[features].distance, reference=Path(reference).name, split=split,
        reference_images=len(images), per_seed=rows, **record, **means,
    )  # fmt: skip


def sample_features(
    denoiser: Denoiser,
    *,
    count: int = 5000,
    features: str = "cifar-resnet",
    seeds: Sequence[int] = (0,),
    weights: Path | None = None,
    space: Callable[[Tensor], Tensor] | None = None,
    work: Path | None = None,
    clock_offset: float = 0.0,
    **settings: Any,
) -> tuple[dict[int, Tensor], dict[str, Any]]:
    """Samples in batches and keeps only their features.

    The features are stored in the folder ``work``, if given. Then an interrupted evaluation continues where it stopped, also
    on another machine, and the processes of ``accelerate launch`` share the work.

    Args:
        denoiser: The model.
        count: Samples for each of ``seeds``, ``MIN_IMAGES`` to 100,000.
        features: A key of ``FEATURES``.
        seeds: One set of samples for each; image i of set s has the seed 100,000 s + i.
        weights: File of Inception's standard weights; by default they are fetched.
        space: The function that extracts the features, if it is already loaded.
        work: Folder for the features; needed with several processes.
        clock_offset: Added to the t that the network is given, see :func:`explore.denoiser.shifted`.
        **settings: The sampler, its steps and options; by default those that suit the model.

    Returns:
        Seed -> features (count, D); and a record: the settings, ``nfe``, ``images_per_second``, ``dtype`` and ``hardware``.

    Raises:
        ValueError: If a setting is out of range, if ``work`` holds another evaluation, or if several processes have no
            ``work``.
    """
    choose("features", features, FEATURES)
    team = Team.now()
    if team.size > 1 and work is None:
        raise ValueError("several processes share their features through a folder: give it as work")
    count = whole_number("count", count, MIN_IMAGES, SEED_BLOCK)
    seeds = whole_numbers("seed of a set of samples", seeds, 0, MAX_SEED // SEED_BLOCK - 1)
    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds must be different numbers, at least one, got {seeds}")
    options = settings or Sampling.for_model(denoiser).arguments
    device = denoiser.device
    space = space or FEATURES[features].load(weights, device)
    if work:
        _same_work(work, denoiser, {"features": features, "clock_offset": clock_offset, **options})
    denoiser = shifted(denoiser, clock_offset)
    here = {"dtype": str(denoiser.dtype).removeprefix("torch."), "hardware": hardware_name(device, team.size)}
    jobs = [
        (seed, first, min(SAMPLE_BATCH, count - first))
        for seed, first in itertools.product(seeds, range(0, count, SAMPLE_BATCH))
    ]
    paths = {job: work / f"{job[0]}-{job[1]:06d}-{job[2]}.safetensors" if work else None for job in jobs}
    made: dict[tuple[int, int, int], tuple[Tensor, dict[str, str]]] = {}
    mine = jobs[team.index :: team.size]
    with tqdm(total=sum(job[2] for job in mine), unit="image", desc=denoiser.name, disable=team.index > 0) as bar:
        for job in mine:
            path, (seed, first, number) = paths[job], job
            if not (path and path.is_file()):
                began = time.monotonic()
                pictures = to_uint8(sample(denoiser, [SEED_BLOCK * seed + first + i for i in range(number)], **options))
                record = {"seconds": str((time.monotonic() - began) / team.size), **here}
                part = extract(pictures, space)
                if path:
                    files.write_atomically(path, files.to_safetensors({"features": part}, record))
                else:
                    made[job] = part, record
            bar.update(number)
    team.wait()
    sets: dict[int, list[Tensor]] = {seed: [] for seed in seeds}
    records = []
    for job, path in paths.items():
        if path:
            with safetensors.safe_open(path, framework="pt") as file:
                made[job] = file.get_tensor("features"), file.metadata()
        part, record = made.pop(job)
        sets[job[0]].append(part)
        records.append(record)
    seconds = sum(float(record["seconds"]) for record in records)
    return {seed: torch.cat(parts) for seed, parts in sets.items()}, {
        "features": features,
        "count": count,
        "seeds": list(seeds),
        **options,
        "clock_offset": clock_offset,
        "nfe": evaluations(options["sampler"], options["steps"]),
        "images_per_second": count * len(seeds) / seconds,
        **{key: "; ".join(sorted({record[key] for record in records})) for key in here},
    }


def _same_work(work: Path, denoiser: Denoiser, settings: dict[str, Any]) -> None:
    """Stores the settings in ``work``; raises ValueError if it has features of other settings."""
    path = work / "settings.json"
    settings = {"model": denoiser.name, "sha256": denoiser.sha256, **settings}
    if path.exists() and files.read_json(path) != settings:
        raise ValueError(f"{work} holds an unfinished evaluation with other settings: remove it or choose another --out")
    files.write_json(path, settings)
