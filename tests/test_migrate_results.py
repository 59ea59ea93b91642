"""The migration of stored results changes names and no number."""

import importlib.util
import json
from pathlib import Path

from explore import zoo
from explore.evaluation import FidelityRow, LossRow, MembersResult

PATH = Path(__file__).resolve().parent.parent / "benchmarks" / "migrate_results.py"
spec = importlib.util.spec_from_file_location("migrate_results", PATH)
migrate_results = importlib.util.module_from_spec(spec)
spec.loader.exec_module(migrate_results)
migrate = migrate_results.migrate

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
}  # fmt: skip


def test_migration_renames_the_keys_of_both_files_and_can_be_repeated(tmp_path):
    (tmp_path / "model").mkdir()
    metrics, seeds = tmp_path / "model" / "metrics.json", tmp_path / "model" / "seeds.json"
    metrics.write_text(json.dumps(OLD))
    seeds.write_text(json.dumps({"1": {"metrics": OLD}}))
    assert migrate(tmp_path) == [metrics, seeds]
    new = json.loads(metrics.read_text())
    assert json.loads(seeds.read_text()) == {"1": {"metrics": new}}
    assert new["denoising"] == OLD["denoising"] and new["losses"]["seed"] == 0
    [loss] = MembersResult.from_json(new["losses"], LossRow).rows
    assert (loss.loss.conditioned, loss.loss.time_agnostic, loss.loss.difference.to_json()) == (1.0, 1.5, [0.5, 0.25, 0.75])
    [fidelity] = MembersResult.from_json(new["fidelity"], FidelityRow).rows
    assert fidelity.ssim.difference.to_json() == [-0.1, -0.2, -0.05] and fidelity.psnr.time_agnostic == 29.0
    assert migrate(tmp_path) == []


def test_shipped_results_are_migrated():
    for path in [*zoo.SHIPPED.glob("*/metrics.json"), *zoo.SHIPPED.glob("*/seeds.json")]:
        assert "told loss" not in path.read_text() and "told SSIM" not in path.read_text()
