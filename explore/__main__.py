"""The command line: ``python -m explore COMMAND --help``.

A mistake in what was typed gives one line on stderr and exit status 2; every file is written under a temporary name and
renamed.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import io
import os
import re
import shutil
import sys
import warnings
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import safetensors
import torch
import typer
from PIL import Image
from tqdm.auto import tqdm

from explore import (
    activations,
    bayes,
    cards,
    encoder,
    evaluation,
    files,
    progress,
    zoo,
)
from explore.adapters import from_diffusers
from explore.data import load_images, to_uint8
from explore.denoiser import Denoiser
from explore.experiments import EXPERIMENTS, Request
from explore.experiments.model import table as table_of
from explore.hardware import PRECISIONS, Team
from explore.samplers import SAMPLERS, Sampling, sample
from explore.seeds import seed_range
from explore.values import Note, choose, one_line

BANK_IMAGES = 512

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)

Seed = Annotated[int, typer.Option(help="First seed, 0 to 4294967295; image i has seed + i.")]
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
        files.check_folder(zoo.default().root)
    return store


RENAMED = {"neighbours": "neighbors"}  # old name of a command -> its name
DEFAULT_OUT = Path("out")  # so that a stored command runs as it is printed
Out = Annotated[Path, typer.Option(help="Folder for the results; made if missing.", callback=_results)]
ModelName = Annotated[str, typer.Argument(help="Name of a model; `models` lists them.")]
AnyModel = Annotated[str | None, typer.Argument(metavar="MODEL", help="Name of a model, or --diffusers in its place.")]
Diffusers = Annotated[
    Path | None, typer.Option(help="Folder of a diffusers UNet2DModel or DiTTransformer2DModel, in the place of MODEL.")
]
Label = Annotated[int | None, typer.Option(help="With --diffusers: the class asked of a network that has classes.")]
Source = Annotated[str, typer.Option(help="cifar10, celeba, bank:NAME, or a folder or zip of images.")]
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


def _settings(
    denoiser: Any, sampler: str | None, steps: int | None, eta: float | None, clamp: bool | None, start: float | None
) -> dict[str, Any]:
    """The sampler's settings: what was typed, over what suits the model if no sampler was named."""
    settings = Sampling.for_model(denoiser).arguments if sampler is None else {"sampler": sampler, "steps": 25}
    typed = {"steps": steps, "eta": eta, "clamp": clamp, "start": start}
    return settings | {name: value for name, value in typed.items() if value is not None}


@app.callback()
def options(
    context: typer.Context,
    checkpoints: Annotated[
        Path | None, typer.Option("--zoo", help="Checkpoint folder, instead of CLOCKLESS_CHECKPOINTS or checkpoints/.")
    ] = None,
) -> None:
    """Instruments for diffusion models with and without time conditioning."""
    if checkpoints is not None:
        context.with_resource(zoo.using(checkpoints))


@app.command()
def models(as_json: Json = False) -> None:
    """Lists the pretrained models."""
    rows = [asdict(info) for info in zoo.models()]
    if as_json:
        print(files.to_json(rows, indent=2))
    elif rows:
        print(table_of([row | {"sha256": row["sha256"][:12]} for row in rows]))


@app.command()
def table(
    as_json: Json = False,
    fill: Annotated[Path | None, typer.Option(help="Replace the tables of this Markdown file, found by their headers.")] = None,
) -> None:
    """Prints the README's tables from the JSON stored with the models."""
    if fill is not None:
        files.write_atomically(fill, cards.fill(fill.read_text(), cards.tables()))
    elif as_json:
        print(files.to_json(cards.rows(), indent=2))
    else:
        print("\n\n".join(cards.tables().values()))


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
    command += f" --features {features} --seeds {' '.join(map(str, chosen))} {Sampling(**settings).flags}"
    command += f" --clock-offset {clock_offset:g}" if clock_offset else ""
    result = {"command": command, "model": model, **result}
    files.write_json(out, result)
    shutil.rmtree(work, ignore_errors=True)
    if store:
        cards.store(model, f"distances-{features}", result)
    print(files.to_json(result, indent=2) if as_json else table_of(result["per_seed"]))


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
    path = zoo.folder(bayes.GAUSSIANS) / f"{name}-{resolution}.safetensors"
    fit.save(path, torch.float16)
    print(f"{fit.prior}: {path.stat().st_size / 1e3:.1f} kB, in {path}")


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
        print(f"{encoder.release(run)} is in {zoo.default().root}")
        cards.write_encoder_card()
        return
    for name in training.release(run, note=note):
        cards.write_card(name)
        print(f"{name} is in {zoo.default().root}")


@app.command()
def card(
    model: Annotated[list[str] | None, typer.Argument(help="Models; by default all.")] = None,
    samples: Annotated[bool, typer.Option(help="Sample the grid anew too.")] = True,
) -> None:
    """Writes model cards (README.md and samples.png) anew from the stored JSON."""
    _storing(True)
    for name in model or zoo.index():
        cards.write_card(name, sampled=samples)
    if not model and zoo.folder(encoder.NAME).is_dir():
        cards.write_encoder_card()


@app.command()
def adopt(
    folder: Annotated[Path, typer.Argument(help="A checkpoint folder, made by `--zoo FOLDER release`.")],
) -> None:
    """Takes over what was measured of models trained with another seed than the shipped ones; not their weights."""
    _storing(True)
    for name in cards.adopt(folder):
        print(f"{name}: measured with the training seeds {', '.join(map(str, cards.by_seed(name)))}")


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
    files.write_atomically(zoo.folder("bank") / f"{name}.zip", buffer.getvalue())
    record = {
        "command": f"python -m explore bank {name} --model {model} --seed {seed}",
        "model": model,
        "weights_sha256": zoo.index()[model]["sha256"],
        "images": BANK_IMAGES,
        "seeds": [seeds[0], seeds[-1]],
        **settings,
        "sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
    }
    files.write_json(zoo.folder("bank") / f"{name}.json", record)
    print(f"{BANK_IMAGES} images, {len(buffer.getvalue()) / 1e6:.2f} MB, in {zoo.folder('bank')}")


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
        out, store, as_json = values.pop("out", None), values.pop("store", False), values.pop("as_json", False)
        request = kind.parse(values)
        if store:
            request.check_store()
        result = request.run(progress.bar)
        if result is None:
            return
        for name, content in request.files(result).items():
            if isinstance(content, dict):
                files.write_json(out / name, content)
            else:
                files.write_atomically(out / name, content)
        if store:
            request.store(result)
        if as_json:
            print(files.to_json(request.record(result), indent=2))
        else:
            print(request.summary(result) + (f"; in {out}" if out else ""))

    # All but switches are taken as text: the request reads it, and says what is wrong with it as it does everywhere.
    shown = {str: "TEXT", int: "INTEGER", float: "FLOAT"}
    annotations: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    for name, one in kind.options().items():
        text = f"{one.help} One of {', '.join(one.choices())}." if one.choices and not one.positional else one.help
        spelled = name.replace("_", "-")
        if one.kind is bool:
            annotations[name] = Annotated[bool | None, typer.Option(f"--{spelled}/--no-{spelled}", help=text)]
        elif one.many:
            more = typer.Option(f"--{spelled}", help=f"{text} Repeat for more.", metavar=shown[one.kind])
            annotations[name] = Annotated[list[str] | None, more]
        elif one.positional:
            annotations[name] = Annotated[str, typer.Argument(metavar=name.upper(), help=text)]
        else:
            annotations[name] = Annotated[str, typer.Option(f"--{spelled}", help=text, metavar=shown[one.kind])]
        if name in kind.defaults():
            defaults[name] = kind.defaults()[name]
    if kind.written:
        annotations["out"], defaults["out"] = Out, DEFAULT_OUT / kind.verb
    else:
        annotations["as_json"], defaults["as_json"] = Json, False
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
    command.__doc__ = f"{text}" + (f"\n\nFiles: {', '.join(kind.written)}." if kind.written else "")
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
        given = sys.argv[1:] if arguments is None else arguments
        if given and given[0] in RENAMED:
            return _fail(f"the command {given[0]} is now called {RENAMED[given[0]]}")
        try:
            result = app(_repeated(given), standalone_mode=False)
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
