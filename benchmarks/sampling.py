"""Speed and memory of sampling, all of it in one run: ``python benchmarks/sampling.py [--json] [--repeats 5] [--quick]``.

- Images a second of two shipped pairs, a U-Net and a DiT, sampling 16 images of 32 px in 25 Heun steps (49 evaluations of
  the network), with FLOPs, parameters and peak memory.
- The same with diffusers' ``UNet2DModel`` of nearly equal FLOPs and its own Heun scheduler, as it comes (float32,
  default memory format) and in bfloat16. Once with the library's own blocks (only ``block_out_channels`` is chosen) and
  once built as like ours as it allows.
- What share of the machine's own rate of matrix multiplication, measured in the same run, each variant reaches.
- The real app: its start, the time from a click in headless Chromium to the first frames, its peak memory.

Each variant lives in a process of its own, so that its peak memory is its own and what ``zoo.load`` asks of the C
library helps nobody else; the processes take turns within each repeat. Medians with min and max are reported. Where
bfloat16 is not native to the hardware a whole run would take hours: one evaluation of one image is timed and the rest
extrapolated, which is said beside the figure. diffusers' weights are random: speed does not depend on them.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from explore import files, samplers, zoo  # noqa: E402 (the path above comes first)
from explore.hardware import dtype_name, fast_bfloat16, hardware_name  # noqa: E402
from explore.models import ARCHITECTURES  # noqa: E402

COUNT, RESOLUTION, STEPS, SEED = 16, 32, 25, 0
PAIRS = ("celeba32-unet-velocity", "celeba32-dit4-velocity")  # conditioned and time-agnostic; the first against diffusers'
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
TARGETS = {"float32": 2.0, "bfloat16": 1.3}  # our images/s over diffusers' at the same FLOPs and evaluations


@dataclass(frozen=True)
class Variant:
    """One thing that is timed; plain values, so that it can be handed to a process.

    Attributes:
        name: In the table; of ours, the model's.
        library: ``clockless`` or ``diffusers``.
        architecture: ``unet`` or ``dit``; ``own`` or ``ours`` for diffusers' blocks.
        network: Arguments of the network.
        dtype: What it computes in.
        flops: Of one evaluation of ``COUNT`` images.
        parameters: Of the network.
        images: Of one timing, and
        steps: of one timing; fewer than ``COUNT`` and ``STEPS`` where the whole would take too long.
    """

    name: str
    library: str
    architecture: str
    network: dict[str, Any]
    dtype: str
    flops: int
    parameters: int
    images: int = COUNT
    steps: int = STEPS

    @property
    def scale(self) -> float:
        """Whole runs in one timing: 1, or less where the rest is extrapolated."""
        return self.images * evaluations(self.steps) / (COUNT * evaluations(STEPS))


def evaluations(steps: int) -> int:
    """Calls of the network in ``steps`` Heun steps."""
    return samplers.evaluations("heun", steps)


def synchronise(device: torch.device) -> None:
    """Waits until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def size_of(library: str, architecture: str, arguments: dict[str, Any]) -> tuple[int, int]:
    """FLOPs of one evaluation of ``COUNT`` images (a multiply-add is two) and parameters; nothing is computed."""
    # On the meta device attention falls apart into matrix products, which torch's counter knows; the CPU's fused kernel
    # it would count as nothing.
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network = plain(library, architecture, arguments)
        network(torch.empty(1, 3, RESOLUTION, RESOLUTION), torch.empty(1))
    return counter.get_total_flops() * COUNT, sum(parameter.numel() for parameter in network.parameters())


def plain(library: str, architecture: str, arguments: dict[str, Any]) -> nn.Module:
    """A network of either library as its constructor leaves it."""
    if library == "clockless":
        return ARCHITECTURES[architecture](**arguments)
    import diffusers  # imported here: our own processes are to be measured without it

    diffusers.utils.logging.set_verbosity_error()  # UNet2DModel.to() warns of nothing
    return diffusers.UNet2DModel(**arguments)


def theirs_at_random(variant: Variant) -> nn.Module:
    """A network of diffusers with random weights."""
    torch.manual_seed(SEED)
    network = plain(variant.library, variant.architecture, variant.network)
    for parameter in network.parameters():  # layers that start at zero get weights, as in a trained network
        with torch.no_grad():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return network.eval().requires_grad_(False)


def ours(name: str, device: torch.device) -> Variant:
    """A shipped model, in the precision that ``zoo.load(..., precision="auto")`` chooses."""
    config = files.read_json(zoo.folder(name) / "config.json")
    arguments = {**config["network"], "time_conditioning": config["time_conditioning"]}
    size = size_of("clockless", config["architecture"], arguments)
    return Variant(name, "clockless", config["architecture"], arguments, dtype_name("auto", device), *size)


def theirs(blocks: str, target: int, device: torch.device) -> list[Variant]:
    """diffusers' U-Net whose channels bring its FLOPs nearest to ``target``, in float32 and in bfloat16.

    Args:
        blocks: ``own`` for the library's own blocks (four levels, two blocks a level, attention in three), ``ours`` for
            three levels, one block a level and attention at the coarsest, as in our recipe.
        target: FLOPs of one evaluation of ``COUNT`` images.
        device: Where it runs.
    """
    options: dict[str, Any] = {"sample_size": RESOLUTION}
    if blocks == "own":  # the norms' 32 groups ask for multiples of 32
        choices = list(itertools.combinations_with_replacement(range(32, 97, 32), 4))
    else:
        options |= {
            "layers_per_block": 1,
            "down_block_types": ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
            "attention_head_dim": 32,
            "norm_num_groups": 8,
        }
        choices = [(c, 2 * c, d) for c in range(16, 49, 8) for d in range(3 * c, 5 * c + 1, 8)]

    def arguments(channels: tuple[int, ...]) -> dict[str, Any]:
        return {**options, "block_out_channels": channels}

    sizes = {channels: size_of("diffusers", blocks, arguments(channels)) for channels in choices}
    channels = min(choices, key=lambda channels: abs(sizes[channels][0] / target - 1))
    variants = []
    for dtype in ("float32", "bfloat16"):
        name = f"diffusers {channels}, {'its own' if blocks == 'own' else 'our'} blocks, {dtype}"
        slow = dtype == "bfloat16" and not fast_bfloat16(device)
        timed = (1, 1) if slow else (COUNT, STEPS)
        variants.append(Variant(name, "diffusers", blocks, arguments(channels), dtype, *sizes[channels], *timed))
    return variants


def variants(device: torch.device) -> list[Variant]:
    """What is compared."""
    mine = [ours(name, device) for pair in PAIRS for name in zoo.members_of(pair)]
    # diffusers' network takes t as input: its FLOPs and its speed are compared with those of our conditioned model.
    return mine + [variant for blocks in ("own", "ours") for variant in theirs(blocks, mine[0].flops, device)]


def runner(variant: Variant, device: torch.device) -> Callable[[int, int], None]:
    """A function (images, steps) that samples to the end and waits for the device."""
    if variant.library == "clockless":
        denoiser = zoo.load(variant.name, variant.dtype, device=device)

        def our_sample(images: int, steps: int) -> None:
            samplers.sample(denoiser, range(SEED, SEED + images), "heun", steps)  # ends on the CPU: the device is done

        return our_sample
    import diffusers

    network = theirs_at_random(variant).to(device, getattr(torch, variant.dtype))

    @torch.no_grad()
    def their_sample(images: int, steps: int) -> None:
        scheduler = diffusers.FlowMatchHeunDiscreteScheduler()
        scheduler.set_timesteps(max(steps, 2), device=device)
        noise = torch.randn(images, 3, RESOLUTION, RESOLUTION, generator=torch.Generator().manual_seed(SEED))
        xt = noise.to(device, getattr(torch, variant.dtype))
        for timestep in scheduler.timesteps[: evaluations(steps)]:
            xt = scheduler.step(network(xt, timestep.expand(images)).sample, timestep, xt).prev_sample
        xt.float().cpu()

    return their_sample


def work(description: str, device: torch.device) -> None:
    """A worker process: makes a variant, then for every line "images steps" samples and prints the seconds."""
    variant = Variant(**json.loads(description))
    sample = runner(variant, device)
    sample(variant.images, min(variant.steps, 2))  # the first call builds the kernels
    print("ready", flush=True)
    for line in sys.stdin:
        images, steps = map(int, line.split())
        began = time.perf_counter()
        sample(images, steps)
        print(time.perf_counter() - began, flush=True)
    on_device = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
    print(json.dumps({"process_mib": status_of("self", "VmHWM"), "device_mib": on_device}), flush=True)


class Worker:
    """A process that holds one variant; idle, and without a turn at the processor, until asked."""

    def __init__(self, variant: Variant, device: torch.device) -> None:
        self.variant = variant
        self.seconds: list[float] = []
        threads = str(torch.get_num_threads())
        command = [sys.executable, __file__, "--device", str(device), "--threads", threads]
        self.process = subprocess.Popen(
            [*command, "--work", json.dumps(asdict(variant))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the process of {self.variant.name!r} ended early (see above)")
        return line

    def turn(self) -> None:
        """Takes one timing."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{self.variant.images} {self.variant.steps}\n")
        self.process.stdin.flush()
        self.seconds.append(float(self._answer()))

    def close(self) -> dict[str, float | None]:
        """Ends the process and returns its peak memory in MiB."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        memory = json.loads(self._answer())
        self.process.wait()
        return memory


def matrix_rate(dtype: torch.dtype, device: torch.device) -> float:
    """FLOP/s of square matrix products large enough to take a twentieth of a second."""
    size, elapsed = 256, 0.0
    while elapsed < 0.05 and size <= 8192:
        a = torch.randn(size, size, device=device).to(dtype)
        a @ a
        synchronise(device)
        began = time.perf_counter()
        a @ a
        synchronise(device)
        elapsed, size = time.perf_counter() - began, size * 2
    return 2 * (size / 2) ** 3 / elapsed


def status_of(pid: int | str, key: str) -> float:
    """A size from /proc/PID/status, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"/proc/{pid}/status has no {key}")


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def sampling(device: torch.device, repeats: int) -> dict[str, Any]:
    """Images a second of every variant, in turns, with the machine's matrix rates beside them."""
    workers = [Worker(variant, device) for variant in variants(device)]
    rates: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for repeat in range(repeats):
        first = repeat % len(workers)
        for worker in workers[first:] + workers[:first]:
            worker.turn()
        for dtype, measured in rates.items():
            measured.append(matrix_rate(getattr(torch, dtype), device))
    rate = {dtype: statistics.median(measured) for dtype, measured in rates.items()}
    rows = []
    for worker in workers:
        variant = worker.variant
        per_second = [COUNT * variant.scale / seconds for seconds in worker.seconds]
        achieved = variant.flops / COUNT * evaluations(STEPS) * statistics.median(per_second)
        memory = worker.close()
        rows.append(
            {
                "name": variant.name,
                "library": variant.library,
                "network": variant.network,
                "dtype": variant.dtype,
                "images_per_second": spread(per_second),
                "gflop_per_evaluation": variant.flops / 1e9,
                "parameters": variant.parameters,
                "gflop_per_second": achieved / 1e9,
                "share_of_matrix_rate": achieved / rate[variant.dtype],
                "timed": {"images": variant.images, "evaluations": evaluations(variant.steps)},
                "extrapolated": variant.scale < 1,
                "memory": memory if variant.scale == 1 else None,
            }
        )
    return {
        "variants": rows,
        "matrix_gflop_per_second": {dtype: rate[dtype] / 1e9 for dtype in rates},
        "comparisons": [comparison(workers[0], worker) for worker in workers if worker.variant.library == "diffusers"],
    }


def comparison(mine: Worker, other: Worker) -> dict[str, Any]:
    """Our U-Net over one of diffusers', repeat by repeat, at equal FLOPs."""
    flops_ratio = other.variant.flops / mine.variant.flops
    scales = other.variant.scale / mine.variant.scale
    ratios = [slow / fast / scales / flops_ratio for slow, fast in zip(other.seconds, mine.seconds)]
    target = TARGETS[other.variant.dtype]
    return {
        "of": mine.variant.name,
        "over": other.variant.name,
        "flops_ratio": flops_ratio,  # theirs over ours; the speed-up below is divided by it
        "speedup_at_equal_flops": spread(ratios),
        "target": target,
        "met": statistics.median(ratios) >= target,
        "extrapolated": other.variant.scale < 1,
    }


# Clicks, and resolves with the seconds until pictures of both members' states and estimates are in the page. The first
# state is the noise itself; the first estimate needs an evaluation of each network.
CLICK = """() => new Promise(resolve => {
  const began = performance.now(), seen = {};
  const observer = new MutationObserver(() => {
    for (const kind of ['xt', 'x0_hat'])
      if (!(kind in seen) && [0, 1].every(k => document.querySelector(`#pictures .${kind}.member-${k} img`)))
        seen[kind] = (performance.now() - began) / 1000;
    if ('x0_hat' in seen) { observer.disconnect(); resolve(seen); }
  });
  observer.observe(document.querySelector('#pictures'), {subtree: true, childList: true, attributes: true});
  document.querySelector('#denoise').click();
})"""


def clicks(address: str, repeats: int) -> dict[str, Any]:
    """From the click in headless Chromium to the first frames in the page, on the setting that the tab Compare opens with."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return {"skipped": "Playwright is not installed"}
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        return {"skipped": f"none of {', '.join(BROWSERS)} is installed"}
    seen = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-background-networking"]
        )
        for _ in range(repeats):
            page = browser.new_page()
            page.goto(f"{address}?tab=compare")
            page.wait_for_selector("#denoise")
            page.wait_for_timeout(2000)  # a person looks before they click
            seen.append(page.evaluate(CLICK))
            page.close()  # which also stops the run
            time.sleep(2)
        browser.close()
    return {"noise": spread([row["xt"] for row in seen]), "estimate": spread([row["x0_hat"] for row in seen])}


def app(repeats: int) -> dict[str, Any]:
    """Start of ``python -m app`` to its first answer, clicks, and its peak memory after a comparison of ``COUNT`` images."""
    try:
        pair = next(iter(zoo.pairs()), None)
        if pair is None:
            return {"skipped": f"{zoo.default().root / 'index.json'} lists no models"}
    except ValueError as error:
        return {"skipped": f"no checkpoints: {error}"}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}/"
    # With no proxy: on some machines even the loopback address would be sent to one.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    command = [sys.executable, "-m", "app", "--port", str(port), "--no-browser"]
    began = time.perf_counter()
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            while True:
                if process.poll() is not None:
                    assert process.stderr is not None
                    last = (process.stderr.read().splitlines() or ["no message"])[-1]
                    return {"skipped": f"the app ended at once: {last}"}
                try:
                    with opener.open(address, timeout=5) as answer:
                        if answer.status == 200:
                            break
                except OSError:
                    if time.perf_counter() - began > 180:
                        return {"skipped": "the app did not answer within three minutes"}
                    time.sleep(0.02)
            started = time.perf_counter() - began
            from gradio_client import Client  # a second to import, and only this needs it

            clicked = clicks(address, repeats)
            client = Client(address, verbose=False)
            sent = time.perf_counter()
            options = {"pair": pair, "sampler": "heun", "steps": STEPS, "seed": SEED, "count": COUNT}
            client.predict(**options, api_name="/compare")
            return {
                "start_seconds": started,
                "click": clicked,
                "compare_seconds": time.perf_counter() - sent,
                "compare": f"{pair}, {COUNT} images, {STEPS} Heun steps, both members",
                "peak_mib": status_of(process.pid, "VmHWM"),
            }
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def table(report: dict[str, Any]) -> str:
    """The report as text."""
    lines = [
        f"{report['hardware']}; torch {report['torch']}, {report['threads']} threads, diffusers {report['diffusers']}, "
        f"Python {report['python']}; load {report['load_before'][0]:.1f} before the run",
        f"{COUNT} images of {RESOLUTION} px, {STEPS} Heun steps = {evaluations(STEPS)} evaluations, seeds from {SEED}; "
        f"median (min-max) of {report['repeats']} repeats in turns",
        "",
        f"{'':<66}{'images/s':>24}{'GFLOP/eval':>12}{'Mparam':>8}{'GFLOP/s':>9}{'of matmul':>11}{'peak MiB':>10}",
    ]
    for row in report["variants"]:
        speed = row["images_per_second"]
        memory = row["memory"]
        lines.append(
            f"{row['name'] + (', extrapolated*' if row['extrapolated'] else ''):<66}"
            f"{speed['median']:>10.3g} ({speed['min']:.3g}-{speed['max']:.3g})".ljust(90)
            + f"{row['gflop_per_evaluation']:>12.2f}{row['parameters'] / 1e6:>8.2f}{row['gflop_per_second']:>9.3g}"
            f"{row['share_of_matrix_rate']:>11.0%}"
            + (f"{memory['device_mib'] or memory['process_mib']:>10.0f}" if memory else f"{'-':>10}")
        )
    rates = report["matrix_gflop_per_second"]
    lines.append(f"matrix products: float32 {rates['float32']:.3g} GFLOP/s, bfloat16 {rates['bfloat16']:.3g} GFLOP/s")
    extrapolated = [row for row in report["variants"] if row["extrapolated"]]
    if extrapolated:
        timed = extrapolated[0]["timed"]
        lines.append(
            f"* bfloat16 is not native to this hardware: {timed['evaluations']} evaluation of {timed['images']} image was "
            f"timed, and multiplied by {evaluations(STEPS)} x {COUNT}"
        )
    lines.append("")
    for row in report["comparisons"]:
        ratio = row["speedup_at_equal_flops"]
        lines.append(
            f"ours ({row['of']}) over {row['over']}: {ratio['median']:.2f}x ({ratio['min']:.2f}-{ratio['max']:.2f}) at equal "
            f"FLOPs (theirs are {row['flops_ratio']:.3f} of ours), target {row['target']}x: "
            f"{'met' if row['met'] else 'NOT met'}{' (extrapolated)' if row['extrapolated'] else ''}"
        )
    lines.append("")
    if "skipped" in report["app"]:
        lines.append(f"app: not measured, {report['app']['skipped']}")
    else:
        lines.append(
            "app: {start_seconds:.1f} s from start to the first answer; peak {peak_mib:.0f} MiB after one comparison "
            "({compare}: {compare_seconds:.1f} s)".format(**report["app"])
        )
        click = report["app"]["click"]
        if "skipped" in click:
            lines.append(f"click to first frame: not measured, {click['skipped']}")
        else:
            parts = [f"{name} {s['median']:.2f} s ({s['min']:.2f}-{s['max']:.2f})" for name, s in click.items()]
            lines.append(f"click to first frame of both members, in headless Chromium: {', '.join(parts)}")
    return "\n".join(lines)


def main() -> None:
    """Parses the command line, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--repeats", type=int, default=5, help="timings of each variant (default: 5)")
    parser.add_argument("--quick", action="store_true", help="one repeat, no app: does it run?")
    parser.add_argument("--device", type=torch.device, default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--threads", type=int, help="torch's threads (default: its own choice)")
    parser.add_argument("--app-of", type=Path, help="measure the app alone, and replace its part of this stored JSON")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.repeats < 1 or (options.threads or 1) < 1:
        parser.error("--repeats and --threads must be at least 1")
    if options.device.type == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device here")
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.work:
        work(options.work, options.device)
        return
    if options.app_of:
        stored = files.read_json(options.app_of)
        about = {"hardware": hardware_name("cpu"), "torch": torch.__version__, "load_before": os.getloadavg()}
        stored["app"] = {**about, **app(options.repeats)}
        files.write_atomically(options.app_of, json.dumps(stored, indent=2) + "\n")
        print(json.dumps(stored["app"], indent=2))
        return
    repeats = 1 if options.quick else options.repeats
    report: dict[str, Any] = {
        "hardware": hardware_name(options.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "diffusers": importlib.metadata.version("diffusers"),
        "python": platform.python_version(),
        "load_before": os.getloadavg(),
        "images": COUNT,
        "resolution": RESOLUTION,
        "steps": STEPS,
        "evaluations": evaluations(STEPS),
        "seed": SEED,
        "repeats": repeats,
        **sampling(options.device, repeats),
        "app": {"skipped": "left out by --quick"} if options.quick else app(repeats),
    }
    print(json.dumps(report, indent=2) if options.json else table(report))


if __name__ == "__main__":
    main()
