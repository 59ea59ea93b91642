"""Evaluate: distances between a model's samples and reference images. Depends on encoder, evaluation, model, zoo."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from explore import encoder, evaluation, zoo
from explore.data import SPLITS
from explore.experiments.model import model_option
from explore.experiments.request import PRECISIONS_HELP, Load, Request, sampling_field
from explore.hardware import PRECISIONS, Team
from explore.progress import Watch, quiet
from explore.samplers import Sampling
from explore.seeds import MAX_SEED
from explore.values import choice, real, several, text, whole

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Evaluate(Request):
    """Fréchet distance, KID, precision and recall between a model's samples and reference images.

    Run again after an interruption, the command continues: finished samples are kept in the folder OUT.part until the result is
    written. Under `accelerate launch` each process samples a share.
    """

    verb: ClassVar[str] = "evaluate"
    reading: ClassVar[str] = "result.per_seed  # by set of samples: Fréchet distance, KID, precision, recall"
    stores: ClassVar[bool] = True
    resumes: ClassVar[bool] = True

    model: str = model_option()
    reference: str = text("cifar10, celeba, bank:NAME, or a folder or zip of images.", source=True)
    split: str = choice("split", lambda: SPLITS, "Of the reference.", "test")
    count: int = whole(evaluation.MIN_IMAGES, evaluation.SEED_BLOCK, "Samples for each seed, 16 to 100,000.", 5000)
    features: str = choice("features", lambda: evaluation.FEATURES, "Space in which images are compared.", "cifar-resnet")
    seeds: tuple[int, ...] = several(
        whole(0, MAX_SEED // evaluation.SEED_BLOCK - 1, "One set of samples each, such as 0 1 2.", (0,))
    )
    weights: str | None = text("File of Inception's standard weights; by default they are fetched.", None, source=True)
    sampling: Sampling = sampling_field()
    precision: str = choice("precision", lambda: PRECISIONS, PRECISIONS_HELP, "auto")
    clock_offset: float = real(-1, 1, "The network is given t plus this; the sampler keeps t.", 0.0)
    device: str = choice("device", lambda: DEVICES, "Where the network runs; auto takes a GPU where there is one.", "auto")

    @property
    def name(self) -> str:
        """With the features in which images are compared."""
        return f"distances-{self.features}"

    def suits(self, **given: Any) -> Sampling:
        """What suits the model."""
        return Sampling.for_model(zoo.info(self.model), **given)

    def run(
        self, watch: Watch = quiet, load: Load = zoo.load, work: Path | None = None, sample_only: bool = False
    ) -> evaluation.DistancesResult | None:
        """As :func:`explore.evaluation.evaluate` returns it; None after ``sample_only`` and in helping processes.

        Args:
            watch: Shows progress.
            load: (name, precision) -> model.
            work: Folder for the features of finished samples, from which an interrupted run continues.
            sample_only: Whether to stop when all features lie in ``work``.

        Raises:
            ValueError: Without a GPU where one is asked for, or a reference that cannot be used.
        """
        device = ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device
        if device == "cuda" and not torch.cuda.is_available():
            raise ValueError("there is no CUDA device here; choose --device cpu")
        denoiser = load(self.model, self.precision) if device == "cpu" else zoo.load(self.model, self.precision, device=device)
        settings = {
            "count": self.count, "features": self.features, "seeds": list(self.seeds), "work": work,
            "weights": Path(self.weights) if self.weights else None, "clock_offset": self.clock_offset,
            **self.sampling.arguments,
        }  # fmt: skip
        team = Team.now()
        if team.index or sample_only:  # the first process compares
            evaluation.sample_features(denoiser, **settings)
            team.wait()
            return None
        result = evaluation.evaluate(denoiser, self.reference, split=self.split, **settings)
        team.wait()
        return replace(result, encoder_sha256=encoder.sha256()) if self.features == encoder.NAME else result
