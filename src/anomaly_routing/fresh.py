"""Are the committed reports those of the present code, parameters and data? `python -m anomaly_routing.fresh`.

Three kinds of difference between a stage's lock and the working tree:

report      what the stage wrote is not what the lock says it wrote: never right; tests fail.
inputs      parameters, the paper's files, earlier results, or the stage itself (its name, command or list of
            dependencies) differ: the report is about something else; tests fail.
code        only code differs, as after an edit of a comment: listed here. Run the stage again, or, when the edit cannot
            move a number, say so: `python -m anomaly_routing.fresh accept STAGE --reason "..."` writes a line with the
            reason to `accepted.csv` and brings the lock up to date. A later edit is listed again.

An input that git does not keep (`data/`) is compared where it is there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from anomaly_routing.files import write_csv
from anomaly_routing.paths import repository

CODE = ("src/", "notebooks/")
LOCAL = ("data/",)  # in no clone
PLACE = re.compile(r"\$\{([^}]+)\}")  # a value of the parameters in dvc.yaml
ACCEPTED = "accepted.csv"
COLUMNS = ("market", "stage", "path", "digest", "reason")


@dataclass(frozen=True)
class Difference:
    """One path or parameter section of a stage that is not as the lock has it. `digest` is the present one."""

    market: str
    stage: str
    kind: str
    path: str
    digest: str


def digest(path: Path) -> str:
    """As DVC has it: md5 of a file; of a folder, md5 of the sorted list of its files with their md5, ending `.dir`."""
    if path.is_file():
        return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    files = sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    entries = [{"md5": digest(p), "relpath": p.relative_to(path).as_posix()} for p in files]
    text = json.dumps(sorted(entries, key=lambda e: e["relpath"]), sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ".dir"


def locks(root: Path) -> dict[str, Path]:
    """Market -> its lock file; `simulated` is the root's."""
    found = {"simulated": root / "dvc.lock"} | {p.parent.name: p for p in sorted((root / "markets").glob("*/dvc.lock"))}
    return {market: path for market, path in found.items() if path.exists()}


def differences(root: Path) -> list[Difference]:
    """Every difference between the locks and the working tree, as `kind` report, inputs or code."""
    found = []
    for market, path in locks(root).items():
        locked = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"] or {}
        found += [Difference(market, *line) for line in _of_pipeline(path.with_name("dvc.yaml"), locked)]
        for stage, lock in locked.items():
            found += [Difference(market, stage, *line) for line in _of_stage(root, lock)]
    return found


def _of_pipeline(file: Path, locked: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Stages, commands and dependencies of the pipeline file that the lock does not have, and the other way round:
    (stage, kind, what, present digest). Such a report was made by another pipeline, so all of them count as inputs."""
    stages, lines = pipeline(file), []
    for stage in [*stages, *(name for name in locked if name not in stages)]:
        if stage not in stages or stage not in locked:
            missing = "lock" if stage in stages else file.name
            lines.append((stage, "inputs", f"{file.name}: stage not in the {missing}", digest_of(stages.get(stage))))
            continue
        if stages[stage]["cmd"] != locked[stage]["cmd"]:
            lines.append((stage, "inputs", f"{file.name}: cmd", digest_of(stages[stage]["cmd"])))
        deps, known = stages[stage]["deps"], [entry["path"] for entry in locked[stage].get("deps", [])]
        for path in sorted(set(deps) ^ set(known)):
            lines.append((stage, "inputs", path, "new" if path in deps else "no longer a dependency"))
    return lines


def pipeline(file: Path) -> dict[str, dict[str, Any]]:
    """Stage -> its `cmd` and `deps`, with `${...}` filled from the parameters beside the file, as DVC does."""
    beside = file.with_name("params.yaml")
    params = yaml.safe_load(beside.read_text(encoding="utf-8")) if beside.exists() else {}

    def value(match: re.Match[str]) -> str:
        found: Any = params
        for part in match.group(1).strip().split("."):
            found = found[part]
        return str(found)

    text = PLACE.sub(value, file.read_text(encoding="utf-8"))
    stages = yaml.safe_load(text)["stages"]
    return {name: {"cmd": stage["cmd"], "deps": list(stage.get("deps") or [])} for name, stage in stages.items()}


def _of_stage(root: Path, lock: dict[str, Any]) -> list[tuple[str, str, str]]:
    lines = []
    for part in ("outs", "deps"):
        for entry in lock.get(part, []):
            path = root / entry["path"]
            if entry["path"].startswith(LOCAL) and not path.exists():
                continue
            now = digest(path) if path.exists() else "gone"
            if now != entry["md5"]:
                kind = "report" if part == "outs" else "code" if entry["path"].startswith(CODE) else "inputs"
                lines.append((kind, entry["path"], now))
    for file, sections in (lock.get("params") or {}).items():
        present = yaml.safe_load((root / file).read_text(encoding="utf-8"))
        for section, value in sections.items():
            if present.get(section) != value:
                lines.append(("inputs", f"{file}: {section}", digest_of(present.get(section))))
    return lines


def digest_of(value: Any) -> str:
    return hashlib.md5(json.dumps(value, sort_keys=True).encode(), usedforsecurity=False).hexdigest()


def accepted(root: Path) -> pd.DataFrame:
    """The accepted code-only changes, one row a path."""
    path = root / ACCEPTED
    return pd.read_csv(path, dtype=str) if path.exists() else pd.DataFrame(columns=list(COLUMNS))


def code_only(root: Path) -> list[Difference]:
    """Code differences that nobody has accepted in their present form."""
    known = set(accepted(root)[["market", "stage", "path", "digest"]].itertuples(index=False, name=None))
    return [d for d in differences(root) if d.kind == "code" and (d.market, d.stage, d.path, d.digest) not in known]


def accept(root: Path, market: str, stage: str, reason: str, commit: bool = True) -> pd.DataFrame:
    """Write a line for each changed code path of a stage, and bring the lock up to date (`dvc commit`).

    Raises ValueError without a reason, when nothing changed, or when more than code did: then the stage must run.
    """
    own = [d for d in differences(root) if (d.market, d.stage) == (market, stage)]
    if not reason.strip():
        raise ValueError("say why the change cannot move a number: --reason '...'")
    if other := sorted({d.path for d in own if d.kind != "code"}):
        raise ValueError(f"{stage}: {', '.join(other)} changed too, not code alone: run the stage again")
    if not own:
        raise ValueError(f"{stage} of market {market} has no code change to accept")
    new = pd.DataFrame([(d.market, d.stage, d.path, d.digest, reason.strip()) for d in own], columns=list(COLUMNS))
    table = pd.concat([accepted(root), new], ignore_index=True)
    write_csv(root / ACCEPTED, table)
    if commit:
        file = "dvc.yaml" if market == "simulated" else f"markets/{market}/dvc.yaml"
        subprocess.run(["dvc", "commit", "--force", f"{file}:{stage}"], cwd=root, check=True)
    return table


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", nargs="?", choices=("list", "accept"), default="list")
    parser.add_argument("stage", nargs="?")
    parser.add_argument("--market", default="simulated")
    parser.add_argument("--reason", default="")
    args = parser.parse_args(argv)
    root = repository()
    if args.command == "accept":
        try:
            accept(root, args.market, args.stage, args.reason)
        except ValueError as error:
            sys.exit(str(error))
        return
    found, waiting = differences(root), code_only(root)
    for d in [d for d in found if d.kind != "code"] + waiting:
        print(f"{d.kind:8s} {d.market:10s} {d.stage:16s} {d.path}")
    wrong = sum(d.kind != "code" for d in found)
    print(
        f"{wrong} of reports and inputs: run the stage; {len(waiting)} of code alone: run it, or accept with a reason"
    )


if __name__ == "__main__":
    main()
