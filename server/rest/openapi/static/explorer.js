"use strict";

// Shows the server's OpenAPI description and sends requests. Everything is put in as text, never as HTML.

const METHODS = { get: "GET", post: "POST", put: "PUT", patch: "PATCH", delete: "DELETE", "x-query": "QUERY" };

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function typeOf(schema = {}) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.type === "array") return `list of ${typeOf(schema.items)}`;
  return [schema.type].flat().filter(Boolean).join(" | ") || "any";
}

function parameterTable(parameters) {
  const inputs = new Map();
  const rows = parameters.map((parameter) => {
    const input = element("input", { placeholder: typeOf(parameter.schema) });
    inputs.set(parameter, input);
    const name = element("code", { textContent: parameter.name });
    return element(
      "tr", {}, element("td", {}, name), element("td", {}, input), element("td", { textContent: parameter.description ?? "" }),
    );
  });
  return [element("table", {}, element("tbody", {}, ...rows)), inputs];
}

function addressOf(path, inputs) {
  const query = new URLSearchParams();
  let address = path;
  for (const [parameter, input] of inputs) {
    if (input.value === "") continue;
    if (parameter.in === "path") address = address.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else query.append(parameter.name, input.value);
  }
  return query.size ? `${address}?${query}` : address;
}

async function send(method, address, body, output) {
  const credential = document.getElementById("credential").value.trim();
  const headers = {};
  if (credential) headers[credential.startsWith("llmo_") ? "X-API-Key" : "Authorization"] = credential.startsWith("llmo_") ? credential : `Bearer ${credential}`;
  if (body) headers["Content-Type"] = "application/json";
  output.textContent = "…";
  try {
    const answer = await fetch(address, { method, headers, body: body || undefined });
    const text = await answer.text();
    let shown = text;
    try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* not JSON: shown as it is */ }
    output.textContent = `${method} ${address}\n${answer.status}\n\n${shown}`;
  } catch (error) {
    output.textContent = String(error);
  }
}

// A link of the form /docs#ask=ADDRESS opens the operation of that address with its parameters filled in. What comes
// after the # stays in the browser. Of several paths that fit, the one with the fewest placeholders is meant.
function askedOperation(hash, paths) {
  if (!hash.startsWith("#ask=")) return null;
  let address = "";
  try { address = decodeURIComponent(hash.slice(5)); } catch { return null; }
  const [asked, query = ""] = address.split("?");
  const given = new Map();
  for (const [name, value] of new URLSearchParams(query)) given.set(name, given.has(name) ? `${given.get(name)},${value}` : value);
  const placeholders = (path) => path.split("{").length;
  for (const path of [...paths].sort((one, other) => placeholders(one) - placeholders(other))) {
    const parts = path.split("/"), found = asked.split("/");
    if (parts.length !== found.length) continue;
    const values = new Map(given);
    const fits = parts.every((part, place) => {
      if (!part.startsWith("{")) return part === found[place];
      values.set(part.slice(1, -1), decodeURIComponent(found[place]));
      return true;
    });
    if (fits) return { path, values };
  }
  return null;
}

function operationView(path, key, operation) {
  const method = METHODS[key];
  const heading = element(
    "summary", {},
    element("span", { className: "method", textContent: method }),
    element("code", { textContent: path }), ` ${operation.summary}`,
    element("span", { className: "scope", textContent: operation["x-required-scope"] ?? "open to everybody" }),
  );
  const view = element("details", {}, heading);
  view.dataset.text = `${method} ${path} ${operation.summary}`.toLowerCase();
  view.ask = (values) => {
    const known = new Set(operation.parameters.map((parameter) => parameter.name));
    // Parameters that the description has no row for, such as filters by attribute, get one: none is lost.
    const more = [...values.keys()].filter((name) => !known.has(name)).map((name) => ({ name, in: "query" }));
    while (view.childElementCount > 1) view.lastElementChild.remove();
    const inputs = build([...operation.parameters, ...more]);
    for (const [parameter, input] of inputs) input.value = values.get(parameter.name) ?? "";
    view.hidden = false;
    view.open = true;
    view.scrollIntoView();
  };
  const build = (parameters) => {
    const [table, inputs] = parameterTable(parameters);
    const body = operation.requestBody ? element("textarea", { placeholder: "body, JSON" }) : "";
    const output = element("pre");
    const button = element("button", { type: "button", textContent: "Send" });
    button.addEventListener("click", () => send(method, addressOf(path, inputs), body && body.value, output));
    view.append(element("p", { textContent: operation.description ?? "" }), table, body, button, output);
    return inputs;
  };
  view.addEventListener("toggle", () => {
    if (view.open && view.childElementCount === 1) build(operation.parameters);
  }, { passive: true });
  return view;
}

async function start() {
  const main = document.getElementById("operations");
  const api = await (await fetch("/openapi.json")).json();
  const byTag = new Map(), readers = new Map();
  for (const [path, item] of Object.entries(api.paths)) {
    for (const key of Object.keys(METHODS).filter((name) => name in item)) {
      const tag = item[key].tags[0], view = operationView(path, key, item[key]);
      byTag.set(tag, [...(byTag.get(tag) ?? []), view]);
      if (key === "get") readers.set(path, view);
    }
  }
  main.replaceChildren(
    ...[...byTag].flatMap(([tag, views]) => [element("h2", { textContent: tag.replaceAll("_", " ") }), ...views]),
  );
  document.getElementById("find").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const view of main.querySelectorAll("details")) view.hidden = !view.dataset.text.includes(wanted);
  });
  const open = () => {
    const asked = askedOperation(location.hash, readers.keys());
    if (asked) readers.get(asked.path).ask(asked.values);
  };
  window.addEventListener("hashchange", open);
  open();
}

start().catch((error) => { document.getElementById("operations").textContent = String(error); });
