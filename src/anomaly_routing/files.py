"""Writing files that others read: whole or not at all, and the same bytes for the same content."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to `path` when the block succeeds and removed when it fails."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: str | Path, content: Any) -> None:
    """Sorted keys, two spaces, NaN as null."""
    text = json.dumps(plain(content), indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    with replacing(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_csv(path: str | Path, table: pd.DataFrame, digits: int = 6) -> None:
    """No index, `digits` significant digits, dates as YYYY-MM-DD."""
    with replacing(path) as partial:
        table.to_csv(partial, index=False, float_format=f"%.{digits}g", date_format="%Y-%m-%d", lineterminator="\n")


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """An .npz for `np.load`, a fifth smaller than numpy's own: columns one after the other, LZMA."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(values, order="F"), allow_pickle=False)


def plain(value: Any) -> Any:
    """The same content in JSON's own types; NaN and infinities become None."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | np.ndarray | pd.Index | pd.Series):
        return [plain(v) for v in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, pd.Timestamp):
        return None if pd.isna(value) else value.strftime("%Y-%m-%d")
    return value
