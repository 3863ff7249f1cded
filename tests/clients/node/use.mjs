// Uses the client as a program would; says what it saw as JSON. Imported as ES module, required as CommonJS.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, address, token] = process.argv.slice(2);
const esm = await import(pathToFileURL(`${folder}/esm/index.js`).href);
const cjs = createRequire(import.meta.url)(`${folder}/cjs/index.js`);
const seen = {};

for (const [kind, { Client, NotFound }] of Object.entries({ esm, cjs })) {
  const observatory = new Client(address, token);
  const ids = [];
  for await (const span of observatory.traces({ from: "now-1d", limit: 3 })) ids.push(span.span_id);
  let searched = 0;
  const filter = { field: "model", operator: "eq", value: "m0" };
  for await (const _ of observatory.search({ filter, limit: 2 })) searched++;
  // There is no embedder here; that the server says so shows that the question went out as it was asked.
  const asked = await Promise.all(
    [{ meaning: "money back" }, { like: "f".repeat(32) }].map((near) =>
      new Client(address, token, { attempts: 1 }).traces({ from: "now-1d", ...near }).next().catch((error) => error.code),
    ),
  );
  const code = await observatory.trace("f".repeat(32)).catch((error) => error instanceof NotFound && error.code);
  const metrics = await observatory.metrics({ metric: ["calls"], from: "now-1d" });
  let first;
  for await (const event of observatory.live({ fields: ["span_id"] })) {
    first = event.event;
    break;
  }
  seen[kind] = { ids, searched, asked, code, calls: metrics[0].value, first };
}

// Refused twice, then served: waits are those of Retry-After, and a request that changes something is sent once.
const waits = [];
const answers = [
  new Response("{}", { status: 429, headers: { "Retry-After": "0" } }),
  new Response("{}", { status: 503, headers: { "Retry-After": "0" } }),
  Response.json({ data: { overview: {} } }),
];
const busy = new esm.Client("http://server", "t", { fetch: async () => (waits.push(1), answers[waits.length - 1]) });
await busy.costs();
let sent = 0;
const failing = new esm.Client("http://server", "t", {
  fetch: async () => {
    sent++;
    throw new TypeError("gone");
  },
});
await failing.request("POST", "/api/v1/scores", { body: {} }).catch(() => undefined);
console.log(JSON.stringify({ ...seen, attempts: waits.length, sent }));
