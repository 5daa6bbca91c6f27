"""Run a numbered notebook as a DVC stage: `python -m anomaly_routing.runner STAGE [--params params.yaml]`.

Stage = notebook = section of the parameter file: stage `data` runs `notebooks/01_data.ipynb` with the entries of
`market` that the notebook asks for and all entries of `data`. The executed copy is written to a temporary name, freed
of what changes from run to run, and renamed; when a cell fails, the old report stays and the broken copy is left under
`tmp/` for a look.
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml

from anomaly_routing.files import replacing
from anomaly_routing.paths import MarketPaths, repository
from anomaly_routing.plots import in_palette

ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
CURSOR_UP = "\x1b[A"
VOLATILE = ("papermill", "execution", "widgets")
INDENT = re.compile(r"\s*\n\s*(?=</?(?:table|thead|tbody|tr|th|td)\b)")  # of a table's markup: a third of its bytes


def notebook_of(stage: str, root: Path) -> Path:
    """`notebooks/NN_<stage>.ipynb`."""
    found = sorted((root / "notebooks").glob(f"[0-9][0-9]_{stage}.ipynb"))
    if len(found) != 1:
        raise FileNotFoundError(
            f"stage {stage!r} needs exactly one notebook named NN_{stage}.ipynb, found {len(found)}"
        )
    return found[0]


def parameters_for(notebook: Path, params: dict[str, Any], stage: str) -> dict[str, Any]:
    """What to inject. A key that the notebook does not declare is an error (papermill would only warn)."""
    declared = set(papermill.inspect_notebook(str(notebook)))
    own = params.get(stage) or {}
    unknown = sorted(set(own) - declared)
    if unknown:
        raise KeyError(
            f"{notebook.name} has no parameter {', '.join(unknown)}; it declares {', '.join(sorted(declared))}"
        )
    shared = params["market"] | {"market_seed": (params.get("data") or {}).get("seed")}
    return {k: v for k, v in shared.items() if k in declared} | own


def clean(nb: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Without what differs between two equal runs: timings, random cell ids, progress bars; pictures, tables lean."""
    for name in VOLATILE:
        nb.metadata.pop(name, None)
    for number, cell in enumerate(nb.cells):
        for name in VOLATILE:
            cell.metadata.pop(name, None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = "injected-parameters"
        elif "id" not in cell:
            cell.id = f"cell-{number}"
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if not _is_progress(o)]
            for data in (o.data for o in cell.outputs if "image/png" in o.get("data", {})):
                data["image/png"] = base64.b64encode(in_palette(base64.b64decode(data["image/png"]))).decode()
            for data in (o.data for o in cell.outputs if "text/html" in o.get("data", {})):
                data["text/html"] = INDENT.sub("", data["text/html"])
    return nb


def _is_progress(output: nbformat.NotebookNode) -> bool:
    """A progress bar returns the carriage, ends with an empty line or lifts the cursor; a warning does none of it."""
    stderr = output.output_type == "stream" and output.name == "stderr"
    return stderr and ("\r" in output.text or not output.text.replace(CURSOR_UP, "").strip())


def run_stage(stage: str, params_file: Path) -> Path:
    """Execute the notebook of a stage; returns the report's path."""
    root = repository()
    params = yaml.safe_load(params_file.read_text(encoding="utf-8"))
    notebook = notebook_of(stage, root)
    report = MarketPaths(params["market"]["name"], root).reports / "notebooks" / notebook.name
    values = parameters_for(notebook, params, stage)
    print(f"{notebook.name} for market {params['market']['name']}", file=sys.stderr, flush=True)
    with replacing(report) as partial:
        try:
            papermill.execute_notebook(
                str(notebook), str(partial), values, kernel_name="python3", cwd=str(root), stderr_file=sys.stderr
            )
        except papermill.PapermillExecutionError:
            broken = root / "tmp" / notebook.name
            broken.parent.mkdir(exist_ok=True)
            shutil.copy(partial, broken)
            print(f"the failed copy is {broken.relative_to(root)}; the last report is untouched", file=sys.stderr)
            raise
        nbformat.write(clean(nbformat.read(partial, as_version=4)), partial)
    return report


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parser.parse_args(argv)
    for name in ONE_THREAD:  # small nets lose by a second thread; a run is then the same on any number of cores
        os.environ.setdefault(name, "1")
    try:
        run_stage(args.stage, args.params)
    except (papermill.PapermillExecutionError, FileNotFoundError, KeyError) as error:
        sys.exit(f"{args.stage}: {error}")


if __name__ == "__main__":
    main()
