"""The audit's arithmetic against brute force, closed forms and a library."""

from __future__ import annotations

import json
import re
from itertools import combinations, combinations_with_replacement, product

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import kurtosis

from anomaly_routing.audit import calendar, chance, counts, forms, shapes, sizes
from anomaly_routing.claims import load_claims, values
from anomaly_routing.evaluation.statistics import paired_exact
from tests.conftest import ROOT


@pytest.mark.parametrize("k", [1, 2, 5, 6])
def test_medians_against_all_samples(k):
    """Every sample of k leads of 0..5 days, its median rounded both ways at a half."""
    medians = {float(np.median(s)) for s in combinations_with_replacement(range(6), k)}
    for tenth in range(51):
        printed = tenth / 10
        assert counts.median_is_possible(printed, k) == any(abs(m - printed) <= 0.05 + 1e-9 for m in medians)


@pytest.mark.parametrize("k", [3, 7, 8, 9])
def test_means_against_all_sums(k):
    for tenth in range(51):
        fitting = [s for s in range(5 * k + 1) if abs(s / k - tenth / 10) <= 0.05 + 1e-9]
        assert counts.totals_of_mean(tenth / 10, k) == fitting
    assert counts.totals_of_mean(2.2, 8) == counts.totals_of_mean(2.3, 8) == [18]


@pytest.mark.parametrize("n", [13, 14, 130])
def test_rates_against_all_counts(n):
    shown = {k: {np.floor(1000 * k / n + 0.5) / 10, np.ceil(1000 * k / n - 0.5) / 10} for k in range(n + 1)}
    for tenth in range(1001):
        fitting = [k for k, both in shown.items() if any(abs(tenth / 10 - v) < 1e-6 for v in both)]
        assert counts.counts_of_rate(tenth / 10, n) == fitting
    assert counts.counts_of_rate(57.1, 13) == [] and counts.counts_of_rate(57.1, 14) == [8]


def test_session_counts_find_what_was_planted():
    planted = (41, 13, 7)
    percents = [round(100 * c / sum(planted), 1) for c in planted]
    found = counts.session_counts(percents, range(40, 80))
    assert planted in found[sum(planted)]
    for n, splits in found.items():
        for split in splits:
            assert sum(split) == n and [round(100 * c / n, 1) for c in split] == pytest.approx(percents, abs=0.051)
    brute = set()
    for n in range(40, 60):
        for a, b in product(range(n + 1), repeat=2):
            parts = np.array([a, b, n - a - b])
            if parts.min() >= 0 and (np.abs(100 * parts / n - percents) <= 0.05 + 1e-9).all():
                brute.add(n)
    assert brute == {n for n in found if n < 60}


def test_common_denominators():
    assert counts.common_denominators([50.0, 33.3], range(1, 13)) == [6, 12]
    assert counts.common_denominators([88.5, 73.1, 89.2, 85.4, 90.8], range(1, 200)) == [130]


def test_a_baseline_behind_rounded_figures():
    low, high = counts.baseline_behind(0.29, [0.39, 0.48], [33, 66])
    grid = np.arange(0.285, 0.295, 1e-5)
    a, b = np.meshgrid(np.arange(0.385, 0.395, 1e-4), np.arange(0.475, 0.485, 1e-4))
    works = [((np.abs(a / g - 1.33) <= 0.005) & (np.abs(b / g - 1.66) <= 0.005)).any() for g in grid]
    assert grid[works].min() == pytest.approx(low, abs=1e-4) and grid[works].max() == pytest.approx(high, abs=1e-4)
    assert counts.baseline_behind(0.29, [0.39], [50]) is None


def test_the_calendar():
    sessions = calendar.exchange_sessions()
    years = pd.Series(1, sessions).groupby(sessions.year).sum()
    assert years.tolist() == [251, 251, 252, 253, 252, 251, 250, 252]  # as the exchange publishes its holidays
    assert calendar.split_counts(sessions, 40) == (1219, 251, 502)
    assert calendar.burn_ins_that_print(sessions, (61.8, 12.7, 25.5), range(100)) == [40, 41, 42, 43]
    checked = calendar.check_dates({"a": "2023-03-12", "b": "2023-03-10", "c": "2023-Q1"}, sessions).set_index("event")
    assert checked.loc["a", ["weekday", "session", "next"]].tolist() == ["Sunday", "no", "2023-03-13"]
    assert checked.loc["b", "session"] == "yes" and not checked.loc["c", "a day"]
    assert calendar.could_lie_in("2022-03..2022-11", 2022, 2022) and not calendar.could_lie_in("2022-Q4", 2023, 2024)
    for day, n in (("2024-05-13", 3), ("2024-05-16", 3), ("2024-05-17", 4)):  # Monday, Thursday, Friday
        assert len(calendar.calendar_window(pd.Timestamp(day), sessions)) == n
    assert [len(w) for w in calendar.windows([pd.Timestamp("2023-03-10")], sessions)] == [5]


def test_blind_alarms_against_simulation():
    rng = np.random.default_rng(0)
    alarms = rng.random((200_000, 5)) < 0.115
    hit = alarms.any(axis=1)
    assert chance.mean_lead(0.115) == pytest.approx((5 - alarms.argmax(axis=1))[hit].mean(), abs=0.02)
    both = rng.random((200_000, 5, 2)) < 0.05
    assert chance.two_channels(0.05) == pytest.approx(both.any(axis=(1, 2)).mean(), abs=0.005)
    thirteen = hit[: 13 * 15_000].reshape(-1, 13).sum(axis=1)
    assert chance.at_least(8, 13, 0.115) == pytest.approx((thirteen >= 8).mean(), abs=0.01)
    assert chance.some_stock_exceeds(100, 0.05) == pytest.approx(0.994, abs=5e-4)


@pytest.mark.parametrize("hits", [1, 2, 5, 6])
def test_the_median_lead_of_luck_against_simulation(hits):
    rng = np.random.default_rng(hits)
    share = 0.91 ** np.arange(5)
    leads = rng.choice([5, 4, 3, 2, 1], (40_000, hits), p=share / share.sum())
    assert chance.median_lead(0.09, hits) == pytest.approx(np.median(leads, axis=1).mean(), abs=0.025)
    assert chance.median_lead(0.09, 1) == pytest.approx(chance.mean_lead(0.09))


@pytest.mark.parametrize(("a", "b", "n"), [(4, 2, 5), (5, 5, 6), (6, 1, 7)])
def test_paired_bounds_against_all_placements(a, b, n):
    """Both sets of hits placed in every way among n events."""
    sets = [(set(x), set(y)) for x in combinations(range(n), a) for y in combinations(range(n), b)]
    p = [paired_exact(len(x - y), len(y - x)) for x, y in sets]
    assert chance.paired_range(a, b, n) == pytest.approx((min(p), np.mean(p), max(p)))


def test_the_least_difference():
    assert chance.least_difference(13) == 6 and paired_exact(5, 0) > 0.05 > paired_exact(6, 0)
    pairs = chance.all_pairs({"x": 12, "y": 6, "z": 10}, 13)
    assert len(pairs) == 3 and pairs["p, best case"].tolist() == pytest.approx([2**-5, 0.5, 0.125])


def test_ranges_of_the_equations_against_the_torch_model():
    from anomaly_routing.model.dynamic_graph import Alpha, Sources

    psi = torch.linspace(0, 1, 101)
    alpha = Alpha("stress", 0.5)(psi).detach().numpy()
    assert forms.fusion_range(0.5, -0.5) == pytest.approx((alpha.min(), alpha.max()), abs=1e-6)
    base, slope = forms.fusion_through((0.2, 0.65), (0.78, 0.28))
    assert 1 / (1 + np.exp(-(base + slope * np.array([0.2, 0.78])))) == pytest.approx([0.65, 0.28])
    low, high = forms.source_weight_range()
    sources = Sources("sigmoid")
    with torch.no_grad():
        for extreme in ([-40.0, 40.0, 40.0], [40.0, -40.0, -40.0]):
            sources.w.copy_(torch.tensor(extreme))
            first = float(sources(psi[:1])[0, 0])
            assert first == pytest.approx(low if extreme[0] < 0 else high, abs=1e-6)


def test_temperature_and_diversity():
    assert forms.largest_share(np.array([1.0, 0, 0, 0]), 1.0) == pytest.approx(np.e / (np.e + 3))
    logits = torch.tensor([0.9, 0.1, -0.3, 0.2], dtype=torch.double, requires_grad=True)
    w = torch.softmax(logits, 0)
    (-(w * w.log()).sum()).backward()
    assert forms.diversity_gradient(w.detach().numpy(), 1) == pytest.approx(-logits.grad.numpy())


def test_the_linear_programmes_against_two_point_distributions():
    """Mean 0, variance 1 on two points: the bounds hold and are nearly reached; a random sample lies inside."""
    low, high = forms.mean_score_range()
    p = np.linspace(0.001, 0.999, 4000)
    means = p / (1 + np.exp(-2 * np.sqrt((1 - p) / p))) + (1 - p) / (1 + np.exp(2 * np.sqrt(p / (1 - p))))
    assert low - 1e-6 <= means.min() <= low + 2e-3 and high - 2e-3 <= means.max() <= high + 1e-6
    z = np.random.default_rng(0).standard_t(4, 1000)
    z = (z - z.mean()) / z.std()
    assert low < (1 / (1 + np.exp(-2 * z))).mean() < high
    top = np.argsort(z)[-300:]
    scores = 1 / (1 + np.exp(-2 * z))
    assert np.delete(scores, top).mean() <= forms.highest_rest(0.3, scores[top].mean()) + 1e-6
    assert np.isnan(forms.highest_rest(0.3, 0.999))  # no such distribution
    assert (z > 1.645).mean() <= forms.cantelli(1.645) == pytest.approx(0.2698, abs=1e-4)


def test_index_mass_and_neighbours():
    weights = np.array([0.3, 0.25, 0.2, 0.15, 0.1])
    both = forms.pressure(weights, 0.3, 0.95, 0.28, 0.15, 0.78)
    assert both == pytest.approx({"sd": 0.484, "1 - sd": 0.589})
    alpha, row = 0.28, np.r_[np.ones(27), np.zeros(73)]
    fused = alpha * row + (1 - alpha) * np.full(100, 0.01)
    assert forms.prior_mass(alpha, 27) == pytest.approx((alpha * row).sum() / fused.sum())
    assert forms.neighbours_kept(np.full(50, 0.3), 20, 5.0) == pytest.approx(50)
    assert forms.neighbours_kept(np.r_[[40.0] * 2, [-40.0] * 8], 2, 5.0) == pytest.approx(2, abs=1e-6)


def test_the_index_over_all_admissible_components_against_a_search():
    """Random components never leave the range and the corners reach it; both readings can print both days (A66)."""
    weights, rng = np.array([0.3, 0.25, 0.2, 0.15, 0.1]), np.random.default_rng(0)
    for reading, fourth in (("sd", (0, 0.5)), ("1 - sd", (0.5, 1))):
        low, high = forms.pressure_range(weights, reading, (0.4, 0.9))
        ends = [(0, 1), (0, 1), (0, 0.5), fourth, (0.4, 0.9)]
        corners = np.array(np.meshgrid(*ends)).reshape(5, -1).T
        drawn = rng.uniform(*np.array(ends).T, (200_000, 5))
        assert (corners @ weights).min() == pytest.approx(low) and (corners @ weights).max() == pytest.approx(high)
        near = drawn[np.abs(drawn @ weights - 0.6) < 0.002]
        need = forms.least_breadth(weights, 0.6, reading, (0.4, 0.9))
        assert 0 <= need <= near[:, 0].min() + 0.01 and near[:, 0].min() < need + 0.2
        assert np.isnan(forms.least_breadth(weights, 0.99, reading, (0.4, 0.9)))
    assert weights @ [0.34, 0.95, 0.28, 0.85, 0.78] == pytest.approx(0.60, abs=0.005)
    assert weights @ [0.02, 0.64, 0.22, 0.80, 0.50] == pytest.approx(0.38, abs=0.005)


def test_the_audit_notebook_treats_every_entry_that_its_head_lists():
    cells = ["".join(c["source"]) for c in json.loads((ROOT / "notebooks" / "00_audit.ipynb").read_text())["cells"]]
    head = re.search(r"Audit: ([^.]+)\.", cells[0]).group(1)
    for first, last in re.findall(r"([ABD]\d+)(?:-([ABD]\d+))?", head):
        for k in range(int(first[1:]), int((last or first)[1:]) + 1):
            name = f"{first[0]}{k:02d}"
            assert re.search(rf"\b{name}\b", "\n".join(cells[1:])), f"{name} is listed and not treated"


# --- sizes -----------------------------------------------------------------------------------------------------------
def test_steps_of_an_epoch_against_a_count_of_batches():
    steps = sizes.steps_per_epoch(7, 10, 4)
    days = [range(7)[i : i + 4] for i in range(0, 7, 4)]
    pooled = [range(70)[i : i + 4] for i in range(0, 70, 4)]
    by_day = [range(10)[i : i + 4] for _ in range(7) for i in range(0, 10, 4)]
    assert list(steps.values()) == [len(days), len(pooled), len(by_day)] == [2, 18, 21]
    assert list(sizes.steps_per_epoch(1219, 100, 32).values()) == [39, 3810, 4876]  # A68
    reached = sizes.slope_reached(steps, 3, 0.5, -1.0)
    assert reached.iloc[:, -1].tolist() == [-1 - 3 * 0.5 * n for n in steps.values()]


def test_the_regulariser_beside_the_loss_against_torch():
    logits = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    entropy = torch.distributions.Categorical(logits=logits).entropy()
    bound = sizes.largest_diversity_term(0.01, 4)
    assert 0.01 * float(entropy.max()) <= bound == pytest.approx(0.0139, abs=5e-5)
    rng = np.random.default_rng(0)  # norms of unit-variance features, each set reconstructed as zero
    norms = [np.linalg.norm(rng.choice([-1.0, 1.0], d)) for d in (29, 29, 29, 6, 8, 7, 8)]
    assert sizes.first_reconstruction([1, 3, 5]) == pytest.approx(sum(norms))


def test_windows_and_groups_against_all_cases():
    windows = [set(range(h)) for h in (1, 3, 5)]  # lags of x_{t-h+1..t}
    assert sizes.windows_with([1, 3, 5]) == [sum(lag in w for w in windows) for lag in range(5)]
    for n, group in product(range(1, 7), range(4)):
        if group > n:
            continue
        for hits in range(n + 1):
            members = [sum(e < group for e in chosen) for chosen in combinations(range(n), hits)]
            assert sizes.fewest_among(hits, n, group) == min(members)
    assert sizes.fewest_among(10, 13, 4) == 1  # A94


def test_the_session_of_a_lead_between_two_sessions():
    sessions = calendar.exchange_sessions()
    closure = pd.Timestamp("2023-03-10")
    after, before = calendar.session_before(closure, 3.8, sessions)
    assert (f"{before:%m-%d}", f"{after:%m-%d}") == ("03-06", "03-07")  # Monday and Tuesday of that week (A98)
    assert calendar.session_before(closure, 5.0, sessions) == (pd.Timestamp("2023-03-03"),) * 2


def test_counts_that_fall_on_a_multiple_against_simulation():
    drawn = np.random.default_rng(0).binomial(130, 0.769, 200_000)
    assert chance.falls_on_a_multiple(76.9, 130, 10) == pytest.approx((drawn % 10 == 0).mean(), abs=3e-3)
    assert chance.falls_on_a_multiple(50.0, 3, 1) == pytest.approx(1.0)


def test_a_step_of_the_logits_against_gradient_descent():
    weights = np.array([0.4, 0.3, 0.2, 0.1])
    logits = torch.tensor(np.log(weights), requires_grad=True)
    w = torch.softmax(logits, 0)
    (0.01 * -(w * w.log()).sum()).backward()
    moved = torch.softmax(logits.detach() - logits.grad, 0).numpy()
    assert forms.weights_after(weights, forms.diversity_gradient(weights, 1), 0.01) == pytest.approx(moved)
    assert moved[0] == pytest.approx(0.4004, abs=5e-5)


def test_small_arguments_follow_the_claims():
    claims = load_claims(ROOT / "paper" / "claims.yaml")
    value, dates = {name: c.value for name, c in claims.items()}, values(claims, "S41.date.")

    def told(changed: dict) -> dict:
        table = sizes.small_arguments(value | changed, dates, 4, 251, calendar.exchange_sessions())
        return table.groupby("entry").computed.agg(list).to_dict()

    found = told({})
    assert found["A67"] == ["62.75, 37.65, 12.55, 2.51"] and found["A61"] == ["1.155"] and found["A70"] == ["5"]
    assert found["A80"] == ["428,164"] and found["A87"] == ["L0, L1, L2"] and found["A88"] == ["2022-2024"]
    assert found["A95"] == ["3.441"] and found["A97"][0].startswith("30, ") and found["A98"] == ["06 March to 07 March"]
    other = told({"T1.tranad.hits": 12, "S2.threshold": 80, "S3.patience": 5, "ABS.lead": 1.0})
    assert (other["A94"], other["A87"], other["A70"]) == (["3"], ["L0"], ["15"])
    assert other["A98"] == ["09 March to 09 March"]


def test_kurtosis_bound():
    plain, excess = forms.highest_kurtosis(20)
    tries = np.random.default_rng(0).standard_cauchy((20_000, 20))
    assert plain == pytest.approx(18 + 1 / 19) and excess == pytest.approx(20)
    assert kurtosis(tries, axis=1, fisher=False).max() <= plain + 1e-9


def test_counts_of_parameters_against_torch():
    def numel(module) -> int:
        return sum(p.numel() for p in module.parameters())

    assert shapes.lstm(29, 128) == numel(torch.nn.LSTM(29, 128, bidirectional=True))
    assert shapes.gru(64, 128) == numel(torch.nn.GRU(64, 128))
    assert shapes.mlp(517, 256, 128, 4) == sum(
        numel(torch.nn.Linear(a, b)) for a, b in ((517, 256), (256, 128), (128, 4))
    )
    from anomaly_routing.model.network import build_model

    parts = build_model("literal").parameters_by_module()
    ours = {"bilstm": "BiLSTM", "selfattn": "self-attention", "gat": "GAT + projection", "gating": "gate MLP"}
    ours |= {"experts": "experts", "gru": "GRU decoders"}
    first = shapes.readings().drop_duplicates("part").set_index("part").parameters
    assert {part: parts[name] for part, name in ours.items()} == first[list(ours)].to_dict()


def test_the_nearest_reading_is_marked_once_a_part():
    printed = {part: 100_000 for part in shapes.readings().part}
    table = shapes.nearest(printed)
    assert (table.groupby("part").nearest.sum() >= 1).all() and table.off.notna().all()
    assert shapes.activations(100)["m1"] == 512_000 and shapes.operations()["N^2 d"] == 1_280_000
