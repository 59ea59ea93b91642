"""How the price of being time-agnostic changes with training: held-out loss of both members by t and images seen.

Depends on data, denoiser, files, progress, results, seeds, statistics, zoo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from explore import zoo
from explore.data import add_noise, images_for, to_float
from explore.denoiser import PREDICTIONS, Denoiser
from explore.files import read_json
from explore.progress import Watch, quiet
from explore.results import Stored
from explore.seeds import noise_draw
from explore.statistics import Interval, crossed_ratio

LEARNING_LEVELS = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)


@dataclass(frozen=True)
class LearningRow(Stored):
    """Held-out loss of both members at one budget and t.

    Attributes:
        images_seen: Training images that each member had seen.
        t: Noise level.
        conditioned, time_agnostic: Mean squared error of the network's output.
        gap: Time-agnostic minus conditioned loss, relative to the conditioned one, with an interval over images and noise.
    """

    images_seen: int
    t: float
    conditioned: float
    time_agnostic: float
    gap: Interval


@dataclass(frozen=True)
class LearningCurves(Stored):
    """The rows of a run's snapshots, by images seen and t; ``images`` and ``noise_draws`` are how many were crossed."""

    members: tuple[str, str]
    images: int
    noise_draws: int
    rows: tuple[LearningRow, ...]


def snapshots(run: Path) -> dict[int, list[Path]]:
    """Images seen -> folders of the conditioned and the time-agnostic member, of a run and of what lies in its ``snapshots/``.

    Raises:
        ValueError: If there is no folder with both members.
    """
    found: dict[int, list[Path]] = {}
    for folder in [run, *(path for path in run.glob("snapshots/*") if not path.name.endswith(".part"))]:
        configs = {path.parent: read_json(path) for path in sorted(folder.glob("*/config.json"))}
        members = {config.get("time_conditioning"): (path, config.get("images_seen")) for path, config in configs.items()}
        if {"timestep", "none"} <= set(members):
            (conditioned, seen), (time_agnostic, other) = members["timestep"], members["none"]
            if seen != other:
                raise ValueError(f"the members in {folder} have not seen equally many images: {seen} and {other}")
            found[int(seen)] = [conditioned, time_agnostic]
    if not found:
        raise ValueError(f"{run} holds no weights of a conditioned and a time-agnostic member, and no snapshots/ of them")
    return dict(sorted(found.items()))


@torch.no_grad()
def learning_curves(
    run: Path,
    data: str,
    count: int = 200,
    noise_draws: int = 4,
    seed: int = 0,
    levels: Sequence[float] = LEARNING_LEVELS,
    watch: Watch = quiet,
) -> LearningCurves:
    """Held-out loss of both members of a run at each of its snapshots.

    Every image gets the same ``noise_draws`` noises at each t, of each member and snapshot, so that differences are paired.

    Args:
        run: The --out folder of a training run, with snapshots of its members' weights in ``snapshots/IMAGES/MEMBER/``.
        data: Source of images; its ``test`` split is used.
        count: Images, at most.
        noise_draws: Noises for each image.
        seed: First seed of the noise.
        levels: Values of t.
        watch: Shows progress, see :mod:`explore.progress`.

    Raises:
        ValueError: If the folder has no snapshots of a pair.
    """
    found = snapshots(run)
    rows, images = [], None
    for seen, folders in watch(list(found.items()), unit="snapshot"):
        members = [zoo.open_files(one / "config.json", one / "weights.safetensors", "float32") for one in folders]
        if images is None:
            images = to_float(images_for(members[0], data, "test", enlarge=False)[:count])
        for t in levels:
            errors = [errors_by_draw(member, images, t, noise_draws, seed) for member in members]
            conditioned, time_agnostic = (error.mean().item() for error in errors)
            gap = crossed_ratio(errors[1] - errors[0], errors[0])
            rows.append(LearningRow(seen, t, conditioned, time_agnostic, gap))
    assert images is not None
    names = tuple(folder.name for folder in next(reversed(found.values())))
    return LearningCurves((names[0], names[1]), len(images), noise_draws, tuple(rows))


def target_at(denoiser: Denoiser, x0: Tensor, eps: Tensor, t: float) -> Tensor:
    """What the network should output for clean images and noise (N, C, H, W) at ``t``."""
    time = torch.full((1, 1, 1, 1), t, dtype=torch.float64)
    alpha, sigma = denoiser.schedule.alpha(time).to(x0), denoiser.schedule.sigma(time).to(x0)
    return PREDICTIONS[denoiser.prediction].target(x0, eps, alpha, sigma)


def errors_by_draw(denoiser: Denoiser, clean: Tensor, t: float, noise_draws: int, seed: int) -> Tensor:
    """Mean squared error of the network's output at ``t`` by clean image and noise draw, (N, K), float64."""
    columns = []
    for draw in range(noise_draws):
        eps = noise_draw(seed, draw, len(clean), denoiser.shape)
        xt, target = add_noise(clean, eps, t, denoiser.schedule), target_at(denoiser, clean, eps, t)
        parts = zip(xt.split(64), target.split(64))
        columns.append(torch.cat([(denoiser.output(a, t) - b).square().mean((1, 2, 3)) for a, b in parts]).double())
    return torch.stack(columns, 1)
