"""Renames keys of stored losses and structural fidelity: `python benchmarks/migrate_results.py [FOLDER]`.

A row of losses had ``told loss``, ``never told loss``, ``loss difference``, ``loss low`` and ``loss high``; a row of fidelity
had the same with ``SSIM`` and ``PSNR``. Now they have ``conditioned``, ``time_agnostic`` and ``difference`` ([value, low,
high]), in fidelity under ``ssim`` and ``psnr``. Numbers do not change. Files in the new form are not written.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from explore import files, zoo


def _compared(row: dict[str, Any], part: str) -> dict[str, Any]:
    difference = [row[f"{part} {end}"] for end in ("difference", "low", "high")]
    return {"conditioned": row[f"told {part}"], "time_agnostic": row[f"never told {part}"], "difference": difference}


def migrated(value: Any) -> Any:
    """``value`` with every row in it in the new form."""
    if isinstance(value, list):
        return [migrated(one) for one in value]
    if not isinstance(value, dict):
        return value
    if "told loss" in value:
        return {"split": value["split"], "t": value["t"], **_compared(value, "loss"), "width": value["width"]}
    if "told SSIM" in value:
        return {"t": value["t"], "way": value["way"], "ssim": _compared(value, "SSIM"), "psnr": _compared(value, "PSNR")}
    return {name: migrated(one) for name, one in value.items()}


def migrate(root: Path) -> list[Path]:
    """Migrates every metrics.json and seeds.json below ``root`` and returns those that were written."""
    written = []
    for path in sorted([*root.glob("*/metrics.json"), *root.glob("*/seeds.json")]):
        old = files.read_json(path)
        new = migrated(old)
        if new != old:
            files.write_json(path, new)
            written.append(path)
    return written


if __name__ == "__main__":
    for path in migrate(Path(sys.argv[1]) if len(sys.argv) > 1 else zoo.ROOT):
        print(path)
