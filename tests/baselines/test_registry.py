"""The registry: one new file is a new detector; what does not exist is named."""

from __future__ import annotations

import sys
from dataclasses import replace

import pandas as pd
import pytest
from planted_panel import EVERY_MODE, planted_panel

from anomaly_routing.baselines import registry, trivial
from anomaly_routing.baselines.registry import create, detectors

NEW_FILE = """
from dataclasses import dataclass
import numpy as np
from anomaly_routing.baselines.inputs import masked
from anomaly_routing.baselines.registry import register

@register("{name}", family="trivial", title="New", reference="a test", numerics=3)
@dataclass
class {cls}:
    level: float = 2.0
    seed: int = 0
    def fit(self, panel, train_mask):
        return self
    def decision_function(self, panel):
        return masked(panel, np.full(panel.active.shape, self.level + self.seed))
"""


@pytest.fixture
def folder_of_new_files(tmp_path, monkeypatch):
    """A folder that counts as part of `baselines/trivial`; what it registers is forgotten afterwards."""
    monkeypatch.setattr(trivial, "__path__", [*trivial.__path__, str(tmp_path)])
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    yield tmp_path
    for module in [m for m in sys.modules if m.startswith("anomaly_routing.baselines.trivial.brand_new")]:
        del sys.modules[module]


def test_one_new_file_is_a_new_detector(folder_of_new_files):
    assert "brand_new" not in detectors()
    (folder_of_new_files / "brand_new.py").write_text(NEW_FILE.format(name="brand_new", cls="BrandNew"))
    entry = detectors()["brand_new"]
    assert (entry.modes, entry.stochastic, entry.parameters, entry.numerics) == (("causal",), True, {"level": 2.0}, 3)
    panel = planted_panel().panel
    scores = create("brand_new", seed=5, level=1.0).fit(panel, planted_panel().train).decision_function(panel)
    assert set(scores[panel.active]) == {6.0}


def test_a_taken_name_is_refused(folder_of_new_files):
    (folder_of_new_files / "brand_new.py").write_text(NEW_FILE.format(name="zscore", cls="Other"))
    with pytest.raises(ValueError, match=r"two detectors are called 'zscore'.*statistical.zscore.ZScore.*Other"):
        detectors()


def test_what_does_not_exist_is_named():
    with pytest.raises(ValueError, match=r"no detector 'zscor'; there are: .*zscore"):
        create("zscor")
    with pytest.raises(ValueError, match=r"zscore has no mode 'live'; it has: chapter, causal"):
        create("zscore", mode="live")
    with pytest.raises(ValueError, match=r"zscore has no parameter 'k'; it has: series, flag_threshold"):
        create("zscore", k=3)
    with pytest.raises(ValueError, match=r"null has no parameter 'mode2'; it has: none"):
        create("null", mode2=1)
    panel = planted_panel().panel
    with pytest.raises(ValueError, match="no series 'price'; there are: return"):
        create("zscore", series="price").fit(panel, planted_panel().train)
    with pytest.raises(ValueError, match="no active stock-day to fit on"):
        create("zscore").fit(panel, planted_panel().train & False)


def test_the_detectors_of_the_specification_are_all_there():
    families = {
        "trivial": {
            "null", "random", "lagged_volatility", "lagged_vix", "mean_abs_z", "l2_norm", "market_volatility",
            "mean_abs_return", "mean_spread", "mahalanobis",
        },
        "statistical": {"zscore", "modified_zscore", "iqr", "stl_residual", "seasonal_esd"},
        "streaming": {"rolling_z"},
        "classical": {
            "pca_error", "knn1", "isolation_forest", "one_class_svm", "lof", "dense_autoencoder", "vae",
            "sequence_autoencoder",
        },
        "full model": {"intended", "literal"},
    }  # fmt: skip
    entries = detectors()
    for family, names in families.items():
        assert names <= {name for name, entry in entries.items() if entry.family == family}
    chapter = families["statistical"] | families["streaming"] | families["classical"] - {"pca_error", "knn1"}
    for name, entry in entries.items():
        assert "chapter" not in entry.modes or name in chapter
        assert entry.modes == ("chapter", "causal") or name not in chapter
        assert entry.lookahead == {mode: mode != "causal" for mode in entry.modes} or name == "rolling_z"
        assert entry.numerics >= 1 and entry.title and entry.reference
    assert entries["rolling_z"].lookahead == {"chapter": False, "causal": False}
    assert entries["intended"].modes == ("causal",) and entries["literal"].modes == ("printed",)


def test_seed_and_mode_reach_the_detector():
    for name, mode in EVERY_MODE:
        detector = create(name, mode=mode, seed=7)
        assert getattr(detector, "seed", 7) == 7
        assert getattr(detector, "mode", mode) == mode
    assert create("zscore").mode == "causal"


def test_missing_says_what_the_panel_lacks():
    panel = planted_panel().panel
    poor = replace(panel, features=[], x=panel.x[:, :, :0], benchmarks=pd.DataFrame(index=panel.sessions))
    empty = replace(panel, benchmarks=panel.benchmarks * float("nan"))
    entries = detectors()
    assert all(entry.missing(panel) is None for entry in entries.values())
    assert (
        entries["lagged_vix"].missing(poor) == entries["lagged_vix"].missing(empty) == "the panel has no benchmark ^VIX"
    )
    assert entries["mean_spread"].missing(poor) == "the panel has no feature spread"
    assert entries["pca_error"].missing(poor) == "the panel has no features"
    assert entries["zscore"].missing(poor) is None
    lacking = {"prior": "prior graph", "stress": "stress indicators", "group": "feature groups"}
    for name, what in lacking.items():
        less = replace(panel, **{name: [] if name == "group" else None})
        assert entries["intended"].missing(less) == entries["literal"].missing(less) == f"the panel has no {what}"


@pytest.mark.parametrize(
    ("name", "key", "value", "said"),
    [
        ("robust_autoencoder", "outliers", 1.5, "a share from 0 to 1"),
        ("metric_vmf", "share", 0, "a share above 0 and up to 1"),
        ("evolve_gcn", "steps", 0, "an integer from 1 up"),
        ("evolve_gcn", "steps", 2.5, "an integer from 1 up"),
        ("lstm_ae", "epochs", -1, "an integer from 0 up"),
        ("lstm_ae", "hidden", True, "an integer from 1 up"),
        ("dominant", "weight", float("nan"), "a number from 0 up"),
        ("anomaly_transformer", "temperature", "1", "a number from 0 up"),
        ("zscore", "flag_threshold", float("inf"), "a finite number"),
    ],
)
def test_a_number_that_a_parameter_cannot_be_is_refused(name, key, value, said):
    with pytest.raises(ValueError, match=rf"{name}: {key} is {value!r}; it must be {said}"):
        create(name, **{key: value})


def test_every_default_is_a_value_that_is_taken():
    for name, entry in detectors().items():
        create(name, **entry.parameters)
    create("zscore", flag_threshold=-2)
    create("lstm_ae", epochs=pd.Series([3]).iloc[0])  # a number of numpy's
