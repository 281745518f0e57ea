/* What a convention charges and what that costs: snn_energy/energy/{rates,charges,estimate}.py once more.
   Pure functions of the embedded counts; tests/reports/test_browser.py holds every pair against Python. */
"use strict";
const OPERATIONS = ["ac", "mac", "mul", "cmp"];

/** The sum of `values` without rounding in between (Shewchuk), as math.fsum gives it. */
function fsum(values) {
  const parts = [];
  for (let x of values) {
    let kept = 0;
    for (let y of parts) {
      if (Math.abs(x) < Math.abs(y)) [x, y] = [y, x];
      const high = x + y, low = y - (high - x);
      if (low) parts[kept++] = low;
      x = high;
    }
    parts.length = kept;
    parts.push(x);
  }
  let total = 0, rest = 0, n = parts.length;
  while (n > 0) {
    const x = total, y = parts[--n];
    total = x + y;
    rest = y - (total - x);
    if (rest) break;
  }
  if (n > 0 && ((rest < 0 && parts[n - 1] < 0) || (rest > 0 && parts[n - 1] > 0))) {
    const twice = rest * 2, up = total + twice;
    if (twice === up - total) total = up;
  }
  return total;
}

const ABSENT = { right_kind: null, input_value: null, right_value: null, source_neurons: null, qkv_neurons: null,
  pair: null, owners: null, drives: null, name: "", op: "", block: "", role: "", input_kind: "", norm_function: "" };

/** Rows as objects; a column that is not there is zero everywhere.  `changed`: columns that take its place. */
function rowsOf(profile, changed = {}) {
  const columnOf = (key) => (key in changed ? changed[key] : profile.columns[key]);
  return Array.from({ length: profile.count }, (_, i) => new Proxy({}, {
    get: (_, key) => { const column = columnOf(key); return column ? column[i] : key in ABSENT ? ABSENT[key] : 0; },
  }));
}

/** What was measured: rows, pJ of data movement by cost table. */
function measuredOf(profile) {
  profile.measured ||= { rows: rowsOf(profile), memory: profile.memory };
  return profile.measured;
}

/** The network as if its neurons were "silent" or fired always ("full"): `silenced` in energy/analysis.py. */
function variantOf(profile, name, convention) {
  const { rows, memory } = measuredOf(profile), variant = profile.variants[name];
  variant.rows ||= rowsOf(profile, variant.columns);
  const moved = rows.map((row) => !!row.neuron_cmp || isDriven(row, convention));
  const movement = Object.keys(memory).map((table) =>
    [table, memory[table].map((pj, i) => (moved[i] ? variant.memory[table][i] : pj))]);
  return { rows: rows.map((row, i) => (moved[i] ? variant.rows[i] : row)), memory: Object.fromEntries(movement) };
}
const isDriven = (row, convention) => !!row.follows && (!row.synaptic || isEvent(row, convention));
const firingRate = (row) => (row.output_elements ? row.output_nonzero / row.output_elements : 0);
const PRUNED = ["ac_unpruned", "ac_events_unpruned", "mac_unpruned", "mac_nonzero_unpruned"];

const listed = (kind, convention) => convention.events_are === "two-valued" ? kind === "binary"
  : convention.events_are.includes(kind);
const leftIsEvent = (row, convention) => convention.events_are === "two-valued" ? !!row.two_valued
  : listed(row.input_kind, convention);
const isEvent = (row, convention) =>
  (row.op === "matmul" && row.right_kind !== null && listed(row.right_kind, convention)) || leftIsEvent(row, convention);

function events(nonzero, units, value, convention) {
  if (convention.graded === "units") return units || nonzero;
  return convention.graded === "value" && value !== null ? nonzero * value : nonzero;
}
const leftRate = (row, c) => row.input_elements
  ? events(row.input_nonzero, row.input_units, row.input_value, c) / row.input_elements : 0;
const rightRate = (row, c) => row.right_elements
  ? events(row.right_nonzero, row.right_units, row.right_value, c) / row.right_elements : 0;

function operandRates(row, convention) {
  const left = leftRate(row, convention);
  const right = row.right_elements ? rightRate(row, convention) : left;
  const found = [[left, row.input_kind], [right, row.right_kind]]
    .filter(([, kind]) => kind !== "real" && kind !== null).map(([rate]) => rate);
  return found.length ? found : [left, right];
}
const eventRate = (row, c) => row.op === "matmul" ? operandRates(row, c)[0] : leftRate(row, c);

const charged = (given) => ({ ac: 0, mac: 0, mul: 0, cmp: 0, spread: "unknown", ...given });

const SPECIAL = {
  "mac-dense": (row) => charged({ mac: row.dense_macs, spread: "constant" }),
  "mac-once": (row) => charged({ mac: row.dense_macs / row.static_repeats, spread: "constant" }),
  "mac-rate": (row, c) => charged({ mac: row.dense_macs * leftRate(row, c) }),
  "ac-rate": (row, c) => charged({ ac: row.dense_macs * leftRate(row, c) }),
  "none": () => charged({ spread: "constant" }),
};

function validMacs(row, convention, pruning) {
  if (convention.weights === "nonzero" && pruning && row.mac) {
    const repeats = convention.counting === "exact" ? row.static_repeats : 1;
    return charged({ mac: row.mac_unpruned / repeats, spread: "constant" });
  }
  const exact = convention.counting === "exact";
  const mac = exact ? row.mac : row.mac_executed || row.mac;
  const reached = exact ? row.ac : row.ac_executed || row.ac;
  if (!mac && reached) return charged({ mac: row.valid_macs, spread: "constant" });
  return charged({ mac, spread: mac === row.mac && !row.ac ? "row" : "constant" });
}

function nonzeroMacs(row, convention, pruning) {
  if (convention.weights === "nonzero" && pruning)
    return charged({ mac: row.mac_nonzero_unpruned || row.ac_events_unpruned });
  return charged({ mac: row.mac_nonzero || row.ac_events || row.ac_executed || row.ac });
}

const REALS = {
  "mac-valid": validMacs,
  "mac-dense": (row) => charged({ mac: row.dense_macs, spread: "constant" }),
  "mac-nonzero": nonzeroMacs,
  "none": () => charged({ spread: "constant" }),
};

function reachedByEvents(row, convention, pruning) {
  let executed, once, kept;
  if (convention.graded === "units") {
    [executed, once, kept] = [row.ac_executed || row.ac, row.ac, row.ac_unpruned];
  } else {
    executed = row.ac_events || row.ac_executed || row.ac;
    once = row.ac_events ? row.ac_events / row.static_repeats : row.ac;
    kept = row.ac_events_unpruned;
  }
  if (convention.weights === "nonzero" && pruning) [executed, once] = [kept, kept / row.static_repeats];
  return convention.counting === "exact" ? once : executed;
}

/** The rate of the one operand that the convention takes for events in a product of two; else null. */
function onlySide(row, convention) {
  if (row.op !== "matmul" || row.input_kind === "real" || row.right_kind === "real" || row.right_kind === null)
    return null;
  const left = leftIsEvent(row, convention);
  if (left && listed(row.right_kind, convention)) return null;
  return left ? leftRate(row, convention) : rightRate(row, convention);
}

/** Q Kᵀ and A V charged as Kᵀ V and Q (Kᵀ V): tokens × d² per head, at min(r_K, r_V) and at r_Q. */
function asState(row, convention, rows) {
  const [which, first, second, width, tokens] = row.pair, dense = rows[first].dense_macs * width / tokens;
  if (which) return leftRate(rows[first], convention) * dense;
  return Math.min(rightRate(rows[first], convention), rightRate(rows[second], convention)) * dense;
}

function product(row, convention, rows) {
  if (convention.products === "min-of-rates" && row.pair !== null) return asState(row, convention, rows);
  const rates = operandRates(row, convention);
  const pick = { "one-sided": rates[0], "min-of-rates": Math.min(...rates),
    "sum-of-rates": rates.reduce((a, b) => a + b, 0) };
  return pick[convention.products] * row.dense_macs;
}

const ratesIn = (rows, numbers) => numbers.map((i) => firingRate(rows[i]));
const meanOf = (values) => values.reduce((a, b) => a + b, 0) / values.length;

function synaptic(row, convention, pruning, rows) {
  const special = { encoder: convention.encoder, head: convention.head }[row.role] || "by-value";
  if (special !== "by-value") return SPECIAL[special](row, convention);
  if (row.op === "matmul" && convention.products === "none") return charged({ spread: "constant" });
  if (!isEvent(row, convention)) return REALS[convention.reals](row, convention, pruning);
  if (row.op === "matmul" && convention.products !== "counted") return charged({ ac: product(row, convention, rows) });
  if (convention.counting === "rate") {
    let rate = eventRate(row, convention);
    if (convention.qkv_rate === "output" && row.qkv_neurons !== null) rate = meanOf(ratesIn(rows, row.qkv_neurons));
    return charged({ ac: rate * row.dense_macs });
  }
  const side = onlySide(row, convention);
  if (side !== null) return charged({ ac: side * row.dense_macs });
  let ac = reachedByEvents(row, convention, pruning);
  if (!ac && row.mac) ac = nonzeroMacs(row, convention, pruning).mac;
  return charged({ ac, spread: ac === row.ac && !row.mac ? "row" : "unknown" });
}

function withBias(row, convention, given) {
  const rule = row.role === "head" ? convention.head_bias : convention.bias;
  let adds = row.bias_adds;
  if (!adds || rule === "none") return given;
  if (rule === "per-call" && row.op === "linear" && row.bias_elements) adds = row.bias_elements * row.calls;
  if ((rule === "with-row" || rule === "per-call") && given.mac) return { ...given, mac: given.mac + adds };
  if (rule === "ac") return { ...given, ac: given.ac + adds };
  return { ...given, ac: given.ac + adds * eventRate(row, convention), spread: "unknown" };
}

function norm(row, convention) {
  const elements = row.norm_elements, batch = ["batch_norm", "instance_norm"].includes(row.norm_function);
  const macs = {
    "unfolded": row.mac + row.norm_macs,
    "one-mac": elements,
    "two-macs": 2 * elements,
    "batch-scaling": batch && row.norm_scales ? elements : 0,
    "batch-group": batch || row.norm_function === "group_norm" ? elements * (1 + row.norm_scales) : 0,
    "none": 0,
  };
  return charged({ mac: macs[convention.norm], spread: "constant" });
}

function neuron(row, convention) {
  if (convention.neuron === "full")
    return charged({ ac: row.neuron_add + row.neuron_reset, mul: row.neuron_mul, cmp: row.neuron_cmp });
  return charged({ ac: convention.neuron === "none" ? 0 : row.neuron_cmp,
    mac: convention.neuron === "one-mac" ? row.neuron_cmp : 0, spread: "constant" });
}

function pool(row, convention, rows) {
  const looked = row.input_kind !== "" && !!(row.input_nonzero || row.two_valued);
  const spikes = row.source_neurons !== null && row.source_neurons.length > 0;
  if (isEvent(row, convention) || (spikes && !looked && row.op === "max_pool")) {
    const rate = looked ? leftRate(row, convention) : spikes ? firingRate(rows[row.source_neurons[0]]) : 0;
    return charged({ ac: row.input_elements * rate });
  }
  return charged({ mac: row.input_elements, spread: "constant" });
}

function elementwise(row, convention, rows) {
  if ((row.op === "max_pool" || row.op === "avg_pool") && convention.pool === "per-input")
    return pool(row, convention, rows);
  if (row.op === "sum" && convention.products === "sum-of-rates" && row.source_neurons !== null)
    return charged({ ac: row.input_elements * ratesIn(rows, row.source_neurons).reduce((a, b) => a + b, 0) });
  const cmp = convention.pool === "compare" ? row.pool_cmp : 0;
  const mul = convention.scale === "mul" ? row.scale_muls : 0;
  if (convention.elementwise === "none") return charged({ mul, cmp, spread: "constant" });
  const executed = convention.counting === "executed";
  const ac = executed ? row.ac_executed || row.ac : row.ac;
  const mac = executed ? row.mac_executed || row.mac : row.mac;
  return charged({ ac, mac, mul, cmp, spread: ac === row.ac && mac === row.mac ? "row" : "unknown" });
}

function chargeOf(row, convention, pruning, rows) {
  if (row.synaptic) return withBias(row, convention, synaptic(row, convention, pruning, rows));
  if (row.neuron_cmp) return neuron(row, convention);
  if (row.norm_elements || row.norm_macs) return norm(row, convention);
  return elementwise(row, convention, rows);
}

function chipPj(row, costs) {
  if (!row.neuron_cmp) return 0;
  const silent = costs.neuron_update || 0, active = costs.neuron_active === null ? silent : costs.neuron_active;
  const fired = row.output_nonzero;
  return (row.neuron_cmp - fired) * silent + fired * (active + (costs.spike || 0));
}

function errorOf(row, given, costs, samples) {
  if (given.spread === "constant" || !(given.ac || given.mac)) return 0;
  const parts = [[row.ac, row.ac_error, costs.ac], [row.mac, row.mac_error, costs.mac || 0]];
  if (given.spread === "unknown" || samples < 2 || parts.some(([n, e]) => n && e === null)) return null;
  return fsum(parts.filter(([n]) => n).map(([, e, price]) => price * e));
}

/** Energy of one inference: rows, totals, what has no price; as `estimate(profile, convention, costs)`.
    `network`: what was measured, or a variant of it. */
function evaluate(profile, convention, costs, network = measuredOf(profile)) {
  const samples = profile.samples, memory = network.memory[costs.name];
  const pruning = network.rows.some((row) => PRUNED.some((name) => row[name]));
  const unpriced = { ac: 0, mac: 0, mul: 0, cmp: 0, special: 0 };
  const rows = network.rows.map((row, i) => {
    const given = chargeOf(row, convention, pruning, network.rows);
    unpriced.special += row.special_evals / samples;
    for (const name of OPERATIONS) if (costs[name] === null) unpriced[name] += given[name] / samples;
    const arithmetic = fsum(OPERATIONS.map((name) => given[name] * (costs[name] || 0))) / samples;
    const chip = chipPj(row, costs) / samples, moved = memory ? memory[i] : 0;
    return {
      ac: given.ac / samples, mac: given.mac / samples, mul: given.mul / samples, cmp: given.cmp / samples,
      arithmetic, chip, memory: moved, pj: arithmetic + moved + chip,
      error: errorOf(row, given, costs, samples), neuron: !!row.neuron_cmp,
    };
  });
  const sum = (name) => fsum(rows.map((row) => row[name]));
  const errors = rows.map((row) => row.error);
  return {
    rows, unpriced, pj: sum("pj"), ac: sum("ac"), mac: sum("mac"), arithmetic: sum("arithmetic"),
    memory: sum("memory"), chip: sum("chip"), error: errors.includes(null) ? null : fsum(errors),
    unmoved: profile.unmoved[costs.name] || [],
  };
}

/** The dense twin's pJ at `costs` and the ratio to it (null where a price is missing). */
function twinOf(profile, energy, costs) {
  const twin = profile.twin, missing = OPERATIONS.filter((name) =>
    costs[name] === null && (twin[name] || energy.unpriced[name]));
  if (energy.unpriced.special > twin.special) missing.push("special");
  const pj = fsum([...OPERATIONS.map((name) => twin[name] * (costs[name] || 0)), twin.memory[costs.name] || 0]);
  const ratio = missing.length ? null : energy.pj ? pj / energy.pj : Infinity;
  return { pj, missing, ratio, atLeast: ratio !== null && !!(energy.unpriced.special || twin.special) };
}
