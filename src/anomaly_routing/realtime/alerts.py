"""Alerts as JSON lines: each once, whatever happens between two of them.

An alert is written and synced before the monitor's state is saved. A kill between the two leaves the session to be
taken in again; its alerts are then found in the file and not written twice. A line that was cut off is taken out first.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from anomaly_routing.errors import MarketDataError
from anomaly_routing.files import plain
from anomaly_routing.realtime.monitor import ALARM_LEVEL, Report, Verdict

NOTE = "not investment advice"
NAMED = 5  # stocks with the highest scores


class AlertLog:
    """A file of alerts; (session, method) is what makes one."""

    def __init__(self, path: Path) -> None:
        """Read what is there. Raises MarketDataError for a line in the middle that is no alert."""
        self.path = Path(path)
        self.known: set[tuple[str, str]] = set()
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):  # a kill in the middle of a line
            os.truncate(self.path, len(whole))
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                alert = json.loads(line)
                self.known.add((alert["session"], alert["method"]))
            except (ValueError, KeyError, TypeError) as error:
                raise MarketDataError(self.path, f"line {number}", "not an alert", "move the file away") from error

    def append(self, alerts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Write those that are not there yet, all in one go and synced to disk; returns them."""
        new = [a for a in alerts if (a["session"], a["method"]) not in self.known]
        if new:
            lines = "".join(json.dumps(plain(a), sort_keys=True, allow_nan=False) + "\n" for a in new)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(lines.encode())
                file.flush()
                os.fsync(file.fileno())
            self.known |= {(a["session"], a["method"]) for a in new}
        return new


def alerts_of(report: Report, tickers: list[str], mechanisms: list[str]) -> list[dict[str, Any]]:
    """One entry for each method that alarms: level, MPI, mean score, why, the stocks with the highest scores, and for
    the full model the mean routing weights over its stocks."""
    found = []
    for name, verdict in report.verdicts.items():
        if verdict.alarm:
            alert = {
                "session": f"{report.date:%Y-%m-%d}",
                "method": name,
                "level": verdict.level,
                "mpi": round(verdict.mpi, 4),
                "mean_score": round(verdict.mean, 4),
                "channel": "mpi" if verdict.level >= ALARM_LEVEL else "mean score",
                "stocks": highest(verdict, tickers),
                "flags": report.flags,
                "note": NOTE,
            }
            if verdict.routing is not None:
                weights = verdict.routing[report.active].mean(axis=0)
                alert["routing"] = {m: round(float(w), 3) for m, w in zip(mechanisms, weights, strict=True)}
            found.append(alert)
    return found


def highest(verdict: Verdict, tickers: list[str], n: int = NAMED) -> list[str]:
    """The stocks with the highest scores, the highest first."""
    order = np.argsort(-np.nan_to_num(verdict.score, nan=-1.0), kind="stable")[:n]
    return [tickers[i] for i in order if np.isfinite(verdict.score[i])]
