"""The command line: ``python -m explore COMMAND --help``.

A mistake in what was typed gives one line on stderr and exit status 2; every file is written under a temporary name and
renamed.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import shutil
import sys
import time
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import safetensors
import torch
import typer
from tqdm.auto import tqdm

from explore import (
    activations,
    bayes,
    cards,
    encoder,
    files,
    progress,
    zoo,
)
from explore import (
    bank as bank_of_images,
)
from explore.adapters import from_diffusers
from explore.data import load_images
from explore.denoiser import Denoiser
from explore.experiments import EXPERIMENTS, Request
from explore.results import table as table_of
from explore.values import Note, choose, one_line

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)

Seed = Annotated[int, typer.Option(help="First seed, 0 to 4294967295; image i has seed + i.")]


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
OutFile = Annotated[Path, typer.Option(help="JSON file for the result.", callback=_result)]
SampleOnly = Annotated[
    bool, typer.Option("--sample-only", help="Stop when the samples' features are there; run without it to continue.")
]
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
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 0.1,
    init_from: Annotated[Path | None, typer.Option(help="A finished run with the initial weights.")] = None,
    limit_images: Annotated[int | None, typer.Option(help="Use only the first images, for a trial run.")] = None,
    seed: Seed = 0,
) -> None:
    """Trains the encoder whose features `evaluate` uses by default, or goes on with the run that --out holds."""
    config = encoder.EncoderConfig(width, epochs, batch_size, learning_rate, seed=seed)
    result = encoder.train_encoder(config, data, out, init_from=init_from, limit_images=limit_images)
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
        list[str] | None,
        typer.Option(
            help="Train only this member, such as constant for a finished pair; repeat for more. It gets the pair's images, "
            "times and noise; on other hardware its rounding differs. By default all members of the recipe, in one run."
        ),
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
    made = bank_of_images.make(name, model, seed)
    print(
        f"{made['images']} images, {(zoo.folder('bank') / f'{name}.zip').stat().st_size / 1e6:.2f} MB, in {zoo.folder('bank')}"
    )


@app.command()
def rebuild(
    pair: Annotated[str | None, typer.Argument(help="A pair; by default only what is stale is listed, of all pairs.")] = None,
    data: Annotated[
        str | None, typer.Option(help="The images that the pair was trained on: cifar10, celeba, a folder or zip.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="List what is stale and compute nothing.")] = False,
) -> None:
    """Computes again what was made with other weights or settings than a pair has now; continues where it was interrupted.

    Measurements, probes, samples, cards, the bank and the tables of README.md. Results name the sha256 of their weights.
    """
    from explore import rebuild as rebuilding  # here, where it is used: other commands need not wait

    if check or pair is None:
        lines = [line for one in ([pair] if pair else zoo.pairs()) for line in rebuilding.stale_lines(one)]
        print("\n".join(lines) or "nothing is stale")
        return
    if data is None:
        raise ValueError(f"rebuild {pair} needs --data, the images that the pair was trained on")
    _storing(True)
    begun = time.monotonic()
    done = rebuilding.rebuild(pair, data, progress.bar)
    print("\n".join([*done, f"{len(done)} results computed in {(time.monotonic() - begun) / 60:.1f} minutes; cards written"]))


@app.command()
def reproduce(
    name: Annotated[list[str] | None, typer.Argument(help="Models, pairs or results; by default all.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only results that need no data set.")] = False,
    as_json: Json = False,
) -> None:
    """Runs stored commands again and compares the numbers; exit status 1 if one deviates by more than its tolerance.

    A deviation is relative to the largest stored number of the same name. CLOCKLESS_DATA names the folder of the data sets.
    """
    from explore import rebuild as rebuilding

    rows = []
    for one in rebuilding.reproduce(progress.bar(rebuilding.stored_records(name or (), quick), unit="command")):
        rows.append(asdict(one) | {"agrees": one.agrees})
        if not as_json:
            verdict = "agrees" if one.agrees else "DEVIATES"
            tqdm.write(f"{verdict:<8} {one.deviation:9.2e} of {one.tolerance:g} {one.where}\n         {one.command}")
    if as_json:
        print(files.to_json(rows, indent=2))
    if not all(row["agrees"] for row in rows):
        raise typer.Exit(1)


@app.command()
def course(
    name: Annotated[list[str] | None, typer.Argument(help="Notebooks, such as 03_is_t_in_the_picture; by default all.")] = None,
    execute: Annotated[
        bool, typer.Option("--execute", help="Run them and write their outputs; static pictures of figures need Chromium.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Lists the notebooks of the course with their questions and running times, or runs them."""
    from explore import course as notebooks  # here, where it is used: the trainer's machines have no notebooks

    rows = notebooks.course()
    if not rows:
        raise ValueError(f"no notebooks in {notebooks.NOTEBOOKS}: run this in a checkout of the project, which holds them")
    chosen = [choose("notebook", one, [row["name"] for row in rows]) for one in name or [row["name"] for row in rows]]
    if execute:
        files.check_folder(notebooks.NOTEBOOKS)
        for one in tqdm(chosen, unit="notebook"):
            done = notebooks.execute(notebooks.NOTEBOOKS / f"{one}.ipynb")
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
        sample_only = values.pop("sample_only", False)
        request = kind.parse(values)
        if store:
            request.check_store()
        if kind.resumes:
            work = out.with_name(f"{out.name}.part")
            with files.claimed(work, kind.verb) if _first_process() else contextlib.nullcontext():
                result = request.run(progress.bar, work=work, sample_only=sample_only)  # type: ignore[call-arg]
            if sample_only and _first_process():
                print(f"the samples' features are in {work}; run this without --sample-only to continue")
        else:
            result = request.run(progress.bar)
        if result is None:
            return
        if kind.resumes:
            files.write_json(out, request.record(result))
            shutil.rmtree(work, ignore_errors=True)
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
            default = kind.defaults()[name]
            defaults[name] = list(default) if isinstance(default, tuple) else default
    if kind.resumes:
        annotations["out"], defaults["out"] = OutFile, DEFAULT_OUT / f"{kind.verb}.json"
        annotations["sample_only"], defaults["sample_only"] = SampleOnly, False
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
        verb = next(iter(given[2:] if given[:1] == ["--zoo"] else given), "")
        if verb in RENAMED:
            return _fail(f"the command {verb} is now called {RENAMED[verb]}")
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
