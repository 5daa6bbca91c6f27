"""The chapter's statements as the ledger takes them: measurements of `statements`, with what they say beside."""

from __future__ import annotations

import numpy as np
import pandas as pd

from anomaly_routing.chapter.statements import growth
from anomaly_routing.ledger.intervals import over_stocks, t_interval
from anomaly_routing.ledger.verdict import Finding

ABOUT = 1.1  # "at most nu, approximately": a tenth above it at most


def robust(spiked: pd.DataFrame) -> Finding:
    """Z002.cl.mz_robust: recall of the modified z-score minus that of the z-score, mean over the planted shares; the
    interval draws stocks. spiked : of `statements.masking`."""
    wide = spiked.pivot_table(index=["planted", "stock"], columns="method", values=["recall", "flagged"])
    gain = (wide["recall", "modified_zscore"] - wide["recall", "zscore"]).groupby("stock").mean()
    value, low, high = over_stocks(gain.to_numpy())
    few, many = spiked.planted.min(), spiked.planted.max()
    recall = spiked.groupby(["planted", "method"])["recall"].mean()
    flagged = spiked[spiked.planted == few].groupby("method")["flagged"].mean()
    z, modified = recall.xs("zscore", level="method"), recall.xs("modified_zscore", level="method")
    said = [f"{share:.0%} spikes: z {z[share]:.0%}, modified {modified[share]:.0%}" for share in (few, many)]
    price = f"of the other days z flags {flagged['zscore']:.1%}, modified {flagged['modified_zscore']:.1%}"
    note = f"recall, mean over planted shares; {'; '.join(said)}; {price}"
    return Finding(value, "direction", low=low, high=high, note=note)


def told_share(shares: pd.DataFrame) -> Finding:
    """Z002.cl.cont_share: on each stock and for each contamination, the flags of the fitting sample are the told share
    of it, to one day. shares : of `statements.contamination_shares`."""
    fits = (shares.flagged - shares.told * shares.days).abs() <= 1
    sums = shares.groupby("told")[["flagged", "days"]].sum()
    said = ", ".join(f"{told:.0%} gives {own.flagged / own.days:.2%}" for told, own in sums.iterrows())
    return Finding(bool(fits.all()), "holds", part=_part(fits), note=f"{shares.stock.nunique()} stocks; told {said}")


def told_percentile(shares: pd.DataFrame) -> Finding:
    """Z002.cl.ae_pct: the 95th percentile of the errors flags one in twenty of the rows fitted on, to one row.
    shares : of `statements.percentile_shares`."""
    fits = (shares.flagged - 0.05 * shares.rows).abs() <= 1
    said = ", ".join(f"{line.mode} {line.flagged / line.rows:.2%} of {line.rows:,}" for line in shares.itertuples())
    later = shares.set_index("mode")["later"].dropna()
    after = "".join(f"; of the days after training {share:.1%}" for share in later)
    return Finding(bool(fits.all()), "holds", part=_part(fits), note=f"modes: {said}{after}")


def bounded(shares: pd.DataFrame) -> Finding:
    """Z002.cl.nu_bound: after scaling at most a tenth more than nu is outside, for every nu.
    shares : of `statements.nu_shares`."""
    scaled, unscaled = (shares[shares.inputs == inputs].set_index("nu") for inputs in ("scaled", "unscaled"))
    fits = scaled.outside <= ABOUT * scaled.index
    said = ", ".join(f"nu {nu:g} {share:.1%}" for nu, share in scaled.outside.items())
    beyond = (scaled.beyond / scaled.index).max()
    note = (
        f"outside, scaled: {said}; farther out than the solver's tolerance at most {beyond:.2f} nu; "
        f"unscaled {unscaled.outside.min():.0%} to {unscaled.outside.max():.0%} outside (D03)"
    )
    return Finding(bool(fits.all()), "holds", part=_part(fits), note=note)


def superlinear(work: pd.DataFrame) -> Finding:
    """Z002.cl.svm_slow: exponent of the work over the rows, less one; the interval is over samples.
    work : of `statements.svm_work`."""
    excess = growth(work) - 1
    low, high = t_interval(excess)
    note = (
        f"kernel evaluations grow as rows to the power {1 + excess.mean():.2f}, {work['rows'].min():,} to "
        f"{work['rows'].max():,} rows; counted, not timed, so the same on every machine"
    )
    return Finding(float(excess.mean()), "direction", low=low, high=high, note=note)


def higher_error(errors: pd.DataFrame, tier: str) -> Finding:
    """Z002.cl.ae_err: for each kind and mode, AUROC of the error above one half with its whole interval over draws.
    errors : of `statements.errors_by_kind`."""
    grouped = errors.groupby(["mode", "kind"], sort=False)["auroc"]
    lower = grouped.apply(lambda own: t_interval(own)[0] if len(own) > 1 else own.mean())
    fits = lower > 0.5
    said = ", ".join(f"{kind} ({mode}) {value:.2f}" for (mode, kind), value in grouped.mean().items())
    draws = int(errors.draw.nunique())
    note = f"AUROC of the error against untouched days: {said}"
    return Finding(bool(fits.all()), "holds", part=_part(fits), n_seeds=draws, tier=tier, note=note)


def in_context(recall: pd.DataFrame) -> Finding:
    """Z002.cl.stl_context: recall of contextual plants by the STL residual less that of the plain fences, with equal
    shares of flags, in the chapter's mode. A rule that is better is so at every share: judged is the share with the
    least gain, mean and interval over draws of plants. recall : of `statements.context_recall`."""
    gain = recall.assign(gain=recall.stl_residual - recall.iqr)
    equal = gain[gain["cut"] != "own"].groupby(["mode", "cut"], sort=False)["gain"].mean()
    printed = equal["chapter"]
    worst = printed.idxmin()
    by_draw = gain[(gain["mode"] == "chapter") & (gain["cut"] == worst)].groupby("draw")["gain"].mean()
    low, high = t_interval(by_draw)
    own = gain[gain["cut"] == "own"].groupby("mode")[["stl_residual", "iqr"]].mean()
    said = "; ".join(
        f"{mode} mode, both flagging " + ", ".join(f"{cut} {value:+.2f}" for cut, value in equal[mode].items())
        + f" (own cuts: STL {own.stl_residual[mode]:.0%}, fences {own.iqr[mode]:.0%})"
        for mode in ("chapter", "causal")
    )  # fmt: skip
    turns = "the sign changes with the share; " if printed.min() < 0 < printed.max() else ""
    note = f"recall of STL less that of the fences; {said}; {turns}judged by the share with the least gain, {worst}"
    return Finding(float(by_draw.mean()), "direction", low=low, high=high, note=note)


def overlapping(shared: pd.DataFrame, case: str) -> Finding:
    """Z002.cl.overlap: days that both rules flag beyond those of chance, over the days that either flags, mean over
    stocks; the interval draws stocks. shared : of `statements.shared_flags`; case : the chapter's own share."""
    either = (shared.IQR + shared.forest - shared.both).clip(lower=1)
    value, low, high = over_stocks(((shared.both - shared.chance) / either).to_numpy())
    own = shared.set_index("stock").loc[case]
    note = (
        f"both on {shared.both.sum()} days of {len(shared)} stocks, by chance {shared.chance.sum():.1f}; positive on "
        f"{(shared.both > 0).sum()} stocks, mean Jaccard {(shared.both / either).mean():.2f}; the case's own share: "
        f"fences {own.IQR:.0f}, forest {own.forest:.0f}, both {own.both:.0f}"
    )
    return Finding(value, "direction", low=low, high=high, chance_p=float(shared.moved.iloc[0]), note=note)


def kinds_planted(episodes: pd.DataFrame) -> Finding:
    """Z002.cl.types: generators of the injections that planted something. episodes : of `planted.Planted`."""
    counts = episodes["kind"].value_counts(sort=False)
    note = "planted: " + ", ".join(f"{n} {kind}" for kind, n in counts.items())
    return Finding(len(counts), "exact", built=True, note=note)


def objectives_met(sections: dict[str, int]) -> Finding:
    """Z002.cl.objectives: numbered sections of this notebook with code in them. sections : of
    `statements.numbered_sections`."""
    filled = sum(1 for cells in sections.values() if cells)
    note = (
        f"sections of one notebook, each with code to run: {min(sections.values())} to {max(sections.values())} cells"
    )
    return Finding(filled, "exact", built=True, note=note)


def _part(fits: pd.Series) -> float | None:
    """Share for which a check holds, None when it is all of them."""
    return None if fits.all() else float(np.mean(fits))
