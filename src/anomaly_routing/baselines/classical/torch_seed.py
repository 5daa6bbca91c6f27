"""Torch made repeatable, without a trace on the rest of the process."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """One thread and fixed generators inside; the process's own generators and thread count after.

    pyod seeds every global generator (`random`, numpy, torch, PYTHONHASHSEED); this puts them back.
    """
    import torch  # imported late: only the neural detectors need it

    threads, hash_seed = torch.get_num_threads(), os.environ.get("PYTHONHASHSEED")
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002
            os.environ.pop("PYTHONHASHSEED", None)
            if hash_seed is not None:
                os.environ["PYTHONHASHSEED"] = hash_seed
