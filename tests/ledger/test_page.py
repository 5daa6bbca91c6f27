"""The static page: complete, closed to the outside; its script sorts and filters (tried with node, if it is there)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pandas as pd
import pytest

from anomaly_routing.files import read_json
from anomaly_routing.ledger import build, page
from anomaly_routing.ledger.sources import PAPER_MARKET, Sources
from anomaly_routing.paths import MarketPaths
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    """The ledger of a bare clone, written."""
    folder = tmp_path_factory.mktemp("ledger")
    sources = Sources(MarketPaths(PAPER_MARKET, folder), ROOT / "paper", methods={})
    table = build.ledger(sources)
    page.write_ledger(table, sources.paths.reports, PAPER_MARKET)
    return table, sources.paths.reports


def rows_of(text: str) -> list[dict]:
    return json.loads(re.search(r'<script type="application/json" id="rows">(.*?)</script>', text, re.S).group(1))


def test_all_files_say_the_same(ledger):
    table, reports = ledger
    again = pd.read_csv(reports / "tables" / "claims.csv", keep_default_na=False)
    assert list(again.id) == list(table.id) and list(again.verdict) == list(table.verdict)
    machine = read_json(reports / "tables" / "claims.json")["claims"]
    assert {name: row["verdict"] for name, row in machine.items()} == dict(zip(table.id, table.verdict, strict=True))
    assert [row["id"] for row in rows_of((reports / "claims.html").read_text())] == list(table.id)
    assert (reports / "claims.md").read_text().count("\n| [`") == len(table)


def test_the_page_asks_for_nothing_from_outside(ledger):
    _, reports = ledger
    text = (reports / "claims.html").read_text()
    shell = text.replace(re.search(r'id="rows">(.*?)</script>', text, re.S).group(1), "")
    assert not re.search(r"https?:|//[a-z]|\bsrc=|@import|\burl\(|fetch\(|<link", shell)
    assert text.count("<script") == 2 and "$" not in re.sub(r"\$\{|\$heads|`[^`]*`", "", shell.split("<script>")[0])


def test_every_form_tells_why_and_with_what():
    """JSON and list carry reason, seeds, tier and what the ends are, not the page alone."""
    row = {
        "id": "T2.full.hits",
        "claim": "hits",
        "kind": "detection",
        "source": "the paper",
        "paper": "12",
        "unit": "events",
    }
    row |= {
        "ours": "6",
        "verdict": "differs",
        "qualifier": "",
        "interval": "lowest and highest seed",
        "low": 5.0,
        "high": 7.0,
    }
    row |= {"n_seeds": 2, "tier": "cpu", "protocol": "paper", "device": "cpu", "chance_p": None, "paired_p": None}
    row |= {
        "reason": "by seed: 5 7",
        "result": "hits of full",
        "stage": "model",
        "mark": "",
        "audit": "A21",
        "group": "detection",
    }
    table = pd.DataFrame([row | {"file": "src/x.py", "line": 3}])
    text = page.as_list(table, "us100")
    assert "6 [5 to 7, lowest and highest seed]" in text and "tier cpu, 2 seeds, protocol paper; by seed: 5 7" in text
    assert rows_of(page.as_page(table, "us100"))[0]["interval"] == "5 to 7, lowest and highest seed"
    assert page.interval(page.records(table.assign(interval="95%"))[0]) == "5 to 7"


def test_the_machine_file_carries_the_reasons(ledger):
    table, reports = ledger
    machine = read_json(reports / "tables" / "claims.json")["claims"]
    for row in table.to_dict("records"):
        own = machine[row["id"]]
        assert own.get("reason", "") == row["reason"] and own.get("unit", "") == row["unit"]
        assert own.get("stage", "") == row["stage"]


def test_links_lead_to_the_deciding_line(ledger):
    _, reports = ledger
    for row in rows_of((reports / "claims.html").read_text()):
        target, line = row["link"].split("#L")
        path = (ROOT / "reports" / PAPER_MARKET / target).resolve()
        assert path.is_file() and int(line) <= path.read_text().count("\n"), row


FAKE = """
const { visible, start } = require(process.argv[2]);
const rows = JSON.parse(require("fs").readFileSync(process.argv[3], "utf8"));
class Node {
  constructor(tag) { Object.assign(this, { tag, children: [], dataset: {}, on: {}, value: "", attributes: {} }); }
  append(...nodes) { this.children.push(...nodes); }
  replaceChildren(...nodes) { this.children = nodes; }
  addEventListener(name, f) { this.on[name] = f; }
  setAttribute(name, value) { this.attributes[name] = value; }
  removeAttribute(name) { delete this.attributes[name]; }
}
const ids = {};
for (const id of ["rows", "verdict", "kind", "source", "text", "count"]) ids[id] = new Node(id);
ids.rows.textContent = JSON.stringify(rows);
const body = new Node("tbody");
const heads = ["id", "paper", "ours", "line"].map((key) => Object.assign(new Node("th"), { dataset: { key } }));
start({ getElementById: (id) => ids[id], createElement: (tag) => new Node(tag),
        querySelector: () => body, querySelectorAll: () => heads });
const column = (k) => body.children.map((line) => line.children[k].textContent);
const texts = body.children.flatMap((line) => line.children.map((c) => c.textContent ?? c.children[0].textContent));
const blank = texts.filter((text) => /undefined|null|NaN/.test(text));
heads[3].on.click();
const lines = body.children.map((line) => Number(line.children[8].children[0].textContent.split(":")[1]));
const out = { blank, lines, all: body.children.length,
              count: ids.count.textContent, options: ids.verdict.children.length };
ids.verdict.value = "not run"; ids.verdict.on.change(); out.notRun = body.children.length;
ids.kind.value = "lead_time"; ids.kind.on.change(); out.notRunLeads = body.children.length;
ids.text.value = "tranad"; ids.text.on.input(); out.one = column(0);
out.link = body.children[0].children.at(-1).children[0].href;
for (const id of ["verdict", "kind", "text"]) { ids[id].value = ""; (ids[id].on.change || ids[id].on.input)(); }
heads[0].on.click(); out.first = column(0)[0]; heads[0].on.click(); out.last = column(0)[0];
out.sorted = heads[0].attributes["aria-sort"];
const made = ["10", "9", "abc", "1,000", ""].map((v) => ({ v, search: v }));
out.numbers = visible(made, { key: "v" }).map((row) => row.v);
out.down = visible(made, { key: "v", down: true }).map((row) => row.v);
console.log(JSON.stringify(out));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="the page's script needs node to be tried without a browser")
def test_the_script_sorts_and_filters(ledger, tmp_path):
    table, reports = ledger
    (tmp_path / "try.js").write_text(FAKE)
    (tmp_path / "rows.json").write_text(json.dumps(rows_of((reports / "claims.html").read_text())))
    script = ROOT / "src" / "anomaly_routing" / "ledger" / "page.js"
    done = subprocess.run(["node", "try.js", str(script), "rows.json"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout)
    waiting = table[table.verdict == "not run"]
    assert out["all"] == len(table) and out["count"] == f"{len(table)} of {len(table)} claims"
    assert out["options"] == table.verdict.nunique() and out["notRun"] == len(waiting)
    assert out["blank"] == [] and out["lines"] == sorted(table.line)
    assert out["notRunLeads"] == (waiting.kind == "lead_time").sum() and out["one"] == ["T1.tranad.lead"]
    assert out["link"].startswith("../../src/anomaly_routing/ledger/deciders/detection.py#L")
    assert out["first"] == "ABS.detection" and out["last"].startswith("Z002") and out["sorted"] == "descending"
    assert out["numbers"] == ["9", "10", "1,000", "", "abc"] and out["down"] == ["1,000", "10", "9", "abc", ""]
