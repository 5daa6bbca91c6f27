"""One event looked at closely: `case_study(market, date, tickers)` gives the same tables for any event in any market.

Nothing is trained. The bands over seeds come from the run store; what a run does not keep (single features, graphs,
attention, other days) is computed again from the committed checkpoint, which holds the weights of a preset's first seed.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from anomaly_routing.evaluation.events import load_events
from anomaly_routing.model.checkpoints import load_checkpoint
from anomaly_routing.model.config import PRESETS
from anomaly_routing.model.network import Network
from anomaly_routing.model.scoring import MOE_SHARE, scores
from anomaly_routing.model.training import Data, TrainingConfig, evaluate
from anomaly_routing.paths import MarketPaths
from anomaly_routing.runs import RunStore, read_meta, read_run
from anomaly_routing.tensors import Tensors

EXPERTS = ("Price-Shock", "Liquidity", "Systemic-Contagion", "Momentum-Reversal")
COMPONENTS = {"share": "c1", "intensity": "c2", "dispersion": "c3", "consensus": "c4", "psi": "c5"}
BY_STOCK = ("error", "routing", "expert_error", "rebuilt", "rec_error", "learned", "cross_weights")
DEFAULT_PRESET = "intended"


class CaseError(ValueError):
    """A case that cannot be studied; the message says what is possible."""


@dataclass(frozen=True)
class CaseMarket:
    """What a case study reads of a market.

    runs : one row a stored run of the model's presets (preset, seed, tier, device, run).
    sector : of each ticker. events : the market's event list.
    """

    paths: MarketPaths
    tensors: Tensors
    sector: np.ndarray
    events: pd.DataFrame
    runs: pd.DataFrame

    @property
    def presets(self) -> list[str]:
        """Presets that have a run, default first."""
        return [p for p in sorted(PRESETS, key=DEFAULT_PRESET.__ne__) if p in set(self.runs["preset"])]

    @property
    def with_weights(self) -> list[str]:
        """Presets whose checkpoint is there too."""
        return [p for p in self.presets if (self.paths.checkpoints / f"{p}.safetensors").exists()]

    def seeds(self, preset: str) -> list[int]:
        """Stored seeds of a preset, the first one being that of the checkpoint."""
        return sorted(int(s) for s in self.runs["seed"][self.runs["preset"] == preset])

    def first_run(self, preset: str) -> Any:
        """The run of the preset's first seed: it keeps single stocks."""
        return self.runs[self.runs["preset"] == preset].sort_values("seed")["run"].iloc[0]

    def seed_text(self) -> str:
        """For the line under a figure: `intended [0, 1], literal not run`."""
        parts = [f"{p} {self.seeds(p)}" for p in self.presets]
        return ", ".join([*parts, *(f"{p} not run" for p in PRESETS if p not in self.presets)])

    def network(self, preset: str = DEFAULT_PRESET) -> Network:
        """The preset's network with the weights of the committed checkpoint."""
        return _network(self.paths.checkpoints / f"{preset}.safetensors")


@lru_cache(maxsize=4)
def _network(path: Path) -> Network:
    return load_checkpoint(path)[0]


def load_case_market(name: str, root: str | Path = "") -> CaseMarket:
    """The market with its stored runs. Raises CaseError when there is no such market or no trained run of it."""
    paths = MarketPaths(name, root)
    if not (paths.interim / "tensors.npz").exists():
        there = sorted(p.parent.name for p in (paths.base / "data" / "interim").glob("*/tensors.npz"))
        raise CaseError(f"no prepared market {name!r}: there is {', '.join(there) or 'none'}; run the features stage")
    tensors = Tensors.load(paths.interim / "tensors.npz")
    rows = []
    for path in RunStore(paths.runs("model")).current():
        key = read_meta(path)["key"]
        if key["method"] in PRESETS and key["variant"] == "full":
            run = read_run(path)
            rows.append({"preset": key["method"], "seed": key["seed"], "run": run})
            rows[-1] |= {k: run.info[k] for k in ("tier", "device")}
    if DEFAULT_PRESET not in {row["preset"] for row in rows}:
        raise CaseError(f"market {name} has no stored run of the preset {DEFAULT_PRESET}: run the stage `model` first")
    if not (paths.checkpoints / f"{DEFAULT_PRESET}.safetensors").exists():
        raise CaseError(f"market {name} has no checkpoint of {DEFAULT_PRESET}: run the stage `model` first")
    universe = pd.read_csv(paths.interim / "market" / "universe.csv").set_index("ticker").loc[tensors.tickers]
    events = load_events(paths.interim / "events.yaml", tensors.sessions, tensors.splits)
    return CaseMarket(paths, tensors, universe["sector"].to_numpy(object), events, pd.DataFrame(rows))


@dataclass(frozen=True)
class CaseStudy:
    """The tables of one case; sessions T, tickers K.

    daily : one row a preset, seed and session: market series (`daily_table`) and score_<ticker>, empty when not trading.
    stocks : one row a preset, session and ticker: score, E, routing w1..w4 and expert errors l1..l4; first seed.
    drivers : per ticker on its highest session: share of E by feature (`drivers`); first seed, default preset.
    output : arrays of the default preset's first seed over `sessions` (names in BY_STOCK).
    """

    market: CaseMarket
    date: pd.Timestamp
    tickers: list[str]
    sessions: pd.DatetimeIndex
    daily: pd.DataFrame
    stocks: pd.DataFrame
    drivers: pd.DataFrame
    output: dict[str, np.ndarray]

    @property
    def positions(self) -> np.ndarray:
        """Of the sessions, in the tensors."""
        return self.market.tensors.sessions.get_indexer(self.sessions)


def case_study(
    market: str | CaseMarket,
    date: str | pd.Timestamp,
    tickers: Sequence[str],
    *,
    before: int = 20,
    after: int = 15,
    span: Sequence[str] | None = None,
    root: str | Path = "",
) -> CaseStudy:
    """Everything the notebook shows of an event, for any session and stocks of any prepared market.

    Parameters
    ----------
    date : the session of the event. tickers : the stocks it is about, at least one.
    before, after : sessions of the window around it; `span`, first and last date, is used instead when given.

    Raises CaseError for a market without runs, a date off the calendar or outside the scored sessions, a window over
    the edge, a ticker that is not in the universe or does not trade in the window; each message says what is possible.
    """
    if isinstance(market, str):
        market = load_case_market(market, root)
    day = _session(market, date)
    positions = _window(market, day, before, after, span)
    tickers = _tickers(market, tickers, positions)
    sessions = market.tensors.sessions[positions]
    outputs = {preset: forward(market, positions, preset) for preset in market.with_weights}
    stocks = pd.concat([stock_table(market, positions, tickers, p, out) for p, out in outputs.items()])
    output = outputs[DEFAULT_PRESET]
    score = stocks[stocks.preset == DEFAULT_PRESET].pivot(index="session", columns="ticker", values="score")
    peaks = {t: score[t].idxmax() for t in tickers}
    at = {t: int(np.flatnonzero(sessions == peak)[0]) for t, peak in peaks.items()}
    found = pd.concat([drivers(market, output, positions, t, k) for t, k in at.items()], ignore_index=True)
    daily = daily_table(market, tickers)
    return CaseStudy(
        market=market,
        date=day,
        tickers=tickers,
        sessions=sessions,
        daily=daily[daily["session"].isin(sessions)].reset_index(drop=True),
        stocks=stocks.reset_index(drop=True),
        drivers=found,
        output=output,
    )


# --- the door --------------------------------------------------------------------------------------------------------
def _session(market: CaseMarket, date: str | pd.Timestamp) -> pd.Timestamp:
    tensors = market.tensors
    scored = tensors.sessions[tensors.scored]
    try:
        day = pd.Timestamp(date)
    except (TypeError, ValueError) as error:
        raise CaseError(f"{date!r} is no date: write it as {scored[-1]:%Y-%m-%d}") from error
    if pd.isna(day) or not scored[0] <= day <= scored[-1]:
        said = f"{day:%Y-%m-%d}" if not pd.isna(day) else repr(date)
        raise CaseError(f"{said} is not scored: possible are the sessions {scored[0]:%Y-%m-%d} to {scored[-1]:%Y-%m-%d}")
    if day not in scored:
        near = scored[scored < day][-1], scored[scored > day][0]
        raise CaseError(
            f"{day:%Y-%m-%d} ({day:%A}) is no session of {tensors.market}: possible are {near[0]:%Y-%m-%d} before it "
            f"and {near[1]:%Y-%m-%d} after it"
        )
    return day


def _window(
    market: CaseMarket, day: pd.Timestamp, before: int, after: int, span: Sequence[str] | None
) -> np.ndarray:
    """Positions of the sessions of the window, all of them scored."""
    sessions, scored = market.tensors.sessions, np.flatnonzero(market.tensors.scored)
    at = sessions.get_loc(day)
    if span is not None:
        first, last = (pd.Timestamp(edge) for edge in span)
        if not first <= day <= last:
            raise CaseError(f"the span {span[0]} to {span[1]} does not hold the date {day:%Y-%m-%d}")
        inside = np.flatnonzero((sessions >= first) & (sessions <= last))
        before, after = at - inside[0], inside[-1] - at
        if first < sessions[scored[0]] or last > sessions[scored[-1]]:
            before = at - scored[0] + 1  # over the edge: refused below
    if before < 0 or after < 0:
        raise CaseError(f"before {before}, after {after}: both count sessions, so neither can be negative")
    room = at - scored[0], scored[-1] - at
    if before > room[0] or after > room[1]:
        raise CaseError(
            f"a window from {before} sessions before {day:%Y-%m-%d} to {after} after reaches over the edge of the data: "
            f"possible are at most {room[0]} before and {room[1]} after "
            f"({sessions[scored[0]]:%Y-%m-%d} to {sessions[scored[-1]]:%Y-%m-%d})"
        )
    return np.arange(at - before, at + after + 1)


def _tickers(market: CaseMarket, tickers: Sequence[str], positions: np.ndarray) -> list[str]:
    names = [tickers] if isinstance(tickers, str) else list(dict.fromkeys(tickers))
    tensors = market.tensors
    if not names:
        raise CaseError(f"name at least one ticker of {tensors.market}, such as {', '.join(tensors.tickers[:3])}")
    for ticker in names:
        if ticker not in tensors.tickers:
            like = difflib.get_close_matches(str(ticker).upper(), tensors.tickers, n=3, cutoff=0.4)
            hint = f"near it: {', '.join(like)}" if like else f"it has {', '.join(tensors.tickers)}"
            raise CaseError(f"{ticker!r} is not among the {len(tensors.tickers)} stocks of {tensors.market}; {hint}")
        trades = np.flatnonzero(tensors.active[:, tensors.tickers.index(ticker)])
        if not np.isin(trades, positions).any():
            days = tensors.sessions[[positions[0], positions[-1]]]
            life = "it never does" if not len(trades) else "it does from {:%Y-%m-%d} to {:%Y-%m-%d}".format(
                *tensors.sessions[trades[[0, -1]]])  # fmt: skip
            raise CaseError(f"{ticker} does not trade between {days[0]:%Y-%m-%d} and {days[1]:%Y-%m-%d}: {life}")
    return names


# --- from the run store ----------------------------------------------------------------------------------------------
def daily_table(market: CaseMarket, tickers: Sequence[str] = (), rule: str = "val") -> pd.DataFrame:
    """Market series of every stored run, one row a preset, seed and session.

    session, n_active, n_banks; S, the mean score; banks, nonbanks; MPI, c1..c5, level; psi, alpha; w1..w4 (mean routing
    over the active stocks), w1_banks..w4_banks; score_<ticker> where the run keeps single stocks, empty when the stock
    does not trade.
    rule : the stop rule whose weights are read, `val` (protocol `paper`) or `tail` (protocol `matched`); what a run
        keeps under `tail` alone (bank weights, single stocks) is that.
    """
    tensors, frames = market.tensors, []
    for row in market.runs.sort_values(["preset", "seed"]).itertuples():
        plain = row.run.daily.filter(regex="^[^@]*$")
        late = row.run.daily.filter(like="@val").rename(columns=lambda c: c.removesuffix("@val"))
        daily = plain if rule == "tail" else plain.assign(**{c: late[c] for c in late})
        at = tensors.sessions.get_indexer(daily.index)
        n, banks = tensors.active[at].sum(1), (tensors.active[at] & tensors.is_bank).sum(1)
        bank_mean = daily["banks"].to_numpy()
        others = np.where(banks > 0, daily["mean"] * n - np.nan_to_num(bank_mean) * banks, daily["mean"] * n)
        table = pd.DataFrame({"preset": row.preset, "seed": row.seed, "session": daily.index, "n_active": n,
                              "n_banks": banks, "S": daily["mean"].to_numpy(), "banks": bank_mean})  # fmt: skip
        table["nonbanks"] = np.divide(others, n - banks, out=np.full(len(n), np.nan), where=n > banks)
        table["MPI"] = daily["mpi"].to_numpy()
        for name, short in COMPONENTS.items():
            table[short] = daily[name].to_numpy()
        for name in ("level", "psi", "alpha", "w1", "w2", "w3", "w4"):
            table[name] = daily[name].to_numpy()
        for k in range(1, 5):
            table[f"w{k}_banks"] = daily[f"w_banks{k}"].to_numpy()
        kept = pd.DataFrame(row.run.score, row.run.score_sessions, row.run.tickers).reindex(daily.index)
        for ticker in tickers:
            table[f"score_{ticker}"] = kept[ticker].to_numpy()
        frames.append(table)
    return pd.concat(frames, ignore_index=True)


def baseline_sessions(sessions: pd.DatetimeIndex, first: str, last: str) -> pd.DatetimeIndex:
    """The sessions of a baseline, ends included; CaseError when there is none."""
    inside = sessions[(sessions >= pd.Timestamp(first)) & (sessions <= pd.Timestamp(last))]
    if not len(inside):
        raise CaseError(f"no session between {first} and {last}: {sessions[0]:%Y-%m-%d} to {sessions[-1]:%Y-%m-%d} exist")
    return inside


# --- from the checkpoint ---------------------------------------------------------------------------------------------
@torch.no_grad()
def forward(market: CaseMarket, positions: np.ndarray, preset: str = DEFAULT_PRESET) -> dict[str, np.ndarray]:
    """The network's output over consecutive sessions, arrays [T, ...] of the fields in BY_STOCK, psi and alpha."""
    net = market.network(preset)
    data = Data(market.tensors, net.config, torch.device("cpu"))
    parts: dict[str, list[np.ndarray]] = {name: [] for name in (*BY_STOCK, "psi", "alpha")}
    for _, out in evaluate(net, data, np.asarray(positions), TrainingConfig()):
        for name, collected in parts.items():
            collected.append(getattr(out, name).numpy())
    return {name: np.concatenate(collected) for name, collected in parts.items()}


def stock_table(
    market: CaseMarket, positions: np.ndarray, tickers: Sequence[str], preset: str, out: dict[str, np.ndarray]
) -> pd.DataFrame:
    """Score, E, routing and expert errors of some stocks; NaN when they do not trade."""
    tensors, run = market.tensors, market.first_run(preset)
    sessions, active = tensors.sessions[positions], tensors.active[positions]
    if run.info["mu_tail"] is None:  # the literal score depends on its block: the stored one
        kept = pd.DataFrame(run.score, run.score_sessions, run.tickers).reindex(sessions)
        score = kept.reindex(columns=tensors.tickers).to_numpy()
    else:
        score = scores(out["error"], active, run.info["mu_tail"], run.info["sigma_tail"])
    frames = []
    for ticker in tickers:
        i = tensors.tickers.index(ticker)
        trades = np.where(active[:, i], 1.0, np.nan)
        columns = {"score": score[:, i], "E": out["error"][:, i] * trades}
        columns |= {f"w{k + 1}": out["routing"][:, i, k] * trades for k in range(4)}
        columns |= {f"l{k + 1}": out["expert_error"][:, i, k] * trades for k in range(4)}
        frames.append(pd.DataFrame({"preset": preset, "session": sessions, "ticker": ticker} | columns))
    return pd.concat(frames, ignore_index=True)


def drivers(
    market: CaseMarket, out: dict[str, np.ndarray], positions: np.ndarray, ticker: str, at: int
) -> pd.DataFrame:
    """What a stock's error E is made of on the session `at` of the window; the shares add up to 1.

    E = 0.6 sum_k w_k l_k + 0.4 e_rec (equations 50, 53). Expert k's part is split among its features in proportion to
    their squared residuals, since l_k^2 is their sum; e_rec, which looks at the last five sessions, is one part.
    """
    tensors, i = market.tensors, market.tensors.tickers.index(ticker)
    error, weight, part = out["error"][at, i], out["routing"][at, i], out["expert_error"][at, i]
    residual = (tensors.x[positions[at], i] - out["rebuilt"][at, i]) ** 2
    rows = []
    for j, k in enumerate(tensors.categories):
        own = residual[[c == k for c in tensors.categories]].sum()
        share = MOE_SHARE * weight[k] * part[k] * residual[j] / own / error if own > 0 else 0.0
        rows.append({"expert": EXPERTS[k], "feature": tensors.features[j], "share": float(share)})
    rest = float((1 - MOE_SHARE) * out["rec_error"][at, i] / error)
    rows.append({"expert": "reconstruction", "feature": "last five sessions, all features", "share": rest})
    table = pd.DataFrame(rows).sort_values("share", ascending=False, kind="stable")
    return table.assign(ticker=ticker, session=tensors.sessions[positions[at]]).reset_index(drop=True)


def sector_mass(market: CaseMarket, out: dict[str, np.ndarray], positions: np.ndarray, sector: str) -> pd.DataFrame:
    """Share of a row's cross-modal attention P_x that falls on a sector, mean over the sector's own rows; per session.

    Beside it, `uniform`: what even attention over the active stocks would give (AUDIT A36).
    """
    member = market.sector == sector
    rows = []
    for t, position in enumerate(positions):
        active = market.tensors.active[position]
        own = active & member
        mass = out["cross_weights"][t][own][:, own].sum(1)
        largest = out["cross_weights"][t][own].max() if own.any() else np.nan
        rows.append({"session": market.tensors.sessions[position], "mass": mass.mean() if own.any() else np.nan,
                     "uniform": own.sum() / active.sum(), "largest_weight": largest})  # fmt: skip
    return pd.DataFrame(rows)
