"""The smaller SVG against matplotlib's own, element by element, by a parser."""

import io
import re
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pytest

from anomaly_routing.drawing import compact

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


@pytest.fixture
def original() -> str:
    """Lines, points, a band, pixels and texts that look like coordinates."""
    rng = np.random.default_rng(0)
    fig, (left, right) = plt.subplots(1, 2)
    left.plot(rng.normal(size=40), "o-", label="1.000 of 0.12345\n   L 3.500")
    left.fill_between(range(40), rng.normal(size=40), alpha=0.3)
    left.text(3, 0, "turned", rotation=33, fontsize=7)
    left.legend()
    right.imshow(rng.normal(size=(5, 5)))
    right.scatter(rng.uniform(0, 4, 20), rng.uniform(0, 4, 20), s=rng.uniform(3, 40, 20), c="red", marker="^")
    drawing = io.StringIO()
    with plt.rc_context({"svg.fonttype": "none"}):
        fig.savefig(drawing, format="svg")
    plt.close(fig)
    return drawing.getvalue()


def looks(root: ElementTree.Element) -> dict[str, str]:
    sheet = "".join(element.text for element in root.iter() if element.tag.endswith("}style"))
    return dict(re.findall(r"\.(\w+) \{([^}]*)\}", sheet))


def test_a_smaller_drawing_is_the_same_drawing(original):
    small = compact(original)
    before, after = ElementTree.fromstring(original), ElementTree.fromstring(small)
    classes = looks(after)
    shapes = list(zip(before.iter(), after.iter(), strict=True))
    assert len(shapes) > 200 and len(small) < 0.7 * len(original)
    for old, new in shapes:
        assert old.tag == new.tag
        if not old.tag.endswith("}style"):
            assert (old.text or "").strip() == (new.text or "").strip()  # a label keeps its zeros
        kept = dict(new.attrib)
        if "class" in kept:
            kept["style"] = classes[kept.pop("class")]
        for name in {*old.attrib} - {*kept}:
            assert name == "id" or re.match(r"rotate\(-?0 ", old.attrib[name]), name
        for name, value in kept.items():
            was = old.attrib[name]
            if name == "d":
                value, was = (re.findall(r"[A-Za-z]|[-.\d]+", text) for text in (value, was))
                value, was = " ".join(value), " ".join(was)
            if "base64" in value:
                assert value == was
                continue
            assert NUMBER.sub("#", value).split() == NUMBER.sub("#", was).split(), name
            numbers = [[float(n) for n in NUMBER.findall(text)] for text in (value, was)]
            np.testing.assert_allclose(*numbers, atol=0.01)


def test_every_name_that_is_referred_to_is_there(original):
    small = compact(original)
    names = re.findall(r' id="(\w+)"', small)
    assert names and sorted(set(names)) == sorted(names)
    assert {*re.findall(r"(?:url\(#|href=\"#)(\w+)", small)} == {*names}
    assert len(re.findall(r' id="', original)) > 2 * len(names)


def test_the_same_drawing_gives_the_same_bytes_and_no_style_sheet_is_named(original):
    assert compact(original) == compact(original)
    with pytest.raises(ValueError, match="<style>"):
        compact("<svg></svg>")
