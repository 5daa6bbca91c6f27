"""One training into the run store: `python -m anomaly_routing.train --market us100 --method intended --seed 0`.

`--method` is a preset of the full model or a neural baseline of the registry.

Needs torch, numpy, pandas, tqdm and safetensors, and the market's tensor file that notebook 02 writes; so it runs on a
GPU machine that has nothing else: `PYTHONPATH=src python -m anomaly_routing.train ...`. A run that the store has is not
trained again; a training that was killed goes on from its last finished epoch.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from anomaly_routing.model.allocator import memory_explained, tune_allocator
from anomaly_routing.model.checkpoints import Fitted, load_checkpoint, rounded, save_checkpoint
from anomaly_routing.model.config import PRESETS, make_config
from anomaly_routing.model.errors import TrainingError
from anomaly_routing.model.network import Network
from anomaly_routing.model.outcome import Outcome, learned_graphs, on_sessions, outcome
from anomaly_routing.model.settings import market_settings
from anomaly_routing.model.training import (
    STOP_RULES,
    TrainingConfig,
    choose_device,
    fit,
    make_training,
)
from anomaly_routing.packing import as_run, device_name
from anomaly_routing.paths import MarketPaths
from anomaly_routing.runs import EXTRA, Run, RunKey, RunStore
from anomaly_routing.tensors import Tensors
from anomaly_routing.train_baseline import baseline_key, train_baseline, trainable

MODEL_NUMERICS = 1  # raised by hand when the arithmetic of the network, its training or its scores changes
TITLE = {"intended": "Full model, printed prose", "literal": "Full model, printed equations"}


@dataclass(frozen=True)
class Job:
    """One training. `overrides` are keys of ModelConfig, `training` of TrainingConfig; `variant` is their name.

    Of a baseline, both are parameters of its class, and there is no variant.
    """

    method: str = "intended"
    variant: str = "full"
    seed: int = 0
    overrides: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For tables and progress: `intended, seed 0`."""
        return f"{self.method}{'' if self.variant == 'full' else ' ' + self.variant}, seed {self.seed}"

    def key(self, tensors: Tensors) -> RunKey:
        """What identifies the run; raises ValueError for an unknown method or key, before anything is trained."""
        if self.method not in PRESETS:
            return baseline_key(self.method, self.seed, self.training | self.overrides, tensors)
        config = {
            "model": make_config(self.method, **self.overrides).identity(),
            "training": make_training(**self.training).identity(),
            "splits": asdict(tensors.splits),
            "features_numerics": tensors.features_numerics,
        }
        return RunKey(tensors.market, self.method, self.variant, self.seed, config, tensors.data_hash, MODEL_NUMERICS)


@dataclass(frozen=True)
class Keep:
    """What is kept beside the scores, for the first seed: positions of sessions in the tensors.

    days : routing and expert errors of every stock. graphs : A_learned. checkpoint : where the weights go.
    """

    days: np.ndarray = field(default_factory=lambda: np.array([], dtype=int))
    graphs: np.ndarray = field(default_factory=lambda: np.array([], dtype=int))
    checkpoint: Path | None = None


def keep_of(tensors: Tensors, spans: Sequence[Sequence[Any]], graph_days: Sequence[Any], checkpoint: Path) -> Keep:
    """What the first seed of a preset keeps: the sessions inside `spans`, pairs of dates, the graphs on `graph_days`.

    Without `graph_days`, of six of the sessions, spread evenly; without `spans`, the weights alone.
    """
    s = tensors.sessions
    inside = [np.asarray((s >= pd.Timestamp(a)) & (s <= pd.Timestamp(b))) for a, b in spans]
    days = np.flatnonzero(np.any(inside, axis=0)) if inside else np.array([], dtype=int)
    spread = s[days[:: max(1, len(days) // 6)][:6]]
    return Keep(days, np.flatnonzero(s.isin(pd.to_datetime(graph_days) if len(graph_days) else spread)), checkpoint)


def expand(jobs: list[dict[str, Any]], training: dict[str, Any]) -> list[Job]:
    """Jobs as a parameter file lists them (method, variant, seeds, overrides, training), one for each seed.

    `training` holds for all of them; what a job says itself wins.
    """
    return [
        Job(
            job["method"],
            job.get("variant", "full"),
            seed,
            job.get("overrides", {}),
            training | job.get("training", {}),
        )
        for job in jobs
        for seed in job["seeds"]
    ]


def train_one(
    tensors: Tensors,
    job: Job,
    store: RunStore,
    *,
    device: str = "auto",
    tier: str,
    scratch: Path,
    keep: Keep | None = None,
    pack: Callable[[Run], Run] | None = None,
    deadline: float = float("inf"),
) -> RunKey:
    """Train, score and store one run, unless it is there.

    scratch : folder for the state of an unfinished training. keep : None keeps daily series alone; a stored run of the
    model that keeps other sessions gets these from its checkpoint, and without a checkpoint it is trained again.
    pack : of a sweep, what becomes of the run before it is stored, of which it sees every stock's expert errors too;
    such a training shows no progress of its own.
    deadline : of the model's training, as in `fit`, which raises OutOfTimeError.
    """
    key = job.key(tensors)
    if job.method not in PRESETS:
        params = job.training | job.overrides
        return train_baseline(
            tensors, job.method, job.seed, params, store,
            device=device, tier=tier, keep_stocks=keep is not None, label=job.name,
        )  # fmt: skip
    state = scratch / f"{Path(key.filename).stem}.safetensors"
    if key in store and (keep is None or _completed(tensors, job, key, store, keep, device)):
        _tidy(state, store)
        return key
    chosen = choose_device(device)
    tune_allocator()
    torch.manual_seed(job.seed)
    net = Network(len(tensors.features), tensors.categories, make_config(job.method, **job.overrides))
    training = make_training(**job.training)
    fitted = fit(net, tensors, training, job.seed, chosen, state, "" if pack else job.name, deadline=deadline)
    outcomes, started = {}, time.perf_counter()
    for rule in reversed(STOP_RULES):  # the tail's weights stay in the network
        net.load_state_dict(rounded(fitted.weights[rule]))
        with memory_explained(tensors, training, chosen):
            outcomes[rule] = outcome(net, tensors, chosen, training)
    info = _info(job, net, fitted, outcomes, training) | {
        "tier": tier,
        "device": device_name(chosen),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "seconds": round(sum(line["seconds"] for line in fitted.history), 1),
        "seconds_of_scoring": round(time.perf_counter() - started, 1),
    }
    extras, tail = {}, outcomes["tail"]
    if pack:
        extras = {"days": _dates(tensors, tail.rows), "expert_error": tail.expert_error}
    if keep is not None:
        with memory_explained(tensors, training, chosen):
            at = np.searchsorted(tail.rows, _scored(tensors, keep.days))
            extras = _extras(net, tensors, tail.routing[at], tail.expert_error[at], keep, chosen)
    if keep is not None and keep.checkpoint:  # before the run: a run that is stored is not made again
        save_checkpoint(keep.checkpoint, net, {"run": key.filename, "stop_rule": "tail"})
    run = as_run(tensors, outcomes, info, keep is not None, extras, net.config.cut_source)
    store.save(key, pack(run) if pack else run)
    _tidy(state, store)
    return key


def _completed(tensors: Tensors, job: Job, key: RunKey, store: RunStore, keep: Keep, device: str) -> bool:
    """Whether the stored run keeps what is to be kept, now if not before; False: it must be trained again."""
    with np.load(store.path(key)) as arrays:
        kept = f"{EXTRA}routing" in arrays
        same = kept and all(
            np.array_equal(arrays[f"{EXTRA}{name}"], _dates(tensors, rows))
            for name, rows in (("days", keep.days), ("graph_days", keep.graphs))
        )
    there = keep.checkpoint is not None and keep.checkpoint.exists()
    net, info = load_checkpoint(keep.checkpoint) if there else (None, {"run": ""})
    ours = info["run"] == key.filename
    if same or not (kept and ours):
        return same and (ours or keep.checkpoint is None)
    chosen = choose_device(device)
    with memory_explained(tensors, make_training(**job.training), chosen):
        found = on_sessions(net, tensors, _scored(tensors, keep.days), chosen, ("routing", "expert_error"))
        extras = _extras(net, tensors, found["routing"], found["expert_error"], keep, chosen)
    store.save(key, replace(store.load(key), extras=extras))
    return True


def _dates(tensors: Tensors, rows: np.ndarray) -> np.ndarray:
    return tensors.sessions[rows].to_numpy("datetime64[D]")


def _scored(tensors: Tensors, days: np.ndarray) -> np.ndarray:
    if not tensors.scored[days].all():
        raise ValueError("days to keep must be scored sessions of the tensors: from the first full window on")
    return days


def _tidy(state: Path, store: RunStore) -> None:
    """Delete what a stored run no longer needs: its training's state, and what kills in the middle of a write left."""
    state.unlink(missing_ok=True)
    for folder in (state.parent, store.folder):
        for partial in folder.glob(f".{state.stem}.*.partial.*"):
            partial.unlink(missing_ok=True)


def _extras(
    net: Network,
    tensors: Tensors,
    routing: np.ndarray,
    expert_error: np.ndarray,
    keep: Keep,
    device: torch.device,
) -> dict[str, Any]:
    """Routing and expert errors on the days to keep, both [days, N, K], learned graphs on a few; float16."""
    return {
        "days": _dates(tensors, keep.days),
        "routing": routing.astype(np.float16),
        "expert_error": expert_error.astype(np.float16),
        "graph_days": _dates(tensors, keep.graphs),
        "graphs": learned_graphs(net, tensors, keep.graphs, device).astype(np.float16),
    }


def _info(
    job: Job, net: Network, fitted: Fitted, outcomes: dict[str, Outcome], training: TrainingConfig
) -> dict[str, Any]:
    epochs = len(fitted.history)
    waited = epochs - 1 - max(best["epoch"] for best in fitted.best.values())
    return {
        "family": "full model",
        "title": TITLE[job.method] + ("" if job.variant == "full" else f", {job.variant}"),
        "reference": "the paper, section 3",
        "lookahead": net.config.score_stats == "block" or net.config.psi_norm == "full_sample",
        "stochastic": True,
        "channels": {  # protocol -> channel -> column
            "paper": {"I": "mean@val", "M": "mpi@val"},
            "matched": {"I": "mean", "M": "mpi"},
        },
        "epochs": epochs,
        "stopped": "patience" if waited >= training.patience else "cap",
        "best": fitted.best,
        "parameters": sum(net.parameters_by_module().values()),
        "history": json.loads(json.dumps(fitted.history), parse_float=lambda digits: float(f"{float(digits):.8g}")),
        "flagged": None,
    } | {f"{name}_{rule}": getattr(outcomes[rule], name) for name in ("theta_s", "mu", "sigma") for rule in STOP_RULES}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--market", required=True)
    parser.add_argument("--method", default="intended", choices=[*PRESETS, *trainable()])
    parser.add_argument("--variant", default="full", help="a name for --set")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="keys of ModelConfig, or of the baseline"
    )
    parser.add_argument("--training", nargs="*", default=[], metavar="KEY=VALUE", help="the same of TrainingConfig")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--epochs", type=int, help="cap; default: the market's, else the method's own")
    parser.add_argument("--tier", help="recorded with the run; default: the market's, else gpu on a GPU, else cpu")
    parser.add_argument("--tensors", type=Path, help="default: data/interim/<market>/tensors.npz")
    parser.add_argument("--out", type=Path, help="run store; default: reports/<market>/runs/<stage of the method>")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args(argv)
    if args.threads < 1:
        sys.exit(f"--threads is {args.threads}; it must be an integer from 1 up: leave it out for all cores")
    if not 0 <= args.seed < 2**63:
        sys.exit(f"--seed is {args.seed}; it must be an integer from 0 up, such as 0, 1, 2")
    torch.set_num_threads(args.threads)
    try:
        paths = MarketPaths(args.market)
        tensors = Tensors.load(args.tensors or paths.interim / "tensors.npz")
        if tensors.market != args.market:
            raise ValueError(f"the tensor file is of market {tensors.market}, not {args.market}: name the right one")
        stage = "model" if args.method in PRESETS else "deep_baselines"
        listed, tier = market_settings(paths, stage, args.method, args.variant, args.seed)
        settings = ({"epochs": args.epochs} if args.epochs is not None else {}) | dict(map(_setting, args.training))
        if settings.get("epochs", 1) < 1:
            raise ValueError(f"the cap of epochs is {settings['epochs']}; it must be an integer from 1 up")
        overrides = listed["overrides"] | dict(map(_setting, args.set))
        job = Job(args.method, args.variant, args.seed, overrides, listed["training"] | settings)
        store = RunStore(args.out or paths.runs(stage))
        scratch = (args.out or paths.interim) / "unfinished"
        tier = args.tier or tier or ("gpu" if choose_device(args.device).type == "cuda" else "cpu")
        weights = (args.out / "checkpoints" if args.out else paths.checkpoints) / f"{args.method}.safetensors"
        keep = None
        if listed["keep"] and (job.overrides, job.training) == (listed["overrides"], listed["training"]):
            keep = keep_of(tensors, *listed["keep"], weights)  # no other run may take the committed weights' place
        key = train_one(tensors, job, store, device=args.device, tier=tier, scratch=scratch, keep=keep)
        print(store.path(key))
    except (TrainingError, ValueError, OSError) as error:
        sys.exit(str(error))


def _setting(text: str) -> tuple[str, Any]:
    """`top_k=10` as ("top_k", 10); true and false in any case. Raises ValueError for nan and infinity."""
    key, _, value = text.partition("=")
    for read in (int, float):
        try:
            number = read(value)
        except ValueError:
            continue
        if not math.isfinite(number):
            raise ValueError(f"{text}: give a finite number")
        return key, number
    return key, {"true": True, "false": False}.get(value.lower(), value)


if __name__ == "__main__":
    main()
