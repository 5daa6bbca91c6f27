"""What the pictures of mechanisms in notebook 04 show, in computed sentences; one function a figure."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from anomaly_routing.baseline_mechanisms import (
    NEARBY,
    ORDINARY,
    PLANTED,
    Look,
    associations,
    at_home,
    edges_cut,
    intensity,
    own_weight,
    pulled,
    two_errors,
    weights_moved,
    window_errors,
)
from anomaly_routing.prose import sentence

COIN = 0.5
NEAR = 0.15  # an AUROC this near to a coin's tells nothing
BLIND = {  # why a method can be near a coin on the toy market, whatever its training
    "metric_vmf": "it reads returns and volume, which the plants leave alone (their own market is above)",
    "metric_watson": "it reads what `metric_vmf` reads",
    "graph_hawkes": "with the settings used here it sees only large features, and the plants are of ordinary size",
    "robust_autoencoder": "as set here its code is narrower than the market's factors, and it splits seldom",
}


def temporal_sentence(looks: Mapping[str, Look], everywhere: Mapping[str, Look]) -> str:
    """What `draw_temporal` shows. everywhere : `anomaly_transformer` on each kind."""
    errors = window_errors(looks["lstm_ae"])
    drifts = errors[ORDINARY][0] > 2 * errors[ORDINARY][-1]
    return "\n\n".join([
        sentence(
            "`lstm_ae`: the judged session is rebuilt with an error of {ordinary:.2f} on ordinary and {planted:.2f} on "
            "planted stock-days. Further back the decoder reads its own output: at the window's first session the "
            "error is {far:.2f} on ordinary stock-days ({taught:.2f} when it is fed the truth; {size:.2f} for "
            "rebuilding nothing). {verdict}",
            ordinary=errors[ORDINARY][-1], planted=errors[PLANTED][-1], far=errors[ORDINARY][0],
            taught=errors["taught"][0], size=errors["size"][0],
            verdict="So a window that is rebuilt wrongly, even in the opposite phase, is no sign of an anomaly: the "
            "decoder drifts on all alike, and the score reads the judged session alone." if drifts else
            "The error grows little on the way back.",
        ),
        association_words(looks["anomaly_transformer"], everywhere),
        *(both_outrank(m, looks[m], *named) for m, named in (
            ("tranad", ("the first error", "the second")), ("mtad_gat", ("the forecast error", "the improbability")),
        )),
    ])  # fmt: skip


def association_words(look: Look, everywhere: Mapping[str, Look]) -> str:
    """Series against prior association of `look`, and by kind whether the discrepancy goes the paper's way."""
    found, own = associations(look), {}
    near = {said: (found.series[said][-NEARBY:].sum(), found.prior[said][-NEARBY:].sum()) for said in found.series}
    for kind, other in everywhere.items():
        own[kind] = other.outranks(-associations(other).apart)
    as_said, against = ([k for k, v in own.items() if sign * (v - COIN) > NEAR] for sign in (1, -1))
    return sentence(
        "`anomaly_transformer`: of its attention the last session gives {series[0]:.0%} on ordinary and "
        "{series[1]:.0%} on planted stock-days to itself and the {n} sessions before it, where the prior association "
        "has {prior[0]:.0%} and {prior[1]:.0%}. The paper's idea is a smaller discrepancy on anomalies: a planted "
        "stock-day has the smaller one beside {shares} of the ordinary ones (a coin: {coin:.0%}). After this training "
        "the idea shows on {as_said}, its opposite on {against}.",
        series=[near[said][0] for said in (ORDINARY, PLANTED)], prior=[near[said][1] for said in (ORDINARY, PLANTED)],
        n=NEARBY - 1, coin=COIN, shares=", ".join(f"{v:.0%} ({everywhere[k].named})" for k, v in own.items()),
        as_said=", ".join(everywhere[k].named for k in as_said) or "none of the kinds",
        against=", ".join(everywhere[k].named for k in against) or "none",
    )  # fmt: skip


def static_sentence(looks: Mapping[str, Look]) -> str:
    """What `draw_static` shows."""
    gcn, gat, cola = looks["gcn_ae"], looks["gat_ae"], looks["cola"]
    _, around, towards = pulled(gcn)
    apart = (around - gcn.batch.now).norm(dim=-1)
    way, gap = ({said: float(v[marked].median()) for said, marked in gcn.rows.items()} for v in (towards, apart))
    (weight, equal), home = own_weight(gat), cola.means(at_home(cola))
    by_weight = max(gat.outranks(weight), gat.outranks(-weight))
    return "\n\n".join([
        sentence(
            "`gcn_ae`: what it rebuilds lies {way[planted]:.0%} of the way from a planted stock's own features to its "
            "neighbours' average, {way[ordinary]:.0%} for an ordinary stock; the average is {times:.1f} times as "
            "far from the planted one (medians). `gat_ae`: a stock gives itself {own[ordinary]:.2f} of the last "
            "layer's attention on ordinary and {own[planted]:.2f} on planted stock-days; an equal share would be "
            "{equal[ordinary]:.2f} and {equal[planted]:.2f}. The weight alone tells {by_weight:.0%} of the pairs "
            "apart, the error {by_error:.0%} (a coin: {coin:.0%}): {verdict}.",
            way=way, times=gap[PLANTED] / gap[ORDINARY], own=gat.means(weight), equal=gat.means(equal),
            by_weight=by_weight, by_error=gat.outranks(gat.score), coin=COIN,
            verdict="the learned weights say little" if by_weight < COIN + NEAR else
            "the learned weights say something",
        ),
        both_outrank("dominant", looks["dominant"], "the error of the features", "that of the links"),
        both_outrank("anomaly_dae", looks["anomaly_dae"], "the error of the features", "that of the links"),
        sentence(
            "`cola`: the probability to be at home is {ordinary:.2f} on ordinary and {planted:.2f} on planted "
            "stock-days.", **home,
        ),
    ])  # fmt: skip


def dynamic_sentence(looks: Mapping[str, Look]) -> str:
    """What `draw_dynamic` shows."""
    moved, ghrn, hawkes = weights_moved(looks["evolve_gcn"]), looks["ghrn_star"], looks["graph_hawkes"]
    path, happened = intensity(hawkes)
    active = hawkes.batch.active
    return sentence(
        "`evolve_gcn`: over the {n} sessions of a sample the weights of the first layer move by {first:.0%} of their "
        "norm and those of the second by {second:.0%}, in every sample alike. `ghrn_star`: an ordinary stock-day loses "
        "{cut[ordinary]:.2f} edges, a planted one {cut[planted]:.2f}. `graph_hawkes`: the intensity of the category "
        "drawn is {after:.3f} on stock-days with an event and {quiet:.3f} on those without; a planted stock-day is "
        "more of a surprise than {ranks:.0%} of the ordinary ones (a coin: {coin:.0%}).",
        n=len(moved[0]) - 1, first=moved[0][-1], second=moved[1][-1], cut=ghrn.means(edges_cut(ghrn)), coin=COIN,
        after=float(path[happened & active].mean()), quiet=float(path[~happened & active].mean()),
        ranks=hawkes.outranks(hawkes.score),
    )  # fmt: skip


def memory_sentence(looks: Mapping[str, Look]) -> str:
    """What `draw_memory` shows."""
    memory, robust, flow = (looks[m] for m in ("memstream", "robust_autoencoder", "real_nvp"))
    aside = robust.means((robust.score > robust.detector.flag_threshold).float())
    return sentence(
        "`memstream`: {kept[planted]:.0%} of the planted and {kept[ordinary]:.0%} of the ordinary stock-days lie above "
        "the gate and stay outside the memory. `robust_autoencoder`: {aside[planted]:.0%} of the planted and "
        "{aside[ordinary]:.0%} of the ordinary ones lie above the line at which {share:.0%} of the training ones were "
        "set aside: {verdict}. `real_nvp`: a planted stock-day is less likely than {flow:.0%} of the ordinary ones.",
        kept=memory.means((memory.score > memory.net.beta).float()), aside=aside, share=robust.detector.outliers,
        verdict="after this training it does not see most of them" if aside[PLANTED] < COIN else "it sees most of them",
        flow=flow.outranks(flow.score),
    )  # fmt: skip


def both_outrank(method: str, look: Look, one: str, other: str) -> str:
    """How well each of a method's two errors tells planted stock-days."""
    first, second = (look.outranks(values) for values in two_errors(look))
    return sentence(
        "`{method}` ({kind}): by {one} a planted stock-day outranks {first:.0%} of the ordinary ones, by {other} "
        "{second:.0%}.",
        method=method, kind=look.named, one=one, other=other, first=first, second=second,
    )  # fmt: skip


def sees_none(table: pd.DataFrame) -> list[str]:
    """The methods that see none of the kinds. table : AUROC, a row a method, a column a kind."""
    return list(table.index[(table < COIN + NEAR).all(axis=1)])


def seen_sentence(table: pd.DataFrame, epochs: int) -> str:
    """Which methods see which kinds, best first, and who sees none. table : as for `sees_none`."""
    blind, told = sees_none(table), []
    for kind in table.columns:
        good = table[kind][table[kind] >= COIN + NEAR].sort_values(ascending=False)
        named = ", ".join(f"`{m}` {v:.2f}" for m, v in good.items()) or "nobody"
        told.append(f"- *{kind.replace('_', ' ')}*: {named}.")
    return "\n".join([
        sentence("Who sees what (AUROC of at least {least:.2f}; epochs at most: {epochs}):", epochs=epochs,
                 least=COIN + NEAR), "", *told, "- " + coin_sentence(blind),
    ])  # fmt: skip


def coin_sentence(blind: list[str]) -> str:
    """Who sees no kind, each with the reason if one is known."""
    named = "; ".join(f"`{m}`, since {BLIND[m]}" if m in BLIND else f"`{m}`" for m in blind)
    return sentence(
        "*none of them*: {named}. That is no verdict: in the tests every method passes its floor, some "
        "of them with settings of their own on this market, some on plants of their own.",
        named=named or "nobody",
    )


def found_sentence(table: pd.DataFrame) -> str:
    """The conclusion from the same table, exceptions included."""
    blind, kinds = sees_none(table), (table >= COIN + NEAR).sum(axis=1)
    return sentence(
        "Each method has its own mechanism, which is no proof that it helps (above), nor a sight: of {n} methods "
        "{some} see at least one kind of anomaly on the toy market, {every} of them all {kinds}, and {none} none "
        "({blind}). Their names stand for opinions, not for ranks.",
        n=len(table), kinds=len(table.columns), some=int((kinds > 0).sum()), none=len(blind),
        every=int((kinds == len(table.columns)).sum()), blind=", ".join(f"`{m}`" for m in blind) or "nobody",
    )  # fmt: skip
