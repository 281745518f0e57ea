/* The comparison under other conventions and prices: totals, blocks, layers and the chart, from the counts. */
"use strict";
const LEFT = 52, RIGHT = 14, WIDTH = 360; // as in snn_energy/reports/charts.py

const ratioOf = (first, last) => (first === null || last === null || !(first || last) ? null : first ? last / first : Infinity);
const ratioText = (value) => (value === null ? "" : value === Infinity ? "∞" : fixed(value, 3));
const signedPj = (value) => (value > 0 ? "+" : "") + pjText(value);

class Comparison {
  show(convention, prices) {
    const costs = byName(DATA.costs, prices), rule = byName(DATA.conventions, convention);
    this.energies = DATA.profiles.map((profile) => evaluate(profile, rule, costs));
    this.twins = DATA.profiles.map((profile, i) => twinWords(twinOf(profile, this.energies[i], costs), costs));
    setText("[data-say=convention]", convention);
    setText("[data-say=costs]", costs.name + (costs.label ? `, ${costs.label}` : ""));
    this.totals();
    this.lines();
    this.blocks();
    this.chart();
    return this.energies.map((energy, i) => `${DATA.labels[i]} ${pjText(energy.pj)}`).join(", ");
  }

  totals() {
    all("#sides tbody tr").forEach((line, i) => {
      const energy = this.energies[i];
      const texts = { pj: pjText(energy.pj), ac: countText(energy.ac), mac: countText(energy.mac), twin: together(this.twins[i]),
        ratio: ratioText(ratioOf(this.energies[0].pj, energy.pj)) };
      for (const cell of all("[data-cell]", line)) cell.textContent = texts[cell.dataset.cell];
    });
  }

  /** pJ of a line's rows in each profile; null where it has no such row. */
  pjOf(element) {
    return element.dataset.rows.split(",").map((row, i) => (row === "" ? null : this.energies[i].rows[row].pj));
  }

  lines() {
    for (const line of all("#lines tbody tr")) {
      const pj = this.pjOf(line), first = pj[0], last = pj[pj.length - 1];
      line.hidden = !pj.some((value) => value);
      all("[data-cell=pj]", line).forEach((cell, i) => { cell.textContent = pj[i] === null ? "" : pjText(pj[i]); });
      line.querySelector("[data-cell=difference]").textContent = signedPj((last || 0) - (first || 0));
      line.querySelector("[data-cell=ratio]").textContent = ratioText(ratioOf(first, last));
    }
  }

  blocks() {
    const sums = new Map();
    for (const line of all("#lines tbody tr")) {
      const held = sums.get(line.dataset.block) || DATA.profiles.map(() => 0);
      this.pjOf(line).forEach((pj, i) => { held[i] += pj || 0; });
      sums.set(line.dataset.block, held);
    }
    const dearest = Math.max(...[...sums.values()].flat()) || 1;
    for (const group of all(".grouped > div")) group.hidden = !sums.get(group.querySelector("dd").dataset.of).some((pj) => pj);
    for (const bar of all("[data-of]")) {
      const pj = sums.get(bar.dataset.of)[bar.dataset.side];
      bar.querySelector("i").style.width = `${(100 * pj / dearest).toFixed(3)}%`;
      bar.querySelector(".pj").textContent = pjText(pj);
    }
  }

  chart() {
    const spots = all("#front [data-point]");
    if (!spots.length) return;
    const known = DATA.profiles.map((profile, i) => [profile.accuracy, this.energies[i].pj]).filter(([a]) => a !== null);
    const right = Math.max(...known.map(([, pj]) => pj)) * 1.05 || 1;
    const beats = ([a, e], [b, f]) => e <= f && a >= b && (e < f || a > b);
    spots.forEach((spot, i) => {
      const circle = spot.querySelector("circle"), text = spot.querySelector("text");
      const x = LEFT + known[i][1] / right * (WIDTH - LEFT - RIGHT), end = x > WIDTH * 0.6;
      circle.setAttribute("cx", x.toFixed(1));
      circle.setAttribute("class", known.some((other) => beats(other, known[i])) ? "behind" : "front");
      text.setAttribute("x", (x + (end ? -8 : 8)).toFixed(1));
      text.setAttribute("text-anchor", end ? "end" : "start");
    });
    document.querySelector("#front .most").textContent = pjText(right / 1.05);
    const best = known.map((one, i) => [one, i]).filter(([one]) => !known.some((other) => beats(other, one)));
    const names = DATA.labels.filter((_, i) => DATA.profiles[i].accuracy !== null);
    setText("[data-say=front]", best.map(([, i]) => names[i]).join(", "));
  }
}
const COMPARISON = new Comparison();
startSwitch((convention, prices) => COMPARISON.show(convention, prices));
