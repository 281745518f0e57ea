/* Numbers as snn_energy/reports/words.py prints them. */
"use strict";

/** Four significant figures as Python's %.4g: half to even, no zeros at the end. */
function figures(x) {
  if (!Number.isFinite(x)) return Number.isNaN(x) ? "nan" : x > 0 ? "inf" : "-inf";
  if (x === 0) return "0";
  const [digits, power] = Math.abs(x).toExponential(60).split("e");
  const plain = digits.replace(".", ""), rest = plain.slice(4);
  let head = Number(plain.slice(0, 4)), exponent = Number(power);
  const half = "5" + "0".repeat(rest.length - 1);
  if (rest > half || (rest === half && head % 2)) head += 1;
  if (head === 10000) { head = 1000; exponent += 1; }
  const sign = x < 0 ? "-" : "", text = String(head);
  const trim = (t) => t.replace(/\.0*$|(\.\d*?)0+$/, "$1");
  if (exponent < -4 || exponent >= 4) {
    const size = String(Math.abs(exponent)).padStart(2, "0");
    return sign + trim(text[0] + "." + text.slice(1)) + "e" + (exponent < 0 ? "-" : "+") + size;
  }
  if (exponent < 0) return sign + trim("0." + "0".repeat(-exponent - 1) + text);
  return sign + trim(text.slice(0, exponent + 1) + "." + text.slice(exponent + 1));
}

function withUnit(value, units, smallest) {
  for (const [limit, unit] of units) if (Math.abs(value) >= limit) return `${figures(value / limit)}${unit}`;
  return figures(value) + smallest;
}
const countText = (value) => withUnit(value, [[1e9, " G"], [1e6, " M"], [1e3, " k"]], "");
const pjText = (value) => withUnit(value, [[1e12, " J"], [1e9, " mJ"], [1e6, " µJ"], [1e3, " nJ"]], " pJ");

/** `digits` after the point, half to even as Python's %f (toFixed rounds half up). */
function fixed(x, digits) {
  if (!Number.isFinite(x)) return figures(x);
  const [whole, rest] = Math.abs(x).toFixed(60).split(".");
  const kept = BigInt(whole + rest.slice(0, digits)), left = rest.slice(digits), half = "5" + "0".repeat(left.length - 1);
  const up = left > half || (left === half && kept % 2n === 1n) ? 1n : 0n;
  const text = String(kept + up).padStart(digits + 1, "0");
  const sign = x < 0 || Object.is(x, -0) ? "-" : "";
  return sign + (digits ? text.slice(0, -digits) + "." + text.slice(-digits) : text);
}
/** A number and its unit on one line. */
const together = (text) => text.replace(/(?<=\d) (?=([pnµm]?J|[%×]|[kMG]|steps|samples|bits)(?![\p{L}\p{N}_]))/gu, "\u00a0");
const rateText = (value) => (value === null || Number.isNaN(value) ? "" : fixed(value, 4));
const evenText = (value) => (value === null ? "no price" : Number.isFinite(value) ? fixed(value, 4) : "any");
const percentText = (value) => `${fixed(100 * value, 2)} %`;
