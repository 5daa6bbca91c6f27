"""Work on several cores: the same results in the same order, from other processes, with one thread each."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from anomaly_routing import taught_gate
from anomaly_routing.cores import SETTING, over_cores, processes


def where(item: int) -> tuple[int, int, int]:
    return item**2, os.getpid(), torch.get_num_threads()


def fails(item: int) -> int:
    return 1 // item


def test_the_same_in_order_from_other_processes_of_one_thread(monkeypatch):
    monkeypatch.setenv(SETTING, "2")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    found = over_cores(where, range(6), desc="squares", unit="item")
    assert [value for value, _, _ in found] == [0, 1, 4, 9, 16, 25]
    assert os.getpid() not in {pid for _, pid, _ in found} and {n for *_, n in found} == {1}


@pytest.mark.parametrize(("setting", "items"), [("1", 3), ("8", 1)])
def test_one_process_or_one_item_stays_here(monkeypatch, setting, items):
    monkeypatch.setenv(SETTING, setting)
    assert {pid for _, pid, _ in over_cores(where, range(items))} == {os.getpid()}


@pytest.mark.parametrize("setting", ["1", "2"])
def test_nothing_to_do_and_an_error_of_a_part(monkeypatch, setting):
    monkeypatch.setenv(SETTING, setting)
    assert over_cores(where, []) == []
    with pytest.raises(ZeroDivisionError):
        over_cores(fails, [1, 0])


def test_the_setting(monkeypatch):
    monkeypatch.setenv(SETTING, "3")
    assert processes() == 3
    for none in ("", "0"):
        monkeypatch.setenv(SETTING, none)
        assert processes() >= 1
    for wrong in ("two", "-1", "1.5"):
        monkeypatch.setenv(SETTING, wrong)
        with pytest.raises(ValueError, match="whole number of processes"):
            processes()


def test_lessons_are_the_same_on_two_cores(monkeypatch):
    found = []
    for setting in ("1", "2"):
        monkeypatch.setenv(SETTING, setting)
        found.append(taught_gate.lessons([11, 12], 16, 700))
    one, two = found
    assert all(np.array_equal(getattr(one, k), getattr(two, k)) for k in ("x", "label", "seed"))
    assert set(one.seed) == {11, 12} and one.seed[0] == 11
