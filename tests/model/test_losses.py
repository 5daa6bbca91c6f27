"""The terms that we add to the loss, and the prior from surprise, against what they must be by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anomaly_routing.model.config import make_config
from anomaly_routing.model.experts import Surprise
from anomaly_routing.model.losses import Errors, load_balance, loss_terms, named_wrong

ALL = torch.ones(2, 3, dtype=torch.bool)


def out(routing: torch.Tensor) -> Errors:
    generator = torch.Generator().manual_seed(0)
    expert, horizon = (torch.rand(2, 3, k, generator=generator) for k in (4, 3))
    return Errors(routing, expert, horizon)


def test_the_balance_is_zero_where_all_carry_alike_and_log_k_where_one_carries_all():
    alike = torch.eye(4)[torch.arange(4)].reshape(1, 4, 4)  # each stock-day to another expert
    assert load_balance(alike, torch.ones(1, 4, dtype=torch.bool)) == pytest.approx(0, abs=1e-6)
    dead = torch.eye(4)[torch.zeros(6, dtype=int)].reshape(2, 3, 4)
    assert load_balance(dead, ALL) == pytest.approx(np.log(4), rel=1e-5)
    mixed = torch.cat([dead[:1], torch.eye(4)[[1, 2, 3]][None]])
    first = torch.tensor([[True] * 3, [False] * 3])
    assert load_balance(mixed, first) == pytest.approx(np.log(4), rel=1e-5), "an inactive stock carries nothing"


def test_a_wrong_name_costs_the_surprise_of_the_right_one_each_mechanism_alike():
    routing = torch.full((2, 3, 4), 0.25)
    routing[0, 0] = torch.tensor([0.7, 0.1, 0.1, 0.1])
    lesson = torch.tensor([[0, 0, -1], [2, -1, -1]])
    by_hand = ((-np.log(0.7) - np.log(0.25)) / 2 - np.log(0.25)) / 2
    assert named_wrong(routing, ALL, lesson) == pytest.approx(by_hand, rel=1e-5)
    without = ALL.clone()
    without[1, 0] = False
    assert named_wrong(routing, without, lesson) == pytest.approx((-np.log(0.7) - np.log(0.25)) / 2, rel=1e-5)
    assert named_wrong(routing, ALL, torch.full((2, 3), -1)) == 0


def test_lessons_are_not_rebuilt_and_the_terms_are_weighed():
    routing = torch.softmax(torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(1)), -1)
    lesson = torch.tensor([[0, -1, -1], [-1, -1, 3]])
    plain = loss_terms(out(routing), ALL, make_config("intended"))
    assert set(plain) == {"rec", "entropy", "smooth", "total"}
    config = make_config("intended", teach=3.0, balance=0.5)
    told = loss_terms(out(routing), ALL, config, lesson)
    untaught = loss_terms(out(routing), lesson < 0, make_config("intended"))
    assert told["rec"] == untaught["rec"] != plain["rec"]
    assert told["entropy"] == plain["entropy"] and told["smooth"] == plain["smooth"]
    whole = told["rec"] - config.gamma1 * told["entropy"] + config.gamma2 * told["smooth"]
    assert told["total"] == pytest.approx(float(whole + 3 * told["teach"] + 0.5 * told["balance"]), rel=1e-6)
    assert "teach" not in loss_terms(out(routing), ALL, config), "an undisturbed batch has no names"


def test_the_loss_on_the_routing_moves_weight_to_the_right_expert():
    logits = torch.zeros(2, 3, 4, requires_grad=True)
    lesson = torch.tensor([[1, -1, -1], [-1, -1, -1]])
    named_wrong(torch.softmax(logits, -1), ALL, lesson).backward()
    assert logits.grad[0, 0].argmin() == 1 and (logits.grad[0, 1:] == 0).all() and (logits.grad[1] == 0).all()


def test_surprise_is_the_distance_of_the_log_error_from_its_running_mean():
    prior, generator = Surprise(4), torch.Generator().manual_seed(0)
    centre, spread = np.array([0.0, 1.0, -1.0, 2.0]), np.array([0.1, 0.5, 1.0, 0.2])
    drawn = [
        torch.exp(
            torch.randn(40, 50, 4, generator=generator) * torch.tensor(spread).float() + torch.tensor(centre).float()
        )
        for _ in range(10)
    ]
    active = torch.ones(40, 50, dtype=torch.bool)
    for error in drawn:
        prior.update(error, active)
    log = torch.log(torch.cat(drawn)).flatten(0, 1).numpy()
    assert np.allclose(prior.centre, log.mean(0), atol=0.02)
    even, error = torch.full((1, 1, 4), 0.25), torch.tensor(np.exp(centre + spread * [0, 2, 0, 0]))[None, None].float()
    assert np.allclose(prior(even, error)[0, 0], np.exp([0, 2, 0, 0]) / (3 + np.exp(2)), atol=0.02)
    half = torch.tensor([[[0.5, 0.5, 0.0, 0.0]]])
    assert np.allclose(prior(half, error)[0, 0, :2], np.exp([0, 2]) / (1 + np.exp(2)), atol=0.02)


def test_inactive_stocks_are_not_part_of_what_is_usual_and_no_gradient_reaches_the_errors():
    prior, error = Surprise(2), torch.tensor([[[1.0, 1.0], [1e9, 1e9]]], requires_grad=True)
    prior.update(error, torch.tensor([[True, False]]))
    assert prior.centre.tolist() == pytest.approx([0, 0], abs=1e-6)
    weights = torch.full((1, 2, 2), 0.5, requires_grad=True)
    prior(weights, error).square().sum().backward()
    assert error.grad is None and weights.grad is not None


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"teach": -1.0}, "teach is -1.0; it must be a number that is not negative"),
        ({"balance": float("nan")}, "balance is nan"),
        ({"gate_prior": "loud"}, "gate_prior is 'loud'; it can be 'none', 'surprise'"),
        ({"gate_prior": "surprise", "routing_rule": "hard"}, "needs routing_rule 'soft'"),
        ({"teach": 1.0, "mechanisms": "six"}, "an expert for each of the four"),
    ],
)
def test_what_cannot_be_is_refused(bad, words):
    with pytest.raises(ValueError, match=words):
        make_config("intended", **bad)


def test_new_keys_rename_no_stored_run():
    assert not {"teach", "balance", "gate_prior"} & set(make_config("intended").identity())
    assert make_config("intended", teach=3.0).identity()["teach"] == 3.0
