"""Documents filled from the reports: the model card and the reproducibility checklist, from `docs/templates`.

Written by `make readme`; a test fails when they differ from the reports. A template may hold no typed number.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from anomaly_routing.files import read_json, replacing
from anomaly_routing.ledger.summary import read_ledger, totals_sentence
from anomaly_routing.prose import sentence
from anomaly_routing.runs import INDEX, RunStore, read_meta

MARKET = "us100"
TEMPLATES = Path("docs/templates")
INFO = ("tier", "device", "machine", "torch", "seconds", "epochs", "stopped", "parameters", "stochastic")


def filled(root: Path, template: str, **values: Any) -> str:
    """A template with its values; ValueError when a number is typed in it."""
    return sentence((root / TEMPLATES / template).read_text(encoding="utf-8"), **values)


def runs_of(root: Path, market: str = MARKET) -> pd.DataFrame:
    """One row a current run of the market: its key and the entries `INFO` of what it recorded."""
    rows = []
    for index in sorted((root / "reports" / market / "runs").rglob(INDEX)):
        for path in RunStore(index.parent).current():
            meta = read_meta(path)
            rows.append(meta["key"] | {name: meta["info"].get(name) for name in INFO})
    return pd.DataFrame(rows)


def model_card(root: Path) -> str:
    """What the trained model is, what it was trained on, how it does, what it is not for."""
    runs, metrics = runs_of(root), read_json(root / "reports" / MARKET / "metrics.json")
    own = runs[(runs.method == "intended") & (runs.variant == "full")]
    config, paper, matched = own.config.iloc[0], *(metrics["methods"]["intended"][p] for p in ("paper", "matched"))
    sectors = pd.read_csv(root / "reports" / MARKET / "tables" / "data" / "sectors.csv")
    features = pd.read_csv(root / "reports" / MARKET / "tables" / "features" / "catalogue.csv")
    return filled(
        root,
        "MODEL_CARD.md",
        market=MARKET,
        parameters=int(own.parameters.iloc[0]),
        window=config["model"]["window"],
        features=len(features),
        stocks=int(sectors.stocks.sum()),
        seeds=", ".join(map(str, own.seed)),
        tier="/".join(sorted(set(own.tier))),
        device="/".join(sorted(set(own.device))),
        train_end=metrics["splits"]["train_end"],
        val_end=metrics["splits"]["val_end"],
        rate=config["training"]["learning_rate"],
        batch=config["training"]["batch_sessions"],
        cap=config["training"]["epochs"],
        ended=int((own.stopped == "cap").sum()),
        runs=len(own),
        minutes=own.seconds.mean() / 60,
        val_events=paper["n_events_val"],
        events=paper["n_events"],
        hits=paper["hits"],
        level="95%",
        low=paper["hits_low"],
        high=paper["hits_high"],
        chance=paper["expected_hits_by_chance"],
        p=paper["chance_p"],
        rate_of_alarms=paper["alarm_rate_test"],
        auc=paper["auc"],
        matched_hits=matched["hits_test"],
        matched_events=matched["n_events_test"],
        matched_p=matched["chance_p_test"],
        once_hits=matched["hits_test_march_collapsed"],
        once_events=matched["n_events_test_march_collapsed"],
        once_p=matched["chance_p_test_march_collapsed"],
        totals=totals_sentence(read_ledger(root / "reports" / MARKET / "tables" / "claims.csv")),
    )


def checklist(root: Path) -> str:
    """The reproducibility checklist, answered from the run store."""
    runs = runs_of(root)
    seeds = runs[runs.stochastic.fillna(False).astype(bool)].groupby(["method", "variant"]).seed.nunique()
    return filled(
        root,
        "CHECKLIST.md",
        runs=len(runs),
        methods=runs.method.nunique(),
        fewest=seeds.min(),
        most=seeds.max(),
        hours=runs.seconds.sum() / 3600,
        neural_hours=runs.seconds[runs.epochs.notna()].sum() / 3600,
        devices=", ".join(sorted(set(runs.device))),
        machines=", ".join(sorted(set(runs.machine.dropna()))) or "machine not recorded",
        torch=", ".join(sorted(set(runs.torch.dropna()))) or "version not recorded",
    )


FILES = {"docs/MODEL_CARD.md": model_card, "docs/CHECKLIST.md": checklist}


def write(root: Path) -> None:
    """Both documents; nothing before the real market's ledger is there."""
    if not (root / "reports" / MARKET / "tables" / "claims.csv").exists():
        return
    for name, make in FILES.items():
        with replacing(root / name) as partial:
            partial.write_text(make(root), encoding="utf-8")
