"""Each neural detector on its authors' data: `python -m benchmarks.peers --data FOLDER` (behind `make peers`).

Writes reports/peers.json, one part a module, as soon as it is done. `--only` renews some parts. The
folder holds cora.npz, memstream_syn.npz and smap_p1.npz; the parts that simulate their data need none.

A row's `known` says what its `published` figure is: "published", "authors' code, run again", "true value" of a
simulation, "measured before" by us; "" where there is none.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src")]

from anomaly_routing.files import read_json, write_json  # noqa: E402

PARTS = {"memstream": "memstream_syn.npz", "tranad": "smap_p1.npz", "cora": "cora.npz", "vmf": "", "hawkes": ""}
TARGET = ROOT / "reports" / "peers.json"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the authors' data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    args = parser.parse_args(argv)
    if missing := [
        file for part, file in PARTS.items() if part in args.only and file and not (args.data / file).exists()
    ]:
        sys.exit(
            f"{args.data} lacks {', '.join(missing)}: give the folder that holds them, or choose parts with --only"
        )
    found = read_json(TARGET) if TARGET.exists() else {}
    for part in args.only:
        started = time.perf_counter()
        rows = importlib.import_module(f"benchmarks.peers.{part}").run(args.data, args.seeds)
        found[part] = {
            "rows": rows,
            "seconds": round(time.perf_counter() - started, 1),
            "device": f"{os.cpu_count()} {platform.machine()} cores",
            "torch": torch.__version__,
        }
        write_json(TARGET, found)
        print(f"{part}: {len(rows)} rows, {found[part]['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
