"""The order of the house: a module of explore imports only modules named before it, and nothing beside the declared."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ORDER = (
    "values", "progress", "files", "schedules", "models.layers", "models.unet", "models.dit", "models", "denoiser", "seeds",
    "hardware", "images", "statistics", "frequency", "zoo", "adapters", "data", "bayes.levels", "bayes.priors",
    "bayes.gaussians", "bayes.posteriors", "bayes.estimates", "bayes", "samplers", "activations",
    "probes.targets", "probes.linear", "probes.baselines", "probes.controls", "probes.errors", "probes.measurement",
    "probes.probe_set", "probes.noise_atlas", "probes.noise_ruler", "probes", "interventions", "saliency.targets",
    "saliency.methods", "saliency.maps", "saliency.checks", "saliency.attribution", "saliency.routes", "saliency.readout",
    "saliency", "trajectories.measures", "trajectories.comparison", "trajectories.maps", "trajectories.recorder",
    "trajectories.projection", "trajectories", "encoder", "evaluation.features", "evaluation.samples",
    "evaluation.calibration", "evaluation.wiener", "evaluation.members", "evaluation.memorization", "evaluation",
    "cards.store", "cards.differences", "cards.tables", "cards.write", "cards", "figures.style", "figures.lines",
    "figures.sampling", "figures.theory", "figures.probing", "figures.interventions", "figures.saliency",
    "figures.trajectories", "figures.export", "figures", "experiments.request", "experiments.model", "experiments.members",
    "experiments.sample", "experiments.compare", "experiments.denoising", "experiments.evaluate", "experiments.fidelity",
    "experiments.losses", "experiments.neighbors", "experiments.yardsticks", "experiments.probe", "experiments.clock",
    "experiments.intervene", "experiments.paths", "experiments.saliency", "experiments.readout",
    "experiments.posterior", "experiments", "bank", "rebuild", "training", "views", "__main__",
)  # fmt: skip


# The app: what tabs share, in this order; the tabs, of which none imports another; and what lists or records them.
SHARED = ("style", "works", "ui", "pairs", "snippets", "runs", "sampling", "endpoints")
APP_TABS = ("compare", "clock", "saliency", "trajectories", "theory", "models", "quiz")
LAST = ("start", "__main__", "screenshots")


def module_name(path: Path, package: str = "explore") -> str:
    parts = path.relative_to(ROOT / package).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imported(path: Path, packages: tuple[str, ...] = ("explore", "app")) -> set[str]:
    """Modules of these packages that a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in packages:
            # `from explore import zoo` names modules, `from explore.zoo import load` names one.
            inside = node.module.partition(".")[2]
            names |= {inside} if inside else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[2] for alias in node.names if alias.name.split(".")[0] in packages}
    return names


MODULES = [path for path in sorted((ROOT / "explore").rglob("*.py")) if path != ROOT / "explore" / "__init__.py"]


def test_every_module_has_a_place():
    assert {module_name(path) for path in MODULES} <= set(ORDER)
    assert len(MODULES) > 10


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_point_upward(path):
    own = ORDER.index(module_name(path))
    for name in imported(path):
        assert name in ORDER, f"{path.name} imports {name}, which is not a module of explore"
        assert ORDER.index(name) < own, f"{path.name} imports {name}, which stands below it"


APP_FILES = [path for path in sorted((ROOT / "app").rglob("*.py")) if path != ROOT / "app" / "__init__.py"]


@pytest.mark.parametrize("path", APP_FILES, ids=lambda path: module_name(path, "app"))
def test_app_imports_shared_modules_and_no_other_tab(path):
    order = (*SHARED, *APP_TABS, *LAST)
    own = module_name(path, "app").split(".")[0]
    assert own in order
    for name in {name.split(".")[0] for name in imported(path, ("app",))} - {own}:
        assert name in order, f"{path.name} imports {name}, which is not a module of app"
        assert order.index(name) < order.index(own), f"{path.name} imports {name}, which stands below it"
        assert not (own in APP_TABS and name in APP_TABS), f"the tab {own} imports the tab {name}"


@pytest.mark.parametrize("tab", [path for path in (ROOT / "app").iterdir() if (path / "__init__.py").is_file()])
def test_app_packages_have_no_circle(tab):
    """The files of a tab import each other in one direction; its ``__init__`` is imported by none of them."""
    files = {path.stem: imported(path, ("app",)) for path in tab.glob("*.py") if path.stem != "__init__"}
    inner = {name: {one.split(".")[1] for one in found if one.startswith(f"{tab.name}.")} for name, found in files.items()}
    assert not any(tab.name in found for found in files.values())
    while inner:
        free = [name for name, found in inner.items() if not found & set(inner)]
        assert free, f"a circle in {tab.name}: {', '.join(inner)}"
        for name in free:
            del inner[name]


def test_figures_know_no_model():
    files = sorted((ROOT / "explore" / "figures").glob("*.py"))
    assert files and all(name.startswith("figures.") for path in files for name in imported(path))


def test_no_module_of_leftovers():
    assert not [path for path in ROOT.rglob("utils.py") if ".venv" not in path.parts]


def test_the_trainer_needs_no_more_than_it_says():
    """It also runs on machines that have torch, accelerate, safetensors, numpy, Pillow, tqdm and typer, and no more."""
    absent = (
        "scipy", "skimage", "sklearn", "torch_fidelity", "torchvision", "gradio", "plotly", "captum", "umap", "diffusers",
        "jinja2",
    )  # fmt: skip
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent!r})); import explore.__main__, explore.training, explore.encoder"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
