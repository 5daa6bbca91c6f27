"""What every trained run is packed with: the device's name, the sessions that are kept, digits that compress."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from anomaly_routing.runs import Run

PAST = 250  # training sessions before the validation split that the matched budget looks back on (SPEC 9.6)
CHANNELS = ("mean", "mpi", "mean@val", "mpi@val")  # of a lean run
AGGREGATED = ("max@val", "banks@val", "share@val")  # other ways to make a day's score, less exactly
OTHER_BITS = 12


def device_name(device: torch.device) -> str:
    """`cpu`, or the GPU's own name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def kept_sessions(evaluated: np.ndarray, everything: bool) -> np.ndarray:
    """Bool [S]: all sessions, or those that the evaluation can use, the evaluated ones and `PAST` before them."""
    first = int(np.argmax(evaluated))
    used = evaluated | everything
    used[max(0, first - PAST) : first] = True
    return used


def shortened(values: Any, bits: int = 16) -> Any:
    """Rounded to so many significant bits, 16 within 2e-5 of the value: those below do not compress and say nothing."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * 2**bits) / 2**bits, exponent)


def lean(run: Run, train_end: str) -> Run:
    """What a run of a sweep keeps, some 15 kB: the alarm channels and the other aggregations after `train_end`, and of
    the log the losses of every epoch and all of the best ones."""
    later = run.daily[run.daily.index > pd.Timestamp(train_end)]
    others = shortened(later[[name for name in AGGREGATED if name in later]], OTHER_BITS)
    log = run.info["history"]
    best = sorted({line["epoch"] for line in run.info["best"].values()})
    info = run.info | {
        "history": [{k: v for k, v in log[epoch].items() if k != "module_seconds"} for epoch in best],
        "losses": {name: [float(f"{line[name]:.5g}") for line in log] for name in ("rec", *run.info["best"])},
    }
    return replace(
        run,
        score=np.zeros((0, 0), np.float32),
        score_sessions=run.score_sessions[:0],
        tickers=[],
        daily=pd.concat([later[list(CHANNELS)], others], axis=1),
        info=info,
        extras={},
    )
