"""Metric learning with directional statistics: windows are clustered in a learned metric, and a window whose principal
direction is unusual for its cluster is anomalous."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from anomaly_routing.baselines.deep import DeepDetector, check_length, checked, consecutive
from anomaly_routing.baselines.metric_learning import clustering
from anomaly_routing.baselines.metric_learning.directional import VonMisesFisher, mixture_quantile
from anomaly_routing.baselines.metric_learning.embedding import MetricNetwork, triplet_loss
from anomaly_routing.baselines.metric_learning.windows import Windows, principal_directions
from anomaly_routing.baselines.registry import register
from anomaly_routing.model.errors import TrainingError
from anomaly_routing.panel import FEATURE_WINDOW, Panel

CLUSTERS = range(3, 11)  # among which the silhouette chooses
LEARNING_RATE, BATCH, RELABEL = 0.01, 128, 5
MERGE = 0.05  # quantile of the squared distances between windows below which two clusters are one
START_ROWS = 5_000  # windows that the first clustering is made from
PIECE = 4_096  # windows computed at once


@register(
    "metric_vmf",
    family="metric learning",
    stage="deep_baselines",
    title="Metric learning + vMF",
    reference="arXiv 2509.12540 by its abstract; AUDIT B03, B04 and 6; Schroff et al. 2015; Banerjee et al. 2005",
)
@dataclass
class MetricVMF(DeepDetector):
    """Principal directions of windows against a von Mises-Fisher distribution in each cluster of a learned metric.

    Objective: triplet loss with margin 0.2 and semi-hard mining between clusters, which start from k-means on the
    windows (K of the best silhouette in 3..10) and are renewed every 5 epochs: nearest centre in the embedding, close
    clusters merged. Score: 1 - mu.v, v the first right singular vector of the centred window (time x variables), its
    sign that of the cluster's axis, mu the cluster's mean direction. A window without variation has no direction and
    scores the cluster's expected value. `flag_threshold`: 1 - c, c the 5% quantile of mu.v under the fitted
    distributions of all clusters together.
    SGD with 0.01, 50 epochs, margin, K and the quantiles are those of AUDIT 6; widths and batches are ours, and an
    epoch sees `share` of the windows, since those one session apart repeat each other. "Below the 5% quantile" is read
    over pairs of windows: among the few pairs of centres one lies below it at every renewal, until one cluster is left.
    Clusters with fewer than 10 windows a variable join their nearest. Windows are scaled by each stock's training
    windows, not one by one: with both variances 1 every direction of price and volume would be (1, 1) or (1, -1).
    The variables are those of B03, price and volume. Their directions lie on a circle: one angle says how the window's
    movement splits between the two and whether they go together, and nothing else can be anomalous. Turning all
    directions into the half of the axis makes even uniform ones look concentrated (kappa about 1.7 on the circle), so
    that the cut may lie beyond every score; `metric_watson` is free of it. `modalities` may add "features": one more
    tower and the panel's features as variables, a richer method than the page describes, hence not the default.
    Price and volume are read wherever the stock trades, active or not: an inactive stock has no score, but what it
    traded is part of its later windows.
    The scales are kept stock by stock, so it can score only the universe that it was fitted on.
    Training has no stop rule: weights for `val` are those for `tail`, and validation sessions change nothing.
    """

    epochs: int = 50
    share: float = 0.2
    window: int = FEATURE_WINDOW
    modalities: tuple[str, ...] = ("price", "volume")
    margin: float = 0.2
    quantile: float = 0.05
    flag_threshold: float = field(default=np.nan, init=False, repr=False)
    law: ClassVar[type] = VonMisesFisher
    per_stock: ClassVar[bool] = True  # the scales of price and volume

    def fit(
        self, panel: Panel, train_mask: np.ndarray, val_mask: np.ndarray | None = None, label: str = ""
    ) -> MetricVMF:
        self._prepare(panel)
        check_length(len(consecutive(train_mask)), self.window, "training sessions")
        rows = np.argwhere(panel.active & np.asarray(train_mask, bool)[:, None])
        source = Windows(panel, self.window, tuple(self.modalities))
        scale = source.scale(rows, len(panel.tickers))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.net = self.network(panel).to(self._device)
        self.net.keep(scale=scale)
        windows = torch.cat([self._windows(source, some) for some in _pieces(rows)])
        labels = self._learn(windows, label)
        self._fit_laws(windows, labels)
        rules = ["tail"] + (["val"] if val_mask is not None else [])
        self.weights = {rule: self._snapshot() for rule in rules}
        last = self.history[-1] if self.history else {}
        self.best = {rule: {"loss": last["loss"], "epoch": last["epoch"]} for rule in rules if last}
        return self

    def network(self, panel: Panel) -> MetricNetwork:
        """The embedding; not a `DeepNetwork`, since its training goes by rules of its own."""
        return MetricNetwork(Windows(panel, self.window, tuple(self.modalities)).widths, self.window)

    def decision_function(self, panel: Panel) -> np.ndarray:
        self._check_scored(panel)
        return checked(panel, self.score_rows(panel, np.argwhere(panel.active)), type(self).__name__)

    @torch.no_grad()
    def score_rows(self, panel: Panel, rows: np.ndarray) -> np.ndarray:
        """[S, N], the scores of the stock-days [M, 2] (session, stock), NaN elsewhere."""
        self.net.eval()
        source = Windows(panel, self.window, tuple(self.modalities))
        score = np.full(panel.active.shape, np.nan)
        for some in _pieces(rows):
            windows = self._windows(source, some)
            cluster = torch.cdist(self.net(windows).double(), self.net.centres).argmin(1)
            v = principal_directions(windows)
            t = self._agreement(v, self.net.axis[cluster], self.net.mean[cluster])
            t = torch.where(v.any(1), t, self.net.expected[cluster])
            score[some[:, 0], some[:, 1]] = (1 - t).cpu().numpy()
        return score

    def _agreement(self, v: Tensor, axis: Tensor, mean: Tensor) -> Tensor:
        """[M], mu.v with the sign of v that agrees with the axis; all [M, P]."""
        turned = torch.where((v * axis).sum(1, keepdim=True) < 0, -v, v)
        return (turned * mean).sum(1)

    def _learn(self, windows: Tensor, label: str) -> np.ndarray:
        """Train the embedding; returns the cluster of each window."""
        rng, order = np.random.default_rng(self.seed), torch.Generator().manual_seed(self.seed)
        some = np.sort(rng.choice(len(windows), min(START_ROWS, len(windows)), replace=False))
        centres = clustering.start(_flat(windows[some]), CLUSTERS, rng)
        labels = np.concatenate([clustering.nearest(_flat(part), centres) for part in windows.split(PIECE)])
        optimiser = torch.optim.SGD(self.net.parameters(), lr=LEARNING_RATE)
        self.history = []
        self.net.train()
        for epoch in tqdm(range(self.epochs), desc=label, unit="epoch", disable=not label):
            started = time.perf_counter()
            if epoch and epoch % RELABEL == 0:
                labels = self._relabel(windows, labels, rng)
            on_device = torch.as_tensor(labels, device=windows.device)
            drawn = torch.randperm(len(windows), generator=order)[: max(2, int(self.share * len(windows)))]
            losses = []
            for batch in drawn.to(windows.device).split(BATCH):
                optimiser.zero_grad(set_to_none=True)
                loss = triplet_loss(self.net(windows[batch]), on_device[batch], self.margin)
                loss.backward()
                optimiser.step()
                losses.append(loss.detach())
            mean = float(torch.stack(losses).mean())
            if not np.isfinite(mean):
                raise TrainingError(f"epoch {epoch}: loss is not a number: look for extreme features")
            line = {"epoch": epoch, "loss": mean, "clusters": len(np.unique(labels))}
            self.history.append(line | {"seconds": time.perf_counter() - started})
        return self._relabel(windows, labels, rng)

    def _relabel(self, windows: Tensor, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Nearest centre of the old clusters in the embedding, after merging; keeps the centres."""
        embedded = self._embed(windows)
        sizes = np.bincount(labels)
        centres = np.stack([embedded[labels == k].sum(0) for k in range(len(sizes))]) / np.maximum(sizes, 1)[:, None]
        some = embedded[rng.choice(len(embedded), min(clustering.SAMPLE, len(embedded)), replace=False)]
        pairs = clustering.squared_distances(some, some)[np.triu_indices(len(some), 1)]
        smallest = 10 * windows.shape[2]
        centres = clustering.merged(centres, sizes, float(np.quantile(pairs, MERGE)), smallest)
        self.net.keep(centres=centres)
        return clustering.nearest(embedded, centres)

    def _fit_laws(self, windows: Tensor, labels: np.ndarray) -> None:
        """A distribution of directions for each cluster, and the cut of all together."""
        v = torch.cat([principal_directions(some) for some in windows.split(PIECE)]).cpu().numpy()
        labels, v = labels[v.any(1)], v[v.any(1)]
        if not len(v):
            raise ValueError("no training window varies: there is no direction to learn")
        laws, axes, sizes = [], [], []
        for k in range(len(self.net.centres)):
            own = v[labels == k] if (labels == k).any() else v
            axis = np.linalg.eigh(own.T @ own)[1][:, -1]
            axis *= np.sign(axis[np.abs(axis).argmax()])
            laws.append(self.law.fit(np.where((own @ axis < 0)[:, None], -own, own)))
            axes.append(axis)
            sizes.append((labels == k).sum())
        mean, expected = np.stack([law.mean for law in laws]), np.array([law.expected for law in laws])
        self.net.keep(axis=np.stack(axes), mean=mean, expected=expected)
        self.laws, self.flag_threshold = laws, 1 - mixture_quantile(laws, np.array(sizes), self.quantile)

    def _windows(self, source: Windows, rows: np.ndarray) -> Tensor:
        """[M, T, P] float32 of the stock-days [M, 2], scaled."""
        scale = self.net.scale[torch.as_tensor(rows[:, 1], device=self._device)]
        return (torch.as_tensor(source(rows), device=self._device) / scale[:, None]).float()

    @torch.no_grad()
    def _embed(self, windows: Tensor) -> np.ndarray:
        return torch.cat([self.net(some) for some in windows.split(PIECE)]).double().cpu().numpy()


def _flat(windows: Tensor) -> np.ndarray:
    return windows.flatten(1).double().cpu().numpy()


def _pieces(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[s : s + PIECE] for s in range(0, len(rows), PIECE)]
