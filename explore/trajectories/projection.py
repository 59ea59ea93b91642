"""Maps of recorded paths: principal components, UMAP, the registry of projections. Depends on maps, recorder, seeds, values.

scikit-learn and UMAP are imported where they are used.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explore.seeds import check_seeds
from explore.trajectories.maps import Map
from explore.trajectories.recorder import Trajectories
from explore.values import choose, plain_number

NEIGHBOURS = 15
REDUCED = 50  # dimensions that UMAP is given


def principal(points: Tensor, components: int, seed: int = 0) -> tuple[Tensor, list[float]]:
    """Principal components.

    With at most 1,024 points or dimensions by eigenvectors of the smaller of the two products, else by a randomised block
    Krylov method, which finds the leading components to float32's accuracy at a small part of the cost.

    Args:
        points: (n, D), any unit.
        components: At most min(n, D) are found.
        seed: Of the random start; it decides the last bits only.

    Returns:
        Coordinates float32 (n, components), each axis with its largest coordinate positive, zero where there are no more
        components; and the share of the variance on each axis, from 0 to 1.

    Source: Musco and Musco, arXiv 1504.05477, algorithm 2.
    """
    centred = points.double() if min(points.shape) <= 1024 else points.float()
    centred = centred - centred.mean(0)
    n, width = centred.shape
    found = min(components, n, width)
    if min(n, width) <= 1024:
        gram = centred.T @ centred if width <= n else centred @ centred.T
        vectors = torch.linalg.eigh(gram).eigenvectors.flip(1)[:, :found]
        coordinates = centred @ vectors if width <= n else vectors * (vectors.T @ centred).norm(dim=1)
    else:
        generator = torch.Generator().manual_seed(seed)
        block = torch.linalg.qr(torch.randn(width, found + 8, generator=generator)).Q
        blocks = [block]
        for _ in range(8 if found > 10 else 16):
            blocks.append(torch.linalg.qr(centred.T @ (centred @ blocks[-1])).Q)
        basis = torch.linalg.qr(torch.cat(blocks, dim=1)).Q
        inside = centred @ basis
        vectors = torch.linalg.eigh((inside.T @ inside).double()).eigenvectors.flip(1)[:, :found]
        coordinates = inside.double() @ vectors
    largest = coordinates.gather(0, coordinates.abs().argmax(0, keepdim=True))
    coordinates = coordinates * torch.where(largest < 0, -1.0, 1.0)
    total = centred.double().square().sum().clamp(min=1e-300)
    shares = (coordinates.square().sum(0) / total).tolist()
    missing = components - found
    return torch.nn.functional.pad(coordinates.float(), (0, missing)), shares + [0.0] * missing


def pca(points: Tensor, dimensions: int, seed: int) -> tuple[Tensor, dict[str, Any]]:
    """The axes along which the union of all points spreads most: :func:`principal`."""
    coordinates, shares = principal(points, dimensions, seed)
    return coordinates, {"variance": shares}


_ONE_UMAP = threading.Lock()  # numba's default threads end the process when two calls overlap


def umap(points: Tensor, dimensions: int, seed: int) -> tuple[Tensor, dict[str, Any]]:
    """UMAP of the first 50 principal components: keeps neighbours together, and says nothing of distances.

    It begins at the principal components and is seeded, hence single-threaded and the same at every call on a machine. The
    first call in a process compiles for several seconds.

    Source: McInnes, Healy and Melville, arXiv 1802.03426; a start at the principal components after Kobak and Linderman,
    Nature Biotechnology 39 (2021).
    """
    neighbours = min(NEIGHBOURS, len(points) - 1)
    if len(points) < 2 * dimensions + 4:
        raise ValueError(f"umap needs at least {2 * dimensions + 4} points, got {len(points)}: take more images or steps")
    import umap as library  # here, where it is used: it takes seconds

    reduced, shares = principal(points, min(REDUCED, *points.shape), seed)
    begin = torch.nn.functional.pad(reduced[:, :dimensions], (0, max(0, dimensions - reduced.shape[1]))).double().numpy()
    # An axis on which nothing differs would be divided by 0.
    begin = begin / max(begin.std(), 1e-12) + 1e-3 * np.random.default_rng(seed).normal(size=begin.shape)
    # Distances are computed here: UMAP would call Python for every pair of points.
    apart = torch.cdist(reduced, reduced).fill_diagonal_(0).numpy()
    fit = library.UMAP(
        n_neighbors=neighbours, n_components=dimensions, metric="precomputed", init=begin, random_state=seed, n_jobs=1,
        n_epochs=300,
    )  # fmt: skip
    with _ONE_UMAP, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="using precomputed metric")  # it could not place new points: none come
        coordinates = torch.from_numpy(np.asarray(fit.fit_transform(apart), dtype=np.float32))
    return coordinates, {"reduced_to": reduced.shape[1], "variance_before_umap": sum(shares), "neighbours": neighbours}


def project(paths: Trajectories, space: str = "xt", projection: str = "pca", dimensions: int = 2, seed: int = 0) -> Map:
    """One map for both members.

    Args:
        paths: What was recorded.
        space: ``xt``, ``x0_hat`` or a recorded hook point. In an activation's space the two networks' channels are axes of
            their own: that members lie apart there means little.
        projection: A key of ``PROJECTIONS``.
        dimensions: 2 or 3.
        seed: 0 to 2^32 - 1; the same one gives the same coordinates on the same machine.

    Raises:
        ValueError: For an unknown space or projection, other dimensions, or too few points.

    Source of the trustworthiness: Venna and Kaski, ICANN 2001; scikit-learn, on distances in the full space.
    """
    choose("space", space, paths.points)
    choose("projection", projection, PROJECTIONS)
    check_seeds([seed])
    if plain_number(dimensions) not in (2, 3):
        raise ValueError(f"dimensions must be 2 or 3, got {dimensions}")
    dimensions = int(dimensions)
    points = paths.points[space].float()
    shape, points = points.shape[:3], points.flatten(3).flatten(0, 2)  # (2 N F, D)
    coordinates, about = PROJECTIONS[projection](points, dimensions, seed)
    from sklearn.manifold import trustworthiness

    neighbours = min(NEIGHBOURS, (len(points) - 1) // 2)
    apart = torch.cdist(points, points).fill_diagonal_(0).numpy()
    trust = float(trustworthiness(apart, coordinates.numpy(), n_neighbors=neighbours, metric="precomputed"))
    return Map(space, projection, seed, coordinates.unflatten(0, shape), trust, neighbours, about)


PROJECTIONS: dict[str, Callable[[Tensor, int, int], tuple[Tensor, dict[str, Any]]]] = {"pca": pca, "umap": umap}
