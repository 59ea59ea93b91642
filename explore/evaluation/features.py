"""Spaces of features in which sets of images are compared. To add one: one function and one line in ``FEATURES``.

Only Inception-V3 with the standard weights gives what is called FID. Depends on data, encoder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from explore.data import to_float
from explore.encoder import load_encoder

MIN_IMAGES = 16  # a distance between fewer images means nothing
FEATURE_BATCH = 250
INCEPTION_SHA256 = "6726825d"  # first digits of the hash of torch-fidelity's file, as its name has them


@dataclass(frozen=True)
class Features:
    """A space in which sets of images are compared.

    Attributes:
        distance: Name of the Fréchet distance in this space.
        load: (weights file or None, device) -> function of uint8 images (B, 3, H, W), returns float32 (B, D) on the CPU.
    """

    distance: str
    load: Callable[[Path | None, torch.device], Callable[[Tensor], Tensor]]


def _cifar_resnet(weights: Path | None, device: torch.device) -> Callable[[Tensor], Tensor]:
    if weights is not None:
        raise ValueError("the features cifar-resnet ship with the project and take no weights file")
    network = load_encoder(device=device)

    def extract(images: Tensor) -> Tensor:
        return network.features(to_float(images.to(device)).contiguous(memory_format=torch.channels_last)).cpu()

    return extract


def _inception(weights: Path | None, device: torch.device) -> Callable[[Tensor], Tensor]:
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

    if weights is None:
        weights = Path(torch.hub.get_dir()) / "checkpoints" / Path(URL_INCEPTION_V3).name
        if not weights.is_file():
            weights.parent.mkdir(parents=True, exist_ok=True)
            try:
                torch.hub.download_url_to_file(URL_INCEPTION_V3, str(weights), INCEPTION_SHA256, progress=False)
            except (OSError, RuntimeError) as error:
                raise ValueError(
                    f"cannot fetch Inception's standard weights ({error}); download {URL_INCEPTION_V3} and pass it as --weights"
                ) from None
    # torch-fidelity unpickles the file, which can run any code, so only the file with the known hash is passed on.
    if not weights.is_file():
        raise ValueError(f"no file {weights}")
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(INCEPTION_SHA256):
        raise ValueError(f"{weights} has sha256 {digest[:8]}..., Inception's standard weights have {INCEPTION_SHA256}...")
    network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(weights))
    network.to(device)
    return lambda images: network(images.to(device))[0].float().cpu()


FEATURES: dict[str, Features] = {
    "cifar-resnet": Features("FD[cifar-resnet]", _cifar_resnet),
    "inception": Features("FID", _inception),
}


@torch.no_grad()
def extract(images: Tensor, features: Callable[[Tensor], Tensor], progress: str = "") -> Tensor:
    """Features (N, D) of uint8 ``images`` (N, 3, H, W), in batches; ``progress`` labels a progress bar, none if empty."""
    parts = images.split(FEATURE_BATCH)
    return torch.cat([features(part) for part in tqdm(parts, desc=progress, disable=not progress, unit="batch")])


def distances(generated: Tensor, reference: Tensor) -> dict[str, float]:
    """Fréchet distance, KID, precision and recall between two sets of features.

    Args:
        generated: (N, D), N at least ``MIN_IMAGES``.
        reference: (M, D), M at least ``MIN_IMAGES``.

    Returns:
        ``fd``; ``kid`` and ``kid_std`` over 100 subsets of at most 1,000; ``precision`` and ``recall`` with the third
        nearest neighbor. All as torch-fidelity computes them.

    Raises:
        ValueError: If there are too few images.
    """
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    for name, part in (("samples", generated), ("reference", reference)):
        if len(part) < MIN_IMAGES:
            raise ValueError(f"distances need at least {MIN_IMAGES} images, got {len(part)} ({name})")
    fid = fid_statistics_to_metric(fid_features_to_statistics(generated), fid_features_to_statistics(reference), False)
    size = min(1000, len(generated), len(reference))
    kid = kid_features_to_metric(generated, reference, kid_subset_size=size, verbose=False)
    nearest = prc_features_to_metric(generated, reference, save_cpu_ram=True, verbose=False)
    return {
        "fd": fid["frechet_inception_distance"],
        "kid": kid["kernel_inception_distance_mean"],
        "kid_std": kid["kernel_inception_distance_std"],
        "precision": nearest["precision"],
        "recall": nearest["recall"],
    }
