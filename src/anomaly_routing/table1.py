"""Table 1 of the paper again: its count beside ours under both protocols, with chance, intervals, lead and cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anomaly_routing.files import read_json
from anomaly_routing.scoreboard import ALONE, SECOND

PAPER_ROWS = {  # row of Table 1 -> (claim, methods that answer for it)
    "LSTM-AE": ("T1.lstm_ae", ("lstm_ae",)),
    "Anomaly Transformer": ("T1.anomaly_transformer", ("anomaly_transformer",)),
    "TranAD": ("T1.tranad", ("tranad",)),
    "GCN-AE": ("T1.gcn_ae", ("gcn_ae",)),
    "GAT-AE": ("T1.gat_ae", ("gat_ae",)),
    "DOMINANT": ("T1.dominant", ("dominant",)),
    "CoLA": ("T1.cola", ("cola",)),
    "AnomalyDAE": ("T1.anomalydae", ("anomaly_dae",)),
    "EvolveGCN": ("T1.evolvegcn", ("evolve_gcn",)),
    "GHRN": ("T1.ghrn", ("ghrn_star", "graph_hawkes")),  # A23: two methods go by that name
    "MemStream": ("T1.memstream", ("memstream",)),
    "Full model": ("T1.ours", ("intended", "literal")),  # two alarm channels
}
ALONE_ROWS = {"Full model, one channel": ("T2.no_mpi", (f"intended {ALONE}", f"literal {ALONE}"))}  # of Table 2
BESIDE = ("mtad_gat", "robust_autoencoder", "real_nvp", "metric_vmf", "metric_watson")  # named by the sources, untested
TRIVIAL = ("null", "random", "lagged_volatility", "lagged_vix", "mean_abs_z", "pca_error", "knn1", "l2_norm")
NOT_RUN = "not run"
ON_PANEL = "on the panel"  # in a measure of reports/peers.json: the form that the panel's detector has


def table1(methods: dict[str, Any], claims: dict[str, Any], costs: dict[str, dict[str, float]]) -> pd.DataFrame:
    """One row a method: the paper's in its order, what the sources name beside them, the trivial detectors.

    methods : of `scoreboard.evaluate_runs`, rows `... +MPI` and `... -MPI` among them. claims : id -> value of
    `paper/claims.yaml`.
    costs : method -> columns of `read_costs`; a method that is not in it, a trivial one say, has none.
    Hits are the median seed's, p values medians over the seeds (`evaluation.summary`), each with its lowest and highest
    seed. A method without a run has the status `not run` and no figure.
    """
    rows = PAPER_ROWS | ALONE_ROWS
    listed = [(row, claim, method) for row, (claim, members) in rows.items() for method in members]
    listed += [("", "", method) for method in (*BESIDE, *TRIVIAL)]
    return pd.DataFrame([_row(*entry, methods, claims, costs) for entry in listed])


def _row(
    row: str, claim: str, method: str, methods: dict[str, Any], claims: dict[str, Any], costs: dict[str, dict]
) -> dict[str, Any]:
    line = {
        "row of the paper": row,
        "method": method,
        "the paper: hits": claims.get(f"{claim}.hits"),
        "the paper: lead": claims.get(f"{claim}.lead"),
        "status": "run" if method in methods else NOT_RUN,
    }
    found, second = methods.get(method), methods.get(f"{method} {SECOND}")
    if found is None:
        return line
    line |= {k: found[k] for k in ("family", "n_seeds", "tier", "device")}
    line |= {"look-ahead": "yes" if found["lookahead"] else ""}
    for protocol in ("paper", "matched"):
        line |= _cells(protocol, found[protocol], COLUMNS)
        if second:
            line |= _cells(f"{protocol} +MPI", second[protocol], SECOND_COLUMNS)
    return line | costs.get(method, {})


def _cells(title: str, found: dict[str, Any], columns: dict[str, str]) -> dict[str, Any]:
    """The columns of one protocol; what differs from seed to seed with its lowest and highest seed (`RANGED`)."""
    cells: dict[str, Any] = {}
    for name, key in columns.items():
        cells[f"{title}: {name}"] = found[key]
        if name in RANGED:
            seeds = [value for value in found["per_seed"][key] if value is not None]
            cells[f"{title}: {name}, lowest seed"] = min(seeds, default=None)
            cells[f"{title}: {name}, highest seed"] = max(seeds, default=None)
    return cells


def read_costs(file: Path, market: str) -> dict[str, dict[str, float | None]]:
    """Method -> `COSTS` as measured on this market (`benchmarks/costs.py`: all methods in one run on one quiet device).

    What was not measured is None; without the file, or where it is of another market, nobody has costs.
    """
    measured = read_json(file) if file.exists() else {}
    rows = measured["rows"] if measured.get("market") == market else []
    return {row["method"]: {name: row.get(key) for name, key in COSTS.items()} for row in rows}


def home_clause(rows: list[dict[str, Any]]) -> str:
    """What the static-graph methods of Table 1 reach on their home data, beside the lowest published figure.

    Range of the medians over the forms that were run; where one is marked as the panel's, of that one alone. rows : of
    Cora in reports/peers.json.
    """
    told = []
    titles = {method: row for row, (_, members) in PAPER_ROWS.items() for method in members}
    for method in dict.fromkeys(row["detector"] for row in rows if row["detector"] in titles):
        every = [row for row in rows if row["detector"] == method]
        own = [row for row in every if ON_PANEL in row["measure"]] or every
        ours = sorted({f"{np.median(row['ours']):.2f}" for row in own})
        known = [float(np.min(row["published"])) for row in every if row["published"] is not None]
        beside = f"{min(known):.2f}" if known else "none"
        of_other = ", of another form" if known and all(row["published"] is None for row in own) else ""
        told.append(f"{titles[method]} {' to '.join(dict.fromkeys((ours[0], ours[-1])))} ({beside}{of_other})")
    return ", ".join(told)


COSTS = {  # name -> key of a row of reports/costs.json
    "seconds of a fit": "fit_seconds",
    "ms for one session": "session_milliseconds",
    "GiB to fit": "fit_gib",
    "GiB for one session": "session_gib",
    "GiB to score all": "score_gib",
}


COLUMNS = {  # name -> key of a protocol's line
    "hits": "hits",
    "of": "n_events",
    "95% low": "hits_low",
    "95% high": "hits_high",
    "by chance": "expected_hits_by_chance",
    "p": "chance_p",
    "test hits": "hits_test",
    "of test": "n_events_test",
    "p, test": "chance_p_test",
    "p, test, March 2023 once": "chance_p_test_march_collapsed",
    "lead": "lead_median",
    "alarm days": "alarm_rate_test",
}
RANGED = ("hits", "test hits", "p", "p, test", "p, test, March 2023 once")
SECOND_COLUMNS = {
    "hits": "hits",
    "by chance": "expected_hits_by_chance",
    "p": "chance_p",
    "test hits": "hits_test",
    "p, test": "chance_p_test",
    "alarm days": "alarm_rate_test",
}
