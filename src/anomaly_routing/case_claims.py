"""The paper's sentences about its cases, each with ours: what is measured for a claim, and the table of a case.

A measurement is a function of a `Track`, one seed of one preset; it gives a number, a range (low, high), or True/False
for a direction. NaN means that this seed does not keep what is needed (single stocks are kept for the first seed).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from anomaly_routing.case_market import daily_table
from anomaly_routing.case_network import sector_mass
from anomaly_routing.case_signatures import group_percentiles
from anomaly_routing.case_study import CaseStudy
from anomaly_routing.ledger.seeds import judge
from anomaly_routing.ledger.verdict import NOT_RUN, NOT_TESTABLE, PAPER_MARKET, REFUTED
from anomaly_routing.model.config import PRESETS

NOTHING = 0.001  # a routing weight below it is none: an expert that is never used neither rises nor falls


@dataclass(frozen=True)
class Track:
    """One seed's daily table of a case, index = session; `whole` is the same over all sessions of the run.

    baseline : the sessions whose mean is the baseline. study : None for a seed that keeps no single stocks.
    """

    daily: pd.DataFrame
    whole: pd.DataFrame
    day: pd.Timestamp
    baseline: pd.DatetimeIndex
    study: CaseStudy | None = None
    preset: str = "intended"
    theta_s: float = np.nan

    def at(self, column: str, day: str | None = None) -> float:
        """Value on the day of the event, or another."""
        return float(self.daily[column][pd.Timestamp(day) if day else self.day])

    def base(self, column: str) -> float:
        """Mean over the baseline sessions."""
        return float(self.daily.loc[self.baseline, column].mean())

    def rise(self, column: str, value: float) -> float:
        """`value` above the baseline, in percent of it, from unrounded numbers; NaN of a baseline of nothing."""
        base = self.base(column)
        return 100 * (value / base - 1) if base >= NOTHING else np.nan

    def falls(self, column: str, day: str) -> bool:
        """Does a weight fall below its baseline by more than nothing?"""
        return self.base(column) - self.at(column, day) > NOTHING

    def over(self, column: str, first: str, last: str) -> pd.Series:
        """The sessions from first to last, ends included."""
        return self.daily.loc[pd.Timestamp(first) : pd.Timestamp(last), column]

    def stock(self, ticker: str, column: str) -> pd.Series:
        """A column of `CaseStudy.stocks` for one ticker, index = session."""
        table = self.study.stocks
        own = table[(table["preset"] == self.preset) & (table["ticker"] == ticker)]
        return own.set_index("session")[column]

    def needs_stocks(self, compute: Callable[[], Any]) -> Any:
        """`compute()`, or NaN for a seed without single stocks."""
        return np.nan if self.study is None else compute()


def tracks(
    study: CaseStudy, baseline: pd.DatetimeIndex, rule: str = "val", focus: np.ndarray | None = None
) -> dict[tuple[str, int], Track]:
    """A `Track` for every stored run, by (preset, seed).

    focus : bool [N], the group whose mean score is `focus`, all others' `others`; None is the banks, whose mean every
        run keeps. Another group has it for seeds that keep single stocks.
    """
    market, found = study.market, {}
    table = daily_table(market, study.tickers, rule)
    for row in market.runs.itertuples():
        own = table[(table["preset"] == row.preset) & (table["seed"] == row.seed)].set_index("session")
        first = row.seed == min(market.seeds(row.preset)) and row.preset in market.with_weights
        inside = own.loc[own.index.intersection(study.sessions)].copy()
        inside["focus"], inside["others"] = inside["banks"], inside["nonbanks"]
        if focus is not None:
            kept = pd.DataFrame(row.run.score, row.run.score_sessions).reindex(inside.index)
            inside["focus"], inside["others"] = kept.loc[:, focus].mean(axis=1), kept.loc[:, ~focus].mean(axis=1)
        found[row.preset, row.seed] = Track(
            inside, own, study.date, baseline, study if first else None, row.preset, row.run.info[f"theta_s_{rule}"]
        )
    return found


# --- Silicon Valley Bank: what each claim of section 4.3 is measured by ----------------------------------------------
CRISIS = ("2023-03-08", "2023-03-17")  # the paper's phases together
PHASES = (("2023-03-08", "2023-03-09"), ("2023-03-10", "2023-03-10"), ("2023-03-13", "2023-03-17"))


def _bank_peak_day(t: Track) -> str:
    return str(t.over("banks", *CRISIS).idxmax())


def failing_ranks(t: Track, names: tuple[str, ...] = ("SIVB", "SBNY", "FRC")) -> pd.Series:
    """Rank among the banks by the highest error E of the crisis week: 1 is the highest. E orders ties of the score."""
    study, tensors = t.study, t.study.market.tensors
    inside = (study.sessions >= CRISIS[0]) & (study.sessions <= CRISIS[1])
    traded = tensors.active[study.positions][inside]
    highest = pd.Series(np.where(traded, study.output["error"][inside], -np.inf).max(0), tensors.tickers)
    return highest[tensors.is_bank].rank(ascending=False)[list(names)].astype(int)


def _crisis_scores(t: Track, first: str = CRISIS[0], last: str = CRISIS[1]) -> pd.DataFrame:
    run = t.study.market.first_run(t.preset)
    return pd.DataFrame(run.score, run.score_sessions, run.tickers).loc[first:last]


def _breadth_grows(t: Track) -> bool:
    """Does the share of non-banks above the stock-day cut grow from phase to phase?"""
    other = ~t.study.market.tensors.is_bank
    shares = [(_crisis_scores(t, *p).loc[:, other] > t.theta_s).to_numpy().mean() for p in PHASES]
    return shares[0] < shares[1] < shares[2]


def _liquidity_unremarkable(t: Track) -> bool:
    """Do the banks' liquidity features stay below their 95th training percentile on all of the crisis week?"""
    tensors = t.study.market.tensors
    days = t.over("S", *CRISIS).index
    return bool((group_percentiles(tensors, tensors.is_bank, days)["liquidity"] < 0.95).all())


SVB: dict[str, Callable[[Track], Any]] = {
    "F3.baseline_window": lambda t: "{:%Y-%m-%d}..{:%Y-%m-%d}".format(*t.baseline[[0, -1]]),
    "F3.baseline_offset": lambda t: tuple(float((d - t.day).days) for d in t.baseline[[0, -1]]),
    "F3.n_bank": lambda t: t.needs_stocks(lambda: float(t.study.market.tensors.is_bank.sum())),
    "F3.n_nonbank": lambda t: t.needs_stocks(lambda: float((~t.study.market.tensors.is_bank).sum())),
    "F3.mpi.event_day": lambda t: t.at("MPI"),
    "F3.mpi.baseline": lambda t: t.base("MPI"),
    "F3.mpi.rel": lambda t: t.rise("MPI", t.at("MPI")),
    "F3.indiv.rel": lambda t: t.rise("S", t.at("S")),
    "F3.mpi_gt_indiv": lambda t: t.rise("MPI", t.at("MPI")) > t.rise("S", t.at("S")),
    "F3.bank.peak": lambda t: t.over("banks", *CRISIS).max(),
    "F3.bank.rel": lambda t: t.rise("banks", t.over("banks", *CRISIS).max()),
    "F3.nonbank.peak": lambda t: t.at("nonbanks", _bank_peak_day(t)),
    "F3.nonbank.rel": lambda t: t.rise("nonbanks", t.at("nonbanks", _bank_peak_day(t))),
    "F3.gap": lambda t: t.over("banks", *CRISIS).max() - t.at("nonbanks", _bank_peak_day(t)),
    "F3.score.sivb": lambda t: t.over("score_SIVB", *CRISIS).max(),
    "F3.score.frc": lambda t: t.over("score_FRC", *CRISIS).max(),
    "F3.score.sbny": lambda t: t.over("score_SBNY", *CRISIS).max(),
    "F3.top3": lambda t: (
        t.needs_stocks(lambda: bool((failing_ranks(t) <= 3).all())) if t.preset == "intended" else np.nan
    ),
    "F3.ps.baseline": lambda t: t.base("w1"),
    "F3.ps.mar10": lambda t: t.at("w1"),
    "F3.ps.mar17": lambda t: t.at("w1", "2023-03-17"),
    "F3.sc.level": lambda t: t.over("w3", "2023-03-10", "2023-03-17").mean(),
    "F3.sc.rel": lambda t: t.rise("w3", t.over("w3", "2023-03-10", "2023-03-17").mean()),
    "F3.liq.level": lambda t: t.at("w2", "2023-03-17"),
    "F3.mom.level": lambda t: t.at("w4", "2023-03-17"),
    "F3.liq.dir": lambda t: t.falls("w2", "2023-03-17"),
    "F3.mom.dir": lambda t: t.falls("w4", "2023-03-17"),
    "F3.not_liquidity": lambda t: t.needs_stocks(lambda: _liquidity_unremarkable(t)),
    "F3.ph1.ps": lambda t: t.over("w1", *PHASES[0]).max(),
    "F3.ph2.sc": lambda t: t.at("w3"),
    "F3.ph3.sc": lambda t: t.over("w3", *PHASES[2]).mean(),
    "F3.ph3.ps": lambda t: (t.over("w1", *PHASES[2]).min(), t.over("w1", *PHASES[2]).max()),
    "F3.progress": lambda t: t.needs_stocks(lambda: _breadth_grows(t)),
    "F3.zero_cost": lambda t: 0.0,  # the weights are a field of the one forward pass (`network.Output.routing`)
    "ABS.svb.ps_on_closure": lambda t: t.at("w1"),
    "ABS.svb.ps_on_closure_rel": lambda t: t.rise("w1", t.at("w1")),
    "ABS.svb.ps_peak": lambda t: t.over("w1", "2023-03-10", "2023-03-17").max(),
    "ABS.svb.ps_peak_rel": lambda t: t.rise("w1", t.over("w1", "2023-03-10", "2023-03-17").max()),
    "S5.ps_track": lambda t: (t.base("w1"), t.over("w1", "2023-03-10", "2023-03-17").max()),
}

# --- the other cases -------------------------------------------------------------------------------------------------
WEEK = ("2024-07-19", "2024-07-26")


def _tech_mass(t: Track, column: str) -> tuple[float, float]:
    """(lowest, highest) of the attention mass on technology over its own rows, on the day; or the uniform mass."""
    market, study = t.study.market, t.study
    if column == "uniform" or t.preset == "intended":
        table = sector_mass(market, study.output, study.positions, "Information Technology").set_index("session")
        return float(table[column][t.day])
    return np.nan


CROWDSTRIKE: dict[str, Callable[[Track], Any]] = {
    "S42.crwd_liq": lambda t: t.needs_stocks(lambda: t.stock("CRWD", "w2").loc[slice(*WEEK)].max()),
    "S42.crwd_ps": lambda t: t.needs_stocks(
        lambda: abs(t.stock("CRWD", "w1").loc[slice(*WEEK)].max() - t.stock("CRWD", "w1")[t.baseline].mean()) <= 0.05
    ),
    "S44.crwd.err_liq": lambda t: t.needs_stocks(lambda: t.stock("CRWD", "l2")[t.day]),
    "S44.xmodal_focus": lambda t: t.needs_stocks(lambda: _tech_mass(t, "mass")),
    "S44.xmodal_uniform": lambda t: t.needs_stocks(lambda: _tech_mass(t, "uniform")),
}


def stocks_above(t: Track) -> pd.Series:
    """Number of stocks above the stock-day cut theta_s, by session."""
    return (t.daily["c1"] * t.daily["n_active"]).round()


GAMESTOP: dict[str, Callable[[Track], Any]] = {
    "S42.gme_level": lambda t: t.over("level", "2024-05-06", "2024-05-17").max(),
    "S42.gme_n": lambda t: float(stocks_above(t)[t.day]),
}


def normal_days(t: Track, tensors: Any, events: pd.DataFrame) -> np.ndarray:
    """Test sessions outside the 5 sessions before and 10 after any event; bool over the rows of `whole`."""
    index = t.whole.index
    at = tensors.sessions.get_indexer(pd.DatetimeIndex(events["date"]))
    near = np.zeros(len(tensors.sessions), dtype=bool)
    for position in at[at >= 0]:
        near[max(position - 5, 0) : position + 11] = True
    rows = tensors.sessions.get_indexer(index)
    return tensors.test[rows] & ~near[rows]


def fusion(tensors: Any, events: pd.DataFrame) -> dict[str, Callable[[Track], Any]]:
    """Measurements of the fusion weight and of stress, which need the event list."""
    return {
        "S42.alpha_normal": lambda t: t.whole["alpha"][normal_days(t, tensors, events)].mean(),
        "S42.alpha_svb": lambda t: t.at("alpha"),
        "S44.psi_svb": lambda t: t.at("psi"),
        "S5.alpha_avg": lambda t: t.whole["alpha"][t.whole["psi"] < t.whole["psi"].median()].mean(),
    }


def claims_table(
    case: str,
    measures: dict[str, Callable[[Track], Any]],
    found: dict[str, dict[tuple[str, int], Track]],
    sentences: list[dict[str, Any]],
    claims: dict[str, dict[str, Any]],
    rules: dict[str, Any],
    market: str,
    tier: str,
    fixed: dict[str, Any] | None = None,
) -> pd.DataFrame:
    """One row a claim of the case, in the paper's order: its sentence, its number, ours by preset, verdict, reason.

    found : stop rule -> `tracks`. The verdict is read off `val` (protocol `paper`); ours under `tail` (`matched`)
    stands beside it. fixed : claim -> value of market data, the same for every seed and preset.
    """
    rows, fixed = [], fixed or {}
    for sentence in (s for s in sentences if s["case"] == case):
        for name in sentence["claims"]:
            claim = claims[name]
            row = {"paragraph": sentence["paragraph"], "the paper says": sentence["says"], "claim": name}
            row |= {"quantity": claim["quantity"], "paper": _shown(claim.get("value")), "unit": claim.get("unit")}
            for preset in PRESETS:
                ends = {}
                for rule, own in found.items():
                    of_preset = {seed: track for (p, seed), track in own.items() if p == preset}
                    values = [measures[name](track) for track in of_preset.values()] if name in measures else []
                    if name in fixed:
                        values = [fixed[name]]
                    ends[rule] = judge(claim, values, rules, market=market, tier=tier)
                line = ends["val"]
                row |= {f"{preset}": _ours(claim, line), f"{preset}: low": line["low"], f"{preset}: high": line["high"],
                        f"{preset}: seeds": line["n"], f"{preset}: matched": _ours(claim, ends["tail"]),
                        f"{preset}: verdict": line["verdict"]}  # fmt: skip
            for reason, verdict in (("refuted", REFUTED), ("not_testable", NOT_TESTABLE), ("not_run", NOT_RUN)):
                if reason in sentence and market == PAPER_MARKET:
                    row |= {f"{preset}: verdict": verdict for preset in PRESETS}
            row["why they differ"] = next(
                sentence[k] for k in ("why", "refuted", "not_testable", "not_run") if k in sentence
            )
            row["audit"] = ", ".join(claim.get("audit") or [])
            rows.append(row)
    return pd.DataFrame(rows)


def reading(table: pd.DataFrame) -> pd.DataFrame:
    """A table of claims as it is read: each sentence once, ours with its range over seeds."""
    shown = table.copy()
    for preset in PRESETS:
        ends = table[[preset, f"{preset}: low", f"{preset}: high", f"{preset}: seeds"]].itertuples(index=False)
        shown[preset] = [
            f"{ours} ({low:.3g} to {high:.3g})" if n > 1 and np.isfinite(low) and not ours.startswith("holds") else ours
            for ours, low, high, n in ends
        ]
    again = table.duplicated(["paragraph", "the paper says"])
    shown.loc[again, ["paragraph", "the paper says", "why they differ"]] = ""
    columns = ["paragraph", "the paper says", "quantity", "paper", "unit"]
    columns += [f"{preset}{part}" for preset in ("intended", "literal") for part in ("", ": verdict")]
    return shown[[*columns, "intended: matched", "why they differ", "audit"]]


def figure3_marks(value: dict[str, Any], baseline: list[str]) -> dict[str, list[tuple[str, str, float]]]:
    """The paper's numbers on Figure 3: panel -> (first day, last day, value), at the sessions that it names.

    value : claim -> number. The banks' baseline is implied by their peak and its rise; their peak has no date in the
    paper and stands on 13 March, the first session after both closures.
    """
    whole, day, week, peak = tuple(baseline), ("2023-03-10",) * 2, ("2023-03-17",) * 2, ("2023-03-13",) * 2
    steps = (("baseline", whole), ("mar10", day), ("mar17", week))
    implied = {k: value[f"F3.{k}.peak"] / (1 + value[f"F3.{k}.rel"] / 100) for k in ("bank", "nonbank")}
    return {
        "a": [(*whole, value["F3.mpi.baseline"]), (*day, value["F3.mpi.event_day"])],
        "focus": [(*whole, implied["bank"]), (*peak, value["F3.bank.peak"])],
        "others": [(*whole, implied["nonbank"]), (*peak, value["F3.nonbank.peak"])],
        "w1": [*((*span, value[f"F3.ps.{name}"]) for name, span in steps), (*PHASES[0], value["F3.ph1.ps"])],
        "w2": [(*week, value["F3.liq.level"])],
        "w3": [("2023-03-10", "2023-03-17", value["F3.sc.level"])],
        "w4": [(*week, value["F3.mom.level"])],
    }


def _ours(claim: dict[str, Any], line: dict[str, Any]) -> str:
    """Our value as text; for a direction or a check in how many seeds it holds."""
    if not line["n"]:
        return ""
    if claim.get("value") is None:
        return f"holds in {round(line['ours'] * line['n'])} of {line['n']}"
    return _shown(line["ours"])


def _shown(value: Any) -> str:
    """A value of the paper or ours as text: three digits, a range as `a to b`, a check as yes or no."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, list | tuple):
        return " to ".join(_shown(v) for v in value)
    return f"{value:.3g}" if isinstance(value, int | float) else str(value)
