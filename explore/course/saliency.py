"""Saliency maps of both members. Depends on panel, saliency."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from explore import figures, saliency
from explore.course.panel import Part, View, controls_of, picture_slider, titles_of
from explore.data import add_noise, to_float, to_uint8
from explore.denoiser import Denoiser
from explore.experiments import Saliency
from explore.images import channels_last
from explore.probes import ProbeSet
from explore.seeds import keyed_noise


def attribution(denoisers: Sequence[Denoiser], probe_sets: Sequence[ProbeSet], images: Tensor) -> View:
    """Which values of a noisy picture a target depends on, both members on one scale.

    Args:
        denoisers: Two members of a pair.
        probe_sets: Their probes.
        images: uint8 (N, 3, H, W).
    """
    titles = titles_of(denoiser.name for denoiser in denoisers)

    def draw(index: int, t: float, target: str, method: str) -> list[Part]:
        x0 = to_float(images[index : index + 1])
        xt = add_noise(x0, keyed_noise([index], x0.shape[1:]), t, denoisers[0].schedule)
        found = [
            saliency.attribute(denoiser, xt, t, target, method, probe_set=probe_set, x0=x0, steps=8, checks=())
            for denoiser, probe_set in zip(denoisers, probe_sets)
        ]
        maps, shown = [one.map[0] for one in found], channels_last(to_uint8(xt))[0].tolist()
        drawn = figures.saliency_maps(
            [shown] * 2, [one.tolist() for one in maps], titles, saliency.scale_of(maps), signed=found[0].signed,
            value="contribution" if found[0].signed else "sensitivity",
        )  # fmt: skip
        values = ", ".join(f"{title} {one.output[0].item():.2f}" for title, one in zip(titles, found))
        return [drawn, f"{target} of the picture at t = {t:g}: {values}."]

    controls = {"index": picture_slider(images)} | controls_of(Saliency, t=0.3, target=None, method="saliency")
    return View(draw, controls, "Saliency maps of both members over the noisy picture.", [{"t": 0.1}, {"t": 0.7}])
