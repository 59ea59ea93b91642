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
from explore.values import choose, whole_number

NEIGHBORS = 15  # for UMAP and for the trustworthiness
REDUCED = 50  # principal components as input for UMAP


def principal(points: Tensor, components: int, seed: int = 0) -> tuple[Tensor, list[float]]:
    """Returns the principal components and their shares of the variance.

    With at most 1,024 points or dimensions, by an eigendecomposition of the covariance or Gram matrix, whichever is smaller.
    Otherwise by a randomized block Krylov method, with errors of about 1e-5 of the largest coordinate.

    Args:
        points: (n, D), any unit.
        components: Number of components; at most min(n, D) exist.
        seed: Seed of the random starting block; it changes results within these errors only.

    Returns:
        Coordinates float32 (n, components), each axis with its largest coordinate positive, zero beyond min(n, D);
        and the share of the variance on each axis, from 0 to 1.

    Source: Musco and Musco, arXiv 1504.05477, algorithm 2.
    """
    centered = points.double() if min(points.shape) <= 1024 else points.float()
    centered = centered - centered.mean(0)
    n, width = centered.shape
    found = min(components, n, width)
    if min(n, width) <= 1024:
        gram = centered.T @ centered if width <= n else centered @ centered.T
        vectors = torch.linalg.eigh(gram).eigenvectors.flip(1)[:, :found]
        coordinates = centered @ vectors if width <= n else vectors * (vectors.T @ centered).norm(dim=1)
    else:
        # For 50 components of recorded xt, scikit-learn with ARPACK has errors of 2e-4 in float32 and takes 3 times as
        # long in float64; its randomized solver has errors of 1% and more.
        generator = torch.Generator().manual_seed(seed)
        block = torch.linalg.qr(torch.randn(width, found + 8, generator=generator)).Q
        blocks = [block]
        for _ in range(8 if found > 10 else 16):
            blocks.append(torch.linalg.qr(centered.T @ (centered @ blocks[-1])).Q)
        basis = torch.linalg.qr(torch.cat(blocks, dim=1)).Q
        inside = centered @ basis
        vectors = torch.linalg.eigh((inside.T @ inside).double()).eigenvectors.flip(1)[:, :found]
        coordinates = inside.double() @ vectors
    largest = coordinates.gather(0, coordinates.abs().argmax(0, keepdim=True))
    coordinates = coordinates * torch.where(largest < 0, -1.0, 1.0)
    total = centered.double().square().sum().clamp(min=1e-300)
    shares = (coordinates.square().sum(0) / total).tolist()
    missing = components - found
    return torch.nn.functional.pad(coordinates.float(), (0, missing)), shares + [0.0] * missing


def pca(points: Tensor, dimensions: int, seed: int) -> tuple[Tensor, dict[str, Any]]:
    """Projects onto the first principal components of the union of all points: :func:`principal`."""
    coordinates, shares = principal(points, dimensions, seed)
    return coordinates, {"variance": shares}


_ONE_UMAP = threading.Lock()  # overlapping calls crash the process with numba's default threading layer


def umap(points: Tensor, dimensions: int, seed: int) -> tuple[Tensor, dict[str, Any]]:
    """UMAP of the first 50 principal components. It preserves neighborhoods; distances on the map have no meaning.

    It is initialized with the principal components. The seed makes it single-threaded and reproducible on one machine. The
    first call in a process takes several seconds for compilation.

    Raises:
        ValueError: For too few points.

    Source: McInnes, Healy and Melville, arXiv 1802.03426. Initialization: Kobak and Linderman, Nature Biotechnology 39
    (2021).
    """
    neighbors = min(NEIGHBORS, len(points) - 1)
    if len(points) < 2 * dimensions + 4:
        raise ValueError(f"umap needs at least {2 * dimensions + 4} points, got {len(points)}: take more images or steps")
    import umap as library  # imported here because it takes seconds

    reduced, shares = principal(points, min(REDUCED, *points.shape), seed)
    begin = torch.nn.functional.pad(reduced[:, :dimensions], (0, max(0, dimensions - reduced.shape[1]))).double().numpy()
    # The maximum avoids a division by 0 if all points are equal.
    begin = begin / max(begin.std(), 1e-12) + 1e-3 * np.random.default_rng(seed).normal(size=begin.shape)
    # Exact neighbors from here: UMAP's own search would call Python for every pair of points, or compile for four seconds.
    apart = torch.cdist(reduced, reduced).fill_diagonal_(-1)  # each point is its own nearest, also among equal points
    distances, nearest = apart.topk(neighbors, largest=False)
    found = nearest.numpy(), distances.clamp(min=0).numpy(), None
    fit = library.UMAP(
        n_neighbors=neighbors, n_components=dimensions, init=begin, random_state=seed, n_jobs=1, n_epochs=300,
        precomputed_knn=found, force_approximation_algorithm=True,
    )  # fmt: skip
    with _ONE_UMAP, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*knn_search_index")  # its maps cannot take new points: none come
        threads = torch.get_num_threads()
        try:
            coordinates = torch.from_numpy(np.asarray(fit.fit_transform(reduced.numpy()), dtype=np.float32))
        finally:
            torch.set_num_threads(threads)  # numba sets OpenMP, and with it torch, to all cores
    return coordinates, {"reduced_to": reduced.shape[1], "variance_before_umap": sum(shares), "neighbors": neighbors}


def project(paths: Trajectories, space: str = "xt", projection: str = "pca", dimensions: int = 2, seed: int = 0) -> Map:
    """Returns one map of both members' paths.

    Args:
        paths: The recorded paths.
        space: ``xt``, ``x0_hat`` or a recorded hook point. The channels of two networks do not correspond: at a
            hook point, a distance between the members means little.
        projection: A key of ``PROJECTIONS``.
        dimensions: 2 or 3.
        seed: 0 to 2^32 - 1; the same seed gives the same coordinates on the same machine.

    Raises:
        ValueError: For an unknown space or projection, other dimensions, or too few points.

    Source of the trustworthiness: Venna and Kaski, ICANN 2001; by scikit-learn, from distances in the full space.
    """
    choose("space", space, paths.points)
    choose("projection", projection, PROJECTIONS)
    check_seeds([seed])
    dimensions = whole_number("dimensions", dimensions, 2, 3)
    points = paths.points[space].float()
    shape, points = points.shape[:3], points.flatten(3).flatten(0, 2)  # (2 N F, D)
    coordinates, about = PROJECTIONS[projection](points, dimensions, seed)
    from sklearn.manifold import trustworthiness

    neighbors = min(NEIGHBORS, (len(points) - 1) // 2)
    apart = torch.cdist(points, points).fill_diagonal_(0).numpy()
    trust = float(trustworthiness(apart, coordinates.numpy(), n_neighbors=neighbors, metric="precomputed"))
    return Map(space, projection, seed, coordinates.unflatten(0, shape), trust, neighbors, about)


PROJECTIONS: dict[str, Callable[[Tensor, int, int], tuple[Tensor, dict[str, Any]]]] = {"pca": pca, "umap": umap}
