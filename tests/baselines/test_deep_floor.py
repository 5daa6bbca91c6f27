"""Every neural detector finds quiet anomalies of its own kind, and an untrained copy of it does not."""

from __future__ import annotations

import pytest
from planted_deep import auroc, coupled_market, parity_panel, quiet_panel
from sklearn.metrics import roc_auc_score

from anomaly_routing.baselines.registry import create, detectors
from anomaly_routing.train_baseline import trainable

# detector -> (kind of anomaly, floor of the AUROC, parameters)
FLOORS = {
    "lstm_ae": ("out_of_time", 0.8, {"epochs": 30, "hidden": 16, "window": 5, "share": 1.0}),
    "robust_autoencoder": ("off_factor", 0.9, {"epochs": 70, "hidden": 16, "code": 3}),
    "real_nvp": ("off_factor", 0.97, {"epochs": 20, "hidden": 32, "pairs": 3}),
    "anomaly_transformer": ("off_factor", 0.8, {"epochs": 15, "window": 6, "width": 32, "heads": 4, "share": 1.0}),
    "tranad": ("off_factor", 0.9, {"epochs": 15, "window": 5, "share": 1.0}),
    "mtad_gat": ("out_of_time", 0.9, {"epochs": 15, "window": 8, "hidden": 32, "latent": 8, "share": 1.0}),
    "gcn_ae": ("out_of_group", 0.95, {"epochs": 30}),
    "gat_ae": ("out_of_group", 0.95, {"epochs": 20}),
    "dominant": ("out_of_group", 0.95, {"epochs": 20}),
    "cola": ("out_of_group", 0.95, {"epochs": 15, "rounds": 16}),
    "anomaly_dae": ("out_of_time", 0.85, {"epochs": 30}),
    "evolve_gcn": ("off_factor", 0.9, {"epochs": 20}),
    "ghrn_star": ("out_of_group", 0.95, {"epochs": 30}),
    # what a forest makes of the same event histories reaches 0.79
    "graph_hawkes": ("out_of_group", 0.7, {"epochs": 75, "quantile": 0.6, "window": 12, "share": 1.0}),
}
# where the toy market does not need the training, a set of its own on which it matters (`planted_deep`)
OWN = {
    "memstream": (parity_panel, 0.95, {"epochs": 100, "code": 3}),
    "metric_vmf": (coupled_market, 0.85, {"epochs": 20, "share": 0.4}),
    "metric_watson": (coupled_market, 0.85, {"epochs": 20, "share": 0.4}),
}
DEEP = [name for name, entry in detectors().items() if entry.stage == "deep_baselines"]


def test_every_neural_detector_has_a_floor_and_trains_without_the_other_detectors_libraries():
    assert set(FLOORS) | set(OWN) == set(DEEP) == set(trainable()) and not set(FLOORS) & set(OWN)


@pytest.mark.parametrize("name", FLOORS)
def test_training_finds_what_an_untrained_copy_does_not(name):
    kind, floor, params = FLOORS[name]
    planted = quiet_panel(kind)
    trained, untrained = (
        auroc(create(name, **given).fit(planted.panel, planted.train).decision_function(planted.panel), planted)
        for given in (params, params | {"epochs": 0})
    )
    assert trained > floor and untrained < floor - 0.1, (trained, untrained)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", OWN)
def test_training_finds_what_an_untrained_copy_does_not_in_a_set_of_its_own(name, seed):
    """Everything else, memory, clusters and laws of directions, is fitted in both copies."""
    make, floor, params = OWN[name]
    toy = make(seed)
    trained, untrained, norm = (
        roc_auc_score(
            toy.cells[toy.judged], detector.fit(toy.panel, toy.train).decision_function(toy.panel)[toy.judged]
        )
        for detector in (
            create(name, seed=seed, **params),
            create(name, seed=seed, **params | {"epochs": 0}),
            create("l2_norm" if toy.panel.features else "mean_abs_return"),
        )
    )
    assert trained > floor and untrained < floor - 0.1, (trained, untrained)
    assert 0.3 < norm < 0.7


@pytest.mark.parametrize("kind", sorted({kind for kind, _, _ in FLOORS.values()}))
def test_a_norm_does_not_see_them(kind):
    planted = quiet_panel(kind)
    score = create("l2_norm").fit(planted.panel, planted.train).decision_function(planted.panel)
    assert 0.3 < auroc(score, planted) < 0.7
