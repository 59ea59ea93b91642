"""The noise level of one image, as estimated by the probes of several models, by baselines and by exact posteriors.

Depends on activations, bayes, denoiser, and baselines, controls, linear, probe_set and told of this package.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from explore import bayes
from explore.activations import level_times
from explore.denoiser import Denoiser
from explore.probes.baselines import BASELINES
from explore.probes.controls import is_conditioned
from explore.probes.linear import RidgeProbe
from explore.probes.probe_set import ProbeSet
from explore.probes.told import fixed_t, told_label


@torch.no_grad()
def ruler(
    xt: Tensor,
    models: dict[str, tuple[Denoiser, ProbeSet]],
    gaussian: bayes.DiagonalGaussian | None = None,
    x0: Tensor | None = None,
) -> list[dict[str, Any]]:
    """Estimates of the noise level of one image by several estimators, each with its description.

    A time-conditioned network is evaluated with the t of every level of its probes as input, and its probe predictions are
    averaged; with the one t that its probes were fitted with, if they were told a fixed t. Its estimate therefore cannot come
    from the input t.

    Args:
        xt: The noisy image (1, C, H, W).
        models: Title -> model and its probes. All models share one schedule and shape.
        gaussian: A Gaussian fit to clean images. Its exact posterior of t is one more estimate.
        x0: The clean image (1, C, H, W). The exact posterior of t given x0 is one more estimate.

    Returns:
        One row for each estimator: its name ``reader``, its description ``what``, the estimate ``value`` and the ends ``low``
        and ``high`` of an interval of about 95 %, all in log SNR.

    Raises:
        ValueError: If the models have several schedules, or if the target of their probes is not ``logsnr``.
    """
    schedules = {id(denoiser.schedule) for denoiser, _ in models.values()}
    if len(schedules) != 1 or any(probe_set.target != "logsnr" for _, probe_set in models.values()):
        raise ValueError("the models must share one noise schedule, and their probes must read logsnr")
    rows = []

    def add(reader: str, what: str, value: float, low: float, high: float) -> None:
        rows.append({"reader": reader, "what": what, "value": value, "low": low, "high": high})

    def add_probe(reader: str, what: str, probe_set: ProbeSet, probe: RidgeProbe, value: float) -> None:
        margin = 1.96 * probe_set.uncertainty(probe, value)
        add(reader, what, value, value - margin, value + margin)

    for title, (denoiser, probe_set) in models.items():
        t = fixed_t(probe_set.regime) if is_conditioned(denoiser) else 0.5
        times = torch.tensor([t]) if t is not None else level_times(denoiser.schedule, probe_set.levels).float()
        with probe_set.follow(denoiser) as readings:
            denoiser.output(xt.expand(len(times), -1, -1, -1).to(denoiser.device), times.to(denoiser.device))
        name, view = probe_set.best
        told = f", fitted with {told_label(probe_set.regime)}" if is_conditioned(denoiser) else ""
        add_probe(
            title,
            f"probe of {name} ({view}){told}; interval from its errors on held-out images",
            probe_set,
            probe_set.probe(),
            readings[0].mean().item(),
        )
    denoiser, probe_set = next(iter(models.values()))
    schedule = denoiser.schedule
    for name, features in BASELINES.items():
        if ("any", "input", name) in probe_set.probes:
            probe = probe_set.probes["any", "input", name]
            value = probe.predict(features(xt, schedule)).item()
            add_probe(name, "computed from the image, no network", probe_set, probe, value)
    priors: list[tuple[str, bayes.Prior]] = [("Gaussian posterior", gaussian)] if gaussian is not None else []
    if x0 is not None:
        priors.append(("posterior given x0", bayes.FiniteSet(x0, "the clean image")))
    for title, prior in priors:
        read = bayes.posterior(prior, xt, bayes.Levels.spaced(schedule, prior.dimension, prior.energy))
        logsnr = schedule.logsnr(read.levels.t)
        below = read.log_probability[0].exp().cumsum(0)  # cumulative over t, from the clean end
        low, middle, high = (
            logsnr[int((below < share).sum().clamp(max=len(logsnr) - 1))].item() for share in (0.975, 0.5, 0.025)
        )
        add(title, f"exact posterior; prior: {read.prior}", middle, low, high)
    return rows
