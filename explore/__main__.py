"""The command line: ``python -m explore COMMAND --help``.

A mistake in what was typed gives one line on stderr and exit status 2; every file is written under a temporary name and
renamed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import io
import os
import re
import shutil
import sys
import time
import warnings
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import safetensors
import torch
import typer
from PIL import Image
from tqdm.auto import tqdm

from explore import activations, bayes, encoder, evaluation, files, interventions, probes, report, saliency, trajectories, zoo
from explore.adapters import from_diffusers
from explore.data import add_noise, images_for, load_images, read_image, to_float, to_uint8
from explore.denoiser import Denoiser
from explore.experiments import EXPERIMENTS, Request
from explore.hardware import PRECISIONS, Team, hardware_name
from explore.images import grid, png
from explore.samplers import SAMPLERS, Sampling, sample
from explore.seeds import keyed_noise, seed_range
from explore.values import Note, choose, one_line

MAX_COUNT = 10_000
BANK_IMAGES = 512

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)

Seed = Annotated[int, typer.Option(help="First seed, 0 to 4294967295; image i has seed + i.")]
Count = Annotated[int, typer.Option(help="Images, 1 to 10,000.")]
Steps = Annotated[int | None, typer.Option(help="Steps, 1 to 1,000; by default what suits the model.")]
SamplerName = Annotated[str | None, typer.Option(help=f"{', '.join(SAMPLERS)}; by default what suits the model.")]
Precision = Annotated[str, typer.Option(help=f"{', '.join(PRECISIONS)}.")]
Eta = Annotated[float | None, typer.Option(help="ddim only: 0 is the deterministic ODE, 1 fully stochastic.")]
Clamp = Annotated[bool | None, typer.Option("--clamp/--no-clamp", help="ddim and ddpm: hold x0_hat in [-1, 1].")]
Start = Annotated[float | None, typer.Option(help="First t, above 0 and at most 1; by default the schedule's.")]


def _first_process() -> bool:
    """Whether this is the process of `accelerate launch` that writes; the only one without it."""
    return os.environ.get("RANK", "0") == "0"


def _results(path: Path) -> Path:
    """--out as a folder: refused before anything is computed if nothing can be written there."""
    return files.check_folder(path) if _first_process() else path


def _result(path: Path) -> Path:
    """--out as one file; unfinished work lies beside it, under its name with .part."""
    return files.check_file(path, ".part") if _first_process() else path


def _storing(store: bool) -> bool:
    """--store, or a command that writes there: refused before anything is computed if the checkpoint folder is read-only."""
    if store and _first_process():
        files.check_folder(zoo.ROOT)
    return store


DEFAULT_OUT = Path("out")  # so that a stored command runs as it is printed
Out = Annotated[Path, typer.Option(help="Folder for the results; made if missing.", callback=_results)]
ModelName = Annotated[str, typer.Argument(help="Name of a model; `models` lists them.")]
AnyModel = Annotated[str | None, typer.Argument(metavar="MODEL", help="Name of a model, or --diffusers in its place.")]
Diffusers = Annotated[
    Path | None, typer.Option(help="Folder of a diffusers UNet2DModel or DiTTransformer2DModel, in the place of MODEL.")
]
Label = Annotated[int | None, typer.Option(help="With --diffusers: the class asked of a network that has classes.")]
Pair = Annotated[str, typer.Argument(help="Name of a pair, as listed by `models`.")]
Source = Annotated[str, typer.Option(help="cifar10, celeba, bank:NAME, or a folder or zip of images.")]
Images = Annotated[int, typer.Option(help="Images of a split, at most.")]
Store = Annotated[bool, typer.Option("--store", help="Keep the result in metrics.json.", callback=_storing)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def _denoiser(model: str | None, diffusers: Path | None, label: int | None, precision: str) -> Denoiser:
    """The one model that was named: MODEL or --diffusers."""
    if diffusers is not None and model is None:
        return from_diffusers(diffusers, label, precision)
    if model is None or diffusers is not None:
        raise ValueError("name one model: MODEL (`models` lists them) or --diffusers FOLDER")
    if label is not None:
        raise ValueError("--label belongs to --diffusers: our models have no classes")
    return zoo.load(model, precision)


def _check_pictures(denoiser: Denoiser) -> None:
    if denoiser.shape[0] not in (1, 3):
        raise ValueError(f"{denoiser.name} makes {denoiser.shape[0]} channels, such as latents; a picture has 3, or 1 if grey")


def _settings(
    denoiser: Any, sampler: str | None, steps: int | None, eta: float | None, clamp: bool | None, start: float | None
) -> dict[str, Any]:
    """The sampler's settings: what was typed, over what suits the model if no sampler was named."""
    settings = Sampling.for_model(denoiser).arguments if sampler is None else {"sampler": sampler, "steps": 25}
    typed = {"steps": steps, "eta": eta, "clamp": clamp, "start": start}
    return settings | {name: value for name, value in typed.items() if value is not None}


def _check_count(count: int) -> None:
    if not 1 <= count <= MAX_COUNT:
        raise ValueError(f"count must be from 1 to {MAX_COUNT}, got {count}")


def _table(rows: list[dict[str, Any]]) -> str:
    """Rows as aligned columns, numbers to the right."""
    cells = [list(rows[0])] + [
        [f"{v:,}" if isinstance(v, int) else f"{v:.5g}" if isinstance(v, float) else str(v) for v in row.values()]
        for row in rows
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    numeric = [isinstance(value, (int, float)) for value in rows[0].values()]
    lines = ["  ".join(cell.rjust(w) if n else cell.ljust(w) for cell, w, n in zip(row, widths, numeric)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)


@app.command()
def models(as_json: Json = False) -> None:
    """Lists the pretrained models."""
    rows = [asdict(info) for info in zoo.models()]
    if as_json:
        print(files.to_json(rows, indent=2))
    elif rows:
        print(_table([row | {"sha256": row["sha256"][:12]} for row in rows]))


@app.command()
def table(
    as_json: Json = False,
    fill: Annotated[Path | None, typer.Option(help="Replace the tables of this Markdown file, found by their headers.")] = None,
) -> None:
    """Prints the README's tables from the JSON stored with the models."""
    if fill is not None:
        files.write_atomically(fill, report.fill(fill.read_text(), report.tables()))
    elif as_json:
        print(files.to_json(report.rows(), indent=2))
    else:
        print("\n\n".join(report.tables().values()))


@app.command()
def layers(model: AnyModel = None, diffusers: Diffusers = None, label: Label = None, as_json: Json = False) -> None:
    """Prints a model's hook points, the blocks whose activations can be captured, as a tree with shapes."""
    points = activations.hook_points(_denoiser(model, diffusers, label, "float32"))
    if as_json:
        print(files.to_json([asdict(point) for point in points.values()], indent=2))
        return
    shown: set[str] = set()
    for point in points.values():
        parts = point.name.split(".")
        for depth in range(1, len(parts)):
            branch = ".".join(parts[:depth])
            if branch not in shown:
                print("  " * (depth - 1) + parts[depth - 1])
                shown.add(branch)
        leaf = "  " * (len(parts) - 1) + parts[-1]
        print(f"{leaf:<13} {point.kind:<17} {' x '.join(map(str, point.shape)):<13} {point.name}")


@app.command(name="sample")
def sample_command(
    out: Out = DEFAULT_OUT / "sample",
    model: AnyModel = None,
    diffusers: Diffusers = None,
    label: Label = None,
    seed: Seed = 0,
    count: Count = 16,
    steps: Steps = None,
    sampler: SamplerName = None,
    precision: Precision = "auto",
    eta: Eta = None,
    clamp: Clamp = None,
    start: Start = None,
) -> None:
    """Samples images from one model: grid.png and samples.npz (images uint8 (N, H, W, 3), or 1 if grey; seeds)."""
    _check_count(count)
    denoiser = _denoiser(model, diffusers, label, precision)
    _check_pictures(denoiser)
    seeds = seed_range(seed, count)
    settings = _settings(denoiser, sampler, steps, eta, clamp, start)
    images = to_uint8(sample(denoiser, seeds, progress=True, **settings))
    buffer = io.BytesIO()
    pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
    np.savez_compressed(buffer, images=pixels, seeds=np.array(seeds, dtype=np.uint32))
    files.write_atomically(out / "samples.npz", buffer.getvalue())
    files.write_atomically(out / "grid.png", png(grid(images, scale=4 if count <= 64 else 1)))
    print(f"{count} images of {denoiser.name} ({report.sample_flags(settings)}, seed {seed}) in {out}")


@app.command()
def denoising(
    model: ModelName,
    data: Source,
    images: Annotated[int, typer.Option(help="Held-out images, at most.")] = 500,
    seed: Seed = 0,
    store: Store = False,
    as_json: Json = False,
) -> None:
    """One denoising step on held-out images at t = .25, .5, .75, beside the best linear denoiser."""
    _check_count(images)
    result = evaluation.denoising(zoo.load(model, "float32"), data, images, seed)
    result = {
        "command": f"python -m explore denoising {model} --data {Path(data).name} --images {images} --seed {seed}",
        **result,
    }
    if store:
        report.store(model, "denoising", result)
    print(files.to_json(result, indent=2) if as_json else _table(result["rows"]))


@app.command()
def evaluate(
    model: ModelName,
    reference: Source,
    out: Annotated[Path, typer.Option(help="JSON file for the result.", callback=_result)] = DEFAULT_OUT / "evaluate.json",
    split: Annotated[str, typer.Option(help="Of the reference: train, test or all.")] = "test",
    count: Annotated[int, typer.Option(help="Samples for each seed, 16 to 100,000.")] = 5000,
    features: Annotated[str, typer.Option(help=f"{', '.join(evaluation.FEATURES)}.")] = "cifar-resnet",
    seeds: Annotated[list[int] | None, typer.Option(help="One set of samples each, such as 0 1 2.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Inception's standard weights, if they are not to be fetched.")] = None,
    steps: Steps = None,
    sampler: SamplerName = None,
    precision: Precision = "auto",
    eta: Eta = None,
    clamp: Clamp = None,
    start: Start = None,
    clock_offset: Annotated[float, typer.Option(help="Tell the network t plus this; the sampler keeps t.")] = 0.0,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: a GPU where there is one.")] = "auto",
    sample_only: Annotated[
        bool, typer.Option("--sample-only", help="Stop when the samples' features are there; rerun without it to go on.")
    ] = False,
    store: Store = False,
    as_json: Json = False,
) -> None:
    """Fréchet distance, KID, precision and recall between a model's samples and reference images.

    Interrupted, the same command goes on where it was; its unfinished work lies beside --out (OUT.part). Under
    `accelerate launch` each process samples a share.
    """
    choose("device", device, ("auto", "cpu", "cuda"))
    device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("there is no CUDA device here; choose --device cpu")
    denoiser = zoo.load(model, precision, device=device)
    settings = _settings(denoiser, sampler, steps, eta, clamp, start)
    chosen = seeds or [0]
    work = out.with_name(f"{out.name}.part")
    sampling = {
        "count": count, "features": features, "seeds": chosen, "weights": weights, "work": work,
        "clock_offset": clock_offset, **settings,
    }  # fmt: skip
    team = Team.now()
    with files.claimed(work, "evaluation") if team.index == 0 else contextlib.nullcontext():
        if team.index or sample_only:  # the first process makes the comparison, and clears up when all are through
            evaluation.sample_features(denoiser, **sampling)
            team.wait()
            if sample_only and team.index == 0:
                print(
                    f"features of {count * len(chosen)} samples of {model} lie in {work}; run it without --sample-only to go on"
                )
            return
        result = evaluation.evaluate(denoiser, reference, split=split, **sampling)
        team.wait()
    command = f"python -m explore evaluate {model} --reference {Path(reference).name} --split {split} --count {count}"
    command += f" --features {features} --seeds {' '.join(map(str, chosen))} {report.sample_flags(settings)}"
    command += f" --clock-offset {clock_offset:g}" if clock_offset else ""
    result = {"command": command, "model": model, **result}
    files.write_json(out, result)
    shutil.rmtree(work, ignore_errors=True)
    if store:
        report.store(model, f"distances-{features}", result)
    print(files.to_json(result, indent=2) if as_json else _table(result["per_seed"]))


@app.command()
def yardsticks(
    data: Annotated[str, typer.Option(help="cifar10, celeba, or a folder or zip of images.")],
    resolution: Annotated[int, typer.Option(help="To which the images are brought.")] = 32,
    features: Annotated[str, typer.Option(help=f"{', '.join(evaluation.FEATURES)}.")] = "cifar-resnet",
    count: Annotated[int | None, typer.Option(help="Training images; by default as many as held-out ones.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Inception's standard weights, if they are not to be fetched.")] = None,
    seed: Seed = 0,
    store: Store = False,
    as_json: Json = False,
) -> None:
    """Distances of training images and of damaged held-out images from the held-out ones: the scale to read others on."""
    result = evaluation.yardsticks(data, resolution, features=features, count=count, seed=seed, weights=weights)
    command = f"python -m explore yardsticks --data {Path(data).name} --resolution {resolution} --features {features}"
    command += f"{f' --count {count}' if count else ''} --seed {seed}"
    result = {"command": command, **result}
    if store:
        report.store_yardsticks(result)
        report.write_encoder_card()
    print(files.to_json(result, indent=2) if as_json else _table(result["rows"]))


def _pair_command(name: str, measure: Any, pair: str, data: str, count: int, seed: int, store: bool, as_json: bool) -> None:
    """Measures both members of a pair on the same images, prints and keeps the result."""
    _check_count(count)
    members = zoo.members_of(pair)
    result = measure([zoo.load(member, "float32") for member in members], data, count, seed)
    command = f"python -m explore {name} {pair} --data {Path(data).name} --images {count} --seed {seed}"
    result = {"command": command, "members": members, **result}
    if store:
        for member in members:
            report.store(member, name, result)
    print(files.to_json(result, indent=2) if as_json else _table(result["rows"]))


@app.command()
def fidelity(
    pair: Pair, data: Source, images: Images = 200, seed: Seed = 0, store: Store = False, as_json: Json = False
) -> None:
    """What of a held-out image survives noise up to t, denoised in one step and sampled back: SSIM and PSNR by t."""
    _pair_command("fidelity", evaluation.fidelity, pair, data, images, seed, store, as_json)


@app.command()
def losses(pair: Pair, data: Source, images: Images = 500, seed: Seed = 0, store: Store = False, as_json: Json = False) -> None:
    """Loss by t of both members on training and held-out images, beside the width of the posterior of t."""
    _pair_command("losses", evaluation.losses, pair, data, images, seed, store, as_json)


@app.command()
def neighbours(
    model: ModelName,
    data: Source,
    out: Out = DEFAULT_OUT / "neighbours",
    count: Count = 64,
    seed: Seed = 0,
    store: Store = False,
) -> None:
    """Nearest training images of a model's samples: neighbours.png (samples above them) and neighbours.json."""
    _check_count(count)
    result, picture = evaluation.neighbours(zoo.load(model, "float32"), data, count, seed)
    command = f"python -m explore neighbours {model} --data {Path(data).name} --count {count} --seed {seed}"
    result = {"command": command, **result}
    files.write_atomically(out / "neighbours.png", png(picture))
    files.write_json(out / "neighbours.json", result)
    if store:
        report.store(model, "neighbours", result)
    print(_table([{k: v for k, v in result.items() if k not in ("command", "data", "seed")}]))


Layers = Annotated[list[str] | None, typer.Option("--layer", help="Hook point; repeat for more. `layers` lists them.")]
ProbesFolder = Annotated[Path | None, typer.Option("--probes", help="Folder of `probe`; by default the model's own.")]


def _held_out(denoiser: Denoiser, data: str, split: str, count: int, seed: int) -> tuple[torch.Tensor, str]:
    """Images to show a network, and what they are in words."""
    _check_count(count)
    if data.startswith("gaussian:"):  # pictures of which the exact posterior is known; not rounded to grey levels
        gaussian = bayes.fitted_gaussian(data.removeprefix("gaussian:"), denoiser.shape)
        drawn = gaussian.draw(count, torch.Generator().manual_seed(seed))
        return gaussian.to_images(drawn, denoiser.shape).float(), f"drawn from {gaussian.prior}"
    images = images_for(denoiser, data, split)[:count]
    return images, f"{Path(data).name}, split {split}"


def _clock(denoiser: Denoiser, folder: Path | None) -> probes.Clock:
    if folder is None:
        if (info := zoo.shipped(denoiser)) is None:
            raise ValueError(
                "probes of a model that is not the zoo's are needed: make them with `probe` and name --probes FOLDER"
            )
        return probes.load(info.name)
    clock = probes.Clock.read(folder / "probes.safetensors", denoiser.schedule)
    if clock.sha256 and denoiser.sha256 and clock.sha256 != denoiser.sha256:
        raise ValueError(f"the probes in {folder} were fitted to other weights ({clock.model}): run `probe` for this model")
    return clock


def _identity(denoiser: Denoiser) -> dict[str, Any]:
    """What a stored result says of its model; the sha256 of the weights tells models of one name apart."""
    return {"model": denoiser.name, "sha256": denoiser.sha256 or None}


def _shipped(denoiser: Denoiser) -> str:
    """The name under which results of this model are stored with --store."""
    if (info := zoo.shipped(denoiser)) is None:
        raise ValueError(f"--store keeps results with a shipped model; {denoiser.name} was read from {denoiser.source}")
    return info.name


@app.command()
def gaussian(
    name: Annotated[str, typer.Argument(help="Name of the fit, such as celeba.")],
    data: Source,
    resolution: Annotated[int, typer.Option(help="To which the images are brought.")] = 32,
) -> None:
    """Fits a Gaussian to the training images of a data set and keeps it, a few kilobytes that stand in for the data."""
    _storing(True)
    fit = bayes.DiagonalGaussian.fit(load_images(data, resolution))
    fit = replace(fit, prior=f"{fit.prior.removesuffix(' images')} training images of {name} at {resolution} px")
    path = zoo.ROOT / bayes.GAUSSIANS / f"{name}-{resolution}.safetensors"
    fit.save(path, torch.float16)
    print(f"{fit.prior}: {path.stat().st_size / 1e3:.1f} kB, in {path}")


@app.command()
def probe(
    data: Annotated[str, typer.Option(help="cifar10, celeba, a folder or zip of images, or gaussian:NAME.")],
    out: Out = DEFAULT_OUT / "probe",
    model: AnyModel = None,
    diffusers: Diffusers = None,
    label: Label = None,
    images: Annotated[int, typer.Option(help="Held-out images, at most.")] = 2000,
    split: Annotated[str, typer.Option(help="Of the data: train, test or all.")] = "test",
    target: Annotated[str, typer.Option(help=f"{', '.join(probes.TARGETS)}.")] = "logsnr",
    layer: Layers = None,
    view: Annotated[list[str] | None, typer.Option(help=f"{', '.join(activations.VIEWS)}; repeat for more.")] = None,
    prior: Annotated[str | None, typer.Option(help="Fitted Gaussian used as a reader; by default the data set's own.")] = None,
    batch_size: Annotated[int, typer.Option(help="Images in one pass of the network.")] = 64,
    seed: Seed = 0,
    precision: Precision = "auto",
) -> None:
    """Where a network knows the noise level, and how well: atlas.json, and probes.safetensors that read its clock.

    Runs under `accelerate launch` too, each process on its share of the images.
    """
    denoiser = _denoiser(model, diffusers, label, precision)
    pictures, words = _held_out(denoiser, data, split, images, seed)
    info = zoo.shipped(denoiser)
    name = prior or (data.removeprefix("gaussian:") if data.startswith("gaussian:") else info.dataset if info else None)
    shipped = (zoo.companion(bayes.GAUSSIANS) / f"{name}-{denoiser.shape[-1]}.safetensors").is_file()
    fit = bayes.fitted_gaussian(name, denoiser.shape) if name and (prior or shipped) else None
    team = Team.now()
    record, clock = probes.atlas(
        denoiser, pictures, layers=layer, views=view or probes.ATLAS_VIEWS, target=target, gaussian=fit,
        seed=seed, batch=batch_size, share=(team.index, team.size), reduce=team.sum, progress=team.index == 0,
    )  # fmt: skip
    if team.index:
        return
    typed = f"--diffusers {diffusers.name}" if diffusers else denoiser.name
    command = f"python -m explore probe {typed} --data {Path(data).name} --split {split} --images {images} --target {target}"
    command += "".join(f" --layer {one}" for one in layer or []) + "".join(f" --view {one}" for one in view or [])
    about = {
        "command": f"{command} --seed {seed}", **_identity(denoiser), "data": words,
        "dtype": str(denoiser.dtype).removeprefix("torch."), "hardware": hardware_name(denoiser.device, team.size),
        "torch": torch.__version__,
    }  # fmt: skip
    clock.save(out / "probes.safetensors")
    files.write_json(out / "atlas.json", about | record, indent=None)
    best = sorted((row for row in record["layers"] if row["name"] != "input"), key=lambda row: -row["r2"])
    columns = ("name", "view", "r2", "r2_random_network", "selectivity", "accuracy")
    regions = [name for name in probes.REGIONS if name in best[0]["error_by_region"]]
    print(_table([{c: row[c] for c in columns} | {r: row["error_by_region"][r] for r in regions} for row in best]))
    print(f"error near the data is least in {clock.best[0]} ({clock.best[1]}); {len(pictures)} images; in {out}")


@app.command()
def clock(
    out: Out = DEFAULT_OUT / "clock",
    model: AnyModel = None,
    diffusers: Diffusers = None,
    label: Label = None,
    probes_folder: ProbesFolder = None,
    layer: Layers = None,
    view: Annotated[str, typer.Option(help=f"Of the layers named: {', '.join(activations.VIEWS)}.")] = "mean",
    clock_offset: Annotated[float, typer.Option(help="Tell the network t plus this; the sampler keeps t.")] = 0.0,
    seed: Seed = 0,
    count: Annotated[int, typer.Option(help="Images, 1 to 64.")] = 16,
    steps: Steps = None,
    sampler: SamplerName = None,
    precision: Precision = "auto",
    eta: Eta = None,
    clamp: Clamp = None,
    start: Start = None,
) -> None:
    """Reads the implied clock at every evaluation of a sampling run, beside the true one: clock.json, clock.html."""
    from explore import figures  # here, where it is used: the trainer runs where there is no plotly

    if not 1 <= count <= trajectories.MAX_IMAGES:
        raise ValueError(f"count must be from 1 to {trajectories.MAX_IMAGES}, got {count}")
    denoiser = _denoiser(model, diffusers, label, precision)
    settings = _settings(denoiser, sampler, steps, eta, clamp, start)
    read = _clock(denoiser, probes_folder)
    run = probes.clock_run(
        denoiser, read, seed_range(seed, count), layers=layer, view=view, offset=clock_offset, progress=True, **settings
    )
    record = {**_identity(denoiser), "seed": seed, "count": count, **settings, **run}
    files.write_json(out / "clock.json", record, indent=None)
    told = "timestep" if probes.hears(denoiser) else "none"
    curves = figures.clock_curves([run], [denoiser.name], [figures.MEMBER_COLOURS[told]])
    files.write_atomically(out / "clock.html", figures.page(curves))
    rows = [
        {"layer": row["name"], "t": t, "true": true, "implied": mean, "std over images": std}
        for row in run["layers"]
        for t, true, mean, std in list(zip(run["t"], run["true"], row["mean"], row["std"]))[:: max(1, len(run["t"]) // 12)]
    ]
    print(_table(rows) + f"\n{count} images of {denoiser.name} ({report.sample_flags(settings)}, seed {seed}); in {out}")


@app.command()
def intervene(
    data: Annotated[str, typer.Option(help="cifar10, celeba, bank:NAME, a folder or zip of images, or gaussian:NAME.")],
    out: Out = DEFAULT_OUT / "intervene",
    model: AnyModel = None,
    diffusers: Diffusers = None,
    label: Label = None,
    kind: Annotated[str, typer.Option(help=f"{', '.join(interventions.INTERVENTIONS)}, lie.")] = "steer",
    layer: Annotated[str | None, typer.Option(help="Hook point; needed but for lie. `layers` lists them.")] = None,
    direction: Annotated[str, typer.Option(help=f"{', '.join(interventions.DIRECTIONS)}.")] = "pattern",
    dose: Annotated[list[float] | None, typer.Option(help="In the probe's unit; repeat for more.")] = None,
    level: Annotated[list[float] | None, typer.Option(help="True log SNR; repeat for more.")] = None,
    controls: Annotated[int, typer.Option(help="Random directions of the same length.")] = 8,
    probes_folder: ProbesFolder = None,
    images: Annotated[int, typer.Option(help="Held-out images, at most.")] = 64,
    split: Annotated[str, typer.Option(help="Of the data: train, test or all.")] = "test",
    seed: Seed = 0,
    precision: Precision = "auto",
    store: Store = False,
) -> None:
    """Changes a layer along its probe's direction, or lies to the network about t: KIND.json and KIND.html.

    steer adds the direction, swap brings in another noise level's component, erase takes it out; the change of later layers'
    clocks, of the predicted noise and of the loss stands beside that of random directions of the same length. lie varies the
    given and the true t independently, and says which one every layer follows.
    """
    from explore import figures  # here, where it is used: the trainer runs where there is no plotly

    choose("intervention", kind, [*interventions.INTERVENTIONS, "lie"])
    denoiser = _denoiser(model, diffusers, label, precision)
    kept_with = _shipped(denoiser) if store else ""
    read = _clock(denoiser, probes_folder)
    pictures, words = _held_out(denoiser, data, split, images, seed)
    progress = functools.partial(tqdm, desc=kind)
    if kind == "lie":
        result = interventions.clock_lie(
            denoiser, read, pictures, levels=level or interventions.LIE_LEVELS, seed=seed, progress=progress
        )
        figure = figures.trust_bars([result], [denoiser.name])
        shown = [
            {"layer": row["name"], "follows the picture": row["true"][0], "the label": row["given"][0]}
            for row in result["layers"]
        ]
    else:
        if layer is None:
            raise ValueError(f"--kind {kind} needs --layer; choose from {', '.join(read.layers())}")
        result = interventions.intervene(
            denoiser, read, pictures, layer, kind, direction=direction, levels=level or interventions.STAGES,
            doses=dose or interventions.DOSES, controls=controls, seed=seed, progress=progress,
        )  # fmt: skip
        named = [*result["later"][-1:], "predicted noise", "loss"]
        figure = figures.dose_response(result, named)
        shown = [
            {"log SNR": row["logsnr"], "dose": row["dose"]}
            | {f"{name} ({which})": value for name in named for which, value in (
                ("probed", row["effects"][name][0]),
                ("largest of random", max(row["control"][name], key=abs)),
            )}
            for row in result["rows"]
        ]  # fmt: skip
    typed = f"--diffusers {diffusers.name}" if diffusers else denoiser.name
    command = f"python -m explore intervene {typed} --data {Path(data).name} --kind {kind}"
    command += f" --layer {layer} --direction {direction} --controls {controls}" if kind != "lie" else ""
    command += "".join(f" --dose {one:g}" for one in dose or []) + "".join(f" --level {one:g}" for one in level or [])
    command += f" --images {images} --split {split} --seed {seed}"
    record = probes.rounded({"command": command, **_identity(denoiser), "data": words, **result})
    files.write_json(out / f"{kind}.json", record, indent=None)
    files.write_atomically(out / f"{kind}.html", figures.page(figure))
    if store:
        # What the card tells; every single effect stands in --out.
        kept = {name: value for name, value in record.items() if name != "rows"}
        if kind == "lie":
            kept["layers"] = [{name: row[name] for name in ("name", "true", "given")} for row in record["layers"]]
        report.store(kept_with, kind, kept)
    print(_table(shown) + f"\n{len(pictures)} images ({words}); in {out}")


@app.command(name="trajectories")
def trajectories_command(
    pair: Pair,
    out: Out = DEFAULT_OUT / "trajectories",
    seed: Seed = 0,
    count: Annotated[int, typer.Option(help="Images, 1 to 64.")] = 64,
    steps: Steps = None,
    sampler: SamplerName = None,
    precision: Precision = "auto",
    eta: Eta = None,
    clamp: Clamp = None,
    start: Start = None,
    space: Annotated[str, typer.Option(help="Of the map: xt, x0_hat, or activation (see --layer).")] = "xt",
    layer: Annotated[str | None, typer.Option(help="Hook point recorded beside; by default one in the middle.")] = None,
    view: Annotated[str, typer.Option(help="What is kept of an activation: mean or mean_std.")] = "mean_std",
    projection: Annotated[str, typer.Option(help=f"{', '.join(trajectories.PROJECTIONS)}; its seed is --seed.")] = "pca",
    dimensions: Annotated[int, typer.Option(help="Of the map: 2 or 3.")] = 2,
    colour: Annotated[str, typer.Option(help="Of the map's points: member, t, implied-t or class.")] = "member",
) -> None:
    """Records both members' paths from the same noise: trajectories.npz, .json and .gif, map.html and map.png.

    trajectories.json holds path length, curvature, the distance between the members by t, the step where they part, each
    with its definition, and the map's trustworthiness. map.png needs an installed Chromium. Class: of CIFAR-10, as the
    shipped encoder names the finished samples.
    """
    from explore import figures  # here, where it is used: the trainer runs where there is no plotly

    if not 1 <= count <= trajectories.MAX_IMAGES:
        raise ValueError(f"count must be from 1 to {trajectories.MAX_IMAGES}, got {count}")
    choose("space", space, (*trajectories.SPACES, "activation"))
    choose("projection", projection, trajectories.PROJECTIONS)
    choose("colour", colour, ("member", "t", "implied-t", "class"))
    if dimensions not in (2, 3):
        raise ValueError(f"dimensions must be 2 or 3, got {dimensions}")
    names = zoo.members_of(pair)
    about = [zoo.info(name) for name in names]
    if colour == "class" and about[0].dataset != "cifar10":
        raise ValueError(f"colour class is for models of cifar10: the encoder names its classes; {pair} is {about[0].dataset}")
    denoisers = [zoo.load(name, precision) for name in names]
    if layer is None:
        points = list(activations.hook_points(denoisers[0]))
        layer = points[len(points) // 2]
    try:
        clocks, no_clock = [probes.load(name) for name in names], ""
    except ValueError as error:  # no probes: everything but the implied t
        clocks, no_clock = None, str(error)
    if colour == "implied-t" and clocks is None:
        raise ValueError(f"colour implied-t needs probes: {no_clock}")
    settings = _settings(denoisers[0], sampler, steps, eta, clamp, start)
    paths = trajectories.record(
        denoisers, seed_range(seed, count), layers=[layer], view=view, clocks=clocks, pair=pair, progress=True,
        titles=[zoo.TITLES[one.time_conditioning] for one in about], **settings,
    )  # fmt: skip
    if about[0].dataset == "cifar10":
        paths = replace(paths, classes=[encoder.name_classes(samples) for samples in paths.samples()])
    drawn = trajectories.project(paths, layer if space == "activation" else space, projection, dimensions, seed)
    colours = [figures.MEMBER_COLOURS[one.time_conditioning] for one in about]
    values = {"t": paths.t.expand(2, count, -1), "implied-t": paths.implied_t}.get(colour)
    figure = figures.trajectory_map(
        drawn.coordinates.tolist(), paths.titles, paths.t.tolist(), colours, indices=paths.index.tolist(),
        values=None if values is None else values.tolist(), value_title=colour.replace("-", " "),
        classes=paths.classes if colour == "class" else None, at=len(paths.t) - 1, axes=drawn.axes(),
    )  # fmt: skip
    command = f"python -m explore trajectories {pair} --seed {seed} --count {count} {report.sample_flags(settings)}"
    command += f" --space {space} --layer {layer} --view {view} --projection {projection} --dimensions {dimensions}"
    result = {
        "command": command, **paths.to_json(), "map": drawn.to_json(),
        "implied_t": "read by each member's best probe, fitted to know the picture alone" if clocks else no_clock,
        "classes_by": encoder.NAME if paths.classes else None,
        "note": "one training seed: part of a difference between the members is chance; intervals are quartiles over images",
    }  # fmt: skip
    files.write_atomically(out / "trajectories.npz", paths.to_npz(drawn))
    files.write_json(out / "trajectories.json", result)
    files.write_atomically(out / "trajectory.gif", paths.comparison().to_gif(colours))
    files.write_atomically(out / "map.html", figures.page(figure))
    if figures.browser():
        files.write_atomically(out / "map.png", figures.static(figure))
    else:
        print(f"map.png is left out: {figures.NO_BROWSER}", file=sys.stderr)
    rows = [
        {"space": name, "model": member}
        | {what: shape[what]["median"] for what in ("length", "detour", "turning", "curvature")}
        | {"parting": f"{found['parting']['images_that_part']} of {count}"}
        | {"at step": f"{found['parting']['step']['median']:g}" if found["parting"]["step"] else "never"}
        for name, found in result["spaces"].items()
        for member, shape in found["members"].items()
    ]  # fmt: skip
    print(_table(rows))
    print(f"medians over {count} images ({report.sample_flags(settings)}, seed {seed}); parting is the")
    print(trajectories.DEFINITIONS["parting"].partition(";")[0])
    share = drawn.about.get("variance")
    kept = f", {sum(share):.1%} of the variance" if share else f", of {drawn.about['reduced_to']} principal components"
    print(f"map of {drawn.space}: {projection}{kept}, trustworthiness {drawn.trustworthiness:.3f}; in {out}")


def _one_image(source: str, index: int, denoiser: Denoiser) -> tuple[torch.Tensor, str]:
    """uint8 (1, C, H, W) in the model's shape: an image file, or the one at ``index`` of a data set; what it is in words."""
    path, (channels, *size) = Path(source), denoiser.shape
    if path.is_file() and path.suffix.lower() != ".zip":
        picture, said = read_image(path, size, channels)
        for words in said:
            warnings.warn(f"{path.name}: {words}", Note, stacklevel=1)
        return picture[None], path.name
    pictures = load_images(source, size, "all", channels=channels)
    if not 0 <= index < len(pictures):
        raise ValueError(f"index must be from 0 to {len(pictures) - 1} for {source}, got {index}")
    return pictures[index : index + 1], f"{path.name}, image {index}"


@app.command(name="saliency")
def saliency_command(
    out: Out = DEFAULT_OUT / "saliency",
    model: Annotated[str | None, typer.Argument(help="A model, a pair (both members), or --diffusers in its place.")] = None,
    diffusers: Diffusers = None,
    label: Label = None,
    image: Annotated[str, typer.Option(help="Image file, or a data set such as bank:celeba.")] = "bank:celeba",
    index: Annotated[int, typer.Option(help="Which image of a data set, from 0.")] = 0,
    t: Annotated[float, typer.Option("--t", help="Noise level of the picture shown, 0 to 1.")] = 0.5,
    target: Annotated[str, typer.Option(help=f"{', '.join(saliency.TARGETS)}.")] = "implied-clock",
    method: Annotated[str, typer.Option(help=f"{', '.join(saliency.SALIENCY)}.")] = "integrated-gradients",
    layer: Annotated[
        str | None, typer.Option(help="Whose probe is read; by default the best, of a pair that of its last member.")
    ] = None,
    view: Annotated[str | None, typer.Option(help="Of that layer: mean or mean_std.")] = None,
    at: Annotated[str | None, typer.Option(help="Hook point that layer methods look at.")] = None,
    baseline: Annotated[str, typer.Option(help=f"{', '.join(saliency.BASELINES)}.")] = "zero",
    steps: Annotated[int | None, typer.Option(help="Of the path, 2 to 512; by default as many as it takes.")] = None,
    given: Annotated[float | None, typer.Option(help="Tell the network this t; by default the true one.")] = None,
    box: Annotated[str | None, typer.Option(help="For x0-region: top,left,height,width in pixels.")] = None,
    channel: Annotated[int | None, typer.Option(help="For x0-region: 0, 1 or 2.")] = None,
    window: Annotated[int | None, typer.Option(help="Side of occlusion's square in pixels.")] = None,
    probes_folder: ProbesFolder = None,
    seed: Seed = 0,
    checks: Annotated[bool, typer.Option("--checks/--no-checks", help="Curves and randomised parameters too.")] = True,
) -> None:
    """Which pixels one number of a model depends on: saliency.json, .npz, .html and .png (map over image).

    The image gets noise of --seed up to t. Both members of a pair are shown on one scale. Beside the map: completeness,
    deletion and insertion, the map of randomised parameters, and how much comes through what the network is told of t.
    """
    from explore import figures  # here, where it is used: the trainer runs where there is no plotly

    # What is typed is checked before anything is loaded.
    if not 0 <= t <= 1:
        raise ValueError(f"t must be from 0 to 1, got {t:g}")
    choose("target", target, saliency.TARGETS)
    region = [int(part) for part in box.split(",") if part.strip().isdigit()] if box else None
    if box and (region is None or len(region) != 4 or len(box.split(",")) != 4):
        raise ValueError(f"box must be four whole numbers top,left,height,width, got {box}")
    if method not in saliency.NEVER_OFFERED:  # of those the reason is given
        choose("method", method, saliency.SALIENCY)
    names = zoo.members_of(model) if model in zoo.pairs() and diffusers is None else [model]
    denoisers = [_denoiser(name, diffusers, label, "float32") for name in names]
    for denoiser in denoisers:
        _check_pictures(denoiser)
    clocks = [_clock(one, probes_folder) if "clock" in saliency.TARGETS[target].needs else None for one in denoisers]
    if len(clocks) > 1 and clocks[-1] is not None and layer is None:  # a pair is read at one place, or it cannot be compared
        layer, view = clocks[-1].best[0], view or clocks[-1].best[1]
    picture, words = _one_image(image, index, denoisers[0])
    x0 = to_float(picture)
    found, through, shown = [], [], []
    wanted = list(saliency.CHECKS) if checks else ["completeness"]
    for denoiser, clock in tqdm(list(zip(denoisers, clocks)), desc=method):
        xt = add_noise(x0, keyed_noise([seed], denoiser.shape), t, denoiser.schedule)
        asked: dict[str, Any] = {"clock": clock, "layer": layer, "view": view, "box": region, "channel": channel, "x0": x0,
                                 "given": given, "baseline": baseline, "steps": steps, "seed": seed}  # fmt: skip
        found.append(saliency.attribute(denoiser, xt, t, target, method, at=at, window=window, checks=wanted, **asked))
        through.append(saliency.routes(denoiser, xt, t, target, **asked))
        shown.append(xt)
    limit = saliency.scale_of([one.map for one in found])
    typed = f"--diffusers {diffusers.name}" if diffusers else str(model)
    command = f"python -m explore saliency {typed} --image {Path(image).name} --index {index} --t {t:g} --target {target}"
    command += f" --method {method} --baseline {baseline} --seed {seed}"
    options = {"layer": layer, "view": view, "at": at, "steps": steps, "given": given, "box": box, "channel": channel,
               "window": window}  # fmt: skip
    command += "".join(f" --{name} {value}" for name, value in options.items() if value is not None)
    members = [one.to_json() | {"routes": way.to_json()} for one, way in zip(found, through)]
    record = {"command": command, "image": words, "seed": seed, "scale": limit, "members": members}
    files.write_json(out / "saliency.json", probes.rounded(record))
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {
        "picture": picture.permute(0, 2, 3, 1).numpy(),
        "t": np.array(t),
        "seed": np.array(seed, dtype=np.uint32),
    }
    for number, (one, xt) in enumerate(zip(found, shown)):
        arrays |= {f"map_{number}": one.map.numpy(), f"values_{number}": one.values.numpy(), f"xt_{number}": xt.numpy()}
    np.savez_compressed(buffer, **arrays)
    files.write_atomically(out / "saliency.npz", buffer.getvalue())
    over = torch.cat([saliency.overlay(picture, one.map, limit) for one in found])
    pictures = torch.cat([picture.expand(-1, 3, -1, -1), over])
    files.write_atomically(out / "saliency.png", png(grid(pictures, scale=8, columns=len(pictures))))
    pixels = [picture[0].permute(1, 2, 0).numpy()] * len(found)
    colours = [figures.MEMBER_COLOURS["timestep" if probes.hears(one) else "none"] for one in denoisers]
    unit = figures.UNITS[clocks[0].target] if clocks[0] is not None else target
    value = f"contribution, {unit}" if found[0].signed else "sensitivity"
    titles = [one.name for one in denoisers]
    drawn = [
        figures.saliency_maps(
            pixels, [one.map[0].numpy() for one in found], titles, limit, signed=found[0].signed, value=value, colours=colours
        )
    ]
    if all("curves" in one.quality for one in found):
        drawn.append(figures.deletion_curves([one.quality["curves"] for one in found], titles, unit, colours))
    drawn.append(figures.routes_bars([way.to_json() for way in through], titles, colours, unit))
    files.write_atomically(out / "saliency.html", figures.page(drawn))
    rows = []
    for one, way in zip(found, through):
        check = one.quality.get("randomisation", {})
        rows.append(
            {
                "model": one.model, "target": float(one.output[0]), "read from": one.layer or "output",
                "relative gap": _given(one.quality.get("completeness", {}).get("relative_gap")),
                "rank correlation, randomised": _given(check.get("rank_correlation")),
                "through the clock": float(way.clock[0]), "through the picture": float(way.picture[0]),
            }
        )  # fmt: skip
    notes = [f"{one.model}: {note}" for one, way in zip(found, through) for note in [*one.notes, way.note] if note]
    print(_table(rows) + "".join(f"\n{note}" for note in notes) + f"\n{words}, t = {t:g}, seed {seed}; in {out}")


def _given(value: float | None) -> Any:
    return "none" if value is None else value


@app.command(name="reading")
def reading_command(
    data: Source,
    out: Out = DEFAULT_OUT / "reading",
    model: AnyModel = None,
    diffusers: Diffusers = None,
    label: Label = None,
    images: Annotated[int, typer.Option(help="Held-out images, 10 or more.")] = 64,
    split: Annotated[str, typer.Option(help="Of the data: train, test or all.")] = "test",
    layer: Annotated[str | None, typer.Option(help="Whose probe is read; by default the best.")] = None,
    view: Annotated[str | None, typer.Option(help="Of that layer: mean or mean_std.")] = None,
    level: Annotated[list[float] | None, typer.Option(help="True log SNR; repeat for more.")] = None,
    baseline: Annotated[str, typer.Option(help=f"{', '.join(saliency.BASELINES)}.")] = "zero",
    steps: Annotated[int, typer.Option(help="Of Integrated Gradients.")] = saliency.READING_STEPS,
    probes_folder: ProbesFolder = None,
    seed: Seed = 0,
    store: Store = False,
) -> None:
    """Where a model reads its clock: reading.json and reading.html.

    Share of the implied clock's attribution on flat and textured patches and in bands of frequency, by noise level; its shift
    when x_t takes another level's norm or its high-pass content; two noise levels in one picture; how much of the predicted
    noise comes through what the network is told. A network that hears the time is told one that says nothing of the truth.
    """
    from explore import figures  # here, where it is used: the trainer runs where there is no plotly

    denoiser = _denoiser(model, diffusers, label, "float32")
    kept_with = _shipped(denoiser) if store else ""
    clock = _clock(denoiser, probes_folder)
    pictures, words = _held_out(denoiser, data, split, images, seed)
    begun = time.perf_counter()
    found = saliency.reading(
        denoiser, clock, pictures, layer=layer, view=view, levels=level or saliency.READING_LEVELS, baseline=baseline,
        steps=steps, seed=seed, progress=lambda jobs, name: tqdm(jobs, desc=name),
    )  # fmt: skip
    typed = f"--diffusers {diffusers.name}" if diffusers else denoiser.name
    command = f"python -m explore reading {typed} --data {Path(data).name} --images {images} --split {split}"
    command += f" --baseline {baseline} --steps {steps} --seed {seed}"
    command += "".join(f" --{name} {value}" for name, value in (("layer", layer), ("view", view)) if value)
    command += "".join(f" --level {one:g}" for one in level or [])
    about = {"command": command, **_identity(denoiser), "data": words, "seconds": time.perf_counter() - begun,
             "hardware": hardware_name(denoiser.device), "torch": torch.__version__}  # fmt: skip
    record = probes.rounded(about | found)
    files.write_json(out / "reading.json", record, indent=None)
    colour = [figures.MEMBER_COLOURS["timestep" if probes.hears(denoiser) else "none"]]
    shown, titles = [record], [denoiser.name]
    drawn = [
        figures.reading_shares(shown, titles, colours=colour), figures.band_shares(shown, titles),
        figures.clock_shift(shown, titles, colour), figures.two_levels(shown, titles, colour),
    ]  # fmt: skip
    files.write_atomically(out / "reading.html", figures.page(drawn))
    if store:
        report.store(kept_with, "saliency", record)
    rows = [
        {"log SNR": row["logsnr"], "high frequencies": row["high_pass"][0], "of the picture": row["high_pass_power"][0],
         "flat": row["texture"]["flat"][0], "textured": row["texture"]["textured"][0]}
        for row in record["where"] if row["method"] == "integrated-gradients"
    ]  # fmt: skip
    moved = [
        {"log SNR": row["logsnr"], "other": row["other_logsnr"], "norm x": row["norm_factor"][0],
         "whole picture": row["shift"]["whole"][0], "its norm": row["shift"]["rescaled"][0],
         "its high-pass, norm kept": row["shift"]["high-pass swapped, norm kept"][0]}
        for row in record["rescale_or_swap"]
    ]  # fmt: skip
    split_rows = [
        {"layer": row["layer"], "levels": f"{row['levels'][0]:g} | {row['levels'][1]:g}", "error": row["error"],
         "one level": row["whole_error"], "one number": row["one_number"], "contrast": row["contrast"][0]}
        for row in record["two_levels"]["rows"] if row["layer"] == record["two_levels"]["best"]
    ]  # fmt: skip
    print("\n\n".join(_table(part) for part in (rows, moved, split_rows)))
    print(f"{len(pictures)} images ({words}), read from {record['layer']} ({record['view']}); told: {record['told']}; in {out}")


@app.command(name="train-encoder")
def train_encoder(
    data: Annotated[str, typer.Option(help="cifar10, or a folder of zips with labels in a dataset.json.")],
    out: Out,
    epochs: Annotated[int, typer.Option(help="Passes over the images.")] = 12,
    width: Annotated[int, typer.Option(help="Channels of the first stage.")] = 32,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 128,
    limit_images: Annotated[int | None, typer.Option(help="Use only the first images, for a trial run.")] = None,
    seed: Seed = 0,
) -> None:
    """Trains the encoder whose features `evaluate` uses by default, or goes on with the run that --out holds."""
    config = encoder.EncoderConfig(width=width, epochs=epochs, batch_size=batch_size, seed=seed)
    result = encoder.train_encoder(config, data, out, limit_images=limit_images)
    print(f"accuracy {result['accuracy']:.4f} on {result['test_images']} test images; in {out}")


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="JSON recipe of a pair, or a shipped model's config.json.")],
    data: Annotated[str, typer.Option(help="cifar10, celeba, or a folder or zip of images.")],
    out: Out,
    init_from: Annotated[
        Path | None, typer.Option(help="Begin with the weights of this checkpoint folder (or another run's --out).")
    ] = None,
    limit_seconds: Annotated[float | None, typer.Option(help="Stop cleanly after this time; run again to go on.")] = None,
    limit_images: Annotated[int | None, typer.Option(help="Use only the first images, for a trial run.")] = None,
    images: Annotated[int | None, typer.Option(help="Images each member sees, instead of the recipe's.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step, instead of the recipe's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Training seed, instead of the recipe's.")] = None,
    member: Annotated[
        list[str] | None, typer.Option(help="Train this member; repeat for more. By default the recipe's.")
    ] = None,
    save_every: Annotated[float, typer.Option(help="Seconds between saves of the state.")] = 120.0,
    log_images: Annotated[int, typer.Option(help="Images between lines of the log.")] = 5_000,
    grid_images: Annotated[int, typer.Option(help="Images between sample grids and held-out losses.")] = 25_000,
    compiled: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="torch.compile; by default on a GPU only.")
    ] = None,
) -> None:
    """Trains the members of a pair, or goes on with the run that --out holds."""
    from explore import training  # here, where it is used: accelerate takes a second that other commands need not wait

    typed: dict[str, Any] = {
        "images": images, "batch_size": batch_size, "seed": seed, "members": tuple(member) if member else None
    }  # fmt: skip
    recipe = replace(training.TrainingConfig.read(config), **{k: value for k, value in typed.items() if value is not None})
    training.train(
        recipe, data, out, init_from=init_from, limit_seconds=limit_seconds,
        limit_images=limit_images, save_every=save_every, log_images=log_images, grid_images=grid_images, compiled=compiled,
    )  # fmt: skip


@app.command()
def release(
    run: Annotated[Path, typer.Argument(help="The --out folder of a training run.")],
    note: Annotated[str, typer.Option(help="What the cards should say of the data.")] = "",
) -> None:
    """Ships a run's models (or the encoder): copies them into checkpoints/, updates the index and writes their cards."""
    from explore import training

    _storing(True)
    if (run / "config.json").is_file():  # the encoder's run; a pair's has a folder for each member
        print(f"{encoder.release(run)} is in {zoo.ROOT}")
        report.write_encoder_card()
        return
    for name in training.release(run, note=note):
        report.write_card(name)
        print(f"{name} is in {zoo.ROOT}")


@app.command()
def card(
    model: Annotated[list[str] | None, typer.Argument(help="Models; by default all.")] = None,
    samples: Annotated[bool, typer.Option(help="Sample the grid anew too.")] = True,
) -> None:
    """Writes model cards (README.md and samples.png) anew from the stored JSON."""
    _storing(True)
    for name in model or zoo.index():
        report.write_card(name, sampled=samples)
    if not model and (zoo.ROOT / encoder.NAME).is_dir():
        report.write_encoder_card()


@app.command()
def adopt(
    folder: Annotated[Path, typer.Argument(help="A checkpoint folder, made by `release` under CLOCKLESS_CHECKPOINTS.")],
) -> None:
    """Takes over what was measured of models trained with another seed than the shipped ones; not their weights."""
    _storing(True)
    for name in report.adopt(folder):
        print(f"{name}: measured with the training seeds {', '.join(map(str, report.by_seed(name)))}")


@app.command()
def bank(
    name: Annotated[str, typer.Argument(help="Name of the bank, such as celeba.")],
    model: Annotated[str, typer.Option(help="Model that generates the images.")],
    seed: Seed = 0,
) -> None:
    """Generates a bank of 512 images, checkpoints/bank/NAME.zip, for use where no data set is present."""
    _storing(True)
    denoiser = zoo.load(model, "float32")
    settings = Sampling.for_model(denoiser).arguments
    seeds = seed_range(seed, BANK_IMAGES)
    images = to_uint8(sample(denoiser, seeds, progress=True, **settings)).permute(0, 2, 3, 1).numpy()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for number, pixels in zip(seeds, images):
            encoded = io.BytesIO()
            Image.fromarray(pixels).save(encoded, format="WEBP", lossless=True, quality=100, method=6)
            # A fixed date keeps the file the same whenever it is made.
            archive.writestr(zipfile.ZipInfo(f"{number:010d}.webp", (1980, 1, 1, 0, 0, 0)), encoded.getvalue())
    files.write_atomically(zoo.ROOT / "bank" / f"{name}.zip", buffer.getvalue())
    record = {
        "command": f"python -m explore bank {name} --model {model} --seed {seed}",
        "model": model,
        "weights_sha256": zoo.index()[model]["sha256"],
        "images": BANK_IMAGES,
        "seeds": [seeds[0], seeds[-1]],
        **settings,
        "sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
    }
    files.write_json(zoo.ROOT / "bank" / f"{name}.json", record)
    print(f"{BANK_IMAGES} images, {len(buffer.getvalue()) / 1e6:.2f} MB, in {zoo.ROOT / 'bank'}")


@app.command()
def course(
    name: Annotated[list[str] | None, typer.Argument(help="Notebooks, such as 03_is_t_in_the_picture; by default all.")] = None,
    execute: Annotated[
        bool, typer.Option("--execute", help="Run them and write their outputs; static pictures of figures need Chromium.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Lists the notebooks of the course with their questions and running times, or runs them."""
    from explore import views  # here, where it is used: the trainer's machines have no notebooks

    rows = views.course()
    if not rows:
        raise ValueError(f"no notebooks in {views.NOTEBOOKS}: run this in a checkout of the project, which holds them")
    chosen = [choose("notebook", one, [row["name"] for row in rows]) for one in name or [row["name"] for row in rows]]
    if execute:
        files.check_folder(views.NOTEBOOKS)
        for one in tqdm(chosen, unit="notebook"):
            done = views.execute(views.NOTEBOOKS / f"{one}.ipynb")
            tqdm.write(f"{one}: {done['seconds']:.0f} s, {done['bytes'] / 1000:.0f} kB")
        return
    shown = [row for row in rows if row["name"] in chosen]
    print(files.to_json(shown, indent=2) if as_json else "\n\n".join(
        f"{row['name']}\n  {row['question']}\n  {row['time']}" for row in shown
    ))  # fmt: skip


def _add_experiment(kind: type[Request]) -> None:
    """The command of an experiment: its arguments, options, help texts and defaults are those of the request's fields."""

    def command(**values: Any) -> None:
        out, store = values.pop("out"), values.pop("store", False)
        request = kind.parse(values)
        result = request.run(progress=True)
        for name, content in request.files(result).items():
            if isinstance(content, dict):
                files.write_json(out / name, content)
            else:
                files.write_atomically(out / name, content)
        if store:
            request.store(result)
        print(f"{request.summary(result)}; in {out}")

    # All but switches are taken as text: the request reads it, and says what is wrong with it as it does everywhere.
    shown = {str: "TEXT", int: "INTEGER", float: "FLOAT"}
    annotations: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    for name, one in kind.options().items():
        text = f"{one.help} One of {', '.join(one.choices())}." if one.choices and not one.positional else one.help
        spelled = name.replace("_", "-")
        if one.kind is bool:
            annotations[name] = Annotated[bool | None, typer.Option(f"--{spelled}/--no-{spelled}", help=text)]
        elif one.positional:
            annotations[name] = Annotated[str, typer.Argument(help=text)]
        else:
            annotations[name] = Annotated[str, typer.Option(f"--{spelled}", help=text, metavar=shown[one.kind])]
        if name in kind.defaults():
            defaults[name] = kind.defaults()[name]
    annotations["out"], defaults["out"] = Out, DEFAULT_OUT / kind.verb
    if kind.stores:
        annotations["store"], defaults["store"] = Store, False
    parameters = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=defaults.get(name, inspect.Parameter.empty)
        )
        for name, annotation in annotations.items()
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = annotations
    text = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:")[0].strip()
    text = re.sub(r":class:`[a-z_.]*([A-Za-z]+)`", r"`\1`", text)  # markup for documentation
    command.__doc__ = f"{text}\n\nFiles: {', '.join(kind.written)}."
    app.command(name=kind.verb)(command)


for _kind in EXPERIMENTS.values():
    _add_experiment(_kind)


def _repeated(arguments: list[str]) -> list[str]:
    """``--seeds 0 1 2`` as the ``--seeds 0 --seeds 1 --seeds 2`` that Typer reads."""
    spelled: list[str] = []
    within = False
    for argument in arguments:
        value = argument.lstrip("-").isdigit()
        if within and value and spelled[-1] != "--seeds":
            spelled.append("--seeds")
        within = argument == "--seeds" or (within and value)
        spelled.append(argument)
    return spelled


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns the exit status (2 for a mistake in what was typed, or a file that cannot be read or written)."""
    with warnings.catch_warnings():
        plain = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *more: Any) -> None:
            if issubclass(category, Note):
                print(f"note: {one_line(message, 2000)}", file=sys.stderr)
            else:
                plain(message, category, *more)

        warnings.showwarning = show  # type: ignore[assignment]
        warnings.simplefilter("default", Note)
        try:
            result = app(_repeated(sys.argv[1:] if arguments is None else arguments), standalone_mode=False)
        except BrokenPipeError:  # such as `| head`: who reads has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            return _fail(f"{place}{error.strerror or error}")
        except (ValueError, safetensors.SafetensorError) as error:
            return _fail(str(error))
        except Exception as error:
            # Typer's own usage errors, which it would print as a box of several lines.
            if not hasattr(error, "format_message"):
                raise
            return _fail(error.format_message())
        except KeyboardInterrupt:
            return 130
    return result if isinstance(result, int) else 0


def _fail(message: str) -> int:
    print(f"error: {one_line(message, 2000)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
