"""The sampler study asks what it says, goes on where it was, measures replaced weights again and draws what there is."""

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from explore import zoo

PATH = Path(__file__).resolve().parent.parent / "benchmarks" / "sampler_study.py"
spec = importlib.util.spec_from_file_location("sampler_study", PATH)
study = importlib.util.module_from_spec(spec)
spec.loader.exec_module(study)


def measured(cell, source, count, work):
    figures = {"fd": 1.0 + len(study.key(cell)), "kid": 0.1, "precision": 0.5, "recall": 0.5, "images_per_second": 1.0}
    about = {"distance": "FD[toy]", "reference": source, "split": "test", "reference_images": 9, "seeds": [0], "nfe": 50}
    return {**about, "count": count, "dtype": "float32", "hardware": "CPU", **figures}


@pytest.fixture
def counted(monkeypatch):
    calls = []

    def measure(cell, source, count, work):
        calls.append(study.key(cell))
        return measured(cell, source, count, work)

    monkeypatch.setattr(study, "measure", measure)
    return calls


SOURCES = {"celeba": "faces", "cifar10": "things"}


def test_the_grid_is_asked_under_every_setting_of_the_plan():
    grid = [info.name for info in zoo.models() if info.dataset == "celeba" and info.architecture == "unet"]
    asked = [study.key(cell) for cell in study.cells(["ddim"])]
    assert len(asked) == len(set(asked)) == 12 * len([name for name in grid if name.startswith("celeba32")])
    flags = "--sampler ddim --steps 50 --eta 0 --no-clamp --start 0.999"
    assert f"celeba32-unet-eps-none {flags}" in asked
    told = [cell for cell in study.cells(["wrong clock"]) if cell["model"] == "celeba32-unet-velocity-timestep"]
    assert [cell["clock_offset"] for cell in told] == [0.0, *study.OFFSETS]


def test_an_interrupted_study_goes_on_and_what_was_replaced_is_measured_again(counted, tmp_path, monkeypatch):
    out = tmp_path / "study.json"
    found = study.study(["solvers"], 32, SOURCES, out)
    assert len(counted) == len(found) == len(set(counted)) and not list(tmp_path.glob("*.part"))
    everything = list(counted)
    document = json.loads(out.read_text())
    lost = everything[3]
    del document["cells"][lost]
    document["cells"][everything[5]]["sha256"] = "0"
    document["cells"][everything[7]]["encoder_sha256"] = "0"
    out.write_text(json.dumps(document))
    counted.clear()
    assert study.study(["solvers"], 32, SOURCES, out) == found
    assert counted == [lost, everything[5], everything[7]]
    counted.clear()
    study.study(["solvers"], 33, SOURCES, out)
    assert counted == everything  # another count is another study


@pytest.mark.parametrize("part", ["ddim", "solvers", "wrong clock"])
def test_a_picture_of_every_part(part, counted, tmp_path):
    found = study.study([part], 32, SOURCES, tmp_path / "study.json")
    [path] = study.draw([part], found, tmp_path)
    with Image.open(path) as picture:
        assert picture.width > 400 and len(picture.convert("RGB").getcolors(1_000_000)) > 20
    assert not list(tmp_path.glob(".*.tmp"))


def test_tables_hold_the_distance_of_every_cell_where_it_belongs(counted, tmp_path):
    found = study.study(["ddim", "wrong clock"], 32, SOURCES, tmp_path / "study.json")
    tables = study.tables(found)
    assert {"ddim", "wrong clock"} <= set(tables)
    [row] = [line for line in tables["ddim"].splitlines() if line.startswith("| celeba32-unet-eps | 0 | yes |")]
    cells = [cell.strip() for cell in row.strip("|").split("|")][3:]
    flags = "--sampler ddim --steps 50 --eta 0 --clamp --start"
    models = [f"celeba32-unet-eps-{told}" for told in ("timestep", "none") for _ in study.STARTS]
    keys = [f"{model} {flags} {start:g}" for model, start in zip(models, [*study.STARTS, *study.STARTS])]
    assert cells == [f"{found[name]['fd']:.2f}" for name in keys]
    [row] = [line for line in tables["wrong clock"].splitlines() if line.startswith("| celeba32-unet-eps-none |")]
    cells = [cell.strip() for cell in row.strip("|").split("|")][1:]
    assert [bool(cell) for cell in cells] == [offset in (0.0, 0.1) for offset in sorted([0.0, *study.OFFSETS])]


def test_the_readme_has_the_tables_of_the_study_as_they_are():
    readme = (PATH.parent.parent / "README.md").read_text()
    for name, table in study.tables(json.loads(study.OUT.read_text())["cells"]).items():
        assert len(table.splitlines()) > 2 and table in readme, name


def test_a_cell_is_an_evaluation(tmp_path, monkeypatch):
    seen = {}

    def evaluate(denoiser, source, **settings):
        seen.update(settings, source=source, name=denoiser.name)
        settings["work"].mkdir(parents=True)
        found = measured({"model": denoiser.name, "settings": {}}, source, settings["count"], None)
        return SimpleNamespace(to_json=lambda: found)

    monkeypatch.setattr(study.evaluation, "evaluate", evaluate)
    cell = {"model": zoo.models()[0].name, "settings": {"sampler": "euler", "steps": 3}, "clock_offset": 0.1}
    assert study.measure(cell, "faces", 64, tmp_path / "work")["fd"] > 1
    assert seen["clock_offset"] == 0.1 and seen["steps"] == 3 and seen["count"] == 64 and seen["seeds"] == [0]
    assert not (tmp_path / "work").exists()
