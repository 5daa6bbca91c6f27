"""The event list: read, checked against the market's sessions, and written.

An event list is a YAML file with two keys. `calendar` is an exchange code such as ``XNYS``, or ``from_data`` when the
sessions come with the prices. `events` is a list of entries; only `id` and `date` are required:

id, label, paper_text, date, alternatives, kind, split, exogenous, reason, collapse_with
    for every market; the paper's 13 are in ``paper/events.yaml`` (AUDIT section 2, SPEC 9.1);
mechanism, tickers, strength, precursor, end
    where the cause is known, as in a simulated market.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import exchange_calendars
import numpy as np
import pandas as pd
import yaml

from anomaly_routing.errors import MarketDataError
from anomaly_routing.panel import Splits

MECHANISMS = ("price_shock", "liquidity", "contagion", "momentum")

# key -> the type of its value and what stands in for a missing one; the order is that of the table's columns
_TEXT, _DATE, _DATES, _FLAG, _NUMBER, _NAMES = (
    "text",
    "date",
    "list of dates",
    "true or false",
    "number",
    "list of text",
)
SCHEMA: dict[str, tuple[str, Any]] = {
    "id": (_TEXT, None),
    "date": (_DATE, None),
    "alternatives": (_DATES, ()),
    "kind": (_TEXT, "other"),
    "exogenous": (_FLAG, False),
    "label": (_TEXT, None),
    "split": (_TEXT, None),
    "paper_text": (_TEXT, None),
    "reason": (_TEXT, None),
    "collapse_with": (_TEXT, None),
    "mechanism": (_TEXT, None),
    "tickers": (_NAMES, ()),
    "strength": (_NUMBER, np.nan),
    "precursor": (_FLAG, False),
    "end": (_DATE, pd.NaT),
}


def load_events(
    path: str | Path, sessions: pd.DatetimeIndex | None = None, splits: Splits | None = None
) -> pd.DataFrame:
    """Read and check an event list.

    Parameters
    ----------
    path : the YAML file.
    sessions : the market's sessions; without them the file's `calendar` must name an exchange.
    splits : the spans that decide an event's split; default the paper's.

    Returns
    -------
    One row an event, in the file's order, columns as in `SCHEMA`: `date` and `end` datetime64, `alternatives` a list of
    Timestamps, `tickers` a list of str, `exogenous` and `precursor` bool, `strength` float64, the rest text (NaN where
    missing). `split` is train, val, test, or outside (before the first sample or after the last split). A file
    without events gives an empty table with the same columns.

    Raises
    ------
    MarketDataError, naming file, entry, rule and remedy: unreadable file, unknown or missing key, wrong type, id used
    twice, a date (primary, alternative or end) that is not a session (so a Sunday on the NYSE), an unknown mechanism,
    an end before the date, a printed split that contradicts `splits`, a `collapse_with` that names no event.
    """
    splits = splits or Splits()
    document = _read_yaml(path)
    if sessions is None:
        sessions = _calendar_sessions(path, document.get("calendar"), splits)
    entries = document.get("events") or []
    if not isinstance(entries, list):
        raise MarketDataError(path, "events", "not a list", "write one '- id: ...' block for each event")
    rows = [_checked_entry(path, number, entry) for number, entry in enumerate(entries, start=1)]
    _check_ids(path, rows)
    for row in rows:
        _check_dates(path, row, sessions)
        row["split"] = _checked_split(path, row, sessions, splits)
    return _as_table(rows)


def write_events(events: pd.DataFrame, path: str | Path, calendar: str = "from_data") -> None:
    """Write an event table so that `load_events` gives it back; keys with their default value are left out.

    `events` has at least `id` and `date`; columns that are not in `SCHEMA` raise ValueError. The file is written to a
    temporary name beside it, then renamed, and its bytes depend on the table alone.
    """
    if unknown := sorted(set(events.columns) - set(SCHEMA)):
        raise ValueError(f"columns {unknown} are no keys of an event list; it has {list(SCHEMA)}")
    entries = [_plain_entry(row) for row in events.to_dict("records")]
    text = yaml.safe_dump({"calendar": calendar, "events": entries}, sort_keys=False, allow_unicode=True, width=120)
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _read_yaml(path: str | Path) -> dict:
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise MarketDataError(path, "-", f"cannot be read ({error.strerror})", "check the name of the file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MarketDataError(path, "-", f"is not valid YAML: {error}", "repair the line that is named") from error
    document = {} if document is None else document
    if not isinstance(document, dict) or set(document) - {"calendar", "events"}:
        raise MarketDataError(
            path, "-", "has keys other than calendar and events", "write 'calendar:' and 'events:' at the top level"
        )
    return document


def _calendar_sessions(path: str | Path, calendar: str | None, splits: Splits) -> pd.DatetimeIndex:
    remedy = "pass the market's sessions, or set 'calendar' to an exchange code such as XNYS"
    if calendar in (None, "from_data"):
        raise MarketDataError(path, "calendar", "names no exchange and no sessions were given", remedy)
    try:
        exchange = exchange_calendars.get_calendar(calendar, start=splits.first_session, end=splits.test_end)
    except exchange_calendars.errors.InvalidCalendarName as error:
        raise MarketDataError(path, "calendar", f"{calendar!r} is not a known exchange", remedy) from error
    return exchange.sessions


def _checked_entry(path: str | Path, number: int, entry: object) -> dict[str, Any]:
    """One entry with every key of `SCHEMA`, its values converted."""
    where = f"entry {number}"
    if not isinstance(entry, Mapping):
        raise MarketDataError(path, where, "is not a block of 'key: value' lines", "write '- id: ...' and its keys")
    if isinstance(entry.get("id"), str):
        where = f"entry {number} ({entry['id']})"
    if unknown := sorted(str(key) for key in set(entry) - set(SCHEMA)):
        raise MarketDataError(
            path, where, f"unknown key {', '.join(unknown)}", f"use only {', '.join(SCHEMA)}; check the spelling"
        )
    if missing := [key for key in ("id", "date") if entry.get(key) is None]:
        raise MarketDataError(path, where, f"has no {' and no '.join(missing)}", "give each event an id and a date")
    row = {key: default for key, (_, default) in SCHEMA.items()}
    for key, value in entry.items():
        if value is not None:
            row[key] = _converted(path, where, key, value)
    row["label"] = row["label"] or row["id"]
    row["alternatives"], row["tickers"] = list(row["alternatives"]), list(row["tickers"])
    if row["mechanism"] is not None and row["mechanism"] not in MECHANISMS:
        raise MarketDataError(
            path, where, f"unknown mechanism {row['mechanism']!r}", f"use one of {', '.join(MECHANISMS)}"
        )
    return row


def _converted(path: str | Path, where: str, key: str, value: object) -> Any:
    kind = SCHEMA[key][0]
    try:
        if kind == _DATE:
            return _timestamp(value)
        if kind == _DATES and isinstance(value, list):
            return [_timestamp(item) for item in value]
    except (TypeError, ValueError) as error:
        raise MarketDataError(path, where, f"{key}: {error}", "write dates as YYYY-MM-DD") from error
    accepted = {_TEXT: str, _FLAG: bool, _NUMBER: (int, float), _NAMES: list}.get(kind, ())
    right_items = kind != _NAMES or (isinstance(value, list) and all(isinstance(item, str) for item in value))
    if isinstance(value, bool) != (kind == _FLAG) or not isinstance(value, accepted) or not right_items:
        raise MarketDataError(path, where, f"{key} is {value!r}", f"{key} must be a {kind}")
    return float(value) if kind == _NUMBER else value


def _timestamp(value: object) -> pd.Timestamp:
    if not isinstance(value, (str, dt.date)):
        raise TypeError(f"{value!r} is not a date")
    stamp = pd.Timestamp(value)
    if stamp is pd.NaT or stamp.tz is not None or stamp != stamp.normalize():
        raise ValueError(f"{value!r} is not a plain date")
    return stamp


def _check_ids(path: str | Path, rows: list[dict]) -> None:
    ids = [row["id"] for row in rows]
    for number, row in enumerate(rows, start=1):
        where = f"entry {number} ({row['id']})"
        if row["id"] in ids[: number - 1]:
            raise MarketDataError(path, where, "the id is used twice", "give each event its own id")
        if row["collapse_with"] is not None and row["collapse_with"] not in set(ids) - {row["id"]}:
            rule = f"collapse_with names {row['collapse_with']!r}, which is no other event of the list"
            raise MarketDataError(path, where, rule, "name the id of the event whose window stands for both")


def _check_dates(path: str | Path, row: dict, sessions: pd.DatetimeIndex) -> None:
    dates = {"date": [row["date"]], "alternatives": row["alternatives"], "end": [row["end"]]}
    for key, stamps in dates.items():
        for stamp in stamps:
            if stamp is not pd.NaT and stamp not in sessions:
                after = sessions[sessions > stamp]
                remedy = f"use the first session after it, {after[0]:%Y-%m-%d}" if len(after) else "use a session"
                raise MarketDataError(path, row["id"], f"{key} {stamp:%Y-%m-%d} ({stamp:%A}) is not a session", remedy)
    if row["end"] is not pd.NaT and row["end"] < row["date"]:
        raise MarketDataError(path, row["id"], "its end lies before its date", "swap them, or leave the end out")


def _checked_split(path: str | Path, row: dict, sessions: pd.DatetimeIndex, splits: Splits) -> str:
    split = _split_of(row["date"], sessions, splits)
    if row["split"] not in (None, split):
        rule = f"split is {row['split']!r}, but {row['date']:%Y-%m-%d} lies in {split!r}"
        raise MarketDataError(path, row["id"], rule, "correct the date, or leave 'split' out: it follows from the date")
    return split


def _split_of(date: pd.Timestamp, sessions: pd.DatetimeIndex, splits: Splits) -> str:
    place = sessions.get_loc(date)
    return next((name for name in ("train", "val", "test") if getattr(splits, name)(sessions)[place]), "outside")


def _as_table(rows: list[dict]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=list(SCHEMA))
    types = {_TEXT: "str", _DATE: "datetime64[ns]", _FLAG: bool, _NUMBER: np.float64}
    return table.astype({key: types.get(kind, object) for key, (kind, _) in SCHEMA.items()})


def _plain_entry(row: dict[str, Any]) -> dict[str, Any]:
    """A row as YAML can hold it, in the order of `SCHEMA`, without the values that loading fills in."""
    entry: dict[str, Any] = {}
    for key, (kind, default) in SCHEMA.items():
        value = row.get(key, default)
        if kind in (_DATES, _NAMES):
            items = value if pd.api.types.is_list_like(value) else ()
            value = [pd.Timestamp(item).date() if kind == _DATES else str(item) for item in items]
        elif value is None or pd.isna(value) or value == default:
            continue
        elif kind == _DATE:
            value = pd.Timestamp(value).date()
        elif kind == _NUMBER:
            value = float(value)
        elif kind == _FLAG:
            value = bool(value)
        if value != []:
            entry[key] = value
    return entry
