"""What is measured for a claim about one of the paper's cases, on one stored run of the model.

A measurement is a function of a `Track`, one seed of one preset; it gives a number, a range (low, high), True or False
for a check, and for a claimed direction a number that is positive when the claim is right. NaN means that this seed
does not keep what is needed (single stocks are kept for the first seed).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from anomaly_routing.case_study import CaseStudy


class CaseError(ValueError):
    """A case that cannot be studied; the message says what is possible."""


DEFAULT_PRESET = "intended"  # the preset whose network, graph and attention a case study keeps
NOTHING = 0.001  # a routing weight below it is none: an expert that is never used neither rises nor falls


@dataclass(frozen=True)
class Track:
    """One seed's daily table of a case, index = session; `whole` is the same over all sessions of the run.

    baseline : the sessions whose mean is the baseline. study : None for a seed that keeps no single stocks.
    theta_s : stock-day cut of the stop rule that `daily` is read under; theta_tail : of the rule `tail`, under which
        single stocks are kept.

    Raises CaseError for a baseline outside the case.
    """

    daily: pd.DataFrame
    whole: pd.DataFrame
    day: pd.Timestamp
    baseline: pd.DatetimeIndex
    study: CaseStudy | None = None
    preset: str = DEFAULT_PRESET
    theta_s: float = np.nan
    theta_tail: float = np.nan

    def __post_init__(self) -> None:
        outside = self.baseline.difference(self.daily.index)
        if len(outside) or not len(self.baseline):
            days = self.daily.index
            said = f"{outside[0]:%Y-%m-%d} of the baseline is outside the case" if len(outside) else "no baseline"
            raise CaseError(f"{said}: possible are the sessions {days[0]:%Y-%m-%d} to {days[-1]:%Y-%m-%d} of its span")

    def at(self, column: str, day: str | pd.Timestamp | None = None) -> float:
        """Value on the day of the event, or another session of the case."""
        wanted = self.day if day is None else pd.Timestamp(day)
        if wanted not in self.daily.index:
            days = self.daily.index
            raise CaseError(f"{wanted:%Y-%m-%d} is no session of the case: {days[0]:%Y-%m-%d} to {days[-1]:%Y-%m-%d}")
        return float(self.daily[column][wanted])

    def base(self, column: str) -> float:
        """Mean over the baseline sessions."""
        return float(self.daily.loc[self.baseline, column].mean())

    def rise(self, column: str, value: float) -> float:
        """`value` above the baseline, in percent of it, from unrounded numbers; NaN of a baseline of nothing."""
        base = self.base(column)
        return 100 * (value / base - 1) if base >= NOTHING else np.nan

    def fall(self, column: str, day: str) -> float:
        """How far a weight lies below its baseline; zero where that is nothing."""
        below = self.base(column) - self.at(column, day)
        return below if abs(below) > NOTHING else 0.0

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
    """Does the share of non-banks above the stock-day cut grow from phase to phase? Stocks are those of rule `tail`."""
    other = ~t.study.market.tensors.is_bank
    shares = [(_crisis_scores(t, *p).loc[:, other] > t.theta_tail).to_numpy().mean() for p in PHASES]
    return bool(shares[0] < shares[1] < shares[2])


SVB: dict[str, Callable[[Track], Any]] = {
    "F3.mpi.event_day": lambda t: t.at("MPI"),
    "F3.mpi.baseline": lambda t: t.base("MPI"),
    "F3.mpi.rel": lambda t: t.rise("MPI", t.at("MPI")),
    "F3.indiv.rel": lambda t: t.rise("S", t.at("S")),
    "F3.mpi_gt_indiv": lambda t: t.rise("MPI", t.at("MPI")) - t.rise("S", t.at("S")),
    "F3.bank.peak": lambda t: t.over("banks", *CRISIS).max(),
    "F3.bank.rel": lambda t: t.rise("banks", t.over("banks", *CRISIS).max()),
    "F3.nonbank.peak": lambda t: t.at("nonbanks", _bank_peak_day(t)),
    "F3.nonbank.rel": lambda t: t.rise("nonbanks", t.at("nonbanks", _bank_peak_day(t))),
    "F3.gap": lambda t: t.over("banks", *CRISIS).max() - t.at("nonbanks", _bank_peak_day(t)),
    "F3.score.sivb": lambda t: t.over("score_SIVB", *CRISIS).max(),
    "F3.score.frc": lambda t: t.over("score_FRC", *CRISIS).max(),
    "F3.score.sbny": lambda t: t.over("score_SBNY", *CRISIS).max(),
    "F3.top3": lambda t: (
        t.needs_stocks(lambda: bool((failing_ranks(t) <= 3).all())) if t.preset == DEFAULT_PRESET else np.nan
    ),
    "F3.ps.baseline": lambda t: t.base("w1"),
    "F3.ps.mar10": lambda t: t.at("w1"),
    "F3.ps.mar17": lambda t: t.at("w1", "2023-03-17"),
    "F3.sc.level": lambda t: t.over("w3", "2023-03-10", "2023-03-17").mean(),
    "F3.sc.rel": lambda t: t.rise("w3", t.over("w3", "2023-03-10", "2023-03-17").mean()),
    "F3.liq.level": lambda t: t.at("w2", "2023-03-17"),
    "F3.mom.level": lambda t: t.at("w4", "2023-03-17"),
    "F3.liq.dir": lambda t: t.fall("w2", "2023-03-17"),
    "F3.mom.dir": lambda t: t.fall("w4", "2023-03-17"),
    "F3.ph1.ps": lambda t: t.over("w1", *PHASES[0]).max(),
    "F3.ph2.ps": lambda t: t.over("w1", *PHASES[1]).max(),
    "F3.ph2.sc": lambda t: t.at("w3"),
    "F3.ph3.sc": lambda t: t.over("w3", *PHASES[2]).mean(),
    "F3.ph3.ps": lambda t: (t.over("w1", *PHASES[2]).min(), t.over("w1", *PHASES[2]).max()),
    "F3.progress": lambda t: t.needs_stocks(lambda: _breadth_grows(t)),
    "ABS.svb.ps_on_closure": lambda t: t.at("w1"),
    "ABS.svb.ps_on_closure_rel": lambda t: t.rise("w1", t.at("w1")),
    "ABS.svb.ps_peak": lambda t: t.over("w1", "2023-03-10", "2023-03-17").max(),
    "ABS.svb.ps_peak_rel": lambda t: t.rise("w1", t.over("w1", "2023-03-10", "2023-03-17").max()),
    "S5.ps_track": lambda t: (t.base("w1"), t.over("w1", "2023-03-10", "2023-03-17").max()),
}

# --- the other cases -------------------------------------------------------------------------------------------------
WEEK = ("2024-07-19", "2024-07-26")
TECHNOLOGY = "Information Technology"
UNMOVED = 0.05  # a weight that stays at its baseline moves by no more: `close` of the rules on weights


def _tech_mass(t: Track) -> float:
    """Attention mass of technology on itself, on the day; the study holds attention for its own preset alone."""
    from anomaly_routing.case_network import sector_mass

    if t.preset != DEFAULT_PRESET:
        return np.nan
    table = sector_mass(t.study.market, t.study.output, t.study.positions, TECHNOLOGY).set_index("session")
    return float(table["mass"][t.day])


def _rise_of_stock(t: Track, ticker: str, column: str) -> float:
    """Distance of the week's highest value from the mean of the baseline; NaN where that is nothing."""
    own = t.stock(ticker, column)
    usual = own[t.baseline].mean()
    return abs(own.loc[slice(*WEEK)].max() - usual) if usual >= NOTHING else np.nan


def _stays(t: Track, ticker: str, column: str) -> Any:
    """Whether a stock's weight stays at its baseline; NaN for an expert that gets nothing and can do no other."""
    moved = _rise_of_stock(t, ticker, column)
    return bool(moved <= UNMOVED) if np.isfinite(moved) else np.nan


CROWDSTRIKE: dict[str, Callable[[Track], Any]] = {
    "S42.crwd_liq": lambda t: t.needs_stocks(lambda: t.stock("CRWD", "w2").loc[slice(*WEEK)].max()),
    "S42.crwd_ps": lambda t: t.needs_stocks(lambda: _stays(t, "CRWD", "w1")),
    "S44.crwd.err_liq": lambda t: t.needs_stocks(lambda: t.stock("CRWD", "l2")[t.day]),
    "S44.xmodal_focus": lambda t: t.needs_stocks(lambda: _tech_mass(t)),
}


def stocks_above(t: Track) -> pd.Series:
    """Number of stocks above the stock-day cut theta_s, by session."""
    return (t.daily["c1"] * t.daily["n_active"]).round()


GAMESTOP_WEEKS = ("2024-05-06", "2024-05-17")  # whose highest level the ledger judges (`deciders.detection`)
GAMESTOP: dict[str, Callable[[Track], Any]] = {"S42.gme_n": lambda t: float(stocks_above(t)[t.day])}
FUSION: dict[str, Callable[[Track], Any]] = {
    "S42.alpha_svb": lambda t: t.at("alpha"),
    "S44.psi_svb": lambda t: t.at("psi"),
}
# What is measured on single stocks: of the first seed, under the stop rule `tail`, whichever rule the series are of
OF_STOCKS = {"F3.score.sivb", "F3.score.frc", "F3.score.sbny", "F3.top3", "F3.progress", *CROWDSTRIKE}
MEASURES = {"svb": SVB, "crowdstrike": CROWDSTRIKE, "gamestop": GAMESTOP, "fusion": FUSION}
