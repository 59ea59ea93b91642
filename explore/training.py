"""The trainer of the shipped checkpoints: one configuration, one process, the members of a pair stepping in turn.

Members see the same images in the same order, with the same t and noise. Draws are keyed by (seed, step), so they are the
same in a resumed run, on several processes and in an uninterrupted run. Loss: mean squared error of the network's output, with
weight 1 at every t; EMA of the weights with a half-life in images. Recipe after Karras et al.,
arXiv 2206.00364, and Tong et al., arXiv 2302.00482. Depends on data, denoiser, models, samplers, zoo.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import shutil
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from explore import files, zoo
from explore.data import load_images, to_float, to_uint8
from explore.denoiser import PREDICTIONS, Denoiser
from explore.hardware import Segment, Team, continued, fast_bfloat16, hardware_name, keep_freed_memory
from explore.images import grid, png
from explore.models import TIME_CONDITIONINGS, build
from explore.samplers import SAMPLERS, sample
from explore.schedules import SCHEDULES, T_DISTRIBUTIONS
from explore.seeds import check_seeds, keyed_noise
from explore.values import choose

STATE = "state.safetensors"
LOG = "log.jsonl"
GRID_SEEDS = tuple(range(16))
HELD_OUT_IMAGES = 256
MAX_WEIGHTS = 10_000_000  # bytes of a shipped weights file


@dataclass(frozen=True)
class TrainingConfig:
    """One training run of a pair; the fields of the JSON file for ``python -m explore train``.

    Attributes:
        pair: Name of the pair; members are named ``pair-<time_conditioning>``.
        dataset: Name of the data set for the model card (``celeba``, ``cifar10``).
        resolution: Height and width of the images.
        architecture: A key of ``ARCHITECTURES``.
        network: The architecture's keyword arguments.
        prediction: A key of ``PREDICTIONS``.
        schedule: A key of ``SCHEDULES``.
        members: Values of ``time_conditioning``, in the order in which they step.
        t_distribution: A key of ``T_DISTRIBUTIONS``: ``uniform`` on (0, 1), ``logit-normal`` (location 0, scale 1) or
            ``log-normal`` (of sigma / alpha, location -1.2, scale 1.2).
        images: Images per member in this run; the learning rate decays to 0 over them.
        batch_size: Images per step over all processes.
        learning_rate: AdamW's peak learning rate.
        warmup_images: Images over which the learning rate rises from 0.
        weight_decay: AdamW's.
        clip: Largest gradient norm.
        ema_half_life: In images; None is 5 % of ``images``.
        horizontal_flip: Mirror each image with probability 1/2.
        seed: Of initialization, data order, t and noise.
        sampler: Sampler of the sample grids (its name and options).
    """

    pair: str
    dataset: str
    resolution: int
    architecture: str
    network: dict[str, Any]
    prediction: str
    schedule: str
    members: tuple[str, ...] = ("timestep", "none")
    t_distribution: str = "uniform"
    images: int = 200_000
    batch_size: int = 64
    learning_rate: float = 1e-3
    warmup_images: int = 10_000
    weight_decay: float = 0.0
    clip: float = 1.0
    ema_half_life: int | None = None
    horizontal_flip: bool = True
    seed: int = 0
    sampler: dict[str, Any] = field(default_factory=lambda: {"name": "heun", "steps": 25})

    def __post_init__(self) -> None:
        choose("prediction", self.prediction, PREDICTIONS)
        choose("schedule", self.schedule, SCHEDULES)
        choose("t_distribution", self.t_distribution, T_DISTRIBUTIONS)
        choose("sampler", self.sampler.get("name", ""), SAMPLERS)
        for member in self.members:
            choose("member", member, TIME_CONDITIONINGS)
        if not self.members or len(set(self.members)) != len(self.members):
            raise ValueError(f"members must be different values of time_conditioning, got {list(self.members)}")
        for name in ("images", "batch_size", "resolution", "learning_rate", "clip"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        check_seeds([self.seed])

    @staticmethod
    def read(path: Path) -> TrainingConfig:
        """Reads a recipe, or the recipe inside a model folder's config.json.

        Raises:
            ValueError: For a missing file, an unknown or missing field, or a value out of range.
        """
        content = files.read_json(path)
        content = content.get("training", content) if isinstance(content, dict) else content
        if not isinstance(content, dict):
            raise ValueError(f"{path} is not a training configuration: a JSON object is needed")
        known = {item.name for item in fields(TrainingConfig)}
        for name in content:
            choose(f"field in {path}:", name, known)
        try:
            return TrainingConfig(**{**content, "members": tuple(content.get("members", ("timestep", "none")))})
        except TypeError as error:
            raise ValueError(f"{path}: {str(error).replace('TrainingConfig.__init__() ', '')}") from None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image, (C, H, W)."""
        return int(self.network.get("image_channels", 3)), self.resolution, self.resolution

    @property
    def half_life(self) -> float:
        """EMA half-life in images."""
        return self.ema_half_life or 0.05 * self.images

    def rate(self, step: int) -> float:
        """Learning rate of ``step``: linear warm-up, then a cosine to 0."""
        seen = step * self.batch_size
        warm = min(1.0, (seen + self.batch_size) / max(self.warmup_images, self.batch_size))
        return self.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, seen / self.images)))


def key(*parts: object) -> int:
    """A 32-bit seed from ``parts``, the same on every machine."""
    return int.from_bytes(hashlib.sha256(":".join(map(str, parts)).encode()).digest()[:4], "little")


def batch_indices(config: TrainingConfig, step: int, count: int) -> np.ndarray:
    """Indices (batch_size,) of the images of ``step``, from an endless sequence of shuffled epochs over ``count`` images."""
    positions = np.arange(step * config.batch_size, (step + 1) * config.batch_size)
    return np.array([_shuffled(config.seed, number, count)[place] for number, place in zip(*np.divmod(positions, count))])


@functools.lru_cache(maxsize=2)
def _shuffled(seed: int, number: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, number]).permutation(count)


def draw_t(config: TrainingConfig, count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """``count`` training times in [0, 1]."""
    return T_DISTRIBUTIONS[config.t_distribution].draw(SCHEDULES[config.schedule], count, generator, device)


def noised(config: TrainingConfig, x0: Tensor, eps: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """xt and the target of the prediction, both (B, C, H, W), for ``t`` (B,)."""
    schedule = SCHEDULES[config.schedule]
    time = t.double().reshape(-1, 1, 1, 1)
    alpha, sigma = schedule.alpha(time).float(), schedule.sigma(time).float()
    return alpha * x0 + sigma * eps, PREDICTIONS[config.prediction].target(x0, eps, alpha, sigma)


@dataclass
class Progress:
    """Progress of a run, stored in its state file.

    Attributes:
        train_images: Size of the training set.
        step: Steps done.
        seconds: Time spent, over all resumptions.
        images_before: Images that the weights of ``init_from`` had seen.
        hardware: Description of every machine used, with its precision.
        segments: Parts of the run by machine and precision; of those trained before states recorded them, none.
        data_sha256: Of the training images' shape and pixels; empty (unknown) in old states.
    """

    train_images: int
    step: int = 0
    seconds: float = 0.0
    images_before: int = 0
    hardware: list[str] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    data_sha256: str = ""


class Member:
    """One network of the pair with its optimizer and average."""

    def __init__(self, config: TrainingConfig, time_conditioning: str, accelerator: Accelerator, compiled: bool) -> None:
        self.config, self.accelerator, self.time_conditioning = config, accelerator, time_conditioning
        self.name = f"{config.pair}-{time_conditioning}"
        self.network = build(config.architecture, time_conditioning, config.network, config.seed)
        self.network.to(accelerator.device).to(memory_format=torch.channels_last)
        decay = 0.5 ** (config.batch_size / config.half_life)
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(decay))
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        runs = torch.compile(self.network) if compiled else self.network
        self.model, self.optimizer = accelerator.prepare(runs, optimizer)

    def step(self, xt: Tensor, t: Tensor, target: Tensor, step: int) -> Tensor:
        """One optimizer step on this process's share of the batch; returns its loss, still on the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate(step)
        # Members draw the same dropout masks, also after a resume.
        torch.manual_seed(key(self.config.seed, "dropout", step, self.accelerator.process_index))
        self.model.train()
        with self.accelerator.autocast():
            output = self.model(xt, t)
        loss = (output.float() - target).square().mean()
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update_parameters(self.network)
        return loss.detach()

    def denoiser(self) -> Denoiser:
        """The averaged network as a Denoiser."""
        return Denoiser(self.average.module.eval(), SCHEDULES[self.config.schedule], self.config.prediction, self.config.shape)

    @torch.no_grad()
    def held_out_loss(self, batches: list[tuple[Tensor, Tensor, Tensor]]) -> float:
        """Loss of the averaged network on fixed held-out images, times and noise."""
        network = self.average.module.eval()
        total = torch.zeros((), device=self.accelerator.device)
        for xt, t, target in batches:
            with self.accelerator.autocast():
                output = network(xt, t)
            total += (output.float() - target).square().mean() * len(xt)
        return total.item() / sum(len(t) for _, t, _ in batches)

    def state(self) -> dict[str, Tensor]:
        """Weights, average and optimizer state as flat tensors."""
        tensors = {f"network/{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= {f"average/{name}": tensor for name, tensor in self.average.module.state_dict().items()}
        tensors["averaged"] = self.average.n_averaged
        for name, parameter in self.network.named_parameters():
            for part, tensor in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer/{part}/{name}"] = tensor
        return {f"{self.time_conditioning}/{name}": tensor for name, tensor in tensors.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Restores a :meth:`state`."""
        own = {
            name.removeprefix(f"{self.time_conditioning}/"): tensor
            for name, tensor in tensors.items()
            if name.startswith(f"{self.time_conditioning}/")
        }
        for part, module in (("network/", self.network), ("average/", self.average.module)):
            chosen = {name.removeprefix(part): tensor for name, tensor in own.items() if name.startswith(part)}
            zoo.load_tensors(module, chosen, STATE)
        self.average.n_averaged.copy_(own["averaged"])
        for name, parameter in self.network.named_parameters():
            for stored, tensor in own.items():
                if stored.startswith("optimizer/") and stored.split("/", 2)[2] == name:
                    part = stored.split("/", 2)[1]
                    # The fused optimizer needs moments in the memory layout of their (channels-last) parameter.
                    like = parameter if tensor.shape == parameter.shape else tensor
                    self.optimizer.state[parameter][part] = torch.empty_like(like, device=parameter.device).copy_(tensor)

    def start_from(self, path: Path) -> int:
        """Initializes from shipped weights; returns the number of images they have seen."""
        folder = path / self.name if (path / self.name).is_dir() else path
        entries = zoo.Zoo(folder.parent).index() if (folder.parent / "index.json").is_file() else {}
        weights = folder / "weights.safetensors"
        if folder.name in entries:
            entry = entries[folder.name]
            tensors = zoo.read_weights(weights, size=entry["size"], sha256=entry["sha256"])
        else:  # the output folder of a run, without an index
            if not weights.is_file():
                raise ValueError(f"no weights of {self.name} at {folder}: give a folder that holds {self.name}/")
            tensors = files.load_tensors(weights)
        config = files.read_json(folder / "config.json")
        if config.get("time_conditioning") != self.time_conditioning:
            raise ValueError(f"{folder} holds a {config.get('time_conditioning')!r} member, not {self.time_conditioning!r}")
        zoo.load_tensors(self.network, tensors, weights)
        self.average.module.load_state_dict(self.network.state_dict())
        return int(config["images_seen"])

    def weights(self) -> bytes:
        """The averaged weights as float16 safetensors."""
        tensors = {name: tensor.half() for name, tensor in self.average.module.state_dict().items()}
        return files.to_safetensors(tensors, {"format": "pt", "name": self.name})


def train(
    config: TrainingConfig,
    data: str,
    out: Path,
    *,
    init_from: Path | None = None,
    limit_seconds: float | None = None,
    limit_images: int | None = None,
    save_every: float = 120.0,
    log_images: int = 5_000,
    grid_images: int = 25_000,
    compiled: bool | None = None,
) -> Path:
    """Trains every member of a pair, or resumes the run in ``out``.

    Args:
        config: The run.
        data: Source of images, see :func:`explore.data.load_images`; its ``test`` split gives the held-out loss.
        out: Folder of the run: state, log, grids, and one folder per member with weights and configuration.
        init_from: A checkpoint folder (or another run's ``out``) with the initial weights.
        limit_seconds: Stop after this time; the run can be resumed.
        limit_images: Use only the first images of the data (for a trial run).
        save_every: Seconds between saves of the state.
        log_images: Images between log entries.
        grid_images: Images between sample grids, each with the held-out loss of every member.
        compiled: Use torch.compile; by default on a GPU only.

    Returns:
        ``out``.

    Raises:
        ValueError: If the configuration does not match the run in ``out``, the data or the weights, or another training
            writes to ``out``.
    """
    # One process writes; a second training in the same folder would overwrite the files of the first.
    with files.claimed(out, "training") if Team.now().index == 0 else contextlib.nullcontext():
        _train(config, data, out, init_from, limit_seconds, limit_images, save_every, log_images, grid_images, compiled)
    return out


def _train(
    config: TrainingConfig,
    data: str,
    out: Path,
    init_from: Path | None,
    limit_seconds: float | None,
    limit_images: int | None,
    save_every: float,
    log_images: int,
    grid_images: int,
    compiled: bool | None,
) -> None:
    began = time.monotonic()
    # The precision depends on the device, which PartialState has before the Accelerator exists.
    accelerator = Accelerator(mixed_precision="bf16" if fast_bfloat16(PartialState().device) else "no")
    if config.batch_size % accelerator.num_processes:
        raise ValueError(
            f"batch_size {config.batch_size} must be a multiple of the number of processes, {accelerator.num_processes}"
        )
    device = accelerator.device
    if device.type == "cpu":
        keep_freed_memory()
    compiled = device.type == "cuda" if compiled is None else compiled
    main = accelerator.is_main_process
    channels, *size = config.shape
    images = load_images(data, size, "train", channels=channels)[:limit_images].to(device)
    held_out = _held_out_batches(config, load_images(data, size, "test", channels=channels)[:HELD_OUT_IMAGES], device)
    members = [Member(config, member, accelerator, compiled) for member in config.members]
    content = content_of(images)
    progress = Progress(train_images=len(images), data_sha256=content)
    state_path = out / STATE
    if state_path.exists():
        progress = _load_state(state_path, config, members)
        if progress.train_images != len(images):
            raise ValueError(f"{out} was trained on {progress.train_images} images, {data} has {len(images)}")
        if progress.data_sha256 not in ("", content):
            raise ValueError(
                f"{out} was trained on other images (sha256 {progress.data_sha256[:12]}...) than {data} has "
                f"({content[:12]}...), though as many: give the same data or another --out"
            )
        progress.data_sha256 = content
    elif init_from is not None:
        before = {member.start_from(init_from) for member in members}
        if len(before) > 1:
            raise ValueError(f"members in {init_from} have seen different numbers of images: {sorted(before)}")
        progress.images_before = before.pop()
    computed = {"bf16": "bfloat16", "no": "float32"}[accelerator.mixed_precision]
    hardware = f"{hardware_name(device, accelerator.num_processes)}, {computed}"
    progress.hardware += [] if hardware in progress.hardware else [hardware]
    seen = progress.step * config.batch_size
    progress.segments = continued(progress.segments, seen, computed, device, accelerator.num_processes)

    out.mkdir(parents=True, exist_ok=True)
    log = _Log(out / LOG, progress.step, enabled=main)
    spent_before = progress.seconds
    steps = math.ceil(config.images / config.batch_size)
    share = config.batch_size // accelerator.num_processes
    mine = slice(accelerator.process_index * share, (accelerator.process_index + 1) * share)
    losses: dict[str, list[Tensor]] = {member.name: [] for member in members}
    last_save = last_log = time.monotonic()
    logged = progress.step

    def due(step: int, every: int) -> bool:
        return (step * config.batch_size) // every != ((step - 1) * config.batch_size) // every

    bar = tqdm(total=steps, initial=progress.step, unit="step", disable=not main, desc=config.pair, mininterval=1)
    for step in range(progress.step, steps):
        indices = torch.from_numpy(batch_indices(config, step, len(images))).to(device)
        generator = torch.Generator(device).manual_seed(key(config.seed, "noise", step))
        # Every process draws the whole batch and keeps its share, so draws do not depend on the number of processes.
        t = draw_t(config, config.batch_size, generator, device)[mine]
        eps = torch.randn((config.batch_size, *images.shape[1:]), generator=generator, device=device)[mine]
        flip = torch.rand(config.batch_size, generator=generator, device=device)[mine] < 0.5
        x0 = to_float(images[indices[mine]])
        if config.horizontal_flip:
            x0 = torch.where(flip[:, None, None, None], x0.flip(3), x0)
        xt, target = noised(config, x0, eps, t)
        xt = xt.contiguous(memory_format=torch.channels_last)
        for member in members:
            losses[member.name].append(member.step(xt, t, target, step))
        bar.update()
        done = step + 1
        progress.step, progress.seconds = done, spent_before + time.monotonic() - began

        if due(done, log_images) or done == steps:
            means = {name: accelerator.reduce(torch.stack(values).mean(), "mean").item() for name, values in losses.items()}
            losses = {member.name: [] for member in members}
            now = time.monotonic()
            if main:
                speed = (done - logged) * config.batch_size * len(members) / (now - last_log)
                log.write(
                    {
                        "step": done,
                        "images_seen": progress.images_before + done * config.batch_size,
                        "seconds": round(progress.seconds, 1),
                        "images_per_second": round(speed, 1),  # over all members
                        "rate": config.rate(step),
                        "loss": means,
                    }
                )
                bar.set_postfix({name.rsplit("-", 1)[1]: f"{value:.4f}" for name, value in means.items()})
            last_log, logged = now, done
        if due(done, grid_images) or done == steps:
            if main:
                log.write({"step": done, "held_out_loss": {member.name: member.held_out_loss(held_out) for member in members}})
                _write_grid(out / f"grid-{done * config.batch_size:09d}.png", config, members)
            last_log = time.monotonic()  # images/s excludes grids
        stop = limit_seconds is not None and time.monotonic() - began >= limit_seconds
        if accelerator.num_processes > 1 and limit_seconds is not None:
            stop = bool(accelerator.reduce(torch.tensor(float(stop), device=device), "sum").item())
        if main and (done == steps or stop or time.monotonic() - last_save >= save_every):
            _save_state(state_path, config, members, progress)
            for member in members:  # a killed run leaves usable weights
                _export(out / member.name, config, member, progress)
            last_save = time.monotonic()
        if stop:
            break
    bar.close()
    accelerator.wait_for_everyone()
    accelerator.end_training()


def content_of(images: Tensor) -> str:
    """sha256 of the shape and pixels of uint8 ``images`` (N, C, H, W), in order."""
    digest = hashlib.sha256(str(tuple(images.shape)).encode())
    for part in images.split(4096):
        digest.update(part.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _held_out_batches(config: TrainingConfig, images: Tensor, device: torch.device) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Held-out images at evenly spread quantiles of the training times, with fixed noise."""
    x0 = to_float(images)
    t = (torch.arange(len(x0)) + 0.5) / len(x0)
    t = t[torch.randperm(len(x0), generator=torch.Generator().manual_seed(key(config.seed, "held-out")))]
    t = T_DISTRIBUTIONS[config.t_distribution].quantile(SCHEDULES[config.schedule], t)
    eps = keyed_noise(range(len(x0)), x0.shape[1:])
    xt, target = noised(config, x0, eps, t)
    xt = xt.contiguous(memory_format=torch.channels_last)
    return [tuple(part.to(device) for part in triple) for triple in zip(xt.split(64), t.split(64), target.split(64))]


class _Log:
    """JSON lines. A resumed run drops later steps, so that no step appears twice."""

    def __init__(self, path: Path, step: int, enabled: bool) -> None:
        self.path, self.enabled = path, enabled
        if not enabled:
            return
        lines = path.read_text().splitlines() if path.exists() else []
        kept = []
        for line in lines:
            try:
                kept += [line] if json.loads(line)["step"] <= step else []
            except (json.JSONDecodeError, KeyError):
                continue  # a line that was cut short by a kill
        files.write_atomically(path, "".join(f"{line}\n" for line in kept))

    def write(self, entry: dict[str, Any]) -> None:
        if not self.enabled:
            return
        with self.path.open("a") as file:
            file.write(files.to_json(entry) + "\n")


def _save_state(path: Path, config: TrainingConfig, members: list[Member], progress: Progress) -> None:
    tensors = {name: tensor for member in members for name, tensor in member.state().items()}
    files.save_state(path, tensors, progress=asdict(progress), config=asdict(config))


def _load_state(path: Path, config: TrainingConfig, members: list[Member]) -> Progress:
    tensors, metadata = files.load_state(path)
    stored, given = metadata["config"], json.loads(json.dumps(asdict(config)))
    for name in given:
        if stored.get(name) != given[name]:
            raise ValueError(
                f"{path} belongs to a run with {name} = {stored.get(name)!r}, the configuration says {given[name]!r}; "
                "give the same configuration or another --out"
            )
    for member in members:
        member.restore(tensors)
    segments = [Segment(**one) for one in metadata["progress"].get("segments", ())]
    return Progress(**metadata["progress"] | {"segments": segments})


def _write_grid(path: Path, config: TrainingConfig, members: list[Member]) -> None:
    """One row of samples per member, from the same noise."""
    options = dict(config.sampler)
    name = options.pop("name")
    rows = [sample(member.denoiser(), GRID_SEEDS, name, **options) for member in members]
    files.write_atomically(path, png(grid(to_uint8(torch.cat(rows)), scale=2, columns=len(GRID_SEEDS))))


def _export(folder: Path, config: TrainingConfig, member: Member, progress: Progress) -> None:
    """Writes weights and configuration of one member in the zoo's format."""
    description = {
        "dataset": config.dataset,
        "resolution": config.resolution,
        "architecture": config.architecture,
        "network": config.network,
        "time_conditioning": member.time_conditioning,
        "prediction": config.prediction,
        "schedule": config.schedule,
        "images_seen": progress.images_before + progress.step * config.batch_size,
        "train_images": progress.train_images,
        "seconds": round(progress.seconds),  # of the whole run, all members together
        "hardware": progress.hardware,
        "segments": [asdict(segment) for segment in progress.segments],
        "finished": progress.step * config.batch_size >= config.images,
        "training": asdict(config),
    }
    files.write_atomically(folder / "weights.safetensors", member.weights())
    files.write_json(folder / "config.json", description)


def release(run: Path, note: str = "") -> list[str]:
    """Copies weights and configuration of the members in ``run`` to the zoo and updates its index.

    Args:
        run: The ``out`` folder of a training run.
        note: A note on the data for the cards, such as which images were held out.

    Returns:
        Names of the models.

    Raises:
        ValueError: If ``run`` holds no exported member, or a weights file is over 10 MB.
    """
    root = zoo.default().root
    folders = sorted(path.parent for path in run.glob("*/weights.safetensors"))
    if not folders:
        raise ValueError(f"{run} holds no exported model: run the trainer to its end, or to its --limit-seconds")
    path = root / "index.json"
    document = files.read_json(path) if path.exists() else {"models": []}
    entries = document["models"]
    configs = {folder.name: files.read_json(folder / "config.json") for folder in folders}
    order = list(next(iter(configs.values()))["training"]["members"])
    names = sorted(configs, key=lambda name: order.index(configs[name]["time_conditioning"]))
    for name in names:
        weights = (run / name / "weights.safetensors").read_bytes()
        if len(weights) > MAX_WEIGHTS:
            raise ValueError(f"the weights of {name} take {len(weights)} bytes, at most {MAX_WEIGHTS} are shipped")
        files.write_atomically(root / name / "weights.safetensors", weights)
        files.write_json(root / name / "config.json", configs[name] | {"note": note})
        if (run / LOG).exists():
            shutil.copyfile(run / LOG, root / name / "training.jsonl")
        entry = {
            "name": name,
            "pair": configs[name]["training"]["pair"],
            "size": len(weights),
            "sha256": hashlib.sha256(weights).hexdigest(),
        }
        known = [other["name"] for other in entries]
        if name in known:
            entries[known.index(name)] = entry
        else:  # next to the other members of its pair
            mates = [number for number, other in enumerate(entries) if other["pair"] == entry["pair"]]
            entries.insert(mates[-1] + 1 if mates else len(entries), entry)
    files.write_json(path, document)
    return names
