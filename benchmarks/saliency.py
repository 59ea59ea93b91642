"""What the saliency claims are measured with: ``python benchmarks/saliency.py [--only PART ...] [--out FILE]``.

- ``time``: one map of Integrated Gradients with 32 steps of one 32 px picture, for the readout of the last block that is read
  and for the norm of the predicted noise, and every other method once; medians after a warm-up. Run it on an idle machine.
- ``planted``: share of every method's attribution on a planted readout: the variance of one patch, the energy of one band.
- ``steps``: how far Integrated Gradients miss the difference from the baseline, by the number of steps.
- ``randomised``: rank correlation of every method's map of the implied clock with that of parameters drawn anew, and how
  complete it is, by model; the same layer for the members of a pair.
"""

from __future__ import annotations

import argparse
import json
import statistics as numbers
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from explore import files, probes, saliency, zoo  # noqa: E402 (the path above comes first)
from explore.data import add_noise, load_images, to_float  # noqa: E402
from explore.denoiser import Denoiser  # noqa: E402
from explore.hardware import hardware_name  # noqa: E402
from explore.results import rounded  # noqa: E402
from explore.schedules import SCHEDULES  # noqa: E402
from explore.seeds import keyed_noise  # noqa: E402

OUT = Path(__file__).with_suffix(".json")
PARTS = ("time", "planted", "steps", "randomised")
MODELS = ("celeba32-unet-velocity-timestep", "celeba32-unet-velocity-none", "celeba32-dit4-velocity-timestep",
          "celeba32-dit4-velocity-none")  # fmt: skip
BANK = "bank:celeba"
PATCH, RING = (slice(10, 22), slice(5, 17)), 5


def shown(name: str, t: float, count: int) -> tuple[Denoiser, probes.ProbeSet, Tensor]:
    """A model, its probes, and pictures of the bank with noise."""
    denoiser = zoo.load(name, "float32")
    x0 = to_float(load_images(BANK, denoiser.shape[-1], "all")[:count])
    return denoiser, probes.load(name), add_noise(x0, keyed_noise(range(count), denoiser.shape), t, denoiser.schedule)


def read_at(name: str) -> tuple[str, str]:
    """The block that a pair is read at: the best one of its member that is never told."""
    [untold] = [one for one in zoo.pairs()[zoo.index()[name]["pair"]] if zoo.info(one).time_conditioning == "none"]
    return probes.load(untold).best


def timed(repeats: int) -> list[dict[str, Any]]:
    rows = []
    for name in MODELS:
        denoiser, clock, xt = shown(name, 0.5, 1)
        layer, view = read_at(name)
        settings: dict[str, Any] = {"clock": clock, "layer": layer, "view": view, "checks": ()}
        jobs = [("integrated-gradients", "implied-clock", 32), ("integrated-gradients", "noise-norm", 32)]
        jobs += [(method, "implied-clock", 32) for method in saliency.SALIENCY if method != "integrated-gradients"]
        for method, target, steps in jobs:
            seconds = []
            for _ in range(repeats + 1):
                began = time.perf_counter()
                saliency.attribute(denoiser, xt, 0.5, target, method, steps=steps, **settings)
                seconds.append(time.perf_counter() - began)
            rows.append(
                {"model": name, "method": method, "target": target, "steps": steps, "seconds": numbers.median(seconds[1:])}
            )
    return rows


class Planted(nn.Module):
    """The second layer holds the energy of what ``pick`` leaves of the picture; its mean is read."""

    def __init__(self, pick: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.pick = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), pick
        for layer in (self.first, self.second):
            with torch.no_grad():
                layer.bias.zero_()  # type: ignore[union-attr]
                layer.weight.copy_(torch.eye(3)[:, :, None, None])

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        return self.second(self.pick(self.first(xt)).square())


def patch(h: Tensor) -> Tensor:
    """What of a picture the variance of the patch is the energy of."""
    kept = torch.zeros_like(h)
    kept[:, :, *PATCH] = 1.0
    return (h - (h * kept).sum((2, 3), keepdim=True) / kept.sum((2, 3), keepdim=True)) * kept


def planted(repeats: int) -> list[dict[str, Any]]:
    rows = []
    picks: dict[str, Callable[[Tensor], Tensor]] = {
        "variance of a patch": patch,
        "energy of a band": lambda h: saliency.swap_rings(torch.zeros_like(h), h, [RING]),
    }
    xt = keyed_noise(range(4), (3, 32, 32))
    for readout, pick in picks.items():
        denoiser = Denoiser(Planted(pick).requires_grad_(False), SCHEDULES["flow"], "velocity", (3, 32, 32), "planted")
        probe = probes.RidgeProbe()
        probe.coef_, probe.intercept_ = torch.ones(3, dtype=torch.float64), 0.0
        fitted = {("any", "second", "mean"): probe}
        clock = probes.ProbeSet("planted", "logsnr", denoiser.schedule, (0.0,), fitted, ("second", "mean"))
        for method, how in saliency.SALIENCY.items():
            if not how.tells_bands if "band" in readout else how.domain == "frequencies":
                rows.append({"readout": readout, "method": method, "share": None, "why": "it does not answer this question"})
                continue
            found = saliency.attribute(denoiser, xt, 0.5, method=method, probe_set=clock, checks=())
            if "band" in readout:
                assert found.band_shares is not None
                share = found.band_shares[:, RING]
            else:
                size = found.values.abs().sum(1)
                share = size[:, *PATCH].sum((1, 2)) / size.sum((1, 2))
            rows.append({"readout": readout, "method": method, "share": share.min().item()})
    return rows


def steps(repeats: int) -> list[dict[str, Any]]:
    rows = []
    for name in MODELS:
        layer, view = read_at(name)
        for t in (0.05, 0.2, 0.5, 0.8):
            denoiser, clock, xt = shown(name, t, 4)
            for count in (8, 16, 32, 64, 128):
                found = saliency.attribute(
                    denoiser, xt, t, probe_set=clock, layer=layer, view=view, steps=count, checks=("completeness",)
                )
                gap = found.quality["completeness"]["relative_gap"]
                rows.append({"model": name, "layer": layer, "t": t, "steps": count, "relative_gap": gap})
    return rows


def randomised(repeats: int) -> list[dict[str, Any]]:
    rows = []
    for name in MODELS:
        layer, view = read_at(name)
        for t in (0.2, 0.6):
            denoiser, clock, xt = shown(name, t, 2)
            for method in saliency.SALIENCY:
                row: dict[str, Any] = {"model": name, "layer": layer, "t": t, "method": method}
                try:
                    found = saliency.attribute(
                        denoiser, xt, t, method=method, probe_set=clock, layer=layer, view=view,
                        checks=("completeness", "randomization"),
                    )  # fmt: skip
                except ValueError as error:
                    rows.append(row | {"refused": str(error)})
                    continue
                row |= found.quality["randomization"]
                rows.append(row | {"relative_gap": found.quality.get("completeness", {}).get("relative_gap")})
                print(json.dumps(rounded(rows[-1])), file=sys.stderr)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description="Time, completeness and checks of saliency maps.")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    document = files.read_json(arguments.out) if arguments.out.exists() else {}
    work = {"time": timed, "planted": planted, "steps": steps, "randomised": randomised}
    for part in arguments.only:
        print(part, file=sys.stderr, flush=True)
        about: dict[str, Any] = {"command": f"python benchmarks/saliency.py --only {part} --repeats {arguments.repeats}"}
        result = work[part](arguments.repeats)
        about |= {"hardware": hardware_name("cpu"), "torch": torch.__version__, "result": rounded(result)}
        document[part] = about
        files.write_atomically(arguments.out, json.dumps(document, indent=1) + "\n")
        for row in document[part]["result"]:
            print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
