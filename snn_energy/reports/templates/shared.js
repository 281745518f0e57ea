/* What the report and the comparison share: the data, texts, and the two selects. */
"use strict";
const DATA = JSON.parse(document.getElementById("data").textContent);
const byName = (list, name) => list.find((entry) => entry.name === name);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const setText = (selector, text) => all(selector).forEach((element) => { element.textContent = text; });
const sumOf = (values) => values.reduce((a, b) => a + b, 0);

const missingWords = (names, costs) => `${costs.name} has no price for ` +
  names.map((name) => (name === "special" ? "special functions" : name.toUpperCase())).join(" and ");

function twinWords(twin, costs) {
  if (twin.ratio === null) return `no ratio to the dense ANN (${missingWords(twin.missing, costs)})`;
  if (twin.ratio === Infinity) return "charged nothing, so that there is no ratio to its dense twin";
  if (twin.ratio >= 1 || !twin.ratio)
    return `${twin.atLeast ? "at least " : ""}${fixed(twin.ratio, 2)} × less than its dense twin`;
  return `${twin.atLeast ? "at most " : ""}${fixed(1 / twin.ratio, 2)} × more than its dense twin`;
}

/** Show the selects; `show(convention, prices)` gives the words to be said of what is now shown. */
function startSwitch(show) {
  const form = document.getElementById("switch");
  const convention = document.getElementById("convention"), costs = document.getElementById("costs");
  const change = () => { document.getElementById("said").textContent = show(convention.value, costs.value); };
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  convention.addEventListener("change", change);
  costs.addEventListener("change", change);
  document.getElementById("reset").addEventListener("click", () => {
    [convention.value, costs.value] = [DATA.convention, DATA.prices];
    change();
  });
  [convention.value, costs.value] = [DATA.convention, DATA.prices];
  show(DATA.convention, DATA.prices);
  addEventListener("beforeprint", () => all("details").forEach((element) => { element.open = true; }));
}
