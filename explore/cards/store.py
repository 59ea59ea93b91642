"""Measurements beside the weights: metrics.json, seeds.json, atlas.json, yardsticks.json.

A measurement counts only for the weights, by sha256, that it was made with. Depends on encoder, evaluation, files, values, zoo.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from explore import encoder, files, zoo
from explore.evaluation import FEATURES
from explore.values import choose
from explore.zoo import Zoo


def _read(path: Path) -> dict[str, Any]:
    return files.read_json(path) if path.exists() else {}


def _metrics(where: Zoo, name: str) -> dict[str, Any]:
    sha256 = where.index()[name]["sha256"]
    stored = _read(where.folder(name) / "metrics.json")
    return {part: result for part, result in stored.items() if result["sha256"] == sha256}


def metrics(name: str) -> dict[str, Any]:
    """What was measured of a model with its present weights; empty if nothing was."""
    return _metrics(zoo.default(), name)


def atlas(name: str) -> dict[str, Any]:
    """A model's atlas (see ``explore.probes``), if it was made with its present weights; else empty."""
    stored = _read(zoo.folder(name) / "atlas.json")
    return stored if stored.get("sha256") == zoo.index()[name]["sha256"] else {}


def distances(stored: dict[str, Any]) -> dict[str, Any]:
    """Of a model's metrics: the distances in the first of ``FEATURES`` that were measured; empty if none were."""
    return next((stored[f"distances-{name}"] for name in FEATURES if f"distances-{name}" in stored), {})


def store(name: str, part: str, result: dict[str, Any]) -> None:
    """Keeps a measurement in the model's metrics.json, with the hash of the weights it was made with."""
    stored = metrics(name)
    stored[part] = {"sha256": zoo.index()[name]["sha256"], **result}
    files.write_json(zoo.folder(name) / "metrics.json", stored)


def store_yardsticks(result: dict[str, Any]) -> None:
    """Keeps the yardsticks of a data set beside the encoder they were measured with."""
    stored = yardsticks()
    stored[f"{result['data']}-{result['features']}"] = {"sha256": encoder.sha256(), **result}
    files.write_json(zoo.folder(encoder.NAME) / "yardsticks.json", stored)


def yardsticks() -> dict[str, Any]:
    """The stored yardsticks that were measured with the present encoder."""
    stored = _read(zoo.folder(encoder.NAME) / "yardsticks.json")
    return {name: result for name, result in stored.items() if result["sha256"] == encoder.sha256()}


def _recipe(training: dict[str, Any]) -> dict[str, Any]:
    """What two training runs share that differ by chance only."""
    return {key: value for key, value in training.items() if key not in ("seed", "members", "sampler")}


def adopt(folder: Path) -> list[str]:
    """Takes over what was measured of models that differ from the shipped ones in the training seed; not their weights.

    Args:
        folder: A checkpoint folder, made by ``python -m explore --zoo FOLDER release RUN``, with measurements.

    Returns:
        Names of the models for which there is something new.

    Raises:
        ValueError: If a model is not shipped, was trained by another recipe or the same seed, or nothing was measured.
    """
    other, entries = Zoo(folder), {}
    for name, entry in other.index().items():  # all are checked before anything is written
        choose("model", name, zoo.index())
        new, shipped = (files.read_json(one.folder(name) / "config.json") for one in (other, zoo.default()))
        measured, seed = _metrics(other, name), new["training"]["seed"]
        for key in ("images_seen", "train_images"):
            if new[key] != shipped[key]:
                raise ValueError(f"{name} in {folder} has {key} {new[key]}, the shipped one {shipped[key]}")
        if _recipe(new["training"]) != _recipe(shipped["training"]):
            raise ValueError(f"{name} in {folder} was trained by another recipe than the shipped one")
        if seed == shipped["training"]["seed"]:
            raise ValueError(f"{name} in {folder} has the training seed of the shipped one, {seed}")
        if not measured:
            raise ValueError(f"{name} in {folder} has no measurements: run `denoising`, `evaluate` ... --store there first")
        kept = {
            key: new[key]
            for key in ("images_seen", "train_images", "seconds", "hardware", "segments", "training")
            if key in new
        }
        entries[name] = {str(seed): {"sha256": entry["sha256"], **kept, "metrics": measured}}
    for name, added in entries.items():
        path = zoo.folder(name) / "seeds.json"
        files.write_json(path, dict(sorted((_read(path) | added).items())))
    return list(entries)


def other_seeds(name: str) -> dict[int, dict[str, Any]]:
    """Training seed -> metrics, of the models in seeds.json."""
    return {int(seed): entry["metrics"] for seed, entry in _read(zoo.folder(name) / "seeds.json").items()}


def by_seed(name: str) -> dict[int, dict[str, Any]]:
    """Training seed -> metrics, of the shipped model first, then of models with the same recipe and other seeds."""
    config = files.read_json(zoo.folder(name) / "config.json")
    shipped = config["training"]["seed"]
    return {shipped: metrics(name)} | {
        int(seed): entry["metrics"]
        for seed, entry in _read(zoo.folder(name) / "seeds.json").items()
        if int(seed) != shipped
        and _recipe(entry["training"]) == _recipe(config["training"])
        and entry["images_seen"] == config["images_seen"]
    }
