// The ledger's page: filter and sort rows of claims. No library; `visible` has no DOM and is tested with node.
const MAY_LACK = ["paper", "unit", "ours", "interval", "qualifier", "reason", "mark", "audit", "how"];

function visible(rows, state) {
  const words = (state.text || "").toLowerCase().split(/\s+/).filter(Boolean);
  const kept = rows.filter(
    (row) =>
      (!state.verdict || row.verdict === state.verdict) &&
      (!state.kind || row.kind === state.kind) &&
      (!state.source || row.source === state.source) &&
      words.every((word) => row.search.includes(word)),
  );
  if (!state.key) return kept;
  const sign = state.down ? -1 : 1;
  const numeric = (value) => (value === "" || value === null ? NaN : Number(String(value).replace(/,/g, "")));
  return kept
    .map((row, place) => [row, place])
    .sort(([a, i], [b, j]) => {
      const [x, y] = [numeric(a[state.key]), numeric(b[state.key])];
      if (!Number.isNaN(x) && !Number.isNaN(y) && x !== y) return sign * (x - y);
      if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1; // numbers first, either way round
      const order = String(a[state.key]).localeCompare(String(b[state.key]));
      return order ? sign * order : i - j;
    })
    .map(([row]) => row);
}

function cells(row) {
  const code = row.link.split("/").pop().replace("#L", ":");
  return [
    ["id", row.id],
    ["claim", row.claim],
    ["kind", row.kind],
    ["paper", [row.paper, row.unit].filter(Boolean).join(" ")],
    ["ours", row.ours + (row.interval ? ` [${row.interval}]` : "")],
    ["verdict", row.verdict + (row.qualifier ? ` (${row.qualifier})` : "")],
    ["reason", [row.reason, row.mark].filter(Boolean).join("; ")],
    ["with", row.how],
    ["code", code, row.link],
  ];
}

function start(document) {
  const rows = JSON.parse(document.getElementById("rows").textContent);
  for (const row of rows) {
    for (const key of MAY_LACK) row[key] ??= "";
    row.search = Object.values(row).join(" ").toLowerCase();
    row.line = Number(row.link.split("#L")[1]);
  }
  const state = {};
  const body = document.querySelector("tbody");
  const draw = () => {
    const shown = visible(rows, state);
    body.replaceChildren(
      ...shown.map((row) => {
        const line = document.createElement("tr");
        line.className = row.verdict.replace(/ /g, "-");
        for (const [name, text, href] of cells(row)) {
          const cell = document.createElement("td");
          cell.className = name;
          if (href) {
            const link = document.createElement("a");
            link.href = href;
            link.textContent = text;
            cell.append(link);
          } else cell.textContent = text;
          line.append(cell);
        }
        return line;
      }),
    );
    document.getElementById("count").textContent = `${shown.length} of ${rows.length} claims`;
  };
  for (const name of ["verdict", "kind", "source"]) {
    const choice = document.getElementById(name);
    for (const value of [...new Set(rows.map((row) => row[name]))]) {
      const option = document.createElement("option");
      option.value = option.textContent = value;
      choice.append(option);
    }
    choice.addEventListener("change", () => ((state[name] = choice.value), draw()));
  }
  const text = document.getElementById("text");
  text.addEventListener("input", () => ((state.text = text.value), draw()));
  for (const head of document.querySelectorAll("th[data-key]")) {
    const by = () => {
      state.down = state.key === head.dataset.key && !state.down;
      state.key = head.dataset.key;
      for (const other of document.querySelectorAll("th[data-key]")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      draw();
    };
    head.addEventListener("click", by);
    head.addEventListener("keydown", (event) => (event.key === "Enter" || event.key === " ") && by());
  }
  draw();
}

if (typeof document !== "undefined") start(document);
if (typeof module !== "undefined") module.exports = { visible, cells, start };
