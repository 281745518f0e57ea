/* A convention and prices of the reader's own: every choice as a select, and the files that say the same. */
"use strict";
const OWN = "own";

function startOwn(place) {
  const convention = document.getElementById("convention"), costs = document.getElementById("costs");
  const made = (tag, fields, ...inside) => {
    const element = Object.assign(document.createElement(tag), fields);
    element.append(...inside);
    return element;
  };
  const labelled = (words, control) => made("label", {}, `${words} `, control);
  const selects = new Map(Object.entries(DATA.choices).map(([field, names]) =>
    [field, made("select", { id: `own-${field}` }, ...names.map((name) => made("option", { textContent: name })))]));
  const prices = new Map(["ac", "mac", "mul", "cmp"].map((name) =>
    [name, made("input", { type: "number", min: "0", step: "any", id: `own-price-${name}` })]));
  const file = made("textarea", { rows: 4, readOnly: true, ariaLabel: "The convention and the prices as files" });

  /** The controls as what is shown now has them. */
  const take = () => {
    const shown = byName(DATA.conventions, convention.value), table = byName(DATA.costs, costs.value);
    for (const [field, select] of selects) select.value = shown[field];
    for (const [name, input] of prices) input.value = table[name] === null ? "" : table[name];
  };

  const add = (list, select, entry) => {
    const at = list.findIndex((one) => one.name === OWN);
    if (at >= 0) list.splice(at, 1);
    list.push(entry);
    if (![...select.options].some((option) => option.value === OWN)) select.append(made("option", { textContent: OWN }));
    select.value = OWN;
  };

  const base = () => (convention.value === OWN ? byName(DATA.conventions, OWN).base : convention.value);
  const changed = () => {
    const from = base(), old = byName(DATA.conventions, from);
    const picked = Object.fromEntries([...selects].map(([field, select]) => [field, select.value]));
    const differs = Object.entries(picked).filter(([field, value]) => old[field] !== value);
    const words = differs.map(([field, value]) => `${field} ${value}`).join(", ") || "nothing";
    add(DATA.conventions, convention, { ...old, ...picked, name: OWN, base: from, differs: `as ${from}, but ${words}`,
      source: "chosen in the page" });
    convention.dispatchEvent(new Event("change"));
    write();
  };
  const priced = () => {
    const table = byName(DATA.costs, costs.value);
    const given = Object.fromEntries([...prices].map(([name, input]) => [name, input.value === "" ? null : Number(input.value)]));
    if (given.ac === null || [...prices.values()].some((input) => !input.validity.valid)) return;
    add(DATA.costs, costs, { ...table, ...given, name: OWN, words: "chosen in the page", label: "", node: "", citations: [],
      memory: false, neuron_update: null, neuron_active: null, spike: null });
    costs.dispatchEvent(new Event("change"));
    write();
  };
  const write = () => {
    const own = byName(DATA.conventions, OWN), table = byName(DATA.costs, OWN), files = [];
    if (own) {
      const old = byName(DATA.conventions, own.base), lines = Object.keys(DATA.choices)
        .filter((field) => own[field] !== old[field]).map((field) => `${field}: ${own[field]}`);
      files.push(["# own.yaml, for --convention", `name: ${OWN}`, `base: ${own.base}`, ...lines].join("\n"));
    }
    if (table) {
      const lines = [...prices.keys()].filter((name) => table[name] !== null).map((name) => `${name}: ${table[name]}`);
      files.push(["# own-prices.yaml, for --costs", `name: ${OWN}`, ...lines].join("\n"));
    }
    file.value = files.join("\n---\n");
  };

  for (const select of selects.values()) select.addEventListener("change", changed);
  for (const input of prices.values()) input.addEventListener("input", priced);
  for (const select of [convention, costs]) select.addEventListener("change", take);
  document.getElementById("reset").addEventListener("click", take);
  place.append(
    made("summary", { textContent: "A convention or prices of your own" }),
    made("p", { textContent: "It begins as what is shown. docs/energy.md says what each choice means; below stand the files that give the same on the command line." }),
    made("div", { className: "choices" }, ...[...selects].map(([field, select]) => labelled(field.replace("_", " "), select)),
      ...[...prices].map(([name, input]) => labelled(`${name.toUpperCase()}, pJ`, input))),
    file);
  place.hidden = false;
  take();
}
startOwn(document.getElementById("own"));
