"""The machine: fast number formats, its name, memory settings, and the processes of ``accelerate launch``.

Depends on nothing of this project.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

PRECISIONS = ("auto", "float32", "bfloat16")


def fast_bfloat16(device: str | torch.device = "cpu") -> bool:
    """Whether the hardware multiplies bfloat16 matrices natively (it can be a hundred times slower where it does not)."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.device(device).type != "cpu":
        return False
    # Feature flags rather than a timing: a timing could choose differently from one run to the next.
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)


def dtype_name(precision: str, device: str | torch.device = "cpu") -> str:
    """Name of the dtype that one of ``PRECISIONS`` stands for on a device."""
    if precision == "auto":
        return "bfloat16" if fast_bfloat16(device) else "float32"
    return precision


def settle(network: nn.Module, precision: str, device: str | torch.device) -> nn.Module:
    """``network`` on its device and in its precision, in evaluation mode and without gradients for its parameters."""
    network = network.to(device, getattr(torch, dtype_name(precision, device))).to(memory_format=torch.channels_last)
    if torch.device(device).type == "cpu":
        keep_freed_memory()
    return network.eval().requires_grad_(False)


@functools.cache
def keep_freed_memory() -> bool:
    """Has glibc keep up to 256 MiB of freed memory for the next evaluation, for the rest of the process.

    By default it hands every large activation back to the system and faults its pages in again, evaluation after
    evaluation: a seventh of the sampling time on a CPU. Results are the same bits either way.

    Returns:
        Whether this C library could be asked; elsewhere nothing changes.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS and musl have no mallopt, Windows no CDLL(None)
        return False
    return bool(mallopt(trim_threshold, 256 * 2**20)) and bool(mallopt(mmap_threshold, 32 * 2**20))  # its upper limit


def hardware_name(device: str | torch.device, processes: int = 1) -> str:
    """The hardware in words, for model cards and measurements."""
    if torch.device(device).type == "cuda":
        return f"{processes} x {processor_name(device)}"
    threads = torch.get_num_threads() * processes
    return f"CPU, {processor_name(device)}, {threads} thread{'s' if threads > 1 else ''}"


def processor_name(device: str | torch.device) -> str:
    """Name of the CPU or GPU."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


@dataclass(frozen=True)
class Segment:
    """A part of a training run, computed by one machine in one precision.

    Attributes:
        first_image: Images that each member had seen in the run when the segment began.
        precision: dtype in which the networks computed; their weights and the optimizer are float32.
        processor: Name of the CPU or GPU.
        processes: That trained together.
        threads: torch's, of all processes.
        torch: Its version.
    """

    first_image: int
    precision: str
    processor: str
    processes: int
    threads: int
    torch: str


def continued(
    segments: list[Segment], first_image: int, precision: str, device: str | torch.device, processes: int = 1
) -> list[Segment]:
    """The segments of a run that goes on here: one more, unless machine and precision are those of the last one."""
    threads = torch.get_num_threads() * processes
    here = Segment(first_image, precision, processor_name(device), processes, threads, torch.__version__)
    return segments if segments and replace(here, first_image=segments[-1].first_image) == segments[-1] else [*segments, here]


def computed_with(dtype: str, device: str | torch.device = "cpu") -> dict[str, str]:
    """What every stored result says of its computation: ``dtype`` of the networks, ``hardware`` and version of ``torch``."""
    return {"dtype": dtype, "hardware": hardware_name(device), "torch": torch.__version__}


@dataclass(frozen=True)
class Team:
    """The processes of `accelerate launch` that share a piece of work; a single one without it.

    Attributes:
        index: Which of them this is, from 0.
        size: Their number.
    """

    index: int = 0
    size: int = 1

    @staticmethod
    def now() -> Team:
        """The team this process was launched in."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:  # what torchrun and `accelerate launch` set
            return Team()
        from accelerate import PartialState

        state = PartialState()
        return Team(state.process_index, state.num_processes)

    def sum(self, tensor: Tensor) -> Tensor:
        """``tensor`` added up over the processes, of which each must ask."""
        if self.size == 1:
            return tensor
        from accelerate import PartialState
        from accelerate.utils import reduce

        return reduce(tensor.to(PartialState().device), "sum").to(tensor.device)

    def wait(self) -> None:
        """Returns when every process has come this far."""
        if self.size > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()
