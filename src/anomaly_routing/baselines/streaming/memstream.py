"""MemStream: a short memory of ordinary stock-days, encoded; what is far from all of it is anomalous."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from anomaly_routing.baselines.deep import Batch, DeepDetector, DeepNetwork, Series, checked
from anomaly_routing.baselines.registry import register
from anomaly_routing.panel import Panel

UPDATE_SHARE = 0.95  # beta is this quantile of the training scores
PASSES = 6  # over the training sessions, to find it


class Memory:
    """First-in-first-out store of rows and their encodings, as they were when they entered."""

    def __init__(self, size: int, rows: Tensor, codes: Tensor) -> None:
        """rows : [m, F] and codes : [m, C], m <= size, what it starts with; m may be 0."""
        self.size = size
        self.rows, self.codes = rows, codes

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and sample SD [F] of the rows it holds; SD 0 below two rows."""
        if len(self.rows) < 2:
            return self.rows.sum(0), torch.zeros_like(self.rows.sum(0))
        return self.rows.mean(0), self.rows.std(0)

    def distance(self, codes: Tensor, discount: Tensor) -> Tensor:
        """[n]: of the L1 distances to the K nearest entries, the average with weights `discount` [K], nearest first.

        Fewer entries than K: as many as there are. None: 0.
        """
        k = min(len(discount), len(self.codes))
        if not k:
            return codes.new_zeros(len(codes))
        nearest = torch.cdist(codes, self.codes, p=1).topk(k, largest=False).values
        return nearest @ discount[:k] / discount[:k].sum()

    def enter(self, rows: Tensor, codes: Tensor) -> None:
        """Take rows [n, F] and codes [n, C] in, in this order; the oldest leave."""
        self.rows = torch.cat([self.rows, rows])[-self.size :]
        self.codes = torch.cat([self.codes, codes])[-self.size :]


class MemStreamNetwork(DeepNetwork):
    """Encoder F-C with tanh, linear decoder; `code` 0 leaves both out: the memory then holds the scaled rows."""

    def __init__(self, n_features: int, code: int, noise: float, mean: Tensor, sd: Tensor) -> None:
        super().__init__()
        self.noise, self.width = noise, code or n_features
        self.encoder = nn.Sequential(nn.Linear(n_features, code), nn.Tanh()) if code else nn.Identity()
        self.decoder = nn.Linear(code, n_features) if code else nn.Identity()
        self.register_buffer("mean", mean)  # of the training rows: used in training alone
        self.register_buffer("sd", sd)
        self.register_buffer("beta", torch.tensor(torch.inf))

    def objective(self, batch: Batch, epoch: int) -> Tensor:
        """Mean squared error of the clean row, rebuilt from the noisy one."""
        x = scaled(batch.now[batch.picked], self.mean, self.sd)
        noisy = x + self.noise * torch.randn(x.shape).to(x.device)
        return (self.decoder(self.encoder(noisy)) - x).square().mean()

    def score(self, batch: Batch) -> Tensor:
        """The error without noise, for the stop rules; the detector scores by `stream`."""
        x = scaled(batch.now, self.mean, self.sd)
        return (self.decoder(self.encoder(x)) - x).square().mean(-1)

    def stream(self, x: Tensor, active: Tensor, memory: Memory, discount: Tensor, beta: Tensor) -> Tensor:
        """Scores [S, N] of sessions [S, N, F] in their order; the memory goes along. 0 where inactive.

        Within a session every active row meets the same memory; then those below `beta` enter it, and until it is full
        the others too.
        """
        scores = torch.zeros(active.shape, device=x.device)
        for now, rows, out in zip(x, active, scores, strict=True):
            present = now[rows]
            codes = self.encoder(scaled(present, *memory.moments()))
            score = memory.distance(codes, discount)
            out[rows] = score
            enters = (score <= beta) | (len(memory.rows) < memory.size)
            memory.enter(present[enters], codes[enters])
        return scores


def scaled(x: Tensor, mean: Tensor, sd: Tensor) -> Tensor:
    """(x - mean) / sd; a feature that does not vary counts as 0."""
    return torch.where(sd > 0, (x - mean) / sd.clamp(min=1e-12), 0.0)


@register(
    "memstream",
    family="memory stream",
    stage="deep_baselines",
    title="MemStream",
    reference="Bhatia et al. 2022 (WWW); github.com/Stream-AD/MemStream",
)
@dataclass
class MemStream(DeepDetector):
    """A denoising autoencoder, and a memory of the last `memory` ordinary stock-days that follows the market.

    Objective: mean squared error of a row from its copy with noise of SD 0.001, rows standardised. Score: L1 distance
    of the row's encoding to the `neighbours` nearest encodings in memory, averaged with weights 1, gamma, gamma^2 ...;
    a row whose score is at most beta enters the memory and the oldest one leaves. Rows are standardised by mean and SD
    of the rows in memory, which move with it.
    From the authors' code: encoder F-2F with tanh and linear decoder, K 3 and gamma 0 (the nearest entry alone counts),
    encodings kept as they were on entering, a feature without variation in memory read as 0.
    Changed for a panel: all stocks are one stream, session by session, and the stocks of a session meet the same
    memory, so that their order decides only which of the oldest session's rows leave first. A stream starts in the
    panel's first session with an empty memory that takes every row until it is full (`memory` rows: 256 are the last
    two or three sessions of 100 stocks); the very first session scores 0. The authors start from rows known to be
    normal and pick beta per data set; here beta is the 95th percentile of the training scores of the very stream that
    it gates. Adam 1e-3 and the shared stop rules for 5,000 full-batch steps at 1e-2.
    """

    memory: int = 256
    neighbours: int = 3
    gamma: float = 0.0
    code: int | None = None
    noise: float = 0.001

    def fit(
        self, panel: Panel, train_mask: np.ndarray, val_mask: np.ndarray | None = None, label: str = ""
    ) -> MemStream:
        self._rows = panel.active & np.asarray(train_mask, bool)[:, None]
        super().fit(panel, train_mask, val_mask, label)
        for rule, weights in self.weights.items():
            self.use(rule)
            weights["beta"] = self._beta(panel)
        self.use("tail")
        return self

    def network(self, panel: Panel) -> DeepNetwork:
        rows = torch.as_tensor(panel.x[self._rows], dtype=torch.float32)
        code = 2 * len(panel.features) if self.code is None else self.code
        return MemStreamNetwork(len(panel.features), code, self.noise, rows.mean(0), rows.std(0))

    def decision_function(self, panel: Panel) -> np.ndarray:
        """float32 [S, N], NaN where inactive; the stream starts in the panel's first session, whatever was fitted."""
        self._check_scored(panel)
        return checked(panel, self._streamed(panel, self.net.beta)[0], type(self).__name__)

    def memory_after(self, panel: Panel) -> Memory:
        """What the memory holds after the panel's last session, the stream having started in its first."""
        return self._streamed(panel, self.net.beta)[1]

    def score_next(self, panel: Panel, memory: Memory) -> np.ndarray:
        """[N] of a panel of one session that meets this memory, which stays as it is; 0 where inactive."""
        return self._streamed(panel, self.net.beta, memory=Memory(memory.size, memory.rows, memory.codes))[0][-1]

    def _beta(self, panel: Panel) -> Tensor:
        """The 95th percentile of the training scores that a stream gated by it gives.

        A closed gate narrows the memory and raises the scores, so the two are brought together: the first pass lets
        every row in, each later one halves the step from the gate to the percentile that it made.
        """
        last = int(np.flatnonzero(self._rows.any(1))[-1]) + 1
        beta = np.inf
        for _ in range(PASSES):
            scores = self._streamed(panel, torch.tensor(beta), last)[0][self._rows[:last]]
            made = float(np.quantile(scores, UPDATE_SHARE))
            beta = made if np.isinf(beta) else (beta + made) / 2
        return torch.tensor(beta)

    @torch.no_grad()
    def _streamed(
        self, panel: Panel, beta: Tensor, last: int | None = None, memory: Memory | None = None
    ) -> tuple[np.ndarray, Memory]:
        """[S, N], of the sessions before `last`, and the memory after them; it is empty at first, or `memory`."""
        series = Series(panel, 1, self._device)
        x, active = series.rows["x"][:last], series.active[:last]
        memory = memory or Memory(self.memory, x.new_zeros(0, x.shape[-1]), x.new_zeros(0, self.net.width))
        discount = self.gamma ** torch.arange(self.neighbours, dtype=x.dtype, device=x.device)
        return self.net.eval().stream(x, active, memory, discount, beta.to(x.device)).cpu().numpy(), memory
