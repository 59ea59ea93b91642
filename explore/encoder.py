"""A small encoder for use without Inception's weights: a residual network trained to classify CIFAR-10.

Distances in its features are named after it (``FD[cifar-resnet]``), never FID. Trained by ``python -m explore
train-encoder``, shipped in ``checkpoints/cifar-resnet/``, and loaded only if its size and sha256 match the index. Residual
blocks after He et al., arXiv 1512.03385; few and wide layers after David Page, How to train your ResNet (2018). Depends on
data, hardware, seeds and zoo.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from explore import files, zoo
from explore.data import load_images, load_labels, to_float
from explore.hardware import Segment, continued, fast_bfloat16, hardware_name, keep_freed_memory
from explore.seeds import check_seeds

NAME = "cifar-resnet"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")  # in the data set's order
STATE = "state.safetensors"


def _convolution(before: int, after: int, halve: bool = False) -> nn.Sequential:
    """3x3 convolution, 2x2 max pooling if ``halve``, batch norm, ReLU."""
    pool = [nn.MaxPool2d(2)] if halve else []
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), *pool, nn.BatchNorm2d(after), nn.ReLU())


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and ReLU, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(_convolution(channels, channels), _convolution(channels, channels))

    def forward(self, h: Tensor) -> Tensor:
        """(B, channels, H, W) -> the same shape."""
        return h + self.inner(h)


class ResNet(nn.Module):
    """Residual network with nine weight layers, for images of 32 px.

    A convolution, then three that halve the resolution and double the channels, the first and the last followed by a residual
    block; a linear layer on the average over positions. A wide shallow network learns CIFAR-10 in fewer epochs, and uses a CPU
    better, than a deep narrow one.

    Args:
        width: Channels of the first convolution, a multiple of 8; features have eight times as many.
        classes: Number of classes.

    Raises:
        ValueError: For sizes out of range.
    """

    def __init__(self, width: int = 32, classes: int = 10) -> None:
        super().__init__()
        if width < 8 or width % 8:  # with fewer channels a convolution's backward pass on a CPU was seen to crash
            raise ValueError(f"width must be a multiple of 8, got {width}")
        if classes < 2:
            raise ValueError(f"classes must be at least 2, got {classes}")
        self.body = nn.Sequential(
            _convolution(3, width),
            _convolution(width, 2 * width, halve=True),
            ResidualBlock(2 * width),
            _convolution(2 * width, 4 * width, halve=True),
            _convolution(4 * width, 8 * width, halve=True),
            ResidualBlock(8 * width),
        )
        self.head = nn.Linear(8 * width, classes)

    def features(self, images: Tensor) -> Tensor:
        """``images`` (B, 3, H, W) in [-1, 1] -> (B, 8 width), averaged over positions."""
        return self.body(images).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """``images`` (B, 3, H, W) in [-1, 1] -> scores (B, classes)."""
        return self.head(self.features(images))


@dataclass(frozen=True)
class EncoderConfig:
    """A training run of the encoder.

    Attributes:
        width: As of :class:`ResNet`.
        epochs: Passes over the images; the learning rate rises over the first fifth, then decays to 0.
        batch_size: Images per step.
        learning_rate: Peak learning rate of SGD with Nesterov momentum 0.9.
        weight_decay: Of SGD.
        seed: Of initialization, order and augmentation.
        before: The ``training`` of the finished run whose weights this one starts from; None starts from random weights.
    """

    width: int = 32
    epochs: int = 12
    batch_size: int = 128
    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    seed: int = 0
    before: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        check_seeds([self.seed])


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each of uint8 (B, 3, H, W) mirrored with probability 1/2 and shifted by up to 4 px, gray beyond the edge; float."""
    count, _, height, width = images.shape
    device = images.device
    padded = F.pad(to_float(images), (4, 4, 4, 4))
    top, left = (torch.randint(0, 9, (count, 1), generator=generator, device=device) for _ in range(2))
    columns = left + torch.arange(width, device=device)  # (B, W)
    flip = torch.rand(count, 1, generator=generator, device=device) < 0.5
    columns = torch.where(flip, columns.flip(1), columns)
    rows = top + torch.arange(height, device=device)  # (B, H)
    picked = padded.permute(0, 2, 3, 1)[torch.arange(count, device=device)[:, None, None], rows[:, :, None], columns[:, None]]
    return picked.permute(0, 3, 1, 2)  # channels last in memory


def train_encoder(
    config: EncoderConfig,
    data: str,
    out: Path,
    *,
    init_from: Path | None = None,
    limit_images: int | None = None,
    device: str | torch.device | None = None,
) -> dict[str, Any]:
    """Trains the encoder, or resumes the run in ``out`` from its last complete epoch.

    Args:
        config: The run.
        data: Source of labeled images, see :func:`explore.data.load_labels`.
        out: Folder for config.json, weights.safetensors (float16) and the state.
        init_from: The folder of a finished run with the initial weights; ``config.before`` is filled in.
        limit_images: Use only the first images of each split, for a trial run.
        device: By default a GPU if there is one.

    Returns:
        The content of config.json: sizes, accuracy on the test split after every epoch and at the end, time.

    Raises:
        ValueError: If ``out`` holds a run with another configuration, ``init_from`` holds no finished run of the same
            network, or the data has no labels.
    """
    if init_from is not None:
        config = replace(config, before=_finished(init_from)["training"])
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with files.claimed(out, "training"):
        return _train(config, data, out, init_from, limit_images, device)


def _finished(run: Path) -> dict[str, Any]:
    """config.json of a finished run.

    Raises:
        ValueError: If ``run`` holds none.
    """
    description = files.read_json(run / "config.json")
    if not isinstance(description, dict) or "encoder" not in description:
        raise ValueError(f"{run} holds no encoder: run `train-encoder` to its end")
    return description


def _train(
    config: EncoderConfig, data: str, out: Path, init_from: Path | None, limit_images: int | None, device: torch.device
) -> dict[str, Any]:
    began = time.monotonic()
    if device.type == "cpu":
        keep_freed_memory()
    splits = {}
    for split in ("train", "test"):
        images = load_images(data, 32, split)[:limit_images].to(device)
        splits[split] = images, load_labels(data, split)[:limit_images].to(device)
    images, labels = splits["train"]
    torch.manual_seed(config.seed)
    network = ResNet(config.width, int(labels.max()) + 1).to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        network.parameters(), config.learning_rate, momentum=0.9, nesterov=True, weight_decay=config.weight_decay
    )
    steps = -(-len(images) // config.batch_size)
    progress: dict[str, Any] = {"epoch": 0, "seconds": 0.0, "accuracy": []}
    if (out / STATE).exists():
        progress = _restore(out / STATE, config, network, optimizer)
    elif init_from is not None:
        path = init_from / "weights.safetensors"
        zoo.load_tensors(network, files.load_tensors(path), path)
    model: Callable[[Tensor], Tensor] = torch.compile(network) if device.type == "cuda" else network
    half = fast_bfloat16(device)
    spent = progress["seconds"]
    known = [Segment(**one) for one in progress.get("segments", ())]  # states from before have none
    segments = continued(known, progress["epoch"] * len(images), "bfloat16" if half else "float32", device)
    bar = tqdm(total=config.epochs * steps, initial=progress["epoch"] * steps, unit="step", desc=NAME, mininterval=1)
    for epoch in range(progress["epoch"], config.epochs):
        generator = torch.Generator(device).manual_seed((config.seed * 100_003 + epoch) % 2**32)
        network.train()
        for step, chosen in enumerate(torch.randperm(len(images), generator=generator, device=device).split(config.batch_size)):
            done = (epoch * steps + step) / (config.epochs * steps)
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * min(done / 0.2, (1 - done) / 0.8)
            batch = augment(images[chosen], generator)
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                loss = F.cross_entropy(model(batch).float(), labels[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            bar.update()
        progress = {
            "epoch": epoch + 1,
            "seconds": spent + time.monotonic() - began,
            "accuracy": [*progress["accuracy"], _accuracy(network, *splits["test"])],
            "segments": [asdict(segment) for segment in segments],
        }
        bar.set_postfix(accuracy=f"{progress['accuracy'][-1]:.4f}")
        _save(out / STATE, config, network, optimizer, progress)
    bar.close()
    description = {
        "encoder": "resnet",
        "network": {"width": config.width, "classes": network.head.out_features},
        "data": Path(data).name,
        "train_images": len(images),
        "test_images": len(splits["test"][0]),
        "accuracy": progress["accuracy"][-1],
        "accuracy_by_epoch": progress["accuracy"],
        "seconds": round(progress["seconds"]),
        "hardware": hardware_name(device),
        "segments": progress.get("segments", []),
        "training": asdict(config),
    }
    weights = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in network.state_dict().items()}
    files.write_atomically(out / "weights.safetensors", files.to_safetensors(weights))
    files.write_json(out / "config.json", description)
    return description


@torch.no_grad()
def _accuracy(network: ResNet, images: Tensor, labels: Tensor) -> float:
    network.eval()
    right = [
        network(to_float(part).contiguous(memory_format=torch.channels_last)).argmax(1) == answer
        for part, answer in zip(images.split(500), labels.split(500))
    ]
    return torch.cat(right).float().mean().item()


def _save(path: Path, config: EncoderConfig, network: ResNet, optimizer: torch.optim.SGD, progress: dict[str, Any]) -> None:
    tensors = {f"network/{name}": tensor for name, tensor in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        tensors[f"momentum/{name}"] = optimizer.state[parameter]["momentum_buffer"]
    files.save_state(path, tensors, progress=progress, config=asdict(config))


def _restore(path: Path, config: EncoderConfig, network: ResNet, optimizer: torch.optim.SGD) -> dict[str, Any]:
    tensors, metadata = files.load_state(path)
    if EncoderConfig(**metadata["config"]) != config:  # fields absent from a state mean their defaults
        raise ValueError(f"{path} belongs to a run of another configuration; give the same one or another --out")
    network.load_state_dict({name.removeprefix("network/"): t for name, t in tensors.items() if name.startswith("network/")})
    for name, parameter in network.named_parameters():
        buffer = torch.empty_like(parameter).copy_(tensors[f"momentum/{name}"])
        optimizer.state[parameter]["momentum_buffer"] = buffer
    return metadata["progress"]


def release(run: Path) -> str:
    """Copies the encoder in ``run`` to the zoo, writes its size and sha256 to the index, and returns its name.

    Raises:
        ValueError: If ``run`` holds no finished encoder.
    """
    root = zoo.default().root
    description = _finished(run)
    content = (run / "weights.safetensors").read_bytes()
    files.write_atomically(root / NAME / "weights.safetensors", content)
    files.write_json(root / NAME / "config.json", description)
    document = files.read_json(root / "index.json") if (root / "index.json").exists() else {"models": []}
    document["encoder"] = {"name": NAME, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    files.write_json(root / "index.json", document)
    return NAME


def sha256() -> str:
    """That of the encoder's weights, in the default zoo or else the shipped one; empty if there is none."""
    for path in (zoo.folder("index.json"), zoo.companion(NAME).parent / "index.json"):
        if path.exists() and (entry := files.read_json(path).get("encoder")):
            return str(entry["sha256"])
    return ""


def load_encoder(device: str | torch.device = "cpu") -> ResNet:
    """The shipped encoder, in evaluation mode, without gradients.

    Raises:
        ValueError: If none is shipped, or its weights do not match the index.
    """
    root = zoo.companion(NAME).parent
    entry = files.read_json(root / "index.json").get("encoder")
    if entry is None:
        raise ValueError(f"no encoder is shipped in {root}: train one with `python -m explore train-encoder`")
    path = root / entry["name"] / "weights.safetensors"
    tensors = zoo.read_weights(path, size=entry["size"], sha256=entry["sha256"])
    network = ResNet(**files.read_json(root / entry["name"] / "config.json")["network"])
    zoo.load_tensors(network, tensors, path)
    return network.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)


@torch.no_grad()
def name_classes(images: Tensor) -> list[str]:
    """The shipped encoder's CIFAR-10 class of each image. Generated images have no true class.

    Args:
        images: (N, 3, 32, 32) in [-1, 1].

    Returns:
        N elements of ``CLASSES``.

    Raises:
        ValueError: If no encoder is shipped.
    """
    return [CLASSES[number] for number in load_encoder()(images.clamp(-1, 1)).argmax(1).tolist()]
