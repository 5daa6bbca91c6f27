"""Case studies: tables against naive recomputations, the door, verdicts by hand, first alarms on a planted series."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from anomaly_routing import case_claims
from anomaly_routing.case_claims import claims_table, finding, measured, tracks
from anomaly_routing.case_market import DEFAULT_PRESET, CaseError, baseline_sessions, daily_table, load_case_market
from anomaly_routing.case_measures import CRISIS, NOTHING, SVB, Track
from anomaly_routing.case_network import sector_mass
from anomaly_routing.case_panels import draw_page
from anomaly_routing.case_signatures import liquidity_of_banks
from anomaly_routing.case_study import case_study, days_of
from anomaly_routing.case_tables import svb_table
from anomaly_routing.case_truth import default_cases, focus_of, truth
from anomaly_routing.claims import load_claims
from anomaly_routing.first_alarms import alarmed_methods, distinct_methods, first_alarms
from anomaly_routing.ledger.registry import decider_of, deciders, without_decider
from anomaly_routing.ledger.sources import Sources
from anomaly_routing.ledger.verdict import Finding, Verdict, judge
from anomaly_routing.model.training import Data
from anomaly_routing.paths import MarketPaths
from tests.conftest import ROOT

CLAIMS = load_claims(ROOT / "paper" / "claims.yaml")
RULES = yaml.safe_load((ROOT / "paper" / "verdict_rules.yaml").read_text())
SENTENCES = yaml.safe_load((ROOT / "paper" / "case_sentences.yaml").read_text())["sentences"]


def market_of(name: str):
    if not (ROOT / "data" / "interim" / name / "tensors.npz").exists():
        pytest.skip(f"market {name} is not prepared here: run its stages up to `features`")
    return load_case_market(name, ROOT)


@pytest.fixture(scope="module")
def simulated():
    return market_of("simulated")


@pytest.fixture(scope="module")
def planted(simulated):
    """A price shock of the simulated market, whose stocks are known, and its study."""
    events = simulated.events[(simulated.events.split == "test") & (simulated.events.mechanism == "price_shock")]
    event = next(events.iloc[1:].itertuples())
    return event, case_study(simulated, event.date, list(event.tickers), before=25, after=6)


@pytest.fixture(scope="module")
def svb():
    return case_study(market_of("us100"), "2023-03-10", ["SIVB", "SBNY", "FRC"], span=["2023-02-08", "2023-03-31"])


# --- the tables ------------------------------------------------------------------------------------------------------
def test_a_score_of_the_checkpoint_is_that_of_the_store(planted):
    _, study = planted
    run = study.market.first_run(DEFAULT_PRESET)
    kept = pd.DataFrame(run.score, run.score_sessions, run.tickers)
    for ticker, own in study.stocks[study.stocks.preset == DEFAULT_PRESET].groupby("ticker"):
        np.testing.assert_allclose(own.score, kept[ticker].reindex(own.session), atol=2e-3)


def test_the_nonbank_mean_is_that_of_the_single_stocks(simulated):
    """It is derived from two means; here it is averaged stock by stock."""
    table = daily_table(simulated, rule="tail").query("preset == 'intended' and seed == 0").set_index("session")
    run, tensors = simulated.first_run(DEFAULT_PRESET), simulated.tensors
    for day in run.score_sessions[::97]:
        score = run.score[run.score_sessions.get_loc(day)]
        assert table.nonbanks[day] == pytest.approx(np.nanmean(score[~tensors.is_bank]), abs=2e-3)
        assert table.banks[day] == pytest.approx(np.nanmean(score[tensors.is_bank]), abs=2e-3)
        assert table.n_active[day] == np.isfinite(score).sum()


def test_the_pressure_index_is_the_weighted_sum_of_its_components(simulated):
    table = daily_table(simulated)
    parts = 0.30 * table.c1 + 0.25 * table.c2 + 0.20 * table.c3 + 0.15 * table.c4 + 0.10 * table.c5
    np.testing.assert_allclose(table.MPI, parts, atol=1e-3)


def test_the_shares_of_an_error_are_all_of_it(planted):
    _, study = planted
    whole = study.drivers.groupby("ticker")[["expert_share", "window_share", "share"]].sum()
    np.testing.assert_allclose(whole.share, 1, atol=1e-5)
    assert (study.drivers[["expert_share", "window_share"]] >= 0).all(axis=None)
    lines = study.stocks[study.stocks.preset == DEFAULT_PRESET].set_index(["ticker", "session"])
    for ticker, own in study.drivers.groupby("ticker"):  # the experts' part by hand, from the stored table
        line = lines.loc[(ticker, own.session.iloc[0])]
        by_hand = 0.6 * sum(line[f"w{k}"] * line[f"l{k}"] for k in range(1, 5)) / line.E
        assert own.expert_share.sum() == pytest.approx(by_hand, rel=1e-4)


def test_the_shares_follow_the_feature_that_is_moved(simulated, planted):
    """A spike in one feature of one stock on its last session makes that feature the first driver."""
    from dataclasses import replace

    event, study = planted
    ticker, tensors = event.tickers[0], simulated.tensors
    x, i, j = tensors.x.copy(), tensors.tickers.index(ticker), tensors.features.index("mom20")
    x[study.positions[-1], i, j] += 60.0
    moved = replace(simulated, tensors=replace(tensors, x=x))
    again = case_study(moved, event.date, [ticker], before=25, after=6)
    assert again.drivers.session.iloc[0] == study.sessions[-1] and again.drivers.feature.iloc[0] == "mom20"


def test_nothing_of_a_case_moves_when_later_sessions_do(simulated, planted):
    from dataclasses import replace

    event, study = planted
    x, cut = simulated.tensors.x.copy(), study.positions[25]
    x[cut + 1 :] = 3.0
    altered = replace(simulated, tensors=replace(simulated.tensors, x=x))
    again = case_study(altered, event.date, list(event.tickers), before=25, after=6)
    upto = study.stocks.session <= study.date
    pd.testing.assert_frame_equal(study.stocks[upto & (study.stocks.preset == DEFAULT_PRESET)],
                                  again.stocks[upto & (again.stocks.preset == DEFAULT_PRESET)])  # fmt: skip
    assert not np.allclose(study.output["error"][26:], again.output["error"][26:])


def test_a_planted_event_is_found_and_marked(planted):
    """The stocks that the simulator hit stand above the others, where a day of calm has no such order."""
    event, study = planted
    found = truth(study, event)
    assert found["auc"] > 0.8 and found["score_of_event_stocks"] > found["score_of_others"]
    assert found["mechanism"] == "Price-Shock" and found["stocks"] == len(event.tickers)


def test_default_cases_are_those_of_the_event_list(simulated):
    cases, events = default_cases(simulated), simulated.events.set_index("id")
    assert len(cases) == 2 and [events.mechanism[c["id"]] for c in cases] == ["contagion", "contagion"]
    for case in cases:
        assert case["date"] == f"{events.date[case['id']]:%Y-%m-%d}"
        assert set(case["focus"]) <= set(events.tickers[case["id"]]) and focus_of(simulated, case).sum() > 0
        assert len(baseline_sessions(simulated.tensors.sessions, *case["baseline"])) == 8


def test_a_market_without_events_gets_its_highest_pressure(simulated):
    from dataclasses import replace

    (case,) = default_cases(replace(simulated, events=simulated.events.iloc[:0]))
    assert case["id"] == "peak" and len(case["tickers"]) == 3


def test_attention_mass_of_a_uniform_row(planted):
    """Even attention has the sector's share of the active stocks as its mass."""
    _, study = planted
    even = study.market.tensors.active[study.positions].astype(np.float32)
    even = even[:, None, :] / even.sum(1)[:, None, None]
    rows = np.repeat(even, even.shape[2], axis=1)
    table = sector_mass(study.market, study.output | {"cross_weights": rows}, study.positions, "Financials")
    np.testing.assert_allclose(table.mass, table.uniform, rtol=1e-5)


# --- Silicon Valley Bank ---------------------------------------------------------------------------------------------
def test_a_bank_that_no_longer_trades_has_no_score(svb):
    first = svb.daily[(svb.daily.preset == "intended") & (svb.daily.seed == 0)].set_index("session")
    assert first.score_SIVB[:"2023-03-09"].notna().all() and first.score_SIVB["2023-03-10":].isna().all()
    assert first.score_SBNY[:"2023-03-10"].notna().all() and first.score_SBNY["2023-03-13":].isna().all()
    assert first.score_FRC.notna().all()
    assert first.n_active["2023-03-09"] == first.n_active["2023-03-10"] + 1
    assert svb.stocks.query("ticker == 'SIVB' and session >= '2023-03-10'").score.isna().all()


def test_the_baseline_is_the_mean_of_its_eight_sessions(svb):
    base = baseline_sessions(svb.market.tensors.sessions, "2023-02-08", "2023-02-18")
    assert [f"{d:%m-%d}" for d in base] == ["02-08", "02-09", "02-10", "02-13", "02-14", "02-15", "02-16", "02-17"]
    for (preset, seed), track in tracks(svb, base).items():
        row = next(r for r in svb.market.runs.itertuples() if (r.preset, r.seed) == (preset, seed))
        mpi = row.run.daily["mpi@val"]
        by_hand = sum(float(mpi[d]) for d in base) / 8
        assert track.base("MPI") == pytest.approx(by_hand, rel=1e-6)
        assert track.rise("MPI", track.at("MPI")) == pytest.approx(
            100 * (float(mpi["2023-03-10"]) / by_hand - 1), rel=1e-5
        )


def test_the_failing_three_are_refused_outside_their_life(svb):
    with pytest.raises(CaseError, match=r"SIVB does not trade between .* it does from .* to 2023-03-09"):
        case_study(svb.market, "2023-06-15", ["SIVB"])


def test_every_claim_about_the_case_has_the_ledgers_verdict(svb):
    base = baseline_sessions(svb.market.tensors.sessions, "2023-02-08", "2023-02-17")
    runs, sources = svb.market.runs, Sources(svb.market.paths, ROOT / "paper", svb.market.tensors.splits)
    ours = {
        (preset, rule): measured(SVB, tracks(svb, base, rule), preset, CLAIMS, runs)
        for preset in svb.market.presets
        for rule in ("val", "tail")
    }
    table = claims_table([s for s in SENTENCES if s["case"] == "svb"], ours, {}, sources)
    assert set(table.claim) >= {i for i in CLAIMS if i.startswith("F3.")}
    verdict = table.set_index("claim")["intended: verdict"]
    assert verdict.str.match("match|close|differs|refuted by the paper itself").all()
    assert verdict[["F3.sequence", "F3.ph2.ps"]].eq("refuted by the paper itself").all()
    for preset in svb.market.presets:  # a phase of one session: its peak is that session's weight
        shown = table.set_index("claim")[[preset, f"{preset}: by seed"]]
        assert shown.loc["F3.ph2.ps"].equals(shown.loc["F3.ps.mar10"].rename("F3.ph2.ps"))
    trained = [i for i in table.claim if not CLAIMS[i].checkable_without_training and i in SVB]
    assert not verdict[trained].str.startswith("match").any()  # too few seeds for that
    other = table.set_index("claim")
    for name in [i for i in table.claim if i not in SVB]:  # what the ledger decides, it decides for one preset
        assert other["literal"][name] == "" and other["literal: verdict"][name] == "intended only"
    by_hand = np.mean([t.at("w1") for (preset, _), t in tracks(svb, base).items() if preset == "intended"])
    assert ours["intended", "val"]["F3.ps.mar10"].value == pytest.approx(by_hand)


def made_up(value: float) -> Finding:
    return Finding(value, tier="gpu", n_seeds=10, protocol="paper", device="made up")


def test_no_preset_prints_the_numbers_of_another(monkeypatch):
    """A claim of the ledger has a value for `intended` alone; one measured here has each preset's own."""
    paths = MarketPaths("us100", ROOT)
    monkeypatch.setattr(case_claims, "decide", lambda *_: (made_up(0.61), Verdict("differs"), ""))
    ours = {("intended", "val"): {"F3.ps.mar10": made_up(0.39)}, ("literal", "val"): {"F3.ps.mar10": made_up(0.2)}}
    sentence = {"paragraph": "", "says": "", "why": "", "claims": ["S42.gme_level", "S42.alpha_normal", "F3.ps.mar10"]}
    table = claims_table([sentence], ours, {}, Sources(paths, ROOT / "paper")).set_index("claim")
    for name in ("S42.gme_level", "S42.alpha_normal"):
        assert list(table.loc[name, ["intended", "literal", "literal: verdict"]]) == ["0.61", "", "intended only"]
    assert list(table.loc["F3.ps.mar10", ["intended", "literal"]]) == ["0.39", "0.2"]
    assert list(table.loc["F3.ps.mar10", ["intended: verdict", "literal: verdict"]]) == ["match", "differs"]


# --- the door --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"date": "2022-02-06"},
            r"2022-02-06 \(Sunday\) is no session .* 2022-02-04 before it and 2022-02-07 after it",
        ),
        ({"date": "2035-01-02"}, r"2035-01-02 is not scored: possible are the sessions 2018-08-29 to 2023-07-26"),
        ({"date": "soon"}, "'soon' is no date in ISO form: write it as 2023-07-26"),
        ({"date": "10/03/2022"}, "'10/03/2022' is no date in ISO form: write it as 2023-07-26"),
        ({"date": "2022-02-30"}, "'2022-02-30' is no date: write it as 2023-07-26"),
        ({"date": None}, "None is no date: write it as 2023-07-26"),
        ({"date": pd.Timestamp("2022-02-08", tz="America/New_York")}, "has a time zone .* write it as 2023-07-26"),
        ({"date": pd.Timestamp("2022-02-08 10:30")}, "a time of day, and a session has neither"),
        ({"span": ["01/02/2022", "2022-03-31"]}, "'01/02/2022' is no date in ISO form: write it as 2022-02-08"),
        ({"presets": ["intnded"]}, "no preset 'intnded': there are literal, intended"),
        ({"tickers": ["FIN99"]}, "'FIN99' is not among the 32 stocks of simulated; near it: FIN09"),
        ({"tickers": []}, "name at least one ticker"),
        ({"before": 5000}, "possible are at most .* before and .* after"),
        ({"after": -1}, "neither can be negative"),
        ({"span": ["2022-03-01", "2022-03-31"]}, "does not hold the date"),
        ({"span": ["1999-01-01", "2022-03-31"]}, "over the edge"),
        ({"before": 2.5}, "before counts sessions, so it is a whole number such as 20, not 2.5"),
        ({"before": "a"}, "before counts sessions, .* not 'a'"),
        ({"after": True}, "after counts sessions, .* not True"),
        ({"tickers": None}, "None names no stock: give a list such as"),
        ({"tickers": 7}, "7 names no stock"),
        ({"tickers": [7]}, "'7' is not among the 32 stocks"),
        ({"span": ["2022-02-01"]}, "a span is a first and a last date, .* not "),
        ({"span": "2022-02-01"}, "a span is a first and a last date"),
        ({"market": "nowhere"}, "no prepared market 'nowhere': there is "),
    ],
)
def test_what_cannot_be_studied_is_refused_and_says_what_can(simulated, change, message):
    wanted = {"market": simulated, "date": "2022-02-08", "tickers": ["FIN01"], "root": ROOT} | change
    with pytest.raises(CaseError, match=message):
        case_study(wanted.pop("market"), wanted.pop("date"), wanted.pop("tickers"), **wanted)


def test_a_page_says_when_a_stock_last_traded(svb):
    study = case_study(svb.market, "2023-03-13", ["SIVB", "FRC"], before=3, after=1)
    assert study.gone == {"SIVB": pd.Timestamp("2023-03-09")}
    fig = draw_page(study, tracks(study, study.sessions[:2]), "made up")
    names = [text.get_text() for text in fig.axes[1].get_legend().get_texts()]
    plt.close(fig)
    assert names == ["SIVB last traded 2023-03-09", "FRC"]


def test_methods_that_alarm_alike_count_once():
    days = pd.bdate_range("2023-01-02", periods=4)
    one, two, none = [True, False, False, True], [False, True, False, False], [False] * 4
    table = pd.DataFrame({("a", 0): one, ("a", 1): two, ("b", 0): one, ("c", 0): one, ("d", 0): none}, index=days)
    table.columns.names = ["method", "seed"]
    assert distinct_methods(table) == 3  # b and c are one; a has a second seed
    assert distinct_methods(table.astype(object).where(table, None)) == 3  # no verdict is no alarm


def test_a_baseline_outside_the_span_is_refused(planted):
    _, study = planted
    sessions = study.market.tensors.sessions
    early = sessions[sessions < study.sessions[0]][-3:]
    with pytest.raises(CaseError, match=r"of the baseline is outside the case: possible are the sessions"):
        tracks(study, early)
    for first in ("2022-02-30", "10/03/2022"):
        with pytest.raises(CaseError, match="is no date"):
            baseline_sessions(sessions, first, "2022-03-31")


def test_the_days_to_draw(planted):
    _, study = planted
    chosen = [f"{day:%Y-%m-%d}" for day in study.sessions[[0, 3, 7]]]
    assert days_of(study, chosen) == [0, 3, 7]
    assert days_of(study, ["1999-01-04", chosen[1]]) == [3]  # of another case
    assert days_of(study, []) == days_of(study, ["1999-01-04"]) == [0, 6, 12, 18, 24, 31]
    sunday = next(day for day in pd.date_range(study.sessions[0], study.sessions[-1]) if day.dayofweek == 6)
    with pytest.raises(CaseError, match=rf"{sunday:%Y-%m-%d} \(Sunday\) is no session: possible are .* before it and"):
        days_of(study, [f"{sunday:%Y-%m-%d}"])


def test_the_real_market_has_cases_of_its_own():
    market = market_of("us100")
    for case in default_cases(market):
        own = case_study(market, case["date"], case["tickers"], span=case["span"], presets=())
        found = tracks(own, baseline_sessions(market.tensors.sessions, *case["baseline"]))
        assert np.isfinite(found["intended", 0].at("MPI")) and focus_of(market, case).sum() == len(case["focus"]) > 0


def test_single_stocks_are_told_apart_from_stocks_that_do_not_trade(svb):
    table = svb_table(svb)
    assert set(table[table.stocks_kept].seed) == {0} and table[~table.stocks_kept].score_FRC.isna().all()
    assert table[table.stocks_kept].score_FRC.notna().all()


def test_the_liquidity_table_decides_as_the_ledger_does(svb):
    base = baseline_sessions(svb.market.tensors.sessions, "2023-02-08", "2023-02-17")
    table = liquidity_of_banks(svb.market.tensors, CRISIS, base).set_index("feature")
    sources = Sources(svb.market.paths, ROOT / "paper", svb.market.tensors.splits)
    found = decider_of("F3.not_liquidity", deciders()).compute(CLAIMS["F3.not_liquidity"], sources)
    assert bool(found.value) == (not table.remarkable.any())
    assert found.part == pytest.approx(1 - table.remarkable.mean())
    assert f"{int((table.ours > table.baseline).sum())} of {len(table)} above" in found.note


# --- tracks and verdicts ---------------------------------------------------------------------------------------------
def made_up_track(**columns) -> Track:
    days = pd.bdate_range("2023-03-01", periods=6)
    daily = pd.DataFrame(columns, index=days)
    return Track(daily, daily, days[4], days[:2])


def test_rises_come_from_unrounded_numbers():
    track = made_up_track(s=[0.2884, 0.2884, 0, 0, 0.3849, 0], w=[0.0, 1e-9, 0, 0, 1e-8, 0])
    assert track.rise("s", track.at("s")) == pytest.approx(100 * (0.3849 / 0.2884 - 1), abs=1e-9)  # 33.46, not 34.5
    assert np.isnan(track.rise("w", track.at("w"))) and track.fall("w", "2023-03-02") == 0 and NOTHING < 0.01


@pytest.mark.parametrize(
    ("claim", "values", "verdict"),
    [
        ("F3.mpi.event_day", [0.619] * 10, "match"),
        ("F3.mpi.event_day", [0.64] * 10, "close"),
        ("F3.mpi.event_day", [0.66] * 10, "differs"),
        ("F3.mpi.event_day", [0.60] * 9 + [0.99], "match"),  # the median of a detection's level
        ("F3.mpi.rel", [59.9] * 10, "match"),
        ("F3.ps.mar10", [0.37, 0.41] * 5, "match"),  # the mean of a weight
        ("F3.ps.mar10", [0.39] * 9 + [0.99], "differs"),
        ("F3.ps.mar10", [0.43] * 10, "close"),
        ("F3.ph3.ps", [(0.46, 0.47)] * 10, "match"),
        ("F3.ph3.ps", [(0.40, 0.50)] * 10, "close"),
        ("F3.liq.dir", [0.01, 0.02] * 5, "match"),
        ("F3.liq.dir", [0.05, -0.03] * 5, "close"),
        ("F3.liq.dir", [-0.01] * 10, "differs"),
        ("F3.top3", [True] * 10, "match"),
        ("F3.top3", [True, False] * 5, "close"),
        ("F3.top3", [False] * 10, "differs"),
        ("S42.gme_n", [4.0] * 10, "close"),
        ("S44.xmodal_focus", [0.80] * 10, "match"),
        ("F3.mpi.rel", [np.nan, 58.0], "close (tier gpu, 1 seed)"),
    ],
)
def test_verdicts_by_hand(claim, values, verdict):
    found = finding(CLAIMS[claim], values, tier="gpu", device="made up")
    assert str(judge(CLAIMS[claim], found, RULES)) == verdict


def test_few_seeds_give_no_full_verdict_and_none_gives_none():
    few = finding(CLAIMS["F3.mpi.event_day"], [0.6, 0.6], tier="gpu")
    small = finding(CLAIMS["F3.mpi.event_day"], [0.6] * 10, tier="cpu")
    for found, size in ((few, "tier gpu, 2 seeds"), (small, "tier cpu, 10 seeds")):
        assert str(judge(CLAIMS["F3.mpi.event_day"], found, RULES)) == f"close ({size})"
    assert finding(CLAIMS["F3.mpi.rel"], [np.nan, np.nan], tier="gpu") is None


def test_every_sentence_names_claims_that_exist_and_have_a_rule():
    for sentence in SENTENCES:
        assert set(sentence) == {"case", "paragraph", "says", "claims", "why"}
        assert not without_decider(sentence["claims"])
    numbered = {i for i in CLAIMS if i.startswith("F3.")}
    assert numbered <= {c for s in SENTENCES for c in s["claims"]}  # all of section 4.3 and Figure 3


# --- what came first -------------------------------------------------------------------------------------------------
def test_first_alarms_on_a_planted_series():
    days = pd.bdate_range("2023-01-02", periods=60)
    quiet, loud = np.zeros(60, bool), np.zeros(60, bool)
    loud[[30, 36, 38, 40]] = True
    table = pd.DataFrame({("quiet", 0): quiet, ("loud", 0): loud, ("loud", 1): quiet}, index=days)
    table.columns.names = ["method", "seed"]
    found = first_alarms(table, days[40]).set_index(["method", "seed"])
    assert found.sessions_ahead["loud", 0] == 10 and found["first"]["loud", 0] == days[30]
    assert found.in_window["loud", 0] and found.on_the_day["loud", 0] and not found.in_window["quiet", 0]
    assert found.alarm_rate["loud", 0] == pytest.approx(4 / 60) and found.by_chance["quiet", 0] == 0
    by_hand = np.mean([np.roll(loud, k)[35:40].any() for k in range(1, 60)])
    assert found.by_chance["loud", 0] == pytest.approx(by_hand)
    assert first_alarms(table, days[40], back=3).set_index(["method", "seed"]).sessions_ahead["loud", 0] == 2
    share = alarmed_methods(table)
    assert share[days[30]] == pytest.approx(0.25) and share[days[31]] == 0  # half of one method of two
    with pytest.raises(ValueError, match="is no test session"):
        first_alarms(table, pd.Timestamp("2023-01-07"))
    with pytest.raises(ValueError, match="ask for at most"):
        first_alarms(table, days[4])


def test_the_batch_of_a_study_is_that_of_its_positions(planted):
    """The arrays of a study are those of the network on the same sessions, one by one."""
    _, study = planted
    net, tensors = study.market.network(), study.market.tensors
    data = Data(tensors, net.config, torch.device("cpu"))
    for t in (0, len(study.positions) - 1):
        position = int(study.positions[t])
        with torch.no_grad():
            out = net(*data.batch(position, position + 1))
        np.testing.assert_allclose(out.error[0], study.output["error"][t], rtol=1e-4, atol=1e-5)
