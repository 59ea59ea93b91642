"""The order of the house: a module of explore imports only modules named before it, and nothing beside the declared."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ORDER = (
    "values", "progress", "files", "results", "schedules", "models.layers", "models.unet", "models.dit", "models", "denoiser",
    "seeds", "hardware", "images", "statistics", "frequency", "zoo", "adapters", "data", "bayes.levels", "bayes.priors",
    "bayes.gaussians", "bayes.posteriors", "bayes.estimates", "bayes.gains", "bayes", "samplers", "activations",
    "probes.targets", "probes.told", "probes.linear", "probes.baselines", "probes.controls", "probes.errors",
    "probes.measurement", "probes.probe_set", "probes.selection", "probes.noise_atlas", "probes.noise_ruler", "probes",
    "interventions.edits", "interventions.directions", "interventions.bench", "interventions.told", "interventions.effects",
    "interventions.samples", "interventions.given", "interventions",
    "saliency.targets", "saliency.methods", "saliency.maps", "saliency.checks", "saliency.attribution",
    "saliency.routes", "saliency.results", "saliency.readers", "saliency.readout",
    "saliency", "trajectories.measures", "trajectories.comparison", "trajectories.maps", "trajectories.recorder",
    "trajectories.projection", "trajectories", "encoder", "evaluation.features", "evaluation.samples",
    "evaluation.calibration", "evaluation.wiener", "evaluation.learning", "evaluation.members", "evaluation.staged",
    "evaluation.memorization",
    "evaluation", "cards.store", "cards.differences", "cards.tables", "cards.write", "cards", "figures.style",
    "figures.lines", "figures.learning", "figures.sampling", "figures.theory", "figures.probing", "figures.interventions",
    "figures.saliency", "figures.trajectories", "figures.export", "figures", "experiments.request", "experiments.model",
    "experiments.members", "experiments.sample", "experiments.compare", "experiments.denoising", "experiments.evaluate",
    "experiments.fidelity", "experiments.losses", "experiments.learning_curve", "experiments.neighbors",
    "experiments.two_stage", "experiments.yardsticks",
    "experiments.probe", "experiments.clock", "experiments.ruler", "experiments.steering",
    "experiments.intervene", "experiments.paths", "experiments.saliency", "experiments.readout", "experiments.exact",
    "experiments.plane", "experiments.gain", "experiments.posterior", "experiments", "bank", "rebuild", "training",
    "course.display",
    "course.panel", "course.diffusion", "course.sampling", "course.theory", "course.clock", "course.saliency",
    "course.trajectories", "course.execution", "course", "__main__",
)  # fmt: skip

# The app: what tabs share, then the tabs, of which none imports another, then what lists them. A tab that is a package has an
# order of its own.
SHARED = ("style", "works", "pairs", "snippets", "ui", "sampling", "runs", "endpoints")
TABS: dict[str, tuple[str, ...]] = {
    "compare": (),
    "clock": ("shared", "atlas", "run", "steer", "ruler", "endpoints"),
    "saliency": ("asking", "views", "page"),
    "trajectories": ("scripts", "views", "page"),
    "theory": ("shared", "posterior", "exact", "plane"),
    "models": (),
    "quiz": (),
    "start": (),
}
APP_ORDER = (*SHARED, *(name for tab, parts in TABS.items() for name in (*(f"{tab}.{part}" for part in parts), tab)),
             "__main__", "screenshots")  # fmt: skip


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts[1:]
    return ".".join(part for part in parts if part != "__init__")


def imported(path: Path, package: str = "explore") -> set[str]:
    """Modules of a package that a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == package:
            # `from explore import zoo` names modules, `from explore.zoo import load` names one.
            inside = node.module.partition(".")[2]
            parts = {f"{inside}.{alias.name}".strip(".") for alias in node.names}
            names |= {part if package == "app" and part in APP_ORDER else inside or part for part in parts}
        elif isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[2] for alias in node.names if alias.name.split(".")[0] == package}
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


APP_MODULES = [path for path in sorted((ROOT / "app").rglob("*.py")) if path != ROOT / "app" / "__init__.py"]


def test_every_module_of_the_app_has_a_place_and_the_library_does_not_know_it():
    assert {module_name(path) for path in APP_MODULES} == set(APP_ORDER)
    assert not [path for path in MODULES if imported(path, "app")]


@pytest.mark.parametrize("path", APP_MODULES, ids=module_name)
def test_no_tab_imports_another(path):
    own = module_name(path)
    for name in imported(path, "app"):
        assert name in APP_ORDER, f"{own} imports {name}, which is not a module of the app"
        if (own, name) == ("start", "__main__"):  # inside a function: the list of tabs has that one in it
            continue
        assert APP_ORDER.index(name) < APP_ORDER.index(own), f"{own} imports {name}, which stands below it"
        tab, other = own.split(".")[0], name.split(".")[0]
        assert other in SHARED or tab == other or tab in ("__main__", "screenshots"), f"{own} imports the tab {name}"


def test_figures_know_no_model():
    files = sorted((ROOT / "explore" / "figures").glob("*.py"))
    assert files and all(name.startswith("figures.") for path in files for name in imported(path))


def test_no_module_of_leftovers():
    assert not [path for path in ROOT.rglob("utils.py") if ".venv" not in path.parts]


def test_the_trainer_needs_no_more_than_it_says():
    """It also runs on machines that have torch, accelerate, safetensors, numpy, Pillow, tqdm and typer, and no more."""
    absent = ("scipy", "skimage", "sklearn", "torch_fidelity", "torchvision", "gradio", "plotly", "captum", "umap", "diffusers")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent!r})); import explore.__main__, explore.training, explore.encoder"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_every_file_can_be_read_in_one_sitting():
    files = [path for folder in ("explore", "app") for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 50
    assert not {path.name: lines for path in files if (lines := len(path.read_text().splitlines())) > 600}


def test_the_public_face_is_small_and_cheap():
    import explore

    assert 20 <= len(explore.__all__) <= 30 and all(getattr(explore, name) is not None for name in explore.__all__)
    done = subprocess.run(
        [sys.executable, "-c", "import sys, explore; print(len(dir(explore)), 'torch' in sys.modules)"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.stdout.split()[1] == "False", done.stderr
