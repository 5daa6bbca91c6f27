"""An SVG of matplotlib's in about half the bytes: the same shapes in the same order, with nothing said twice."""

from __future__ import annotations

import re

TAG = re.compile(r"<[a-z][^>]*>")  # of a shape: what is written in the picture stands between tags and is left alone
PLACES = re.compile(r"(\.\d\d)\d+")  # a hundredth of a point is finer than any printer
ZEROS = re.compile(r"(?<=\d)\.0+(?!\d)|(?<=\.\d)0(?!\d)")
STEP = re.compile(r" ?\n([LMCQz]) ?")  # a path's next segment, which needs no line of its own
LEVEL = re.compile(r" transform=\"rotate\(-?0 [-.\d ]+\)\"")  # turned by nothing
NAME = re.compile(r" id=\"(\w+)\"")
LOOK = re.compile(r" style=\"([^\"]*)\"")


def compact(svg: str) -> str:
    """Coordinates to a hundredth of a point, one CSS class for each look, no names that nothing refers to.

    Raises ValueError if the drawing has no style sheet, which is where the classes go.
    """
    if "</style>" not in svg:
        raise ValueError("an SVG of matplotlib's has a <style> element, this one has none")
    used = set(re.findall(r"#(\w+)", svg))
    looks: dict[str, str] = {}

    def shorter(tag: re.Match[str]) -> str:
        text = LEVEL.sub("", ZEROS.sub("", PLACES.sub(r"\1", tag[0])))
        text = NAME.sub(lambda name: name[0] if name[1] in used else "", STEP.sub(r"\1", text).replace(' \n"', '"'))
        return LOOK.sub(lambda look: f' class="{looks.setdefault(look[1], f"s{len(looks)}")}"', text)

    svg = re.sub(r">\n +<", ">\n<", TAG.sub(shorter, svg))
    rules = "".join(f"\n.{name} {{{look}}}" for look, name in looks.items())
    return svg.replace("</style>", f"{rules}</style>", 1)
