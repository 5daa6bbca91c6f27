"""The measurements of `model.py` in lines, beside what the paper says of its own speed and size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anomaly_routing.model.network import MODULES

CLAIMS = Path(__file__).resolve().parents[1] / "paper" / "claims.yaml"


def paper_values(claims: Path = CLAIMS) -> dict[str, Any]:
    """What the paper says of its speed and size (Table 5, appendix C)."""
    import yaml

    value = {c["id"]: c.get("value") for c in yaml.safe_load(claims.read_text(encoding="utf-8"))["claims"]}
    return {
        "module_share_percent": {name: value[f"T5.m{k}.pct"] for k, name in enumerate(MODULES, start=1)},
        "epoch_seconds": value["T5.total.sec"],
        "training_minutes": value["T5.train_min"],
        "operations": value["C.ops"],
        "activation_floats": value["C.act.total"],
    }


def rounded(content: Any) -> Any:
    """Floats to four significant digits, at any depth."""
    if isinstance(content, dict):
        return {key: rounded(value) for key, value in content.items()}
    return float(f"{content:.4g}") if isinstance(content, float) else content


def table(record: dict[str, Any], paper: dict[str, Any] | None = None) -> str:
    """A record of `model.measure` in lines; the last column is the paper's figure."""
    fast, plain, whole, count = (record[name] for name in ("ours", "reference", "epoch", "counts"))
    said = paper or dict.fromkeys(("epoch_seconds", "training_minutes", "operations", "activation_floats"))
    shares = said.get("module_share_percent", {})
    rows = [
        ("a training step", _cost(fast), None),
        ("the plain reference", f"{record['reference_over_ours']:.1f} times as long", None),
        ("its memory", f"{plain['peak_gib']:.2f} GiB", None),
        ("an epoch, seconds", f"{whole['training_seconds']:.3g}", said["epoch_seconds"]),
        ("the same with both validations", f"{whole['seconds']:.3g}", None),
    ]
    rows += [(f"{m}, % of the modules", f"{whole['module_share_percent'][m]:.1f}", shares.get(m)) for m in MODULES]
    rows += [(f"a step of {n} stocks", _cost(part), None) for n, part in record["sizes"].items()]
    for name, slopes in record["growth"].items():
        rows.append((f"growth of {name}", ", ".join(f"{span}: {slope:.2f}" for span, slope in slopes.items()), None))
    for matmul, part in record["floor"].items():
        rows.append((f"arithmetic floor, {matmul}", f"{part['share_of_training_pass']:.1%} of the pass", None))
    for label, kind, key in (
        ("operations a session", "multiply_accumulates", ""),
        ("the same as printed", "multiply_accumulates_as_printed", "operations"),
        ("activations a session as printed", "activation_floats_as_printed", "activation_floats"),
    ):
        rows.append((label, f"{sum(count[kind].values()):.3g}", said.get(key)))
    if "training" in record:
        done = record["training"]
        rows.append(("a training, minutes", f"{done['seconds'] / 60:.2f} ({done['epochs']} epochs)",
                     said["training_minutes"]))  # fmt: skip
    head = f"{record['device']}, torch {record['torch']}, {record['market']}, {record['stocks']} stocks"
    return "\n".join([f"the full model on {head}", *(f"  {what:<36}{got:<44}{_beside(it)}" for what, got, it in rows)])


def _cost(part: dict[str, Any]) -> str:
    return f"{part['step_seconds']:.3g} s, {part['peak_gib']:.2f} GiB"


def _beside(figure: Any) -> str:
    if figure is None:
        return ""
    return f"paper: {'-'.join(map(str, figure)) if isinstance(figure, list) else figure}"
