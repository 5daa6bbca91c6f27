"""What notebook 07 says of its own runs: sentences of computed values, longer than a cell should hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from anomaly_routing.case_market import EXPERTS, CaseMarket
from anomaly_routing.case_measures import DEFAULT_PRESET, NOTHING, Track
from anomaly_routing.case_tables import silent_consensus
from anomaly_routing.model.pressure_index import COMPONENTS, WEIGHTS
from anomaly_routing.panel import FEATURE_WINDOW
from anomaly_routing.prose import sentence
from anomaly_routing.tensors import Tensors

RARE = 0.05  # share of the sessions on which what is rare happens
Tracks = Mapping[tuple[str, int], Track]


def by_run(found: Tracks, tell: Any) -> str:
    """`intended, seed 0: ...; intended, seed 1: ...`, of what `tell` makes of each track."""
    return "; ".join(f"{preset}, seed {seed}: {tell(track)}" for (preset, seed), track in found.items())


def _spans(days: pd.DatetimeIndex, sessions: pd.DatetimeIndex) -> str:
    """`10 February, 27 February to 1 March`: days in words, neighbouring sessions as one span."""
    if len(days) in (0, len(sessions)):
        return "every session" if len(days) else "no session"
    runs = np.split(days, np.flatnonzero(np.diff(sessions.get_indexer(days)) > 1) + 1)
    ends = [dict.fromkeys((f"{run[0]:%-d %B}", f"{run[-1]:%-d %B}")) for run in map(pd.DatetimeIndex, runs)]
    return ", ".join(" to ".join(pair) for pair in ends)


def outage_words(found: Tracks) -> str:
    """The market's mean Liquidity weight of the day by run, since the stock's own is kept for the first seed alone."""
    return sentence(
        "The stock's own weights are those of the first seed. The mean Liquidity weight of all stocks on the day, "
        "beside its baseline: {t}; an even gate gives {e:.2f}.",
        t=by_run(found, lambda t: f"{t.at('w2'):.2f} ({t.base('w2'):.2f})"),
        e=1 / len(EXPERTS),
    )


def consensus_words(found: Tracks) -> str:
    """How much of the index's moves is the switch in its consensus part."""

    def tell(track: Track) -> str:
        switch = silent_consensus(track)
        rest = f"{switch['rise_without']:.0f}% above its other sessions"
        rest = rest if np.isfinite(switch["rise_without"]) else "it has no other sessions"
        return (
            f"silent on {_spans(switch['days'], track.daily.index)}; {switch['rise']:.0f}% above the baseline on the "
            f"day, {rest}; largest step {switch['jump']:.2f} on {switch['jump_day']:%-d %B}, of it "
            f"{switch['of_consensus']:.2f} by consensus"
        )

    return sentence(
        "Consensus (the fourth component) is zero by definition where fewer than two stocks are above the cut, which "
        "alone takes up to {w:.2f} off the index: {t}. So a jump out of such a session is partly a switch.",
        w=WEIGHTS[COMPONENTS.index("consensus")],
        t=by_run(found, tell),
    )


def focus_words(track: Track, calm: pd.Timestamp, name: str) -> str:
    """How calm the calm day is, and what the baseline of the middle leaves for a rise of a bounded score."""
    base = track.base("focus")
    return sentence(
        "Calm is the baseline session with the lowest stress, {c}: the {n} stand at {v:.2f} there, where they average "
        "{b:.2f} over the baseline and reach {h:.2f} on {hd}. With such a baseline even a score of one would be a rise "
        "of no more than {m:.0f} percent, so a rise in percent says little.",
        c=f"{calm:%-d %B}",
        n=name,
        v=track.at("focus", calm),
        b=base,
        h=track.daily["focus"][track.baseline].max(),
        hd=f"{track.daily['focus'][track.baseline].idxmax():%-d %B}",
        m=100 * (1 / base - 1),
    )


def weight_words(spread: pd.DataFrame, found: Tracks) -> str:
    """Which expert leads on the day, and whether seed or event moves the weights more."""
    weights = spread.set_index(["preset", "seed"])[list(EXPERTS)]
    moves, apart = largest_moves(weights, found)
    led = [f"{p}, seed {s}: {row.idxmax()} ({row.max():.2f})" for (p, s), row in weights.iterrows()]
    gates = [f"{p}, seed {s}: {', '.join(row.index[row < NOTHING])}" for (p, s), row in weights.iterrows()]
    dead = [text for text in gates if not text.endswith(": ")]
    told = f"two seeds of one preset differ by up to {apart:.2f} on the same day"
    return sentence(
        "The expert with the largest mean weight on the day: {l}. Experts that get nothing at all: {x}. Within the "
        "whole case no run's mean weight moves by more than {m:.2f}; {a}. {so}",
        l="; ".join(led),
        x="; ".join(dead) or "none",
        m=moves,
        a=told if apart > 0 else "there is one seed of a preset, so nothing can be said of seeds",
        so="What is read as the mechanism depends more on the seed than on the event (A57)." if apart > moves else "",
    )


def largest_moves(weights: pd.DataFrame, found: Tracks) -> tuple[float, float]:
    """Largest range of a mean weight within the case, over the runs; largest distance of two seeds of a preset.

    weights : index (preset, seed), one column an expert, on the day of the event.
    """
    ranges = [t.daily[f"w{k}"].max() - t.daily[f"w{k}"].min() for t in found.values() for k in range(1, 5)]
    apart = weights.groupby("preset").agg(lambda w: w.max() - w.min()).to_numpy().max()
    return float(max(ranges)), float(apart)


def seeds_words(market: CaseMarket, found: Tracks) -> str:
    """On which runs the claims about single stocks rest, and whether both stop rules chose the same weights."""
    first = found[DEFAULT_PRESET, market.seeds(DEFAULT_PRESET)[0]]
    usual = first.daily[["w1", "w2", "w3", "w4"]].mean().set_axis(list(EXPERTS))
    dead = list(usual.index[usual < NOTHING])
    same = market.same_weights(DEFAULT_PRESET)
    return sentence(
        "Single stocks are kept for seed {s} alone and under the stop rule `tail`, so claims about them rest on that "
        "seed and are cut at its own threshold. Its gate {g}. The two stop rules chose the same weights in {n} of "
        "{a} seeds of `{p}`{c}.",
        s=market.seeds(DEFAULT_PRESET)[0],
        g=f"is collapsed: {', '.join(dead)} get nothing" if dead else "uses all four experts",
        n=sum(same.values()),
        a=len(same),
        p=DEFAULT_PRESET,
        c=", so nothing hangs on the rule" if all(same.values()) else "",
    )


def driver_words(drivers: pd.DataFrame, stocks: pd.DataFrame) -> str:
    """What the errors of the case's stocks are made of, beside what the weight names. stocks : of one preset."""
    category = drivers.groupby(["ticker", "expert"])["share"].sum().unstack()  # noqa: PD010
    peaks = drivers.groupby("ticker")["session"].first()
    weights = stocks.set_index(["ticker", "session"])[["w1", "w2", "w3", "w4"]].set_axis(list(EXPERTS), axis=1)
    routed = weights.loc[list(peaks.items())].droplevel("session")
    told = [
        f"{t} {category.loc[t].idxmax()} ({category.loc[t].max():.0%}), by weight {routed.loc[t].idxmax()} "
        f"({routed.loc[t].max():.0%})"
        for t in peaks.index
    ]
    return sentence(
        "The experts make {a:.0%} of E on average, the reconstruction the rest, which the routing reaches through the "
        "code alone. The category with the largest share, and the expert that the weight names: {c}.",
        a=drivers.groupby("ticker")["expert_share"].sum().mean(),
        c="; ".join(told),
    )


def best_verdict_words(judged: Mapping[str, pd.DataFrame]) -> str:
    """The best verdict of the claims that needed training, as the tables have it."""
    table = pd.concat(judged.values())
    seeds = table[f"{DEFAULT_PRESET}: seeds"].fillna(0)
    trained = table[table["trained"]]
    given = trained[f"{DEFAULT_PRESET}: verdict"].str.split(" \\(").str[0]
    best = next((v for v in ("match", "close", "differs") if v in set(given)), "none")
    return sentence(
        "The best verdict of a claim that needs training is *{b}* ({n} of {a}), on at most {s:.0f} seeds.",
        b=best,
        n=int((given == best).sum()),
        a=int(given.isin(["match", "close", "differs"]).sum()),
        s=seeds[table["trained"]].max() if len(trained) else 0,
    )


def reasons(values: Mapping[str, Sequence[Any]], seeds: Sequence[int], claims: Mapping[str, Any]) -> dict[str, str]:
    """Claim -> what parts its number from ours in our own runs, as half a sentence.

    values : claim -> one value a seed, in the order of `seeds`. Where a number is claimed: on which side of it the
    seeds lie and how near the nearest comes; seeds whose weight is nothing; seeds without a value.
    """
    found = {}
    for name, own in values.items():
        claim, parts = claims[name], []
        pairs = [(s, v) for s, v in zip(seeds, own, strict=True) if not isinstance(v, bool | tuple)]
        known = [(s, v) for s, v in pairs if np.isfinite(v)]
        if claim.unit == "weight" and (dead := [s for s, v in known if abs(v) < NOTHING]):
            parts.append(f"the expert gets nothing in seed {', '.join(map(str, dead))}")
        if isinstance(claim.value, int | float) and known:
            gaps = {s: v - claim.value for s, v in known}
            near = min(gaps, key=lambda s: abs(gaps[s]))
            side = "above" if min(gaps.values()) > 0 else "below" if max(gaps.values()) < 0 else "on both sides"
            parts.append(f"seeds {side}, the nearest ({near}) off by {abs(gaps[near]):.3g}")
        if claim.id.endswith(".dir"):
            parts.append("positive: it fell")
        if missing := [s for s, v in pairs if not np.isfinite(v)]:
            because = "" if len(missing) < len(own) else " (not kept, or of an expert that gets nothing)"
            parts.append(f"no value from seed {', '.join(map(str, missing))}{because}")
        found[name] = "; ".join(parts)
    return found


def liquidity_words(table: pd.DataFrame) -> str:
    """Which liquidity features of the banks are remarkable. table : of `case_signatures.liquidity_of_banks`."""
    above = table[table["remarkable"]]["feature"]
    near = table.loc[(table["ours"] - table["cut"]).idxmax()]
    return sentence(
        "Liquidity features of the banks in the crisis week above their cut of the training years: {a}. Nearest to it "
        "or furthest above is `{f}`, {o:.2f} against {c:.2f}. The spread is itself a mean over {w} sessions, so a week "
        "hardly moves it: that it is unremarkable says little about the week.",
        a=", ".join(f"`{name}`" for name in above) or "none",
        f=near["feature"],
        o=near["ours"],
        c=near["cut"],
        w=FEATURE_WINDOW,
    )


def fallen_words(tensors: Tensors, day: str) -> str:
    """How many banks fell on a session, and how many below the other stocks' median, beside what is usual on the test
    sessions; the second decides, since all stocks fall on many a day."""
    bank = tensors.is_bank.astype(bool)
    fell = _share_below(tensors, bank, np.zeros(len(tensors.sessions)))
    returns = pd.DataFrame(np.where(tensors.active, tensors.returns, np.nan)[:, ~bank])
    behind = _share_below(tensors, bank, returns.median(axis=1).to_numpy())
    often = {name: (own[tensors.test] >= own[day]).mean() for name, own in (("fell", fell), ("behind", behind))}
    alone = "and so no sign that the shock was of more than one bank"
    return sentence(
        "On {d} {f:.0%} of the banks fell, on {u:.0%} of the test sessions as large a share. Net of the other stocks' "
        "median return {b:.0%} fell, on {v:.0%} of the test sessions as large a share, {s}.",
        d=f"{pd.Timestamp(day):%-d %B}",
        f=fell[day],
        u=often["fell"],
        b=behind[day],
        v=often["behind"],
        s="which is rare: the shock was of the sector, not of one bank" if often["behind"] <= RARE else alone,
    )


def _share_below(tensors: Tensors, group: np.ndarray, bar: np.ndarray) -> pd.Series:
    """Share of the group's [N] known returns below the session's bar [S]; by session."""
    returns = np.where(tensors.active, tensors.returns, np.nan)[:, group]
    known = np.maximum(np.isfinite(returns).sum(1), 1)
    return pd.Series((returns < bar[:, None]).sum(1) / known, tensors.sessions)


def graph_words(calm: pd.DataFrame, late: pd.DataFrame, on_day: str, usual: pd.Series | None) -> str:
    """How the learned graph moves from the baseline to the sessions from the event on, beside what it is given and its
    own noise. calm, late : rows of `network_map.graph_table`. usual : of `network_map.usual_changes`."""
    change = late["drawn_from_outside"].mean() - calm["drawn_from_outside"].mean()
    text = sentence(
        "From the baseline to the {n} sessions from {d} on, the middle keeps {a:.2f}, then {b:.2f} of its own learned "
        "weight (prior graph: {pk:.2f}, even: {e:.2f}), and draws {f:.2f}, then {g:.2f} of everybody else's (prior "
        "graph: {pd:.2f}).",
        n=len(late),
        d=on_day,
        a=calm["kept_inside"].mean(),
        b=late["kept_inside"].mean(),
        e=late["even"].mean(),
        pk=late["prior_keeps"].mean(),
        f=calm["drawn_from_outside"].mean(),
        g=late["drawn_from_outside"].mean(),
        pd=late["prior_draws"].mean(),
    )
    if usual is None or not len(usual):
        return text
    low, high = usual.quantile([0.05, 0.95])
    noise = low <= change <= high
    spreads = "spreads from the middle into the market" if change > 0 else "moves away from the middle"
    return f"{text} " + sentence(
        "The change in what it draws, {c:+.2f}, is as far from zero in {p:.0%} of the {n} test sessions (nine in ten "
        "lie between {l:+.2f} and {h:+.2f}): the graph {m}.",
        c=change,
        p=(usual.abs() >= abs(change)).mean(),
        n=len(usual),
        l=low,
        h=high,
        m="does no more than it does at other times" if noise else spreads,
    )
