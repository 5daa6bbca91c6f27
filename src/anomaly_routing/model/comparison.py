"""Notebook 05: the model beside a detector without training, what it wins and what it loses, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

HIGHER = ("hits", "hits, test", "median lead", "episode precision", "AUC", "AP")
LOWER = ("p", "p, test", "p, test collapsed", "false alarms", "noise to signal")
SAID = {"hits, test": "test hits", "p, test": "test p", "p, test collapsed": "test p with March 2023 once"}
PLAIN = "mean_abs_z"
MODEL = "full model"


def won_and_lost(own: pd.Series, plain: pd.Series) -> dict[str, list[str]]:
    """Measures of two rows of `scoreboard.board` by outcome, each with its two figures: won, lost, equal, unknown.

    unknown : one of the two has none, as a detector without a hit has no lead.
    """
    found: dict[str, list[str]] = {"won": [], "lost": [], "equal": [], "unknown": []}
    for measure in (*HIGHER, *LOWER):
        a, b, name = float(own[measure]), float(plain[measure]), SAID.get(measure, measure)
        if pd.isna(a) or pd.isna(b):
            found["unknown"].append(name)
        elif a == b:
            found["equal"].append(f"{name} ({a:.3g})")
        else:
            kind = "won" if (a > b) == (measure in HIGHER) else "lost"
            found[kind].append(f"{name} ({a:.3g} against {b:.3g})")
    return found


def hits_beside_days(own: pd.Series, plain: pd.Series) -> str:
    """`6 hits on 8.8% alarm days against 5 on 2.6%, 3.4 times the days`."""
    a, b = float(own["alarm days"]), float(plain["alarm days"])
    times = f", {a / b:.1f} times the days" if b else ""
    return f"{own['hits']:.0f} hits on {a:.1%} alarm days against {plain['hits']:.0f} on {b:.1%}{times}"


def verdict(own: pd.Series, plain: pd.Series) -> str:
    """What is lost first, then what is won, equal, and what one of the two lacks."""
    found, parts = won_and_lost(own, plain), []
    for kind, words in (("lost", "loses on"), ("won", "wins on")):
        parts.append(f"**it {words} {', '.join(found[kind])}**" if found[kind] else f"it {words} nothing")
    parts += [f"{kind}: {', '.join(found[kind])}" for kind in ("equal", "unknown") if found[kind]]
    return "; ".join(parts)


def verdicts(boards: Mapping[str, pd.DataFrame]) -> str:
    """A list, one line for each model and protocol; boards : protocol -> `scoreboard.board`, with `mean_abs_z`."""
    lines = []
    for protocol, table in boards.items():
        rows = table.set_index("method")
        plain = rows.loc[PLAIN]
        lines += [
            f"- `{m}` under `{protocol}`: {hits_beside_days(rows.loc[m], plain)} of `{PLAIN}`; "
            f"{verdict(rows.loc[m], plain)}"
            for m in rows.index[rows.family == MODEL]
        ]
    return "\n".join(lines)


def bullets(boards: Mapping[str, pd.DataFrame], shown: Sequence[str]) -> str:
    """The findings of each protocol, for the methods `shown`: hits beside alarm days, measures lost and won against
    `mean_abs_z`, detectors with a higher average precision."""
    lines = []
    for protocol, table in boards.items():
        rows, ours = table.set_index("method"), []
        for m in shown:
            found = won_and_lost(rows.loc[m], rows.loc[PLAIN])
            lost, won = (", ".join(text.split(" (")[0] for text in found[k]) or "nothing" for k in ("lost", "won"))
            ahead = [f"`{d}`" for d in rows.index if rows.family[d] != MODEL and rows.AP[d] > rows.AP[m]]
            ours.append(
                f"`{m}` {hits_beside_days(rows.loc[m], rows.loc[PLAIN])} of `{PLAIN}` (of {rows.of[m]:.0f} events, "
                f"by chance {rows['by chance'][m]:.1f}, p {rows.p[m]:.3f}); it loses on {lost} and wins on {won}; "
                f"ahead of it by average precision: {', '.join(ahead) or 'none'}"
            )
        chance = rows.seeds["random"] if "random" in rows.index else "not run"
        lines.append(f"- Protocol `{protocol}`: {'. '.join(ours)}. Random scores, hits by seed: {chance}.")
    return "\n".join(lines)
