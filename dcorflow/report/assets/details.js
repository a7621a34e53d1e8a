"use strict";
// What a row shows when it is opened. All text goes through textContent; pictures are copied element
// by element, and only what is harmless is copied.

const SVG = "http://www.w3.org/2000/svg";
const ELEMENTS = new Set([
  "svg", "g", "path", "rect", "circle", "ellipse", "line", "polyline", "polygon", "text", "tspan", "title",
  "desc", "image",
]);
const ATTRIBUTES = new Set([
  "viewbox", "class", "d", "x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "rx", "ry", "width", "height",
  "points", "transform", "fill", "fill-opacity", "fill-rule", "stroke", "stroke-width", "stroke-opacity",
  "stroke-linecap", "stroke-linejoin", "stroke-dasharray", "opacity", "font-size", "font-weight",
  "text-anchor", "dominant-baseline", "preserveaspectratio", "image-rendering", "role", "aria-label",
  "vector-effect", "dx", "dy",
]);

function make(name, values = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(values)) {
    if (key === "text") element.textContent = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

function stored(kind, place) {
  const element = document.getElementById(kind + place);
  return element ? element.textContent : "";
}

async function unpacked(kind, place) {
  const text = stored(kind, place);
  if (!text) return null;
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return JSON.parse(await new Response(stream).text());
}

function harmless(source) {
  const copy = document.createElementNS(SVG, source.localName);
  for (const { name, value } of source.attributes) {
    const lower = name.toLowerCase();
    const picture = source.localName === "image" && (lower === "href" || lower === "xlink:href");
    if (picture && /^data:image\/(webp|png);base64,[A-Za-z0-9+/=]*$/.test(value)) copy.setAttribute("href", value);
    else if (ATTRIBUTES.has(lower) && !/url\s*\(/i.test(value)) copy.setAttribute(name, value);
  }
  for (const child of source.childNodes) {
    if (child.nodeType === Node.TEXT_NODE) copy.append(child.data);
    else if (child.nodeType === Node.ELEMENT_NODE && ELEMENTS.has(child.localName)) copy.append(harmless(child));
  }
  return copy;
}

function drawn(markup) {
  const parsed = new DOMParser().parseFromString(markup, "image/svg+xml").documentElement;
  return parsed.localName === "svg" ? harmless(parsed) : null;
}

function bytesText(count) {
  let size = count;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (size < 1000) return `${Number(size.toPrecision(3))} ${unit}`;
    size /= 1000;
  }
  return `${Number(size.toPrecision(4))} TB`;
}

function part(title, content, open, count = "") {
  const summary = make("summary", {}, make("span", { text: title }));
  if (count !== "") summary.append(" ", make("span", { class: "muted", text: String(count) }));
  const box = make("details", {}, summary, content);
  box.open = open;
  return box;
}

function grid(heads, rows, numeric = []) {
  const head = make("tr", {}, ...heads.map((text, at) => make("th", {
    scope: "col", text, ...(numeric.includes(at) ? { class: "number" } : {}),
  })));
  const body = rows.map((row) => make("tr", {}, ...row.map((cell, at) => {
    const values = numeric.includes(at) ? { class: "number" } : {};
    return cell instanceof Node ? make("td", values, cell) : make("td", { ...values, text: cell });
  })));
  const table = make("table", { class: "grid" }, make("thead", {}, head), make("tbody", {}, ...body));
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": heads.join(", ") }, table);
}

function findings(rows) {
  const items = rows.map(([level, message, file, id, advice]) => {
    const line = make("p", {}, make("span", { class: `pill ${level}`, text: level }), " ", message);
    const where = file === "both" ? "source and prepared" : file;
    line.append(" ", make("span", { class: "muted", text: `(${where})` }));
    const item = make("li", {}, line);
    const more = make("p", { class: "advice", text: advice ? `→ ${advice}` : "" });
    if (!advice.includes(id)) more.append(advice ? " · " : "", make("code", { text: id }));
    item.append(more);
    return item;
  });
  return make("ul", { class: "findings" }, ...items);
}

function flagList(rows) {
  return make("ul", { class: "findings" }, ...rows.map(([level, text]) => make("li", {},
    make("p", {}, make("span", { class: `pill ${level}`, text: level === "alert" ? "quality" : "info" }), " ", text))));
}

function pictures(shown, name) {
  const box = make("div", { class: "pictures" });
  for (const { title, alt, svg } of shown.pictures) {
    const picture = drawn(svg);
    if (!picture) continue;
    const button = make("button", { type: "button", class: "picture" });
    const small = picture.cloneNode(true);
    small.setAttribute("aria-hidden", "true"); // the words beside say what it shows
    button.append(small, make("span", { text: title }), make("span", { class: "hidden", text: `: ${alt}; enlarge` }));
    button.addEventListener("click", () => enlarge(picture, `${title}: ${name}`, alt));
    box.append(button);
  }
  const words = [...shown.missing];
  if (shown.sampled && shown.sampled < shown.events) {
    words.unshift(`The scatter shows ${shown.sampled.toLocaleString("en")} of ${shown.events.toLocaleString("en")} events.`);
  }
  return make("div", {}, box, ...words.map((text) => make("p", { class: "muted", text })));
}

function enlarge(picture, title, alt) {
  const dialog = document.querySelector("dialog.large");
  dialog.setAttribute("aria-label", title);
  dialog.querySelector("div").replaceChildren(
    make("h3", { text: title }), picture, make("p", { class: "muted", text: alt }));
  dialog.showModal();
}

function metadataTable(rows) {
  return grid(["key", "value", "origin", "before"], rows.map(([key, value, origin, old, where]) => [
    key, value, where ? `${origin}: ${where}` : origin, old,
  ]));
}

function compressionTable(rows) {
  return grid(["array", "bytes", "stored", "%", "encoding", "digest of the content"], rows.map(
    ([name, bytes, kept, encoding, digest]) => [
      name, bytesText(bytes), bytesText(kept), bytes ? `${Math.round(kept / bytes * 100)}` : "", encoding,
      make("code", { class: "whole", text: digest }),
    ]), [1, 2, 3]);
}

// Returns the details of a row as an element; `row` as in page.js, `place` its number.
async function details(row, place) {
  const [shown, drawings] = await Promise.all([unpacked("d", place), unpacked("p", place)]);
  const name = row[0];
  const box = make("section", { class: "opened", "aria-label": `Details of ${name}` });
  if (row[11]) box.append(make("p", { class: "reason", text: row[11] }));
  box.append(make("p", { class: "muted" }, make("code", { text: row[13] })));
  if (!shown) {
    box.append(make("p", { text: "Its details are in its record (results/records); this page has no room for them." }));
    return box;
  }
  const counted = (shown.cues || []).filter(([level]) => level !== "info");
  const informing = (shown.cues || []).filter(([level]) => level === "info");
  if (counted.length) box.append(part("Findings of the integrity check", findings(counted), true, counted.length));
  if ((shown.flags || []).length) box.append(part("Quality of the recording", flagList(shown.flags), true, shown.flags.length));
  if (drawings && (drawings.pictures.length || drawings.missing.length)) box.append(part("Pictures", pictures(drawings, name), true));
  else if (shown.unseen) box.append(make("p", { class: "muted", text: `No pictures: ${shown.unseen}` }));
  if (shown.private.length) {
    box.append(part("Private text", grid(["place", "kind", "text", "times", "what it means"], shown.private), true, shown.private.length));
  }
  if (shown.supplements.length) {
    box.append(part("Supplements", grid(["key", "value", "origin"], shown.supplements), false, shown.supplements.length));
  }
  if (!shown.metadata) return box;
  const edited = shown.metadata.filter((r) => r[2] !== "source");
  if (edited.length) box.append(part("Metadata changed, added or guessed", metadataTable(edited), true, edited.length));
  box.append(part("All metadata", metadataTable(shown.metadata), false, shown.metadata.length));
  for (const [title, rows, heads] of [
    ["Dropped", shown.dropped, ["what", "why"]],
    ["Changed and redacted", shown.changed, ["what", "how"]],
    ["Added", shown.added, ["what", "how"]],
  ]) {
    if (rows.length) box.append(part(title, grid(heads, rows), title === "Dropped", rows.length));
  }
  if (informing.length) box.append(part("What else the check says", findings(informing), false, informing.length));
  box.append(part("Compression", compressionTable(shown.datasets), false, shown.datasets.length));
  box.append(part("Checksums", grid(["of", "value"], shown.sums.map(([of, value]) => [of, make("code", { text: value })])), false));
  box.append(part("History", grid(["step", "what was done"], shown.history), false));
  return box;
}
