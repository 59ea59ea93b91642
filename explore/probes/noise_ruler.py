"""Every reader's opinion on how noisy one picture is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from explore import bayes
from explore.activations import level_times
from explore.denoiser import Denoiser
from explore.probes.baselines import BASELINES
from explore.probes.controls import hears
from explore.probes.linear import RidgeProbe
from explore.probes.probe_set import Clock


@torch.no_grad()
def ruler(
    xt: Tensor,
    models: dict[str, tuple[Denoiser, Clock]],
    gaussian: bayes.DiagonalGaussian | None = None,
    x0: Tensor | None = None,
) -> list[dict[str, Any]]:
    """Every reader's opinion on how noisy one picture is, each named for what it is.

    A network that hears the time is told every level of its probes in turn, and its readings are averaged: it cannot take
    the answer from what it is told.

    Args:
        xt: The noisy picture (1, C, H, W).
        models: Title -> model and its probes; all of one schedule and shape.
        gaussian: A fit, whose exact posterior of t is one more reader.
        x0: The clean picture (1, C, H, W), for the reader who knows it.

    Returns:
        Rows of ``reader``, ``what`` it is, and ``value``, ``low`` and ``high``: log SNR and an interval of about 95 %.

    Raises:
        ValueError: For models of several schedules, or whose probes read something else than logsnr.
    """
    schedules = {id(denoiser.schedule) for denoiser, _ in models.values()}
    if len(schedules) != 1 or any(clock.target != "logsnr" for _, clock in models.values()):
        raise ValueError("the models must share one noise schedule, and their probes must read logsnr")
    rows = []

    def add(reader: str, what: str, value: float, low: float, high: float) -> None:
        rows.append({"reader": reader, "what": what, "value": value, "low": low, "high": high})

    def add_probe(reader: str, what: str, clock: Clock, probe: RidgeProbe, value: float) -> None:
        margin = 1.96 * clock.uncertainty(probe, value)
        add(reader, what, value, value - margin, value + margin)

    for title, (denoiser, clock) in models.items():
        times = level_times(denoiser.schedule, clock.levels).float() if hears(denoiser) else torch.tensor([0.5])
        with clock.follow(denoiser) as readings:
            denoiser.output(xt.expand(len(times), -1, -1, -1).to(denoiser.device), times.to(denoiser.device))
        name, view = clock.best
        add_probe(
            title, f"probe of {name} ({view}), as it errs on held-out images", clock, clock.probe(), readings[0].mean().item()
        )
    denoiser, clock = next(iter(models.values()))
    schedule = denoiser.schedule
    for name, features in BASELINES.items():
        if ("any", "input", name) in clock.probes:
            probe = clock.probes["any", "input", name]
            value = probe.predict(features(xt, schedule)).item()
            add_probe(name, "of the picture alone, no network", clock, probe, value)
    priors: list[tuple[str, bayes.Prior]] = [("Gaussian's posterior", gaussian)] if gaussian is not None else []
    if x0 is not None:
        priors.append(("who knows the clean picture", bayes.FiniteSet(x0, "this very picture")))
    for title, prior in priors:
        read = bayes.posterior(prior, xt, bayes.Levels.spaced(schedule, prior.dimension, prior.energy))
        logsnr = schedule.logsnr(read.levels.t)
        below = read.log_probability[0].exp().cumsum(0)  # of t, so from the clean end
        low, middle, high = (
            logsnr[int((below < share).sum().clamp(max=len(logsnr) - 1))].item() for share in (0.975, 0.5, 0.025)
        )
        add(title, f"exact posterior; prior: {read.prior}", middle, low, high)
    return rows
