"""The catalogue page (Z000) and the chapter (Z002): defaults of our implementations, and what other stages decide."""

from __future__ import annotations

import inspect
import math
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from anomaly_routing.baselines.metric_learning import clustering, metric_vmf
from anomaly_routing.baselines.registry import create
from anomaly_routing.claims import Claim
from anomaly_routing.ledger.registry import computed_in, decides, table
from anomaly_routing.ledger.sources import Sources
from anomaly_routing.ledger.verdict import Finding, NotTestable
from anomaly_routing.panel import plain_panel


def _set(name: str, **given: float) -> float:
    """A detector of the chapter takes this value."""
    return getattr(create(name, mode="chapter", **given), next(iter(given)))


DEFAULTS = {  # claim -> the default of our implementation in the chapter's mode, or the alternative that it takes
    "Z002.par.z.thr": lambda: create("zscore", mode="chapter").flag_threshold,
    "Z002.par.z.thr_alt": lambda: _set("zscore", flag_threshold=4),
    "Z002.par.mz.thr": lambda: create("modified_zscore", mode="chapter").flag_threshold,
    "Z002.par.mz.const": lambda: round(_mad_constant(), 4),
    "Z002.par.iqr.k": lambda: create("iqr", mode="chapter").flag_threshold,
    "Z002.par.iqr.k3": lambda: _set("iqr", flag_threshold=3),
    "Z002.par.if.cont": lambda: create("isolation_forest", mode="chapter").contamination,
    "Z002.par.svm.nu": lambda: create("one_class_svm", mode="chapter").nu,
    "Z002.par.lof.k": lambda: create("lof", mode="chapter").n_neighbors,
    "Z002.par.lof.cont": lambda: create("lof", mode="chapter").contamination,
    "Z002.par.ae.epochs": lambda: _set("dense_autoencoder", epochs=100),
    "Z002.par.ae.batch": lambda: create("dense_autoencoder", mode="chapter").batch_size,
    "Z002.par.ae.thr": lambda: round(100 * (1 - create("dense_autoencoder", mode="chapter").contamination), 9),
    "Z002.par.lstm.hidden": lambda: create("lstm_ae").hidden,
    "Z002.par.vae.cont": lambda: create("vae", mode="chapter").contamination,
    "Z002.par.stl.period": lambda: create("stl_residual", mode="chapter").period,
    "Z002.par.stl.k": lambda: create("stl_residual", mode="chapter").flag_threshold,
    "Z002.par.tw.max": lambda: create("seasonal_esd", mode="chapter").max_anomalies,
    "Z002.par.roll.window": lambda: create("rolling_z", mode="chapter").window,
    "Z002.par.roll.thr": lambda: create("rolling_z", mode="chapter").flag_threshold,
    "Z002.par.case.k": lambda: _set("iqr", flag_threshold=2.5),
    "Z002.par.case.cont": lambda: _set("isolation_forest", contamination=0.02),
}


def _mad_constant() -> float:
    """0.6745: third quartile of a Gaussian, which makes the MAD a standard deviation."""
    from scipy.stats import norm

    return float(norm.ppf(0.75))


def _default(ours):
    def compare(claim: Claim, sources: Sources) -> Finding:
        found = ours()
        return Finding(claim.value if math.isclose(found, claim.value) else found, "exact", built=True)

    return compare


table(DEFAULTS, _default, only_real=False)


@cache
def fitted_autoencoder() -> Any:
    """The chapter's autoencoder after one epoch on noise: 80 days of one stock."""
    rng, n = np.random.default_rng(0), 80
    panel = plain_panel(*rng.normal(size=(2, n, 1)))
    return create("dense_autoencoder", mode="chapter", epochs=1).fit(panel, np.ones(n, bool)).model_


@decides("Z002.par.ae.hidden", "Z002.par.ae.code", "Z002.par.ae.lr", only_real=False)
def autoencoder_layers(claim: Claim, sources: Sources) -> Finding:
    model = fitted_autoencoder()
    found = {"hidden": model.hidden_neuron_list[0], "code": model.hidden_neuron_list[1], "lr": model.lr}
    return Finding(found[claim.id.rsplit(".", 1)[1]], "exact", built=True)


@decides("Z002.cl.roll_self", only_real=False)
def point_in_its_own_window(claim: Claim, sources: Sources) -> Finding:
    """D09: the largest |z| of a point in a window of n that holds it is sqrt(n - 1), tried with one outlier."""
    most = {n: (x := np.r_[np.zeros(n - 1), 1.0], abs(x[-1] - x.mean()) / x.std())[1] for n in range(2, 30)}
    first = min(n for n, z in most.items() if z > sources.claimed("Z002.par.z.thr") + 1e-9)
    return Finding(first == claim.value, "holds", note=f"first window that can: {first} observations")


@decides("Z002.cl.metrics", only_real=False)
def formulas(claim: Claim, sources: Sources) -> Finding:
    from sklearn.metrics import f1_score, precision_score, recall_score

    truth, said = np.array([1, 1, 1, 0, 0, 0, 0, 0]), np.array([1, 1, 0, 1, 0, 0, 0, 0])
    hits, alarms, events = int((truth & said).sum()), int(said.sum()), int(truth.sum())
    own = hits / alarms, hits / events, 2 * hits / (alarms + events)
    library = precision_score(truth, said), recall_score(truth, said), f1_score(truth, said)
    return Finding(bool(np.allclose(own, library)), "holds", note="on a table of eight cases, against a library")


SNIPPETS = {  # claim -> audit id of the row of notebook 03 in which the snippet is run
    "Z002.cl.lstm_sketch": "D06",
    "Z002.cl.vae_api": "D07",
    "Z002.cl.eval_align": "D08",
}


@decides(*SNIPPETS, stage="baselines", only_real=False)
def snippet(claim: Claim, sources: Sources) -> Finding:
    rows = sources.table("baselines/chapter_snippets")
    happened = rows[rows.audit == SNIPPETS[claim.id]].iloc[0]["what happens when it is run"]
    failed = any(f"{error}Error" in happened for error in ("Runtime", "Type", "Value"))
    return Finding(not failed, "holds", note=happened)


# --- what other stages decide, in tables/<stage>/claims.csv ----------------------------------------------------------
ELSEWHERE = {  # stage -> claim -> where it is computed: file of the package, and how that line begins
    "attribution": {
        "Z000.res.classify": ("metric_claims.py", "def grouping("),
        "Z000.res.sensitivity": ("metric_claims.py", "def metric_answers("),
        "Z000.res.accuracy": ("metric_claims.py", "def metric_answers("),
        "Z000.res.robust": ("metric_claims.py", "def _lost("),
        "S1.shap_variance": ("attribution_claims.py", "def shap_answer("),
        "S5.ood": ("attribution_claims.py", "def consensus_answer("),
    },
    "value_at_risk": {
        "Z000.evt.violation": ("risk/claims.py", "def nearness("),
        "Z000.evt.vol_fc": ("risk/claims.py", "def volatility("),
        "Z000.evt.volume": ("risk/claims.py", "def volume("),
        "Z000.evt.tail": ("risk/claims.py", "def tail("),
        "Z000.evt.backtests": ("risk/claims.py", "def backtests_reported("),
    },
    "chapter": {
        "Z002.cl.mz_robust": ("chapter/claims.py", "def robust("),
        "Z002.cl.cont_share": ("chapter/claims.py", "def told_share("),
        "Z002.cl.nu_bound": ("chapter/claims.py", "def bounded("),
        "Z002.cl.svm_slow": ("chapter/claims.py", "def superlinear("),
        "Z002.cl.ae_err": ("chapter/claims.py", "def higher_error("),
        "Z002.cl.ae_pct": ("chapter/claims.py", "def told_percentile("),
        "Z002.cl.stl_context": ("chapter/claims.py", "def in_context("),
        "Z002.cl.overlap": ("chapter/claims.py", "def overlapping("),
        "Z002.cl.types": ("chapter/claims.py", "def kinds_planted("),
        "Z002.cl.objectives": ("chapter/claims.py", "def objectives_met("),
    },
    "case_studies": {
        "S3.xmodal_reading": ("case_answers.py", "def reading_of_attention("),
        "S3.h1_h5": ("case_answers.py", "def complementary("),
        "S44.gme_biotech": ("case_answers.py", "def strongest_tie("),
    },
    "ablations": {
        "F1a.datadriven_unstable": ("graph_claims.py", "def turnover("),
        "T4.k10": ("graph_claims.py", "def across("),
        **{
            name: ("ablation_claims.py", f'    "{name}": Question(')
            for name in (
                *("S3.lsmooth", "S44.fixed_delays", "S44.collapse_r", "S44.collapse_weight"),
                *("S44.single_misses_liq", "T4.lr_unstable", "D2.maxw6"),
            )
        },
    },
}


WAITS = {  # claim -> the variants whose runs it waits for
    "S3.lsmooth": ("no_smooth", "full"),
    "S44.fixed_delays": ("fixed05", "full"),
    "S44.collapse_r": ("no_div",),
    "S44.collapse_weight": ("no_div",),
    "S44.single_misses_liq": ("no_moe", "full"),
    "T4.lr_unstable": ("learning_rate_0.01", "full"),
    "D2.maxw6": ("six_experts",),
}
NO_ANSWER = {  # claim -> why a stage that ran has none
    "S1.shap_variance": "measured; shares of attribution add up to one, so that no attribution whatever can have the "
    "variance that is claimed",
    "S5.ood": "measured; the graded network sends every stock-day to one expert, so its consensus term is a constant",
}


def _measured(claim: Claim, sources: Sources) -> str:
    """What notebook 08 measured although it decides nothing."""
    path = sources.paths.tables("attribution") / "shap_variance.csv"
    if claim.id != "S1.shap_variance" or not path.exists():
        return ""
    found = pd.read_csv(path).iloc[0]
    told = f"SHAP's shares {found.shares:.4f}, the routing weights {found.weights:.4f}, at most {found.most:.4f}"
    return f" (variance from session to session: {told})"


def _from_stage(stage: str):
    def read(claim: Claim, sources: Sources) -> Finding:
        if claim.id not in sources.answers and claim.id in WAITS:
            names = WAITS[claim.id]
            raise sources.not_trained(names, f"no runs of one seed and tier of {' and '.join(names)} answer it", stage)
        ran = ELSEWHERE[stage].keys() & sources.answers.keys()
        if ran and claim.id not in sources.answers and claim.id in NO_ANSWER:
            raise NotTestable(NO_ANSWER[claim.id] + _measured(claim, sources))
        return sources.answer(claim, stage)

    return read


for _stage, _rows in ELSEWHERE.items():
    for _name, _where in _rows.items():
        computed_in(_name, _where, _from_stage(_stage), stage=_stage, only_real=not _name.startswith("Z"))


@decides("Z000.res.speed", stage="deep_baselines", only_real=False)
def seconds_of_a_window(claim: Claim, sources: Sources) -> Finding:
    """Share of the LSTM autoencoder's scoring time that is saved, on the same device and windows."""
    table = sources.table("deep_baselines/cost").set_index("method")
    if "score_milliseconds" not in table:
        raise sources.not_run("deep_baselines", "cost.csv does not time scoring apart from training")
    cost = table["score_milliseconds"]
    if absent := [name for name in ("metric_vmf", "lstm_ae") if name not in cost]:
        raise sources.not_run("deep_baselines", f"no stored run of {', '.join(absent)}")
    note = f"{cost['metric_vmf']:.3g} ms a session against {cost['lstm_ae']:.3g}"
    return Finding(float(1 - cost["metric_vmf"] / cost["lstm_ae"]), "direction", note=note)


# --- the metric-learning detector of the catalogue page --------------------------------------------------------------
@decides("Z000.method.parts", only_real=False)
def parts(claim: Claim, sources: Sources) -> Finding:
    """Input towers, selection of triplets, loss: three pieces of the module that trains it."""
    text = inspect.getsource(metric_vmf)
    return Finding(all(word in text for word in ("Windows", "triplet_loss", "labels")), "holds", built=True)


@decides("Z000.method.centre_dist", only_real=False)
def centre_distance(claim: Claim, sources: Sources) -> Finding:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 3)), rng.normal(size=(5, 3))
    squared = ((a[:, None] - b[None]) ** 2).sum(-1)
    return Finding(bool(np.allclose(clustering.squared_distances(a, b), squared)), "holds", built=True)


@decides("Z000.method.sgd", only_real=False)
def optimiser(claim: Claim, sources: Sources) -> Finding:
    return Finding("torch.optim.SGD(" in inspect.getsource(metric_vmf), "holds", built=True)


@decides("Z000.method.pc_inner", "Z000.method.vmf", "Z000.method.threshold", only_real=False)
def direction_law(claim: Claim, sources: Sources) -> Finding:
    """Directions with a known law: the fitted mean direction comes back, the score is one minus an inner product with
    it, and the cut leaves the share out that it is set for."""
    from anomaly_routing.baselines.metric_learning.directional import VonMisesFisher, mixture_quantile

    rng = np.random.default_rng(0)
    angle = rng.vonmises(0.4, 5.0, 20_000)
    law = VonMisesFisher.fit(np.column_stack([np.cos(angle), np.sin(angle)]))
    near = float(law.mean @ np.array([np.cos(0.4), np.sin(0.4)]))
    cut = mixture_quantile([law], np.array([1.0]), 0.05)
    below = float((np.cos(angle - 0.4) < cut).mean())
    note = f"20,000 directions of known law: mean direction found to {1 - near:.1e}, {below:.3f} below the cut for 0.05"
    return Finding(near > 0.999 and abs(below - 0.05) < 0.01, "holds", built=True, note=note)
