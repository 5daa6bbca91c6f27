"""Sentences whose numbers are computed, figures that are the same twice."""

from __future__ import annotations

from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from anomaly_routing.plots import STYLE, in_palette, save, stamp
from anomaly_routing.prose import sentence


@pytest.mark.parametrize(
    "template",
    [
        "{n} of {m} events (A17), Table 1, see `zscore` and notebook 12",
        "Abdi and Ranaldo (2017) give {n}",
        "SPEC 9.4 says {n}",
    ],
)
def test_names_may_hold_digits(template):
    assert "3" in sentence(template, n=3, m=13)


@pytest.mark.parametrize("template", ["12 of {n} events", "an AUC of 0.9", "{n}% in 5 days"])
def test_a_typed_number_is_refused(template):
    with pytest.raises(ValueError, match="is typed in the text"):
        sentence(template, n=1)


def test_a_figure_has_the_same_bytes_twice(tmp_path):
    for name in ("a", "b"):
        with plt.rc_context(STYLE):
            fig, ax = plt.subplots()
            ax.plot([1, 2, 3])
            stamp(fig, "simulated", seeds=3, note="x")
            save(fig, tmp_path / name, "figure", vector=True)
            plt.close(fig)
    for suffix in ("png", "svg"):
        first, second = ((tmp_path / name / f"figure.{suffix}").read_bytes() for name in ("a", "b"))
        assert first == second
    svg = (tmp_path / "a" / "figure.svg").read_text()
    assert "market: simulated" in svg and "seeds: 3" in svg and "device: cpu" in svg


def test_fewer_colours_change_no_pixel_that_an_eye_would_notice():
    fig, axes = plt.subplots(1, 2)
    axes[0].imshow(np.linspace(0, 1, 400).reshape(20, 20), cmap="viridis")
    axes[1].plot(np.random.default_rng(0).normal(size=(200, 4)).cumsum(0), alpha=0.6)
    whole = BytesIO()
    fig.savefig(whole, format="png")
    plt.close(fig)
    before, after = (
        np.asarray(Image.open(BytesIO(png)).convert("RGB"), float)
        for png in (whole.getvalue(), in_palette(whole.getvalue()))
    )
    assert len(in_palette(whole.getvalue())) < 0.6 * len(whole.getvalue())
    few = BytesIO()
    Image.fromarray(np.random.default_rng(0).choice(np.array([0, 120, 255], np.uint8), (90, 90, 3))).save(few, "png")
    colours = Image.open(BytesIO(in_palette(few.getvalue()))).convert("RGB").getcolors()
    assert len(colours) == 27 and in_palette(in_palette(few.getvalue())) == in_palette(few.getvalue())
    assert np.abs(before - after).max() < 40 and np.abs(before - after).mean() < 0.5
