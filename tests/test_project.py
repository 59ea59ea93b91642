"""The set-up: environment.yml, pyproject.toml, Makefile and README agree with each other and with the checkpoints."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from explore import cards, zoo
from explore.__main__ import app as commands

ROOT = Path(__file__).resolve().parent.parent
CONDA_NAMES = {"pytorch": "torch"}


def requirement(text: str) -> tuple[str, str]:
    """Name and version range."""
    match = re.fullmatch(r"([A-Za-z0-9_.-]+)(.*)", text.replace(" ", ""))
    return CONDA_NAMES.get(match[1], match[1]), match[2]


def test_environment_and_pyproject_name_the_same_packages():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    # Conda hands the lines for pip to it as a file of requirements, which takes no other flags.
    by_pip = [line for part in conda if isinstance(part, dict) for line in part["pip"]]
    listed = dict(requirement(text) for text in [*(part for part in conda if isinstance(part, str)), *by_pip])
    assert listed.pop("python") == project["requires-python"]
    listed.pop("pip")
    assert listed == dict(requirement(text) for text in project["dependencies"])


def test_readme_has_the_tables_as_they_are():
    readme = (ROOT / "README.md").read_text()
    for name, table in cards.tables().items():
        assert len(table.splitlines()) > 2, name
        assert table in readme, f"python -m explore table prints another table of {name} than the README has"


def test_readme_has_the_speeds_as_they_were_measured():
    readme = (ROOT / "README.md").read_text()
    measured = json.loads((ROOT / "benchmarks" / "sampling.json").read_text())
    for row in measured["variants"]:
        speed = row["images_per_second"]
        line = f"| {row['name']} | {speed['median']:.2f} ({speed['min']:.2f} to {speed['max']:.2f}) |"
        assert row["extrapolated"] or line in readme, row["name"]
    assert f"{measured['app']['start_seconds']:.1f} s after its start" in readme
    assert f"{measured['app']['click']['estimate']['median']:.1f} s after the click" in readme


def test_readme_and_cards_name_commands_that_exist():
    texts = [ROOT / "README.md", *(ROOT / "checkpoints").glob("*/README.md")]
    known = {command.name or command.callback.__name__ for command in commands.registered_commands}
    used = {name for path in texts for name in re.findall(r"python -m explore (?:--zoo \S+ )?([a-z-]+)", path.read_text())}
    assert len(used) >= 4
    assert used <= known


@pytest.mark.slow
def test_each_python_example_of_the_readme_runs_by_itself(monkeypatch):
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    alone = [block for block in blocks if "gradio_client" not in block]  # the others need the app, see its tests
    assert len(alone) >= 2
    for block in alone:
        known: dict = {}
        exec(block, known)
        assert known["images"].shape == (3, 3, 32, 32)


def test_readme_names_targets_that_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert {"app", "test"} <= named <= targets
    assert {"app", "notebooks", "test", "check"} <= targets


def test_files_that_the_readme_points_at_exist():
    for link in re.findall(r"\]\(([^)#\s]+)\)", (ROOT / "README.md").read_text()):
        assert link.startswith("http") or (ROOT / link).exists(), link


def test_each_model_folder_is_complete():
    for name in zoo.index():
        for file in ("config.json", "weights.safetensors", "README.md", "metrics.json", "samples.png"):
            assert (zoo.folder(name) / file).is_file(), f"{name}/{file}"
