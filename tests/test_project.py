"""The set-up: environment.yml, pyproject.toml, Makefile and README agree with each other and with the checkpoints."""

import importlib.util
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest
import torch
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


def prose() -> str:
    """The README with line breaks as spaces."""
    return " ".join((ROOT / "README.md").read_text().split())


def benchmark(name: str) -> dict:
    """A stored result of a script in benchmarks/."""
    return json.loads((ROOT / "benchmarks" / f"{name}.json").read_text())


def test_readme_has_the_other_speeds_as_they_were_measured():
    measured, slow = benchmark("sampling"), benchmark("sampling_without_bfloat16")
    own, own_half, alike, alike_half = (row["speedup_at_equal_flops"]["median"] for row in measured["comparisons"])
    peak = f"{measured['app']['peak_mib']:,.0f}"
    own_slow, _, alike_slow, _ = (row["speedup_at_equal_flops"]["median"] for row in slow["comparisons"])
    unet = f"{slow['variants'][0]['images_per_second']['median']:.1f}"
    text = prose()
    for words in (
        f"{own:.1f} times as fast as its own blocks in float32 and {own_half:.1f} times in bfloat16",
        f"{alike:.1f} and {alike_half:.1f} times where it is built like ours", f"its memory peaks at {peak} MiB",
        f"{unet} images a second with the U-Net", f"{own_slow:.1f} times diffusers' own blocks",
        f"{alike_slow:.1f} times where they are built like ours", f"after {slow['app']['start_seconds']:.1f} s",
    ):  # fmt: skip
        assert words in text


def test_readme_has_the_costs_of_looking_as_they_were_measured():
    ratios = [row["ratio"] for row in benchmark("probing")["cost"]["result"]]
    maps = {(row["projection"], row["dimensions"]): row for row in benchmark("trajectories")["rows"]}
    pca, umap = maps["pca", 2], maps["umap", 2]
    times = [
        row["seconds"]
        for row in benchmark("saliency")["time"]["result"]
        if row["method"] == "integrated-gradients" and row["steps"] == 32
    ]
    text = prose()
    for words in (
        f"takes {min(ratios):.2f} to {max(ratios):.2f} times the bare evaluations",
        f"in 32 steps takes {min(times):.1f} to {max(times):.1f} s",
        f"takes {pca['cold']['median']:.1f} s (PCA) or {umap['cold']['median']:.0f} s (UMAP) in a fresh process",
        f"{pca['warm']['median']:.1f} s or {umap['warm']['median']:.0f} s once more",
    ):
        assert words in text


def test_readme_has_the_load_as_it_was_measured():
    found = benchmark("app_load")
    before, after = (found[f"resident_mib_{when}"] for when in ("after_warm_up", "at_the_end"))
    assert (found["clients"], found["failed"], found["settings_with_several_pictures"]) == (8, 0, 0)
    text = prose()
    for words in (
        f"{found['answered']} answers, none failed, none wrong, {found['median_seconds']:.1f} s in the median",
        f"({found['median_seconds_by_kind']['compare, new settings']:.1f} s for new ones)",
        f"{found['percentile_95_seconds']:.1f} s at the 95th percentile", f"{before:,} MiB before and {after:,} MiB after",
    ):  # fmt: skip
        assert words in text


def test_readme_has_the_divergence_of_paths_as_it_was_measured():
    found = benchmark("trajectories")["geometry"]
    text = prose()
    for pair, verb in (("celeba32-unet-velocity", "paths part for good"), ("celeba32-unet-eps", "")):
        parting = found[pair]["spaces"]["xt"]["parting"]
        assert parting["images"] == found[pair]["request"]["count"] == 64 and parting["threshold"] == 0.1
        assert f"{parting['images_that_part']} of 64 {verb}".strip() in text
        assert f"at step {parting['step']['median']:g} of {found[pair]['steps']}" in text
    [detour] = {f"{one:.2f}" for one in found["celeba32-unet-velocity"]["spaces"]["xt"]["detour"].values()}
    assert f"both go nearly straight, {detour} times the chord" in text
    assert found["celeba32-unet-velocity"]["spaces"]["x0_hat"]["parting"]["step"]["median"] <= 1


def test_speeds_are_measured_on_shipped_models():
    spec = importlib.util.spec_from_file_location("sampling_speed", ROOT / "benchmarks" / "sampling.py")
    sampling = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = sampling  # dataclasses look their module up
    spec.loader.exec_module(sampling)
    names = [name for pair in sampling.PAIRS for name in zoo.members_of(pair)]
    assert {zoo.info(name).architecture for name in names} == {"unet", "dit"}
    for name in names:
        variant = sampling.ours(name, torch.device("cpu"))
        assert variant.name == name and variant.parameters == zoo.info(name).parameters
    sampling.runner(variant, torch.device("cpu"))(1, 1)


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
