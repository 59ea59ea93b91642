"""Ruler: every estimate of the noise level of one noisy image. Depends on bayes, data, figures, model, probes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from explore import bayes, probes, zoo
from explore.activations import level_times
from explore.data import add_noise, to_float
from explore.denoiser import Denoiser
from explore.experiments.model import OfModels, one_image, probes_of, probes_option, seed_option
from explore.experiments.request import PRECISIONS_HELP, Load
from explore.hardware import PRECISIONS
from explore.progress import Watch, quiet
from explore.results import Stored, table
from explore.seeds import keyed_noise
from explore.values import choice, real, text, whole

MAX_LOGSNR = 8.0


@dataclass(frozen=True)
class Estimate(Stored):
    """One estimate: by what ``reader``, ``what`` that is, and the ``value`` with an interval of about 95 %, in log SNR."""

    reader: str
    what: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Estimates(Stored):
    """The image, uint8 (1, C, H, W), its source, the noisy image, and all estimates of its noise level."""

    unstored: ClassVar[tuple[str, ...]] = ("picture", "xt")

    picture: Tensor
    source: str
    xt: Tensor
    rows: tuple[Estimate, ...]


@dataclass(frozen=True)
class Ruler(OfModels):
    """Estimates the noise level of one image: probes of the networks, classical estimators, and exact posteriors.

    The posteriors are that under the Gaussian fitted to the training images, if one is shipped, and that given x0.
    """

    verb: ClassVar[str] = "ruler"
    reading: ClassVar[str] = "[(row.reader, row.value, row.low, row.high) for row in result.rows]"
    written: ClassVar[tuple[str, ...]] = ("ruler.json", "ruler.html")

    picture: str = text("Image file, or a source of images such as bank:celeba.", "bank:celeba", source=True)
    index: int = whole(0, 10**7, "Which image of a source, from 0.", 0)
    logsnr: float = real(-MAX_LOGSNR, MAX_LOGSNR, "Log SNR of the noise that is added, -8 (noise) to 8 (clean).", 2.0)
    seed: int = seed_option()
    probes: str | None = probes_option()
    precision: str = choice("precision", lambda: PRECISIONS, PRECISIONS_HELP, "auto")

    def noisy(self, denoiser: Denoiser) -> tuple[Tensor, str, Tensor]:
        """The image, uint8 (1, C, H, W), its description, and the noisy image, float32 (1, C, H, W)."""
        picture, words = one_image(self.picture, self.index, denoiser.shape)
        t = level_times(denoiser.schedule, [self.logsnr]).item()
        return picture, words, add_noise(to_float(picture), keyed_noise([self.seed], denoiser.shape), t, denoiser.schedule)

    def run(self, watch: Watch = quiet, load: Load = zoo.load) -> Estimates:
        """The estimates."""
        denoisers = self.models_from(load, self.precision)
        infos = [zoo.info(name) for name in self.names]
        titles = [zoo.TITLES[info.time_conditioning] for info in infos] if len(infos) > 1 else [denoisers[0].name]
        members = {title: (one, probes_of(one, self.probes)) for title, one in zip(titles, denoisers)}
        picture, words, xt = self.noisy(denoisers[0])
        gaussian = None
        with contextlib.suppress(ValueError):  # none is shipped for these images
            gaussian = bayes.fitted_gaussian(infos[0].dataset, infos[0].resolution) if infos else None
        rows = probes.ruler(xt, members, gaussian, to_float(picture))
        return Estimates(picture, words, xt, tuple(Estimate(**row) for row in rows))

    def figures(self, result: Estimates) -> list[Any]:
        """One figure."""
        from explore import figures  # imported here: the trainer runs where there is no plotly

        colors = [figures.MEMBER_COLORS[zoo.info(name).time_conditioning] for name in self.names]
        drawn = figures.ruler_figure([row.to_json() for row in result.rows], self.logsnr, colors)
        return [drawn]

    def summary(self, result: Estimates) -> str:
        """The estimates as a table."""
        rows = [{"estimator": row.reader, "log SNR": row.value, "low": row.low, "high": row.high} for row in result.rows]
        return f"{table(rows)}\n{result.source}, true log SNR {self.logsnr:g}, seed {self.seed}"
