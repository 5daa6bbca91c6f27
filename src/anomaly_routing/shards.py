"""Runs that travel: a few files that another machine brings, merged into a store without mixing data or arithmetic."""

from __future__ import annotations

import contextlib
import errno
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from anomaly_routing.files import replacing
from anomaly_routing.runs import RunKey, RunStore, read_meta, read_run
from anomaly_routing.tensors import Tensors
from anomaly_routing.train import MODEL_NUMERICS

SHARD_BYTES = 15_000_000
SHARDS = 8
TORN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, KeyError, TypeError, ValueError)


def export(runs: Iterable[Path], target: Path) -> list[Path]:
    """Add stored runs to `target`/shard-1.tar, shard-2.tar, ... of at most 15 MB; returns the shards that changed.

    What the shards hold already stays where it is, so a call that was killed, or a second one, loses none.
    Raises ValueError for a torn shard, or when the runs need more than 8.
    """
    shards = [_members(path) for path in _shards(target)] or [{}]
    there = {name for members in shards for name in members}
    changed = set()
    for path in sorted(path for path in set(runs) if path.name not in there):
        content = path.read_bytes()
        if shards[-1] and _bytes([*shards[-1].values(), content]) > SHARD_BYTES:
            shards.append({})
        shards[-1][path.name] = content
        changed.add(len(shards))
    if len(shards) > SHARDS:
        raise ValueError(f"the runs for {target} need {len(shards)} files, more than {SHARDS}: merge some first")
    return [_write(target / f"shard-{number}.tar", shards[number - 1]) for number in sorted(changed)]


def _shards(folder: Path) -> list[Path]:
    """Those that `export` wrote, in order."""
    return sorted(folder.glob("shard-*.tar"), key=lambda path: int(path.stem.removeprefix("shard-")))


def _write(path: Path, members: dict[str, bytes]) -> Path:
    with _room_in(path.parent), replacing(path) as partial, tarfile.open(partial, "w") as shard:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            shard.addfile(entry, io.BytesIO(content))
    return path


def _bytes(contents: list[bytes]) -> int:
    """The size of a shard with these files: whole blocks, a header each, and up to a record of end."""
    return sum(2 * tarfile.BLOCKSIZE + len(content) for content in contents) + tarfile.RECORDSIZE


def _members(path: Path) -> dict[str, bytes]:
    try:
        with tarfile.open(path) as shard:
            return {Path(entry.name).name: shard.extractfile(entry).read() for entry in shard if entry.isfile()}
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is torn ({error}): bring it again, or delete it") from error


def brought(source: Path, tensors: Tensors) -> dict[str, bytes]:
    """Name -> bytes of the runs below a folder, loose or in shards.

    Raises ValueError when one is torn, misnamed, of another market, other data or another `MODEL_NUMERICS`.
    """
    found = {path.name: path.read_bytes() for path in sorted(source.rglob("[!.]*.npz"))}
    for path in sorted(source.rglob("[!.]*.tar")):
        found |= _members(path)
    for name, content in found.items():
        if reason := _reason(name, content, tensors):
            raise ValueError(f"{name} is {reason}: nothing was merged or added")
    return found


def merge(source: Path, store: RunStore, tensors: Tensors) -> list[str]:
    """Copy the runs below a folder into the store; returns the names of the new ones.

    Raises ValueError, and copies nothing, for a folder without a run, and for one that `brought` refuses.
    """
    if not (found := brought(source, tensors)):
        what = "holds no run" if source.is_dir() else "is no folder"
        raise ValueError(f"{source} {what}: name the folder that --out has written")
    new = {name: content for name, content in found.items() if not (store.folder / name).exists()}
    for name, content in new.items():
        with _room_in(store.folder), replacing(store.folder / name) as partial:
            partial.write_bytes(content)
    return list(new)


def foreign(folder: Path, tensors: Tensors) -> dict[Path, str]:
    """The runs of a folder that do not belong to the present data and arithmetic, with the reason. They are never used:
    a run is found by its key. Raises ValueError for a torn or misnamed one, which a key would find."""
    reasons = {path: _reason(str(path), path.read_bytes(), tensors) for path in sorted(folder.glob("[!.]*.npz"))}
    return {path: reason for path, reason in reasons.items() if reason}


def _reason(name: str, content: bytes, tensors: Tensors) -> str:
    """Why a run is not of the present data and arithmetic, "" if it is. Raises ValueError for one that cannot be read
    to its end, or whose name is not that of its key."""
    try:
        read_run(io.BytesIO(content))
        key = RunKey(**read_meta(io.BytesIO(content))["key"])
    except TORN as error:
        raise ValueError(f"{name} is torn, or no run ({error}): delete it, then start again") from error
    if key.filename != Path(name).name:
        raise ValueError(f"{name} holds the run {key.filename}: give it that name, or delete it, then start again")
    if (key.market, key.data_hash) != (tensors.market, tensors.data_hash):
        there, here = key.data_hash[:12], tensors.data_hash[:12]
        return f"a run on {key.market} with data {there}, not on {tensors.market} with {here}"
    return f"a run of numerics {key.numerics}, not {MODEL_NUMERICS}" if key.numerics != MODEL_NUMERICS else ""


@contextlib.contextmanager
def _room_in(folder: Path) -> Iterator[None]:
    """Says where a disk is full: the system's own message does not."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OSError(f"{error}: free some space for {folder}, then start again") from error
        raise
