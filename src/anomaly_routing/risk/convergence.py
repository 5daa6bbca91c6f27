"""Were the LSTM's fits done? The same training with four times the epochs beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from tqdm import tqdm

from anomaly_routing.risk.forecasts import LAGS, Forecast
from anomaly_routing.risk.lstm import LSTM_NUMERICS, LstmSettings, lstm_fits, unscale
from anomaly_routing.risk.realised_variance import Asset
from anomaly_routing.risk.systems import VOLUME
from anomaly_routing.runs import Run, RunKey, RunStore


def convergence(
    assets: list[Asset],
    spans: list[slice],
    store: RunStore,
    market: str,
    data_hash: str,
    seed: int,
    settings: LstmSettings | None = None,
    times: tuple[int, ...] = (1, 4),
) -> tuple[pd.DataFrame, dict[int, list[Forecast]]]:
    """One seed of the LSTM with volume, its caps of epochs and its patience times 1 and times 4.

    Returns a row a fit (times, asset, span, and `lstm._train`'s log), and the forecasts of each. Stored like any unit.
    """
    settings = settings or LstmSettings()
    sessions, names, rows, made = assets[0].sessions, [asset.name for asset in assets], [], {}
    for factor in tqdm(times, desc="convergence", unit="run"):
        longer = replace(
            settings,
            first_epochs=factor * settings.first_epochs,
            more_epochs=factor * settings.more_epochs,
            patience=factor * settings.patience,
        )
        config = longer.__dict__ | {"assets": names, "first": f"{sessions[spans[0].start]:%Y-%m-%d}"}
        key = RunKey(market, VOLUME, "convergence", seed, config, data_hash, LSTM_NUMERICS)

        def train(longer: LstmSettings = longer) -> Run:
            fits = [lstm_fits(asset, spans, seed, True, longer) for asset in assets]
            logs = [{"asset": n, "span": k} | line for n, (_, log) in zip(names, fits, strict=True)
                    for k, line in enumerate(log)]  # fmt: skip
            score = np.stack([outputs for outputs, _ in fits], axis=1)[LAGS:]
            return Run(score, sessions[LAGS:], names, pd.DataFrame(index=sessions[:0]), {"log": logs})

        run = store.get(key, train)
        outputs = np.vstack([np.full((LAGS, len(assets)), np.nan), run.score])
        made[factor] = [unscale(asset, outputs[:, i], spans) for i, asset in enumerate(assets)]
        rows += [{"times": factor} | line for line in run.info["log"]]
    return pd.DataFrame(rows), made
