"""rebuild and reproduce: what is stale is computed, an interrupted rebuild continues, changed numbers are found."""

import json
import re
import shlex
import shutil
import zipfile

import pytest
import toy

from explore import cards, evaluation, files, rebuild, zoo
from explore.__main__ import main
from explore.evaluation import LearningCurves
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
    Neighbors,
    PlaneFlow,
    Posterior,
    Probe,
    Reading,
    Ruler,
    Saliency,
    Steering,
    Trajectories,
    TwoStage,
    Yardsticks,
)
from explore.rebuild import Result
from explore.samplers import Sampling

EULER = Sampling("euler", 2)
SHOWN = rebuild.COMMANDS
QUICK = {
    "comparisons": Result(lambda pair, data: [Compare(pair, EULER, count=2)], of_pair=True, quick=True),
    "denoising": Result(lambda model, data: [Denoising(model, data=data, images=20)]),
    "neighbors": Result(lambda model, data: [Neighbors(model, data=data, count=2)]),
    "distances-cifar-resnet": Result(lambda model, data: [Evaluate(model, reference=data, count=16, sampling=EULER)]),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two finished runs of one pair with different weights, and the folder of their data sets."""
    root = tmp_path_factory.mktemp("runs")
    for images in (32, 64):
        toy.train(root, images)
    return root


@pytest.fixture
def released(runs, tmp_path, monkeypatch):
    """A zoo with the first run's pair; data sets are found by name."""
    monkeypatch.setattr(rebuild, "RESULTS", QUICK)
    monkeypatch.setattr(rebuild, "WORK", tmp_path / "work")
    monkeypatch.setenv("CLOCKLESS_DATA", str(runs))
    with zoo.using(tmp_path / "zoo"):
        assert main(["release", str(runs / "run-32")]) == 0
        yield tmp_path / "zoo"


def results(pair="toy"):
    return [f"{name} of {target}" for name, target, _ in rebuild.stale(pair, "toy")]


def reproduced(released, capsys):
    """reproduce runs the stored commands as they are printed and finds a changed number."""
    assert main(["reproduce", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["result"] for row in rows].count("denoising") == 2 and all(row["deviation"] < 1e-6 for row in rows)
    assert all("--data toy" in row["command"] or "toy" in row["command"].split()[4] for row in rows)
    assert main(["reproduce", "--quick"]) == 0 and capsys.readouterr().out.count("agrees") == 1
    path = released / "toy-none" / "metrics.json"
    stored = files.read_json(path)
    stored["denoising"]["rows"][1]["mse"] *= 1.1
    files.write_json(path, stored)
    assert main(["reproduce", "denoising", "toy-none"]) == 1
    said = capsys.readouterr()
    assert "DEVIATES" in said.out + said.err and "rows.mse" in said.out + said.err
    assert main(["reproduce", "denoisin"]) == 2
    assert "unknown model, pair or result 'denoisin'; did you mean denoising" in capsys.readouterr().err


def test_rebuild_computes_what_is_stale_and_continues_after_an_interruption(released, runs, monkeypatch, capsys):
    everything = results()
    assert everything == [
        "comparisons of toy", "denoising of toy-timestep", "denoising of toy-none",
        "neighbors of toy-timestep", "neighbors of toy-none", "distances-cifar-resnet of toy-timestep",
        "distances-cifar-resnet of toy-none",
    ]  # fmt: skip
    measure = Denoising.run

    def interrupted(self, *arguments, **named):
        if self.model == "toy-none":
            raise KeyboardInterrupt
        return measure(self, *arguments, **named)

    monkeypatch.setattr(Denoising, "run", interrupted)
    assert main(["rebuild", "toy", "--data", "toy"]) == 130
    assert results() == everything[2:]
    monkeypatch.setattr(Denoising, "run", measure)
    capsys.readouterr()
    assert main(["rebuild", "toy", "--data", "toy"]) == 0
    assert capsys.readouterr().out.splitlines()[:-1] == everything[2:]
    assert main(["rebuild", "--check"]) == 0 and capsys.readouterr().out == "nothing is stale\n"
    assert "One denoising step" in (released / "toy-none" / "README.md").read_text()
    assert not list(rebuild.WORK.glob("*"))
    reproduced(released, capsys)
    # New weights: everything is stale, and old figures are not shown meanwhile.
    assert main(["release", str(runs / "run-64")]) == 0
    assert results() == everything and not cards.metrics("toy-none").get("denoising")


def test_what_other_settings_or_no_named_settings_made_is_stale_too(released, monkeypatch, capsys):
    assert main(["rebuild", "toy", "--data", "toy"]) == 0
    assert not results()
    path = released / "toy-none" / "metrics.json"
    stored = files.read_json(path)
    del stored["neighbors"]["request"]  # a record from before results had their settings
    files.write_json(path, stored)
    more = {**QUICK, "denoising": Result(lambda model, data: [Denoising(model, data=data, images=21)])}
    monkeypatch.setattr(rebuild, "RESULTS", more)
    expected = ["denoising of toy-timestep", "denoising of toy-none", "neighbors of toy-none"]
    assert results() == expected and not rebuild.stale("toy", "toy", settings=False)
    capsys.readouterr()
    assert main(["rebuild", "toy", "--check"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"toy: {line} (made with other settings)" for line in expected]
    assert main(["rebuild", "toy", "--data", "toy"]) == 0
    assert not results() and cards.metrics("toy-none")["denoising"]["images"] == 21


def test_every_shipped_result_belongs_to_the_weights_and_can_be_made_again():
    lines = [line for pair in zoo.pairs() for line in rebuild.stale_lines(pair)]
    assert not [line for line in lines if not line.endswith("(made with other settings)")]
    records = rebuild.stored_records()
    assert {name for _, name, _ in records} == set(rebuild.RESULTS)
    for model, name, record in records:  # rebuild would run what is stored
        made = rebuild.from_command(record["command"])
        result = rebuild.RESULTS[name]
        targets = [zoo.index()[model]["pair"]] if result.of_pair else [model]
        planned = [one for target in targets for one in result.requests(target, getattr(made, "data", "celeba"))]
        assert type(made) in {type(one) for one in planned}, record["command"]


@pytest.mark.slow
def test_a_quick_stored_command_gives_its_numbers_again():
    [(model, name, record)] = [one for one in rebuild.stored_records(["cifar10-dit4-velocity"], quick=True)][:1]
    [found] = rebuild.reproduce([(model, name, record)])
    assert found.agrees, found


def test_a_notebook_that_shows_other_weights_is_stale(released, tmp_path, monkeypatch):
    for sha256, expected in ((zoo.index()["toy-none"]["sha256"], []), ("0" * 64, ["05_x.ipynb"])):
        path = tmp_path / "05_x.ipynb"
        files.write_json(path, {"cells": [], "metadata": {"clockless": {"weights": {"toy-none": sha256}}}})
        monkeypatch.setattr(rebuild, "COMMANDS", {path: ("-c", "pass")})
        assert [name for name in rebuild.stale_files("toy") if "samples" not in name] == expected
    assert {path.name for path in (zoo.SHIPPED.parent / "notebooks").glob("*.ipynb")} < {path.name for path in SHOWN}


def test_a_learning_curve_is_measured_from_the_snapshots_of_a_run(runs, released, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(runs / "run-64", run)
    for member in ("toy-timestep", "toy-none"):
        shutil.copytree(runs / "run-32" / member, folder := run / "snapshots" / "30" / member)
        toy.move(folder)
    (run / "snapshots" / "50.part").mkdir()
    asked = LearningCurve(str(run), data=str(runs / "toy"), images=12, noise_draws=3)
    known = {}
    exec(asked.code, known)
    found = known["result"]
    assert [row.images_seen for row in found.rows] == [32] * 7 + [64] * 7 and found.images == 12
    assert all(row.gap.low < row.gap.value < row.gap.high for row in found.rows[:7])
    assert LearningCurves.from_json(json.loads(json.dumps(found.to_json()))) == found
    # The same losses and gaps as those of the pair by t.
    one = evaluation.learning_curves(run, str(runs / "toy"), 12, 2, levels=(0.025, 0.975))
    folders = [run / "snapshots" / "30" / name for name in found.members]
    members = [zoo.open_files(one / "config.json", one / "weights.safetensors", "float32") for one in folders]
    losses = evaluation.losses(members, str(runs / "toy"), 12, levels=20, noise_draws=2)
    expected = {round(row.t, 3): row for row in losses.rows if row.split == "test"}
    for row in one.rows[:2]:
        assert row.conditioned == pytest.approx(expected[row.t].loss.conditioned, rel=1e-5)
        gap = expected[row.t].relative
        assert [row.gap.value, *row.gap.ends] == pytest.approx([gap.value, *gap.ends], rel=1e-4, abs=1e-6)
    words = shlex.split(asked.command)[3:]
    assert main([*words, "--out", str(tmp_path / "out"), "--store"]) == 0
    assert "t = 0.025" in capsys.readouterr().out and (tmp_path / "out" / "learning-curve.html").is_file()
    record = json.loads(files.to_json(asked.record(found)))
    assert rebuild.deviation(record, files.read_json(tmp_path / "out" / "learning-curve.json"))[0] < 1e-5
    for name in found.members:
        assert files.read_json(released / name / "metrics.json")["learning-curve"]["rows"] == record["rows"]
    assert main(["learning-curve", str(tmp_path / "out"), "--data", "toy", "--out", str(tmp_path / "no")]) == 2
    assert "holds no weights of a conditioned and a time-agnostic member" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


MODEL, PAIR, BANK = "celeba32-unet-velocity-none", "celeba32-unet-velocity", "bank:celeba"
CHEAP = [
    Clock(PAIR, condition=("independent", "true"), sampling=EULER, count=2, precision="float32"),
    Denoising(MODEL, data=BANK, images=3),
    Evaluate(MODEL, reference=BANK, split="all", count=16, sampling=EULER, precision="float32"),
    ExactSampling(size=8, count=4, sampling=EULER),
    Gain(times=(0.1,), size=8, count=3),
    Intervene(MODEL, data=BANK, layer="mid.block.1", dose=(1.0,), level=(0.0,), controls=1, images=2, precision="float32"),
    PlaneFlow("-1, 0; 1, 0.5", count=3, sampling=EULER),
    Posterior(picture=BANK, t=0.3),
    Ruler(PAIR, logsnr=1.0, precision="float32"),
    Saliency(PAIR, image=BANK, t=0.5, method="saliency", checks=False),
    Steering(MODEL, sampling=EULER, count=2, dose=-1.0, precision="float32"),
    Trajectories(PAIR, sampling=EULER, count=2),
    Yardsticks(data=BANK, count=16),
]
# These take many passes of the network, so theirs is tiny.
TINY = {
    "fidelity": lambda: Fidelity("toy", data="toy", images=2),
    "neighbors": lambda: Neighbors("toy-none", data="toy", count=2),
    "probe": lambda: Probe(
        "toy-none", data="toy", layer=("mid.block.1",), view=("mean",), images=12, controls=1, precision="float32"
    ),
    "two-stage": lambda: TwoStage("toy", data="toy", images=12),
    "reading": lambda: Reading("toy-none", data="toy", images=10, level=(0.0,), steps=2),
}


def test_every_experiment_is_run_as_code_and_as_command():
    elsewhere = {"compare", "sample", "losses", "learning-curve"}  # test_experiments.py, test_evaluation.py, and below
    assert {one.verb for one in CHEAP} | {*TINY} | elsewhere == set(EXPERIMENTS)


@pytest.mark.slow
@pytest.mark.parametrize("asked", CHEAP, ids=lambda one: one.verb)
def test_code_and_command_give_the_same_numbers(asked, tmp_path, capsys):
    agree(asked, tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("verb", TINY)
def test_code_and_command_of_a_tiny_model_give_the_same_numbers(verb, runs, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CLOCKLESS_DATA", str(runs))
    with zoo.using(toy.release(runs / "run-32", tmp_path)):
        if verb in ("reading", "two-stage"):
            assert main(["probe", "toy-none", "--data", "toy", "--images", "20", "--controls", "1", "--store"]) == 0
        capsys.readouterr()
        (tmp_path / "out").mkdir()
        agree(TINY[verb](), tmp_path / "out", capsys)


def agree(asked, tmp_path, capsys):
    """Runs an experiment's code and its command in this process, and compares all their numbers."""
    known = {}
    exec(asked.code, known)
    record = json.loads(files.to_json(asked.record(known["result"])))
    words = shlex.split(asked.command)[3:]
    if not asked.written:
        assert main([*words, "--json", *(["--out", str(tmp_path / "result.json")] if asked.resumes else [])]) == 0
        other = json.loads(capsys.readouterr().out)
    else:
        assert main([*words, "--out", str(tmp_path)]) == 0
        [path] = tmp_path.glob("*.json")
        other = files.read_json(path)
    assert other["command"] == record["command"] == asked.command
    assert rebuild.deviation(record, other)[0] < 1e-5, rebuild.deviation(record, other)


@pytest.mark.slow
def test_a_stored_command_of_every_kind_runs(tmp_path, monkeypatch):
    """As printed, but with few images and steps, on generated images under the data sets' names."""
    for name in ("celeba", "cifar10"):
        with zipfile.ZipFile(zoo.companion("bank") / f"{name}.zip") as bank:
            names = sorted(bank.namelist())
            for split, part in (("train", names[:20]), ("test", names[20:36])):
                (tmp_path / name).mkdir(exist_ok=True)
                with zipfile.ZipFile(tmp_path / name / f"{split}.zip", "w") as archive:
                    for one in part:
                        archive.writestr(one, bank.read(one))
    monkeypatch.setenv("CLOCKLESS_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    kinds = {}
    records = [record for _, _, record in rebuild.stored_records()]
    for record in [*records, *cards.yardsticks().values(), *(cards.metrics(name)["samples"] for name in zoo.index())]:
        words = record["command"].split()
        kinds.setdefault((words[3], words[words.index("--kind") + 1] if "--kind" in words else ""), record["command"])
    assert {verb for verb, _ in kinds} == {
        "compare", "denoising", "evaluate", "fidelity", "intervene", "losses", "neighbors", "probe", "reading", "sample",
        "two-stage", "yardsticks",
    }  # fmt: skip
    few = {"count": 16, "images": 10, "steps": 2, "controls": 1}
    fewer = {  # one layer and few levels, where a command would take all of them
        "probe": "--layer mid.block.1 --view mean --controls 1", "reading": "--level 0 --steps 2", "lie": "--level 0 --level 1",
        "steer": "--level 0 --dose 1",
    }  # fmt: skip
    for (verb, kind), command in kinds.items():
        short = re.sub(r"--(count|images|steps|controls) \d+", lambda found: f"--{found[1]} {few[found[1]]}", command)
        short += f" {fewer.get(kind or verb, '')}"
        # These take minutes here; tests/test_evaluation.py runs them, and the test above the third, on tiny models.
        if verb not in ("losses", "fidelity", "two-stage"):
            assert main(shlex.split(short)[3:]) == 0, short


@pytest.mark.parametrize(
    ("stored", "again", "expected"),
    [
        ({"a": 1.0, "seconds": 3}, {"a": 1.0, "seconds": 9}, (0.0, "")),
        ({"rows": [{"a": 1.0}, {"a": 10.0}]}, {"rows": [{"a": 2.0}, {"a": 10.0}]}, (0.1, "rows.a")),
        ({"a": 1.0, "only": 2}, {"a": 0.5}, (0.5, "a")),
        ({"a": float("nan")}, {"a": 1.0}, (float("inf"), "no number is in both")),
        ({"a": [1.0, 2.0]}, {"a": [1.0]}, (float("inf"), "a")),
    ],
)
def test_deviation(stored, again, expected):
    assert rebuild.deviation(stored, again) == expected
