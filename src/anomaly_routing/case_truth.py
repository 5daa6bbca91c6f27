"""Cases of a market that names none, and what a case is worth where the truth is known (a simulated market)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from tqdm import tqdm

from anomaly_routing.case_market import DEFAULT_PRESET, EXPERTS, CaseError, CaseMarket
from anomaly_routing.case_network import drivers
from anomaly_routing.case_study import CaseStudy, case_study
from anomaly_routing.model.scoring import scores

BEFORE, AFTER = 23, 15  # sessions of a case that is not spelt out: the paper's baseline fits into them
BASELINE = (21, 14)  # sessions before the event: the paper's baseline, 8 to 17 February before 10 March (A28)
MECHANISMS = ("price_shock", "liquidity", "contagion", "momentum")
MOST = 6  # stocks drawn one by one


def default_cases(market: CaseMarket, count: int = 2) -> list[dict[str, Any]]:
    """Up to `count` cases from the market's own test events, contagion first, those with known stocks before others.

    Without a test event: the test session with the highest pressure index, and its stocks with the highest scores.
    Entries as in the parameters of the stage: id, label, event, date, tickers, focus, span, baseline.
    """
    tensors, run = market.tensors, market.first_run(DEFAULT_PRESET)
    rows = np.flatnonzero(tensors.scored)
    events = market.events[market.events["split"] == "test"].copy()
    at = tensors.sessions.get_indexer(pd.DatetimeIndex(events["date"]))
    events = events[(at - BEFORE >= rows[0]) & (at + AFTER <= rows[-1])]
    order = np.lexsort((events["date"], events["mechanism"] != "contagion", events["tickers"].map(len) == 0))
    found = [_case(market, e.id, e.label, e.date, list(e.tickers)) for e in events.iloc[order[:count]].itertuples()]
    if not found:
        inside = tensors.sessions[tensors.test][BEFORE : -AFTER or None]
        found = [_case(market, "peak", "highest pressure", run.daily["mpi"].reindex(inside).idxmax(), [])]
    return found


def _case(market: CaseMarket, name: str, label: str, date: pd.Timestamp, tickers: list[str]) -> dict[str, Any]:
    tensors, run = market.tensors, market.first_run(DEFAULT_PRESET)
    position = tensors.sessions.get_loc(date)
    if not tickers:  # nobody is named: those that the model finds most anomalous on the day
        day = pd.Series(run.score[run.score_sessions.get_loc(date)], run.tickers)
        tickers = list(day.sort_values(ascending=False, kind="stable").dropna().index[:3])
    shown = [t for t in tickers if tensors.active[position - BEFORE : position + AFTER, tensors.tickers.index(t)].any()]
    dates = [f"{tensors.sessions[position + k]:%Y-%m-%d}" for k in (-BEFORE, AFTER, -BASELINE[0], -BASELINE[1])]
    return {"id": name, "label": label, "event": "onset", "date": f"{date:%Y-%m-%d}", "tickers": shown[:MOST],
            "focus": shown, "span": dates[:2], "baseline": dates[2:]}  # fmt: skip


def focus_of(market: CaseMarket, case: dict[str, Any]) -> np.ndarray:
    """The stocks in the middle of a case, bool [N]: the market's banks (`focus: banks`), or those that it lists."""
    if case.get("focus") == "banks":
        return market.tensors.is_bank.astype(bool)
    return np.isin(np.array(market.tensors.tickers, dtype=object), case.get("focus") or case["tickers"])


def truth_table(market: CaseMarket, before: int = 12, after: int = 5) -> pd.DataFrame:
    """`truth` of every test event with known stocks and mechanism; those too near the edge are left out."""
    known = market.events[(market.events["split"] == "test") & market.events["mechanism"].notna()]
    rows = []
    for event in tqdm([e for e in known.itertuples() if len(e.tickers)], desc="events", unit="event"):
        try:
            study = case_study(market, event.date, list(event.tickers), before=before, after=after, presets=())
        except CaseError:
            continue
        rows.append(truth(study, event))
    return pd.DataFrame(rows)


def truth(study: CaseStudy, event: Any, sessions: int = 5) -> dict[str, Any]:
    """How a case of known cause is seen: default preset, first seed, the event's first sessions.

    event : a row of the event list with `tickers` and `mechanism`.
    Returns auc, the chance that a stock of the event has a higher mean score than another one (0.5: blind); the mean
    scores of both; the mechanism, and the one named by the largest mean routing weight of the event's stocks, by the
    largest mean expert error in units of that error's own mean over the sessions before, and by the largest share of
    E on each stock's highest of these sessions (drivers); chance of each is a quarter.
    """
    market, out, tensors = study.market, study.output, study.market.tensors
    info = market.first_run(DEFAULT_PRESET).info
    active = tensors.active[study.positions]
    score = scores(out["error"], active, info["mu_tail"], info["sigma_tail"])
    hit = np.isin(np.array(tensors.tickers, dtype=object), list(event.tickers))
    at = int(study.sessions.get_loc(study.date))
    inside = slice(at, at + sessions)
    known = np.isfinite(score[inside]).any(0)
    mean = np.array([np.nanmean(score[inside, i]) if known[i] else np.nan for i in range(len(hit))])
    own, other = mean[hit & known], mean[~hit & known]
    ranks = rankdata(np.r_[own, other])[: len(own)].sum() - len(own) * (len(own) + 1) / 2
    weight = out["routing"][inside, hit].mean((0, 1))
    usual = np.maximum(out["expert_error"][:at, hit].mean((0, 1)), 1e-8)
    surplus = out["expert_error"][inside, hit].mean((0, 1)) / usual
    highest = {i: at + int(np.nanargmax(score[inside, i])) for i in np.flatnonzero(hit & known)}
    parts = [drivers(market, out, study.positions, tensors.tickers[i], k) for i, k in highest.items()]
    share = pd.concat(parts).groupby("expert")["share"].sum()
    return {
        "event": event.id,
        "stocks": int(hit.sum()),
        "auc": float(ranks / (len(own) * len(other))) if len(own) and len(other) else np.nan,
        "score_of_event_stocks": float(own.mean()) if len(own) else np.nan,
        "score_of_others": float(other.mean()) if len(other) else np.nan,
        "mechanism": EXPERTS[MECHANISMS.index(event.mechanism)],
        "by_weight": EXPERTS[int(weight.argmax())],
        "by_expert_error": EXPERTS[int(surplus.argmax())],
        "by_share_of_E": str(share.idxmax()),
    }
