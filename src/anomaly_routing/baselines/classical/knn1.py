"""Distance to the most similar training stock-day."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from sklearn.neighbors import NearestNeighbors

from anomaly_routing.baselines.inputs import fit_rows, masked, subsample
from anomaly_routing.baselines.registry import register
from anomaly_routing.panel import Panel


@register(
    "knn1",
    family="classical",
    title="1-NN distance",
    reference="DESIGN 7; Sarfraz et al. 2024 (QuoVadisTAD); Ramaswamy et al. 2000",
    requires=("features",),
)
@dataclass
class NearestNeighbour:
    """Euclidean distance of x_t from the nearest of at most `max_rows` seeded training stock-days.

    A stock-day of the sample is not its own neighbour: it takes the next one.
    """

    seed: int = 0
    max_rows: int = 5_000
    index_: NearestNeighbors = field(init=False, repr=False)
    sessions_: np.ndarray = field(init=False, repr=False)  # of the sample's rows
    tickers_: np.ndarray = field(init=False, repr=False)

    def fit(self, panel: Panel, train_mask: np.ndarray) -> NearestNeighbour:
        usable = np.flatnonzero(fit_rows(panel, "causal", train_mask))
        if len(usable) < 2:
            raise ValueError("a nearest neighbour needs at least two training stock-days")
        sampled = usable[subsample(usable, self.max_rows, np.random.default_rng(self.seed))]
        self.sessions_, self.tickers_ = _named(panel, sampled)
        rows = panel.x.reshape(-1, len(panel.features))[sampled]
        self.index_ = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(rows)
        return self

    def decision_function(self, panel: Panel) -> np.ndarray:
        distance = np.full(panel.active.size, np.nan)
        scored = np.flatnonzero(panel.active)
        if len(scored):
            near, which = self.index_.kneighbors(panel.x.reshape(-1, len(panel.features))[scored])
            session, ticker = _named(panel, scored)
            itself = (self.sessions_[which[:, 0]] == session) & (self.tickers_[which[:, 0]] == ticker)
            distance[scored] = np.where(itself, near[:, 1], near[:, 0])
        return masked(panel, distance.reshape(panel.active.shape))


def _named(panel: Panel, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Session and ticker of places in the flattened [S, N]."""
    session, stock = np.divmod(places, len(panel.tickers))
    return panel.sessions.to_numpy()[session], np.array(panel.tickers)[stock]
