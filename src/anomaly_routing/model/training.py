"""Fit the network: batches of consecutive sessions, two stop rules in one training, a state that survives a kill.

Paper 3.6 and 4.1, SPEC 8. A batch is 32 consecutive sessions of all stocks (A60, A68). Everything random in an epoch
comes from (seed, epoch), so a training that goes on after a kill ends where an uninterrupted one does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from tqdm import tqdm

from anomaly_routing.files import plain
from anomaly_routing.model.allocator import denormals_flushed, memory_explained, trim
from anomaly_routing.model.checkpoints import Fitted, TrainingState
from anomaly_routing.model.config import ModelConfig, is_count, is_number
from anomaly_routing.model.diagnostics import Clock, routing_diagnostics, small_parts
from anomaly_routing.model.errors import OutOfTimeError, TrainingError
from anomaly_routing.model.losses import Errors, loss_terms, rebuilding
from anomaly_routing.model.network import Network, Output
from anomaly_routing.tensors import Tensors

STOP_RULES = ("tail", "val")  # L_rec on the last tenth of the training samples | on the validation samples
SCALARS = ("graph.alpha", "graph.sources", "graph.stress", "experts.gate.tau_b")
MATMUL = ("highest", "high", "medium")
BYTES_A_STOCK_SESSION, BYTES_A_PAIR = 300_000, 300  # activations kept for the gradient, measured


@dataclass(frozen=True)
class TrainingConfig:
    """How the network is fitted. The values of SPEC 8; `epochs` is capped in the cheaper tiers."""

    epochs: int = 100
    patience: int = 15
    min_delta: float = 0.0001
    learning_rate: float = 0.001
    clip: float = 1.0
    batch_sessions: int = 32
    tail_share: float = 0.1  # of the training samples, the last ones; they fix the stop rule `tail`
    fit_tail: bool = False  # fit on them too: then `tail` stops on sessions it was fitted on
    scalar_speed: float = 1.0  # times the learning rate: of the few scalars that steer stress, fusion and gate (A49)
    matmul: str = "highest"  # torch's float32 matmul precision: highest, high (TF32) or medium (bfloat16)
    memory_gib: float = 4.0  # of activations; a larger chunk is done in pieces, built again for the gradient

    def __post_init__(self) -> None:
        rules = (
            (("epochs", "patience", "batch_sessions"), is_count, "an integer from 1 up"),
            (("learning_rate", "clip", "memory_gib", "scalar_speed"), lambda v: v > 0, "a positive number"),
            (("min_delta",), lambda v: v >= 0, "a number that is not negative"),
            (("tail_share",), lambda v: 0 < v < 1, "a share between 0 and 1"),
        )
        for keys, holds, wanted in rules:
            for key in keys:
                if not (is_number(getattr(self, key)) and holds(getattr(self, key))):
                    raise ValueError(f"{key} is {getattr(self, key)!r}; it must be {wanted}")
        if not isinstance(self.fit_tail, bool):
            raise ValueError(f"fit_tail is {self.fit_tail!r}; it can be False, True")
        if self.matmul not in MATMUL:
            raise ValueError(f"matmul is {self.matmul!r}; it can be {', '.join(MATMUL)}")

    def identity(self) -> dict[str, Any]:
        """What tells two trainings apart: all keys, `scalar_speed` only where it is not 1 (see `ModelConfig`).

        `memory_gib` tells none apart: like the device it moves rounding alone, and a training may go on with less.
        """
        known = asdict(self) | {"memory_gib": TrainingConfig.memory_gib}
        return {k: v for k, v in known.items() if k != "scalar_speed" or v != 1}


def make_training(**settings: Any) -> TrainingConfig:
    """The defaults with some keys changed; raises ValueError for an unknown key or a value that cannot be."""
    known = [f.name for f in fields(TrainingConfig)]
    if unknown := sorted(set(settings) - set(known)):
        raise ValueError(f"training has no key {', '.join(unknown)}; it has: {', '.join(known)}")
    return TrainingConfig(**settings)


class Batch(NamedTuple):
    """B consecutive samples; see `Network.forward`."""

    x: Tensor
    active: Tensor
    prior: Tensor
    stress: Tensor


class LessonCopy(NamedTuple):
    """A copy of a market into whose training sessions mechanisms were written. Only `teach` uses it (A57, ours)."""

    x: np.ndarray  # float32 [S, N, F], scaled features
    label: np.ndarray  # int [S, N], the mechanism of a stock-day, -1 for none


class Data:
    """A market's tensors on a device, cut into batches of consecutive samples."""

    def __init__(
        self, tensors: Tensors, config: ModelConfig, device: torch.device, lessons: Sequence[LessonCopy] = ()
    ) -> None:
        rule = "rank" if config.psi_rule == "rank" else "minmax"
        arrays = tensors.x, tensors.active, tensors.prior, tensors.normalised_stress(config.psi_norm, rule)
        self.x, self.active, self.prior, self.stress = (torch.as_tensor(a, device=device) for a in arrays)
        self.lessons = [[torch.as_tensor(part, device=device) for part in copy] for copy in lessons]
        self.window = config.window
        self.train, self.val = np.flatnonzero(tensors.train), np.flatnonzero(tensors.val)

    def split_tail(self, share: float) -> tuple[np.ndarray, np.ndarray]:
        """The training samples without their last `share`, and those last ones."""
        n = len(self.train) - round(share * len(self.train))
        return self.train[:n], self.train[n:]

    def batch(self, first: int, last: int) -> Batch:
        """The samples that end in the sessions first .. last-1; each reads the `window` sessions up to its end."""
        return Batch(
            self.x[first - self.window + 1 : last], self.active[first:last], self.prior, self.stress[first:last]
        )

    def lesson(self, first: int, last: int, epoch: int) -> tuple[Batch, Tensor | None]:
        """The same samples in the copy whose turn it is, with the labels [B, N]; without lessons `batch`, None."""
        batch = self.batch(first, last)
        if not self.lessons:
            return batch, None
        x, label = self.lessons[epoch % len(self.lessons)]
        return batch._replace(x=x[first - self.window + 1 : last]), label[first:last]


def choose_device(name: str) -> torch.device:
    """`auto` is a GPU if there is one. Makes cuDNN and cuBLAS repeat themselves: one seed, one result."""
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device {name!r}: use auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise TrainingError("device cuda: torch sees no GPU here; use device cpu, or install a CUDA build of torch")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.deterministic = True
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def chunks(samples: np.ndarray, size: int, seed: int, epoch: int) -> list[tuple[int, int]]:
    """(first, last) session of an epoch's batches, in random order, from an offset drawn in 0..size-1 (SPEC 8).

    The samples before the offset rest in this epoch; the last batch before a gap, or of all, may be short.
    """
    rng = np.random.default_rng([seed, epoch])
    offset = int(rng.integers(min(size, len(samples))))
    order = []
    for part in np.split(samples[offset:], np.flatnonzero(np.diff(samples[offset:]) > 1) + 1):
        order += [(int(part[s]), int(part[min(s + size, len(part)) - 1]) + 1) for s in range(0, len(part), size)]
    return [order[k] for k in rng.permutation(len(order))]


def pieces(sessions: int, stocks: int, memory_gib: float) -> int:
    """How many sessions of a batch fit into memory at once, at least one."""
    each = BYTES_A_STOCK_SESSION * stocks + BYTES_A_PAIR * stocks**2
    return max(1, min(sessions, int(memory_gib * 2**30 / each)))


def forward(net: Network, batch: Batch, memory_gib: float, clock: Clock | None = None) -> Errors:
    """Forward pass of a batch. What does not fit into memory is done in pieces and built again for the gradient."""
    sessions, stocks = batch.active.shape
    size = pieces(sessions, stocks, memory_gib)
    if size == sessions:
        return _errors(net, *batch, clock.mark if clock else None)
    if clock:
        clock.whole = False  # modules come twice and out of order: their time cannot be told apart
    reach = net.config.window - 1
    parts = [
        checkpoint(
            _piece,
            net,
            *(batch.x[s : s + size + reach], batch.active[s : s + size], batch.prior, batch.stress[s : s + size]),
            use_reentrant=False,
            preserve_rng_state=False,
        )
        for s in range(0, sessions, size)
    ]
    return Errors(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _errors(net: Network, x: Tensor, active: Tensor, prior: Tensor, stress: Tensor, mark: Any = None) -> Errors:
    out = net(x, active, prior, stress, mark)
    return Errors(out.routing, out.expert_error, out.horizon_error)


def _piece(net: Network, *inputs: Tensor) -> Errors:
    trim()
    return _errors(net, *inputs)


def train_epoch(
    net: Network,
    optimiser: torch.optim.Optimizer,
    data: Data,
    order: list[tuple[int, int]],
    config: TrainingConfig,
    clock: Clock,
    epoch: int = 0,
) -> dict[str, float]:
    """One pass over the batches. Returns the mean of each loss term and of the gradient's norm; no sync until then."""
    net.train()
    sums: dict[str, Tensor] = {}
    for first, last in order:
        batch, lesson = data.lesson(first, last, epoch)
        clock.start()
        optimiser.zero_grad(set_to_none=True)
        out = forward(net, batch, config.memory_gib, clock)
        terms = loss_terms(out, batch.active, net.config, lesson)
        clock.mark("loss")
        terms["total"].backward()
        clock.mark("encoder")
        terms["gradient"] = torch.nn.utils.clip_grad_norm_(net.parameters(), config.clip)
        optimiser.step()
        if net.experts.surprise:
            net.experts.surprise.update(out.expert_error, batch.active)
        clock.mark("optimiser")
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + value.detach()
    return {name: float(total) / len(order) for name, total in sums.items()}


@torch.no_grad()
def evaluate(net: Network, data: Data, samples: np.ndarray, config: TrainingConfig) -> Iterator[tuple[Batch, Output]]:
    """Batches of consecutive samples, in time order, with everything that the network computes for them."""
    net.eval()
    size = pieces(config.batch_sessions, data.x.shape[1], config.memory_gib)
    for s in range(0, len(samples), size):
        batch = data.batch(int(samples[s]), int(samples[min(s + size, len(samples)) - 1]) + 1)
        yield batch, net(*batch)


def reconstruction(net: Network, data: Data, samples: np.ndarray, config: TrainingConfig) -> tuple[float, dict]:
    """L_rec over the active stock-days of the samples, and the diagnostics of SPEC 8 on them."""
    total, count, collected = 0.0, 0, []
    for batch, out in evaluate(net, data, samples, config):
        error = rebuilding(out, net.config) * batch.active
        total, count = total + error.double().sum(), count + batch.active.sum()
        collected.append(small_parts(batch, out, net.config.window))
    return float(total / count), routing_diagnostics(net.experts.columns, collected)


@denormals_flushed()
def fit(
    net: Network,
    tensors: Tensors,
    config: TrainingConfig,
    seed: int,
    device: torch.device,
    state_file: Path | None = None,
    label: str = "",
    rules: tuple[str, ...] = STOP_RULES,
    deadline: float = float("inf"),
    lessons: Sequence[LessonCopy] = (),
) -> Fitted:
    """Train `net`, in place, until every stop rule has had no better epoch for `patience` epochs, or the cap.

    state_file : written after every epoch; when it is there, the training goes on from it. It must belong to the same
        market, network, configuration and seed. The caller deletes it.
    label : of the progress bar; without it there is none.
    deadline : of time.time(); no epoch starts that would end later if it took as long as the one before.
    lessons : copies of the same market, one an epoch in turn, which a network with `teach` is fitted on in its place.
        The stop rules look at the undisturbed market. With a state file they must be the same again.

    Raises TrainingError: memory ran out, a loss is not a number, the state file belongs to another training; and its
    subclass OutOfTimeError at the deadline, the state written.
    """
    if bool(net.config.teach) != bool(lessons):
        raise TrainingError("`teach` and lessons go together: notebook 08 writes them, other stages have none")
    torch.set_float32_matmul_precision(config.matmul)
    torch.backends.cudnn.allow_tf32 = config.matmul != "highest"
    with memory_explained(tensors, config, device):
        net.to(device)
        data = Data(tensors, net.config, device, lessons)
    head, tail = data.split_tail(config.tail_share)
    fitted_on = data.train if config.fit_tail else head
    if len(head) < config.batch_sessions or not len(tail):
        raise TrainingError(
            f"{len(data.train)} training samples leave {len(head)} to fit on and {len(tail)} to stop on, fewer than a "
            f"batch of {config.batch_sessions}: lower batch_sessions, or move market.splits in params.yaml"
        )
    optimiser = torch.optim.Adam(_speeds(net, config), lr=config.learning_rate, fused=True)
    belongs = [tensors.market, tensors.data_hash, net.config.identity(), config.identity(), seed]
    state = TrainingState(net, optimiser, belongs, state_file)
    done = state.restore()
    size = config.batch_sessions
    clock = Clock(device)
    bar = tqdm(total=config.epochs, initial=len(done.history), desc=label, unit="epoch", disable=not label)
    with bar:
        for epoch in range(len(done.history), config.epochs):
            if _exhausted(done, config, rules):
                break
            if time.time() + (done.history[-1]["seconds"] if done.history else 0.0) > deadline:
                raise OutOfTimeError(f"out of time after {epoch} of at most {config.epochs} epochs")
            started = time.perf_counter()
            with memory_explained(tensors, config, device):
                order = chunks(fitted_on, size, seed, epoch)
                line = {"epoch": epoch} | train_epoch(net, optimiser, data, order, config, clock, epoch)
                for rule in rules:
                    line[rule], diagnostics = reconstruction(net, data, tail if rule == "tail" else data.val, config)
            _refuse_nan(line, config, state_file)
            line |= {"steps": len(order), "seconds": time.perf_counter() - started} | diagnostics | clock.read()
            done.history.append(plain(line))
            for rule in rules:
                if rule in done.best and epoch - done.best[rule]["epoch"] > config.patience:
                    continue  # it has stopped; only the other rule goes on
                if line[rule] < done.best.get(rule, {"loss": np.inf})["loss"] - config.min_delta:
                    done.best[rule] = {"loss": line[rule], "epoch": epoch}
                    done.weights[rule] = {
                        name: value.detach().cpu().clone() for name, value in net.state_dict().items()
                    }
            state.save(done)
            bar.update()
            bar.set_postfix({k: f"{line[k]:.4g}" for k in ("rec", "entropy", "smooth", *rules)})
    return done


def _speeds(net: Network, config: TrainingConfig) -> list[dict[str, Any]]:
    """Parameter groups: one, or the few scalars apart, with a learning rate of their own."""
    if config.scalar_speed == 1:
        return [{"params": list(net.parameters())}]
    scalars = {name for name, _ in net.named_parameters() if name.startswith(SCALARS)}
    apart = [[p for name, p in net.named_parameters() if (name in scalars) == own] for own in (False, True)]
    return [{"params": apart[0]}, {"params": apart[1], "lr": config.scalar_speed * config.learning_rate}]


def _exhausted(done: Fitted, config: TrainingConfig, rules: tuple[str, ...]) -> bool:
    """Every stop rule has waited `patience` epochs in vain."""
    last = len(done.history) - 1
    return bool(done.best) and all(last - done.best[rule]["epoch"] >= config.patience for rule in rules)


def _refuse_nan(line: dict[str, Any], config: TrainingConfig, state_file: Path | None) -> None:
    if bad := [name for name in ("rec", "entropy", "smooth", "total", "gradient", *STOP_RULES)
               if not np.isfinite(line.get(name, 0.0))]:  # fmt: skip
        kept = f"; {state_file} keeps the epochs before, delete it" if state_file and state_file.exists() else ""
        raise TrainingError(
            f"epoch {line['epoch']}: {', '.join(bad)} is not a number: lower learning_rate ({config.learning_rate}) or "
            f"clip ({config.clip}){kept}"
        )
