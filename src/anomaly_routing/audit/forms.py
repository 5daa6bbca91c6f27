"""What the printed equations can and cannot produce, whatever is trained (A32, A45-A49, A53, A58, A64, A66, A84)."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog
from scipy.special import expit, logit, softmax
from scipy.stats import kurtosis

Z_GRID = np.linspace(-12, 12, 4801)  # standardised errors over which the linear programmes look


def fusion_range(base: float, slope: float) -> tuple[float, float]:
    """Lowest and highest sigmoid(base + slope psi) for psi in [0, 1], before the clamp (A49)."""
    ends = expit(base + slope * np.array([0.0, 1.0]))
    return float(ends.min()), float(ends.max())


def fusion_through(calm: tuple[float, float], crisis: tuple[float, float]) -> tuple[float, float]:
    """Base and slope of the line of logits through two points (psi, alpha)."""
    slope = (logit(crisis[1]) - logit(calm[1])) / (crisis[0] - calm[0])
    return float(logit(calm[1]) - slope * calm[0]), float(slope)


def source_weight_range(n: int = 3) -> tuple[float, float]:
    """Bounds of one weight of softmax(sigmoid(w)) over n sources: a sigmoid lies in (0, 1) (A45)."""
    e = np.e
    return 1 / (1 + (n - 1) * e), e / (e + n - 1)


def largest_share(logits: np.ndarray, temperature: float) -> float:
    """max softmax(logits / temperature) (A53)."""
    return float(softmax(np.asarray(logits, float) / temperature).max())


def diversity_gradient(weights: np.ndarray, sign: int) -> np.ndarray:
    """Step of each *logit* in gradient descent at rate 1 on sign * entropy(softmax(logits)), at these weights (A58).

    With +1, the printed sign, it moves away from equal weights; with -1 towards them.
    """
    w = np.asarray(weights, float)
    entropy = -(w * np.log(w)).sum()
    return sign * w * (np.log(w) + entropy)


def weights_after(weights: np.ndarray, step: np.ndarray, rate: float = 1.0) -> np.ndarray:
    """The weights when each logit has moved by `rate` times its step (A58)."""
    return softmax(np.log(np.asarray(weights, float)) + rate * np.asarray(step))


def mean_score_range(gain: float = 2.0) -> tuple[float, float]:
    """Range of a day's mean of sigmoid(gain z) over stocks when z has mean 0 and variance 1 that day (A32): a linear
    programme over all distributions of z."""
    s, ones = expit(gain * Z_GRID), np.ones_like(Z_GRID)
    equal = np.vstack([ones, Z_GRID, Z_GRID**2])
    ends = [linprog(sign * s, A_eq=equal, b_eq=[1, 0, 1], method="highs").fun * sign for sign in (1, -1)]
    return float(ends[0]), float(ends[1])


def highest_rest(group_share: float, group_mean: float, gain: float = 2.0) -> float:
    """Highest mean score of the other stocks when a group of this share has this mean, under the same condition."""
    s, n = expit(gain * Z_GRID), len(Z_GRID)
    q, zero = group_share, np.zeros(n)
    equal = np.vstack(
        [
            np.r_[np.ones(n), zero],
            np.r_[zero, np.ones(n)],
            np.r_[q * Z_GRID, (1 - q) * Z_GRID],
            np.r_[q * Z_GRID**2, (1 - q) * Z_GRID**2],
            np.r_[s, zero],
        ]
    )
    solved = linprog(np.r_[zero, -s], A_eq=equal, b_eq=[1, 1, 0, 1, group_mean], method="highs")
    return float(-solved.fun) if solved.status == 0 else float("nan")


def cantelli(z: float) -> float:
    """Largest share of a sample of mean 0 and variance 1 above z (A64)."""
    return 1 / (1 + z**2)


def pressure(weights: np.ndarray, breadth: float, top: float, spread: float, routing_sd: float, psi: float) -> dict:
    """The index for the two readings of the fourth component: the routing's SD, and one minus it (A66)."""
    return {
        reading: float(np.dot(weights, [breadth, top, spread, fourth, psi]))
        for reading, fourth in (("sd", routing_sd), ("1 - sd", 1 - routing_sd))
    }


def admissible(reading: str, psi: tuple[float, float]) -> list[tuple[float, float]]:
    """What the five components can be at all (A66): a share, a mean of scores, an SD of numbers in [0, 1], that of the
    routing or one minus it (`reading` as in `pressure`), and psi between the two given ends."""
    fourth = {"sd": (0.0, 0.5), "1 - sd": (0.5, 1.0)}[reading]
    return [(0.0, 1.0), (0.0, 1.0), (0.0, 0.5), fourth, psi]


def pressure_range(weights: np.ndarray, reading: str, psi: tuple[float, float]) -> tuple[float, float]:
    """Lowest and highest index over all admissible components."""
    box = np.array(admissible(reading, psi))
    return float(np.dot(weights, box[:, 0])), float(np.dot(weights, box[:, 1]))


def least_breadth(weights: np.ndarray, index: float, reading: str, psi: tuple[float, float]) -> float:
    """The smallest share of stocks above threshold with which some admissible components give this index; NaN when none
    do. A linear programme."""
    solved = linprog([1, 0, 0, 0, 0], A_eq=[weights], b_eq=[index], bounds=admissible(reading, psi), method="highs")
    return float(solved.fun) if solved.status == 0 else float("nan")


def prior_mass(alpha: float, neighbours: float) -> float:
    """The prior's share of a row of alpha A_prior (ones) + (1 - alpha) A_learned (row sum 1) (A48)."""
    return alpha * neighbours / (alpha * neighbours + 1 - alpha)


def neighbours_kept(similarity: np.ndarray, k: int, slope: float) -> float:
    """Effective neighbours (exponential of the entropy) of one row of similarities after the printed soft mask
    sigmoid(slope (x - k-th largest)) and the row softmax (A47); at most the length of the row."""
    cut = np.sort(similarity)[-k]
    row = softmax(similarity * expit(slope * (similarity - cut)))
    return float(np.exp(-(row * np.log(row)).sum()))


def highest_kurtosis(n: int) -> tuple[float, float]:
    """Largest kurtosis of n numbers, plain and as bias-corrected excess: one outlier among equals (A84)."""
    one = np.r_[np.zeros(n - 1), 1.0]
    return float(kurtosis(one, fisher=False)), float(kurtosis(one, fisher=True, bias=False))
