/* The switch between conventions and prices: everything that follows it is computed here, from the counts. */
"use strict";
const PARTS = ["ac", "mac", "neurons", "memory", "other"];

function partsOf(row, costs) {
  if (row.neuron) return { ac: 0, mac: 0, neurons: row.arithmetic + row.chip, memory: row.memory, other: 0 };
  const ac = row.ac * costs.ac, mac = row.mac * (costs.mac || 0), other = Math.max(0, row.arithmetic - ac - mac);
  return { ac, mac, neurons: 0, memory: row.memory, other: other > 1e-9 * row.arithmetic ? other : 0 };
}

function coversWords(energy) {
  if (energy.memory) return "with data movement";
  return energy.chip ? "with neuron updates and spikes of the chip" : "arithmetic only";
}

/** The page as it is under one convention at one table's prices. */
class Page {
  constructor(profile) {
    this.profile = profile;
    this.convention = DATA.convention;
    this.prices = DATA.prices;
    this.moved = all("#tree .block").map((block) => ({
      block, main: block.querySelector(":scope > .kids"), rest: block.querySelector(":scope > .kids > .rest"),
      layers: all(":scope > .kids > .node, :scope > .kids > .rest > .kids > .node", block)
        .sort((a, b) => firstRow(a) - firstRow(b)),
    }));
  }

  evaluate(convention = this.convention, prices = this.prices) {
    return evaluate(this.profile, byName(DATA.conventions, convention), byName(DATA.costs, prices));
  }

  show(convention, prices) {
    this.convention = convention;
    this.prices = prices;
    this.costs = byName(DATA.costs, prices);
    this.energy = this.evaluate();
    this.twin = twinOf(this.profile, this.energy, this.costs);
    this.words();
    this.tree();
    this.operations();
    this.conventions();
    this.rates(byName(DATA.conventions, convention));
  }

  /** Whose firing moves the total, and break-even rates: their rows depend on the convention. */
  rates(convention) {
    const moving = document.querySelector("#moving tbody"), even = document.querySelector("#even tbody");
    const line = (name, cells) => {
      const row = document.createElement("tr"), head = document.createElement("th");
      head.scope = "row";
      head.textContent = name;
      row.append(head, ...cells.map((content) => {
        const cell = document.createElement("td");
        cell.append(content);
        return cell;
      }));
      return row;
    };
    if (moving) moving.replaceChildren(...sensitivity(this.profile, convention, this.costs).slice(0, 10).map((s) =>
      line(s.name, [rateText(s.rate), pjText(s.pj), percentText(s.share)])));
    even.replaceChildren(...breakEven(this.profile, convention, this.costs).map((b) =>
      line(b.name || "whole model", [track(b), rateText(b.rate), evenText(b.even), pjText(b.spiking), pjText(b.dense)])));
  }

  words() {
    const { energy, twin, costs } = this, convention = byName(DATA.conventions, this.convention);
    const ratio = !Number.isFinite(twin.ratio) || twin.ratio === null ? "no ratio" : `${twin.atLeast ? "≥ " : ""}${fixed(twin.ratio, 2)} ×`;
    const totals = { pj: pjText(energy.pj), ac: countText(energy.ac), mac: countText(energy.mac), ratio, twin: pjText(twin.pj) };
    for (const [key, text] of Object.entries(totals)) setText(`[data-total=${key}]`, text);
    const label = costs.label ? `, ${costs.label}` : "";
    const price = (name) => (costs[name] === null ? "" : `${name === "ac" ? "" : ", "}${name.toUpperCase()} ${costs[name]} pJ`);
    const said = {
      error: energy.error === null || !energy.pj ? "" : ` ± ${percentText(energy.error / energy.pj)}`,
      convention: convention.name, costs: costs.name + label, covers: coversWords(energy), differs: convention.differs,
      twin: twinWords(twin, costs), prices: price("ac") + price("mac") + (costs.node ? `, ${costs.node}` : ""),
      moved: energy.memory ? `Data movement is ${pjText(energy.memory)} of the total.` : "Operations only: no data movement.",
    };
    for (const [key, text] of Object.entries(said)) setText(`[data-say=${key}]`, together(text));
    const unpriced = document.getElementById("unpriced");
    unpriced.replaceChildren(...Object.entries(energy.unpriced).filter(([, number]) => number).map(([name, number]) =>
      paragraph(`${countText(number)} ${name} per inference are charged by the convention, but ${costs.name} has no price for them.`, "bad")));
    if (energy.unmoved.length)
      unpriced.append(paragraph(`Data movement of these operations is not modelled: ${energy.unmoved.join(", ")}.`, ""));
  }

  tree() {
    const parts = this.energy.rows.map((row) => partsOf(row, this.costs)), total = this.energy.pj;
    const ofRows = (element) => {
      const found = { ac: 0, mac: 0, neurons: 0, memory: 0, other: 0 };
      for (const i of rowsIn(element)) for (const part of PARTS) found[part] += parts[i][part];
      return found;
    };
    const pjOf = (found) => sumOf(PARTS.map((part) => found[part]));
    const widest = Math.max(...this.moved.map(({ block }) => pjOf(ofRows(block)))) || 1;
    for (const element of all("#tree .node")) {
      const found = ofRows(element), pj = pjOf(found);
      element.hidden = pj <= 0;
      fill(element.matches("details") ? element.firstElementChild : element, found, pj, widest, total);
    }
    for (const { main, rest, layers } of this.moved) {
      const priced = layers.map((layer) => [layer, pjOf(ofRows(layer))]);
      const little = priced.filter(([, pj]) => pj < DATA.small * total), some = little.filter(([, pj]) => pj > 0);
      const charged = some.length < 2 ? [] : some, pj = sumOf(charged.map(([, value]) => value));
      for (const [layer, value] of priced)
        if (charged.length && value < DATA.small * total) rest.lastElementChild.append(layer);
        else main.insertBefore(layer, rest);
      rest.hidden = !charged.length;
      fill(rest.firstElementChild, {}, pj, widest, total);
      rest.querySelector(":scope > summary .name").textContent = charged.map(([layer]) => nameOf(layer)).join(", ");
    }
    const most = Math.max(...this.energy.rows.map((row) => row.pj)) || 1;
    for (const element of all(".net [data-rows]")) {
      const pj = this.energy.rows[element.dataset.rows].pj, level = element.querySelector(".level");
      element.querySelector(".pj").textContent = pjText(pj);
      level.setAttribute("width", fixed(Number(level.dataset.full) * Math.max(pj, 0) / most, 1));
    }
    for (const element of all("[data-sum]"))
      element.textContent = pjText(sumOf(element.dataset.sum.split(" ").map((i) => this.energy.rows[i].pj)));
  }

  operations() {
    for (const line of all("#every tbody tr")) {
      const row = this.energy.rows[line.dataset.row];
      const texts = { ac: countText(row.ac), mac: countText(row.mac), pj: pjText(row.pj),
        share: percentText(this.energy.pj ? row.pj / this.energy.pj : 0) };
      for (const cell of all("[data-cell]", line)) cell.textContent = texts[cell.dataset.cell];
    }
    document.dispatchEvent(new Event("priced"));
  }

  conventions() {
    const lines = all("#by-convention tbody tr"), found = lines.map((line) => this.evaluate(line.dataset.convention));
    const dearest = Math.max(...found.map((energy) => energy.pj)) || 1;
    lines.forEach((line, i) => {
      const texts = { ac: countText(found[i].ac), mac: countText(found[i].mac), pj: pjText(found[i].pj) };
      for (const cell of all("[data-cell]", line)) cell.textContent = texts[cell.dataset.cell];
      line.querySelector(".bar i").style.width = `${(100 * found[i].pj / dearest).toFixed(3)}%`;
      line.classList.toggle("now", line.dataset.convention === this.convention);
    });
    const priced = found.filter((e) => !OPERATIONS.some((name) => e.unpriced[name])).map((e) => e.pj);
    setText("[data-say=range]", priced.length < 2 ? "no range: prices are missing"
      : together(`${pjText(Math.min(...priced))} to ${pjText(Math.max(...priced))} by convention`));
  }
}

const rowsIn = (element) => element.dataset.rows.split(" ");
const firstRow = (element) => Number(rowsIn(element)[0]);
const nameOf = (element) => element.querySelector(".name").textContent;

/** The line from rate 0 to 1: where spiking costs less, and what was measured. */
function track({ even, rate }) {
  const line = document.createElement("span");
  if (even === null) return "";
  line.className = "track";
  line.setAttribute("aria-hidden", "true");
  const mark = (kind, side, share) => {
    const piece = document.createElement("i");
    piece.className = kind;
    piece.style[side] = `${fixed(100 * share, 2)}%`;
    line.append(piece);
  };
  mark("win", "width", Math.min(Math.max(even, 0), 1));
  if (even >= 0 && even <= 1) mark("even", "left", even);
  mark("dot", "left", Math.min(rate, 1));
  return line;
}

function paragraph(text, kind) {
  const element = document.createElement("p");
  element.textContent = text;
  element.className = kind;
  return element;
}

function fill(line, parts, pj, widest, total) {
  line.querySelector(".pj").textContent = pjText(pj);
  line.querySelector(".share").textContent = percentText(total ? pj / total : 0);
  line.querySelector(".bar").replaceChildren(...PARTS.filter((part) => parts[part] > 0).map((part) => {
    const piece = document.createElement("i");
    piece.className = `p-${part}`;
    piece.style.width = `${(100 * parts[part] / widest).toFixed(3)}%`;
    return piece;
  }));
}

const PAGE = new Page(DATA.profiles[0]);
startSwitch((convention, prices) => {
  PAGE.show(convention, prices);
  return `${pjText(PAGE.energy.pj)} under ${convention}, ${prices}`;
});
