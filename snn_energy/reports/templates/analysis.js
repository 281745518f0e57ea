/* Break-even rates and whose firing moves the total: snn_energy/energy/analysis.py once more. */
"use strict";

/** pJ of each weighted row with the neurons that it drives, and what of them has no price. */
function layersOf(rows, energy, costs) {
  const missing = (charge) => OPERATIONS.filter((name) => charge[name] && costs[name] === null);
  return rows.map((row, i) => {
    if (!row.weighted) return null;
    const driven = row.drives || [], own = energy.rows[i];
    return {
      pj: own.pj + driven.map(([n, share]) => energy.rows[n].pj / share).reduce((a, b) => a + b, 0),
      missing: [...new Set([own, ...driven.map(([n]) => energy.rows[n])].flatMap(missing))],
    };
  });
}

/** As `break_even`: by event-driven weighted layer, then the whole model (name ""). */
function breakEven(profile, convention, costs) {
  const measured = measuredOf(profile), rows = measured.rows, active = evaluate(profile, convention, costs);
  const silent = variantOf(profile, "silent", convention), full = variantOf(profile, "full", convention);
  const low = evaluate(profile, convention, costs, silent), high = evaluate(profile, convention, costs, full);
  const now = layersOf(rows, active, costs), least = layersOf(rows, low, costs), most = layersOf(rows, high, costs);
  const twin = twinOf(profile, active, costs), memory = profile.twin.layer_memory[costs.name] || {};
  const found = [], listed = rows.map((_, i) => i).filter((i) => rows[i].weighted && isDriven(rows[i], convention));
  const rateIn = (row) => (row.input_elements ? row.input_nonzero / row.input_elements : 0);
  for (const i of listed) {
    const ops = profile.twin.layers[i], dense = fsum(ops.map((n, k) => n * (costs[OPERATIONS[k]] || 0))) + (memory[i] || 0);
    const missing = [...most[i].missing, ...OPERATIONS.filter((name, k) => ops[k] && costs[name] === null)];
    const even = most[i].pj > least[i].pj ? (dense - least[i].pj) / (most[i].pj - least[i].pj) : Infinity;
    found.push({ name: rows[i].name, rate: rateIn(rows[i]), even: missing.length ? null : even, spiking: now[i].pj, dense });
  }
  const weight = sumOf(listed.map((i) => rows[i].dense_macs));
  const rate = weight ? sumOf(listed.map((i) => rows[i].dense_macs * rateIn(rows[i]))) / weight : 0;
  const perRate = rate ? (active.pj - low.pj) / rate : high.pj - low.pj;
  const even = perRate > 0 ? (twin.pj - low.pj) / perRate : Infinity;
  found.push({ name: "", rate, even: twin.missing.length ? null : even, spiking: active.pj, dense: twin.pj });
  return found;
}

/** As `sensitivity`: pJ that each spiking layer's firing causes, greatest first. */
function sensitivity(profile, convention, costs) {
  const rows = measuredOf(profile).rows, active = evaluate(profile, convention, costs);
  const idle = evaluate(profile, convention, costs, variantOf(profile, "silent", convention));
  const driven = new Map();
  for (const row of rows) if (row.neuron_cmp) for (const i of row.owners) driven.set(i, 0);
  rows.forEach((row, i) => {
    for (const owner of row.owners || [])
      driven.set(owner, driven.get(owner) + (active.rows[i].pj - idle.rows[i].pj) / row.owners.length);
  });
  return [...driven].map(([i, pj]) => ({ name: rows[i].name, rate: firingRate(rows[i]), pj,
    share: active.pj ? pj / active.pj : 0 })).sort((a, b) => b.pj - a.pj);
}
