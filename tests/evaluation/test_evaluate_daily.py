"""The whole evaluator on scores whose outcome is known, against a plain loop, and on what it must refuse."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from anomaly_routing.evaluation.events import load_events
from anomaly_routing.evaluation.protocols import evaluate_daily
from anomaly_routing.evaluation.statistics import vus_pr
from anomaly_routing.panel import Splits

PROTOCOLS = ("paper", "matched")
HEADLINE = {"hits", "n_events", "per_event", "lead_median", "alarm_rate_test", "chance_p", "auc", "ap"}


@pytest.fixture(scope="module")
def noise(nyse):
    """Two channels of autocorrelated noise; nothing before the first sample."""
    rng = np.random.default_rng(2)
    values = pd.DataFrame(rng.normal(size=(len(nyse), 2)), index=nyse, columns=["I", "M"]).ewm(alpha=0.3).mean()
    values.iloc[:40] = np.nan
    return values


def _planted(nyse, days, channel="I"):
    """A calm, tie-free score in which only the given days stand out, all of them above any cut but the highest."""
    calm = np.sin(np.arange(len(nyse)) * 0.6180339887) * 0.1
    score = pd.Series(calm, index=nyse, name=channel)
    score[pd.DatetimeIndex(days)] += 10 + np.linspace(0, 1, len(days))
    return score


def test_known_hits_leads_and_dates(nyse, paper_events):
    """SPEC 15, test 11: alarms are planted, the cut given, so every count follows by hand."""
    days = ["2022-03-25", "2023-03-08", "2023-03-14", "2023-08-15", "2024-07-12", "2024-07-18", "2024-10-01"]
    out = evaluate_daily(_planted(nyse, days), paper_events, cuts={"I": 5.0})["paper"]
    leads = {event: row["lead"] for event, row in out["per_event"].items() if row["hit"]}
    # 8 March lies in the windows of E01 and E02; 15 August is E06's own day and no detection
    assert leads == {"E13": 4, "E01": 2, "E02": 3, "E03": 4, "E08": 5}
    assert out["per_event"]["E08"]["first_alarm"] == "2024-07-12" and out["per_event"]["E08"]["channel"] == "I"
    assert (out["hits"], out["hits_test"], out["hits_val"]) == (5, 4, 1)
    assert (out["n_events"], out["n_events_test"], out["n_events_val"]) == (13, 9, 4)
    assert out["lead_median"] == 4 and out["lead_mean"] == pytest.approx(18 / 5)
    assert out["alarm_rate_test"] == pytest.approx(6 / 502) and out["alarm_rate_val"] == pytest.approx(1 / 251)
    assert out["alarm_days_per_year"] == pytest.approx(252 * 6 / 502)
    assert (out["hits_without_exogenous"], out["n_events_without_exogenous"]) == (4, 11)  # E08 and E10 leave
    assert (out["hits_march_collapsed"], out["n_events_march_collapsed"]) == (3, 11)  # E02 and E03 leave
    # 8 and 14 March are seven sessions apart, 12 and 18 July five: six episodes, and only 1 October is in vain
    assert out["episodes"] == 6 and out["episode_precision"] == pytest.approx(5 / 6)
    # E01's alternatives keep the hit (window of 9 March: 2-8; of 8 March: 1-7 loses it); E02 at 10 March keeps it;
    # E03 at 15 March has 8 and 14 March; E13 has nothing before 1 March or 19 October; E08 has no alternative
    assert (out["hits_min"], out["hits_max"]) == (3, 5)
    assert out["threshold"] == "fixed" and out["variants"]["cross_fitted"] is None
    variants = out["variants"]
    assert variants["with_event"]["hits"] == 6  # and E06
    assert variants["calendar_5"]["hits"] == 3  # E01, E02, and E08 by 18 July; 25 and 14 March are six days early
    assert variants["lookback_10"]["hits"] == 5  # E03 now from 8 March, eight sessions before
    assert variants["lookback_10"]["lead_mean"] == pytest.approx((4 + 2 + 3 + 8 + 5) / 5)
    assert variants["fresh"]["hits"] == 4  # the alarm of 8 March stands before E03's window


def test_an_exact_chance_level(nyse, paper_events):
    """One alarm in the test split, in the window of E09 alone: the other rotations hit as often as windows allow."""
    out = evaluate_daily(_planted(nyse, ["2024-08-01"]), paper_events, cuts={"I": 5.0})["paper"]
    # nine windows of five sessions, E01 and E02 sharing four: 45 hits over 502 positions of the alarm, one of them
    # observed; of the other 501 rotations those with at least one hit are 41 - 1
    assert out["chance_p_test"] == pytest.approx((1 + 40) / 502)
    assert out["expected_hits_by_chance_test"] == pytest.approx((45 - 1) / 501)
    # nothing alarms in 2022, so each of its 250 rotations repeats the test split's
    assert out["chance_p"] == pytest.approx((1 + 250 * 40) / (1 + 250 * 501))


def test_the_chance_of_a_fresh_alarm_knows_the_guard(nyse, paper_events):
    """Two alarms five sessions apart: in ten rotations one warns of E09, in five the other spoils it."""
    place = nyse.get_loc(pd.Timestamp("2024-08-05"))
    scores = _planted(nyse, nyse[[place - 3, place + 2]])
    out = evaluate_daily(scores, paper_events.query("id == 'E09'"), cuts={"I": 5.0})["paper"]
    assert out["hits"] == 1 and out["chance_p"] == pytest.approx(10 / 502)
    fresh = out["variants"]["fresh"]
    assert fresh["hits"] == 1 and fresh["chance_p"] == pytest.approx(5 / 502)
    assert fresh["expected_hits_by_chance"] == pytest.approx(4 / 501)


@pytest.mark.parametrize("before, hits", [(6, 0), (10, 0), (11, 1)])
def test_an_alarm_in_the_five_sessions_before_the_window_is_not_fresh(nyse, paper_events, before, hits):
    place = nyse.get_loc(pd.Timestamp("2024-08-05"))
    scores = _planted(nyse, nyse[[place - before, place - 3]])
    out = evaluate_daily(scores, paper_events.query("id == 'E09'"), cuts={"I": 5.0})["paper"]
    assert out["hits"] == 1 and out["variants"]["fresh"]["hits"] == hits


def _plain_paper(scores, events):
    """SPEC 9.2 and 9.4 by loops over dates."""
    days = list(scores.index)
    year = [day for day in days if day.year == 2022]
    test = [day for day in days if day.year >= 2023]
    cut = {c: np.quantile(scores.loc[year, c], 0.95) for c in scores}
    alarm = {day: any(scores.loc[day, c] > cut[c] for c in scores) for day in year + test}
    near, labelled, warning = set(), set(), set()
    leads = {}
    for event, date in zip(events["id"], events["date"], strict=True):
        t = days.index(date)
        near |= set(days[t - 5 : t + 11])
        labelled |= set(days[t - 5 : t + 1])
        warning |= set(days[t - 5 : t])
        first = [k for k in range(5, 0, -1) if alarm.get(days[t - k])]
        leads[event] = first[0] if first else None
    quiet = [day for day in test if day not in near]
    episodes, last = [], None
    for k, day in enumerate(test):
        if alarm[day]:
            if last is None or k - last > 3:
                episodes.append([])
            episodes[-1].append(day)
            last = k
    noise = [alarm[day] for day in year + test if day not in warning]
    signal = [alarm[day] for day in year + test if day in warning]
    ranks = {c: scores.loc[year + test, c].rank() for c in scores}
    joint = {day: max(ranks[c][day] for c in scores) for day in year + test}
    calm = [joint[day] for day in year + test if day not in labelled]
    pairs = [
        (joint[day] > other) + 0.5 * (joint[day] == other) for day in year + test if day in labelled for other in calm
    ]
    return {
        "leads": leads,
        "alarm_rate_test": np.mean([alarm[day] for day in test]),
        "alarm_rate_test_windowed": np.mean([alarm[day] for day in test if day >= pd.Timestamp("2023-01-31")]),
        "false_alarm_rate": np.mean([alarm[day] for day in quiet]),
        "episodes": len(episodes),
        "episode_precision": np.mean([any(day in labelled for day in one) for one in episodes]),
        "noise_to_signal": np.mean(noise) / np.mean(signal),
        "auc": np.mean(pairs),
    }


@pytest.mark.parametrize("channels", [["I"], ["I", "M"]])
def test_the_papers_protocol_is_the_plain_loop(noise, paper_events, channels):
    out = evaluate_daily(noise[channels], paper_events)["paper"]
    want = _plain_paper(noise[channels], paper_events)
    leads = want.pop("leads")
    assert {event: row["lead"] for event, row in out["per_event"].items()} == leads
    assert out["hits"] == sum(lead is not None for lead in leads.values())
    assert {key: out[key] for key in want} == pytest.approx(want)


def test_cross_fitted_cuts_leave_the_event_out(nyse, paper_events):
    """The cut for a 2022 event comes from the sessions of 2022 outside its own sixteen days."""
    score = pd.Series(np.random.default_rng(4).normal(size=len(nyse)), index=nyse).ewm(alpha=0.05).mean()
    days, hits = list(nyse), 0
    year = [day for day in days if day.year == 2022]
    for date in paper_events["date"]:
        t = days.index(date)
        out = days[t - 5 : t + 11] if date.year == 2022 else []
        cut = np.quantile([score[day] for day in year if day not in out], 0.95)
        hits += any(score[day] > cut for day in days[t - 5 : t])
    result = evaluate_daily(score, paper_events)["paper"]
    assert result["variants"]["cross_fitted"]["hits"] == hits != result["hits"]


def test_cross_fitted_cuts_leave_no_other_event_out(nyse, paper_events):
    """The storm of E12's sixteen days lifts E13's cut above its small alarm; without those days it would be a hit."""
    storm = nyse.get_loc(pd.Timestamp("2022-12-05")) + np.arange(-5, 11)
    score = _planted(nyse, nyse[storm])  # 16 of 235 sessions: more than 5%
    score["2022-03-28"] = 5.0
    for event, hits in (("E12", 1), ("E13", 0)):
        one = paper_events[paper_events["id"] == event]
        assert evaluate_daily(score, one)["paper"]["variants"]["cross_fitted"]["hits"] == hits
    both = evaluate_daily(score, paper_events)["paper"]["variants"]["cross_fitted"]
    assert (both["hits"], both["lead_mean"]) == (1, 5)


@pytest.mark.parametrize("channels", [["I"], ["I", "M"]])
def test_ranking_scores_of_each_span_by_hand(nyse, noise, paper_events, channels):
    """Labels [t-5, t], laid by hand, and ranks within the span; an event of 5 January reaches back into 2022."""
    border = pd.DataFrame({"id": ["border"], "date": [pd.Timestamp("2023-01-05")]})
    events = pd.concat([paper_events[["id", "date"]], border])
    out = evaluate_daily(noise[channels], events)["paper"]
    for ending, start in (("", "2022"), ("_test", "2023")):
        span = noise.loc[start:, channels]
        labelled = {day for date in events["date"] for day in nyse[nyse <= date][-6:] if f"{date:%Y}" >= start}
        labels = span.index.isin(list(labelled))
        assert labels.sum() == {"": 13 * 6 - 8 + 6, "_test": 9 * 6 - 6 + 3}[ending]  # overlaps
        score = (span.rank() if len(channels) > 1 else span).max(axis=1).to_numpy()
        assert out["auc" + ending] == pytest.approx(roc_auc_score(labels, score))
        assert out["ap" + ending] == pytest.approx(average_precision_score(labels, score))
        assert out["vus_pr" + ending] == pytest.approx(vus_pr(labels, score))


def test_the_highest_sessions_of_the_test_split_are_marked(nyse, paper_events):
    """25 test sessions stand out, two of them before E04 and E09; 2022 stands higher, E06 and E10 have the troughs."""
    high = [pd.Timestamp("2023-04-24"), pd.Timestamp("2024-08-01"), *nyse[nyse >= "2023-11-01"][:23]]
    score = _planted(nyse, high)
    score["2022"] += 50
    for date in ("2023-08-15", "2024-05-13"):
        score[nyse[nyse < date][-13:]] = -10 - np.arange(13)
    hit = {}
    for event in paper_events.query("split == 'test'")["id"]:
        out = evaluate_daily(score, paper_events[paper_events["id"] == event])["matched"]["variants"]["equal_counts"]
        assert out["alarms"] == 25 and out["alarm_rate_test"] == pytest.approx(25 / 502)
        if out["hits"]:
            hit[event] = out["lead_mean"]
    assert hit == {"E04": 5, "E09": 2}


def test_the_matched_protocol_is_the_plain_loop(noise, paper_events):
    """SPEC 9.6 at five per cent, for the five sessions of each event, one quantile at a time."""
    days = list(noise.index)
    rows = evaluate_daily(noise, paper_events)["matched"]["per_event"]
    for event, date in zip(paper_events["id"], paper_events["date"], strict=True):
        fired = {}
        for lead in range(5, 0, -1):
            t = days.index(date) - lead
            past = noise.iloc[t - 250 : t]
            for thousandth in range(950, 1000):
                cuts = {c: np.quantile(past[c], thousandth / 1000) for c in noise}
                if sum((past[c] > cuts[c]).to_numpy() for c in noise).astype(bool).sum() <= 12:
                    break
            channels = [c for c in noise if noise[c].iloc[t] > cuts[c]]
            if channels:
                fired[lead] = "+".join(channels)
        first = max(fired, default=None)
        assert (rows[event]["lead"], rows[event]["channel"]) == (first, fired.get(first))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_comes_out_is_plain_and_complete(noise, paper_events, protocol):
    out = evaluate_daily(noise, paper_events)
    assert set(out) == set(PROTOCOLS)
    result = out[protocol]
    assert set(result) >= HEADLINE
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert sum(bool(row["hit"]) for row in result["per_event"].values()) == result["hits"]
    assert result["hits_test"] + result["hits_val"] == result["hits"]
    assert result["hits_low"] <= result["hits"] <= result["hits_high"]
    assert result["hits_min"] <= result["hits"] <= result["hits_max"]
    flagged = {event for event, row in result["per_event"].items() if row["flagged"]}
    assert flagged == ({"E05", "E11", "E12", "E13"} if protocol == "matched" else set())
    if protocol == "matched":
        assert list(result["budgets"]) == ["02", "05", "10", "20"]
        assert {key: result[key] for key in result["budgets"]["05"]} == result["budgets"]["05"]
        rates = [budget["alarm_rate_test"] for budget in result["budgets"].values()]
        assert rates == sorted(rates)
        assert result["variants"]["equal_counts"]["alarms"] in (24, 25)  # two channels may tie two sessions at the cut
        assert result["variants"]["equal_counts"]["causal"] is False
    else:
        assert sum(result["alert_shares"]["test"]) == pytest.approx(1)
        assert result["variants"]["or_budget"]["alarm_rate_val"] <= 12 / 251


def test_a_series_is_the_channel_i(noise, paper_events):
    assert evaluate_daily(noise["M"], paper_events) == evaluate_daily(
        noise[["M"]].rename(columns={"M": "I"}), paper_events
    )


def test_the_channel_that_fires_first_is_named(nyse, paper_events):
    individual = _planted(nyse, ["2023-04-26", "2024-07-29"])
    pressure = _planted(nyse, ["2023-04-25", "2024-07-29"])
    scores = pd.DataFrame({"I": individual, "M": pressure})
    rows = evaluate_daily(scores, paper_events, cuts={"I": 5.0, "M": 5.0})["paper"]["per_event"]
    assert (rows["E04"]["channel"], rows["E04"]["lead"], rows["E04"]["level"]) == ("M", 4, 4)
    assert (rows["E09"]["channel"], rows["E09"]["lead"]) == ("I+M", 5)


@pytest.mark.parametrize("scale", [2.0**-9, 2.0**12])
def test_the_unit_of_the_scores_does_not_matter(noise, paper_events, scale):
    plain, scaled = evaluate_daily(noise, paper_events), evaluate_daily(noise * scale, paper_events)
    assert plain["matched"] == scaled["matched"]
    plain["paper"].pop("cuts"), scaled["paper"].pop("cuts")
    assert plain["paper"] == scaled["paper"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_scores_from_a_day_on_leave_earlier_verdicts_alone(noise, paper_events, protocol):
    changed = noise.copy()
    later = changed.index >= "2023-07-03"
    changed.loc[later] = np.random.default_rng(1).normal(30, 20, size=(int(later.sum()), 2))
    before, after = (evaluate_daily(scores, paper_events)[protocol]["per_event"] for scores in (noise, changed))
    early = [event for event, row in before.items() if row["date"] < "2023-07-03"]
    assert len(early) == 9 and {e: before[e] for e in early} == {e: after[e] for e in early}
    assert before != after


def test_a_constant_score_detects_nothing(nyse, paper_events):
    for result in evaluate_daily(pd.Series(1.0, index=nyse), paper_events).values():
        assert result["hits"] == 0 and result["alarm_rate_test"] == 0 and result["chance_p"] == 1
        assert result["lead_median"] is None and result["noise_to_signal"] is None and result["auc"] == 0.5


@pytest.mark.parametrize("columns", [["id", "date"], None])
def test_a_list_without_events_defines_only_the_alarms(noise, paper_events, columns):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for result in evaluate_daily(noise, (paper_events[columns] if columns else paper_events).iloc[:0]).values():
            assert result["hits"] == result["n_events"] == 0 and result["per_event"] == {}
            undefined = ("lead_median", "chance_p", "hits_low", "hits_high", "hit_rate", "auc", "ap", "vus_pr")
            assert {key: result[key] for key in undefined} == dict.fromkeys(undefined)
            assert result["noise_to_signal"] is None and result["episode_precision"] is None
            assert result["alarm_rate_test"] > 0 and result["false_alarm_rate"] == result["alarm_rate_test"]
            json.dumps(result, allow_nan=False)


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_split_without_events(noise, paper_events, split):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = evaluate_daily(noise, paper_events[paper_events["split"] == split])
    empty = "val" if split == "test" else "test"
    for result in out.values():
        assert result[f"n_events_{empty}"] == 0 and result[f"chance_p_{empty}"] is None
        assert result["chance_p"] == result[f"chance_p_{split}"]
        assert (result["auc_test"] is None) == (split == "val")


def test_events_need_only_an_id_and_a_date(noise, paper_events):
    full, bare = (evaluate_daily(noise, e)["paper"] for e in (paper_events, paper_events[["id", "date"]]))
    assert bare["per_event"] == full["per_event"]
    assert bare["hits"] == bare["hits_min"] == bare["hits_max"] == bare["hits_march_collapsed"]
    missing = dict.fromkeys(("alternatives", "exogenous", "collapse_with"), np.nan)
    assert evaluate_daily(noise, paper_events.assign(**missing))["paper"] == bare


def test_without_a_year_of_past_there_is_no_verdict(noise, paper_events):
    """From 2022 on alone, the matched budget has no 250 earlier sessions for the events of that year."""
    out = evaluate_daily(noise.loc["2022":], paper_events)["matched"]
    assert {e for e, row in out["per_event"].items() if row["hit"] is None} == {"E05", "E11", "E12", "E13"}
    assert out["n_events"] == out["n_events_test"] == 9 and out["chance_p_val"] is None
    whole = evaluate_daily(noise, paper_events)["matched"]
    assert out["hits_test"] == whole["hits_test"] and out["alarm_rate_test"] == whole["alarm_rate_test"]


def test_sessions_without_a_verdict_enter_no_rate(nyse, paper_events):
    """Scores from July 2022: the first 250 have no verdict, and neither has the alarm that stands out among them."""
    score = pd.Series(1.0, index=nyse[nyse >= "2022-07-01"])
    score[pd.DatetimeIndex(["2023-01-10", "2024-08-01", "2024-10-01"])] = [2.0, 3.0, 4.0]
    events = paper_events.query("split == 'test'")
    out = evaluate_daily(score, events)["matched"]
    verdicts = score.index[250:]
    assert verdicts[0] > pd.Timestamp("2023-06-01")
    assert {e for e, row in out["per_event"].items() if row["hit"] is None} == {"E01", "E02", "E03", "E04", "E07"}
    for line in (out, *out["budgets"].values()):
        assert line["alarm_rate_test"] == pytest.approx(2 / len(verdicts)) and line["alarm_rate_val"] is None
        assert line["alarm_days_per_year"] == pytest.approx(252 * 2 / len(verdicts))
        assert (line["hits"], line["n_events"]) == (1, 4)
    near = {day for t in nyse.get_indexer(events["date"]) for day in nyse[t - 5 : t + 11]}
    assert out["false_alarm_rate"] == pytest.approx(1 / len(set(verdicts) - near))
    # one alarm of two is before E09; noise-to-signal: quiet share over warning share, four windows of five sessions
    assert out["noise_to_signal"] == pytest.approx((1 / (len(verdicts) - 20)) / (1 / 20))
    # the alarms slide over the verdicts, not over 502 sessions; each of the two meets 20 warning sessions in turn
    assert out["expected_hits_by_chance"] == pytest.approx((2 * 20 - 1) / (len(verdicts) - 1))


def test_events_of_training_before_the_scores_are_left_out_and_listed(noise, paper_events):
    """One before the first score, one before the first session and on no session, one among the scores of training."""
    days = ["2017-01-10", "2016-07-03", "2019-06-03"]
    old = pd.DataFrame({"id": ["before", "older", "trained"], "date": pd.DatetimeIndex(days)})
    old["alternatives"] = [[pd.Timestamp("2023-06-18")], [], []]  # no session, and nobody asks
    whole = pd.concat([old.iloc[:1], paper_events, old.iloc[1:]], ignore_index=True)
    for protocol, result in evaluate_daily(noise, whole).items():
        want = evaluate_daily(noise, paper_events)[protocol]
        assert sorted(result.pop("events_left_out")) == ["before", "older", "trained"]
        assert want.pop("events_left_out") == [] and result == want
    alone = evaluate_daily(noise, old.iloc[:2])["matched"]
    assert alone["n_events"] == 0 and alone["events_left_out"] == ["before", "older"]


@pytest.mark.parametrize(
    "alternatives, fewest, most",
    [
        (["2017-01-10", "2025-03-03"], 1, 1),  # before the first score and after the last: neither is asked
        (["2017-01-10", "2023-06-20", "2025-03-03"], 0, 1),  # of the dates left, one is missed
        (["2017-01-10", "2023-04-27", "2025-03-03"], 1, 1),  # and here both are hit
    ],
)
def test_alternatives_outside_the_scores_are_skipped(nyse, alternatives, fewest, most):
    dates = [[pd.Timestamp(day) for day in alternatives]]
    event = pd.DataFrame({"id": ["E"], "date": [pd.Timestamp("2023-05-01")], "alternatives": dates})
    out = evaluate_daily(_planted(nyse, ["2023-04-26"]), event, cuts={"I": 5.0})["paper"]
    assert out["per_event"]["E"]["lead"] == 3
    assert (out["hits_min"], out["hits"], out["hits_max"]) == (fewest, 1, most)


def test_an_alternative_on_the_last_scored_session_counts(nyse):
    dates = [[pd.Timestamp("2024-12-31")]]
    event = pd.DataFrame({"id": ["E"], "date": [pd.Timestamp("2023-05-01")], "alternatives": dates})
    out = evaluate_daily(_planted(nyse, ["2024-12-30"]), event, cuts={"I": 5.0})["paper"]
    assert (out["hits_min"], out["hits"], out["hits_max"]) == (0, 0, 1)


def test_a_session_that_one_channel_lacks_is_not_scored(nyse, paper_events):
    """The other channel's alarm of that day falls away, and the day leaves the alarm rate."""
    scores = pd.DataFrame({"I": _planted(nyse, ["2023-03-08", "2024-08-01"]), "M": _planted(nyse, [])})
    scores.loc["2023-03-08", "M"] = np.nan
    out = evaluate_daily(scores, paper_events, cuts={"I": 5.0, "M": 5.0})["paper"]
    assert [event for event, row in out["per_event"].items() if row["hit"]] == ["E09"]
    assert out["alarm_rate_test"] == pytest.approx(1 / 501) and out["n_events"] == 13


def test_chance_for_march_as_one_event(nyse, paper_events):
    """One alarm that hits E01 and E02: as two hits it is rarer by chance than as one."""
    out = evaluate_daily(_planted(nyse, ["2023-03-08"]), paper_events, cuts={"I": 5.0})["paper"]
    # alone: 35 positions hit the seven other windows of the test split, of which the observed one is E01's
    single = (1 + 250 * 34) / (1 + 250 * 501)
    double = (1 + 250 * 3) / (1 + 250 * 501)  # only the four shared sessions hit both
    assert out["hits"] == 2 and out["chance_p"] == pytest.approx(double)
    assert out["hits_march_collapsed"] == 1 and out["chance_p_march_collapsed"] == pytest.approx(single)
    assert out["chance_p_without_exogenous"] == pytest.approx(double)


def test_a_market_of_ones_own(tmp_path):
    """Sunday-to-Thursday sessions, own splits, an event in training, one whose window reaches back over the border."""
    days = pd.date_range("2018-01-01", "2020-12-31", freq="D")
    sessions = days[~days.day_of_week.isin([4, 5])]
    splits = Splits("2018-01-01", "2019-06-30", "2020-01-31", "2020-12-31")
    test_start = sessions[sessions > "2020-01-31"]
    path = tmp_path / "events.yaml"
    dates = {"old": "2018-11-04", "border": f"{test_start[2]:%Y-%m-%d}", "crash": "2020-03-15"}
    lines = "".join(f"- {{id: {event}, date: {date}}}\n" for event, date in dates.items())
    path.write_text(f"calendar: from_data\nevents:\n{lines}", encoding="utf-8")
    events = load_events(path, sessions, splits)
    assert events["split"].tolist() == ["train", "test", "test"]
    scores = _planted(sessions, [sessions[sessions.get_loc(test_start[0]) - 2], "2020-03-12"])
    out = evaluate_daily(scores, events, splits=splits, cuts={"I": 5.0})["paper"]
    assert out["events_left_out"] == ["old"] and out["n_events"] == 2
    assert {event: row["lead"] for event, row in out["per_event"].items()} == {"border": 4, "crash": 1}


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda s: s.iloc[::-1], "time order"),
        (lambda s: pd.concat([s, s.iloc[-1:]]), "occurs twice"),
        (lambda s: s.astype(str), "real numbers"),
        (lambda s: s * np.nan, "no session is scored"),
        (
            lambda s: s.mask(pd.DataFrame({c: s.index == "2023-03-09" for c in s}, index=s.index), np.inf),
            "infinite score on 2023-03-09",
        ),
        (lambda s: s.reset_index(drop=True), "DatetimeIndex"),
        (lambda s: s.tz_localize("UTC"), "time zone"),
        (lambda s: s.to_numpy(), "pandas Series"),
        (lambda s: s.iloc[:, :0], "one column a channel"),
        (lambda s: s.loc[:"2022-12-30"], "test split has no scored session"),
        (lambda s: s.drop(s.loc["2022"].index), "validation split has no scored session"),
        (lambda s: s.loc[:"2024-07-31"], "E09 on 2024-08-05 is outside"),
        (lambda s: s.loc["2022-07":], "E13 on 2022-03-31 is outside"),
        (lambda s: s.drop(pd.Timestamp("2023-05-01")), "E04: 2023-05-01 is not a session"),
    ],
)
def test_wrong_scores_are_refused_in_words(noise, paper_events, spoil, message):
    with pytest.raises(ValueError, match=message):
        evaluate_daily(spoil(noise), paper_events)


def test_wrong_events_and_cuts_are_refused_in_words(noise, paper_events):
    with pytest.raises(ValueError, match="no column date"):
        evaluate_daily(noise, paper_events.drop(columns="date"))
    with pytest.raises(ValueError, match="an id twice"):
        evaluate_daily(noise, pd.concat([paper_events, paper_events]))
    with pytest.raises(ValueError, match="channels are"):
        evaluate_daily(noise, paper_events, cuts={"I": 0.0})
    weekend = paper_events.assign(alternatives=[[pd.Timestamp("2023-06-18")]] * 13)
    with pytest.raises(ValueError, match="2023-06-18 is not a session"):
        evaluate_daily(noise, weekend)
    beyond = Splits(test_end="2024-07-31")
    with pytest.raises(ValueError, match="E09 on 2024-08-05 is outside"):
        evaluate_daily(noise, paper_events, splits=beyond)
