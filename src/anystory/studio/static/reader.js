// The book's pages to read, and the book as files.
import { ask, attempt, button, dialog, h, t } from "./core.js";

export function reader({ pages, rtl, title }) {
  let at = 0;
  const picture = h("img", { class: "page" });
  const words = h("div", { class: "seen-by-readers" });
  const line = h("p", { class: "hint", role: "status" });
  const back = button("", () => turn(-1), { shape: rtl ? "right" : "left", kind: "plain", title: t("reader.back") });
  const next = button("", () => turn(1), { shape: rtl ? "left" : "right", kind: "plain", title: t("reader.next") });
  const shown = dialog(title, h("div", { class: `reader${rtl ? " rtl" : ""}` }, back, h("figure", {}, picture, words), next, line), { wide: true });
  function turn(by) {
    at = Math.min(pages.length - 1, Math.max(0, at + by));
    picture.src = pages[at].url;
    picture.alt = t("reader.page", { one: at + 1, all: pages.length });
    words.replaceChildren(...pages[at].words.map(([kind, name, text]) => h("p", {}, name ? `${name}: ${text}` : text)));
    line.textContent = t("reader.page", { one: at + 1, all: pages.length });
    back.disabled = at === 0;
    next.disabled = at === pages.length - 1;
  }
  shown.addEventListener("keydown", (event) => {
    const ways = { ArrowLeft: rtl ? 1 : -1, ArrowRight: rtl ? -1 : 1, PageUp: -1, PageDown: 1 };
    if (ways[event.key]) { turn(ways[event.key]); event.preventDefault(); }
  });
  turn(0);
  (next.disabled ? back : next).focus();
}

export function exporter(formats) {
  const boxes = formats.map((name) => [name, h("input", { type: "checkbox", checked: name === "pdf" })]);
  const done = h("ul", { class: "exports" });
  const form = h("form", { class: "stack", onsubmit: (event) => { event.preventDefault(); run(event.submitter); } },
    h("fieldset", { "data-field": "formats" }, h("legend", {}, t("export.formats")),
      boxes.map(([name, box]) => h("label", { class: "check" }, box, h("span", {}, h("strong", {}, t(`export.${name}`)), " ", t(`export.${name}_hint`)))),
      h("p", { class: "error", role: "alert" })),
    h("div", { "data-field": "book" }, h("p", { class: "error", role: "alert" })), h("div", { "data-field": "any" }, h("p", { class: "error", role: "alert" })),
    h("div", { class: "row end" }, h("button", { type: "submit", class: "button strong" }, t("export.run"))), done);
  const run = (control) => attempt(form, async () => {
    const chosen = boxes.filter(([, box]) => box.checked).map(([name]) => name);
    const { files } = await ask("story.export", { formats: chosen });
    done.replaceChildren(...files.map((file) => h("li", {}, h("a", { class: "button plain", href: file.url, download: "" }, t("export.get", { name: file.name })))));
    done.querySelector("a")?.focus();
  }, control);
  dialog(t("export.title"), form);
}
