"""Is any detector really better, at an equal allowance of alarms? Used by notebook 12 and the README alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from anomaly_routing.ledger.summary import MODEL
from anomaly_routing.ledger.verdict import LEVEL
from anomaly_routing.prose import sentence

NAMED = 3  # methods named in the sentence; the rest is counted


def against_chance(methods: dict[str, Any]) -> pd.DataFrame:
    """Causal methods at the matched budget on the test events, the most hits on the fewest alarm days first.

    Index method; `hits`, `of`, `alarm_days`, `p` by rotation of the same alarms, `once` the same with March 2023 as one
    event, `p_both` the larger of the two, `holm` that corrected for all methods, `family`.
    """
    lines = {name: (m["matched"], m["family"]) for name, m in methods.items() if not m["lookahead"]}
    table = pd.DataFrame.from_dict(
        {
            name: (
                *(line["hits_test"], line["n_events_test"], line["alarm_rate_test"]),
                *(line["chance_p_test"], line["chance_p_test_march_collapsed"], family),
            )
            for name, (line, family) in lines.items()
        },
        orient="index",
        columns=["hits", "of", "alarm_days", "p", "once", "family"],
    )
    table[["p", "once"]] = table[["p", "once"]].astype(float)
    table["p_both"] = table[["p", "once"]].max(axis=1, skipna=False)
    table["holm"] = holm(table.p_both)
    return table.sort_values(["hits", "alarm_days"], ascending=[False, True], kind="stable")


def holm(p: pd.Series) -> pd.Series:
    """Holm's (1979) adjusted p-values; NaN stays NaN and is no test."""
    known = p.dropna().sort_values(kind="stable")
    stepped = np.maximum.accumulate(known.to_numpy() * np.arange(len(known), 0, -1))
    return pd.Series(np.minimum(stepped, 1.0), known.index, dtype=float).reindex(p.index)


def better_sentence(methods: dict[str, Any]) -> str:
    """Who hits more test events than chance at an equal allowance, by how little, and what is left after correction."""
    table = against_chance(methods)
    if not table.p_both.notna().any():
        return "No method was judged on a test event at an equal allowance of alarms."
    found, left, events = table[table.p_both < LEVEL], table[table.holm < LEVEL], int(table.of.max())
    once = (table.p != table.once).any()  # some events count as one
    best = "; most hits: " + "; ".join(_named(table.loc[m]) for m in found.index[:NAMED]) if len(found) else ""
    own = ""
    if MODEL in table.index:
        which = "one of them" if MODEL in found.index else "not among them"
        own = f"The paper's model is {which}: {_named(table.loc[MODEL])}. "
    few = f": {events} events are too few to tell skill from luck among so many" if left.empty else ""
    return sentence(
        "**Is any of them really better, at an equal allowance of alarms?** {k} of {n} causal methods hit more of the "
        "{events} test events than their own alarms moved in time{once} (p < {level}){best}. {own}After Holm's "
        "correction for {tests} tries {left} left (smallest p {low:.2f}){few}.",
        k=len(found) or "None",
        n=len(table),
        events=events,
        once=", also with those of March 2023 as one" if once else "",
        level=LEVEL,
        best=best,
        own=own,
        tests=int(table.p_both.notna().sum()),
        left=", ".join(f"`{m}`" for m in left.index) + " is" if len(left) else "none is",
        low=table.holm.min(),
        few=few,
    )


def _named(row: pd.Series) -> str:
    kind = ", trivial" if row.family == "trivial" else ""
    p = " and ".join(dict.fromkeys(f"{value:.2f}" for value in (row.p, row.once)))  # once, where they read alike
    return f"`{row.name}`{kind} ({row.hits:.0f} on {row.alarm_days:.0%} alarm days, p {p})"
