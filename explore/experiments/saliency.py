"""Saliency: which pixels one scalar of a model depends on. Depends on data, figures, model, saliency, trajectories, zoo."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from explore import probes, saliency, zoo
from explore.data import add_noise, to_float
from explore.experiments.model import OfModels, one_image, probes_of, probes_option, seed_option
from explore.experiments.request import Load
from explore.experiments.sample import check_pictures
from explore.images import channels_last, grid, png
from explore.progress import Watch, quiet
from explore.results import rounded, table
from explore.seeds import keyed_noise
from explore.values import choice, choose, one_line, option, real, text, truth, whole


def _method(name: str, value: Any) -> str:
    if value in saliency.NEVER_OFFERED:
        raise ValueError(f"{value} is not available: {saliency.NEVER_OFFERED[value]}")
    return choose("method", value if isinstance(value, str) else one_line(value, 80), saliency.SALIENCY)


def _box(name: str, value: Any) -> str:
    parts = str(value).split(",")
    if len(parts) != 4 or not all(part.strip().isdigit() for part in parts):
        raise ValueError(f"box must be four whole numbers top,left,height,width, got {one_line(value, 80)}")
    return ",".join(str(int(part)) for part in parts)


@dataclass(frozen=True)
class Maps:
    """Maps of one model, or of both members of a pair on one scale.

    Attributes:
        picture: The clean image, uint8 (1, C, H, W), and ``words`` what it is.
        noisy: What each model was shown, (1, C, H, W).
        found: An attribution for each model.
        routes: How much comes through each model's t input.
        conditioned: Whether each model uses its t input.
        unit: Of the target.
        scale: Limit of the colors.
    """

    picture: Tensor
    words: str
    noisy: list[Tensor]
    found: list[saliency.Attribution]
    routes: list[saliency.Routes]
    conditioned: list[bool]
    unit: str
    scale: float


@dataclass(frozen=True)
class Saliency(OfModels):
    """Saliency map: which pixels one scalar of a model depends on.

    The image gets noise of --seed up to t. Both members of a pair are shown on one scale. Beside the map: completeness,
    deletion and insertion, the map of a reinitialized network, and how much comes through the t input.
    """

    verb: ClassVar[str] = "saliency"
    reading: ClassVar[str] = "[one.map for one in result.found]  # (1, H, W) for each model"
    written: ClassVar[tuple[str, ...]] = ("saliency.json", "saliency.npz", "saliency.html", "saliency.png")

    image: str = text("Image file, or a source of images such as bank:celeba.", "bank:celeba", source=True)
    index: int = whole(0, 10**7, "Which image of a source, from 0.", 0)
    t: float = real(0, 1, "Noise level of the image, above 0 and at most 1.", 0.5, above=True)
    target: str = choice("target", lambda: saliency.TARGETS, "The scalar.", "implied-clock")
    method: str = option(
        str, "How it is attributed.", _method, "integrated-gradients", choices=lambda: saliency.SALIENCY
    )  # fmt: skip
    layer: str | None = text("Whose probe is read; by default the best, of a pair that of its last member.", None)
    view: str | None = text("Of that layer: mean or mean_std.", None)
    at: str | None = text("Hook point of layer methods.", None)
    baseline: str = choice("baseline", lambda: saliency.BASELINES, "Of the attribution.", "zero")
    steps: int | None = whole(2, saliency.MAX_STEPS, "Of the path, 2 to 512; by default as many as completeness takes.", None)
    given: float | None = real(0, 1, "Give the network this t; by default the true one.", None)
    box: str | None = option(str, "For x0-region: top,left,height,width in pixels.", _box, None)
    channel: int | None = whole(0, 2, "For x0-region: 0, 1 or 2.", None)
    window: int | None = whole(1, 1024, "Side of the square that occlusion covers, in pixels.", None)
    probes: str | None = probes_option()
    seed: int = seed_option()
    checks: bool = truth("Curves and the reinitialized network too.", True)

    def run(self, watch: Watch = quiet, load: Load = zoo.load) -> Maps:
        """The maps."""
        denoisers = self.models_from(load)
        for denoiser in denoisers:
            check_pictures(denoiser)
        needed = "probe_set" in saliency.TARGETS[self.target].needs
        probe_sets = [probes_of(one, self.probes) if needed else None for one in denoisers]
        layer, view = self.layer, self.view
        if len(probe_sets) > 1 and probe_sets[-1] is not None and layer is None:  # a pair is compared at one layer
            layer, view = probe_sets[-1].best[0], view or probe_sets[-1].best[1]
        picture, words = one_image(self.image, self.index, denoisers[0].shape)
        x0 = to_float(picture)
        found, through, shown = [], [], []
        wanted = list(saliency.CHECKS) if self.checks else ["completeness"]
        for denoiser, probe_set in watch(list(zip(denoisers, probe_sets)), desc=self.method):
            xt = add_noise(x0, keyed_noise([self.seed], denoiser.shape), self.t, denoiser.schedule)
            asked: dict[str, Any] = {
                "probe_set": probe_set, "layer": layer, "view": view, "channel": self.channel, "x0": x0, "given": self.given,
                "box": [int(part) for part in self.box.split(",")] if self.box else None, "baseline": self.baseline,
                "steps": self.steps, "seed": self.seed,
            }  # fmt: skip
            found.append(
                saliency.attribute(
                    denoiser, xt, self.t, self.target, self.method, at=self.at, window=self.window, checks=wanted, **asked
                )
            )
            through.append(saliency.routes(denoiser, xt, self.t, self.target, **asked))
            shown.append(xt)
        return Maps(
            picture, words, shown, found, through, [probes.is_conditioned(one) for one in denoisers],
            probe_sets[0].target if probe_sets[0] is not None else "", saliency.scale_of([one.map for one in found]),
        )  # fmt: skip

    def record(self, result: Maps) -> dict[str, Any]:
        """The figures of each model, with how they were made."""
        members = [one.to_json() | {"routes": way.to_json()} for one, way in zip(result.found, result.routes)]
        found = {"image": result.words, "seed": self.seed, "scale": result.scale, "members": members}
        return {**self.provenance, **rounded(found)}

    def files(self, result: Maps) -> dict[str, Any]:
        """Figures, arrays, a page of figures, and the maps over the image."""
        from explore import figures  # imported here: the trainer runs where there is no plotly

        picture, found = result.picture, result.found
        arrays: dict[str, Any] = {
            "picture": channels_last(picture), "t": np.array(self.t), "seed": np.array(self.seed, dtype=np.uint32)
        }  # fmt: skip
        for number, (one, xt) in enumerate(zip(found, result.noisy)):
            arrays |= {f"map_{number}": one.map.numpy(), f"values_{number}": one.values.numpy(), f"xt_{number}": xt.numpy()}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        over = torch.cat([saliency.overlay(picture, one.map, result.scale) for one in found])
        pictures = torch.cat([picture.expand(-1, 3, -1, -1), over])
        colors = [figures.MEMBER_COLORS["timestep" if is_conditioned else "none"] for is_conditioned in result.conditioned]
        unit = figures.UNITS[result.unit] if result.unit else self.target
        value = f"contribution, {unit}" if found[0].signed else "sensitivity"
        titles = [one.model for one in found]
        drawn = [
            figures.saliency_maps(
                [channels_last(picture)[0]] * len(found), [one.map[0].numpy() for one in found], titles, result.scale,
                signed=found[0].signed, value=value, colors=colors,
            )
        ]  # fmt: skip
        if all("curves" in one.quality for one in found):
            drawn.append(figures.deletion_curves([one.quality["curves"] for one in found], titles, unit, colors))
        drawn.append(figures.routes_bars([way.to_json() for way in result.routes], titles, colors, unit))
        return {
            "saliency.json": self.record(result), "saliency.npz": buffer.getvalue(),
            "saliency.png": png(grid(pictures, scale=8, columns=len(pictures))), "saliency.html": figures.page(drawn),
        }  # fmt: skip

    def summary(self, result: Maps) -> str:
        """The target, the checks and the routes of each model."""
        rows = []
        for one, way in zip(result.found, result.routes):
            gap = one.quality.get("completeness", {}).get("relative_gap")
            rank = one.quality.get("randomization", {}).get("rank_correlation")
            rows.append(
                {
                    "model": one.model, "target": float(one.output[0]), "read from": one.layer or "output",
                    "relative gap": "none" if gap is None else gap,
                    "rank correlation, reinitialized": "none" if rank is None else rank,
                    "through the t input": float(way.given_t[0]), "through the image": float(way.image[0]),
                }
            )  # fmt: skip
        notes = [
            f"{one.model}: {note}" for one, way in zip(result.found, result.routes) for note in [*one.notes, way.note] if note
        ]
        return "\n".join([table(rows), *notes, f"{result.words}, t = {self.t:g}, seed {self.seed}"])
