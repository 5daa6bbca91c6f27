"""The stylised facts of daily stock prices, stock by stock: what a simulated market must share with a real one.

``python -m anomaly_routing.data.stylised_facts FOLDER`` measures the 100 stocks of the real panel and writes
``paper/stylised_facts.csv``: their 5th percentile, median and 95th percentile beside the range of the literature.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from anomaly_routing.data.sources import MarketData, load_folder
from anomaly_routing.features.inputs import Inputs
from anomaly_routing.features.liquidity import spread
from anomaly_routing.files import write_csv

LAGS = range(1, 11)
VOLATILITY_WINDOW = 20  # sessions t-19..t
STRESSED_QUANTILE, CALM_QUANTILE = 0.9, 0.5
VOLUME_HISTORY, MIN_VOLUME_HISTORY = 250, 60  # sessions t-250..t-1, as in feature 10
MIN_PAIR = 30  # common sessions for the correlation of two stocks


@dataclass(frozen=True)
class Fact:
    """One column of `stylised_facts`. `low` and `high`: the literature's range; None where it gives no figure."""

    unit: str
    low: float | None
    high: float | None
    reference: str


FACTS = {
    "kurtosis": Fact(
        "excess kurtosis of daily log returns",
        0,
        None,
        "Cont 2001, Quantitative Finance 1, 223-236: heavy tails, excess kurtosis above 0; its figures are for "
        "five-minute returns, so no daily upper end",
    ),
    "abs_acf_1": Fact(
        "autocorrelation of |r| at lag 1",
        0,
        None,
        "Cont 2001; Ding, Granger & Engle 1993, Journal of Empirical Finance 1, 83-106: positive (volatility "
        "clustering); no range over stocks",
    ),
    "abs_acf_1_10": Fact(
        "autocorrelation of |r|, mean of lags 1-10",
        0,
        None,
        "Cont 2001: positive and falling like a power of the lag with exponent 0.2-0.4: a rate of decay, not a level",
    ),
    "leverage": Fact(
        "correlation of r(t) with |r(t+k)|, mean of k = 1-10",
        None,
        0,
        "Bouchaud, Matacz & Potters 2001, Physical Review Letters 87, 228701: negative, moderate for stocks, fading "
        "over about 50 sessions; their measure uses squared returns, so no range for this one",
    ),
    "correlation_calm": Fact(
        "mean correlation with the other stocks, calm sessions",
        0.02,
        0.12,
        "Campbell, Lettau, Malkiel & Xu 2001, Journal of Finance 56, 1-43: one year of daily returns of all US stocks, "
        "0.12 in the early 1960s, 0.02-0.04 in the 1990s; not split by state, and most are small stocks",
    ),
    "correlation_stressed": Fact(
        "mean correlation with the other stocks, stressed sessions",
        None,
        None,
        "Longin & Solnik 2001, Journal of Finance 56, 649-676; Ang & Chen 2002, Journal of Financial Economics 63, "
        "443-494: above what a normal law with the calm value implies (by 11.6% on the downside in the latter); no "
        "range for a level",
    ),
    "volume_volatility": Fact(
        "correlation of |r| with ln volume less its trailing median",
        0,
        None,
        "Karpoff 1987, Journal of Financial and Quantitative Analysis 22, 109-126: positive; a survey of many "
        "measures, so no range for this one",
    ),
    "spread": Fact(
        "Abdi-Ranaldo bid-ask spread, basis points",
        0,
        None,
        "Abdi & Ranaldo 2017, Review of Financial Studies 30, 4437-4480: the estimator; setting negative pairs to 0 "
        "biases it upwards where spreads are small, so published effective spreads are no range for it",
    ),
}


def market_states(returns: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Calm and stressed sessions, two boolean masks [session], from daily log returns [session, stock].

    The state at t is the standard deviation of the equal-weight mean return over t-19..t. Stressed: at or above its
    90% quantile over the whole span; calm: below its median. A full-sample quantile is right here, because the facts
    describe a whole sample; nothing is forecast from them.
    """
    volatility = returns.mean(axis=1).rolling(VOLATILITY_WINDOW).std()
    calm, stressed = volatility.quantile([CALM_QUANTILE, STRESSED_QUANTILE])
    return (volatility < calm).to_numpy(), (volatility >= stressed).to_numpy()


def _mean_correlation(returns: pd.DataFrame) -> pd.Series:
    """Mean correlation of each stock with every other one that has at least 30 sessions in common with it."""
    correlation = returns.corr(min_periods=MIN_PAIR).to_numpy(copy=True)
    np.fill_diagonal(correlation, np.nan)
    return pd.DataFrame(correlation, columns=returns.columns).mean()


def stylised_facts(prices: pd.DataFrame, universe: pd.DataFrame) -> pd.DataFrame:
    """The stylised facts of each stock of `universe`; index ticker, columns the keys of `FACTS`.

    r is the daily log return of adj_close, NaN on a session without trade; correlations use the sessions on which both
    sides are known.

    kurtosis : bias-corrected excess kurtosis of r.
    abs_acf_1, abs_acf_1_10 : correlation of |r(t)| and |r(t+k)|, for k = 1 and as the mean of k = 1..10.
    leverage : mean over k = 1..10 of the correlation of r(t) and |r(t+k)|; negative if losses raise volatility.
    correlation_calm, correlation_stressed : mean correlation of r with each other stock, over the calm and over the
        stressed sessions (`market_states`); pairs with fewer than 30 such sessions are left out.
    volume_volatility : correlation of |r(t)| with ln V(t) - ln median V(t-250..t-1), at least 60 sessions in it.
    spread : mean of feature 7 of SPEC 2 (Abdi & Ranaldo 2017) over the stock's life, in basis points.

    NaN where a stock is too short for a fact. Sources: `FACTS`.
    """
    market = Inputs(prices, universe)
    r = pd.DataFrame(market.r, columns=universe["ticker"].to_list())
    size = r.abs()
    volume = pd.DataFrame(np.where(market.traded, market.volume, np.nan), columns=r.columns)
    usual = volume.rolling(VOLUME_HISTORY, min_periods=MIN_VOLUME_HISTORY).median().shift(1)
    clustering = pd.DataFrame({k: size.corrwith(size.shift(-k)) for k in LAGS})
    calm, stressed = market_states(r)
    facts = pd.DataFrame(
        {
            "kurtosis": r.kurt(),
            "abs_acf_1": clustering[1],
            "abs_acf_1_10": clustering.mean(axis=1),
            "leverage": pd.DataFrame({k: r.corrwith(size.shift(-k)) for k in LAGS}).mean(axis=1),
            "correlation_calm": _mean_correlation(r[calm]),
            "correlation_stressed": _mean_correlation(r[stressed]),
            "volume_volatility": size.corrwith(np.log(volume / usual)),
            "spread": pd.DataFrame(spread(market), columns=r.columns).mean(),
        }
    )
    return facts.rename_axis("ticker")


def percentile_table(facts: pd.DataFrame) -> pd.DataFrame:
    """5th percentile, median and 95th percentile over stocks (linear); index fact, columns p05, p50, p95."""
    table = facts.quantile([0.05, 0.5, 0.95]).T
    return table.set_axis(["p05", "p50", "p95"], axis=1).rename_axis("fact")


def facts_beside_literature(market: MarketData) -> pd.DataFrame:
    """What stands in ``paper/stylised_facts.csv``, one row a fact.

    Columns: fact, p05, median, p95, unit, literature_low, literature_high, reference.
    A one-sided range (0 and nothing) means that the literature gives a sign and no figure; the reference says so.
    """
    measured = percentile_table(stylised_facts(market.prices, market.universe)).rename(columns={"p50": "median"})
    known = pd.DataFrame.from_dict(
        {name: (f.unit, f.low, f.high, f.reference) for name, f in FACTS.items()},
        orient="index",
        columns=["unit", "literature_low", "literature_high", "reference"],
    ).astype({"literature_low": float, "literature_high": float})
    return measured.join(known).reset_index()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the stylised facts of the real panel's 100 stocks.")
    parser.add_argument("folder", type=Path, help="folder with prices.parquet and universe.csv (column in_us100)")
    parser.add_argument("--out", type=Path, default=Path("paper/stylised_facts.csv"))
    arguments = parser.parse_args()
    table = facts_beside_literature(load_folder(arguments.folder, select="in_us100"))
    write_csv(arguments.out, table, digits=4)
    print(table.drop(columns=["unit", "reference"]).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
