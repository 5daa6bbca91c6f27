"""The prior graph against a double loop."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from anomaly_routing.data.prior_graph import US_STATES, graph_summary, prior_graph, us_state
from anomaly_routing.data.universe import GICS_SECTORS

PLACES = ["California", "New York", "D.C.", "Ireland", "United Kingdom", "", "Ontario", "Texas"]
IN_THE_US = {"California", "New York", "D.C.", "Texas"}


def random_universe(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 40))
    sector, state = rng.choice(GICS_SECTORS, n), rng.choice(PLACES, n)
    return pd.DataFrame({"ticker": [f"T{i}" for i in range(n)], "sector": sector, "hq_state": state})


def oracle(universe: pd.DataFrame) -> tuple[np.ndarray, dict]:
    n = len(universe)
    graph, count = np.zeros((n, n)), {"sector_only": 0, "state_only": 0, "both": 0}
    for i in range(n):
        for j in range(n):
            if i == j:
                continue
            a, b = universe.iloc[i], universe.iloc[j]
            sector = a["sector"] == b["sector"]
            state = a["hq_state"] == b["hq_state"] and a["hq_state"] in IN_THE_US
            graph[i, j] = sector or state
            if i < j and (sector or state):
                count["both" if sector and state else "sector_only" if sector else "state_only"] += 1
    return graph, count


@pytest.mark.parametrize("seed", range(12))
def test_against_a_double_loop(seed):
    universe = random_universe(seed)
    graph, (expected, count) = prior_graph(universe), oracle(universe)
    assert graph.dtype == np.float32
    np.testing.assert_array_equal(graph, expected)
    summary = graph_summary(universe)
    assert {k: summary[k] for k in count} == count
    assert summary["nodes"] == len(universe)
    assert summary["edges"] == sum(count.values()) == expected.sum() / 2
    assert summary["mean_degree"] == pytest.approx(expected.sum(axis=1).mean())
    assert summary["isolated"] == sum(row.sum() == 0 for row in expected)


def test_a_foreign_or_unknown_head_office_gives_no_edge():
    universe = pd.DataFrame(
        {
            "ticker": list("abcdef"),
            "sector": list(GICS_SECTORS[:6]),
            "hq_state": ["Ireland", "Ireland", "", "", "D.C.", "District of Columbia"],
        }
    )
    assert np.argwhere(prior_graph(universe)).tolist() == [[4, 5], [5, 4]]


def test_the_order_is_the_universes():
    universe = random_universe(3)
    order = np.random.default_rng(0).permutation(len(universe))
    np.testing.assert_array_equal(prior_graph(universe.iloc[order]), prior_graph(universe)[np.ix_(order, order)])


def test_states_have_codes_and_names():
    assert len(US_STATES) == 51
    places = pd.Series(["NY", "new york", " New York ", "Washington", "Washington, D.C.", "DC", "Puerto Rico", None])
    assert us_state(places).tolist() == ["NY", "NY", "NY", "WA", "DC", "DC", "", ""]


@pytest.mark.real_data
def test_the_real_graph(us100_folder):
    universe = pd.read_csv(us100_folder / "universe.csv").rename(columns={"gics_sector": "sector"})
    universe = universe[universe["in_us100"]].reset_index(drop=True)
    expected = np.zeros((100, 100))
    foreign = {"United Kingdom", "Ireland"}
    rows = list(zip(universe["sector"], universe["hq_state"], strict=True))
    for i, (sector_i, state_i) in enumerate(rows):
        for j, (sector_j, state_j) in enumerate(rows):
            expected[i, j] = i != j and (sector_i == sector_j or (state_i == state_j and state_i not in foreign))
    np.testing.assert_array_equal(prior_graph(universe), expected)
    lin = universe.index[universe["ticker"] == "LIN"][0]
    materials = set(universe.index[universe["sector"] == "Materials"]) - {lin}
    assert set(np.flatnonzero(prior_graph(universe)[lin])) == materials  # a foreign head office: sector edges only
    assert graph_summary(universe)["isolated"] == 0
