"""How well a model denoises held-out images, beside the best linear denoiser; the model card.

The yardstick is Wiener's filter in the DCT basis, fitted to the training images with the covariance of the three colours at
every frequency: what second-order statistics alone can do. A network that learned anything about images is below it.
Depends on data, denoiser, samplers, trajectories, zoo.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.fft import dctn
from torch import Tensor

from explore import zoo
from explore.data import add_noise, load_images, to_float, to_uint8
from explore.denoiser import Denoiser
from explore.samplers import sample
from explore.trajectories import TITLES, Comparison, default_options, grid

DENOISING_TIMES = (0.25, 0.5, 0.75)
CARD_IMAGES = 64


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
    resolution = denoiser.shape[-1]
    train = load_images(data, resolution, "train")
    x0 = to_float(load_images(data, resolution, "test")[:count])
    eps = zoo.noise(zoo.seed_range(seed, len(x0)), denoiser.shape)
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


def metrics(name: str, root: Path | None = None) -> dict[str, Any]:
    """What was measured of a model with the weights it has now; empty if nothing was."""
    path = (root or zoo.ROOT) / name / "metrics.json"
    stored = zoo.read_json(path) if path.exists() else {}
    return {part: result for part, result in stored.items() if result["sha256"] == zoo.index(root)[name]["sha256"]}


def store(name: str, part: str, result: dict[str, Any], root: Path | None = None) -> None:
    """Keeps a measurement in the model's metrics.json, with the hash of the weights it was made with."""
    stored = metrics(name, root)
    stored[part] = {"sha256": zoo.index(root)[name]["sha256"], **result}
    zoo.write_atomically((root or zoo.ROOT) / name / "metrics.json", json.dumps(stored, indent=2) + "\n")


def store_comparison(record: Comparison, root: Path | None = None) -> None:
    """Keeps a comparison's final figures with both members, one entry for each setting of the sampler."""
    flags = sample_flags({"sampler": record.sampler, "steps": record.steps, **record.options})
    seed, count = record.seeds[0], len(record.seeds)
    command = f"python -m explore compare {record.pair} {flags} --seed {seed} --count {count}"
    result = {
        "command": command,
        "members": record.members,
        "difference": record.differences[-1]["xt"],
        "standard_deviation": record.spread,
    }
    for name in record.members:
        store(name, "comparisons", {**metrics(name, root).get("comparisons", {}), flags: result}, root)


def tables(root: Path | None = None) -> dict[str, str]:
    """The README's tables, in Markdown, from the index and the stored measurements: models, comparisons, denoising."""
    infos = zoo.models(root)
    models = [
        "| Model | Told the time? | Predicts | Schedule | Parameters | without time layers | Images seen |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    denoised = [
        "| Model | " + " | ".join(f"t = {t}: model | Wiener" for t in DENOISING_TIMES) + " |",
        "| --- |" + " --- | --- |" * len(DENOISING_TIMES),
    ]
    compared = [
        "| Pair | Sampler | Mean abs. difference of the samples | Their standard deviation: told | never told |",
        "| --- | --- | --- | --- | --- |",
    ]
    for info in infos:
        models.append(
            f"| [{info.name}](checkpoints/{info.name}/README.md) | {info.time_conditioning} | {info.prediction} | "
            f"{info.schedule} | {info.parameters:,} | {info.parameters_without_time:,} | {info.images_seen:,} |"
        )
        stored = metrics(info.name, root)
        if "denoising" in stored:
            cells = [f"{row['mse']:.4f} | {row['wiener']:.4f}" for row in stored["denoising"]["rows"]]
            denoised.append(f"| {info.name} | {' | '.join(cells)} |")
        for flags, result in stored.get("comparisons", {}).items():
            if flags != "sha256" and result["members"][0] == info.name:
                told, untold = result["standard_deviation"]
                compared.append(f"| {info.pair} | `{flags}` | {result['difference']:.3f} | {told:.3f} | {untold:.3f} |")
    return {"models": "\n".join(models), "comparisons": "\n".join(compared), "denoising": "\n".join(denoised)}


ROUTES = {
    "timestep": "The network is told t: an embedding of t modulates every block.",
    "constant": "The network is told nothing: the same layers are fed one learned vector instead of an embedding of t.",
    "none": "The network is told nothing: the layers that would carry t do not exist.",
}
OUTSIDE = {
    "velocity": "Outside the network only the sampler's step size knows t: output and x0_hat need it for display alone.",
    "eps": "Outside the network t still enters the output combination (x0_hat = (xt - sigma eps) / alpha) and the sampler.",
    "x0": "Outside the network t still enters the sampler (eps_hat = (xt - alpha x0_hat) / sigma and its coefficients).",
    "v": "Outside the network t still enters the output combination (x0_hat = alpha xt - sigma v) and the sampler.",
}
LICENCES = {
    "celeba": "CelebA is for non-commercial research only; these weights were trained on its images.",
    "cifar10": "CIFAR-10 carries no licence of its own; its images come from the 80 Million Tiny Images collection.",
}


def write_card(name: str, root: Path | None = None) -> None:
    """Writes samples.png and README.md, the model card, from the index, config.json and metrics.json."""
    root = root or zoo.ROOT
    info, folder = zoo.info(name, root), root / name
    config = zoo.read_json(folder / "config.json")
    stored = metrics(name, root)
    training, denoiser = config["training"], zoo.load(name, "float32", root)
    options = default_options(denoiser)
    samples = sample(denoiser, zoo.seed_range(0, CARD_IMAGES), **options)
    pixels = grid(to_uint8(samples), scale=2, columns=16)
    temporary = folder / ".samples.png.tmp"
    pixels.save(temporary, format="PNG", optimize=True)
    temporary.replace(folder / "samples.png")
    flags = sample_flags(options)
    passes = info.images_seen / config["train_images"]
    lines = [
        f"# {name}",
        "",
        f"A {info.architecture.upper() if info.architecture == 'dit' else 'U-Net'} of {info.parameters:,} parameters "
        f"({info.parameters_without_time:,} without those that carry time) that predicts `{info.prediction}` on the "
        f"`{info.schedule}` schedule, {info.dataset} at {info.resolution} px; the member of the pair `{info.pair}` that is "
        f"{TITLES[info.time_conditioning]} (`time_conditioning: {info.time_conditioning}`).",
        "",
        "## Which routes has t?",
        "",
        f"{ROUTES[info.time_conditioning]} {OUTSIDE[info.prediction]}",
        "",
        "## Training",
        "",
        f"Images seen: {info.images_seen:,} ({passes:.1f} passes over {config['train_images']:,} training images, mirrored at "
        f"random)" + ("." if config["finished"] else ", cut short of the planned budget."),
        *([config["note"]] if config.get("note") else []),
        f"Hardware: {'; '.join(config['hardware'])}; {config['seconds'] / 60:.0f} minutes for the whole pair.",
        f"Batch {training['batch_size']}, AdamW with peak rate {training['learning_rate']:g} decaying to 0, t "
        f"{training['t_distribution']}, EMA, seed {training['seed']} (one training seed: a difference between the members of "
        "the pair may be chance). The log is `training.jsonl`, the recipe stands in `config.json`.",
        "",
        LICENCES.get(info.dataset, ""),
        "",
        "## Samples",
        "",
        f"`python -m explore sample {name} --seed 0 --count {CARD_IMAGES} {flags}`",
        "",
        "![64 samples](samples.png)",
        "",
    ]
    if "denoising" in stored:
        measured = stored["denoising"]
        lines += [
            "## One denoising step on held-out images",
            "",
            f"Mean squared error of x0_hat per pixel (images in [-1, 1]) over {measured['images']} held-out images, seeds "
            f"from {measured['seed']}, beside the best linear denoiser (Wiener in the DCT basis, fitted to "
            f"{measured['train_images']:,} training images): `{measured['command']}`",
            "",
            "| t | logsnr | this model | Wiener | better on |",
            "| --- | --- | --- | --- | --- |",
        ]
        lines += [
            f"| {row['t']} | {row['logsnr']:.2f} | {row['mse']:.5f} | {row['wiener']:.5f} | {row['wins']:.0%} of images |"
            for row in measured["rows"]
        ]
        lines.append("")
    lines += [
        "## Known failures",
        "",
        "Small and trained briefly: expect smeared backgrounds and asymmetric faces."
        if info.dataset == "celeba"
        else "Small and trained briefly: textures and colours are plausible, few objects are recognisable.",
        "With DDIM at eta 0 and no clamping an eps model that is not told the time can leave the range of images; see the "
        "comparison in the project's README."
        if info.prediction == "eps"
        else "",
        "",
    ]
    text = "\n".join(lines).replace("\n\n\n", "\n\n").rstrip() + "\n"
    zoo.write_atomically(folder / "README.md", text)


def sample_flags(options: dict[str, Any]) -> str:
    """Sampler settings as flags of the command line."""
    flags = []
    for key, value in options.items():
        flags.append(
            f"--{'' if value else 'no-'}{key}"
            if isinstance(value, bool)
            else f"--{key} {value:g}"
            if isinstance(value, float)
            else f"--{key} {value}"
        )
    return " ".join(flags)
