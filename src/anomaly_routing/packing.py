"""What every trained run is packed with: the device's name, the sessions that are kept, digits that compress."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

PAST = 250  # training sessions before the validation split that the matched budget looks back on (SPEC 9.6)


def device_name(device: torch.device) -> str:
    """`cpu`, or the GPU's own name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def kept_sessions(evaluated: np.ndarray, everything: bool) -> np.ndarray:
    """Bool [S]: all sessions, or those that the evaluation can use, the evaluated ones and `PAST` before them."""
    first = int(np.argmax(evaluated))
    used = evaluated | everything
    used[max(0, first - PAST) : first] = True
    return used


def shortened(values: Any) -> Any:
    """Rounded to 16 significant bits, within 2e-5 of the value: the bits below do not compress and say nothing."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * 2**16) / 2**16, exponent)
