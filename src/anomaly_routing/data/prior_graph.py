"""The prior graph of the paper: who shares a sector or a home state with whom."""

from __future__ import annotations

import numpy as np
import pandas as pd

_STATES = (
    "AL Alabama|AK Alaska|AZ Arizona|AR Arkansas|CA California|CO Colorado|CT Connecticut|DE Delaware|"
    "DC District of Columbia|FL Florida|GA Georgia|HI Hawaii|ID Idaho|IL Illinois|IN Indiana|IA Iowa|KS Kansas|"
    "KY Kentucky|LA Louisiana|ME Maine|MD Maryland|MA Massachusetts|MI Michigan|MN Minnesota|MS Mississippi|"
    "MO Missouri|MT Montana|NE Nebraska|NV Nevada|NH New Hampshire|NJ New Jersey|NM New Mexico|NY New York|"
    "NC North Carolina|ND North Dakota|OH Ohio|OK Oklahoma|OR Oregon|PA Pennsylvania|RI Rhode Island|"
    "SC South Carolina|SD South Dakota|TN Tennessee|TX Texas|UT Utah|VT Vermont|VA Virginia|WA Washington|"
    "WV West Virginia|WI Wisconsin|WY Wyoming"
)
US_STATES = dict(entry.split(" ", 1) for entry in _STATES.split("|"))
_SPELLINGS = {spelling.lower(): code for code, name in US_STATES.items() for spelling in (code, name)}
_SPELLINGS |= dict.fromkeys(("d.c.", "washington, d.c.", "washington d.c.", "washington, dc", "washington dc"), "DC")


def us_state(hq_state: pd.Series) -> pd.Series:
    """Postal code of each US state or DC, from its name or code in any case; ``""`` for a foreign or blank place."""
    return hq_state.str.strip().str.lower().map(_SPELLINGS).fillna("")


def _same(labels: pd.Series) -> np.ndarray:
    """Bool [N, N]: i and j, two different rows, carry the same label, and it is not empty."""
    codes, kinds = pd.factorize(labels)
    same = (codes[:, None] == codes[None, :]) & (kinds[codes] != "")[:, None]
    np.fill_diagonal(same, False)
    return same


def prior_graph(universe: pd.DataFrame) -> np.ndarray:
    """A_prior, float32 [N, N] of 0 and 1: 1 if two different stocks share their sector or their US home state.

    Paper, equation 26; SPEC 3. The order is the universe's. Symmetric. Our choices (AUDIT A40): the diagonal is 0;
    "geographic proximity" means the same US state (or DC), so a foreign or unknown head office gives no state edge.
    Sector and head office are those of today: a mild look-ahead.
    """
    return (_same(universe["sector"]) | _same(us_state(universe["hq_state"]))).astype(np.float32)


def graph_summary(universe: pd.DataFrame) -> dict[str, float]:
    """Size of the prior graph: `nodes`, undirected `edges`, `mean_degree`, `isolated` nodes, and the edges by reason.

    `sector_only` + `state_only` + `both` = `edges`.
    """
    sector, state = _same(universe["sector"]), _same(us_state(universe["hq_state"]))
    graph = sector | state
    n = len(universe)
    return {
        "nodes": n,
        "edges": int(graph.sum()) // 2,
        "mean_degree": float(graph.sum() / n),
        "isolated": int((~graph.any(axis=1)).sum()),
        "sector_only": int((sector & ~state).sum()) // 2,
        "state_only": int((state & ~sector).sum()) // 2,
        "both": int((sector & state).sum()) // 2,
    }
