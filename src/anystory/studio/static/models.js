// Models: which one draws and how, what lies on this machine, what is missing and the command that gets it.
import { ask, attempt, button, errorPlace, field, h, on, say, select, size, t, word } from "./core.js";

export async function models(root) {
  root.append(h("div", { class: "intro" }, h("h2", {}, t("models.title")), h("p", {}, t("models.lead"))));
  const place = h("div", { class: "bench even" });
  root.append(place);
  paint(await ask("models"));
  on("models", async () => paint(await ask("models")));

  function paint(told) {
    const { options, choices } = told;
    const known = h("datalist", { id: "known-models" }, told.models.filter((one) => one.draws).map((one) => h("option", { value: one.name })));
    const controls = {
      model: h("input", { type: "text", value: options.model, list: "known-models", spellcheck: false }),
      adapter: h("input", { type: "text", value: options.adapter ?? "", placeholder: t("models.own"), spellcheck: false }),
      device: select(choices.device.includes(options.device) ? choices.device : [options.device, ...choices.device], options.device, { label: (value) => word("devices", value) }),
      dtype: select(choices.dtype, options.dtype),
      quantize: select(["", ...choices.quantize], options.quantize ?? "", { label: (value) => value || t("models.no") }),
      offload: select(choices.offload, options.offload, { label: (value) => t(`offloads.${value}`) }),
      threads: h("input", { type: "number", min: 1, max: 1024, value: options.threads ?? "", placeholder: t("models.own_threads") }),
    };
    const form = h("form", { class: "panel stack", onsubmit: (event) => { event.preventDefault(); save(event.submitter); } },
      h("h3", {}, t("models.draws")), known,
      h("div", { class: "fields" }, Object.entries(controls).map(([name, control]) => field(name, t(`models.${name}`), control, { hint: t(`models.${name}_hint`), wide: name === "model" || name === "adapter" }))),
      errorPlace("any"),
      h("div", { class: "row end" }, h("button", { type: "submit", class: "button strong" }, t("models.use"))));
    const save = (control) => attempt(form, async () => {
      const given = Object.fromEntries(Object.entries(controls).map(([name, input]) => [name, input.value]));
      given.threads = given.threads === "" ? null : Number(given.threads);
      const now = await ask("models.choose", given);
      say(t("models.used", { name: now.options.model }));
      paint(now);
    }, control);
    place.replaceChildren(form, h("div", { class: "stack" }, machine(told), here(told), missing(told)));
  }

  function machine({ memory, gpu }) {
    return h("section", { class: "panel" }, h("h3", {}, t("models.machine")), h("dl", { class: "facts" },
      h("dt", {}, t("models.gpu")), h("dd", {}, gpu || t("models.no_gpu")),
      memory && [h("dt", {}, t("models.memory")), h("dd", {}, t("models.memory_is", { free: size(memory.free), whole: size(memory.whole) }))]));
  }
  function here({ models: found, options }) {
    return h("section", { class: "panel" }, h("h3", {}, t("models.here")), h("ul", { class: "models" }, found.map((one) => h("li", { class: one.name === options.model ? "used" : "" },
      h("div", { class: "row between" }, h("strong", {}, one.name), h("span", { class: "badge" }, one.name === options.model ? t("models.in_use") : t(`models.where_${one.where}`))),
      h("p", { class: "hint" }, [one.kind, one.bytes && size(one.bytes), one.fits].filter(Boolean).join(" · "))))));
  }
  function missing({ missing: found }) {
    if (!found.length) return h("p", { class: "hint" }, t("models.nothing_missing"));
    return h("section", { class: "panel" }, h("h3", {}, t("models.missing")), h("ul", { class: "models" }, found.map((one) => h("li", {},
      h("div", { class: "row between" }, h("strong", {}, one.kind === "extra" ? t(`extras.${one.what}`) : one.kind === "segmenter" ? t("models.segmenter") : one.what), h("span", { class: "badge" }, t(`models.kind_${one.kind}`))),
      h("code", { tabindex: 0 }, one.command)))));
  }
}
