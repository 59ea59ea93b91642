"""One declaration of an experiment: everything that is derived from it says and does the same."""

from __future__ import annotations

import html
import json
import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from urllib.parse import parse_qsl

import gradio as gr
import numpy as np
import pytest
import torch
import typer

from app import endpoints
from explore import zoo
from explore.__main__ import _add_experiment, app, main
from explore.data import to_uint8
from explore.experiments import (
    EXPERIMENTS,
    Clock,
    Compare,
    Denoising,
    Evaluate,
    ExactSampling,
    Fidelity,
    Gain,
    Intervene,
    LearningCurve,
    Losses,
    Neighbors,
    PlaneFlow,
    Posterior,
    Probe,
    Reading,
    Request,
    Ruler,
    Saliency,
    Sample,
    Steering,
    Trajectories,
    TwoStage,
    Yardsticks,
    from_command,
)
from explore.experiments.request import Load, sampling_field
from explore.progress import Watch, quiet
from explore.samplers import SAMPLERS, Sampling, sample
from explore.values import choice, real, whole

ROOT = Path(__file__).resolve().parent.parent
PAIR, EPS = "celeba32-unet-velocity", "celeba32-unet-eps"

# Sampling ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_sampling_gives_the_samplers_own_images(sampler):
    denoiser = zoo.tiny("unet", "none")
    sampling = Sampling(sampler, 3, start=0.9)
    expected = sample(denoiser, [1, 2], sampler, 3, start=0.9)
    assert torch.equal(sampling.run(denoiser, [1, 2]), expected)
    *_, last = sampling.stream(denoiser, [1, 2])
    assert torch.equal(last.xt, expected)
    assert sampling.evaluations == (5 if sampler == "heun" else 3)


def test_sampling_says_what_suits_a_model():
    velocity, eps = zoo.info(f"{PAIR}-none"), zoo.info(f"{EPS}-none")
    assert Sampling.for_model(velocity) == Sampling("heun", 25)
    assert Sampling.for_model(eps) == Sampling("ddim", 50, 1.0, True)
    assert Sampling.for_model(eps, steps=7, eta=None) == Sampling("ddim", 7, 1.0, True)
    assert Sampling.for_model(zoo.tiny("unet", "none", "eqm")) == Sampling("heun", 25)
    assert Sampling.for_model(zoo.tiny("unet", "none", "edm", "edm")) == Sampling("heun", 18)
    assert Sampling.for_model(eps, sampler="ddpm") == Sampling("ddpm", 25)  # another sampler has settings of its own
    assert Sampling("ddim", 50, 1.0, True, 0.991).flags == "--sampler ddim --steps 50 --eta 1 --clamp --start 0.991"
    assert Sampling("ddim", clamp=False).flags == "--sampler ddim --steps 25 --no-clamp"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampler": "hein"}, "unknown sampler 'hein'; did you mean heun"),
        ({"steps": 0}, "steps must be a whole number from 1 to 1000, got 0"),
        ({"eta": 0.5}, "sampler 'heun' has no option 'eta'; it belongs to ddim"),
        ({"sampler": "ddim", "eta": 2}, "eta must be a number from 0 to 1, got 2"),
        ({"sampler": "ddim", "clamp": "yes"}, r"clamp must be true or false \(1 or 0\), got yes"),
        ({"step_size": 0.1}, "sampler 'heun' has no option 'step_size'; it belongs to descent"),
        ({"start": 0}, "start must be above 0 and at most 1, got 0"),
    ],
)
def test_sampling_refuses_in_one_line(settings, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**settings)


# Requests ------------------------------------------------------------------------------------------------------------------

REQUESTS = [
    Compare(PAIR),
    Compare(EPS, Sampling("ddim", 4, 0.25, False, 0.75), seed=7, count=2, precision="float32"),
    Compare(EPS, seed=2**32 - 1),
    Sample(f"{EPS}-none"),
    Sample(f"{PAIR}-timestep", sampling=Sampling("euler", 3, start=0.5), seed=5, count=70, precision="float32"),
    Denoising(f"{PAIR}-none", data="bank:celeba", images=8, seed=2),
    Evaluate(f"{EPS}-none", reference="bank:celeba", split="all", count=16, seeds=(0, 3), clock_offset=-0.05),
    Fidelity(PAIR, data="a folder/of images", images=3),
    Losses(PAIR, data="celeba"),
    Neighbors(f"{PAIR}-none", data="celeba", count=3),
    Yardsticks(data="cifar10", resolution=16, count=20, weights="weights file.pth"),
    Probe(f"{PAIR}-none", data="gaussian:celeba", layer=("mid.block.1", "head"), view=("mean",), images=20),
    Clock(f"{EPS}-timestep", sampling=Sampling("ddim", 4, 0.0), clock_offset=-0.05, layer=("mid.block.1",), count=3),
    Intervene(f"{PAIR}-none", data="bank:celeba", layer="mid.block.1", dose=(-1.5, 2.0), level=(4.0, -4.0), controls=2),
    Intervene(f"{PAIR}-none", data="celeba", layer="head", control=("covariance",), control_images=3, quantile=0.9),
    Intervene(f"{PAIR}-timestep", data="bank:celeba", kind="lie"),
    Trajectories(PAIR, sampling=Sampling("euler", 5), count=3, space="activation", dimensions=3, color="t"),
    Steering(f"{PAIR}-none", layer="mid.block.1", dose=-1.5, sampling=Sampling("euler", 3), count=2),
    ExactSampling("v", hidden_to=0.5, size=8, sampling=Sampling("ddim", 4, clamp=True, start=0.9)),
    PlaneFlow(points="-1, 0.25; 1, 0", target="eps", schedule="ddpm-cosine", count=3, sampling=Sampling("ddim", 4)),
    PlaneFlow(pattern="two moons", number=5),
    Gain("eqm", "flow", times=(0.02, 0.5), size=8, count=3),
    Ruler(PAIR, picture="a picture.png", logsnr=-1.5, seed=2),
    Saliency(PAIR, t=0.25, target="x0-region", box="1,2,3,4", channel=1, checks=False),
    Posterior("bank:cifar10", t=0.4, seed=3, index=2, dataset="cifar10", schedule="ddpm-linear"),
    Reading(f"{PAIR}-none", data="celeba", level=(4.0,), images=12),
    LearningCurve("runs/my pair", data="celeba", images=12, noise_draws=3),
    TwoStage(PAIR, data="celeba", images=12, noise_draws=3),
]


def parsed(command: str) -> dict[str, Any]:
    """The parameters that the real command line reads from a command."""
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "explore"], command
    group: Any = typer.main.get_command(app)
    verb, *rest = words[3:]
    assert verb in group.commands, f"{command}: no such command"
    with group.commands[verb].make_context(verb, [*rest]) as context:
        return dict(context.params)


def spelled(value: Any) -> str:
    """A value as a person types it."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: one.key)
def test_a_request_is_the_same_from_everywhere(request_):
    kind = type(request_)
    again = [
        kind.parse(request_.values),
        kind.from_json(json.loads(json.dumps(request_.to_json()))),
        kind.parse({name: spelled(value) for name, value in request_.values.items()}),
        kind.parse(dict(parse_qsl(request_.query))),
        kind.parse({name: value for name, value in parsed(request_.command).items() if name in kind.options()}),
        from_command(request_.command),
        eval(request_.code.partition("result = ")[2].partition(".run()")[0], {kind.__name__: kind, "Sampling": Sampling}),
    ]
    assert all(one == request_ and one.key == request_.key for one in again)
    assert replace(request_, **({"seeds": (6,)} if kind is Evaluate else {"seed": 6})).key != request_.key
    assert request_.to_json() == {"experiment": kind.verb, **request_.values}


def test_every_experiment_is_tried():
    assert {type(one) for one in REQUESTS} == set(EXPERIMENTS.values())


def test_published_requests_name_folders_without_their_path():
    asked = Denoising(f"{PAIR}-none", data="/somewhere/on this machine/celeba")
    assert asked.published == Denoising(f"{PAIR}-none", data="celeba") and "somewhere" in asked.command
    assert Denoising(f"{PAIR}-none", data="bank:celeba").published.data == "bank:celeba"
    assert Compare(PAIR).published == Compare(PAIR)


class LoadedError(Exception):
    """Raised in the place of the work of an experiment."""


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: one.key)
def test_records_name_the_dtype_of_the_models_that_are_loaded(request_):
    def load(name: str, precision: str) -> Any:
        raise LoadedError(str(zoo.load(name, precision).dtype))

    expected = request_.provenance["dtype"]
    if isinstance(request_, (ExactSampling, PlaneFlow)):
        result = replace(request_, count=2).run()
        samples = result.samples if isinstance(request_, ExactSampling) else result.paths
        assert expected == "float64" and all(one.dtype == torch.float64 for one in samples)
    elif isinstance(request_, (Posterior, Gain, Yardsticks, LearningCurve)):  # exact; the encoder; snapshots opened as float32
        assert expected == ("float64" if isinstance(request_, (Posterior, Gain)) else "float32")
    else:
        with pytest.raises(LoadedError, match=f"^torch.{expected}$"):
            request_.run(load=load)


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: one.key)
def test_every_record_says_what_it_was_computed_with(request_, monkeypatch):
    monkeypatch.setattr("explore.hardware.hardware_name", lambda device, processes=1: "a machine")
    result = SimpleNamespace(
        to_json=dict, found=[], routes=[], words="", scale=0.0, model="", seeds=[], implied_t="", classes=None,
        members=[], differences=[{"xt": 0.5}], spread=[],
    )  # fmt: skip
    result.atlas = result.paths = result.drawn = result
    records = [request_.record(result)]
    if request_.stores and not isinstance(request_, Intervene):  # which keeps the record of a shortened result
        records.append(request_.kept(result))
    for record in records:
        assert record["hardware"] == "a machine" and record["torch"] == torch.__version__
        assert record["dtype"] == request_.provenance["dtype"] and record["command"].startswith("python -m explore")


def test_a_result_that_knows_its_hardware_is_believed():
    """Such as an evaluation whose samples come from several machines."""
    asked = Evaluate(f"{PAIR}-none", reference="bank:celeba", precision="float32")
    known = {"dtype": "bfloat16; float32", "hardware": "one; another"}
    assert asked.record(SimpleNamespace(to_json=lambda: known)).items() >= known.items()


def test_sample_code_and_command_give_the_same_images(tmp_path):
    asked = Sample(f"{EPS}-none", sampling=Sampling("ddim", 2, 0.5, True), seed=4, count=65, precision="float32")
    known: dict[str, Any] = {}
    exec(asked.code, known)
    expected = to_uint8(sample(zoo.load(f"{EPS}-none", "float32"), range(4, 69), "ddim", 2, eta=0.5, clamp=True))
    assert torch.equal(known["result"].images, expected)
    assert main([*shlex.split(asked.command)[3:], "--out", str(tmp_path)]) == 0
    with np.load(tmp_path / "samples.npz") as stored:
        assert np.array_equal(stored["images"], expected.permute(0, 2, 3, 1)) and stored["seeds"].tolist() == list(range(4, 69))


def test_one_model_is_named(capsys):
    for values, message in (
        ({}, "name one model: MODEL"),
        ({"model": f"{PAIR}-none", "diffusers": "folder"}, "name one model: MODEL"),
        ({"model": f"{PAIR}-none", "label": 3}, "--label belongs to --diffusers"),
        ({"model": PAIR}, f"unknown model '{PAIR}'; did you mean"),
    ):
        with pytest.raises(ValueError, match=message):
            Sample.parse(values)
    for before in ([], ["--zoo", str(zoo.default().root)]):
        assert main([*before, "neighbours", f"{PAIR}-none"]) == 2
        assert capsys.readouterr().err == "error: the command neighbours is now called neighbors\n"


def test_code_and_command_give_the_same_numbers(tmp_path):
    asked = Compare(EPS, Sampling("ddim", 3, 0.5, True, 0.9), seed=4, count=2, precision="float32")
    known: dict[str, Any] = {}
    exec(asked.code, known)
    samples = known["result"].samples
    assert samples.shape == (2, 2, 3, 32, 32)
    names = zoo.members_of(EPS)
    for member, name in zip(samples, names, strict=True):
        alone = sample(zoo.load(name, "float32"), [4, 5], "ddim", 3, eta=0.5, clamp=True, start=0.9)
        assert torch.equal(member, alone)
    words = shlex.split(asked.command)[3:]
    assert main([*words, "--out", str(tmp_path)]) == 0
    stored = json.loads((tmp_path / "compare.json").read_text())
    assert stored["command"] == asked.command and Compare.from_json(stored["request"]) == asked
    assert stored["per_step"] == json.loads(json.dumps(known["result"].differences))


MISTAKES = [
    ({"pair": "nothing"}, "unknown pair 'nothing'; choose from"),
    ({"steps": "0"}, "steps must be a whole number from 1 to 1000, got 0"),
    ({"steps": "two"}, "steps must be a whole number from 1 to 1000, got two"),
    ({"sampler": "hein"}, "unknown sampler 'hein'; did you mean heun"),
    ({"seed": "-1"}, "seed must be a whole number from 0 to 4294967295, got -1"),
    ({"sampler": "heun", "eta": "1"}, "sampler 'heun' has no option 'eta'; it belongs to ddim"),
    ({"start": "1.5"}, "start must be above 0 and at most 1, got 1.5"),
]


@pytest.mark.parametrize(("change", "message"), MISTAKES)
def test_the_command_line_and_the_request_say_the_same(change, message, tmp_path, capsys):
    values = {"pair": PAIR, **change}
    with pytest.raises(ValueError) as error:
        Compare.parse(values)
    flags = [word for name, value in values.items() if name != "pair" for word in (f"--{name}", value)]
    assert main(["compare", values["pair"], *flags, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"error: {error.value}\n" and str(error.value).startswith(message)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("change", "message"), MISTAKES)
def test_the_endpoint_and_the_request_say_the_same(change, message):
    with gr.Blocks() as page:
        endpoints.add(Compare, 2)
    [answer] = [one.fn for one in page.fns.values() if one.api_name == "compare"]
    with pytest.raises(ValueError) as error:
        Compare.parse({"pair": PAIR, **change})
    with pytest.raises(gr.Error) as shown:
        answer(**{"pair": PAIR, **change})
    assert html.unescape(shown.value.message) == str(error.value) and str(error.value).startswith(message)


def test_requests_name_what_is_unknown_or_missing():
    with pytest.raises(ValueError, match="unknown option of compare 'step'; did you mean steps"):
        Compare.parse({"pair": PAIR, "step": 3})
    with pytest.raises(ValueError, match="compare needs pair"):
        Compare.parse({"steps": 3})
    with pytest.raises(ValueError, match="count must be a whole number from 1 to 64, got 65"):
        Compare.parse({"pair": PAIR, "count": 65}, live=True)


# A new option is one field --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Toy(Request):
    """Counts to a number."""

    verb: ClassVar[str] = "toy"
    reading: ClassVar[str] = "result"
    written: ClassVar[tuple[str, ...]] = ("toy.json",)

    model: str = choice("model", zoo.index, "Name of a model.", positional=True)
    sampling: Sampling = sampling_field()
    to: int = whole(1, 10, "How far.", 3)
    half_life: float = real(0, 5, "The field that was added.", 1.5)

    def suits(self, **given: Any) -> Sampling:
        return Sampling.for_model(zoo.info(self.model), **given)

    def run(self, watch: Watch = quiet, load: Load = zoo.load) -> dict[str, Any]:
        return {"sum": self.to * self.half_life}

    def files(self, result: dict[str, Any]) -> dict[str, Any]:
        return {"toy.json": {"command": self.command, **result}}

    def summary(self, result: dict[str, Any]) -> str:
        return f"sum {result['sum']:g}"


def test_a_field_appears_in_every_derived_place(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(app, "registered_commands", list(app.registered_commands))
    _add_experiment(Toy)
    assert main(["toy", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "--half-life FLOAT The field that was added. [default: 1.5]" in said and "--sampler TEXT" in said
    name = next(iter(zoo.index()))
    assert main(["toy", name, "--half-life", "2", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("sum 6")
    command = json.loads((tmp_path / "toy.json").read_text())["command"]
    assert command == f"python -m explore toy {name} --sampler heun --steps 25 --to 3 --half-life 2"
    asked = Toy.parse(dict(parse_qsl("model=" + name + "&half_life=2.5")))
    assert asked.half_life == 2.5 and "half_life=2.5" in asked.query and "half_life=2.5" in asked.code
    assert main(["toy", name, "--half-life", "6", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "error: half_life must be a number from 0 to 5, got 6\n"
    with gr.Blocks() as page:
        endpoints.add(Toy, downloads=0)
    asked_for = {one["parameter_name"]: one for one in page.get_api_info()["named_endpoints"]["/toy"]["parameters"]}
    assert set(asked_for) == {*Toy.options()} and asked_for["half_life"]["parameter_default"] == 1.5
    assert asked_for["half_life"]["type"] == {"type": "number"} and not asked_for["model"]["parameter_has_default"]


# Commands that are stored or printed run as they stand ----------------------------------------------------------------------

SOURCES = [
    ROOT / "README.md", *sorted((ROOT / "checkpoints").rglob("*.json")), *sorted((ROOT / "checkpoints").rglob("README.md")),
    *sorted((ROOT / "notebooks").glob("*.ipynb")), *sorted((ROOT / "benchmarks").glob("*.json")),
]  # fmt: skip
PATTERN = re.compile(r"python -m explore (?:--zoo \S+ )?([a-z][^`\"\n\\)]*)")


def commands() -> dict[str, str]:
    """Every whole command that a file of the repository stores or prints -> the file."""
    found: dict[str, str] = {}
    for path in SOURCES:
        for match in PATTERN.finditer(path.read_text()):
            text = match[1].partition("#")[0].partition(";")[0].strip().rstrip(".,:")
            if " " in text and "..." not in text:  # more than the name of a command
                found.setdefault(f"python -m explore {text}", path.relative_to(ROOT).as_posix())
    return found


def test_every_stored_command_is_read_by_the_command_line():
    from explore.__main__ import _repeated

    found, refused = commands(), []
    assert len(found) > 100
    group: Any = typer.main.get_command(app)
    for command, place in found.items():
        verb, *rest = _repeated(shlex.split(command)[3:])
        try:
            with group.commands[verb].make_context(verb, rest):
                pass
        except Exception as error:
            refused.append(f"{place}: {command}: {getattr(error, 'format_message', lambda e=error: e)()}")
    assert not refused, "\n".join(refused[:20])
    assert {command.split()[3] for command in found} >= {"compare", "denoising", "evaluate", "losses", "probe", "intervene"}


def test_the_list_of_experiments_is_the_command_line():
    group: Any = typer.main.get_command(app)
    assert set(EXPERIMENTS) <= set(group.commands)
    for verb, kind in EXPERIMENTS.items():
        spelled = {parameter.name for parameter in group.commands[verb].params}
        assert set(kind.options()) <= spelled


def test_posterior_given_x0_has_the_width_of_the_bound(tmp_path):
    asked = Posterior(t=0.4, seed=3, index=2, schedule="ddpm-cosine")
    found = asked.run()
    assert found.rows[-1].std == pytest.approx(found.bound_given_x0, rel=0.1)
    assert main([*shlex.split(asked.command)[3:], "--out", str(tmp_path)]) == 0
    stored = json.loads((tmp_path / "posterior.json").read_text())
    assert stored["rows"][0]["std"] == pytest.approx(found.rows[0].std) and stored["bound_given_x0"] > 0
    assert Posterior.from_json(stored["request"]) == asked and (tmp_path / "posterior.html").is_file()
