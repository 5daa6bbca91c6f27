"""The LSTM on realised variance: 22 sessions of ln RV, return, |return| and ln volume in, tomorrow's ln RV out.

Its twin without volume is the same network with the volume column at zero: same first weights, same batches, same
dropout, so what differs between the two is the volume alone. Stored are its outputs in units of the estimation
window's own mean and SD of ln RV, which says nothing of a price to whoever has no prices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from anomaly_routing.risk.forecasts import LAGS, Forecast, from_log_variance, stretches
from anomaly_routing.risk.realised_variance import Asset

LSTM_NUMERICS = 1  # raised by hand when the arithmetic changes: stored runs of another meaning are not reused
CHANNELS = ("ln RV", "return", "|return|", "ln volume")
CLIP = 8.0  # of a scaled input, as in SPEC 3


@dataclass(frozen=True)
class LstmSettings:
    """AUDIT 6: hidden 32, dropout 0.1, Adam 1e-3, MSE. Open there, our choice: batch, epochs, patience.

    first_epochs : cap of the first fit. more_epochs : cap of each later one, which goes on from the weights before it.
    patience : epochs without a better loss on the window's last tenth; the best weights are kept.
    """

    hidden: int = 32
    dropout: float = 0.1
    learning_rate: float = 0.001
    batch: int = 64
    first_epochs: int = 40
    more_epochs: int = 4
    patience: int = 5


class VolatilityLstm(torch.nn.Module):
    """x [B, 22, 4] -> [B], the expected scaled ln RV of the session after the window."""

    def __init__(self, settings: LstmSettings) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(len(CHANNELS), settings.hidden, batch_first=True)
        self.dropout, self.head = torch.nn.Dropout(settings.dropout), torch.nn.Linear(settings.hidden, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.dropout(self.lstm(x)[0][:, -1])).squeeze(-1)


def channels(asset: Asset) -> np.ndarray:
    """The inputs, unscaled, [S, 4]."""
    return np.column_stack([np.log(asset.variance), asset.returns, np.abs(asset.returns), asset.log_volume])


def windows(asset: Asset, end: int, with_volume: bool) -> tuple[np.ndarray, np.ndarray]:
    """x float32 [S - 22, 22, 4] and y float32 [S - 22]: row i holds sessions i..i+21 and the target of i+22.

    Scaled by mean and SD of the sessions before `end`, inputs clipped at 8 SDs. Raises ValueError for a channel that
    does not move there.
    """
    raw = channels(asset)
    mean, sd = raw[:end].mean(axis=0), raw[:end].std(axis=0)
    if not (sd > 0).all():
        raise ValueError(f"{asset.name}: {CHANNELS[int(sd.argmin())]} does not move before session {end}")
    scaled = (raw - mean) / sd
    y = scaled[LAGS:, 0].astype(np.float32)
    inputs = np.clip(scaled, -CLIP, CLIP) * np.array([1, 1, 1, float(with_volume)])
    x = np.lib.stride_tricks.sliding_window_view(inputs, LAGS, axis=0)[:-1].transpose(0, 2, 1)
    return np.ascontiguousarray(x, dtype=np.float32), y


def _train(
    net: VolatilityLstm, x: torch.Tensor, y: torch.Tensor, epochs: int, settings: LstmSettings
) -> dict[str, float]:
    """Adam on MSE, in place; stops by the last tenth of the rows and keeps the best weights seen. Returns how it went:
    epochs run, their cap, the epoch of the best weights (0: those before), and the held-out loss before and best."""
    cut, optimiser = len(x) - max(1, len(x) // 10), torch.optim.Adam(net.parameters(), settings.learning_rate)

    def held_out() -> float:
        net.eval()
        with torch.no_grad():
            return float(((net(x[cut:]) - y[cut:]) ** 2).mean())

    best, kept, waited = held_out(), {k: v.clone() for k, v in net.state_dict().items()}, 0
    log = {"epochs": 0, "cap": epochs, "best epoch": 0, "loss before": best}
    for epoch in range(1, epochs + 1):
        net.train()
        for rows in torch.randperm(cut).split(settings.batch):
            optimiser.zero_grad()
            ((net(x[rows]) - y[rows]) ** 2).mean().backward()
            optimiser.step()
        loss, waited = held_out(), waited + 1
        if loss < best:
            best, kept, waited = loss, {k: v.clone() for k, v in net.state_dict().items()}, 0
            log["best epoch"] = epoch
        log["epochs"] = epoch
        if waited == settings.patience:
            break
    net.load_state_dict(kept)
    net.eval()
    return log | {"held-out loss": best}


def lstm_outputs(
    asset: Asset, spans: list[slice], seed: int, with_volume: bool, settings: LstmSettings | None = None
) -> np.ndarray:
    """The outputs of `lstm_fits` alone."""
    return lstm_fits(asset, spans, seed, with_volume, settings)[0]


def lstm_fits(
    asset: Asset, spans: list[slice], seed: int, with_volume: bool, settings: LstmSettings | None = None
) -> tuple[np.ndarray, list[dict[str, float]]]:
    """Expected scaled ln RV of each session, float32 [S], rounded to two decimals (0.5% of sigma), NaN in the first 22;
    and how each span's training went (`_train`).

    Scaled by the window that each span was fitted on (`unscale`). One thread and fixed generators inside, the process's
    own after.
    """
    settings, threads = settings or LstmSettings(), torch.get_num_threads()
    outputs, log = np.full(len(asset.sessions), np.nan, np.float32), []
    with torch.random.fork_rng(devices=[]):
        torch.set_num_threads(1)
        try:
            torch.manual_seed(seed)
            net = VolatilityLstm(settings)
            for k, (end, served) in enumerate(stretches(spans)):
                x, y = (torch.from_numpy(part) for part in windows(asset, end, with_volume))
                epochs, fitted = settings.more_epochs if k else settings.first_epochs, end - LAGS
                log.append(_train(net, x[:fitted], y[:fitted], epochs, settings))
                rows = slice(max(served.start, LAGS), served.stop)
                with torch.no_grad():
                    outputs[rows] = net(x[rows.start - LAGS : rows.stop - LAGS]).numpy()
        finally:
            torch.set_num_threads(threads)
    return np.round(outputs, 2), log


def unscale(asset: Asset, outputs: np.ndarray, spans: list[slice]) -> Forecast:
    """From `lstm_outputs` to a forecast, with the mean and SD of ln RV before each span."""
    log_rv, expected = np.log(asset.variance), np.full(len(outputs), np.nan)
    for end, served in stretches(spans):
        expected[served] = log_rv[:end].mean() + log_rv[:end].std() * outputs[served]
    return from_log_variance(asset, expected, spans)
