"""Table 1 redone, as Markdown for README and notebook: counts with seeds, intervals and chance, a method a line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from anomaly_routing.table1 import COSTS, NOT_RUN


def paper_lines(table: pd.DataFrame, claimed: bool) -> list[str]:
    """Under the paper's protocol, from `table1`; `claimed`: beside the paper's own counts, which are of one market."""
    heads = (["Table 1"] if claimed else []) + ["method (seeds)"] + (["the paper's hits"] if claimed else [])
    heads += ["our hits", "95%", "by chance", "p", "test hits", "p", "alarm days", "with a second channel"]
    heads += (["the paper's lead"] if claimed else []) + ["our lead"]
    return _table(heads, [_paper_cells(row, claimed) for row in table.to_dict("records")])


def matched_lines(table: pd.DataFrame) -> list[str]:
    """The same runs at the matched budget, and what they cost."""
    heads = ["method (seeds)", "hits", "95%", "by chance", "p", "test hits", "p", "p, March once", "alarm days"]
    return _table([*heads, "lead", *COSTS], [_matched_cells(row) for row in table.to_dict("records")])


def _table(heads: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table; a row that is shorter than its head ends in empty cells."""
    filled = [row + [""] * (len(heads) - len(row)) for row in rows]
    return ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads), *("| " + " | ".join(r) + " |" for r in filled)]


def _known(row: dict[str, Any]) -> dict[str, Any]:
    return {key: None if pd.isna(value) else value for key, value in row.items()}


def _paper_cells(row: dict[str, Any], claimed: bool) -> list[str]:
    """One row of Table 1 redone under the paper's protocol."""
    row = _known(row)
    paper = [f"{row['the paper: hits']:.0f}" if row["the paper: hits"] is not None else ""] if claimed else []
    lead = [_number(row["the paper: lead"])] if claimed else []
    first = [row["row of the paper"] or ""] if claimed else []
    if row["status"] != "run":
        return [*first, row["method"], *paper, NOT_RUN, *[""] * 7, *lead]
    cells = [*first, _shown(row), *paper, _hits(row, "paper: hits", "paper: of")]
    cells += [f"{row['paper: 95% low']:.0f}-{row['paper: 95% high']:.0f}", _number(row["paper: by chance"])]
    cells += [_chance(row, "paper: p"), _hits(row, "paper: test hits", "paper: of test")]
    cells += [_chance(row, "paper: p, test"), _percent(row["paper: alarm days"])]
    second = row.get("paper +MPI: hits")
    cells += ["" if second is None else f"{second:.0f} (chance {_number(row['paper +MPI: by chance'])})"]
    return [*cells, *lead, _number(row["paper: lead"])]


def _matched_cells(row: dict[str, Any]) -> list[str]:
    """One row of Table 1 redone at the matched budget, with its costs."""
    row = _known(row)
    if row["status"] != "run":
        return [row["method"], NOT_RUN]
    cells = [_shown(row), _hits(row, "matched: hits", "matched: of")]
    cells += [f"{row['matched: 95% low']:.0f}-{row['matched: 95% high']:.0f}", _number(row["matched: by chance"])]
    cells += [_chance(row, "matched: p"), _hits(row, "matched: test hits", "matched: of test")]
    cells += [_chance(row, "matched: p, test"), _chance(row, "matched: p, test, March 2023 once")]
    cells += [_percent(row["matched: alarm days"]), _number(row["matched: lead"])]
    return cells + ["" if row.get(name) is None else _short(row[name]) for name in COSTS]


def _hits(row: dict[str, Any], name: str, of: str) -> str:
    return f"{row[name]:.0f}/{row[of]:.0f}{_spread(row, name, lambda hits: f'{hits:.0f}')}"


def _chance(row: dict[str, Any], name: str) -> str:
    return _p(row[name]) + _spread(row, name, _p)


def _spread(row: dict[str, Any], name: str, written: Callable[[float], str]) -> str:
    """The lowest and the highest seed in brackets, where there are several."""
    ends = [row[f"{name}, {end} seed"] for end in ("lowest", "highest")]
    return f" ({'-'.join(map(written, ends))})" if row["n_seeds"] > 1 and None not in ends else ""


def _shown(row: dict[str, Any]) -> str:
    """Trivial detectors in italics; the paper's model, as we built and trained it, in bold."""
    name = f"{row['method']} ({row['n_seeds']:.0f})"
    if row["family"] == "full model":
        return f"**{name}**" + (", its scores use later days" if row["look-ahead"] == "yes" else "")
    return f"*{name}*" if row["family"] == "trivial" else name


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _short(value: float) -> str:
    """Three digits, and no power of ten."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _p(value: float | None) -> str:
    return "" if value is None else "<0.01" if value < 0.005 else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f}%"
