"use strict";

// Shows the server's OpenAPI description and sends requests. Everything is put in as text, never as HTML.

const METHODS = { get: "GET", post: "POST", put: "PUT", patch: "PATCH", delete: "DELETE", "x-query": "QUERY" };
const FORM = "application/x-www-form-urlencoded";
const SHOWN_AT_ONCE = 14;

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// Text with `code` in backticks, as nodes.
function prose(text = "") {
  return text.split("`").map((part, place) => (place % 2 ? element("code", { textContent: part }) : part));
}

function resolved(api, value = {}) {
  if (!value.$ref) return value;
  return value.$ref.slice(2).split("/").reduce((found, part) => found[part], api);
}

function typeOf(schema = {}) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.join(" | ");
  const parts = schema.anyOf ?? schema.oneOf;
  if (parts) return parts.map(typeOf).join(" | ");
  const types = [schema.type].flat().filter(Boolean);
  const words = types.map((type) => (type === "array" ? `list of ${typeOf(schema.items)}` : type === "string" && schema.format ? schema.format : type));
  return words.join(" | ") || "any";
}

// What a schema has inside: its members, those of its elements, or each of several forms.
function insideOf(api, schema) {
  const whole = resolved(api, schema);
  const parts = whole.anyOf ?? whole.oneOf;
  if (parts) return parts.map((part) => [typeOf(part), part, true]);
  if (whole.items) return insideOf(api, whole.items);
  const needed = new Set(whole.required);
  const members = Object.entries(whole.properties ?? {}).map(([name, part]) => [name, part, needed.has(name)]);
  if (typeof whole.additionalProperties === "object") members.push(["(any name)", whole.additionalProperties, false]);
  return members;
}

// A list of members that unfold when they are opened, so that a schema may contain itself.
function schemaList(api, schema) {
  const rows = insideOf(api, schema).map(([name, part, needed]) => {
    const type = typeOf(part);
    const head = [element("code", { textContent: name }), " "];
    if (type !== name) head.push(element("span", { className: "type", textContent: type }));
    if (!needed) head.push(" · optional");
    const told = resolved(api, part).description;
    if (told) head.push(" · ", ...prose(told));
    return insideOf(api, part).length ? folded(head, () => [schemaList(api, part)], "li") : element("li", {}, ...head);
  });
  return element("ul", { className: "schema" }, ...rows);
}

// A part that is made when it is first opened.
function folded(head, make, wrap) {
  const view = element("details", {}, element("summary", {}, ...head));
  view.addEventListener("toggle", () => {
    if (view.open && view.childElementCount === 1) view.append(...make());
  });
  return wrap ? element(wrap, {}, view) : view;
}

function parameterTable(parameters, changed) {
  const inputs = new Map();
  const rows = parameters.map((parameter) => {
    const example = parameter.example === undefined ? "" : [parameter.example].flat().join(",");
    const input = element("input", { placeholder: example || typeOf(parameter.schema).slice(0, 40) });
    input.setAttribute("aria-label", parameter.name);
    if (parameter.in === "path") input.value = example;
    input.addEventListener("input", changed);
    inputs.set(parameter, input);
    const name = element("td", {}, element("code", { textContent: parameter.name }));
    if (parameter.required) name.append(element("span", { className: "needed", textContent: " needed" }));
    if (parameter.in === "header") name.append(element("span", { className: "type", textContent: " header" }));
    const told = element("td", {}, ...prose(parameter.description), " ", element("span", { className: "type", textContent: typeOf(parameter.schema) }));
    return element("tr", {}, name, element("td", {}, input), told);
  });
  const table = (part) => element("table", {}, element("tbody", {}, ...part));
  const rest = rows.slice(SHOWN_AT_ONCE);
  const views = [table(rows.slice(0, SHOWN_AT_ONCE))];
  if (rest.length) views.push(element("details", {}, element("summary", { textContent: `${rest.length} more parameters` }), table(rest)));
  return [views, inputs];
}

function addressOf(path, inputs) {
  const query = new URLSearchParams();
  let address = path;
  for (const [parameter, input] of inputs) {
    if (input.value === "" || parameter.in === "header") continue;
    if (parameter.in === "path") address = address.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else query.append(parameter.name, input.value);
  }
  return query.size ? `${address}?${query}` : address;
}

function bodyType(operation) {
  const types = Object.keys(operation.requestBody?.content ?? {});
  return types.find((type) => type === "application/json") ?? types.find((type) => type === FORM) ?? types[0];
}

// A form is written as JSON in the page, like every other body.
function encodedBody(type, text) {
  return type === FORM && text ? new URLSearchParams(Object.entries(JSON.parse(text)).map(([name, value]) => [name, String(value)])).toString() : text;
}

function quoted(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

function curlOf(method, address, isOpen, headers, body) {
  const parts = ["curl"];
  if (method !== "GET") parts.push(`-X ${method}`);
  if (!isOpen) parts.push('-H "Authorization: Bearer $TOKEN"');
  for (const [name, value] of Object.entries(headers)) parts.push(`-H ${quoted(`${name}: ${value}`)}`);
  if (body) parts.push(`-d ${quoted(body)}`);
  parts.push(quoted(address));
  return parts.join(" ");
}

async function send(method, address, given, body, output) {
  const credential = document.getElementById("credential").value.trim();
  const headers = { ...given };
  if (credential) headers[credential.startsWith("llmo_") ? "X-API-Key" : "Authorization"] = credential.startsWith("llmo_") ? credential : `Bearer ${credential}`;
  output.textContent = "…";
  try {
    const begun = performance.now();
    const answer = await fetch(address, { method, headers, body: body || undefined });
    const text = await answer.text();
    let shown = text;
    try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* not JSON: shown as it is */ }
    const facts = `${answer.status}, ${Math.round(performance.now() - begun)} ms, ${text.length} characters`;
    output.textContent = `${method} ${address}\n${facts}\n\n${shown}`;
  } catch (error) {
    output.textContent = String(error);
  }
}

function answersView(api, operation) {
  const views = [element("h3", { textContent: "Answers" })], refused = [];
  for (const [status, given] of Object.entries(operation.responses)) {
    const answer = resolved(api, given);
    if (status >= "400") { refused.push(status); continue; }
    const [[type, content] = []] = Object.entries(answer.content ?? {});
    const head = [element("strong", { textContent: status }), ` ${type ?? answer.description}`];
    const has = content?.schema && insideOf(api, content.schema).length;
    views.push(has ? folded(head, () => [schemaList(api, content.schema)]) : element("div", {}, ...head));
  }
  const errors = element("a", { href: "/docs/errors", textContent: "errors" });
  views.push(element("div", {}, element("strong", { textContent: refused.join(", ") }), " ", errors));
  return views;
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

// The parts of an opened operation; returns its inputs by parameter.
function buildOperation(api, view, path, method, operation, parameters) {
  const isOpen = operation["x-required-scope"] === undefined;
  const type = bodyType(operation), content = operation.requestBody?.content[type];
  const body = content ? element("textarea", { placeholder: `body, ${type}` }) : null;
  const command = element("pre"), output = element("pre");
  const headers = () => Object.fromEntries([
    ...(body?.value ? [["Content-Type", type]] : []),
    ...[...inputs].filter(([parameter, input]) => parameter.in === "header" && input.value).map(([parameter, input]) => [parameter.name, input.value]),
  ]);
  const request = () => [addressOf(path, inputs), headers(), body ? encodedBody(type, body.value) : ""];
  const changed = () => {
    try {
      const [address, given, sent] = request();
      command.textContent = curlOf(method, location.origin + address, isOpen, given, sent);
    } catch (error) { command.textContent = String(error); }
  };
  const [tables, inputs] = parameterTable(parameters, changed);
  view.append(element("p", {}, ...prose(operation.description)));
  if (parameters.length) view.append(element("h3", { textContent: "Parameters" }), ...tables);
  if (body) {
    if (content.example !== undefined) body.value = JSON.stringify(content.example, null, 2);
    body.addEventListener("input", changed);
    view.append(element("h3", { textContent: "Body" }));
    if (insideOf(api, content.schema).length) view.append(folded([typeOf(content.schema)], () => [schemaList(api, content.schema)]));
    view.append(body);
  }
  const button = element("button", { type: "button", textContent: "Send" });
  button.addEventListener("click", () => {
    try { send(method, ...request(), output); } catch (error) { output.textContent = String(error); }
  });
  const copy = element("button", { type: "button", textContent: "Copy as cURL" });
  copy.addEventListener("click", () => navigator.clipboard?.writeText(command.textContent));
  view.append(element("h3", { textContent: "Request" }), command, button, copy, output, ...answersView(api, operation));
  return { inputs, changed };
}

function operationView(api, path, key, operation) {
  const method = METHODS[key];
  const heading = element(
    "summary", {},
    element("span", { className: `method ${key}`, textContent: method }),
    element("code", { textContent: path }),
    element("span", { className: "scope", textContent: operation["x-required-scope"] ?? "open to everybody" }),
    element("span", { className: "sentence" }, ...prose(operation.summary)),
  );
  const view = element("details", { className: "operation" }, heading);
  view.dataset.text = `${method} ${path} ${operation.summary}`.toLowerCase();
  const build = (parameters) => buildOperation(api, view, path, method, operation, parameters);
  view.ask = (values) => {
    const known = new Set(operation.parameters.map((parameter) => parameter.name));
    // Parameters that the description has no row for, such as filters by attribute, get one: none is lost.
    const more = [...values.keys()].filter((name) => !known.has(name)).map((name) => ({ name, in: "query" }));
    while (view.childElementCount > 1) view.lastElementChild.remove();
    // Those that are given come first, so that they are seen.
    const all = [...operation.parameters, ...more];
    const given = all.filter((parameter) => values.has(parameter.name));
    const { inputs, changed } = build([...given, ...all.filter((parameter) => !values.has(parameter.name))]);
    for (const [parameter, input] of inputs) input.value = values.get(parameter.name) ?? "";
    changed();
    view.hidden = false;
    view.open = true;
    view.scrollIntoView();
  };
  view.addEventListener("toggle", () => {
    if (view.open && view.childElementCount === 1) build(operation.parameters).changed();
  }, { passive: true });
  return view;
}

async function start() {
  const main = document.getElementById("operations");
  const api = await (await fetch("/openapi.json")).json();
  const byTag = new Map(api.tags.map((tag) => [tag.name, []])), readers = new Map();
  for (const [path, item] of Object.entries(api.paths)) {
    for (const key of Object.keys(METHODS).filter((name) => name in item)) {
      const view = operationView(api, path, key, item[key]);
      byTag.get(item[key].tags[0]).push(view);
      if (key === "get") readers.set(path, view);
    }
  }
  const sections = api.tags.map((tag) => {
    const name = tag.name.replaceAll("_", " ");
    document.getElementById("groups").append(element("a", { href: `#${tag.name}`, textContent: name }));
    const about = element("p", { className: "about" }, ...prose(tag.description));
    return element("section", {}, element("h2", { id: tag.name, textContent: name }), about, ...byTag.get(tag.name));
  });
  main.replaceChildren(...sections);
  document.getElementById("find").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const section of sections) {
      const views = [...section.querySelectorAll(".operation")];
      for (const view of views) view.hidden = !view.dataset.text.includes(wanted);
      section.hidden = views.every((view) => view.hidden);
    }
  });
  const open = () => {
    const asked = askedOperation(location.hash, readers.keys());
    if (asked) readers.get(asked.path).ask(asked.values);
    else if (byTag.has(location.hash.slice(1))) document.getElementById(location.hash.slice(1)).scrollIntoView();
  };
  window.addEventListener("hashchange", open);
  open();
}

start().catch((error) => { document.getElementById("operations").textContent = String(error); });
