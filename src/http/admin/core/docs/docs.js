// Shows the OpenAPI document. Everything is put in as text, never as markup.
"use strict";

function element(name, content, attributes) {
  const made = document.createElement(name);
  for (const child of [content].flat()) if (child !== undefined) made.append(child);
  return Object.assign(made, attributes);
}

function nameOf(schema) {
  return schema.$ref.split("/").pop();
}

// A schema as a short text: `Name`, `string | null`, `array of Name`.
function typeOf(schema) {
  if (!schema) return "any";
  if (schema.$ref) return nameOf(schema);
  const variants = schema.oneOf || schema.anyOf;
  if (variants) return variants.map(typeOf).join(" | ");
  if (schema.allOf) return schema.allOf.map(typeOf).join(" & ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const types = [schema.type || "any"].flat();
  return types
    .map((type) => (type === "array" ? "array of " + typeOf(schema.items) : type))
    .join(" | ") + (schema.format ? " (" + schema.format + ")" : "");
}

function table(heads, rows) {
  const head = element("thead", element("tr", heads.map((text) => element("th", text, { scope: "col" }))));
  const body = element("tbody", rows.map((row) => element("tr", row.map((cell) => element("td", cell)))));
  return element("table", [head, body]);
}

// The named schemas that a schema mentions, itself included.
function mentioned(schema) {
  if (!schema || typeof schema !== "object") return [];
  if (schema.$ref) return [nameOf(schema)];
  return Object.values(schema).flatMap(mentioned);
}

function describe(api, schema, seen) {
  const parts = [];
  for (const name of mentioned(schema)) {
    if (seen.has(name)) continue;
    seen.add(name);
    const found = api.components.schemas[name];
    if (!found) continue;
    parts.push(element("h4", name));
    if (found.description) parts.push(element("p", found.description));
    if (found.properties) {
      const required = new Set(found.required || []);
      parts.push(table(["field", "type", "meaning"], Object.entries(found.properties).map(([field, property]) => [
        element("code", field + (required.has(field) ? " *" : "")), typeOf(property), property.description || "",
      ])));
    } else {
      parts.push(element("p", element("code", typeOf(found))));
    }
    const inner = Object.values(found.properties || {}).flatMap(mentioned);
    for (const other of inner) parts.push(...describe(api, { $ref: "#/components/schemas/" + other }, seen));
  }
  return parts;
}

function content(api, title, holder, seen) {
  return Object.entries(holder.content || {}).flatMap(([media, { schema }]) => {
    if (!schema) return [];
    const line = element("p", [title + " ", element("code", media), ": ", element("code", typeOf(schema))]);
    return [line, ...describe(api, schema, seen)];
  });
}

function operation(api, path, method, call) {
  const summary = element("summary", [
    element("span", method.toUpperCase() + " ", { className: "method" }), element("code", path), " ", call.summary || "",
  ]);
  const parts = [];
  const seen = new Set();
  if (call.description) parts.push(element("p", call.description));
  parts.push(element("p", "For the roles " + call["x-required-roles"].join(", ")));
  if (call.parameters && call.parameters.length) {
    parts.push(element("h3", "Parameters"), table(["name", "in", "type", "meaning"], call.parameters.map((parameter) => [
      element("code", parameter.name + (parameter.required ? " *" : "")), parameter.in, typeOf(parameter.schema),
      parameter.description || "",
    ])));
  }
  if (call.requestBody) parts.push(element("h3", "Body"), ...content(api, "as", call.requestBody, seen));
  parts.push(element("h3", "Answers"));
  for (const [status, answer] of Object.entries(call.responses)) {
    parts.push(element("p", [element("strong", status), " " + (answer.description || "")]));
    if (status !== "default") parts.push(...content(api, "as", answer, seen));
  }
  return element("details", [summary, element("div", parts)], { id: call.operationId || "" });
}

async function show() {
  const response = await fetch("/api/v1/openapi.json");
  if (!response.ok) throw new Error("the document answered " + response.status);
  const api = await response.json();
  document.getElementById("title").textContent = api.info.title + " " + api.info.version;
  document.getElementById("description").textContent = api.info.description || "";
  const groups = new Map();
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of ["get", "put", "post", "patch", "delete"].filter((method) => item[method])) {
      const tag = (item[method].tags || ["other"])[0];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(operation(api, path, method, item[method]));
    }
  }
  const main = document.getElementById("operations");
  for (const [tag, operations] of groups) main.append(element("section", [element("h2", tag), ...operations]));
  main.append(element("section", [element("h2", "Problems"), ...describe(api, { $ref: "#/components/schemas/ProblemView" }, new Set())]));
  document.getElementById("filter").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const shown of main.querySelectorAll("details")) {
      shown.hidden = !shown.querySelector("summary").textContent.toLowerCase().includes(wanted);
    }
  });
}

show().catch((error) => {
  document.getElementById("description").textContent = "The description could not be shown: " + error.message;
});
