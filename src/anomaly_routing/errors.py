"""Errors that a user can act on: each names the file, the row, the rule and the remedy."""

from __future__ import annotations


class MarketDataError(ValueError):
    """Input that breaks the data contract.

    Parameters
    ----------
    file : what was read, as the user named it.
    row : where it is wrong, e.g. ``"row 17 (2023-03-10, SIVB)"``; ``"-"`` when the whole file is meant.
    rule : the rule that is broken, in words.
    remedy : what to do about it.
    """

    def __init__(self, file: object, row: str, rule: str, remedy: str) -> None:
        self.file, self.row, self.rule, self.remedy = str(file), row, rule, remedy
        super().__init__(f"{file}: {row}: {rule}. Remedy: {remedy}")

    def __reduce__(self):  # keep the four parts when a worker process raises
        return type(self), (self.file, self.row, self.rule, self.remedy)
