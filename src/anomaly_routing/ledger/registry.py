"""Which computation decides which claim: a table of claim-id patterns, filled by decorators and declarative tables."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anomaly_routing
from anomaly_routing.claims import Claim
from anomaly_routing.ledger.verdict import Finding, NotTestable

if TYPE_CHECKING:
    from anomaly_routing.ledger.sources import Sources

Compute = Callable[[Claim, "Sources"], Finding]
_TABLE: dict[str, Decider] = {}


@dataclass(frozen=True)
class Decider:
    """`compute(claim, sources)` gives a Finding or raises Undecided; `file` and `line` say where it is computed."""

    pattern: str
    compute: Compute
    file: str
    line: int
    stage: str
    only_real: bool

    @property
    def group(self) -> str:
        """Module of `deciders` that holds it."""
        return self.compute.__module__.rsplit(".", 1)[1]


def decides(*patterns: str, stage: str = "", only_real: bool = True) -> Callable[[Compute], Compute]:
    """Decorator: this function decides the claims whose id fits a pattern (as in a shell: `T1.*.hits`).

    stage : whose results it reads. only_real : it needs the market that the paper is about; on another one the verdict
    is `not testable` (rules: `common.market`).
    """

    def add(compute: Compute) -> Compute:
        for pattern in patterns:
            _add(pattern, compute, compute, stage, only_real)
        return compute

    return add


def table(rows: Mapping[str, Any], wrap: Callable[[Any], Compute], stage: str = "", only_real: bool = True) -> None:
    """Declarative deciders: pattern -> something that `wrap` turns into a computation. A row's own function, if it has
    one, says on which line the verdict is decided."""
    caller = sys._getframe(1).f_code.co_filename
    for pattern, row in rows.items():
        _add(pattern, wrap(row), row if callable(row) else (caller, pattern), stage, only_real)


def computed_in(pattern: str, where: tuple[str, str], compute: Compute, stage: str, only_real: bool = True) -> None:
    """A claim that a stage decides with its own code; `where` is a file below the package and how its line begins.

    Raises ValueError when no line of the file begins so.
    """
    path = Path(anomaly_routing.__file__).parent / where[0]
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [number for number, text in enumerate(lines, 1) if text.startswith(where[1])]
    if not found:
        raise ValueError(f"{pattern}: no line of {where[0]} begins with {where[1]!r}")
    _TABLE[pattern] = Decider(pattern, compute, _below_source(path), found[0], stage, only_real)


def untestable(rows: Mapping[str, str]) -> None:
    """Claims that nothing can decide: pattern -> the reason that the reader is given."""

    def because(reason: str) -> Compute:
        def refuse(claim: Claim, sources: Sources) -> Finding:
            raise NotTestable(reason)

        return refuse

    caller = sys._getframe(1).f_code.co_filename
    for pattern, reason in rows.items():
        _add(pattern, because(reason), (caller, pattern), "", False)


def _add(pattern: str, compute: Compute, where: Any, stage: str, only_real: bool) -> None:
    file, line = _place(where)
    if pattern in _TABLE and _TABLE[pattern].file != file:
        raise ValueError(f"two deciders for {pattern!r}: {_TABLE[pattern].file} and {file}")
    _TABLE[pattern] = Decider(pattern, compute, file, line, stage, only_real)


def _place(where: Any) -> tuple[str, int]:
    """Path in the repository, from `src` on, and line: of a function, or of the row of a table that names a pattern."""
    if callable(where):
        path, line = Path(where.__code__.co_filename), where.__code__.co_firstlineno
    else:
        path, quoted = Path(where[0]), f'"{where[1]}"'
        line = next(i for i, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if quoted in text)
    return _below_source(path), line


def _below_source(path: Path) -> str:
    """The path from `src` on."""
    start = len(path.parts) - path.parts[::-1].index("src") - 1
    return "/".join(path.parts[start:])


def deciders() -> dict[str, Decider]:
    """Every decider, by pattern."""
    package = importlib.import_module("anomaly_routing.ledger.deciders")
    for module in pkgutil.iter_modules(package.__path__, prefix=package.__name__ + "."):
        importlib.import_module(module.name)
    return dict(_TABLE)


def decider_of(claim_id: str, known: Mapping[str, Decider]) -> Decider | None:
    """The most specific decider of a claim: its own entry, else the longest pattern that fits; None without one."""
    fitting = [pattern for pattern in known if fnmatchcase(claim_id, pattern)]
    return known[max(fitting, key=lambda p: (p == claim_id, len(p)))] if fitting else None


def without_decider(claims: Iterable[str]) -> list[str]:
    """The claims that nothing decides; a test keeps this list empty."""
    known = deciders()
    return [claim for claim in claims if decider_of(claim, known) is None]


def without_claim(claims: Iterable[str]) -> list[str]:
    """Patterns that fit no claim: a typing error, or a claim that is gone."""
    names = list(claims)
    return [pattern for pattern in deciders() if not any(fnmatchcase(name, pattern) for name in names)]
