"""The migration of stored results changes names and no number."""

import importlib.util
import json
from collections import Counter
from pathlib import Path

from explore import zoo
from explore.evaluation import DenoisingResult, DistancesResult, FidelityResult, LossesResult, NeighborsResult
from explore.interventions import FollowedRow, GivenVsTrueResult, InterventionResult, SlopeRow
from explore.probes import Atlas
from explore.saliency import ReadingResult
from explore.saliency.results import NormOrHighPassRow, RouteRow, WhereRow
from explore.statistics import Interval

PATH = Path(__file__).resolve().parent.parent / "benchmarks" / "migrate_results.py"
spec = importlib.util.spec_from_file_location("migrate_results", PATH)
migrate_results = importlib.util.module_from_spec(spec)
spec.loader.exec_module(migrate_results)
migrate = migrate_results.migrate

KINDS = {
    "denoising": DenoisingResult, "distances-cifar-resnet": DistancesResult, "fidelity": FidelityResult,
    "losses": LossesResult, "neighbors": NeighborsResult, "lie": GivenVsTrueResult, "steer": InterventionResult,
    "saliency": ReadingResult,
}  # fmt: skip
SETTINGS = {"data": "toy", "prediction": "v", "images": 3, "seed": 0, "prior": "", "sampler": "heun", "steps": 2}
OLD = {
    "denoising": {"rows": [{"t": 0.25, "mse": 0.1}]},
    "losses": {
        "seed": 0,
        "rows": [
            {"split": "test", "t": 0.5, "told loss": 1.0, "never told loss": 1.5, "loss difference": 0.5, "loss low": 0.25,
             "loss high": 0.75, "width": 0.1},
        ],
    },
    "fidelity": {
        "rows": [
            {"t": 0.5, "way": "one step", "told SSIM": 0.9, "never told SSIM": 0.8, "SSIM difference": -0.1, "SSIM low": -0.2,
             "SSIM high": -0.05, "told PSNR": 30.0, "never told PSNR": 29.0, "PSNR difference": -1.0, "PSNR low": -2.0,
             "PSNR high": -0.5},
        ],
    },
    "comparisons": {"--steps 2": {"difference": 0.5, "standard_deviation": [0.5, 0.25]}},
    "lie": {"levels": [-1.0, 0.0, 1.0], "layers": [{"name": "stem", "true": [0.9, 0.8, 1.0], "given": [0.0, None, None]}]},
    "steer": {
        "doses": [1.0, 2.0, 3.0],
        "slopes": [
            {"logsnr": 4.0, "predicted noise": {"slope": [0.1, 0.05, 0.15], "control": [0.1, 0.2, 0.3], "monotonic": True,
                                                "larger_than_every_control": False}},
        ],
    },
    "saliency": {
        "told": "not heard", "reads": "logsnr", "levels": [1.0, 2.0, 3.0],
        "bands": {"edges": [[0, 0.25], [0.25, 0.5], [0.5, 0.7]], "if_spread_evenly": [0.1, 0.2, 0.7], "high_pass_from": 1},
        "where": [
            {"logsnr": 0.0, "t": 0.5, "method": "saliency", "texture": {"flat": [0.3, 0.2, 0.4]}, "relative_gap": None,
             "texture_of_picture": {"flat": [0.5, 0.4, 0.6]}, "bands": [[0.1, 0.0, 0.2]], "power": [[0.4, 0.3, 0.5]],
             "high_pass": [0.7, 0.6, 0.8], "high_pass_power": [0.9, 0.8, 1.0]},
        ],
        "rescale_or_swap": [
            {"logsnr": 0.0, "t": 0.5, "other_logsnr": 2.0, "norm_factor": [1.5, 1.0, 2.0],
             "per_octave_of_norm": [3.0, 2.0, 4.0],
             "shift": {"whole": [1.0, 0.5, 1.5], "rescaled": [2.0, 1.5, 2.5], "high-pass swapped, norm kept": [0.0, -1.0, 1.0]},
             "share": {"rescaled": [2.0, 1.5, 2.5]}},
        ],
        "routes": {
            "told": "the true t",
            "rows": [
                {"logsnr": 0.0, "t": 0.5, "clock": [1.0, 0.0, 2.0], "picture": [2.0, 1.0, 3.0], "share": [0.5, 0.4, 0.6],
                 "blocks": {"head": [3.0, 2.0, 4.0]}, "relative_gap": 0.01},
            ],
        },
    },
}  # fmt: skip


def numbers(value):
    """How often each number is in ``value``."""
    if isinstance(value, (dict, list)):
        return sum((numbers(part) for part in (value.values() if isinstance(value, dict) else value)), Counter())
    return Counter() if isinstance(value, str) else Counter([value])


def test_migration_renames_the_keys_of_both_files_and_can_be_repeated(tmp_path):
    (tmp_path / "model").mkdir()
    metrics, seeds = tmp_path / "model" / "metrics.json", tmp_path / "model" / "seeds.json"
    metrics.write_text(json.dumps(OLD))
    seeds.write_text(json.dumps({"1": {"metrics": OLD}}))
    assert migrate(tmp_path) == [metrics, seeds]
    new = json.loads(metrics.read_text())
    assert json.loads(seeds.read_text()) == {"1": {"metrics": new}}
    assert new["denoising"] == OLD["denoising"] and new["comparisons"] == OLD["comparisons"] and new["losses"]["seed"] == 0
    assert numbers(new) == numbers(OLD)
    [loss] = LossesResult.from_json({**SETTINGS, "images": {}, **new["losses"]}).rows
    assert (loss.loss.conditioned, loss.loss.time_agnostic, loss.loss.difference) == (1.0, 1.5, Interval(0.5, 0.25, 0.75))
    [fidelity] = FidelityResult.from_json({**SETTINGS, **new["fidelity"]}).rows
    assert fidelity.ssim.difference == Interval(-0.1, -0.2, -0.05) and fidelity.psnr.time_agnostic == 29.0
    [followed] = (FollowedRow.from_json(row) for row in new["lie"]["layers"])
    assert followed == FollowedRow("stem", Interval(0.9, 0.8, 1.0), Interval(0.0, None, None))
    [slopes] = (SlopeRow.from_json(row) for row in new["steer"]["slopes"])
    assert slopes.logsnr == 4.0 and slopes.quantities["predicted_noise"].slope == Interval(0.1, 0.05, 0.15)
    found = new["saliency"]
    assert found["given"] == "no t input" and found["probe_target"] == "logsnr" and found["bands"] == OLD["saliency"]["bands"]
    assert WhereRow.from_json(found["where"][0]).texture_of_image["flat"] == Interval(0.5, 0.4, 0.6)
    moved = NormOrHighPassRow.from_json(found["norm_or_high_pass"][0])
    assert list(moved.shift) == ["whole", "norm_patched", "high_pass_patched_norm_kept"] and moved.norm_factor.over == "images"
    assert RouteRow.from_json(found["routes"]["rows"][0]).blocks["head"] == Interval(3.0, 2.0, 4.0)
    assert migrate(tmp_path) == []


def test_migration_of_an_atlas_keeps_one_line(tmp_path):
    (tmp_path / "model").mkdir()
    path = tmp_path / "model" / "atlas.json"
    row = {"name": "stem", "error_by_region": {"near the data": 0.5}, "gain_by_region": {"near the data": [2.0, 1.0, 3.0]}}
    old = {"given": "not heard", "yardstick": "known image", "yardsticks": {"known image": [1.0, 2.0, 3.0]}, "layers": [row]}
    path.write_text(json.dumps(old))
    assert migrate(tmp_path) == [path] and path.read_text().count("\n") == 1
    new = json.loads(path.read_text())
    assert new["given"] == "no t input" and new["yardsticks"] == {new["yardstick"]: [1.0, 2.0, 3.0]}
    [layer] = new["layers"]
    assert layer["error_by_region"] == {"near_the_data": 0.5}
    assert Interval.from_json(layer["gain_by_region"]["near_the_data"]) == Interval(2.0, 1.0, 3.0)
    assert migrate(tmp_path) == []


def test_shipped_results_are_migrated():
    paths = [path for name in ("metrics", "seeds", "atlas") for path in zoo.SHIPPED.glob(f"*/{name}.json")]
    assert len(paths) > 30
    for path in paths:
        stored = json.loads(path.read_text())
        assert migrate_results.migrated(stored) == stored, path


def known(value):
    """``value`` without what is None in dicts: such fields need not be stored."""
    if isinstance(value, dict):
        return {name: known(part) for name, part in value.items() if part is not None}
    return [known(part) for part in value] if isinstance(value, list) else value


def test_shipped_results_are_read_and_written_alike():
    read = 0
    for name in zoo.index():
        stored = json.loads((zoo.SHIPPED / name / "metrics.json").read_text())
        for part, kind in KINDS.items():
            if part in stored:
                again = json.loads(json.dumps(kind.from_json({"model": name, **stored[part]}).to_json()))
                if part == "steer" and "control_images" not in stored[part]:
                    again.pop("slopes")  # converted: see tests/test_interventions.py
                    stored[part].pop("slopes")
                assert known({key: stored[part][key] for key in again if key in stored[part]}) == known(
                    {key: value for key, value in again.items() if key in stored[part]}
                ), (name, part)
                made = {"command", "request", "members", "sha256", "dtype", "hardware", "torch"}
                assert set(stored[part]) - set(again) <= made, (name, part)
                read += 1
    assert read > 60


def test_shipped_atlases_are_read_and_written_alike():
    for name in zoo.index():
        stored = json.loads((zoo.SHIPPED / name / "atlas.json").read_text())
        again = json.loads(json.dumps(Atlas.from_json(stored).to_json()))
        assert {key: value for key, value in stored.items() if key in again} == again
        assert set(stored) - set(again) == {"command"} or set(stored) - set(again) == {"command", "request"}
