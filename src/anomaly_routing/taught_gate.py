"""A separate gate that has been taught: mechanism and alarm from one classifier, fitted in simulated markets.

The paper's gate is never told what a mechanism looks like, so its weights need not mean anything (AUDIT A57). This one
takes its place and repairs nothing in the model: routing, experts and graph are not used. It is told by teachers that
know: the dated events of freshly simulated markets (`data.simulate_events`), or anomalies of random shape written into
their prices (`data.lesson_plants`), beside calm training days. Its inputs are the stock's own scaled features, so what
was learnt applies to any market with the same 29 features. It never sees a plant of `data.plants`, nor a real market.
Which lessons, classifier and reading are used is chosen in `gate_choice`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from anomaly_routing.attribution import Garden, Grade, grade_pointwise
from anomaly_routing.cores import over_cores
from anomaly_routing.data.lesson_plants import write_lessons
from anomaly_routing.data.simulate import default_splits, simulate_market
from anomaly_routing.data.simulate_events import MECHANISMS
from anomaly_routing.data.sources import from_frames
from anomaly_routing.features.panel import build_panel, compute_features
from anomaly_routing.planting import Ground, made_ground, simulated_ground
from anomaly_routing.tensors import Tensors

CALM = len(MECHANISMS)  # the class after the mechanisms
CALM_A_MARKET = 1500  # stock-days


READINGS = {
    "given": "the mechanisms' probabilities, given that the stock-day is not calm",
    "even": "the mechanisms' probabilities, that of calm shared evenly among them",
    "surplus": "what the mechanisms' probabilities exceed their mean on calm lessons by",
}


@dataclass(frozen=True)
class Lessons:
    """Stock-days of simulated markets: x float32 [n, F], scaled features; label int [n], a mechanism or CALM.

    seed : int [n], of the market that each is from.
    """

    x: np.ndarray
    label: np.ndarray
    seed: np.ndarray

    def of(self, seeds: list[int]) -> Lessons:
        """The lessons of some of the markets."""
        keep = np.isin(self.seed, seeds)
        return Lessons(self.x[keep], self.label[keep], self.seed[keep])


def joined(parts: list[Lessons]) -> Lessons:
    """The lessons of all parts, one after the other."""
    return Lessons(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("x", "label", "seed")))


def varied_lessons(seeds: list[int], n_stocks: int = 32, n_sessions: int = 1400, copies: int = 3) -> Lessons:
    """Stock-days of anomalies of random shape (`data.lesson_plants`) in simulated markets without events.

    copies : of each market, with other lessons. Calm days are those of the undisturbed market's training span.
    """
    one = partial(_varied, n_stocks=n_stocks, n_sessions=n_sessions, copies=copies)
    return joined(over_cores(one, seeds, desc="simulated markets, lessons of varied shape", unit="market"))


def _varied(seed: int, n_stocks: int, n_sessions: int, copies: int) -> Lessons:
    ground = simulated_ground(seed, n_stocks, n_sessions)
    copied = [with_lessons(ground, len(ground.tensors.sessions), [seed, CALM, copy]) for copy in range(copies)]
    found = [_labelled(x[truth >= 0], truth[truth >= 0], seed) for x, truth in copied]
    return joined([*found, _calm_days(ground.tensors, seed)])


def with_lessons(ground: Ground, end: int, seed: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """The first `end` sessions of a market with lessons in them: scaled features [end, N, F], every one of every stock
    computed again, and the truth [end, N] of `write_lessons`."""
    tensors = ground.tensors
    bars, truth = write_lessons(ground.bars.copy(0, end - 1), tensors.active[:end], tensors.prior, seed)
    prices = bars.table()
    raw = compute_features(prices, ground.universe, bars.sessions)
    return build_panel(raw, ground.scaler, prices, ground.universe, None, tensors.prior).x, truth


def _labelled(x: np.ndarray, label: np.ndarray | int, seed: int) -> Lessons:
    return Lessons(x, np.broadcast_to(label, len(x)), np.full(len(x), seed))


def _calm_days(tensors: Tensors, seed: int) -> Lessons:
    calm = np.argwhere(tensors.active & tensors.train[:, None])
    drawn = np.random.default_rng([seed, CALM]).permutation(len(calm))[:CALM_A_MARKET]
    return _labelled(tensors.x[tuple(calm[drawn].T)], CALM, seed)


def lessons(seeds: list[int], n_stocks: int = 32, n_sessions: int = 1400) -> Lessons:
    """Planted stock-days of simulated markets, and calm ones drawn from their training spans."""
    one = partial(_dated, n_stocks=n_stocks, n_sessions=n_sessions)
    return joined(over_cores(one, seeds, desc="simulated markets", unit="market"))


def _dated(seed: int, n_stocks: int, n_sessions: int) -> Lessons:
    market = simulate_market(seed, n_stocks, n_sessions)
    sectors = sorted(set(market.universe["sector"]))
    data = from_frames(market.prices, market.universe, market.benchmarks, sectors=sectors, source="simulated")
    tensors = made_ground(data, default_splits(n_sessions), "simulated").tensors
    truth = np.full(tensors.active.shape, -1)
    mechanism = market.events.set_index("id")["mechanism"]
    for hit in market.planted.itertuples():
        name = mechanism[hit.id]
        t, stock = tensors.sessions.get_loc(hit.onset), tensors.tickers.index(hit.ticker)
        truth[t : t + MECHANISMS[name].duration, stock] = list(MECHANISMS).index(name)
    planted = (truth >= 0) & tensors.active & tensors.test[:, None]
    return joined([_labelled(tensors.x[planted], truth[planted], seed), _calm_days(tensors, seed)])


@dataclass(frozen=True)
class TaughtGate:
    """The fitted gate. `fit` it on lessons; `weights` and `score` take scaled features [..., F].

    reading : how weights are read off the probabilities, see `READINGS`. usual : mean probabilities of calm lessons.
    """

    classifier: Pipeline
    usual: np.ndarray
    reading: str = "given"

    @classmethod
    def fit(cls, taught: Lessons, shrinkage: float | None) -> TaughtGate:
        """Classes count the same.

        shrinkage : L2 penalty on the weights of a multinomial logit, larger is simpler. None: boosted trees.
        """
        if shrinkage is None:
            trees = HistGradientBoostingClassifier(
                max_iter=60, max_leaf_nodes=8, min_samples_leaf=40, l2_regularization=10.0, class_weight="balanced",
                early_stopping=False, random_state=0,
            )  # fmt: skip
            fitted = make_pipeline(trees).fit(taught.x, taught.label)
        else:
            logit = LogisticRegression(C=1 / shrinkage, class_weight="balanced", max_iter=500)
            fitted = make_pipeline(FunctionTransformer(_both), StandardScaler(), logit).fit(taught.x, taught.label)
        return cls(fitted, _by_class(fitted, taught.x[taught.label == CALM]).mean(0))

    def read(self, reading: str) -> TaughtGate:
        """The same gate, its weights read in another way."""
        if reading not in READINGS:
            raise ValueError(f"no reading {reading!r}; there are: {', '.join(READINGS)}")
        return replace(self, reading=reading)

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """[..., 5]: the mechanisms in the paper's order, then calm."""
        return _by_class(self.classifier, x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], CALM + 1)

    def weights(self, x: np.ndarray) -> np.ndarray:
        """Routing weights [..., 4], sum 1, by the gate's reading."""
        p = self.probabilities(x)
        if self.reading == "even":
            return p[..., :CALM] + p[..., CALM:] / CALM
        if self.reading == "surplus":
            p = np.maximum(p - self.usual, 1e-3)
        return p[..., :CALM] / p[..., :CALM].sum(-1, keepdims=True)

    def score(self, x: np.ndarray) -> np.ndarray:
        """Anomaly score [...] in (0, 1): one minus the probability of calm."""
        return 1 - self.probabilities(x)[..., CALM]


def grade_gate(garden: Garden, gate: TaughtGate) -> Grade:
    """Grade a taught gate on plants: its score, and its weights under `w`."""
    return grade_pointwise(garden, gate.score, {"w": gate.weights})


def _by_class(classifier: Pipeline, x: np.ndarray) -> np.ndarray:
    """Probabilities [n, 5]; 0 for a mechanism of which there was no lesson."""
    found = np.zeros((len(x), CALM + 1))
    found[:, classifier.classes_] = classifier.predict_proba(x)
    return found


def _both(x: np.ndarray) -> np.ndarray:
    """Features and their absolute values: many anomalies go either way."""
    return np.concatenate([x, np.abs(x)], axis=-1)
