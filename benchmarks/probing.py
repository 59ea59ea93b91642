"""What the probing claims are measured with: ``python benchmarks/probing.py [--only PART ...] [--out FILE]``.

- ``cost``: a sweep that keeps the sums of every layer, against the bare forward passes of the same batches.
- ``memory``: peak memory of such a sweep over 1,000 and over 10,000 images, each in a process of its own.
- ``storing``: the same probe from stored activations with scikit-learn (StandardScaler and Ridge, the penalty by GroupKFold):
  the figures must agree; time and memory are reported.
- ``bound``: on images drawn from the fitted Gaussian, the squared error of every probe and of every reader of the picture
  alone, averaged over the levels, against the variance of the exact posterior, which none may beat.

Timings alternate and are given as medians; run them on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics as numbers
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from explore import activations, bayes, files, probes, zoo  # noqa: E402 (the path above comes first)
from explore.hardware import hardware_name  # noqa: E402
from explore.results import rounded  # noqa: E402
from explore.seeds import keyed_noise  # noqa: E402
from explore.statistics import of_draws  # noqa: E402

OUT = Path(__file__).with_suffix(".json")
MODELS = ("celeba32-unet-velocity-none", "celeba32-unet-velocity-timestep")
PARTS = ("cost", "memory", "storing", "bound")
BATCH = 64
COST_LEVELS = (-4.0, -1.0, 1.0, 4.0)


class Drawn:
    """Images that are drawn when they are asked for, so that the images themselves take no memory."""

    dtype = torch.uint8

    def __init__(self, count: int, shape: tuple[int, ...]) -> None:
        self.count, self.shape = count, shape

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, chosen: Tensor) -> Tensor:
        draws = [np.random.default_rng(i).integers(0, 256, self.shape, np.uint8) for i in chosen.tolist()]
        return torch.from_numpy(np.stack(draws))


def timed(work: Callable[[], Any]) -> float:
    """Seconds that ``work`` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def cost(repeats: int) -> list[dict[str, Any]]:
    """Seconds a batch, bare and swept, in turn."""
    rows = []
    for name in MODELS:
        denoiser = zoo.load(name)
        layers = list(activations.hook_points(denoiser))
        images = Drawn(2 * BATCH, denoiser.shape)
        xt = keyed_noise(range(BATCH), denoiser.shape)

        @torch.no_grad()
        def bare(denoiser: Any = denoiser, xt: Tensor = xt) -> None:
            for _ in range(2 * len(COST_LEVELS)):
                denoiser.output(xt, 0.5)

        for view in ("mean", "mean_std"):

            def swept(denoiser: Any = denoiser, images: Any = images, layers: Any = layers, view: str = view) -> None:
                activations.statistics(denoiser, images, layers, (view,), levels=COST_LEVELS, batch=BATCH)

            bare(), swept()
            pairs = [(timed(bare), timed(swept)) for _ in range(repeats)]
            ratios = [after / before for before, after in pairs]
            rows.append(
                {"model": name, "view": view, "layers": len(layers), "bare_seconds": numbers.median(p[0] for p in pairs) / 8,
                 "swept_seconds": numbers.median(p[1] for p in pairs) / 8, "ratio": numbers.median(ratios),
                 "ratios": [min(ratios), max(ratios)]}
            )  # fmt: skip
    return rows


def peak(count: int) -> float:
    """Peak memory of this process after a sweep over ``count`` images, MiB."""
    denoiser = zoo.load(MODELS[0])
    layers = list(activations.hook_points(denoiser))
    activations.statistics(denoiser, Drawn(count, denoiser.shape), layers, ("mean", "mean_std"), levels=(0.0,), batch=BATCH)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory() -> list[dict[str, Any]]:
    """Peaks in processes of their own."""
    rows = []
    for count in (1_000, 10_000):
        done = subprocess.run(
            [sys.executable, __file__, "--peak", str(count)], capture_output=True, text=True, check=True, cwd=REPOSITORY
        )
        rows.append({"images": count, "peak_mib": float(done.stdout)})
    return rows


def storing(images: int = 300) -> dict[str, Any]:
    """One layer's probe from sums and from stored rows."""
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    denoiser = zoo.load(MODELS[0])
    layers = list(activations.hook_points(denoiser))
    pictures = Drawn(images, denoiser.shape)
    layer = layers[-3]
    values = probes.target_values("logsnr", denoiser.schedule, activations.LOGSNR_LEVELS)
    rows: dict[str, list[np.ndarray]] = {name: [] for name in layers}
    image, level = [], []
    for batch in activations.sweep(denoiser, pictures, layers, ("mean",), batch=BATCH):
        for name in layers:
            rows[name].append(batch.features[name, "mean"].double().numpy())
        image.append(batch.image.numpy())
        level.append(np.full(len(batch.image), batch.level))
    stored = {name: np.concatenate(parts) for name, parts in rows.items()}
    groups, target = np.concatenate(image), values.numpy()[np.concatenate(level)]
    sums = activations.Statistics(stored[layer].shape[1], len(values))
    for number in range(len(values)):
        chosen = np.concatenate(level) == number
        sums.add(torch.from_numpy(stored[layer][chosen]), torch.from_numpy(groups[chosen]), number)
    found: dict[str, Any] = {}

    def ours() -> None:
        found["ours"] = probes.RidgeProbe().fit(sums, values)

    def theirs() -> None:
        features, folds = stored[layer], list(GroupKFold(activations.FOLDS).split(stored[layer], target, groups))
        errors = []
        for penalty in probes.PENALTIES:
            squares = 0.0
            for train, test in folds:
                model = make_pipeline(StandardScaler(), Ridge(alpha=penalty * len(train)))
                squares += np.square(model.fit(features[train], target[train]).predict(features[test]) - target[test]).sum()
            errors.append(squares / len(features))
        found["errors"] = np.array(errors)
        best = probes.PENALTIES[int(np.argmin(errors))]
        found["theirs"] = make_pipeline(StandardScaler(), Ridge(alpha=best * len(features))).fit(features, target)

    seconds = {"sums_seconds": timed(ours), "stored_seconds": timed(theirs)}
    predicted = found["theirs"].predict(stored[layer])
    own = found["ours"].predict(torch.from_numpy(stored[layer])).numpy()
    return {
        "images": images, "levels": len(values), "layer": layer, **seconds,
        "largest_relative_difference": float(np.abs(own - predicted).max() / np.abs(predicted).max()),
        "largest_relative_difference_of_errors": float(
            np.abs(found["ours"].errors_.numpy() / found["errors"] - 1).max()
        ),
        "stored_mib_all_layers": sum(part.nbytes for part in stored.values()) / 2**20,
        "sums_mib_all_layers": sum(
            8 * activations.FOLDS * (part.shape[1] ** 2 + 2 * len(values) * part.shape[1]) for part in stored.values()
        ) / 2**20,
    }  # fmt: skip


def bound(images: int = 256) -> list[dict[str, Any]]:
    """Squared errors beside the exact posterior's variance, in windows of levels as wide as a few posteriors."""
    gaussian = bayes.fitted_gaussian("celeba", 32)
    denoiser = zoo.load(MODELS[0])
    layers = list(activations.hook_points(denoiser))
    drawn = gaussian.to_images(gaussian.draw(images, torch.Generator().manual_seed(0)), denoiser.shape).float()
    rows = []
    for centre in (5.0, 0.0, -5.0):
        [t] = activations.level_times(denoiser.schedule, [centre]).tolist()
        slope = probes.TARGETS["logsnr"].slope(denoiser.schedule, torch.tensor(t, dtype=torch.float64)).abs().item()
        width = slope * gaussian.information(denoiser.schedule, t) ** -0.5
        levels = tuple(centre + 0.5 * width * (k - 8) for k in range(17))
        readers = probes.BASELINES | {"gaussian posterior": probes.gaussian_features(gaussian, denoiser.schedule, levels)}
        found = probes.measure(
            denoiser, drawn, layers, ("mean", "mean_std"), levels=levels, baselines=readers, progress=f"log SNR {centre:g}"
        )
        points = bayes.Levels.points(denoiser.schedule, activations.level_times(denoiser.schedule, levels))
        logsnr = torch.tensor(levels, dtype=torch.float64)
        spread = [
            bayes.posterior(gaussian, batch.xt, points).std(logsnr).square().mean()
            for batch in activations.sweep(denoiser, drawn, [], (), levels=levels)
        ]
        least = torch.stack(spread).mean().item()
        everything = torch.ones(len(levels), dtype=torch.bool)
        ratios = {
            f"{layer} ({view})": of_draws(errors.rms(everything).square() / least)
            for (layer, view), errors in found.errors.items()
        }
        below = [name for name, ratio in ratios.items() if ratio.high is not None and ratio.high < 1]
        order = sorted(ratios, key=lambda name: ratios[name].value)
        rows.append(
            {"centre": centre, "levels": len(levels), "window": [levels[0], levels[-1]], "images": images,
             "posterior_variance": least, "prior_variance": logsnr.var(unbiased=False).item(), "below_the_bound": below,
             "prior": f"{gaussian.prior}; log SNR one of {len(levels)} values from {levels[0]:.3g} to {levels[-1]:.3g}",
             "error_over_bound": {name: ratios[name].to_json() for name in order}}
        )  # fmt: skip
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description="Cost, memory and bounds of probing.")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        print(peak(arguments.peak))
        return 0
    document = files.read_json(arguments.out) if arguments.out.exists() else {}
    work: dict[str, Callable[[], Any]] = {
        "cost": lambda: cost(arguments.repeats), "memory": memory, "storing": storing, "bound": bound
    }  # fmt: skip
    for part in arguments.only:
        print(part, file=sys.stderr, flush=True)
        result = work[part]()
        about = {"command": f"python benchmarks/probing.py --only {part} --repeats {arguments.repeats}"}
        about |= {"hardware": hardware_name("cpu"), "torch": torch.__version__, "result": rounded(result)}
        document[part] = about
        files.write_atomically(arguments.out, json.dumps(document, indent=1) + "\n")
        print(json.dumps(document[part]["result"], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
