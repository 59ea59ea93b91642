"""Model cards: README.md and samples.png of every model, from templates.

Depends on data, encoder, hardware, images, samplers, tables.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from explore import encoder, files, zoo
from explore.cards.store import by_seed, store, yardsticks
from explore.cards.tables import environment, summary
from explore.data import to_uint8
from explore.hardware import computed_with
from explore.images import grid, png
from explore.samplers import Sampling
from explore.seeds import seed_range

CARD_IMAGES = 64


def _write(path: Path, template: str, **values: Any) -> None:
    """Renders a template; several blank lines become one."""
    text = environment().get_template(template).render(values)
    files.write_atomically(path, re.sub(r"\n{3,}", "\n\n", text).strip() + "\n")


def write_card(name: str, sampled: bool = True) -> None:
    """Writes samples.png and README.md, the model card, from the index, config.json, metrics.json and seeds.json.

    Without ``sampled`` an existing grid of samples stays.
    """
    info, folder = zoo.info(name), zoo.folder(name)
    sampling = Sampling.for_model(info)
    if sampled or not (folder / "samples.png").is_file():
        samples = sampling.run(zoo.load(name, "float32"), seed_range(0, CARD_IMAGES))
        files.write_atomically(folder / "samples.png", png(grid(to_uint8(samples), scale=2, columns=16)))
        command = f"python -m explore sample {name} --seed 0 --count {CARD_IMAGES} {sampling.flags}"
        store(name, "samples", {"command": command, **computed_with("float32")})
    measured = summary(info)
    stored, config = measured["stored"], files.read_json(folder / "config.json")
    together = config["training"]["members"]
    losses = stored.get("losses", {}).get("rows", [])
    _write(
        folder / "README.md", "model.md.j2", **measured, config=config,
        apart=[one for one in zoo.pairs()[info.pair] if zoo.info(one).time_conditioning not in together],
        seeds=list(by_seed(name)), images=CARD_IMAGES, flags=sampling.flags,
        losses=[[row for row in losses if row["split"] == split] for split in ("train", "test")],
        worse=[row["t"] for row in stored.get("denoising", {}).get("rows", []) if row["mse"] >= row["wiener"]],
    )  # fmt: skip


def write_encoder_card() -> None:
    """Writes the encoder's README.md from its config.json and the stored yardsticks."""
    folder = zoo.folder(encoder.NAME)
    config = files.read_json(folder / "config.json")
    _write(folder / "README.md", "encoder.md.j2", name=encoder.NAME, config=config, yardsticks=yardsticks().values())
