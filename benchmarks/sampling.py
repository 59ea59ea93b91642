"""Speed and memory of sampling, all of it in one run: ``python benchmarks/sampling.py [--json] [--repeats 5] [--quick]``.

- Images a second of the U-Net and the DiT, told and not told the time, sampling 16 images of 32 px in 25 Heun steps
  (49 evaluations of the network), with FLOPs, parameters and peak memory.
- The same with diffusers' ``UNet2DModel`` of nearly equal FLOPs and its own Heun scheduler, as it comes (float32,
  default memory format) and in bfloat16. Once with the library's own blocks (only ``block_out_channels`` is chosen) and
  once built as like ours as it allows. Variants take turns within each repeat; medians with min and max are reported.
- What share of the machine's own rate of matrix multiplication, measured in the same run, each variant reaches.
- Time from the click to the first streamed frame; start and peak memory of the real app.

Where bfloat16 is not native to the hardware a whole run would take hours: one evaluation of one image is timed and the
rest extrapolated, which is said beside the figure. Weights are random: speed does not depend on them.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from explore import samplers, trajectories, zoo  # noqa: E402 (the path above comes first)
from explore.denoiser import Denoiser  # noqa: E402
from explore.models import build, count_parameters  # noqa: E402
from explore.schedules import SCHEDULES  # noqa: E402
from explore.training import hardware_name  # noqa: E402

COUNT, RESOLUTION, STEPS, SEED = 16, 32, 25, 0
DIT = {"width": 160, "depth": 6, "heads": 5, "patch": 2, "resolution": RESOLUTION}
UNET_RECIPE = "celeba32-unet-velocity"
CPU = torch.device("cpu")
CHANNELS: dict[tuple[str, int], tuple[int, ...]] = {}  # what theirs() chose for (blocks, FLOPs)
TARGETS = {"float32": 2.0, "bfloat16": 1.3}  # our images/s over diffusers' at the same FLOPs and evaluations


@dataclass
class Variant:
    """One thing that is timed.

    Attributes:
        name: In the table.
        network: Made anew for every process.
        sample: (count, steps) -> None, samples to the end and waits for the device.
        dtype: What the network computes in.
        flops: Of one evaluation of ``COUNT`` images, by torch's counter.
        counted: (images, steps) of one timing; fewer than (COUNT, STEPS) where the whole would take too long.
        seconds: One a repeat, as measured.
    """

    name: str
    network: nn.Module
    sample: Callable[[int, int], None]
    dtype: torch.dtype
    flops: int
    counted: tuple[int, int] = (COUNT, STEPS)
    seconds: list[float] = field(default_factory=list)

    @property
    def scale(self) -> float:
        """Whole runs in one timing: 1, or less where the rest is extrapolated."""
        images, steps = self.counted
        return images * evaluations(steps) / (COUNT * evaluations(STEPS))


def evaluations(steps: int) -> int:
    """Calls of the network in ``steps`` Heun steps."""
    return samplers.evaluations("heun", steps)


def recipe(name: str) -> dict[str, Any] | None:
    """The network's sizes in a shipped recipe."""
    path = REPOSITORY / "checkpoints" / "recipes" / f"{name}.json"
    return json.loads(path.read_text())["network"] if path.is_file() else None


def synchronise(device: torch.device) -> None:
    """Waits until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def flops_of(network: nn.Module, device: torch.device) -> int:
    """FLOPs of one evaluation of ``COUNT`` images (a multiply-add is two)."""
    xt, t = torch.randn(1, 3, RESOLUTION, RESOLUTION, device=device), torch.rand(1, device=device)
    # torch's counter knows the fused attention of GPUs only and would count the CPU's as nothing.
    attention = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v)}
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=attention) as counter:
        network(xt, t)
    return counter.get_total_flops() * COUNT


def randomise(network: nn.Module) -> nn.Module:
    """Layers that start at zero get weights, as in a trained network."""
    torch.manual_seed(SEED)
    for parameter in network.parameters():
        with torch.no_grad():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return network.eval().requires_grad_(False)


def ours(architecture: str, conditioning: str, device: torch.device) -> Variant:
    """One of our networks as ``zoo.load(..., precision="auto")`` would hand it out."""
    sizes = recipe(UNET_RECIPE) if architecture == "unet" else DIT
    network = randomise(build(architecture, conditioning, sizes or {"resolution": RESOLUTION}, SEED)).to(device)
    flops = flops_of(network, device)
    dtype = torch.bfloat16 if zoo.fast_bfloat16(device) else torch.float32
    network.to(dtype=dtype, memory_format=torch.channels_last)
    denoiser = Denoiser(network, SCHEDULES["flow"], "velocity", (3, RESOLUTION, RESOLUTION))

    def sample(count: int, steps: int) -> None:
        samplers.sample(denoiser, range(SEED, SEED + count), "heun", steps)  # ends on the CPU: the device has finished

    title = {"timestep": "told", "none": "not told"}[conditioning]
    return Variant(f"{architecture}, {title} the time", network, sample, dtype, flops)


def theirs(blocks: str, dtype: torch.dtype, target: int, device: torch.device) -> Variant:
    """diffusers' U-Net whose channels bring its FLOPs nearest to ``target``, with its own scheduler.

    Args:
        blocks: ``own`` for the library's own blocks (four levels, two blocks a level, attention in three), ``ours`` for
            three levels, one block a level and attention at the coarsest, as in our recipe.
        dtype: What it computes in.
        target: FLOPs of one evaluation of ``COUNT`` images.
        device: Where it runs.
    """
    if blocks == "own":  # the norms' 32 groups ask for multiples of 32
        options: dict[str, Any] = {}
        choices: Iterator[tuple[int, ...]] = itertools.combinations_with_replacement(range(32, 97, 32), 4)
    else:
        options = {
            "layers_per_block": 1,
            "down_block_types": ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
            "attention_head_dim": 32,
            "norm_num_groups": 8,
        }
        choices = ((c, 2 * c, d) for c in range(16, 49, 8) for d in range(3 * c, 5 * c + 1, 8))

    def make(channels: tuple[int, ...]) -> nn.Module:
        return diffusers.UNet2DModel(sample_size=RESOLUTION, block_out_channels=channels, **options)

    if (blocks, target) not in CHANNELS:
        distances = {channels: abs(flops_of(make(channels), CPU) / target - 1) for channels in choices}
        CHANNELS[blocks, target] = min(distances, key=lambda channels: distances[channels])
    channels = CHANNELS[blocks, target]
    network = randomise(make(channels))
    flops = flops_of(network, CPU)
    network.to(device, dtype)

    @torch.no_grad()
    def sample(count: int, steps: int) -> None:
        scheduler = diffusers.FlowMatchHeunDiscreteScheduler()
        scheduler.set_timesteps(max(steps, 2), device=device)
        xt = torch.randn(count, 3, RESOLUTION, RESOLUTION, generator=torch.Generator().manual_seed(SEED)).to(device, dtype)
        for timestep in scheduler.timesteps[: evaluations(steps)]:
            xt = scheduler.step(network(xt, timestep.expand(count)).sample, timestep, xt).prev_sample
        xt.float().cpu()

    name = f"diffusers {channels}, {'its own' if blocks == 'own' else 'our'} blocks, {str(dtype).removeprefix('torch.')}"
    variant = Variant(name, network, sample, dtype, flops)
    if dtype == torch.bfloat16 and not zoo.fast_bfloat16(device):
        variant.counted = (1, 1)
    return variant


def variants(device: torch.device) -> Iterator[tuple[str, Callable[[], Variant]]]:
    """What is compared: a key and the function that makes it."""
    for architecture, conditioning in itertools.product(("unet", "dit"), ("timestep", "none")):
        yield f"{architecture}-{conditioning}", lambda a=architecture, c=conditioning: ours(a, c, device)
    target = lambda: ours("unet", "none", device).flops  # noqa: E731
    for blocks, dtype in itertools.product(("own", "ours"), (torch.float32, torch.bfloat16)):
        key = f"diffusers-{blocks}-{str(dtype).removeprefix('torch.')}"
        yield key, lambda b=blocks, d=dtype: theirs(b, d, target(), device)


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


def memory_of(key: str, device: torch.device) -> dict[str, float]:
    """Peak memory of a process of its own that samples with one variant, in MiB."""
    command = [sys.executable, __file__, "--memory-of", key, "--device", str(device)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY).stdout
    return json.loads(output.splitlines()[-1])


def measure_memory(key: str, device: torch.device) -> None:
    """What the process started by :func:`memory_of` does."""
    variant = dict(variants(device))[key]()
    before = status_of("self", "VmRSS")
    variant.sample(COUNT, 2)
    peak = status_of("self", "VmHWM")
    result = {"process_mib": peak, "sampling_mib": max(peak - before, 0.0)}
    if device.type == "cuda":
        result["device_mib"] = torch.cuda.max_memory_allocated(device) / 2**20
    print(json.dumps(result))


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def sampling(device: torch.device, repeats: int, memory: bool) -> dict[str, Any]:
    """Images a second of every variant, in turns, with the machine's matrix rates beside them."""
    made = {key: make() for key, make in variants(device)}
    rates: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    for variant in made.values():
        images, steps = variant.counted
        variant.sample(images, min(steps, 2))  # the first call of each builds its kernels
    for repeat in range(repeats):
        order = list(made.values())
        for variant in order[repeat % len(order) :] + order[: repeat % len(order)]:
            began = time.perf_counter()
            variant.sample(*variant.counted)
            variant.seconds.append(time.perf_counter() - began)
        for dtype, measured in rates.items():
            measured.append(matrix_rate(dtype, device))

    rate = {dtype: statistics.median(measured) for dtype, measured in rates.items()}
    rows: dict[str, dict[str, Any]] = {}
    for key, variant in made.items():
        per_second = [COUNT * variant.scale / seconds for seconds in variant.seconds]
        achieved = variant.flops / COUNT * evaluations(STEPS) * statistics.median(per_second)
        rows[key] = {
            "name": variant.name,
            "dtype": str(variant.dtype).removeprefix("torch."),
            "images_per_second": spread(per_second),
            "gflop_per_evaluation": variant.flops / 1e9,
            "parameters": count_parameters(variant.network)[0],
            "gflop_per_second": achieved / 1e9,
            "share_of_matrix_rate": achieved / rate[variant.dtype],
            "timed": {"images": variant.counted[0], "evaluations": evaluations(variant.counted[1])},
            "extrapolated": variant.scale < 1,
            "memory": memory_of(key, device) if memory and variant.scale == 1 else None,
        }
    return {
        "variants": rows,
        "matrix_gflop_per_second": {str(d).removeprefix("torch."): rate[d] / 1e9 for d in rates},
        "comparisons": [comparison(rows, key, made) for key in rows if key.startswith("diffusers")],
    }


def comparison(rows: dict[str, dict[str, Any]], key: str, made: dict[str, Variant]) -> dict[str, Any]:
    """Our U-Net over one of diffusers', repeat by repeat, and at equal FLOPs."""
    mine, other = made["unet-timestep"], made[key]  # diffusers' network is told the time, so is ours
    work = other.flops / mine.flops
    ratios = [(other.seconds[i] / other.scale) / (mine.seconds[i] / mine.scale) / work for i in range(len(mine.seconds))]
    dtype = rows[key]["dtype"]
    return {
        "of": mine.name,
        "over": other.name,
        "flops_ratio": work,  # theirs over ours; the speed-up below is divided by it
        "speedup_at_equal_flops": spread(ratios),
        "target": TARGETS[dtype],
        "met": statistics.median(ratios) >= TARGETS[dtype],
        "extrapolated": rows[key]["extrapolated"],
    }


def first_frame(repeats: int, device: torch.device) -> dict[str, Any]:
    """From the click, models loaded, to the first frame of both members as PNG; ``COUNT`` images."""
    try:
        pair = next(iter(zoo.pairs()))
        names = trajectories.members_of(pair)
        denoisers = [zoo.load(name, device=device) for name in names]
        of = ", ".join(names)
    except (ValueError, StopIteration) as error:
        shape = (3, RESOLUTION, RESOLUTION)
        networks = [ours("unet", conditioning, device).network for conditioning in ("timestep", "none")]
        denoisers = [Denoiser(network, SCHEDULES["flow"], "velocity", shape) for network in networks]
        of = f"networks with random weights ({str(error) or 'the checkpoint index is empty'})"
    seconds = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        stream = trajectories.compare(denoisers, zoo.seed_range(SEED, COUNT), **trajectories.default_options(denoisers[0]))
        frame, _record = next(stream)
        for images in (*frame.xt, *frame.x0_hat):
            trajectories.grid(images).save(io.BytesIO(), format="PNG")
        seconds.append(time.perf_counter() - began)
        stream.close()
    return {"of": of, "images": COUNT, "seconds": spread(seconds[1:])}


def app() -> dict[str, Any]:
    """Start of ``python -m app`` to its first answer, and its peak memory after one comparison of ``COUNT`` images."""
    try:
        pair = next(iter(zoo.pairs()), None)
        if pair is None:
            return {"skipped": f"{zoo.ROOT / 'index.json'} lists no models"}
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
                    return {"skipped": f"the app ended at once: {(process.stderr.read() or 'no message').splitlines()[-1]}"}
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

            client = Client(address, verbose=False)
            sent = time.perf_counter()
            options = {"pair": pair, "sampler": "heun", "steps": STEPS, "seed": SEED, "count": COUNT}
            client.predict(**options, api_name="/compare")
            return {
                "start_seconds": started,
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
    for row in report["variants"].values():
        speed = row["images_per_second"]
        memory = row["memory"]
        lines.append(
            f"{row['name'] + (', extrapolated*' if row['extrapolated'] else ''):<66}"
            f"{speed['median']:>10.3g} ({speed['min']:.3g}-{speed['max']:.3g})".ljust(90)
            + f"{row['gflop_per_evaluation']:>12.2f}{row['parameters'] / 1e6:>8.2f}{row['gflop_per_second']:>9.3g}"
            f"{row['share_of_matrix_rate']:>11.0%}"
            + (f"{memory.get('device_mib', memory['process_mib']):>10.0f}" if memory else f"{'-':>10}")
        )
    rates = report["matrix_gflop_per_second"]
    lines.append(f"matrix products: float32 {rates['float32']:.3g} GFLOP/s, bfloat16 {rates['bfloat16']:.3g} GFLOP/s")
    extrapolated = [row for row in report["variants"].values() if row["extrapolated"]]
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
    frame = report["first_frame"]
    seconds = frame["seconds"]
    lines += [
        "",
        f"click to first frame: {seconds['median']:.3f} s ({seconds['min']:.3f}-{seconds['max']:.3f}), "
        f"{frame['images']} images, {frame['of']}",
    ]
    if "skipped" in report["app"]:
        lines.append(f"app: not measured, {report['app']['skipped']}")
    else:
        lines.append(
            "app: {start_seconds:.1f} s from start to the first answer; peak {peak_mib:.0f} MiB after one comparison "
            "({compare}: {compare_seconds:.1f} s)".format(**report["app"])
        )
    return "\n".join(lines)


def main() -> None:
    """Parses the command line, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--repeats", type=int, default=5, help="timings of each variant (default: 5)")
    parser.add_argument("--quick", action="store_true", help="one repeat, no memory, no app: does it run?")
    parser.add_argument("--device", type=torch.device, default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--threads", type=int, help="torch's threads (default: its own choice)")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.repeats < 1 or (options.threads or 1) < 1:
        parser.error("--repeats and --threads must be at least 1")
    if options.device.type == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device here")
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.memory_of:
        measure_memory(options.memory_of, options.device)
        return
    diffusers.utils.logging.set_verbosity_error()  # UNet2DModel.to warns about nothing
    repeats = 1 if options.quick else options.repeats
    report: dict[str, Any] = {
        "hardware": hardware_name(options.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "python": platform.python_version(),
        "load_before": os.getloadavg(),
        "images": COUNT,
        "resolution": RESOLUTION,
        "steps": STEPS,
        "evaluations": evaluations(STEPS),
        "seed": SEED,
        "repeats": repeats,
        **sampling(options.device, repeats, memory=not options.quick),
        "first_frame": first_frame(repeats, options.device),
        "app": {"skipped": "left out by --quick"} if options.quick else app(),
    }
    print(json.dumps(report, indent=2) if options.json else table(report))


if __name__ == "__main__":
    main()
