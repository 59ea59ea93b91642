"""What dropping t costs, exactly: ``python benchmarks/blind_table.py [--json] [--out FILE] [--quick]``;
``--fill README.md`` puts what ``blind_table.json`` beside this file holds into the README, and how it was made.

Nothing is trained. Images are Gaussian with the 1/f^2 spectrum of photographs: 3 x 32 x 32 values, of variance
1 / max(k, 0.7)^2 at radial frequency k (in cycles an image), scaled to a mean of 0.25. For them the network of unlimited
capacity that is conditioned on t, and the time-agnostic one, are known in closed form (``explore.bayes``). Both are sampled, by
this project's own samplers, with the same starting noise and the same noise of stochastic steps:

- the posterior of t runs over the 300 midpoints of equal cells of (0, 1), t uniform;
- 100 steps, t uniform from .99 to 0 (from 1 on the straight path of ``flow``);
- EDM (arXiv 2206.00364) and uEDM (arXiv 2502.13129): Heun in 18 steps, sigma from 80 to .002 with rho = 7, the posterior
  over 300 quantiles of EDM's log-normal sigma (location -1.2, scale 1.2) given the scaled input that the network sees;
- 256 samples, compared by ``sum_i (std_i - sqrt(l_i))^2 / sum_i l_i`` over the coordinates in which the images are
  independent, a relative Frechet distance. Perfect samples have about 1 / (2 x 256) = .002.

Four more tables ask where the time-agnostic eps model fails: with x0_hat clamped and stochastic steps (variance 0.16 in the
DCT basis, because clamping needs pixels), with t hidden in a part of the path only, by start, and how sharply the image tells
its noise level. Figures far above .01 are carried by a few coordinates of a few samples and vary between seeds by a factor of
two: their order is the result. Hence ``--runs``, each with seeds of its own; the median is shown, and behind it the 5 and 95 %
quantiles of at least 20 runs, or the range of fewer.

Prior of every figure: the Gaussian above, with t as stated.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from explore import cards, files  # noqa: E402 (the path above comes first)
from explore.bayes import Levels, bayes_denoiser, marginal_mean, relative_frechet, spectral_gaussian  # noqa: E402
from explore.samplers import SAMPLERS  # noqa: E402
from explore.schedules import SCHEDULES  # noqa: E402
from explore.seeds import keyed_noise, seed_range  # noqa: E402

COUNT, RUNS, STEPS, HEUN_STEPS, LEVELS, RESOLUTION = 256, 1, 100, 18, 300, 32
ENOUGH = 20  # runs, for 5 and 95 % quantiles
START, LATE_START = 0.99, 0.999
COSINE, LINEAR = "ddpm-cosine", "ddpm-linear"
ALWAYS = (0.0, 1.0)  # t is hidden on the whole path
SIGMA_DATA, SIGMA_MAX, SIGMA_MIN, RHO = 0.5, 80.0, 0.002, 7.0
WIDTHS_AT = (0.05, 0.2, 0.5, 3.0, 10.0)


class Toy:
    """What all rows share: sizes and seeds."""

    def __init__(self, count: int, steps: int, resolution: int, seed: int) -> None:
        self.steps, self.shape = steps, (3, resolution, resolution)
        self.seeds = seed_range(seed, count)
        self.known: dict[str, float] = {}
        self.priors = {"plain": spectral_gaussian(resolution, 0.25), "dct": spectral_gaussian(resolution, 0.16, "dct")}

    def run(self, hidden: tuple[float, float] | None, **settings: Any) -> float:
        """Distance of what a row's ``settings`` give with t ``hidden`` on a part of the path; rows share what they can."""
        if "kind" in settings:
            return self.heun(settings["kind"], hidden)
        settings = {"sampler": "ddim", "basis": "plain", "start": START, **settings}
        key = json.dumps([hidden, settings], sort_keys=True)
        if key not in self.known:
            self.known[key] = self.sample(hidden, **settings)
        return self.known[key]

    def sample(
        self, hidden: tuple[float, float] | None, schedule: str, prediction: str, basis: str, sampler: str, **options: Any
    ) -> float:
        """Distance of samples that one of the project's samplers draws from the exact denoiser."""
        prior = self.priors[basis]
        denoiser = bayes_denoiser(prior, Levels.midpoints(SCHEDULES[schedule], LEVELS), prediction, self.shape, hidden=hidden)
        noise = keyed_noise(self.seeds, self.shape).double()
        walk = SAMPLERS[sampler](denoiser, noise, self.steps, seeds=self.seeds, **options)
        return relative_frechet(prior, deque(walk, maxlen=1)[0].xt)

    def heun(self, kind: str, hidden: tuple[float, float] | None) -> float:
        """Distance of samples by algorithm 1 of arXiv 2206.00364 in sigma, from EDM's or uEDM's exact network."""
        prior, path = self.priors["plain"], Preconditioned(kind)
        levels = Levels.midpoints(path, LEVELS)
        variance = torch.from_numpy(prior.variance).reshape(self.shape)

        def direction(y: Tensor, sigma: Tensor) -> Tensor:
            """(y - D(y; sigma)) / sigma; told sigma, D is c_skip y + c_out F whatever the preconditioning."""
            x0_hat = variance / (variance + sigma**2) * y
            if hidden:
                output = marginal_mean(prior, path.scale(sigma) * y, levels, path.target)
                x0_hat = path.skip(sigma) * y + path.out(sigma) * output
            return (y - x0_hat) / sigma

        ends = SIGMA_MAX ** (1 / RHO), SIGMA_MIN ** (1 / RHO)
        sigmas = torch.cat([torch.linspace(*ends, HEUN_STEPS, dtype=torch.float64) ** RHO, torch.zeros(1)])
        y = SIGMA_MAX * keyed_noise(self.seeds, self.shape).double()
        for index in range(HEUN_STEPS):
            width = sigmas[index + 1] - sigmas[index]
            slope = direction(y, sigmas[index])
            ahead = y + width * slope
            if index < HEUN_STEPS - 1:
                ahead = y + width * (slope + direction(ahead, sigmas[index + 1])) / 2
            y = ahead
        return relative_frechet(prior, y)


class Preconditioned:
    """EDM's way of saying it, D = c_skip y + c_out F(c_in y) with y = x0 + sigma n, as a path for ``Levels``.

    The network sees ``z = c_in y = alpha x0 + sigma n``; its target is linear in x0 and n. t is the quantile of sigma.

    Source: EDM, arXiv 2206.00364, table 1; uEDM, arXiv 2502.13129 (its c_skip is taken to be EDM's).
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def level(self, t: Tensor) -> Tensor:
        """EDM's training distribution of sigma, by quantile."""
        return torch.exp(-1.2 + 1.2 * math.sqrt(2) * torch.erfinv(2 * t - 1))

    def scale(self, sigma: Tensor) -> Tensor:
        """c_in."""
        return 1 / ((SIGMA_DATA**2 if self.kind == "EDM" else 1) + sigma**2).sqrt()

    def skip(self, sigma: Tensor) -> Tensor:
        """c_skip."""
        return SIGMA_DATA**2 / (SIGMA_DATA**2 + sigma**2)

    def out(self, sigma: Tensor) -> Tensor:
        """c_out."""
        return sigma * SIGMA_DATA / (SIGMA_DATA**2 + sigma**2).sqrt() if self.kind == "EDM" else torch.ones_like(sigma)

    def alpha(self, t: Tensor) -> Tensor:
        """Coefficient of x0 in what the network sees."""
        return self.scale(self.level(t))

    def sigma(self, t: Tensor) -> Tensor:
        """Coefficient of the noise in what the network sees."""
        return self.level(t) * self.scale(self.level(t))

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """(x0 - c_skip y) / c_out."""
        level = sigma / alpha
        return (x0 - self.skip(level) * (x0 + level * eps)) / self.out(level)


class VarianceExploding:
    """y = x0 + 100 t n, for the width of sigma."""

    alpha, dalpha = staticmethod(torch.ones_like), staticmethod(torch.zeros_like)

    @staticmethod
    def sigma(t: Tensor) -> Tensor:
        """100 t."""
        return 100 * t

    @staticmethod
    def dsigma(t: Tensor) -> Tensor:
        """100."""
        return torch.full_like(t, 100.0)


@dataclass(frozen=True)
class Row:
    """A line of a table: what is sampled with t hidden, and with t told unless the table is about that alone.

    Attributes:
        table: A key of ``TITLES``.
        name: What is printed.
        settings: Of ``Toy.run``: schedule, prediction and the sampler's options, or ``kind`` for ``Toy.heun``.
        hidden: Where t is hidden.
    """

    table: str
    name: str
    settings: dict[str, Any]
    hidden: tuple[float, float] = ALWAYS


def rows() -> Iterator[Row]:
    """Every line of every table."""
    for eta in (0.0, 1.0):
        for schedule in (COSINE, LINEAR):
            settings = {"schedule": schedule, "prediction": "eps", "eta": eta}
            yield Row("targets", f"eps, DDIM eta {eta:.0f}, {schedule}", settings)
    for prediction, schedule in (("x0", COSINE), ("v", COSINE), ("v", LINEAR)):
        settings = {"schedule": schedule, "prediction": prediction}
        yield Row("targets", f"{prediction}, DDIM eta 0, {schedule}", settings)
    settings = {"schedule": "flow", "prediction": "velocity", "sampler": "euler", "start": 1.0}
    yield Row("targets", "velocity, Euler, flow", settings)
    for kind in ("EDM", "uEDM"):
        yield Row("targets", f"{kind}, Heun, {HEUN_STEPS} steps", {"kind": kind})
    for clamp in (False, True):
        for eta in (0.0, 1.0):
            settings = {"schedule": COSINE, "prediction": "eps", "basis": "dct", "eta": eta, "clamp": clamp}
            yield Row("rescues", f"eps, DDIM eta {eta:.0f}, {COSINE}{', x0_hat clamped' if clamp else ''}", settings)
    for schedule, start in ((COSINE, LATE_START), (LINEAR, START)):
        for hidden in ((0.0, 0.5), (0.5, 0.9), (0.9, 0.95), (0.95, 1.0)):
            settings = {"schedule": schedule, "prediction": "eps", "eta": 0.0, "start": start}
            name = f"eps, DDIM eta 0, {schedule} from {start}: {hidden[0]:g} to {hidden[1]:g}"
            yield Row("where", name, settings, hidden)
    for start in (0.95, 0.99, 0.999, 0.9999):
        settings = {"schedule": COSINE, "prediction": "eps", "eta": 0.0, "start": start}
        yield Row("start", f"eps, DDIM eta 0, {COSINE} from {start}", settings)


TITLES = {
    "targets": "Targets and samplers",
    "rescues": "What rescues the time-agnostic eps model (variance 0.16, DCT basis)",
    "where": "t hidden on one part of the path only",
    "start": "By the t where sampling starts",
}


def widths(resolution: int = RESOLUTION) -> dict[str, Any]:
    """Relative standard deviation of sigma by sigma, from Fisher information."""
    prior = spectral_gaussian(resolution, 0.25)
    found = {sigma: prior.information(VarianceExploding, sigma / 100) ** -0.5 / (sigma / 100) for sigma in WIDTHS_AT}
    return {"relative_std_of_sigma": found, "limit": (2 * prior.dimension) ** -0.5, "prior": prior.prior}


def measure(
    count: int = COUNT, steps: int = STEPS, runs: int = RUNS, resolution: int = RESOLUTION, only: tuple[str, ...] = (),
    name: str = "",
) -> dict[str, Any]:  # fmt: skip
    """All rows, or those of the tables ``only`` with ``name`` in their name; run r has the seeds from r times ``count``.

    Returns:
        Conditions, and rows with ``told`` and ``blind``: the median, and ``runs`` in order.
    """
    began = time.perf_counter()
    toys = [Toy(count, steps, resolution, run * count) for run in range(runs)]
    found = []
    for row in rows():
        if (not only or row.table in only) and name in row.name:
            told, blind_ = ([toy.run(hidden, **row.settings) for toy in toys] for hidden in (None, row.hidden))
            found.append(
                {"table": row.table, "row": row.name, "hidden": row.hidden, "told": statistics.median(told), "told runs": told}
                | {"blind": statistics.median(blind_), "blind runs": blind_}
            )
    return {
        "prior": [*(prior.prior for prior in toys[0].priors.values()), f"t over {LEVELS} midpoints, uniform"],
        "samples": count,
        "steps": steps,
        "runs": runs,
        "seeds": [[toy.seeds[0], toy.seeds[-1]] for toy in toys],
        "resolution": resolution,
        "floor": 1 / (2 * count),
        "rows": found,
        "widths": widths(resolution),
        "seconds": time.perf_counter() - began,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def text(report: dict[str, Any]) -> str:
    """The report as tables."""
    lines = [
        f"Relative Frechet distance of {report['samples']} samples (floor about {report['floor']:.3f}), {report['steps']} "
        f"steps, 3 x {report['resolution']} x {report['resolution']}; median ({spread(report['runs'])}) of {report['runs']} "
        f"runs, seeds {', '.join(f'{first}-{last}' for first, last in report['seeds'])}",
        f"Prior: {'; '.join(report['prior'])}",
    ]
    for table, title in TITLES.items():
        found = [row for row in report["rows"] if row["table"] == table]
        if found:
            lines += ["", f"{title:<64}{'conditioned':>28}{'time-agnostic':>28}"]
        lines += [f"{row['row']:<64}{cell(row['told runs']):>28}{cell(row['blind runs']):>28}" for row in found]
    relative = report["widths"]["relative_std_of_sigma"]
    lines += [
        "",
        "How sharply an image tells its sigma (Fisher): "
        + ", ".join(f"{std:.1%} at {sigma:g}" for sigma, std in relative.items())
        + f"; limit 1/sqrt(2 d) = {report['widths']['limit']:.1%}",
        f"{report['seconds']:.0f} s, {report['threads']} thread(s), torch {report['torch']}",
    ]
    return "\n".join(lines)


def markdown(report: dict[str, Any]) -> dict[str, str]:
    """The README's tables, one for each of ``TITLES``."""
    found = {}
    for table, title in TITLES.items():
        lines = [
            [row["row"], cell(row["told runs"]), cell(row["blind runs"])] for row in report["rows"] if row["table"] == table
        ]
        found[table] = cards.markdown([title, "conditioned", "time-agnostic"], lines)
    return found


COMMAND = "`python benchmarks/blind_table.py --runs "


def made(report: dict[str, Any]) -> str:
    """One line of Markdown: the command, and what the cells of the tables are."""
    runs, seeds = report["runs"], report["seeds"]
    threads = "one thread" if report["threads"] == 1 else f"{report['threads']} threads"
    shown = f"median ({spread(runs)}) of {runs} runs" if runs > 1 else "one run"
    return (
        f"{COMMAND}{runs} --out benchmarks/blind_table.json`: {shown}, seeds {seeds[0][0]} to {seeds[-1][-1]}, "
        f"{report['steps']} steps; {report['seconds'] / 60:.0f} minutes on {threads}."
    )


def fill(text: str, report: dict[str, Any]) -> str:
    """``text`` with the tables and the line of :func:`made` replaced by those of ``report``.

    Raises:
        ValueError: If a table or the line is not there exactly once.
    """
    lines = cards.fill(text, markdown(report)).splitlines()
    found = [number for number, line in enumerate(lines) if line.startswith(COMMAND)]
    if len(found) != 1:
        raise ValueError(f"a line that begins with {COMMAND} must be there once, is {len(found)} times")
    lines[found[0]] = made(report)
    return "\n".join(lines) + "\n"


def spread(runs: int) -> str:
    """What stands behind the median."""
    return "5 % to 95 %" if runs >= ENOUGH else "range"


def cell(values: list[float]) -> str:
    """Median, and :func:`spread` of several."""
    quantiles = statistics.quantiles(values, n=20, method="inclusive") if len(values) >= ENOUGH else (min(values), max(values))
    ends = f" ({quantiles[0]:.3g} to {quantiles[-1]:.3g})" if len(values) > 1 else ""
    middle = statistics.median(values)
    return (f"{middle:.4f}" if middle < 0.1 else f"{middle:.3g}") + ends


def main() -> None:
    """Parses the command line, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"each with {COUNT} seeds of its own (default: {RUNS})")
    parser.add_argument("--only", nargs="+", choices=list(TITLES), default=[], help="tables to make (default: all)")
    parser.add_argument("--row", default="", help="only rows with this text in their name")
    parser.add_argument("--quick", action="store_true", help="one run of 32 samples in 20 steps: does it run?")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads (default: 1)")
    parser.add_argument("--fill", type=Path, help="measure nothing: fill the tables of this Markdown file from the stored JSON")
    options = parser.parse_args()
    if options.fill:
        stored = files.read_json(Path(__file__).with_suffix(".json"))
        files.write_atomically(options.fill, fill(options.fill.read_text(), stored))
        return
    if options.runs < 1 or options.threads < 1:
        parser.error("--runs and --threads must be at least 1")
    torch.set_num_threads(options.threads)
    sizes = {"count": 32, "steps": 20, "runs": 1} if options.quick else {"runs": options.runs}
    if not any((not options.only or row.table in options.only) and options.row in row.name for row in rows()):
        parser.error(f"no row has {options.row!r} in its name; the names are those of the README's tables")
    report = measure(**sizes, only=tuple(options.only), name=options.row)
    if options.out:
        files.write_atomically(options.out, json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2) if options.json else text(report))


if __name__ == "__main__":
    main()
