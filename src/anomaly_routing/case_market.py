"""What a case study reads of a market: prepared tensors, events, the stored runs of the model, its checkpoints."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anomaly_routing.case_measures import DEFAULT_PRESET, CaseError
from anomaly_routing.evaluation.events import load_events
from anomaly_routing.model.checkpoints import load_checkpoint
from anomaly_routing.model.config import PRESETS
from anomaly_routing.model.network import Network
from anomaly_routing.paths import MarketPaths
from anomaly_routing.runs import RunStore, read_meta, read_run
from anomaly_routing.tensors import Tensors

EXPERTS = ("Price-Shock", "Liquidity", "Systemic-Contagion", "Momentum-Reversal")
COMPONENTS = {"share": "c1", "intensity": "c2", "dispersion": "c3", "consensus": "c4", "psi": "c5"}


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

    def same_weights(self, preset: str) -> dict[int, bool]:
        """Seed -> whether both stop rules chose the same epoch, so that nothing hangs on the rule."""
        own = self.runs[self.runs["preset"] == preset]
        best = {int(row.seed): row.run.info["best"] for row in own.itertuples()}
        return {seed: epochs["tail"]["epoch"] == epochs["val"]["epoch"] for seed, epochs in best.items()}

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


def read_date(value: Any, example: pd.Timestamp) -> pd.Timestamp:
    """A day, from a timestamp or from text as YYYY-MM-DD; CaseError for anything that could be read in two ways."""
    wanted = f"write it as {example:%Y-%m-%d}"
    if isinstance(value, str) and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
        raise CaseError(f"{value!r} is no date in ISO form: {wanted}")
    try:
        day = pd.Timestamp(value)
    except (TypeError, ValueError) as error:
        raise CaseError(f"{value!r} is no date: {wanted}") from error
    if pd.isna(day):
        raise CaseError(f"{value!r} is no date: {wanted}")
    if day.tz is not None or day != day.normalize():
        raise CaseError(f"{value} has a time zone or a time of day, and a session has neither: {wanted}")
    return day


def baseline_sessions(sessions: pd.DatetimeIndex, first: str, last: str) -> pd.DatetimeIndex:
    """The sessions of a baseline, ends included; CaseError when there is none."""
    start, end = read_date(first, sessions[0]), read_date(last, sessions[-1])
    inside = sessions[(sessions >= start) & (sessions <= end)]
    if not len(inside):
        raise CaseError(
            f"no session between {first} and {last}: {sessions[0]:%Y-%m-%d} to {sessions[-1]:%Y-%m-%d} exist"
        )
    return inside
