"""How good a model's samples are, and what it does to held-out images beside the best linear denoiser.

Distances between sets of images (Fréchet, KID, precision, recall) are torch-fidelity's, in named features: only
Inception's with the standard weights give what is called FID. The yardstick of denoising is Wiener's filter in the DCT
basis, fitted to the training images with the covariance of the three colours at every frequency: what second-order
statistics alone can do. A network that learned anything about images is below it. Depends on bayes, data, denoiser,
encoder, samplers, trajectories, zoo.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from explore import files
from explore.bayes import DiagonalGaussian
from explore.data import add_noise, images_for, load_images, to_float, to_uint8
from explore.denoiser import PREDICTIONS, Denoiser, misled
from explore.encoder import load_encoder
from explore.hardware import Team, hardware_name
from explore.images import grid
from explore.progress import Watch, quiet
from explore.samplers import SAMPLERS, Sampling, evaluations, sample
from explore.seeds import MAX_SEED, keyed_noise, seed_range
from explore.statistics import bootstrap_mean
from explore.values import choose, real_numbers, whole_number, whole_numbers

DENOISING_TIMES = (0.25, 0.5, 0.75)
MIN_IMAGES = 16  # fewer have no distance worth the name
SEED_BLOCK = 100_000  # samples that one seed of an evaluation stands for
SAMPLE_BATCH, FEATURE_BATCH = 250, 250
INCEPTION_SHA256 = "6726825d"  # beginning of the hash of torch-fidelity's file, which carries it in its name


class WienerDenoiser:
    """Best linear estimate of x0 from xt for images whose DCT frequencies are uncorrelated (colours may correlate).

    Args:
        images: uint8 (N, 3, H, W) that it is fitted to; N at least 16.

    Raises:
        ValueError: For too few images.
    """

    def __init__(self, images: Tensor) -> None:
        if len(images) < 16:
            raise ValueError(f"a Wiener filter needs at least 16 images, got {len(images)}")
        coefficients = _dct(to_float(images).numpy())  # (N, 3, H, W)
        self.mean = coefficients.mean(axis=0)  # (3, H, W)
        centred = coefficients - self.mean
        self.covariance = np.einsum("nchw,ndhw->hwcd", centred, centred) / (len(images) - 1)  # (H, W, 3, 3)

    def error(self, alpha: float, sigma: float, x0: Tensor, eps: Tensor) -> float:
        """Mean squared error per pixel of the estimate of ``x0`` (B, 3, H, W) from alpha x0 + sigma eps."""
        clean, noise = _dct(x0.numpy()), _dct(eps.numpy())
        noisy = alpha * clean + sigma * noise - alpha * self.mean
        total = alpha**2 * self.covariance + sigma**2 * np.eye(3)
        gain = alpha * self.covariance @ np.linalg.inv(total)  # (H, W, 3, 3)
        estimate = self.mean + np.einsum("hwcd,ndhw->nchw", gain, noisy)
        return float(np.square(estimate - clean).mean())  # the DCT is orthonormal: the same error as in pixels


def _dct(images: np.ndarray) -> np.ndarray:
    from scipy.fft import dctn  # here, not above: the trainer also runs where SciPy is not

    return dctn(images.astype(np.float64), axes=(-2, -1), norm="ortho")


@torch.no_grad()
def denoising(
    denoiser: Denoiser, data: str, count: int = 500, seed: int = 0, times: tuple[float, ...] = DENOISING_TIMES
) -> dict[str, Any]:
    """Error of one denoising step on held-out images, beside the Wiener filter fitted to the training images.

    Args:
        denoiser: The model.
        data: Source of images; its ``train`` split fits the filter, its ``test`` split is denoised.
        count: Held-out images used, at most.
        seed: First seed of the noise; image i has seed + i at every t.
        times: Values of t.

    Returns:
        ``data, images, train_images, seed`` and per t ``t, logsnr, mse, wiener`` (mean squared error of x0_hat per
        pixel, images in [-1, 1]) and the share of images on which the model is better, ``wins``.
    """
    count, times = whole_number("count", count, 1), tuple(real_numbers("each of times", times, 0, 1))
    train = images_for(denoiser, data, "train")
    x0 = to_float(images_for(denoiser, data, "test")[:count])
    eps = keyed_noise(seed_range(seed, len(x0)), denoiser.shape)
    wiener = WienerDenoiser(train)
    rows = []
    for t in times:
        time = torch.tensor(t, dtype=torch.float64)
        alpha, sigma = denoiser.schedule.alpha(time).item(), denoiser.schedule.sigma(time).item()
        xt = add_noise(x0, eps, t, denoiser.schedule)
        error = torch.cat(
            [(denoiser(part, t) - clean).square().mean((1, 2, 3)) for part, clean in zip(xt.split(64), x0.split(64))]
        )
        linear = [wiener.error(alpha, sigma, x0[i : i + 1], eps[i : i + 1]) for i in range(len(x0))]
        rows.append(
            {
                "t": t,
                "logsnr": round(denoiser.schedule.logsnr(time).item(), 3),
                "mse": error.mean().item(),
                "wiener": float(np.mean(linear)),
                "wins": float((error.numpy() < np.array(linear)).mean()),
            }
        )
    return {"data": Path(data).name, "images": len(x0), "train_images": len(train), "seed": seed, "rows": rows}


# Distances between sets of images ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Features:
    """A space in which sets of images are compared.

    Attributes:
        distance: What the Fréchet distance in it is called.
        load: (weights file or None, device) -> function from uint8 (B, 3, H, W) to float32 (B, D) on the CPU.
    """

    distance: str
    load: Callable[[Path | None, torch.device], Callable[[Tensor], Tensor]]


def _cifar_resnet(weights: Path | None, device: torch.device) -> Callable[[Tensor], Tensor]:
    if weights is not None:
        raise ValueError("features cifar-resnet come with the project and take no weights file")
    network = load_encoder(device=device)

    def extract(images: Tensor) -> Tensor:
        return network.features(to_float(images.to(device)).contiguous(memory_format=torch.channels_last)).cpu()

    return extract


def _inception(weights: Path | None, device: torch.device) -> Callable[[Tensor], Tensor]:
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

    if weights is None:
        weights = Path(torch.hub.get_dir()) / "checkpoints" / Path(URL_INCEPTION_V3).name
        if not weights.is_file():
            weights.parent.mkdir(parents=True, exist_ok=True)
            try:
                torch.hub.download_url_to_file(URL_INCEPTION_V3, str(weights), INCEPTION_SHA256, progress=False)
            except (OSError, RuntimeError) as error:
                raise ValueError(
                    f"cannot fetch Inception's standard weights ({error}); get {URL_INCEPTION_V3} and give it as --weights"
                ) from None
    # The library unpickles the file without restraint: only the standard one, known by its hash, is handed to it.
    if not weights.is_file():
        raise ValueError(f"no file {weights}")
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(INCEPTION_SHA256):
        raise ValueError(f"{weights} has sha256 {digest[:8]}..., Inception's standard weights have {INCEPTION_SHA256}...")
    network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(weights))
    network.to(device)
    return lambda images: network(images.to(device))[0].float().cpu()


FEATURES: dict[str, Features] = {
    "cifar-resnet": Features("FD[cifar-resnet]", _cifar_resnet),
    "inception": Features("FID", _inception),
}


@torch.no_grad()
def extract(images: Tensor, features: Callable[[Tensor], Tensor], progress: str = "") -> Tensor:
    """Features (N, D) of uint8 ``images`` (N, 3, H, W), in batches, under a progress bar if it has a name."""
    parts = images.split(FEATURE_BATCH)
    return torch.cat([features(part) for part in tqdm(parts, desc=progress, disable=not progress, unit="batch")])


def distances(generated: Tensor, reference: Tensor) -> dict[str, float]:
    """Fréchet distance, KID, precision and recall between two sets of features.

    Args:
        generated: (N, D), N at least ``MIN_IMAGES``.
        reference: (M, D), M at least ``MIN_IMAGES``.

    Returns:
        ``fd``; ``kid`` and ``kid_std`` over 100 subsets of at most 1,000; ``precision`` and ``recall`` with the third
        nearest neighbour. All as torch-fidelity computes them.

    Raises:
        ValueError: For too few images.
    """
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    for name, part in (("samples", generated), ("reference", reference)):
        if len(part) < MIN_IMAGES:
            raise ValueError(f"distances need at least {MIN_IMAGES} images, the {name} has {len(part)}")
    fid = fid_statistics_to_metric(fid_features_to_statistics(generated), fid_features_to_statistics(reference), False)
    size = min(1000, len(generated), len(reference))
    kid = kid_features_to_metric(generated, reference, kid_subset_size=size, verbose=False)
    nearest = prc_features_to_metric(generated, reference, save_cpu_ram=True, verbose=False)
    return {
        "fd": fid["frechet_inception_distance"],
        "kid": kid["kernel_inception_distance_mean"],
        "kid_std": kid["kernel_inception_distance_std"],
        "precision": nearest["precision"],
        "recall": nearest["recall"],
    }


def evaluate(
    denoiser: Denoiser,
    reference: str,
    *,
    split: str = "test",
    features: str = "cifar-resnet",
    weights: Path | None = None,
    **sampling: Any,
) -> dict[str, Any]:
    """Distances between a model's samples and reference images.

    Args:
        denoiser: The model.
        reference: Source of the reference images, see :func:`explore.data.load_images`.
        split: Of the reference.
        features, weights, **sampling: As for :func:`sample_features`.

    Returns:
        ``per_seed`` (one entry a set: ``fd, kid, kid_std, precision, recall``), their means under the same names, the
        reference, and all that :func:`sample_features` says of the sampling.

    Raises:
        ValueError: For a setting out of range, or a reference that cannot be used.
    """
    choose("features", features, FEATURES)
    images = images_for(denoiser, reference, split, enlarge=False)
    if len(images) < MIN_IMAGES:
        raise ValueError(f"distances need at least {MIN_IMAGES} images, {reference} has {len(images)} for split {split!r}")
    space = FEATURES[features].load(weights, denoiser.device)
    of_reference = extract(images, space, "reference")
    sets, record = sample_features(denoiser, features=features, space=space, **sampling)
    rows = [{"seed": seed, **distances(part, of_reference)} for seed, part in sets.items()]
    return {
        "distance": FEATURES[features].distance,
        "reference": Path(reference).name,
        "split": split,
        "reference_images": len(images),
        **record,
        "per_seed": rows,
        **{key: float(np.mean([row[key] for row in rows])) for key in ("fd", "kid", "precision", "recall")},
    }


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
    """Samples in batches, of which only the features are kept.

    With ``work`` they lie there, so that an interrupted evaluation goes on where it was, also on another machine; and the
    processes of ``accelerate launch`` each make a share of them.

    Args:
        denoiser: The model.
        count: Samples for each of ``seeds``, ``MIN_IMAGES`` to 100,000.
        features: A key of ``FEATURES``.
        seeds: Each gives a set of samples of its own: image i of set s has the seed 100,000 s + i.
        weights: Inception's weights, if they are not to be fetched.
        space: The features, if they are loaded already.
        work: Folder for the features.
        clock_offset: What the network is told is t plus this, see :func:`explore.denoiser.misled`.
        **settings: The sampler, its steps and options; by default what suits the model.

    Returns:
        Seed -> features (count, D); and the settings with ``nfe``, ``images_per_second``, ``dtype`` and ``hardware``.

    Raises:
        ValueError: For a setting out of range, if ``work`` holds features of something else, or if several processes have
            none.
    """
    choose("features", features, FEATURES)
    team = Team.now()
    if team.size > 1 and work is None:
        raise ValueError("several processes share their features through a folder: name one as work")
    count = whole_number("count", count, MIN_IMAGES, SEED_BLOCK)
    seeds = whole_numbers("seed of a set of samples", seeds, 0, MAX_SEED // SEED_BLOCK - 1)
    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds must be different numbers, at least one, got {seeds}")
    options = settings or Sampling.for_model(denoiser).arguments
    device = denoiser.device
    space = space or FEATURES[features].load(weights, device)
    if work:
        _same_work(work, denoiser, {"features": features, "clock_offset": clock_offset, **options})
    denoiser = misled(denoiser, clock_offset)
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
    """Notes what the features in ``work`` are of; refuses those of something else."""
    path = work / "settings.json"
    settings = {"model": denoiser.name, "sha256": denoiser.sha256, **settings}
    if path.exists() and files.read_json(path) != settings:
        raise ValueError(f"{work} holds an unfinished evaluation with other settings: remove it or choose another --out")
    files.write_json(path, settings)


def yardsticks(
    data: str,
    resolution: int = 32,
    *,
    features: str = "cifar-resnet",
    count: int | None = None,
    seed: int = 0,
    weights: Path | None = None,
) -> dict[str, Any]:
    """Distances of known pictures from the held-out images: what the distances of samples are to be read against.

    Args:
        data: Source of images with a ``train`` and a ``test`` split.
        resolution: To which they are brought.
        features: A key of ``FEATURES``.
        count: Training images, by default as many as there are held-out ones. A Fréchet distance shrinks as samples
            become more: the floor of an evaluation is that of as many training images as it has samples.
        seed: Of the noise and of the choice of training images.
        weights: Inception's weights, if they are not to be fetched.

    Returns:
        Rows from ``train`` (``count`` training images: the floor) to the held-out images themselves, damaged a little
        and more: blurred with a box of 3x3 and 5x5, with Gaussian noise of standard deviation 0.1 and 0.2 (images in
        [-1, 1]), and with a quarter or half of each image swapped for that of another.

    Raises:
        ValueError: For more training images than there are.
    """
    choose("features", features, FEATURES)
    held_out = load_images(data, resolution, "test", enlarge=False)
    train = load_images(data, resolution, "train", enlarge=False)
    count = len(held_out) if count is None else whole_number("count", count, 1)
    if not MIN_IMAGES <= count <= len(train):
        raise ValueError(f"count must be from {MIN_IMAGES} to the {len(train)} training images, got {count}")
    generator = torch.Generator().manual_seed(seed)
    noise = keyed_noise(seed_range(seed, len(held_out)), held_out.shape[1:])
    clean = to_float(held_out)
    half = resolution // 2

    def blurred(side: int) -> Tensor:
        padded = torch.nn.functional.pad(clean, (side // 2,) * 4, mode="replicate")
        return to_uint8(torch.nn.functional.avg_pool2d(padded, side, stride=1))

    def swapped(rows: int) -> Tensor:
        mixed = held_out.clone()
        mixed[:, :, :rows, :half] = held_out.roll(1, 0)[:, :, :rows, :half]
        return mixed

    sets = {
        "train": train[torch.randperm(len(train), generator=generator)[:count]],
        "blurred, 3x3 box": blurred(3),
        "blurred, 5x5 box": blurred(5),
        "noised, 0.1": to_uint8(clean + 0.1 * noise),
        "noised, 0.2": to_uint8(clean + 0.2 * noise),
        "a quarter swapped": swapped(half),
        "half swapped": swapped(resolution),
    }
    space = FEATURES[features].load(weights, torch.device("cpu"))
    reference = extract(held_out, space, "held-out")
    rows = [
        {"images": name, "count": len(images), **distances(extract(images, space, name), reference)}
        for name, images in sets.items()
    ]
    return {
        "features": features,
        "distance": FEATURES[features].distance,
        "data": Path(data).name,
        "held_out": len(held_out),
        "seed": seed,
        "rows": rows,
    }


# Members of a pair on held-out images -----------------------------------------------------------------------------------

FIDELITY_TIMES = (0.1, 0.25, 0.5, 0.75, 0.9)
LOSS_LEVELS = 20


def _both(values: Sequence[np.ndarray], names: Sequence[str], part: str) -> dict[str, Any]:
    """Means of both members' figures of the same images, and the second's minus the first's with its interval."""
    means = {f"{name} {part}": float(member.mean()) for name, member in zip(names, values)}
    keys = (f"{part} difference", f"{part} low", f"{part} high")
    return {**means, **dict(zip(keys, bootstrap_mean(values[1] - values[0]).to_json()))}


@torch.no_grad()
def fidelity(
    denoisers: Sequence[Denoiser],
    data: str,
    count: int = 200,
    seed: int = 0,
    times: Sequence[float] = FIDELITY_TIMES,
    watch: Watch = quiet,
    **settings: Any,
) -> dict[str, Any]:
    """Structure that survives noise: held-out images noised to t, then estimated in one step, or sampled back.

    Args:
        denoisers: Two members of a pair; both get the same noisy images.
        data: Source of images; its ``test`` split is used.
        count: Images, at most.
        seed: First seed of the noise; image i has seed + i at every t and in the sampler.
        times: Values of t.
        watch: Shows progress, see :mod:`explore.progress`.
        **settings: The sampler, its steps and options, for the way back.

    Returns:
        Rows by ``t`` and ``way`` (``one step``, ``sampled back``): SSIM and PSNR in dB against the original, mean over the
        images for either member, and never told minus told with a 95 % bootstrap interval over the images.
    """
    names, schedule = ("told", "never told"), denoisers[0].schedule
    count = whole_number("count", count, 1)
    x0 = images_for(denoisers[0], data, "test", enlarge=False)[:count]
    seeds = seed_range(seed, len(x0))
    eps = keyed_noise(seeds, denoisers[0].shape)
    options = settings or Sampling.for_model(denoisers[0]).arguments
    arguments = {key: value for key, value in options.items() if key not in ("sampler", "start")}
    rows = []
    for t in watch(times, unit="t"):
        xt = add_noise(to_float(x0), eps, t, schedule)
        sigma = schedule.sigma(torch.tensor(t, dtype=torch.float64)).item()
        ways: dict[str, list[Tensor]] = {"one step": [], "sampled back": []}
        for denoiser in denoisers:
            ways["one step"].append(torch.cat([denoiser(part, t) for part in xt.split(64)]))
            back = []
            for part, chunk in zip(xt.split(64), [seeds[i : i + 64] for i in range(0, len(seeds), 64)]):
                # A sampler starts at sigma(start) times unit noise: xt / sigma(t) makes it start at xt.
                steps = SAMPLERS[options["sampler"]](denoiser, part / sigma, seeds=chunk, start=t, **arguments)
                back.append(deque(steps, maxlen=1)[0].xt)
            ways["sampled back"].append(torch.cat(back))
        for way, results in ways.items():
            scores = [_structure(x0, to_uint8(images)) for images in results]
            row: dict[str, Any] = {"t": t, "way": way}
            for number, part in enumerate(("SSIM", "PSNR")):
                row |= _both([score[number] for score in scores], names, part)
            rows.append(row)
    return {"data": Path(data).name, "images": len(x0), "seed": seed, **options, "rows": rows}


def _structure(originals: Tensor, images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """SSIM and PSNR (in dB, at most 60) of each of uint8 (N, 3, H, W) against its original."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    pairs = list(zip(originals.permute(0, 2, 3, 1).numpy(), images.permute(0, 2, 3, 1).numpy()))
    ssim = [structural_similarity(one, other, channel_axis=2, data_range=255) for one, other in pairs]
    # Of equal pictures the ratio would be infinite.
    psnr = [60.0 if (a == b).all() else min(60.0, peak_signal_noise_ratio(a, b, data_range=255)) for a, b in pairs]
    return np.array(ssim), np.array(psnr)


@torch.no_grad()
def losses(
    denoisers: Sequence[Denoiser],
    data: str,
    count: int = 500,
    seed: int = 0,
    levels: int = LOSS_LEVELS,
    watch: Watch = quiet,
) -> dict[str, Any]:
    """Loss of both members by t, on training and held-out images with the same noise, beside the width of t's posterior.

    Args:
        denoisers: Two members of a pair.
        data: Source of images with the splits ``train`` and ``test``.
        count: Images of each split, at most; those of the training split are its first.
        seed: First seed of the noise; image i has seed + i at every t.
        levels: Values of t, evenly spread midpoints of (0, 1).
        watch: Shows progress, see :mod:`explore.progress`.

    Returns:
        Rows by ``split`` and ``t``: mean squared error of the network's output, mean over the images for either member;
        never told minus told with a 95 % bootstrap interval over the images; and ``width``, the standard deviation that
        the best unbiased reader of t has if images were Gaussian in the DCT basis (fitted to the training images).
    """
    first, names = denoisers[0], ("told", "never told")
    schedule, target_of = first.schedule, PREDICTIONS[first.prediction].target
    count, levels = whole_number("count", count, 1), whole_number("levels", levels, 1)
    images = {split: images_for(first, data, split, enlarge=False) for split in ("train", "test")}
    prior = DiagonalGaussian.fit(images["train"])
    rows = []
    for split, x0 in images.items():
        clean = to_float(x0[:count])
        eps = keyed_noise(seed_range(seed, len(clean)), first.shape)
        for level in watch(range(levels), desc=split, unit="t"):
            t = (level + 0.5) / levels
            time = torch.full((1, 1, 1, 1), t, dtype=torch.float64)
            alpha, sigma = schedule.alpha(time).float(), schedule.sigma(time).float()
            xt, target = alpha * clean + sigma * eps, target_of(clean, eps, alpha, sigma)
            errors = [
                torch.cat([(d.output(a, t) - b).square().mean((1, 2, 3)) for a, b in zip(xt.split(64), target.split(64))])
                for d in denoisers
            ]
            row = {"split": split, "t": t, **_both([error.double().numpy() for error in errors], names, "loss")}
            rows.append({**row, "width": prior.information(schedule, t) ** -0.5})
    return {
        "data": Path(data).name,
        "prediction": first.prediction,
        "images": {split: min(count, len(x0)) for split, x0 in images.items()},
        "seed": seed,
        "prior": f"diagonal Gaussian in the DCT basis, fitted to {len(images['train'])} training images",
        "rows": rows,
    }


@torch.no_grad()
def neighbors(denoiser: Denoiser, data: str, count: int = 64, seed: int = 0) -> tuple[dict[str, Any], Image.Image]:
    """Nearest training image of each of a model's samples, mirrored ones included: has it learned pictures by heart?

    Args:
        denoiser: The model, sampled with what suits it.
        data: Source of the images it was trained on, with the splits ``train`` and ``test``.
        count: Samples.
        seed: Of the first sample.

    Returns:
        Root mean squared difference per pixel (images in [-1, 1]) to the nearest training image: median and smallest over
        the samples; the same for as many held-out images, which nobody has learned by heart; and the share of samples
        that are nearer than the nearest hundredth of the held-out images. And a picture: samples above their neighbors.
    """
    count = whole_number("count", count, 1)
    train = images_for(denoiser, data, "train", enlarge=False)
    held_out = images_for(denoiser, data, "test", enlarge=False)
    samples = to_uint8(sample(denoiser, seed_range(seed, count), **Sampling.for_model(denoiser).arguments))
    of_samples, nearest = _nearest(samples, train)
    of_held_out, _ = _nearest(held_out, train)
    result = {
        "data": Path(data).name,
        "count": count,
        "seed": seed,
        "train_images": len(train),
        "median": of_samples.median().item(),
        "smallest": of_samples.min().item(),
        "held_out_images": len(held_out),
        "held_out_median": of_held_out.median().item(),
        "held_out_smallest": of_held_out.min().item(),
        "nearer_than_held_out": (of_samples < of_held_out.quantile(0.01)).float().mean().item(),
    }
    columns = min(count, 16)
    rows = [part for pair in zip(samples.split(columns), nearest.split(columns)) for part in pair]
    return result, grid(torch.cat(rows), scale=2, columns=columns)


def _nearest(images: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    """Root mean squared difference (N,) of uint8 ``images`` to the nearest of ``train``, and those images."""
    best = torch.full((len(images),), torch.inf)
    found = torch.empty_like(images)
    flat = to_float(images).flatten(1)
    for part in train.split(5000):
        for candidates in (part, part.flip(3)):
            distance, index = torch.cdist(flat, to_float(candidates).flatten(1)).min(1)
            better = distance < best
            found[better] = candidates[index[better]]
            best = torch.where(better, distance, best)
    return best / flat.shape[1] ** 0.5, found
