// The library: characters as cards, new ones from pictures or from the creator.
import { ask, attempt, button, dialog, dropzone, field, h, on, say, t, tell, upload } from "./core.js";
import { brush } from "./brush.js";
import { character } from "./character.js";
import { creator } from "./creator.js";

export const cutoutUrl = (one, photo) => `/files/cast/${encodeURIComponent(one.folder)}/${photo.cutout}`;

export async function cast(root) {
  const cards = h("ul", { class: "cards" });
  const damaged = h("div", { class: "notes" });
  const folder = h("p", { class: "hint" });
  const zip = dropzone(t("cast.import"), (file) => attempt(zip, async () => {
    const { added } = await ask("cast.import", { upload: await upload(file) });
    say(t("cast.added", { name: added }));
    tell("cast");
  }), { accept: ".zip", name: "import", hint: t("cast.import_hint") });
  const adding = dropzone(t("cast.drop"), (file) => attempt(adding, () => addFrom(file)), { hint: t("cast.drop_hint"), name: "photo", pastes: true });
  root.append(
    h("div", { class: "intro" }, h("h2", {}, t("cast.title")), h("p", {}, t("cast.lead"))),
    h("div", { class: "starters" },
      adding,
      h("button", { type: "button", class: "dropzone wand", onclick: create },
        h("img", { src: "/files/portrait.png?kind=fox&primary=blue&secondary=white&accent=yellow&pattern=stripes&emblem=star&headwear=tophat&headwear_colour=red&neckwear=scarf&neckwear_colour=orange&accessory=none&head=1.0&width=1.0&legs=1.0", alt: "" }),
        h("strong", {}, t("cast.create")), h("span", {}, t("cast.create_hint"))),
      zip),
    damaged, cards, folder);

  async function create() {
    const shown = dialog(t("creator.title"), await creator(() => shown.close()), { wide: true });
  }

  async function refresh(first = false) {
    const told = await ask("cast");
    folder.textContent = t("cast.folder", { folder: told.folder });
    damaged.replaceChildren(...told.damaged.map((text) => h("p", { class: "note" }, text)));
    cards.replaceChildren(...told.characters.map(card));
    if (!told.characters.length) cards.replaceChildren(h("li", { class: "empty" }, t("cast.empty")));
    if (!first) tell("cast-list", told.characters);
  }

  function card(one) {
    const looks = one.variants.length ? t("cast.looks", { count: one.variants.length + 1 }) : "";
    return h("li", {}, h("button", { type: "button", class: "card", style: `--own: ${one.colour}`, onclick: () => character(one) },
      h("span", { class: "portrait-frame" }, h("img", { src: cutoutUrl(one, one.photos[0]), alt: "" })),
      h("strong", {}, one.name),
      h("span", { class: "sub" }, one.description || t("cast.no_words")),
      looks && h("span", { class: "badge" }, looks),
      one.photos[0].uncertain && h("span", { class: "badge warn" }, t("cast.uncertain"))));
  }
  on("cast", () => refresh());
  await refresh(true);
}

/** The dialog that makes a character, or a variant of one, of a picture. */
export async function addFrom(file, variantOf = null) {
  const key = await upload(file);
  const { tool, uncertain } = await cutTool({ upload: key });
  const name = h("input", { type: "text", required: true, maxlength: 80, autocomplete: "off", value: variantOf ? "" : file.name.replace(/\.\w+$/, "").replace(/[-_@/\\:+={}]+/g, " ").trim().slice(0, 40) });
  const words = h("input", { type: "text", maxlength: 500, placeholder: t("cast.words_example") });
  const form = h("form", { class: "split", onsubmit: (event) => { event.preventDefault(); add(); } },
    h("div", {}, tool),
    h("div", { class: "stack" },
      uncertain && h("p", { class: "note" }, t("cast.uncertain_hint")),
      h("p", { class: "hint" }, t("cast.cut_hint")),
      field("name", variantOf ? t("cast.variant_name") : t("cast.name"), name, { hint: variantOf ? t("cast.variant_hint") : null }),
      field("description", t("cast.words"), words, { hint: t("cast.words_hint") }),
      h("div", { "data-field": "photo" }, h("p", { class: "error", role: "alert" })),
      h("div", { class: "row end" }, h("button", { type: "submit", class: "button strong" }, t("cast.add_this")))));
  const shown = dialog(variantOf ? t("cast.new_variant", { name: variantOf }) : t("cast.new"), form, { wide: true });
  const add = () => attempt(form, async () => {
    const mask = await paintedMask(tool);
    const { added } = await ask("cast.add", { upload: key, mask, name: name.value, description: words.value, variant_of: variantOf });
    say(t("cast.added", { name: added }));
    shown.close();
    tell("cast");
  });
  name.focus();
}

/** The brush over a picture with its cut-out, and whether that is to be looked at. */
export async function cutTool(source) {
  const told = await ask("cast.cut", source);
  const query = new URLSearchParams({ ...source, now: Date.now() });
  const tool = await brush({ picture: `/files/cutout/picture?${query}`, matte: `/files/cutout/matte?${query}`, label: t("brush.label") });
  return { tool, uncertain: told.uncertain };
}

/** What was painted, kept by the studio; null if nothing was. */
export async function paintedMask(tool, name = "photo") {
  const image = tool.mask();
  return image ? (await ask("mask", { image, field: name })).upload : null;
}
