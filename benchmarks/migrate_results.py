"""Brings stored results into today's form: `python benchmarks/migrate_results.py [FOLDER]`.

- Keys that were phrases become names: ``RENAMED``. In a row of routes ``clock`` and ``picture`` become ``given_t`` and
  ``image``.
- An interval was [value, low, high]; now it has these names and says what it is over, which is images in all stored results.
- A row of losses had ``told loss``, ``never told loss``, ``loss difference``, ``loss low`` and ``loss high``; a row of fidelity
  had the same with ``SSIM`` and ``PSNR``. Now ``conditioned``, ``time_agnostic`` and ``difference`` are under ``loss``,
  ``ssim`` and ``psnr``.
- Slopes of a steered layer are under ``quantities``.

Numbers do not change. Files in today's form are not written.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from explore import files, zoo

RENAMED = {
    "told": "given", "reads": "probe_target", "rescale_or_swap": "norm_or_high_pass", "texture_of_picture": "texture_of_image",
    "rescaled": "norm_patched", "high-pass swapped": "high_pass_patched", "low-pass swapped": "low_pass_patched",
    "high-pass swapped, norm kept": "high_pass_patched_norm_kept", "predicted noise": "predicted_noise",
    "near the data": "near_the_data", "near noise": "near_noise", "known image": "given_x0",
}  # fmt: skip
VALUES = {"not heard": "no t input", "known image": "given_x0"}
# Keys of an interval, or of several in a list or by name.
INTERVALS = {
    "difference", "true", "given", "slope", "contrast", "texture", "texture_of_image", "bands", "power", "high_pass",
    "high_pass_power", "norm_factor", "shift", "share", "per_octave_of_norm", "given_t", "image", "blocks",
    "error_over_yardstick_by_region", "gain_by_region",
}  # fmt: skip


def _interval(value: Any) -> Any:
    """The intervals in ``value`` in today's form."""
    if isinstance(value, list) and len(value) == 3 and not any(isinstance(part, (list, dict, str)) for part in value):
        return {**dict(zip(("value", "low", "high"), value)), "over": "images"}
    if isinstance(value, list):
        return [_interval(part) for part in value]
    if isinstance(value, dict) and "edges" not in value:  # those are the settings of the bands
        return {name: _interval(part) for name, part in value.items()}
    return value


def _compared(row: dict[str, Any], part: str) -> dict[str, Any]:
    difference = [row[f"{part} {end}"] for end in ("difference", "low", "high")]
    return {"conditioned": row[f"told {part}"], "time_agnostic": row[f"never told {part}"], "difference": difference}


def _restructured(row: dict[str, Any]) -> dict[str, Any]:
    """A dict whose keys are renamed as ``RENAMED`` says; all other keys stay."""
    if "told loss" in row:
        return {"split": row["split"], "t": row["t"], "loss": _compared(row, "loss"), "width": row["width"]}
    if "told SSIM" in row:
        return {"t": row["t"], "way": row["way"], "ssim": _compared(row, "SSIM"), "psnr": _compared(row, "PSNR")}
    if {"split", "conditioned"} <= set(row):
        loss = {name: row[name] for name in ("conditioned", "time_agnostic", "difference")}
        return {"split": row["split"], "t": row["t"], "loss": loss, "width": row["width"]}
    if {"clock", "picture", "share"} <= set(row):
        return {{"clock": "given_t", "picture": "image"}.get(name, name): value for name, value in row.items()}
    if any(isinstance(value, dict) and "larger_than_every_control" in value for value in row.values()) and "logsnr" in row:
        return {"logsnr": row["logsnr"], "quantities": {name: value for name, value in row.items() if name != "logsnr"}}
    return row


def migrated(value: Any) -> Any:
    """``value`` in today's form."""
    if isinstance(value, list):
        return [migrated(one) for one in value]
    if not isinstance(value, dict):
        return VALUES.get(value, value) if isinstance(value, str) else value
    # Slopes, requests and atlases of today have a field `told` of their own.
    today = value.keys() & {"of_told", "experiment"} or {"told", "given"} <= value.keys()
    renamed = {} if today else RENAMED
    named = {renamed.get(name, name): migrated(one) for name, one in _restructured(value).items()}
    return {name: _interval(one) if name in INTERVALS else one for name, one in named.items()}


def migrate(root: Path) -> list[Path]:
    """Migrates every metrics.json, seeds.json and atlas.json below ``root`` and returns those that were written."""
    written = []
    for path in sorted(one for name in ("metrics", "seeds", "atlas") for one in root.glob(f"*/{name}.json")):
        old = files.read_json(path)
        new = migrated(old)
        if new != old:
            files.write_json(path, new, None if path.name == "atlas.json" else 2)
            written.append(path)
    return written


if __name__ == "__main__":
    for path in migrate(Path(sys.argv[1]) if len(sys.argv) > 1 else zoo.SHIPPED):
        print(path)
