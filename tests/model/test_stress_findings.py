"""What notebook 05 says of the stress indicator, on planted indicators and known weights."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from small_networks import TRAINED, VALIDATED, small_network, small_tensors

from anomaly_routing.features.stress import STRESS_NAMES
from anomaly_routing.model import stress_findings
from anomaly_routing.panel import BURN_IN

TEST = BURN_IN + TRAINED + VALIDATED


@pytest.fixture(scope="module")
def tensors():
    """Indicator k peaks in training on sample 5 k; on the test it gets to a tenth, two, three, four tenths of that."""
    plain = small_tensors()
    stress = np.zeros_like(plain.stress)
    for k in range(4):
        stress[BURN_IN + 5 * k, k] = 10.0 * (k + 1)
        stress[TEST + 3, k] = (k + 1) * (k + 1)
    return replace(plain, stress=stress)


def run_on(tensors, psi) -> SimpleNamespace:
    days = tensors.sessions[tensors.scored]
    sources = {"w_temp": 0.2, "w_ctx": 0.3, "w_prior": np.linspace(0.4, 0.6, len(days))}
    return SimpleNamespace(daily=pd.DataFrame({"psi": psi} | sources, index=days))


def test_where_the_training_maxima_lie_and_how_high_the_test_gets(tensors):
    table = stress_findings.indicator_table(tensors)
    assert tuple(table.indicator) == STRESS_NAMES
    assert table["training maximum on"].tolist() == [tensors.sessions[BURN_IN + 5 * k] for k in range(4)]
    assert table["highest of the test"].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_two_weeks_are_the_calendar_weeks():
    days = pd.bdate_range("2023-02-27", "2023-03-31")
    for day in ("2023-03-06", "2023-03-10"):
        kept = days[stress_findings.two_weeks(days, pd.Timestamp(day))]
        assert list(kept) == list(pd.bdate_range("2023-03-06", "2023-03-17"))


def test_the_table_of_a_run(tensors):
    days = tensors.sessions[tensors.scored]
    psi = np.linspace(0.1, 0.9, len(days))
    rank = pd.Series(np.exp(-psi), index=days).reindex(tensors.sessions)  # the opposite order
    crisis = tensors.sessions[TEST + 10]
    row = stress_findings.stress_table({"a": run_on(tensors, psi)}, tensors, rank, days[20], crisis).iloc[0]
    last = np.flatnonzero(stress_findings.two_weeks(days, crisis))[-1]
    assert row["psi, highest of the crisis"] == psi[last] < row["psi, highest of the test"] == psi[-1]
    assert row["psi, median"] == np.median(psi[20:]) and row["w_temp"] == pytest.approx(0.2)
    assert row["rank correlation of psi with the rank index"] == pytest.approx(-1)
    assert row["w_prior, range"] == pytest.approx(np.ptp(np.linspace(0.4, 0.6, len(days))[20:]))
    psi[: TRAINED + VALIDATED] = 0.95  # a peak before the test is none of the test
    other = stress_findings.stress_table({"a": run_on(tensors, psi)}, tensors, rank, days[20], None).iloc[0]
    assert other["psi, highest"] == 0.95 and other["psi, highest of the test"] == psi[-1] == 0.9
    assert "psi, highest of the crisis" not in other


def test_weights_of_indicators_and_sources(tensors):
    """One each before training in both presets; then what is planted."""
    psi = pd.Series([0.0, 1.0])
    for preset in ("literal", "intended"):
        net = small_network(tensors, preset)
        np.testing.assert_allclose(stress_findings.indicator_weights(net), 1, rtol=1e-6)
    with torch.no_grad():
        net.graph.stress.beta.fill_(2.0)
        net.graph.sources.w.copy_(torch.tensor([1.0, 0.0, 0.0]))
        net.graph.sources.v.copy_(torch.tensor([0.0, 0.0, 3.0]))
    np.testing.assert_allclose(stress_findings.indicator_weights(net), np.log(1 + np.exp(2)), rtol=1e-6)
    expected = [np.exp(logits) / np.exp(logits).sum() for logits in (np.array([1, 0, 0]), np.array([1, 0, 3]))]
    np.testing.assert_allclose(stress_findings.source_means(net, psi), np.mean(expected, axis=0), rtol=1e-5)
    assert not len(stress_findings.indicator_weights(small_network(tensors, psi_rule="rank")))


def test_what_is_said(tensors):
    days = tensors.sessions[tensors.scored]
    psi = np.linspace(0.1, 0.9, len(days))
    rank = pd.Series(psi, index=days).reindex(tensors.sessions)
    runs, crisis = {"a": run_on(tensors, psi)}, tensors.sessions[TEST + 10]
    table = stress_findings.stress_table(runs, tensors, rank, days[0], crisis)
    told = stress_findings.height_words(table, stress_findings.indicator_table(tensors), "in a bad week", 0.78)
    assert "a 0.900 (0.783 in a bad week)" in told and "in a bad week); the paper's crisis has 0.78" in told
    assert told.endswith("reach at most 0.10, 0.20, 0.30, 0.40")
    nets = {m: small_network(tensors, m) for m in ("literal", "intended")}
    nets["literal"].graph.stress.beta.data[2] = 1.5
    learned = stress_findings.learned_words(
        table, nets, {m: small_network(tensors, m) for m in nets}, {m: runs["a"].daily.psi for m in nets}
    )
    assert "`literal`: weights of the indicators 1.00 to 1.00 before training, 1.00 to 1.50 after it" in learned
    assert learned.endswith("of 1.000 to 1.000, so the order of the days owes little to training")
    apart = table.assign(**{"rank correlation of psi with the rank index": 0.5})
    words = stress_findings.learned_words(apart, {}, {}, {})
    assert words.endswith("so training changes the order of the days")
