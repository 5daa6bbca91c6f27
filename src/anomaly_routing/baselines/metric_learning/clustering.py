"""K-means, the silhouette that picks its number of clusters, and the merging of clusters that lie close."""

from __future__ import annotations

import numpy as np

SAMPLE = 1_000  # rows of a silhouette, which compares every pair


def kmeans(x: np.ndarray, k: int, rng: np.random.Generator, starts: int = 3, rounds: int = 50) -> np.ndarray:
    """Centres [k, D] of rows [n, D]: the best of several runs by squared distance, each from a k-means++ start."""
    best, least = x[:k], np.inf
    for _ in range(starts):
        centres = _spread(x, k, rng)
        for _ in range(rounds):
            labels = nearest(x, centres)
            moved = np.array([x[labels == j].mean(0) if (labels == j).any() else centres[j] for j in range(k)])
            if np.array_equal(moved, centres):
                break
            centres = moved
        cost = squared_distances(x, centres).min(1).sum()
        if cost < least:
            best, least = centres, cost
    return best


def silhouette(x: np.ndarray, labels: np.ndarray) -> float:
    """Mean over rows of (b - a) / max(a, b): a the mean distance within the own cluster, b to the nearest other one.

    A row alone in its cluster counts 0. Needs two clusters; with fewer it is -1.
    """
    names, labels = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        return -1.0
    distance = np.sqrt(squared_distances(x, x))
    member = np.eye(len(names))[labels]
    total, size = distance @ member, member.sum(0)
    own = np.arange(len(x)), labels
    within = total[own] / np.maximum(size[labels] - 1, 1)
    mean = total / size
    mean[own] = np.inf
    other = mean.min(1)
    value = (other - within) / np.maximum(np.maximum(within, other), 1e-300)
    return float(np.where(size[labels] > 1, value, 0.0).mean())


def start(x: np.ndarray, counts: range, rng: np.random.Generator) -> np.ndarray:
    """K-means centres of rows [n, D], with the number of clusters in `counts` that has the best silhouette."""
    some = x[np.sort(rng.choice(len(x), min(SAMPLE, len(x)), replace=False))]
    found = [kmeans(x, k, rng) for k in counts if k <= len(x)]
    return max(found, key=lambda centres: silhouette(some, nearest(some, centres)))


def merged(centres: np.ndarray, sizes: np.ndarray, below: float, smallest: int) -> np.ndarray:
    """Centres [k, D] after merging: of those nearer than `below` (squared distance), the nearest pair first, into their
    mean weighted by size; then each smaller than `smallest` into its nearest. At least two stay."""
    centres, sizes = centres[sizes > 0].copy(), sizes[sizes > 0].astype(float)
    while len(centres) > 2:
        gap = squared_distances(centres, centres)
        np.fill_diagonal(gap, np.inf)
        i, j = np.unravel_index(gap.argmin(), gap.shape)
        if gap[i, j] >= below:
            i = int(sizes.argmin())
            j = int(gap[i].argmin())
            if sizes[i] >= smallest:
                break
        centres[j] = (sizes[i] * centres[i] + sizes[j] * centres[j]) / (sizes[i] + sizes[j])
        sizes[j] += sizes[i]
        centres, sizes = np.delete(centres, i, 0), np.delete(sizes, i)
    return centres


def nearest(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The nearest centre of each row, [n]."""
    return squared_distances(x, centres).argmin(1)


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[n, m] of rows [n, D] and [m, D]."""
    return np.maximum((a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1), 0)


def _spread(x: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """K-means++: each start is drawn with a chance in proportion to its squared distance from those before."""
    centres = [x[rng.integers(len(x))]]
    while len(centres) < k:
        far = squared_distances(x, np.array(centres)).min(1)
        chance = far / far.sum() if far.sum() > 0 else np.full(len(x), 1 / len(x))
        centres.append(x[rng.choice(len(x), p=chance)])
    return np.array(centres)
