// One character: its words, its photos with their cut-outs, its variants; export and removal.
import { ask, attempt, button, confirmed, dialog, dropzone, field, h, say, t, tell, upload } from "./core.js";
import { addFrom, cutoutUrl, cutTool, paintedMask } from "./cast.js";

export function character(one) {
  const place = h("div", { class: "character" });
  const shown = dialog(one.name, place, { wide: true });
  paint(one);

  async function refreshed(told, name = one.name) {
    tell("cast");
    const found = told.characters.find((other) => other.name === name);
    if (!found) return shown.close();
    shown.querySelector("h2").textContent = found.name;
    paint(found);
  }

  function paint(now) {
    one = now;
    place.replaceChildren(words(now),
      look(now, null),
      ...now.variants.map((variant) => look(now, variant)),
      h("section", { class: "panel" }, h("h3", {}, t("cast.more_looks")), h("p", { class: "hint" }, t("cast.more_looks_hint")), variantZone(now)),
      h("div", { class: "row end" },
        h("a", { class: "button plain", href: `/files/character/${encodeURIComponent(now.name)}`, download: "" }, t("cast.export")),
        button(t("cast.remove"), () => remove(now), { kind: "danger", shape: "trash" })));
  }

  function variantZone(now) {
    const zone = dropzone(t("cast.add_variant"), (file) => attempt(zone, async () => { shown.close(); await addFrom(file, now.name); }), { name: "photo" });
    return zone;
  }

  function words(now) {
    const name = h("input", { type: "text", value: now.name, maxlength: 80, required: true });
    const text = h("input", { type: "text", value: now.description, maxlength: 500 });
    const aliases = h("input", { type: "text", value: now.aliases.join(", ") });
    const colour = h("input", { type: "color", value: now.colour });
    const notes = h("textarea", { rows: 2, value: now.notes });
    const form = h("form", { class: "fields", onsubmit: (event) => { event.preventDefault(); save(); } },
      field("name", t("cast.name"), name),
      field("description", t("cast.words"), text, { hint: t("cast.words_hint") }),
      field("aliases", t("cast.aliases"), aliases, { hint: t("cast.aliases_hint") }),
      field("colour", t("cast.colour"), colour),
      field("notes", t("cast.notes"), notes, { wide: true }),
      h("div", { class: "row end wide" }, h("button", { type: "submit", class: "button strong" }, t("save"))));
    const save = () => attempt(form, async () => {
      const told = await ask("cast.edit", {
        name: now.name, new_name: name.value === now.name ? null : name.value, description: text.value, colour: colour.value,
        notes: notes.value, aliases: aliases.value.split(",").map((alias) => alias.trim()).filter(Boolean),
      });
      say(t("saved"));
      await refreshed(told, told.name);
    });
    return form;
  }

  function look(now, variant) {
    const photos = variant ? variant.photos : now.photos;
    const zone = dropzone(t("cast.add_photo"), (file) => attempt(section, async () => {
      await refreshed(await ask("cast.photo", { name: now.name, variant: variant?.name, upload: await upload(file) }));
    }), { name: "photo" });
    const section = h("section", { class: "panel" },
      h("div", { class: "row between" },
        h("h3", {}, variant ? variant.name : t("cast.usual_look")),
        variant && button(t("cast.remove_variant"), () => remove(now, variant.name), { kind: "quiet", shape: "trash" })),
      variant?.description && h("p", { class: "hint" }, variant.description),
      h("ul", { class: "photos" },
        photos.map((photo, number) => h("li", {},
          h("img", { src: cutoutUrl(now, photo), alt: t("cast.cutout_alt", { name: now.name, number: number + 1 }) }),
          photo.uncertain && h("span", { class: "badge warn" }, t("cast.uncertain")),
          h("div", { class: "row" },
            button(t("cast.correct"), (event) => attempt(section, () => correct(now, variant, number + 1), event.currentTarget), { shape: "brush", kind: "quiet" }),
            photos.length > 1 && button("", () => attempt(section, async () => refreshed(await ask("cast.drop_photo", { name: now.name, variant: variant?.name, photo: number + 1 }))),
              { shape: "trash", kind: "quiet", title: t("cast.drop_photo", { number: number + 1 }) })))),
        h("li", {}, zone)));
    return section;
  }

  async function correct(now, variant, number) {
    const source = { name: now.name, photo: number, ...(variant ? { variant: variant.name } : {}) };
    const { tool } = await cutTool(source);
    const form = h("div", { class: "stack" }, h("p", { class: "hint" }, t("cast.cut_hint")), tool,
      h("div", { "data-field": "photo" }, h("p", { class: "error", role: "alert" })),
      h("div", { class: "row end" }, button(t("save"), (event) => attempt(form, async () => {
        const mask = await paintedMask(tool);
        if (mask) await refreshed(await ask("cast.photo", { ...source, mask }));
        inner.close();
      }, event.currentTarget), { kind: "strong" })));
    const inner = dialog(t("cast.correct_title", { name: now.name }), form, { wide: true });
  }

  async function remove(now, variant = null) {
    const what = variant ? `${now.name}, ${variant}` : now.name;
    if (!await confirmed(t("cast.remove_question", { name: what }), t("cast.remove_yes"))) return;
    await attempt(place, async () => refreshed(await ask("cast.remove", { name: now.name, variant })));
  }
}
