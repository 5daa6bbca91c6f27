"""The house itself: environment files in step, nothing foreign or large in git, a README true to the reports."""

from __future__ import annotations

import ast
import json
import re
import string
import subprocess
import sys
import tomllib

import pytest
import yaml

from anomaly_routing import cards
from anomaly_routing.prose import NAMES
from anomaly_routing.readme import END, START, SUMMARY_END, SUMMARY_START, two_minutes, with_headline
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import environment

TEXT = {".py", ".md", ".yaml", ".yml", ".toml", ".ipynb", ".csv", ".json", ".txt", ".lock", ".cfg", ".svg", ""}


def tracked() -> list:
    out = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in out.split("\0") if name and (ROOT / name).exists()]


def test_the_public_interface_is_where_readers_look():
    from anomaly_routing.evaluation import evaluate_daily
    from anomaly_routing.features import compute_features

    assert callable(compute_features) and callable(evaluate_daily)


def test_environment_yml_is_in_step():
    assert (ROOT / "environment.yml").read_text() == environment.environment(), "run `make lock`"


def test_the_lock_is_hashed_exact_and_without_torch():
    lock = (ROOT / "requirements.lock").read_text()
    pins = re.findall(r"^[A-Za-z0-9._-]+==\S+", lock, flags=re.M)
    assert len(pins) > 100 and lock.count("--hash=sha256:") > len(pins)
    assert not re.search(r"^(torch==|nvidia|triton)", lock, flags=re.M)
    assert "://" not in lock
    assert re.search(r"^torch==\d", (ROOT / "constraints.txt").read_text(), flags=re.M)


def test_everything_that_is_asked_for_is_locked():
    missing = set(environment.direct()) - set(environment.locked())
    assert not missing


def test_the_repository_stays_small():
    sizes = {path: path.stat().st_size for path in tracked()}
    assert sum(sizes.values()) < 40e6
    assert [str(p) for p, size in sizes.items() if size > 5e6] == []
    runs = [p for p in sizes if p.suffix == ".npz" and "runs" in p.parts]
    assert all(sizes[p] <= 600_000 for p in runs)


def test_no_machine_path_and_no_price_panel_in_git():
    paths = re.compile(r"(?<![\w.])/(?:home|root|Users|work|tmp)/[\w.-]+/")
    for path in tracked():
        if path.suffix in TEXT and path != ROOT / "tests" / "test_notebooks.py":
            text = path.read_text(encoding="utf-8", errors="ignore")
            assert not paths.search(text), f"{path}: {paths.search(text).group()}"
        assert not (path.suffix in {".parquet", ".csv"} and path.stem == "prices"), path
        assert path.relative_to(ROOT).parts[0] != "data", path


def test_the_readme_says_what_the_reports_say():
    text = (ROOT / "README.md").read_text()
    assert text.count(START) == 1 and text.count(END) == 1
    assert with_headline(text, ROOT) == text, "run `make readme`"


def test_the_readme_opens_with_the_generated_summary():
    """What stands before the first section comes from the ledger; around it no number is typed."""
    opening = (ROOT / "README.md").read_text().split("\n## ")[0]
    before, rest = opening.split(SUMMARY_START)
    made, after = rest.split(SUMMARY_END)
    assert made.strip() == two_minutes(ROOT).strip(), "run `make readme`"
    assert before.startswith("# ") and not re.search(r"\d", NAMES.sub("", before + after))


# digits of the README that are names or needs of the machine: versions, notebooks, tables, an index
ALLOWED = re.compile(
    r"Python \d\.\d+|about \d GB|x86-64|\bt\+1\b|Notebook \d\d|\b(?:0\d|1[0-2])(?= [a-z])|Tables [\d, ]+and \d"
)


def test_no_result_is_typed_in_the_readme():
    """Outside generated parts, code and links, a digit is the name of something or a need of the machine."""
    text = (ROOT / "README.md").read_text()
    for pattern in (r"<!-- (\w+): written by make readme -->.*?<!-- end of \1 -->", r"```.*?```"):
        text = re.sub(pattern, "", text, flags=re.S)
    prose = ALLOWED.sub("", NAMES.sub("", re.sub(r"\]\([^)]*\)", "]", text)))
    assert re.findall(r".{0,30}\d.{0,10}", prose) == []
    assert re.search(r"\d", ALLOWED.sub("", "12 of 13 events, 30 epochs"))


def test_no_number_is_typed_in_a_template(tmp_path):
    templates = sorted((ROOT / cards.TEMPLATES).glob("*.md"))
    assert len(templates) >= 4
    for path in templates:
        literal = "".join(text for text, *_ in string.Formatter().parse(path.read_text()))
        assert not re.search(r"\d", NAMES.sub("", literal)), path
    (tmp_path / cards.TEMPLATES).mkdir(parents=True)
    (tmp_path / cards.TEMPLATES / "bad.md").write_text("12 of {n} events")
    with pytest.raises(ValueError, match="the number 12 is typed"):
        cards.filled(tmp_path, "bad.md", n=13)


def test_model_card_and_checklist_say_what_the_reports_say():
    made = (ROOT / "reports" / cards.MARKET / "tables" / "claims.csv").exists()
    for name, make in cards.FILES.items():
        assert (ROOT / name).exists() == made, "run `make readme`"
        assert not made or (ROOT / name).read_text() == make(ROOT), "run `make readme`"


def test_the_citation_is_complete_and_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"cff-version", "message", "title", "authors", "references"} <= set(citation)
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    paper = citation["references"][0]
    assert "2510.17088v1" in paper["identifiers"][0]["value"] and paper["url"].endswith("/2510.17088v1")
    assert [(a["given-names"], a["family-names"]) for a in paper["authors"]] == [("Zan", "Li"), ("Rui", "Fan")]


def test_the_teachers_sheet_has_every_notebook():
    sheet = (ROOT / "docs" / "TEACHING.md").read_text()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        name = path.stem.replace("_", " ")
        assert f"| {name} |" in sheet and f"**{name}.**" in sheet, f"docs/TEACHING.md lacks {name}"


def test_answers_that_stand_in_the_notebook_do():
    """Each exercise of such a notebook has its answer in the same cell or in one after it; the others have one here."""
    sheet = (ROOT / "docs" / "TEACHING.md").read_text().split("## Worked answers")[1]
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        texts = ["".join(cell["source"]) for cell in cells]
        start = next(k for k, text in enumerate(texts) if "**Exercises.**" in text)
        asked = len(
            re.findall(r"\(\d\)\s", re.split(r"\*\*Worked answers", texts[start].split("**Exercises.**")[1])[0])
        )
        own = re.search(rf"\*\*{path.stem.replace('_', ' ')}\.\*\*(.*?)(?=\n\*\*|$)", sheet, re.S).group(1)
        if "stand in the notebook" not in own:
            assert len(re.findall(r"\(\d\)\s", own)) == asked, f"{path.stem}: answers in docs/TEACHING.md"
            continue
        after = "\n".join(texts[start:]).split("**Exercises.**")[1]
        inline = after.count("*Answer:")
        worked = (
            len(re.findall(r"\(\d\)\s", after.split("**Worked answers.**")[1])) if "**Worked answers.**" in after else 0
        )
        ordinals = len(re.findall(r"\b(?:First|Second|Third)[.:] ", after))
        assert asked in (inline, worked, ordinals), f"{path.stem}: {asked} exercises, no {asked} answers after them"


@pytest.mark.parametrize("path", sorted((ROOT / "src").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT / "src")))
def test_a_module_is_read_in_one_sitting(path):
    assert path.read_text().count("\n") <= 350
    assert path.name == "__init__.py" or path.read_text().lstrip().startswith('"""')


def test_layers_do_not_reach_up():
    """DESIGN 2: data, features, baselines know nothing of evaluation; evaluation knows nothing of them."""
    package = ROOT / "src" / "anomaly_routing"
    rules = {
        "audit": ("baselines", "data", "features", "detect", "scoreboard", "runs", "model", "ledger"),
        "data": ("evaluation", "baselines", "detect", "scoreboard"),
        "features": ("evaluation", "baselines", "data", "detect", "scoreboard"),
        "baselines": ("evaluation", "data", "detect", "scoreboard"),
        "evaluation": ("baselines", "data", "features", "detect", "scoreboard", "runs"),
    }
    for layer, forbidden in rules.items():
        for path in (package / layer).rglob("*.py"):
            for name in forbidden:
                wrong = re.search(rf"^\s*(from|import) (anomaly_routing\.|\.\.+){name}\b", path.read_text(), flags=re.M)
                assert not wrong, f"{path}: {wrong.group()}"
    reads = re.compile(r"[\"']params\.yaml[\"']")  # only notebooks and commands read the knobs; layers are given values
    assert not any(reads.search(p.read_text()) for layer in rules for p in (package / layer).rglob("*.py"))


# --- a stage depends on what it imports ------------------------------------------------------------------------------
def _imported(code: str) -> set[str]:
    """Dotted names of this package that a piece of code imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.startswith("anomaly_routing.")}


def _files_reached(code: str) -> set[str]:
    """Every module file that the code imports, directly or through others."""
    seen: set[str] = set()
    todo = list(_imported(code))
    while todo:
        path = (ROOT / "src").joinpath(*todo.pop().split("."))
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            name = str(file.relative_to(ROOT))
            if file.exists() and name not in seen:
                seen.add(name)
                todo += _imported(file.read_text())
                if name == "src/anomaly_routing/ledger/registry.py":  # it loads every file of deciders
                    todo += [f"anomaly_routing.ledger.deciders.{p.stem}" for p in file.parent.glob("deciders/*.py")]
    return seen


STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_every_module_that_its_notebook_imports(stage):
    notebook = next((ROOT / "notebooks").glob(f"[0-9][0-9]_{stage}.ipynb"))
    cells = json.loads(notebook.read_text())["cells"]
    code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    deps = STAGES[stage]["deps"]
    assert str(notebook.relative_to(ROOT)) in deps
    missing = {f for f in _files_reached(code) if not any(f == d or f.startswith(f"{d}/") for d in deps)}
    assert not missing, f"add to the deps of {stage}: {sorted(missing)}"
