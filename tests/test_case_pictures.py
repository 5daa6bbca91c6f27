"""Figures 1 to 3, the maps and the signatures: what is drawn is what the network and the market are."""

from __future__ import annotations

import itertools

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from anomaly_routing.architecture import after_the_network, dependencies, draw_architecture, parts_that_run
from anomaly_routing.case_claims import Mark, tracks
from anomaly_routing.case_figures import Axis, band, draw_figure3, draw_timeline, own_cuts, present
from anomaly_routing.case_measures import Track
from anomaly_routing.case_panels import claim_panel, draw_page
from anomaly_routing.case_signatures import (
    _extreme,
    correlation_matrix,
    edge_density,
    group_percentiles,
    mean_correlation,
    ties_by_chance,
    window_correlations,
)
from anomaly_routing.case_study import case_study
from anomaly_routing.case_truth import default_cases
from anomaly_routing.figure1 import _score_and_weights
from anomaly_routing.model import build_model
from anomaly_routing.model.dynamic_graph import pairs
from anomaly_routing.model.network import FIELDS
from anomaly_routing.network_map import (
    animate,
    draw_map,
    focus_mass,
    graph_table,
    layout,
    outside_mass,
    sector_labels,
    strongest_edges,
    usual_changes,
)
from tests.test_case_study import market_of


@pytest.fixture(scope="module")
def simulated():
    return market_of("simulated")


@pytest.fixture(scope="module")
def net_and_batch():
    net = build_model("intended").eval()
    generator = torch.Generator().manual_seed(0)
    prior = (torch.rand(9, 9, generator=generator) > 0.5).float()
    prior = ((prior + prior.T) > 0).float() * (1 - torch.eye(9))
    batch = (torch.randn(20, 9, 29, generator=generator), torch.ones(1, 9, dtype=torch.bool), prior, torch.rand(1, 4))
    return net, batch


# --- Figure 2 --------------------------------------------------------------------------------------------------------
def test_figure_2_shows_the_shapes_of_the_real_module(net_and_batch):
    net, batch = net_and_batch
    fig, drawn = draw_architecture(net, batch)
    texts = [t.get_text() for t in fig.axes[0].texts]
    plt.close(fig)
    with torch.no_grad():
        out = net(*batch)
    for name in FIELDS:
        shape = tuple(getattr(out, name).shape)
        assert drawn[name] == shape and texts[texts.index(name) + 1] == " x ".join(map(str, shape))
    total = sum(p.numel() for p in net.parameters() if p.requires_grad)
    printed = [int(t.split(": ")[1].split()[0].replace(",", "")) for t in texts if t.startswith("Module ")]
    assert len(printed) == 4 and sum(printed) == total


def test_the_parts_hold_all_parameters_and_only_folded_ones_do_not_run(net_and_batch):
    net, batch = net_and_batch
    parts = parts_that_run(net, batch)
    assert parts.parameters.sum() == sum(net.parameters_by_module().values())
    assert set(parts.part[parts.output == "folded"]) == {"query", "value", "edge.first"}
    assert parts.set_index(["module", "part"]).output["encoder", "context"] == "1 x 9 x 64"


def test_the_arrows_are_what_the_equations_say(net_and_batch):
    """Every direct one, also where a longer way leads to the same field."""
    needs = dependencies(*net_and_batch)
    assert needs["z"] == {"h_temp", "h_spat"} and needs["h_temp"] == {"x"} and needs["psi"] == {"stress"}
    assert needs["context"] == {"h_temp", "h_spat", "cross_weights"}  # equations 29, 31: the window is added back
    assert needs["fused"] == {"alpha", "learned", "prior"}  # equation 40
    assert needs["z_ref"] == {"z", "fused"} and needs["z_final"] == {"z", "z_ref"}  # equation 41
    assert needs["routing"] == {"z_final", "psi", "category_signal", "tau"}  # equations 43-46
    assert needs["expert_error"] == {"x", "z_final", "h_spat"} and needs["horizon_error"] == {"x", "latent"}
    assert needs["moe_error"] == {"routing", "expert_error"} and needs["error"] == {"moe_error", "rec_error"}
    assert needs["rebuilt"] == set()  # detached


def test_an_arrow_is_a_change_with_everything_else_held(net_and_batch):
    """Naive oracle for two fields: their own equation, fed with one argument changed."""
    net, batch = net_and_batch
    needs, (_, active, prior, _) = dependencies(net, batch), batch
    with torch.no_grad():
        out = net(*batch)
        graph = {"alpha": out.alpha, "prior": prior * pairs(active), "learned": out.learned}
        gate = {"z_final": out.z_final, "psi": out.psi, "category_signal": out.category_signal}
        makes = {"fused": (lambda a: net.graph.fuse(a["alpha"], a["prior"], a["learned"]), graph),
                 "routing": (lambda a: net.experts.gate(a["z_final"], a["psi"],
                             net.experts.category_norm(a["category_signal"]), active)[1], gate)}  # fmt: skip
        for field, (make, given) in makes.items():
            np.testing.assert_allclose(make(given), getattr(out, field), atol=1e-6)
            noise = torch.Generator().manual_seed(1)
            moved = {n: make(given | {n: t * torch.rand(t.shape, generator=noise)}) for n, t in given.items()}
            changes = {n for n, value in moved.items() if not torch.allclose(value, make(given), atol=1e-6)}
            assert changes == needs[field] - {"tau"}


def test_what_is_computed_after_the_network(net_and_batch):
    shapes, needs = after_the_network(*net_and_batch)
    assert shapes == {"score": (1, 9), "mpi": (1,), "level": (1,)}
    assert needs == {"score": {"error"}, "mpi": {"score", "routing", "psi"}, "level": {"mpi"}}


def test_the_arrows_follow_the_network_and_not_a_list():
    """Without the stress indicators in the sources (`literal`), no arrow leads from psi to their weights."""
    batch = (torch.randn(20, 5, 29), torch.ones(1, 5, dtype=torch.bool), torch.ones(5, 5) - torch.eye(5))
    batch = (*batch, torch.rand(1, 4))
    assert "psi" not in dependencies(build_model("literal").eval(), batch)["source_weights"]
    assert "psi" in dependencies(build_model("intended").eval(), batch)["source_weights"]


# --- correlations and signatures -------------------------------------------------------------------------------------
def test_correlations_against_numpy():
    returns = np.random.default_rng(0).standard_normal((60, 6)).astype(np.float32)
    returns[:, 1] += returns[:, 0]
    matrix = correlation_matrix(returns, 40)
    np.testing.assert_allclose(matrix, np.corrcoef(returns[21:41].T), atol=1e-6)
    off = matrix[~np.eye(6, dtype=bool)]
    assert mean_correlation(returns, 40) == pytest.approx(off.mean())
    rows, columns = np.arange(6) < 2, np.arange(6) >= 4
    assert mean_correlation(returns, 40, rows, columns) == pytest.approx(matrix[:2, 4:].mean())
    assert edge_density(returns, 40, 0.5) == pytest.approx((matrix[np.triu_indices(6, 1)] > 0.5).mean())
    returns[30, 3] = np.nan
    assert np.isnan(correlation_matrix(returns, 40)[3]).all()


def test_the_mean_correlation_is_the_stress_indicator_of_the_features(simulated):
    """I3 is computed elsewhere, from a variance identity (SPEC 5.1)."""
    tensors = simulated.tensors
    for at in np.flatnonzero(tensors.test)[::60]:
        assert mean_correlation(tensors.returns, at) == pytest.approx(tensors.stress[at, 2], abs=2e-3)


def test_window_correlations_average_their_sessions(simulated):
    tensors = simulated.tensors
    days = tensors.sessions[tensors.test][5:9]
    window = {"what": "four days", "first": days[0], "last": days[-1]}
    row = window_correlations(simulated, [window, window | {"take": "max"}])
    values = [mean_correlation(tensors.returns, tensors.sessions.get_loc(d)) for d in days]
    assert row.correlation[0] == pytest.approx(np.mean(values)) and row.correlation[1] == pytest.approx(max(values))
    assert row.sessions[0] == 4 and row["first"][0] == days[0]


def test_percentiles_of_a_group_against_a_loop(simulated):
    tensors = simulated.tensors
    focus, day = tensors.is_bank, tensors.sessions[tensors.test][50]
    columns = [j for j, group in enumerate(tensors.group) if group == "liquidity"]

    def size(t: int) -> float:
        rows = [np.abs(tensors.x[t, i, columns]).mean() for i in np.flatnonzero(focus & tensors.active[t])]
        return float(np.mean(rows))

    today = size(tensors.sessions.get_loc(day))
    by_hand = np.mean([size(t) < today for t in np.flatnonzero(tensors.train)])
    table = group_percentiles(tensors, focus, tensors.sessions[[tensors.sessions.get_loc(day)]])
    assert table["liquidity"].iloc[0] == pytest.approx(by_hand, abs=2 / tensors.train.sum())
    assert list(table) == ["price_shock", "liquidity", "contagion", "momentum"]


def test_extremes_keep_their_distance():
    values = np.zeros((100, 2))
    values[[10, 15, 40], 0], values[12, 1], values[90, 1] = [5, 9, 7], 8, np.nan
    assert _extreme(values, 3).tolist() == [[15, 0], [12, 1], [40, 0]]


# --- maps ------------------------------------------------------------------------------------------------------------
def test_mass_kept_and_drawn_by_hand():
    graph = np.array([[[0, 0.8, 0.2, 0], [0.5, 0, 0.25, 0.25], [0.1, 0.3, 0, 0.6], [0, 0, 1.0, 0]]])
    focus, active = np.array([True, True, False, False]), np.ones((1, 4), bool)
    assert focus_mass(graph, focus, active)[0] == pytest.approx((0.8 + 0.5) / 2)
    assert outside_mass(graph, focus, active)[0] == pytest.approx((0.1 + 0.3) / 2)
    assert strongest_edges(graph, share=1 / 6) < 1.0


def test_the_null_of_the_learned_graph_is_the_prior_itself(simulated):
    """Row by row: what the given graph keeps inside the group and draws from outside."""
    event = simulated.events[simulated.events.split == "test"].iloc[3]
    study = case_study(simulated, event.date, list(event.tickers)[:1], before=1, after=1, presets=())
    focus, tensors = np.isin(simulated.tensors.tickers, event.tickers), simulated.tensors
    table = graph_table(simulated, study, focus)
    for t, position in enumerate(study.positions):
        kept, drawn = [], []
        active = np.flatnonzero(tensors.active[position])
        for i in active:
            row = {j: tensors.prior[i, j] for j in active}
            if total := sum(row.values()):
                (kept if focus[i] else drawn).append(sum(v for j, v in row.items() if focus[j]) / total)
        assert table.prior_keeps[t] == pytest.approx(np.mean(kept))
        assert table.prior_draws[t] == pytest.approx(np.mean(drawn))


def test_usual_changes_against_a_loop():
    days = pd.bdate_range("2023-01-02", periods=60)
    drawn, tests = pd.Series(np.random.default_rng(0).random(60), days), np.arange(60) >= 5
    found = usual_changes(drawn, days[30], days[20:24], tests)
    by_hand = {
        days[t]: np.mean([drawn.iloc[t + k] for k in range(6)]) - np.mean([drawn.iloc[t - k] for k in (7, 8, 9, 10)])
        for t in range(10, 55)
    }
    assert found.to_dict() == pytest.approx(by_hand)


def test_random_ties_are_those_of_stocks_drawn_by_hand(simulated):
    tensors = simulated.tensors
    days = tensors.sessions[tensors.test][5:8]
    at = tensors.sessions.get_indexer(days)
    names = [t for i, t in enumerate(tensors.tickers) if tensors.active[at[0] - 20 : at[-1] + 1, i].all()]
    window = {"rows": names[:1], "columns": names[1:3], "first": days[0], "last": days[-1]}
    luck = ties_by_chance(simulated, window, draws=200)
    known = [i for i, t in enumerate(tensors.tickers) if t not in names[:3]]
    row = tensors.tickers.index(names[0])
    corr = [correlation_matrix(tensors.returns, t)[row] for t in at]
    pairs_of_stocks = itertools.combinations([i for i in known if np.isfinite([c[i] for c in corr]).all()], 2)
    every = [max((c[i] + c[j]) / 2 for c in corr) for i, j in pairs_of_stocks]
    assert len(luck) == 200 and all(np.isclose(v, every).any() for v in luck)
    assert np.median(luck) == pytest.approx(np.median(every), abs=0.1)


def test_every_stock_has_its_own_place():
    sector = np.array(["A"] * 5 + ["B"] * 4 + ["C"] * 3, dtype=object)
    place = layout(sector, sector == "A")
    gaps = np.linalg.norm(place[:, None] - place[None], axis=2) + 9 * np.eye(12)
    assert gaps.min() > 0.03 and np.linalg.norm(place[:5], axis=1).max() < np.linalg.norm(place[5:], axis=1).min()
    np.testing.assert_array_equal(place, layout(sector, sector == "A"))


@pytest.mark.parametrize("name", ["simulated", "us100"])
def test_no_name_on_the_map_covers_a_dot_or_a_name(name):
    """As drawn: boxes of the texts against the places of the dots and against each other."""
    market = market_of(name)
    focus = market.tensors.is_bank.astype(bool)
    place = layout(market.sector, focus)
    wanted = ["SIVB", "SBNY", "FRC"] if name == "us100" else list(np.array(market.tensors.tickers)[focus][:2])
    named = {ticker: market.tensors.tickers.index(ticker) for ticker in wanted}
    fig, ax = plt.subplots(figsize=(2.6, 2.3))
    n = len(focus)
    draw_map(
        ax, np.zeros((n, n)), np.full(n, 0.5), focus, place, 1.0, sector_labels(market.sector, focus, place), named
    )
    fig.canvas.draw()
    boxes = [t.get_window_extent() for t in ax.texts]
    dots = ax.transData.transform(place)
    assert len(boxes) == len(wanted) + len(set(market.sector[~focus]))
    assert not any(box.contains(*dot) for box in boxes for dot in dots)
    assert not any(one.overlaps(two) for one, two in itertools.combinations(boxes, 2))
    plt.close(fig)


def test_the_film_has_a_frame_a_session_and_is_small(simulated, tmp_path):
    plt.rcdefaults()
    event = simulated.events[simulated.events.split == "test"].iloc[3]
    study = case_study(simulated, event.date, list(event.tickers)[:2], before=2, after=1, presets=())
    focus = np.isin(simulated.tensors.tickers, event.tickers)
    size = animate(tmp_path / "film.gif", study, focus, {}, "simulated", "")
    film = Image.open(tmp_path / "film.gif")
    assert film.n_frames == 4 and (tmp_path / "film.gif").stat().st_size == size < 100_000
    again = animate(tmp_path / "again.gif", study, focus, {}, "simulated", "")
    assert again == size and (tmp_path / "again.gif").read_bytes() == (tmp_path / "film.gif").read_bytes()
    assert not list(tmp_path.glob("*.partial*"))


def test_a_page_draws_what_the_paper_claims(simulated):
    event = simulated.events[simulated.events.split == "test"].iloc[3]
    study = case_study(simulated, event.date, list(event.tickers)[:2], before=10, after=3, presets=())
    found = tracks(study, study.sessions[:5])
    value = {"S42.crwd_liq": 0.58, "S42.gme_level": "L1", "S42.gme_n": 3, "S42.fed_corr_before": 0.35}
    value |= {"S42.fed_corr_after": 0.52}
    marks = {"crowdstrike": [0.58], "gamestop": [1.0, 3.0], "fed": [0.35, 0.52], "carry": []}
    for case, levels in marks.items():
        panel = claim_panel(case, study, found, value)
        assert [level for _, level in panel.marks] == levels
        fig = draw_page(study, found, "made up", claim=panel)
        diamonds = [line for line in fig.axes[2].lines if line.get_marker() == "D"]
        assert [float(line.get_ydata()[0]) for line in diamonds] == levels
        plt.close(fig)
    weights = claim_panel("crowdstrike", study, found, value)
    own = study.stocks.query("preset == 'intended'")
    for k, (_, series, _, _) in enumerate(weights.lines):
        np.testing.assert_array_equal(series, own[own.ticker == study.tickers[0]][f"w{k + 1}"])
    assert weights.even == 0.25 and "no Japanese bank" in claim_panel("carry", study, found, value).text
    assert claim_panel("crowdstrike", study, found, {}) is None and claim_panel("svb", study, found, value) is None


def test_a_mean_of_seeds_is_drawn_of_enough_of_them():
    days = pd.bdate_range("2023-03-06", periods=4)

    def drawn(count: int) -> list[float]:
        tables = [pd.DataFrame({"w1": float(k)}, index=days) for k in range(count)]
        fig, ax = plt.subplots()
        band(ax, Axis(days), [Track(t, t, days[1], days[:1]) for t in tables], "w1", "black", "w")
        found = sorted((line.get_linewidth(), line.get_ydata()[0]) for line in ax.lines)
        plt.close(fig)
        return [height for width, height in found if width > 1]

    assert drawn(1) == [0.0] and drawn(2) == [] and drawn(3) == [1.0]


# --- levels, marks, chance -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["simulated", "us100"])
def test_every_level_is_read_off_figure_3(name):
    """The strip's digits are the stored levels of every run; the bars are cuts that give these levels."""
    market = market_of(name)
    (case, *_) = default_cases(market)
    study = case_study(market, case["date"], case["tickers"], span=case["span"], presets=())
    found = tracks(study, study.sessions[:5])
    cuts = own_cuts(market)
    mark = Mark(*case["span"], 0.77)
    fig = draw_figure3(study, found, "middle", {case["tickers"][0]: [mark]})
    fig.canvas.draw()
    a, strip, b = fig.axes[:3]
    digits = {(round(t.get_position()[1] - 0.45), int(t.get_position()[0])): int(t.get_text()) for t in strip.texts}
    bars = [line for line in a.lines if line.get_marker() == "_"]
    assert len(bars) == len(found) == len(cuts)
    for k, run in enumerate(found):
        stored = next(r.run.daily for r in market.runs.itertuples() if (r.preset, r.seed) == run)
        level = stored["level@val"].reindex(study.sessions)
        assert [digits.get((k, at), 0) for at in range(len(level))] == level.astype(int).tolist()
        np.testing.assert_allclose(bars[k].get_ydata(), cuts[run])
        counted = [sum(cut <= v + 1e-6 for cut in cuts[run]) for v in stored["mpi@val"]]  # as many bytes as stored
        assert np.mean(np.array(counted) == stored["level@val"]) > 0.999
        assert a.transData.transform((3, 0))[0] == pytest.approx(strip.transData.transform((3.5, 0))[0], abs=0.5)
    assert all(line.get_ydata()[0] != cuts["intended", 0].mean() for line in a.lines)
    filled = [line for line in b.lines if line.get_markerfacecolor() != "none" and line.get_marker() == "o"]
    assert [line.get_ydata()[0] for line in filled] == [0.77]
    dashed = [line.get_ydata()[0] for line in b.lines if line.get_linestyle() == "--"]
    assert dashed == [pytest.approx(market.first_run("intended").info["theta_s_tail"])]
    plt.close(fig)


def test_figure_1_shows_what_the_paper_prints_and_what_even_weights_give():
    days = pd.bdate_range("2023-03-06", periods=4)
    daily = pd.DataFrame({"S": [0.4, 0.4, 0.7, 0.4]} | {f"w{k}": 0.1 * k for k in range(1, 5)}, index=days)
    found = {("intended", 0): Track(daily, daily, days[2], days[:2])}
    fig, (left, right) = plt.subplots(1, 2)
    _score_and_weights(left, right, found, {"the paper": [0.39, np.nan, 0.13, np.nan]})
    widths = [round(float(bar.get_width()), 3) for bar in right.patches]
    assert widths[:4] == [0.1, 0.2, 0.3, 0.4] and widths[-1] == 0.48  # the last one: not printed
    assert [line.get_xdata()[0] for line in right.lines] == [0.25, 0.5, 0.75]
    assert left.lines[0].get_xdata()[0] == pytest.approx(0.4) and left.patches[0].get_width() == 0.7
    plt.close(fig)


def test_news_after_the_close_stand_between_the_sessions():
    days = pd.bdate_range("2023-03-01", periods=10)
    share = pd.Series(0.1, index=days)
    came = pd.DataFrame({"method": ["a"], "sessions_ahead": [2.0], "first": [days[4]]})
    facts = [{"session": "2023-03-09", "known": "8 March, after the close", "short": "raise"},
             {"session": "2023-03-09", "known": "9 March, during the session", "short": "run"}]  # fmt: skip
    fig = draw_timeline(share, came, facts, days[7], share)
    dots = [float(line.get_xdata()[0]) for line in fig.axes[0].lines if line.get_marker() == "o"]
    plt.close(fig)
    assert dots == [5.5, 6.0]  # 8 March is the sixth session, its close half a session on


def test_an_axis_without_weekends():
    axis = Axis(pd.bdate_range("2023-03-06", periods=10))
    assert axis.at("2023-03-10") == 4 and axis.at("2023-03-12") == 4.5 and axis.at("2023-03-13") == 5


def test_a_picture_is_written_once_and_the_same(tmp_path):
    def picture(name: str) -> bytes:
        fig, ax = plt.subplots()
        ax.plot([0, 1], [1, 0])
        shown = present(fig, tmp_path / name, vector=True)
        assert shown.data == (tmp_path / f"{name}.png").read_bytes() and (tmp_path / f"{name}.svg").exists()
        return shown.data

    assert picture("one") == picture("two") and not plt.get_fignums()
