// What all parts of the page share: texts, elements, requests, errors beside their fields, and news between parts.

let words = {};
export const language = window.studioLanguage || "en";

export async function loadTexts() {
  if (!Object.keys(words).length) words = await (await fetch(`/texts/${language}`)).json();
}

/** A text by its path, such as "scene.draw", with {names} filled in. */
export function t(path, values = {}) {
  const text = path.split(".").reduce((found, key) => found?.[key], words);
  if (typeof text !== "string") return path;
  return text.replace(/\{(\w+)\}/g, (whole, key) => values[key] ?? whole);
}

/** The word for a value of an attribute; the value itself where there is none. */
export function word(group, value) {
  return words[group]?.[value] ?? value;
}

/** An element: h("button", {class: "plain", onclick: …}, "text", child, …). */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled" || name === "selected") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const SHAPES = {
  plus: "M12 5v14M5 12h14",
  dice: "M5 5h14v14H5zM9 9h.01M15 15h.01M15 9h.01M9 15h.01M12 12h.01",
  up: "M12 19V5M6 11l6-6 6 6",
  down: "M12 5v14M6 13l6 6 6-6",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  close: "M6 6l12 12M18 6L6 18",
  save: "M12 4v11M7 11l5 5 5-5M5 20h14",
  trash: "M5 7h14M9 7V4h6v3M7 7l1 13h8l1-13",
  brush: "M4 20c3 0 4-1 4-4l9-11a2 2 0 0 1 3 3L9 19M8 16l3 3",
  box: "M5 5h14v14H5z",
  eye: "M2 12s4-7 10-7 10 7 10 7-4 7-10 7S2 12 2 12zM12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6z",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v2M12 20v2M4 12H2M22 12h-2M5 5l1.5 1.5M17.5 17.5L19 19M19 5l-1.5 1.5M6.5 17.5L5 19",
  moon: "M20 14A8 8 0 1 1 10 4a6.5 6.5 0 0 0 10 10z",
  again: "M4 12a8 8 0 0 1 14-5l2 2M20 4v5h-5M20 12a8 8 0 0 1-14 5l-2-2M4 20v-5h5",
  copy: "M8 8h11v12H8zM5 16V4h11",
  book: "M12 6c-2-2-5-2-8-2v14c3 0 6 0 8 2 2-2 5-2 8-2V4c-3 0-6 0-8 2zM12 6v14",
  wand: "M5 19L15 9M14 4v3M12.5 5.5h3M19 8v3M17.500 9.500h3M9 4v2M8 5h2",
};

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "icon");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", SHAPES[name]);
  svg.append(path);
  return svg;
}

export function button(label, onclick, { kind = "plain", shape = null, title = null, ...more } = {}) {
  const own = { type: "button", class: `button ${kind}`, onclick, ...more };
  if (title) Object.assign(own, { title, "aria-label": title });
  return h("button", own, shape && icon(shape), label && h("span", {}, label));
}

/** What the studio answers; what it refuses is thrown with its field. */
export async function ask(action, payload = {}) {
  let answer;
  try {
    answer = await fetch(`/api/${action}`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-studio-language": language },
      body: JSON.stringify(payload),
    });
  } catch {
    throw Object.assign(new Error(t("errors.gone")), { field: null });
  }
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(told.message || t("errors.bug")), { field: told.field ?? null });
  return told;
}

export async function jobs() {
  return (await fetch("/api/jobs", { headers: { "x-studio-language": language } })).json();
}

/** Give a file to the studio; its name there. */
export async function upload(file) {
  let answer;
  try {
    answer = await fetch(`/api/upload?name=${encodeURIComponent(file.name || "picture.png")}`, {
      method: "POST",
      headers: { "x-studio-language": language },
      body: file,
    });
  } catch {
    throw Object.assign(new Error(t("errors.gone")), { field: "file" });
  }
  const told = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(told.message), { field: told.field });
  return told.upload;
}

let lastId = 0;
export const freshId = (start) => `${start}-${++lastId}`;

/** A field with its label, and room for what is wrong with it. */
export function field(name, label, control, { hint = null, wide = false } = {}) {
  control.id ||= freshId(name);
  const told = [hint && `${control.id}-hint`, `${control.id}-error`].filter(Boolean).join(" ");
  control.setAttribute("aria-describedby", told);
  return h("div", { class: `field${wide ? " wide" : ""}`, "data-field": name },
    h("label", { for: control.id }, label),
    control,
    hint && h("p", { class: "hint", id: `${control.id}-hint` }, hint),
    h("p", { class: "error", id: `${control.id}-error`, role: "alert" }));
}

/** A place for errors of something that is no input: data-field makes `showError` find it. */
export function errorPlace(name) {
  return h("div", { "data-field": name }, h("p", { class: "error", role: "alert" }));
}

export function clearErrors(root) {
  for (const line of root.querySelectorAll(".error")) line.textContent = "";
  for (const input of root.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
}

/** Put an error beside its field in `root`; without a field of that name, into the first place for any. */
export function showError(root, error) {
  const names = [error.field, FIELDS[error.field], "any"].filter(Boolean);
  const called = (name) => root.dataset?.field === name ? root : root.querySelector(`[data-field="${name}"]`);
  const place = names.map(called).find(Boolean) || (root.dataset?.field ? root : null);
  if (!place) return say(error.message, "bad");
  place.querySelector(".error").textContent = error.message;
  const input = place.querySelector("input, textarea, select");
  if (input) {
    input.setAttribute("aria-invalid", "true");
    if (input.offsetParent) input.focus({ preventScroll: true });
  }
  place.closest("details")?.setAttribute("open", "");
  place.scrollIntoView({ block: "nearest", behavior: "smooth" });
}

const FIELDS = { negative_prompt: "negative", size: "width", new_name: "name" };

/** Run what a button starts: the button waits, and an error goes beside its field. */
export async function attempt(root, work, control = null) {
  clearErrors(root);
  if (control) control.setAttribute("aria-busy", "true");
  try {
    return await work();
  } catch (error) {
    showError(root, error);
    if (!("field" in error)) throw error;
    return undefined;
  } finally {
    control?.removeAttribute("aria-busy");
  }
}

/** Say something below the page, for eyes and for screen readers. */
export function say(text, kind = "good") {
  let place = document.getElementById("studio-news");
  if (!place) {
    place = h("div", { id: "studio-news", role: "status", "aria-live": "polite" });
    document.body.append(place);
  }
  const line = h("p", { class: `news ${kind}` }, text);
  (document.querySelector("dialog[open]") || document.body).append(place);
  place.append(line);
  setTimeout(() => line.remove(), kind === "bad" ? 12000 : 5000);
}

/** News between parts: on("cast", …) hears tell("cast"). */
const ears = {};
export const on = (what, ear) => (ears[what] ||= []).push(ear);
export const tell = (what, value) => (ears[what] || []).forEach((ear) => ear(value));

/** A dialog with a title; closed by Escape, by its button, or by `close()`. It is removed then. */
export function dialog(title, content, { wide = false, onclose = () => {} } = {}) {
  const id = freshId("title");
  const close = () => element.close();
  const element = h("dialog", { class: wide ? "wide" : "", "aria-labelledby": id },
    h("header", {}, h("h2", { id }, title), button("", close, { shape: "close", title: t("close"), kind: "quiet" })),
    h("div", { class: "content" }, content));
  element.addEventListener("close", () => {
    const news = element.querySelector("#studio-news");
    if (news) document.body.append(news);
    element.remove();
    onclose();
  });
  document.body.append(element);
  element.showModal();
  return element;
}

export function confirmed(question, yes) {
  return new Promise((resolve) => {
    let answer = false;
    const shown = dialog(question, h("div", { class: "row end" },
      button(t("cancel"), () => shown.close()),
      button(yes, () => { answer = true; shown.close(); }, { kind: "danger" })), { onclose: () => resolve(answer) });
  });
}

/** A place that takes files: dropped, pasted while it is in view, or chosen. */
export function dropzone(label, take, { accept = "image/*", hint = "", name = "file", pastes = false } = {}) {
  const input = h("input", { type: "file", accept, class: "seen-by-readers", id: freshId("file"), onchange: () => {
    if (input.files.length) take(input.files[0]);
    input.value = "";
  } });
  const zone = h("label", { class: "dropzone", for: input.id }, icon("plus"), h("strong", {}, label), hint && h("span", {}, hint), input);
  for (const kind of ["dragover", "dragenter"]) zone.addEventListener(kind, (event) => { event.preventDefault(); zone.classList.add("over"); });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
  if (pastes) document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files || [])][0];
    if (!file || !zone.isConnected || !zone.offsetParent || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    take(file);
  });
  return h("div", { "data-field": name }, zone, h("p", { class: "error", role: "alert" }));
}

export function select(values, chosen, { label = (value) => value, ...more } = {}) {
  return h("select", more, values.map((value) => h("option", { value, selected: value === chosen }, label(value))));
}

/** Call `work` once it has not been asked for a while; `.now()` does not wait. */
export function later(work, delay = 500) {
  let timer = null;
  const call = () => { clearTimeout(timer); timer = setTimeout(work, delay); };
  call.now = () => { clearTimeout(timer); timer = null; return work(); };
  call.flush = () => { if (timer !== null) call.now(); };
  window.addEventListener("pagehide", () => call.flush());
  return call;
}

export const size = (bytes) => {
  let value = bytes, units = ["B", "KiB", "MiB", "GiB", "TiB"];
  while (value >= 1024 && units.length > 1) { value /= 1024; units = units.slice(1); }
  return `${value.toFixed(units[0] === "B" || value >= 100 ? 0 : 1)} ${units[0]}`;
};

export const seconds = (value) => value >= 90
  ? t("minutes", { count: Math.round(value / 60) })
  : t("seconds", { count: Math.max(1, Math.round(value)) });
