"""Write environment.yml from constraints.txt, pyproject.toml and requirements.lock: `python tools/environment.py`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEADER = "# For conda users; written by `make lock`. The pins are those of requirements.lock and constraints.txt.\n"


def normal(name: str) -> str:
    """Package names are compared without case, dots and underscores."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, str]:
    """Name -> exact version in requirements.lock, for Python 3.11."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)(.*)$", text, flags=re.M)
    return {normal(name): version for name, version, marker in pins if ">= '3.12'" not in marker}


def direct() -> list[str]:
    """What pyproject.toml asks for, extras of development included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = project["dependencies"] + project["optional-dependencies"]["dev"]
    return sorted({normal(re.split(r"[\[<>=!~ ;]", a)[0]) for a in asked})


def environment() -> str:
    """The whole file."""
    versions = locked()
    torch = re.search(r"^torch==\S+", (ROOT / "constraints.txt").read_text(encoding="utf-8"), flags=re.M).group()
    pins = [torch] + [f"{name}=={versions[name]}" for name in direct()]
    lines = ["name: anomaly-routing", "dependencies:", "  - python=3.11", "  - pip", "  - make", "  - git", "  - pip:"]
    return HEADER + "\n".join(lines + [f"      - {pin}" for pin in pins] + ["      - --editable .", ""])


if __name__ == "__main__":
    (ROOT / "environment.yml").write_text(environment(), encoding="utf-8")
