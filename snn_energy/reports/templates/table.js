/* The table of operations: sort, filter, hide zeros, copy. */
"use strict";
const TEX = { "\\": "\\textbackslash{}", "&": "\\&", "%": "\\%", "$": "\\$", "#": "\\#", "_": "\\_", "{": "\\{", "}": "\\}",
  "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "µ": "\\textmu{}", "±": "$\\pm$", "×": "$\\times$", "–": "--", "…": "\\ldots{}" };
const latexCell = (text) => [...text].map((c) => TEX[c] || c).join("").replace(/^(?=\s*[[*])/, "{}");
const markdownCell = (text) => text.replace(/([`*|[\]$~]|\\(?=[!-/:-@[-`{-~])|(?<![\p{L}\p{N}_])_|_(?![\p{L}\p{N}_]))/gu, "\\$1")
  .replace(/&(?=#|\w+;)/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

function csvCell(value) {
  if (typeof value !== "string") return value === null ? "" : String(value);
  const safe = /^\s*[=+\-@＝＋－＠]/.test(value) ? `'${value}` : value;
  return /[",\n\r]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
}

function startTable(page) {
  const table = document.getElementById("every"), body = table.tBodies[0], lines = [...body.rows];
  const heads = [...table.tHead.rows[0].cells], filter = document.getElementById("filter"), zeros = document.getElementById("zeros");

  /** The raw value behind a cell. */
  const value = (line, key) => {
    const i = Number(line.dataset.row), row = measuredOf(page.profile).rows[i], energy = page.energy.rows[i], samples = page.profile.samples;
    const found = {
      name: row.name || "(model)", op: row.site ? `${row.op} ${row.site + 1}` : row.op,
      input_kind: row.input_kind + (row.right_kind ? ` × ${row.right_kind}` : ""),
      input_rate: row.input_read ? row.input_nonzero / (row.input_elements || 1) : null,
      output_rate: row.neuron_cmp ? row.output_nonzero / (row.output_elements || 1) : null,
      dense: row.dense_macs / samples, ac: energy.ac, mac: energy.mac, pj: energy.pj,
      share: page.energy.pj ? energy.pj / page.energy.pj : 0,
    };
    return found[key];
  };

  const show = () => {
    const wanted = filter.value.trim().toLowerCase();
    let shown = 0;
    for (const line of lines) {
      const text = `${value(line, "name")} ${value(line, "op")} ${value(line, "input_kind")}`.toLowerCase();
      line.hidden = !text.includes(wanted) || (zeros.checked && !value(line, "pj"));
      shown += !line.hidden;
    }
    document.getElementById("shown").textContent = `${shown} of ${lines.length} operations`;
  };

  const sort = (head) => {
    const key = head.dataset.key, was = head.getAttribute("aria-sort");
    const text = head.classList.contains("text"), first = text ? "ascending" : "descending", second = text ? "descending" : "ascending";
    const next = was === first ? second : was === second ? null : first;
    for (const other of heads) other.removeAttribute("aria-sort");
    if (next) head.setAttribute("aria-sort", next);
    const sign = next === "descending" ? -1 : 1, nothing = (v) => v === null;
    const ordered = next === null ? lines : [...lines].sort((a, b) => {
      const x = value(a, key), y = value(b, key);
      if (nothing(x) || nothing(y)) return nothing(x) - nothing(y);
      return sign * (typeof x === "string" ? (x < y ? -1 : x > y ? 1 : 0) : x - y);
    });
    body.append(...ordered);
  };

  for (const head of heads) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(head));
    head.replaceChildren(button);
  }

  const copied = {
    csv: () => [heads.map((h) => h.dataset.key), ...shownLines().map((l) => heads.map((h) => value(l, h.dataset.key)))]
      .map((cells) => cells.map(csvCell).join(",")).join("\n") + "\n",
    latex: () => {
      const spec = heads.map((h) => (h.classList.contains("text") ? "l" : "r")).join("");
      const cells = (texts) => texts.map(latexCell).join(" & ") + " \\\\";
      return [`\\begin{tabular}{${spec}}`, "\\toprule", cells(titles()), "\\midrule", ...shownLines().map((l) => cells(texts(l))),
        "\\bottomrule", "\\end{tabular}", `% ${caption()}`].join("\n") + "\n";
    },
    markdown: () => {
      const cells = (texts) => `| ${texts.map(markdownCell).join(" | ")} |`;
      const rule = `| ${heads.map((h) => (h.classList.contains("text") ? "---" : "---:")).join(" | ")} |`;
      return [cells(titles()), rule, ...shownLines().map((l) => cells(texts(l))), "", markdownCell(caption())].join("\n") + "\n";
    },
  };
  const shownLines = () => [...body.rows].filter((line) => !line.hidden);
  const titles = () => heads.map((h) => h.textContent);
  const texts = (line) => [...line.cells].map((cell) => cell.textContent);
  const caption = () => `${page.profile.model}: convention ${page.convention}, prices ${page.prices}; means per sample`;

  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      const text = copied[button.dataset.copy](), place = document.getElementById("copied");
      place.value = text;
      place.hidden = false;
      try {
        await navigator.clipboard.writeText(text);
        document.getElementById("shown").textContent = `copied ${shownLines().length} rows as ${button.dataset.copy}`;
      } catch {
        place.focus();
        place.select();
        document.getElementById("shown").textContent = "press Ctrl-C to copy the text below";
      }
    });
  }
  filter.addEventListener("input", show);
  zeros.addEventListener("change", show);
  document.addEventListener("priced", show);
  document.getElementById("tools").hidden = false;
  show();
}
startTable(PAGE);
