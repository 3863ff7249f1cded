// Reads {name: answer of /query} from stdin, turns each answer into frames with Grafana's own code, of both
// generations, and writes what came out: {generation: {name: [{name, refId, length, fields}]}}.
"use strict";

const { readFileSync } = require("node:fs");
const { JSDOM } = require("jsdom");

// @grafana/data expects a browser when it is loaded.
const { window } = new JSDOM("", { url: "http://localhost/" });
for (const name of Object.getOwnPropertyNames(window)) {
  if (!(name in globalThis)) {
    globalThis[name] = window[name];
  }
}
globalThis.window = window;

function describe(field) {
  const kinds = new Set(field.values.map((value) => (value === null ? "null" : Array.isArray(value) ? "array" : typeof value)));
  return { name: field.name, type: field.type, config: field.config, labels: field.labels ?? null, kinds: [...kinds].sort() };
}

const answers = JSON.parse(readFileSync(0, "utf8"));
const converted = {};
for (const generation of ["12", "13"]) {
  const { toDataFrame } = require(`grafana-data-${generation}`);
  converted[generation] = Object.fromEntries(
    Object.entries(answers).map(([name, answer]) => [
      name,
      answer.map(toDataFrame).map((frame) => ({
        name: frame.name ?? null,
        refId: frame.refId,
        length: frame.length,
        meta: frame.meta ?? null,
        fields: frame.fields.map(describe),
      })),
    ]),
  );
}
process.stdout.write(JSON.stringify(converted));
