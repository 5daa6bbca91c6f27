"""The chapter's snippets that break, run as printed and mended (AUDIT D02, D05, D06, D07, D10; 58.8)."""

from __future__ import annotations

import importlib

import numpy as np
import pandas as pd
import torch
from pyod.models.vae import VAE
from sklearn.ensemble import IsolationForest
from torch import Tensor, nn

from anomaly_routing.baselines.classical.sequence_autoencoder import CODE, HIDDEN, network
from anomaly_routing.baselines.inputs import robust_scale
from anomaly_routing.baselines.statistical.iqr import beyond_quartiles, quartiles
from anomaly_routing.chapter.study import outcome_of
from anomaly_routing.chapter.volume_case import CONTAMINATION, K

PACKAGE = "twitter_adspackage"  # what the chapter imports (58.5.2)
STEPS, INPUTS = 20, 3


class PrintedAutoencoder(nn.Module):
    """The chapter's LSTM autoencoder, layer for layer (58.4.2): x [B, T, inputs] -> the same shape, were it to run."""

    def __init__(self, inputs: int, code: int = CODE, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.encoder, self.to_code = nn.LSTM(inputs, hidden, batch_first=True), nn.Linear(hidden, code)
        self.to_state, self.decoder = nn.Linear(code, hidden), nn.LSTM(hidden, inputs, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        state = self.to_state(self.to_code(self.encoder(x)[1][0][-1]))[None]
        cell, step, steps = torch.zeros_like(state), torch.zeros(len(x), 1, state.shape[-1]), []
        for _ in range(x.shape[1]):
            step, (state, cell) = self.decoder(step, (state, cell))
            steps.append(step)
        return torch.cat(steps, dim=1)


def modified_z(values: pd.Series, mended: bool = False) -> pd.Series:
    """0.6745 (x - median) / MAD as printed; mended, the mean absolute deviation stands in for a MAD of 0."""
    apart = values - values.median()
    return apart / (robust_scale(values.to_numpy()) if mended else apart.abs().median() / 0.6745)


def common_days(volume: pd.Series, returns: pd.Series) -> tuple[int, int]:
    """Days on which both rules of the volume case agree: by position, as the chapter counts, and by their dates."""
    log = np.log(volume + 1)
    outside = beyond_quartiles(log.to_numpy()[:, None], np.array([quartiles(log.to_numpy())]))[:, 0] > K
    fences = pd.Series(outside, index=volume.index)
    own = {"volume": volume, "return": returns.loc[volume.index], "volatility": returns.rolling(20).std()}
    features = pd.DataFrame(own).dropna()
    forest = IsolationForest(contamination=CONTAMINATION, random_state=42).fit_predict(features.to_numpy()) == -1
    common = fences[fences.index.isin(features.index)] & forest
    return int(common.sum()), len(set(fences[fences].index) & set(features.index[forest]))


def run_snippets(volume: pd.Series, returns: pd.Series, rows: np.ndarray) -> pd.DataFrame:
    """audit, snippet, what happens. volume, returns : of one share, by date. rows [n, 3] : scaled inputs to fit on."""
    still = pd.Series(np.where(np.arange(len(returns)) % 5 < 3, 0.0, returns.to_numpy()))  # three days of five without
    windows, twice = torch.zeros(8, STEPS, INPUTS), pd.concat([volume, volume.iloc[:1]])
    prices = np.exp(returns.cumsum())
    mask = prices.pct_change().dropna().abs() > 3 * returns.std()

    def said(z: pd.Series) -> str:
        return f"{int((~np.isfinite(z)).sum())} of {len(z)} values infinite or undefined"

    def agreed(*series: pd.Series) -> str:
        position, date = common_days(*series)
        return f"{position} days in common by position, {date} by date"

    def fitted() -> str:
        vae = VAE(
            encoder_neuron_list=[64, 32], decoder_neuron_list=[32, 64], contamination=0.01, epoch_num=2, verbose=0
        )
        return f"{vae.fit(rows).labels_.mean():.1%} of {len(rows)} rows flagged"

    doubled = pd.concat([returns, returns.iloc[:1]])
    tried = [
        ("D02", "modified z where three returns of five are zero", lambda: said(modified_z(still))),
        ("D02", "mended: mean absolute deviation", lambda: said(modified_z(still, mended=True))),
        ("D05", f"import {PACKAGE}", lambda: importlib.import_module(PACKAGE).__name__),
        ("D06", "the LSTM autoencoder on three inputs", lambda: tuple(PrintedAutoencoder(INPUTS)(windows).shape)),
        ("D06", "mended: code at every step, LSTM of 64, map to 3", lambda: tuple(network(INPUTS)(windows).shape)),
        ("D07", "pyod VAE(encoder_neurons=...)", lambda: VAE(encoder_neurons=[64, 32])),
        ("D07", "mended: encoder_neuron_list, fitted on arrays", fitted),
        ("D10", "the agreement of the volume case, as printed", lambda: agreed(volume, returns)),
        ("D10", "the same with one date twice", lambda: agreed(twice, doubled)),
        ("58.8", "series.index[mask] of another length", lambda: len(prices.index[mask.to_numpy()])),
        ("58.8", "mended: joined on dates", lambda: int(mask.reindex(prices.index, fill_value=False).sum())),
    ]
    return pd.DataFrame(
        [(audit, what, outcome_of(action)) for audit, what, action in tried],
        columns=["audit", "snippet", "what happens"],
    )
