"""TwoStage: t is estimated from the image and given to the conditioned model. Depends on bayes, evaluation, members, model."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, ClassVar

from explore import bayes, evaluation, zoo
from explore.denoiser import Denoiser
from explore.experiments.members import OfMembers
from explore.experiments.model import images_option, probes_of, probes_option
from explore.progress import Watch
from explore.results import table
from explore.values import whole


@dataclass(frozen=True)
class TwoStage(OfMembers):
    """Held-out loss of the conditioned model with t estimated from the image, beside the time-agnostic model, by t.

    Where an estimate does as well as the true t and the time-agnostic model does not, it has not lost information but
    capacity. The estimates come from a probe of the time-agnostic model, from baselines without a network and from the exact
    posterior under a Gaussian fitted to the training images.
    """

    verb: ClassVar[str] = "two-stage"
    reading: ClassVar[str] = "[(row.t, row.source, row.relative.value) for row in result.rows]"
    written: ClassVar[tuple[str, ...]] = ("two-stage.json", "two-stage.html")

    images: int = images_option(200)
    noise_draws: int = whole(2, 100, "Noises for each image, 2 to 100.", 2)
    probes: str | None = probes_option()

    def measure(self, denoisers: list[Denoiser], watch: Watch) -> evaluation.TwoStageResult:
        """As :func:`explore.evaluation.two_stage` returns it."""
        info = zoo.info(self.members[1])
        gaussian = None
        with contextlib.suppress(ValueError):  # not every data set has one
            gaussian = bayes.fitted_gaussian(info.dataset, denoisers[0].shape)
        return evaluation.two_stage(
            denoisers, probes_of(denoisers[1], self.probes), self.data, self.images, self.noise_draws, self.seed, gaussian,
            watch=watch,
        )  # fmt: skip

    def figures(self, result: evaluation.TwoStageResult) -> list[Any]:
        """The relative loss by t, a line for each source."""
        from explore import figures  # imported here: the trainer runs where there is no plotly

        return [figures.two_stage(result.to_json()["rows"])]

    def summary(self, result: evaluation.TwoStageResult) -> str:
        """Relative loss by source (rows) and t (columns)."""
        by_source: dict[str, dict[str, Any]] = {}
        for row in result.rows:
            if row.source != evaluation.TRUE_T:
                by_source.setdefault(row.source, {"source of t": row.source})[f"t = {row.t:g}"] = f"{row.relative:+.1%}"
        about = (
            f"loss relative to the true t; {result.images} images x {result.noise_draws} noise draws, 95 % intervals over both"
        )
        return f"{table(by_source.values())}\n{about}"
