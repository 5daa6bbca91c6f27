"""Runs that travel: a few files that another machine brings, merged into a store without mixing data or arithmetic."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np

from anomaly_routing.files import replacing
from anomaly_routing.runs import RunStore, read_meta
from anomaly_routing.tensors import Tensors
from anomaly_routing.train import MODEL_NUMERICS

SHARD_BYTES = 15_000_000
SHARDS = 8


def export(folder: Path, target: Path, without: set[Path] = frozenset()) -> list[Path]:
    """Write the runs of a folder, but for some, as `target`/shard-1.tar, ... of at most 15 MB; the same bytes again.

    Raises ValueError when they need more than 8.
    """
    groups: list[list[Path]] = [[]]
    size = 0
    for path in sorted(set(folder.glob("[!.]*.npz")) - set(without)):
        size += path.stat().st_size + 2 * tarfile.BLOCKSIZE
        if size > SHARD_BYTES - tarfile.RECORDSIZE and groups[-1]:
            groups.append([])
            size = path.stat().st_size + 2 * tarfile.BLOCKSIZE
        groups[-1].append(path)
    if len(groups) > SHARDS:
        raise ValueError(f"the runs of {folder} need {len(groups)} files, more than {SHARDS}: merge some first")
    written = []
    for number, members in enumerate(filter(None, groups), start=1):
        with replacing(target / f"shard-{number}.tar") as partial, tarfile.open(partial, "w") as shard:
            for path in members:
                entry = tarfile.TarInfo(path.name)
                entry.size = path.stat().st_size
                shard.addfile(entry, io.BytesIO(path.read_bytes()))
        written.append(target / f"shard-{number}.tar")
    return written


def merge(source: Path, store: RunStore, tensors: Tensors) -> list[str]:
    """Copy the runs below a folder, loose or in shards, into the store; returns the names of the new ones.

    Raises ValueError, and copies nothing, when one is of another market, other data or another `MODEL_NUMERICS`.
    """
    found = {path.name: path.read_bytes() for path in sorted(source.rglob("[!.]*.npz"))}
    for path in sorted(source.rglob("[!.]*.tar")):
        with tarfile.open(path) as shard:
            found |= {Path(entry.name).name: shard.extractfile(entry).read() for entry in shard if entry.isfile()}
    for name, content in found.items():
        with np.load(io.BytesIO(content)) as stored:
            if reason := _reason(json.loads(str(stored["meta"])), tensors):
                raise ValueError(f"{name} is {reason}: nothing was merged")
    new = {name: content for name, content in found.items() if not (store.folder / name).exists()}
    for name, content in new.items():
        with replacing(store.folder / name) as partial:
            partial.write_bytes(content)
    return list(new)


def foreign(folder: Path, tensors: Tensors) -> dict[Path, str]:
    """The runs of a folder that do not belong to the present data and arithmetic, with the reason. They are never used:
    a run is found by its key."""
    reasons = {path: _reason(read_meta(path), tensors) for path in sorted(folder.glob("[!.]*.npz"))}
    return {path: reason for path, reason in reasons.items() if reason}


def _reason(meta: dict, tensors: Tensors) -> str:
    key = meta["key"]
    if (key["market"], key["data_hash"]) != (tensors.market, tensors.data_hash):
        have, want = key["data_hash"][:12], tensors.data_hash[:12]
        return f"a run on {key['market']} with data {have}, not on {tensors.market} with {want}"
    if key["numerics"] != MODEL_NUMERICS:
        return f"a run of numerics {key['numerics']}, not {MODEL_NUMERICS}"
    return ""
