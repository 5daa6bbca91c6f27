"""What a training asks of the machine: memory kept (glibc; elsewhere nothing happens), denormals counted as zero."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from anomaly_routing.model.errors import TrainingError
from anomaly_routing.tensors import Tensors

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # names of glibc's mallopt


def tune_allocator() -> None:
    """Keep freed memory instead of giving 100 MB back and faulting it in again at every step.

    Measured: a training step takes two thirds of the time.
    """
    if libc := _glibc():
        libc.mallopt(MMAP_MAX, 0)
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(TOP_PAD, 256 << 20)


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Numbers below 1e-38 count as zero inside, on the CPU, in all of torch's threads.

    Routing that collapses leaves gradients full of them, and the processor takes many cycles for each: measured, an
    epoch takes a half to a third of the time, and no bit of the weights differs.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)  # p-values of scipy may be that small


def trim() -> None:
    """Give freed memory back. Between the pieces of a large batch the heap would otherwise grow by fragments."""
    if libc := _glibc():
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL("libc.so.6")
        return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
    except OSError:
        return None


@contextmanager
def memory_explained(tensors: Tensors, config: Any, device: torch.device) -> Iterator[None]:
    """Lack of memory inside becomes a TrainingError that names what to lower."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        raise TrainingError(
            f"out of memory on {device} with {len(tensors.tickers)} stocks and batches of {config.batch_sessions} "
            f"sessions: lower memory_gib ({config.memory_gib}), then batch_sessions"
        ) from error
