"""Probe: where a network encodes the noise level. Depends on bayes, hardware, model, probes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import mean
from typing import Any, ClassVar

import torch

from explore import bayes, probes, zoo
from explore.activations import VIEWS
from explore.experiments.model import (
    OfModel,
    held_out,
    images_option,
    seed_option,
    split_option,
)  # fmt: skip
from explore.experiments.request import PRECISIONS_HELP, Load
from explore.files import to_json, write_atomically
from explore.hardware import PRECISIONS, Team, hardware_name
from explore.probes import NETWORKS
from explore.probes.told import HELP, check_regime
from explore.progress import Watch, quiet
from explore.results import table
from explore.values import choice, option, several, text, whole


@dataclass(frozen=True)
class Probed:
    """An atlas and the probes that it was measured with.

    Attributes:
        atlas: As :func:`explore.probes.atlas` returns it, with the images in words.
        probes: The fitted probes.
        images: Number of images.
    """

    atlas: probes.Atlas
    probes: probes.ProbeSet
    images: int


@dataclass(frozen=True, kw_only=True)
class Probe(OfModel):
    """Where a network encodes the noise level, and how well: an atlas of linear probes for every block.

    A conditioned model can be told a t that says nothing of the true one (random for each image and level, or fixed), one
    that is nearly right, or the true one: what its blocks know of the image depends on it. A time-agnostic model is probed
    once.

    Runs under `accelerate launch` too, each process on its share of the images.
    """

    verb: ClassVar[str] = "probe"
    reading: ClassVar[str] = "result.atlas.layers, result.probes  # figures by layer and view, and the fitted probes"
    written: ClassVar[tuple[str, ...]] = ("atlas.json", "probes.safetensors")
    stores: ClassVar[bool] = True

    data: str = text("cifar10, celeba, a folder or zip of images, or gaussian:NAME.", source=True)
    images: int = images_option(2000)
    split: str = split_option()
    target: str = choice("target", lambda: probes.TARGETS, "What the probes predict.", "logsnr")
    layer: tuple[str, ...] | None = several(text("Hook point; `layers` lists them.", None))
    view: tuple[str, ...] | None = several(choice("view", lambda: VIEWS, "Features of an activation.", None))
    told: tuple[str, ...] = several(option(str, HELP, check_regime, ("random",)))
    controls: int = whole(
        1, 100, "Random networks that the trained one is compared with, each at its own best block.", NETWORKS
    )
    prior: str | None = text("Fitted Gaussian used as a reference; by default the data set's own.", None)
    batch_size: int = whole(1, 10_000, "Images in one pass of the network.", 64)
    seed: int = seed_option()
    precision: str = choice("precision", lambda: PRECISIONS, PRECISIONS_HELP, "auto")

    def run(self, watch: Watch = quiet, load: Load = zoo.load) -> Probed | None:
        """The atlas and the probes; None in all processes of ``accelerate launch`` but the first."""
        denoiser = self.model_from(load, self.precision)
        pictures, words = held_out(denoiser, self.data, self.split, self.images, self.seed)
        team = Team.now()
        record, fitted = probes.atlas(
            denoiser, pictures, layers=self.layer, views=self.view or probes.ATLAS_VIEWS, target=self.target,
            gaussian=self._reference(denoiser), told=self.told, controls=self.controls, seed=self.seed,
            batch=self.batch_size, share=(team.index, team.size), reduce=team.sum,
            progress=team.index == 0 and watch is not quiet,
        )  # fmt: skip
        if team.index:
            return None
        dtype, where = str(denoiser.dtype).removeprefix("torch."), hardware_name(denoiser.device, team.size)
        record = replace(record, data=words, dtype=dtype, hardware=where, torch=torch.__version__)
        return Probed(record, fitted, len(pictures))

    def _reference(self, denoiser: Any) -> bayes.DiagonalGaussian | None:
        info = zoo.shipped(denoiser)
        name = self.prior
        if name is None and self.data.startswith("gaussian:"):
            name = self.data.removeprefix("gaussian:")
        name = name or (info.dataset if info else None)
        path = zoo.companion(bayes.GAUSSIANS) / f"{name}-{denoiser.shape[-1]}.safetensors"
        return bayes.fitted_gaussian(name, denoiser.shape) if name and (self.prior or path.is_file()) else None

    def record(self, result: Probed) -> dict[str, Any]:
        """The atlas, with how it was made; folders by their names, as atlases are shipped."""
        return {**self.published.provenance, **result.atlas.to_json()}

    def files(self, result: Probed) -> dict[str, Any]:
        """The probes and the atlas."""
        return {"probes.safetensors": result.probes.to_bytes(), "atlas.json": to_json(self.record(result)) + "\n"}

    def kept(self, result: Probed) -> dict[str, Any]:
        """The atlas."""
        return self.record(result)

    def store(self, result: Probed) -> None:
        """Keeps the probes and the atlas with the model."""
        for name, content in self.files(result).items():
            write_atomically(zoo.folder(str(self.model)) / name, content)

    def summary(self, result: Probed) -> str:
        """The layers, best first, and what was found of the best ones; for each regime of the t that the model was told."""
        parts: list[probes.Atlas | probes.Regime] = [result.atlas, *(result.atlas.others or ())]
        return "\n\n".join([*(self._summary(part, result.atlas.levels) for part in parts), f"{result.images} images"])

    def _summary(self, part: probes.Atlas | probes.Regime, levels: list[float]) -> str:
        best = sorted((row for row in part.layers if row.name != "input"), key=lambda row: -row.r2)
        columns = ("name", "view", "r2", "r2_random_network", "selectivity", "accuracy")
        regions = [name for name in probes.REGIONS if name in best[0].error_by_region]
        rows = [{c: getattr(row, c) for c in columns} | {r: row.error_by_region[r] for r in regions} for row in best]
        lines = [f"told t: {part.given}", table(rows), f"best block: {part.best['name']} ({part.best['view']})"]
        if (found := part.best_block) is not None:
            lines += [
                f"error / yardstick, {found.region}: {found.refitted!s}",
                f"block chosen on one half of the images, scored on the other: {found.error_over_yardstick!s}",
                f"{len(found.gains)} random networks at their own best block: {mean(found.gains):.3g} times the error "
                f"({min(found.gains):.3g} to {max(found.gains):.3g})",
            ]
        if regions:
            own = next(row for row in best if {"name": row.name, "view": row.view} == part.best)
            share = probes.bias_share(vars(own), levels, regions[0])
            lines.append(f"bias^2 is {share:.0%} of its squared error, {regions[0]}")
        if won := probes.posterior_wins({"layers": [vars(row) for row in part.layers]}):
            lines.append(
                f"middle: the exact Gaussian posterior ({won[0]:.3g}) has a smaller error than any block ({won[1]:.3g})"
            )
        return "\n".join(lines)
