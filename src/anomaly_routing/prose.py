"""Sentences under a figure: every number in them is computed, none typed."""

from __future__ import annotations

import re
import string

import pandas as pd
from IPython.display import HTML, Markdown, display

# digits that are names, not results: audit ids, tables, figures, sections, notebooks, months, years of a citation
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
NAMES = re.compile(
    r"\b[ABD]\d{2,3}\b|\b(?:Table|Figure|Section|Equation|SPEC|notebook|AUDIT) [\d.]+|`[^`]*`|\((?:19|20)\d\d\)"
    rf"|\b(?:{_MONTHS}) (?:19|20)\d\d\b"
)


def sentence(template: str, **values: object) -> str:
    """`template.format(**values)`; ValueError when the template itself holds a digit that is not a name.

    >>> sentence("{hits} of {n} events", hits=3, n=13)
    '3 of 13 events'
    """
    literal = "".join(text for text, *_ in string.Formatter().parse(template))
    if typed := re.search(r"\d+", NAMES.sub("", literal)):
        raise ValueError(f"the number {typed.group()} is typed in the text; pass it as a value: {template!r}")
    return template.format(**values)


def say(template: str, **values: object) -> None:
    """Show a sentence as Markdown."""
    display(Markdown(sentence(template, **values)))


def show(table: pd.DataFrame, digits: int = 3, index: bool = False) -> None:
    """Show a table as plain HTML with rounded numbers; the same table gives the same bytes."""
    table = table.map(lambda v: "" if v is None else v)
    display(HTML(table.to_html(index=index, float_format=lambda v: f"{v:.{digits}g}", na_rep="", border=0)))
