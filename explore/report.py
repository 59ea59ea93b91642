"""What was measured, kept beside the weights, and how it is told: tables, differences between members, model cards.

``checkpoints/<name>/metrics.json`` holds what was measured of the shipped weights, ``seeds.json`` what was measured of
networks that differ from them in the training seed only and are not shipped. A figure counts only for the sha256 it was
made with. Nothing here runs a network but the card's own grid of samples. Depends on data, evaluation, models, samplers,
trajectories, zoo.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from explore import encoder, files, zoo
from explore.data import to_uint8
from explore.evaluation import DENOISING_TIMES, FEATURES
from explore.images import grid, png
from explore.models import ARCHITECTURES
from explore.samplers import Sampling, flag, sample
from explore.schedules import SCHEDULES
from explore.seeds import seed_range
from explore.statistics import student_mean
from explore.values import choose
from explore.zoo import TITLES

CARD_IMAGES = 64
CARD_LOSS_TIMES = (0.025, 0.125, 0.275, 0.525, 0.775, 0.925)  # of those that `losses` measures
# Log SNR of a picture and of the other level whose norm or high-pass content it takes, in the table of the readings.
READ_AT = ((6.0, 4.0), (0.0, -2.0), (-4.0, -6.0))
READ_PARTS = {"rescaled": "norm", "high-pass swapped, norm kept": "high-pass"}
TABLE_LOSS_TIMES = (0.025, 0.275, 0.525, 0.775, 0.975)
TABLE_FIDELITY_TIMES = (0.25, 0.75)  # the cards have all
SHARED = (  # what the distances of two models must have in common before one is taken from the other
    "features", "reference", "split", "reference_images", "count", "seeds", "sampler", "steps", "eta", "clamp", "start",
    "clock_offset", "nfe",
)  # fmt: skip

# Keeping ---------------------------------------------------------------------------------------------------------------


def metrics(name: str, root: Path | None = None) -> dict[str, Any]:
    """What was measured of a model with the weights it has now; empty if nothing was."""
    path = (root or zoo.ROOT) / name / "metrics.json"
    stored = files.read_json(path) if path.exists() else {}
    sha256 = zoo.index(root)[name]["sha256"]
    return {part: result for part, result in stored.items() if result["sha256"] == sha256}


def atlas(name: str, root: Path | None = None) -> dict[str, Any]:
    """A model's atlas (see ``explore.probes``), if it was made of the weights it has now; else empty."""
    path = (root or zoo.ROOT) / name / "atlas.json"
    stored = files.read_json(path) if path.exists() else {}
    return stored if stored.get("sha256") == zoo.index(root)[name]["sha256"] else {}


def _best_readers(record: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of an atlas: its best layer's row, and that of the best reader of the picture alone; best near the data."""
    own = [row for row in record["layers"] if row["name"] != "input"]
    [best] = [row for row in own if {key: row[key] for key in ("name", "view")} == record["best"]]
    alone = min(
        (row for row in record["layers"] if row["name"] == "input"), key=lambda row: next(iter(row["error_by_region"].values()))
    )
    return best, alone


def _three(values: list[float], form: str = ".1f") -> str:
    """An estimate and its interval."""
    return f"{format(values[0], form)} ({format(values[1], form)} to {format(values[2], form)})"


def store(name: str, part: str, result: dict[str, Any], root: Path | None = None) -> None:
    """Keeps a measurement in the model's metrics.json, with the hash of the weights it was made with."""
    stored = metrics(name, root)
    stored[part] = {"sha256": zoo.index(root)[name]["sha256"], **result}
    files.write_json((root or zoo.ROOT) / name / "metrics.json", stored)


def store_yardsticks(result: dict[str, Any], root: Path | None = None) -> None:
    """Keeps the yardsticks of a data set beside the encoder they were measured with."""
    root = root or zoo.ROOT
    stored = yardsticks(root)
    stored[f"{result['data']}-{result['features']}"] = {"sha256": _encoder_sha256(root), **result}
    files.write_json(root / encoder.NAME / "yardsticks.json", stored)


def yardsticks(root: Path | None = None) -> dict[str, Any]:
    """The stored yardsticks that were measured with the encoder as it is now."""
    root = root or zoo.ROOT
    path = root / encoder.NAME / "yardsticks.json"
    stored = files.read_json(path) if path.exists() else {}
    return {name: result for name, result in stored.items() if result["sha256"] == _encoder_sha256(root)}


def _encoder_sha256(root: Path) -> str:
    return files.read_json(root / "index.json").get("encoder", {}).get("sha256", "")


def _recipe(training: dict[str, Any]) -> dict[str, Any]:
    """What two trainings have in common that differ in chance alone."""
    return {key: value for key, value in training.items() if key not in ("seed", "members", "sampler")}


def adopt(other: Path, root: Path | None = None) -> list[str]:
    """Takes over what was measured of models that differ from the shipped ones in the training seed; not their weights.

    Args:
        other: A checkpoint folder, as ``release`` makes it where ``CLOCKLESS_CHECKPOINTS`` says, with measurements.
        root: The folder that ships the models, by default the project's.

    Returns:
        Names of the models for which there is something new.

    Raises:
        ValueError: If a model is not shipped, was trained by another recipe or the same seed, or nothing was measured.
    """
    root = root or zoo.ROOT
    names = list(zoo.index(other))
    for name in names:  # all are checked before anything is written
        choose("model", name, zoo.index(root))
        new, shipped = (files.read_json(folder / name / "config.json") for folder in (other, root))
        for key in ("images_seen", "train_images"):
            if new[key] != shipped[key]:
                raise ValueError(f"{name} in {other} has {key} {new[key]}, the shipped one {shipped[key]}")
        if _recipe(new["training"]) != _recipe(shipped["training"]):
            raise ValueError(f"{name} in {other} was trained by another recipe than the shipped one")
        if new["training"]["seed"] == shipped["training"]["seed"]:
            raise ValueError(f"{name} in {other} has the training seed of the shipped one, {shipped['training']['seed']}")
        if not metrics(name, other):
            raise ValueError(f"{name} in {other} has no measurements: run `denoising`, `evaluate` ... --store there first")
    for name in names:
        path = root / name / "seeds.json"
        stored = files.read_json(path) if path.exists() else {}
        config = files.read_json(other / name / "config.json")
        stored[str(config["training"]["seed"])] = {
            "sha256": zoo.index(other)[name]["sha256"],
            **{key: config[key] for key in ("images_seen", "train_images", "seconds", "hardware", "training")},
            "metrics": metrics(name, other),
        }
        files.write_json(path, dict(sorted(stored.items())))
    return names


def by_seed(name: str, root: Path | None = None) -> dict[int, dict[str, Any]]:
    """Training seed -> what was measured, of the shipped model first, then of those trained alike with other seeds."""
    root = root or zoo.ROOT
    config = files.read_json(root / name / "config.json")
    path = root / name / "seeds.json"
    others = files.read_json(path) if path.exists() else {}
    return {config["training"]["seed"]: metrics(name, root)} | {
        int(seed): entry["metrics"]
        for seed, entry in others.items()
        if _recipe(entry["training"]) == _recipe(config["training"]) and entry["images_seen"] == config["images_seen"]
    }


# Comparing -------------------------------------------------------------------------------------------------------------


def distances(stored: dict[str, Any]) -> dict[str, Any]:
    """The stored distances in the first of ``FEATURES`` that were measured; empty if none were."""
    return next((stored[f"distances-{name}"] for name in FEATURES if f"distances-{name}" in stored), {})


def _distance(part: str) -> Callable[[dict[str, Any], dict[str, Any]], float | None]:
    def difference(told: dict[str, Any], other: dict[str, Any]) -> float | None:
        a, b = distances(told), distances(other)
        alike = a and b and all(a.get(key) == b.get(key) for key in SHARED)
        return b[part] - a[part] if alike else None

    return difference


def _denoised(t: float) -> Callable[[dict[str, Any], dict[str, Any]], float | None]:
    def difference(told: dict[str, Any], other: dict[str, Any]) -> float | None:
        parts = [stored.get("denoising", {}) for stored in (told, other)]
        if any(part.get(key) != parts[0].get(key) for part in parts for key in ("data", "images", "seed")):
            return None
        errors = [row["mse"] for part in parts for row in part.get("rows", []) if row["t"] == t]
        return errors[1] / errors[0] - 1 if len(errors) == 2 else None

    return difference


# Name -> figure of the other member minus that of the member that is told the time, None where they cannot be compared.
DIFFERENCES: dict[str, Callable[[dict[str, Any], dict[str, Any]], float | None]] = {
    **{part: _distance(part) for part in ("fd", "kid", "precision", "recall")},
    **{f"denoising t={t}": _denoised(t) for t in DENOISING_TIMES},
}


def spread(values: list[float]) -> dict[str, Any]:
    """Mean of ``values`` with a 95 % interval by Student's t; without an interval where there is one value only."""
    return dict(zip(("mean", "low", "high"), student_mean(values).to_json()))


def differences(name: str, root: Path | None = None) -> dict[str, Any]:
    """A model's figures minus those of the member of its pair that is told the time, over all training seeds.

    Args:
        name: A member that is told nothing.
        root: Another checkpoint folder than the project's own.

    Returns:
        For each of ``DIFFERENCES`` (``fd``, ``kid``, ``precision``, ``recall``; ``denoising t=...``, the relative increase
        of the squared error): ``seeds``, ``values``, ``mean`` and, over several training seeds, ``low`` and ``high`` of a
        95 % interval. ``losses`` has the same by t, with the posterior's ``width``. Only seeds at which both members were
        measured alike count. Empty for the member that is told the time and where the pair has none.
    """
    conditioning = {zoo.info(other, root).time_conditioning: other for other in zoo.pairs(root)[zoo.index(root)[name]["pair"]]}
    if conditioning.get("timestep") in (None, name):
        return {}
    told, own = by_seed(conditioning["timestep"], root), by_seed(name, root)
    found: dict[str, Any] = {}
    for part, difference in DIFFERENCES.items():
        values = {seed: difference(told[seed], own[seed]) for seed in told if seed in own}
        known = {seed: value for seed, value in values.items() if value is not None}
        if known:
            found[part] = {"seeds": list(known), "values": list(known.values()), **spread(list(known.values()))}
    curves = {
        seed: [row for row in own[seed]["losses"]["rows"] if row["split"] == "test"]
        for seed in own
        if "losses" in own[seed] and own[seed]["losses"]["members"] == [conditioning["timestep"], name]
    }
    if curves:
        found["losses"] = [
            {
                "t": rows[0]["t"],
                "width": rows[0]["width"],
                "seeds": list(curves),
                "values": gaps,
                **spread(gaps),
            }
            for rows in zip(*curves.values())
            for gaps in [[row["difference"][0] for row in rows]]
        ]
    return found


def where_gaps_sit(gaps: list[dict[str, Any]], schedule: str) -> dict[str, float]:
    """Whether the loss gap by t is largest where the posterior of t is widest.

    Args:
        gaps: ``losses`` of :func:`differences`.
        schedule: The model's; it turns a width of t into one of what t means.

    Returns:
        Spearman's rank correlation of the mean gap with the width of ``t``, ``logsnr`` and ``log_sigma``, each from -1 to 1.
    """
    from scipy.stats import spearmanr  # here, not above: the trainer also runs where SciPy is not

    t, step, path = torch.tensor([row["t"] for row in gaps], dtype=torch.float64), 1e-3, SCHEDULES[schedule]
    meanings = {"t": lambda t: t, "logsnr": path.logsnr, "log_sigma": lambda t: path.sigma(t).log()}
    means, width = [row["mean"] for row in gaps], torch.tensor([row["width"] for row in gaps], dtype=torch.float64)
    return {
        name: float(spearmanr(means, width * (meaning(t + step) - meaning(t - step)).abs() / (2 * step)).statistic)
        for name, meaning in meanings.items()
    }


def figures(info: zoo.ModelInfo, root: Path | None = None) -> dict[str, Any]:
    """What was measured of a model, in single figures; None where nothing was.

    Returns:
        ``distance`` (its name), ``fd, kid, precision, recall, features, reference, split, reference_images, count, sampler,
        steps, nfe, seeds, dtype, images_per_second`` of the distances in the first of ``FEATURES`` measured; ``step_error``
        (mean squared error of one denoising step at t = .5) and ``clock_error_near_data`` (of its best layer's probe, over
        the width that readers who know the clean picture reach).
    """
    stored, record = metrics(info.name, root), atlas(info.name, root)
    measured = distances(stored)
    keys = (
        "distance", "fd", "kid", "precision", "recall", "features", "reference", "split", "reference_images", "count",
        "sampler", "steps", "nfe", "seeds", "dtype", "images_per_second",
    )  # fmt: skip
    errors = {row["t"]: row["mse"] for row in stored.get("denoising", {}).get("rows", [])}
    clock = next(iter(_best_readers(record)[0]["error_over_yardstick_by_region"].values()))[0] if record else None
    found = {key: measured.get(key) for key in keys}
    return found | {"step_error": errors.get(0.5), "clock_error_near_data": clock}


def rows(root: Path | None = None) -> list[dict[str, Any]]:
    """Every model in figures: the fields of ``models``, those of :func:`figures`, what it costs, all metrics.

    Returns:
        Per model also ``training_seeds``, ``flops`` (of one evaluation of one image, a multiply-add is two), ``differences``
        (see :func:`differences`) and ``metrics``, all that is stored of the shipped weights.
    """
    found = []
    for info in zoo.models(root):
        config = files.read_json((root or zoo.ROOT) / info.name / "config.json")
        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            network = ARCHITECTURES[info.architecture](info.time_conditioning, **config["network"]).requires_grad_(False)
            network(torch.empty(1, 3, info.resolution, info.resolution), torch.empty(1))
        found.append(
            {
                **asdict(info),
                **figures(info, root),
                "training_seeds": list(by_seed(info.name, root)),
                "flops": counter.get_total_flops(),
                "differences": differences(info.name, root),
                "metrics": metrics(info.name, root),
            }
        )
    return found


# Telling ---------------------------------------------------------------------------------------------------------------


def markdown(header: list[str], lines: list[list[str]]) -> str:
    """A table, or nothing where there are no lines."""
    if not lines:
        return ""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, ["---"] * len(header), *lines])


def _with_interval(found: dict[str, Any], form: str) -> str:
    """A difference, with its interval over training seeds where there are several."""
    mean = format(found["mean"], form)
    return mean if found["low"] is None else f"{mean} ({format(found['low'], form)} to {format(found['high'], form)})"


def tables(root: Path | None = None) -> dict[str, str]:
    """The README's tables, in Markdown, from the index and the stored measurements; those without a line are left out."""
    models, measured, apart, lost, denoised, compared, structure, clocks, read = ([] for _ in range(9))
    for info in zoo.models(root):
        stored, gap = metrics(info.name, root), differences(info.name, root)
        models.append(
            [
                f"[{info.name}](checkpoints/{info.name}/README.md)", info.time_conditioning, info.prediction, info.schedule,
                f"{info.parameters:,}", f"{info.parameters_without_time:,}", f"{info.images_seen:,}",
            ]
        )  # fmt: skip
        if result := distances(stored):
            of = f"{result['count']:,} x {len(result['seeds'])}, {result['sampler']} {result['steps']} ({result['nfe']})"
            measured.append(
                [
                    info.name, result["distance"], f"{result['fd']:.2f}", f"{1000 * result['kid']:.2f}",
                    f"{result['precision']:.3f}", f"{result['recall']:.3f}", of,
                    f"{result['reference']} {result['split']}, {result['reference_images']:,}",
                ]
            )  # fmt: skip
        forms = {"fd": "+.2f", "precision": "+.3f", "recall": "+.3f", **{f"denoising t={t}": "+.1%" for t in DENOISING_TIMES}}
        if gap:
            seeds = sorted({str(len(gap[part]["seeds"])) for part in forms if part in gap})
            cells = [_with_interval(gap[part], form) if part in gap else "" for part, form in forms.items()]
            apart.append([info.name, " or ".join(seeds), *cells])
        if by_t := gap.get("losses"):
            chosen = [row for t in TABLE_LOSS_TIMES for row in by_t if math.isclose(row["t"], t)]
            scaled = [{key: row[key] and 1000 * row[key] for key in ("mean", "low", "high")} for row in chosen]
            cells = [_with_interval(row, "+.2f") for row in scaled]
            sits = where_gaps_sit(by_t, info.schedule)
            lost.append([info.name, str(len(by_t[0]["seeds"])), *cells, *(f"{value:+.2f}" for value in sits.values())])
        if "denoising" in stored:
            cells = [cell for row in stored["denoising"]["rows"] for cell in (f"{row['mse']:.4f}", f"{row['wiener']:.4f}")]
            denoised.append([info.name, *cells])
        for flags, result in stored.get("comparisons", {}).items():
            if flags != "sha256" and result["members"][0] == info.name:
                told, untold = result["standard_deviation"]
                compared.append([info.pair, f"`{flags}`", f"{result['difference']:.3f}", f"{told:.3f}", f"{untold:.3f}"])
        if record := atlas(info.name, root):
            best, alone = _best_readers(record)
            over = best["error_over_yardstick_by_region"]
            [[near, reader], *_] = alone["error_over_yardstick_by_region"].items()
            clocks.append(
                [info.name, f"{best['name']} ({best['view']})", *(_three(values) for values in over.values())]
                + [_three(best["gain_by_region"][near], ".2f"), f"{reader[0]:.1f} ({alone['view']})", f"{record['images']:,}"]
            )
        if "fidelity" in stored and stored["fidelity"]["members"][1] == info.name:
            structure += [
                [
                    info.pair,
                    str(row["t"]),
                    row["way"],
                    f"{row['ssim']['conditioned']:.3f}",
                    f"{row['ssim']['time_agnostic']:.3f}",
                ]
                + [_three(row["ssim"]["difference"], "+.3f"), _three(row["psnr"]["difference"], "+.2f")]
                for row in stored["fidelity"]["rows"]
                if row["t"] in TABLE_FIDELITY_TIMES
            ]
        if found := stored.get("saliency"):
            shares = {(row["logsnr"], row["other_logsnr"]): row["share"] for row in found["rescale_or_swap"]}
            read.append(
                [info.name, found["layer"]]  # a reading of other levels leaves cells empty
                + [_three(shares[at][part], ".2f") if at in shares else "" for at in READ_AT for part in READ_PARTS]
            )
    known = [
        [result["data"], row["images"], result["distance"], f"{row['fd']:.2f}", f"{1000 * row['kid']:.2f}"]
        + [f"{row['precision']:.3f}", f"{row['recall']:.3f}", f"{row['count']:,} / {result['held_out']:,}"]
        for result in yardsticks(root).values()
        for row in result["rows"]
    ]
    figures = ["KID x 1000", "Precision", "Recall"]
    columns = [column for t in DENOISING_TIMES for column in (f"t = {t}: model", "Wiener")]
    found = {
        "models": markdown(
            ["Model", "Told the time?", "Predicts", "Schedule", "Parameters", "without time layers", "Images seen"], models
        ),
        "distances": markdown(
            ["Model", "Distance", "Value", *figures, "Samples x seeds, sampler (NFE)", "Reference"], measured
        ),
        "yardsticks": markdown(["Data", "Instead of samples", "Distance", "Value", *figures, "Images / held out"], known),
        "differences": markdown(
            ["Minus the member that is told", "Training seeds", "FD", "Precision", "Recall"]
            + [f"Error of a step, t = {t}" for t in DENOISING_TIMES],
            apart,
        ),
        "losses": markdown(
            ["Minus the member that is told", "Training seeds"]
            + [f"Loss x 1000, t = {t:g}" for t in TABLE_LOSS_TIMES]
            + ["Goes with the width of t", "of log SNR", "of log sigma"],
            lost,
        ),
        "comparisons": markdown(
            ["Pair", "Sampler", "Mean abs. difference of the samples", "Their standard deviation: told", "never told"], compared
        ),
        "denoising": markdown(["Model", *columns], denoised),
        "fidelity": markdown(
            ["Pair", "t", "Way back", "SSIM: told", "never told", "SSIM difference", "PSNR difference, dB"], structure
        ),
        "clocks": markdown(
            ["Model", "Best layer", "Error / yardstick: near the data", "middle", "near noise"]
            + ["Random network's error / its own, near the data", "Best reader of the picture alone", "Images"],
            clocks,
        ),
        "readings": markdown(
            ["Model", "Block"] + [f"{here:g} to {there:g}: {part}" for here, there in READ_AT for part in READ_PARTS.values()],
            read,
        ),
    }
    return {name: table for name, table in found.items() if table}


def fill(text: str, tables: dict[str, str]) -> str:
    """``text`` with every table that has the header of one of ``tables`` replaced by it.

    Raises:
        ValueError: If a table's header is not there exactly once: write it where the table should stand.
    """
    for name, table in tables.items():
        header = table.splitlines()[0]
        lines = text.splitlines()
        if lines.count(header) != 1:
            raise ValueError(f"the header of the table of {name} must be there once, is {lines.count(header)} times: {header}")
        first = lines.index(header)
        last = next((i for i in range(first, len(lines)) if not lines[i].startswith("|")), len(lines))
        text = "\n".join([*lines[:first], *table.splitlines(), *lines[last:]]) + "\n"
    return text


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


def write_card(name: str, root: Path | None = None, sampled: bool = True) -> None:
    """Writes samples.png and README.md, the model card, from the index, config.json, metrics.json and seeds.json.

    Without ``sampled`` the grid of samples that is there stays.
    """
    root = root or zoo.ROOT
    info, folder = zoo.info(name, root), root / name
    config = files.read_json(folder / "config.json")
    stored, seeds = metrics(name, root), list(by_seed(name, root))
    training, denoiser = config["training"], zoo.load(name, "float32", root)
    options = Sampling.for_model(denoiser).arguments
    sampled_by = f"python -m explore sample {name} --seed 0 --count {CARD_IMAGES} {sample_flags(options)}"
    if sampled or not (folder / "samples.png").is_file():
        samples = sample(denoiser, seed_range(0, CARD_IMAGES), **options)
        files.write_atomically(folder / "samples.png", png(grid(to_uint8(samples), scale=2, columns=16)))
        store(name, "samples", {"command": sampled_by}, root)
    passes = info.images_seen / config["train_images"]
    chance = (
        "one training seed: a difference between the members of the pair may be chance"
        if len(seeds) == 1
        else f"trained also with the seeds {', '.join(map(str, seeds[1:]))}, not shipped: what was measured of them is in "
        "`seeds.json`"
    )
    lines = [
        f"# {name}",
        "",
        f"A {'DiT' if info.architecture == 'dit' else 'U-Net'} of {info.parameters:,} parameters "
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
        f"Hardware: {'; '.join(config['hardware'])}; {config['seconds'] / 60:.0f} minutes for the whole run.",
        f"Batch {training['batch_size']}, AdamW with peak rate {training['learning_rate']:g} decaying to 0, t "
        f"{training['t_distribution']}, EMA, seed {training['seed']} ({chance}). The log is `training.jsonl`, the recipe "
        "stands in `config.json`.",
        "",
        LICENCES.get(info.dataset, ""),
        "",
        "## Samples",
        "",
        f"`{sampled_by}`",
        "",
        "![64 samples](samples.png)",
        "",
    ]
    if result := distances(stored):
        table = [
            [
                str(row["seed"]),
                f"{row['fd']:.2f}",
                f"{1000 * row['kid']:.2f}",
                f"{row['precision']:.3f}",
                f"{row['recall']:.3f}",
            ]
            for row in result["per_seed"]
        ]
        lines += [
            "## Distances of its samples from held-out images",
            "",
            f"{result['count']:,} samples a seed against {result['reference_images']:,} images of {result['reference']} "
            f"({result['split']}), {result['nfe']} evaluations of the network a sample, {result['dtype']}, "
            f"{result['hardware']}: `{result['command']}`",
            "",
            markdown(["Seed", result["distance"], "KID x 1000", "Precision", "Recall"], table),
            "",
        ]
    if gap := differences(name, root):
        forms = {"fd": "+.2f", "kid": "+.5f", "precision": "+.3f", "recall": "+.3f"}
        table = [
            [part, _with_interval(found, forms.get(part, "+.1%")), ", ".join(map(str, found["seeds"]))]
            for part, found in gap.items()
            if part != "losses"
        ]
        lines += [
            "## What the missing clock costs",
            "",
            "Its figures minus those of the member that is told the time, mean over the training seeds with a 95 % interval "
            "where there are several (with one, the difference may be chance); `denoising` is the relative increase of the "
            "squared error:",
            "",
            markdown(["Figure", "Difference", "Training seeds"], table),
            "",
        ]
    if "denoising" in stored:
        measured = stored["denoising"]
        table = [
            [str(row["t"]), f"{row['logsnr']:.2f}", f"{row['mse']:.5f}", f"{row['wiener']:.5f}", f"{row['wins']:.0%} of images"]
            for row in measured["rows"]
        ]
        lines += [
            "## One denoising step on held-out images",
            "",
            f"Mean squared error of x0_hat per pixel (images in [-1, 1]) over {measured['images']} held-out images, seeds "
            f"from {measured['seed']}, beside the best linear denoiser (Wiener in the DCT basis, fitted to "
            f"{measured['train_images']:,} training images): `{measured['command']}`",
            "",
            markdown(["t", "logsnr", "this model", "Wiener", "better on"], table),
            "",
        ]
    if "losses" in stored and name in (members := stored["losses"]["members"]):
        measured, own = stored["losses"], ("conditioned", "time_agnostic")[members.index(name)]
        by_split = {split: [row for row in measured["rows"] if row["split"] == split] for split in ("train", "test")}
        table = [
            [f"{one['t']:g}", f"{one[own]:.5f}", f"{other[own]:.5f}"]
            + [_three(other["difference"], "+.5f"), f"{other['width']:.4f}"]
            for one, other in zip(by_split["train"], by_split["test"])
            if any(math.isclose(one["t"], t) for t in CARD_LOSS_TIMES)
        ]
        lines += [
            "## Loss by t",
            "",
            f"Over {measured['images']['train']} training and {measured['images']['test']} held-out images, both members on "
            "the same noise; the difference (never told minus told, held-out) has a 95 % interval over the images; the last "
            f"column is the posterior's width, {measured['prior']}: `{measured['command']}`",
            "",
            markdown(["t", "training", "held-out", "difference", "width of t"], table),
            "",
        ]
    if "fidelity" in stored and name in (members := stored["fidelity"]["members"]):
        measured, own = stored["fidelity"], ("conditioned", "time_agnostic")[members.index(name)]
        table = [
            [
                f"{row['t']:g}",
                row["way"],
                f"{row['ssim'][own]:.3f}",
                f"{row['psnr'][own]:.2f}",
                _three(row["ssim"]["difference"], "+.3f"),
            ]
            for row in measured["rows"]
        ]
        lines += [
            "## What of an image survives",
            "",
            f"{measured['images']} held-out images noised to t, then denoised in one step or sampled back; SSIM and PSNR (dB) "
            "against the original; the difference (never told minus told) has a 95 % interval over the images: "
            f"`{measured['command']}`",
            "",
            markdown(["t", "way back", "SSIM", "PSNR", "SSIM difference"], table),
            "",
        ]
    if "neighbors" in stored:
        found = stored["neighbors"]
        lines += [
            "## Learned by heart?",
            "",
            f"Root mean squared difference per pixel (images in [-1, 1]) to the nearest of the {found['train_images']:,} "
            f"training images, mirrored ones included: {found['count']} samples median {found['median']:.3f}, smallest "
            f"{found['smallest']:.3f}; {found['held_out_images']:,} held-out images, which no network has seen, median "
            f"{found['held_out_median']:.3f}, smallest {found['held_out_smallest']:.3f}. "
            f"{found['nearer_than_held_out']:.0%} of the samples are nearer than the nearest hundredth of the held-out "
            f"images: `{found['command']}` (which also makes the picture of samples above their neighbors; photographs are "
            "not in this repository).",
            "",
        ]
    if record := atlas(name, root):
        best, alone = _best_readers(record)
        order = sorted((row for row in record["layers"] if row["view"] == best["view"]), key=lambda row: -row["r2"])
        table = [
            [row["name"], f"{row['r2']:.4f}", f"{row['r2_random_network']:.4f}", f"{row['selectivity']:.3f}"]
            + [_three(values) for values in row["error_over_yardstick_by_region"].values()]
            for row in order
        ]
        regions = list(best["error_by_region"])
        lines += [
            "## Where it knows the noise level",
            "",
            f"Linear probes of {record['target']} on the {best['view']} of each block, {record['images']:,} images "
            f"({record['data']}) at {len(record['levels'])} levels, every error on images that the probe was not fitted to; "
            f"the given t was {record['given']}. Errors are over the width that readers who know the clean picture reach, "
            f"which no reader of photographs does. All layers, views and levels are in `atlas.json`; `probes.safetensors` "
            f"reads the clock: `{record['command']}`",
            "",
            markdown(["Block", "R^2", "of a random network", "selectivity", *regions], table),
            "",
            f"Of the readers of the picture alone {alone['view']} is best near the data: "
            + ", ".join(f"{name} {_three(values)}" for name, values in alone["error_over_yardstick_by_region"].items())
            + ".",
            "",
        ]
    if "lie" in stored:
        found = stored["lie"]
        table = [[row["name"], _three(row["true"], ".2f"), _three(row["given"], ".2f")] for row in found["layers"]]
        lines += [
            "## Whom does it believe?",
            "",
            f"The true and the given noise level varied independently ({len(found['levels'])} levels of log SNR each, from "
            f"{min(found['levels']):g} to {max(found['levels']):g}, {found['images']} images): slope of each block's implied "
            "clock, read by a probe that was fitted while the network was told the truth, on either, with a 95 % interval over "
            f"the images: `{found['command']}`",
            "",
            markdown(["Block", "follows the picture", "follows what it is told"], table),
            "",
        ]
    if "steer" in stored:
        found = stored["steer"]
        table = [
            [f"{slopes['logsnr']:g}", layer, _three(slopes[layer]["slope"], ".3f")]
            + [f"{max(map(abs, slopes[layer]['control'])):.3f}", "yes" if slopes[layer]["monotonic"] else "no"]
            for slopes in found["slopes"]
            for layer in (*found["later"], "predicted noise")
        ]
        lines += [
            "## Does it use what it knows?",
            "",
            f"`{found['layer']}` moved along the {found['direction']} of its probe, so that its own reading moves by "
            f"{', '.join(f'{dose:g}' for dose in found['doses'])} in log SNR: slope of what follows with the dose, beside the "
            f"largest of {found['controls']} random directions of the same length ({found['images']} images, {found['data']}); "
            f"`predicted noise` is the logarithm of its norm: `{found['command']}`",
            "",
            markdown(["true log SNR", "block", "slope", "largest of random", "monotonic"], table),
            "",
        ]
    if "saliency" in stored:
        found = stored["saliency"]
        by_level = {(row["logsnr"], row["method"]): row for row in found["where"]}
        table = [
            [f"{row['logsnr']:g}", f"{row['other_logsnr']:g}"]
            + [_three(by_level[row["logsnr"], name]["high_pass"], ".2f") for name in ("saliency", "integrated-gradients")]
            + [_three(by_level[row["logsnr"], "saliency"]["high_pass_power"], ".2f")]
            + [_three(row["share"][name], ".2f") for name in ("rescaled", "high-pass swapped, norm kept")]
            for row in found["rescale_or_swap"]
        ]
        two = [row for row in found["two_levels"]["rows"] if row["layer"] == found["layer"]]
        failing = sorted({check["method"] for check in found["checks"] if not check["passes"]})
        lines += [
            "## Which pixels is its clock read from?",
            "",
            f"The implied clock of {found['layer']} ({found['view']}) on {found['images']} held-out images; the network is "
            f"told {found['told'] if found['told'] != 'not heard' else 'nothing'}. Share of the attribution above a quarter "
            "of a cycle a pixel, by gradient and by Integrated Gradients, beside the picture's own power there; and by how "
            "much of the whole shift the clock follows when the picture takes the other level's norm only, or its high-pass "
            f"content only with the norm kept (95 % intervals over the images): `{found['command']}`",
            "",
            markdown(
                [
                    "log SNR",
                    "other",
                    "gradient: high",
                    "Integrated Gradients: high",
                    "the picture: high",
                    "norm alone",
                    "high-pass alone",
                ],
                table,
            ),
            "",
            "Two noise levels in one picture, read position by position from this block: "
            + "; ".join(
                f"{row['levels'][0]:g} and {row['levels'][1]:g}: error {row['error']:.2f} (one number for the whole picture: "
                f"{row['one_number']:.2f}), contrast {_three(row['contrast'], '.2f')} of the true one"
                for row in two
            )
            + ".",
            "",
            "With parameters drawn anew the maps change (rank correlation under .3) by every method"
            + (f" but {', '.join(failing)}: do not trust its maps here." if failing else "."),
            "",
        ]
    steps = stored.get("denoising", {}).get("rows", [])
    behind = [f"{row['t']:g}" for row in steps if row["mse"] >= row["wiener"]]
    lines += [
        "## Known failures",
        "",
        "Small and trained briefly: expect smeared backgrounds and asymmetric faces."
        if info.dataset == "celeba"
        else "Small and trained briefly: textures and colours are plausible, few objects are recognisable.",
        f"At t = {', '.join(behind)} one denoising step is worse than the best linear denoiser: trained too briefly."
        if behind
        else "",
        f"The network sees patches of {config['network']['patch']} pixels, and their seams show: blocks in every sample."
        if config["network"].get("patch", 1) > 2
        else "",
        "With DDIM at eta 0 and no clamping an eps model that is not told the time can leave the range of images; see the "
        "comparison in the project's README."
        if info.prediction == "eps"
        else "",
        "",
    ]
    text = "\n".join(lines).replace("\n\n\n", "\n\n").rstrip() + "\n"
    files.write_atomically(folder / "README.md", text)


def write_encoder_card(root: Path | None = None) -> None:
    """Writes the encoder's README.md from its config.json and the stored yardsticks."""
    root = root or zoo.ROOT
    config = files.read_json(root / encoder.NAME / "config.json")
    training, stored = config["training"], yardsticks(root)
    lines = [
        f"# {encoder.NAME}",
        "",
        f"The encoder whose features stand behind `FD[{encoder.NAME}]`: a residual network of nine layers (width "
        f"{config['network']['width']}, {8 * config['network']['width']} features, averaged over positions) that names the ten "
        "classes of CIFAR-10. Not Inception, and no distance in its features is FID.",
        "",
        f"Accuracy {config['accuracy']:.2%} on {config['test_images']:,} test images after {training['epochs']} passes over "
        f"{config['train_images']:,} training images, mirrored and shifted at random; SGD with peak rate "
        f"{training['learning_rate']:g}, batch {training['batch_size']}, seed {training['seed']}; {config['hardware']}, "
        f"{config['seconds'] / 60:.0f} minutes: `python -m explore train-encoder --data cifar10 --epochs {training['epochs']} "
        f"--width {training['width']} --batch-size {training['batch_size']} --seed {training['seed']} --out RUN`",
        "",
        LICENCES["cifar10"],
        "",
    ]
    for result in stored.values():
        table = [
            [row["images"], f"{row['count']:,}", f"{row['fd']:.2f}", f"{1000 * row['kid']:.2f}"]
            + [f"{row['precision']:.3f}", f"{row['recall']:.3f}"]
            for row in result["rows"]
        ]
        lines += [
            f"## How it orders damage: {result['data']}",
            "",
            f"Distances from {result['held_out']:,} held-out images: `{result['command']}`",
            "",
            markdown(["Images", "n", result["distance"], "KID x 1000", "Precision", "Recall"], table),
            "",
        ]
    files.write_atomically(root / encoder.NAME / "README.md", "\n".join(lines).rstrip() + "\n")


def sample_flags(options: dict[str, Any]) -> str:
    """Sampler settings as flags of the command line."""
    return " ".join(flag(name, value) for name, value in options.items())
