"""The snippets break as the audit says, the mended ones do not, and both say what they did."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from anomaly_routing.chapter.snippets import PrintedAutoencoder, common_days, modified_z, run_snippets


@pytest.fixture(scope="module")
def share() -> tuple[pd.Series, pd.Series]:
    rng, days = np.random.default_rng(0), pd.bdate_range("2020-01-01", periods=500)
    log_volume = 10 + 0.3 * rng.standard_normal(500)
    log_volume[[100, 200, 300]] += 6
    return pd.Series(np.exp(log_volume), days), pd.Series(0.01 * rng.standard_normal(500), days)


def test_what_breaks_and_what_runs(share):
    found = run_snippets(*share, np.random.default_rng(1).standard_normal((200, 3)))
    said = list(found["what happens"])
    runs = {audit: [s.startswith("runs") for s in found.loc[found.audit == audit, "what happens"]]
            for audit in found.audit.unique()}  # fmt: skip
    assert runs == {"D02": [True, True], "D05": [False], "D06": [False, True], "D07": [False, True],
                    "D10": [True, False], "58.8": [False, True]}  # fmt: skip
    assert said[0] == "runs: 500 of 500 values infinite or undefined" and said[1].startswith("runs: 0 of 500")
    assert said[2].startswith("ModuleNotFoundError") and "hidden" in said[3] and "(8, 20, 3)" in said[4]
    assert said[6] == "runs: 1.0% of 200 rows flagged"
    assert (
        said[9].startswith("IndexError") and run_snippets(*share, np.eye(3).repeat(60, 0))["what happens"][3] == said[3]
    )


def test_the_printed_autoencoder_runs_with_as_many_inputs_as_its_state_is_wide():
    """D06 is about widths: 64 inputs are the one case that works."""
    assert PrintedAutoencoder(64)(torch.zeros(5, 20, 64)).shape == (5, 20, 64)
    for inputs in (1, 3, 65):
        with pytest.raises(RuntimeError):
            PrintedAutoencoder(inputs)(torch.zeros(5, 20, inputs))


def test_common_days_are_counted_as_planted(share):
    volume, returns = share
    by_position, by_date = common_days(volume, returns)
    assert by_position == by_date and 1 <= by_date <= 10  # three spikes, of which the forest flags some
    quiet = volume.clip(np.exp(9.7), np.exp(10.3))
    assert common_days(quiet, returns) == (0, 0)


def test_the_mended_modified_z_is_the_printed_one_where_that_is_defined():
    values = pd.Series(np.random.default_rng(2).standard_normal(101))
    np.testing.assert_allclose(modified_z(values, mended=True), modified_z(values), rtol=1e-3)
