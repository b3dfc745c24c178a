// Subjects in a picture that you have: who is looked for, and the masks that were found.
import { ask, attempt, button, dropzone, errorPlace, field, h, later, on, t, upload } from "./core.js";
import { cutoutUrl } from "./cast.js";
import { follow } from "./job.js";

export async function segment(root) {
  const state = { picture: null, references: [], characters: [], colours: [], hidden: new Set() };
  const given = h("img", { alt: t("segment.picture_alt"), hidden: true });
  const pictureZone = dropzone(t("segment.drop"), (file) => attempt(composer, async () => {
    const key = await upload(file);
    await ask("segment.check", { upload: key, field: "picture" });
    state.picture = key;
    paintPicture();
    save();
  }), { hint: t("segment.drop_hint"), name: "picture", pastes: true });
  const list = h("ul", { class: "present" });
  const chips = h("div", { class: "chips", role: "group", "aria-label": t("segment.from_cast") });
  const referenceZone = dropzone(t("segment.add_picture"), (file) => attempt(composer, async () => {
    const key = await upload(file);
    const { uncertain } = await ask("segment.check", { upload: key, field: "references" });
    add({ name: freeName(file.name), upload: key, variant: null, uncertain });
  }), { hint: t("segment.add_picture_hint"), name: "references" });
  const note = h("p", { class: "note", hidden: true }, t("segment.uncertain_hint"));
  const prompt = h("input", { type: "text", maxlength: 4000, oninput: () => save() });
  const job = follow("segment", {
    onkept: () => refresh(),
    onend: (told) => { if (told.message) attempt(composer, () => { throw Object.assign(new Error(told.message), { field: told.field }); }); },
  });
  const finding = h("button", { type: "submit", class: "button strong large" }, t("segment.find"));
  const composer = h("form", { class: "composer panel", onsubmit: (event) => { event.preventDefault(); find(); } },
    h("div", { class: "stack tight given" }, h("h3", {}, t("segment.picture")), given, pictureZone),
    h("div", { class: "stack tight" }, h("h3", {}, t("segment.who")), list, note, chips, referenceZone),
    field("prompt", t("segment.prompt"), prompt, { hint: t("segment.prompt_hint") }),
    errorPlace("any"), h("div", { class: "row" }, finding, job.cancelButton), job.bar);
  const result = h("div", { class: "stack found" });
  root.append(h("div", { class: "intro" }, h("h2", {}, t("segment.title")), h("p", {}, t("segment.lead"))),
    h("div", { class: "bench" }, composer, result));

  const read = () => ({ picture: state.picture, prompt: prompt.value, references: state.references });
  const save = later(() => ask("segment.save", { segment: read() }).catch(() => null));
  const find = () => attempt(composer, () => job.start({ segment: read() }), finding);

  function freeName(file) {
    const start = file.replace(/\.\w+$/, "").replace(/[-_]+/g, " ").trim().slice(0, 60) || t("segment.picture");
    const taken = state.references.map((one) => one.name);
    let name = start;
    for (let number = 2; taken.includes(name); number += 1) name = `${start} ${number}`;
    return name;
  }
  function add(one) {
    state.references.push(one);
    paintReferences();
    save();
  }
  function paintPicture() {
    given.hidden = !state.picture;
    if (state.picture) given.src = `/files/upload/${state.picture}.png`;
    pictureZone.querySelector("strong").textContent = t(state.picture ? "segment.drop_other" : "segment.drop");
  }
  function paintReferences() {
    list.replaceChildren(...state.references.map(reference));
    note.hidden = !state.references.some((one) => one.uncertain);
    const named = new Set(state.references.filter((one) => !one.upload).map((one) => one.name));
    chips.replaceChildren(...state.characters.filter((one) => !named.has(one.name)).map((one) => h("button", {
      type: "button", class: "chip", style: `--own: ${one.colour}`, "aria-label": t("segment.add_character", { name: one.name }),
      onclick: () => add({ name: one.name, upload: null, variant: null, uncertain: false }),
    }, h("img", { src: cutoutUrl(one, one.photos[0]), alt: "" }), one.name)));
  }
  function reference(one, number) {
    const character = one.upload ? null : state.characters.find((other) => other.name === one.name);
    const look = character?.variants.find((variant) => variant.name === one.variant) ?? character;
    const name = one.upload ? h("input", { type: "text", value: one.name, maxlength: 80, "aria-label": t("segment.name_of", { number: number + 1 }), oninput: () => { one.name = name.value; save(); } }) : h("strong", {}, one.name);
    const looks = character?.variants.length ? h("select", { "aria-label": t("scene.look_of", { name: one.name }), onchange: () => { one.variant = looks.value || null; paintReferences(); save(); } },
      h("option", { value: "" }, t("cast.usual_look")), character.variants.map((variant) => h("option", { value: variant.name, selected: variant.name === one.variant }, variant.name))) : null;
    const picture = one.upload ? `/files/cutout/cut?upload=${one.upload}` : look && cutoutUrl(character, look.photos[0]);
    return h("li", { style: `--own: ${state.colours[number % state.colours.length]}` }, h("span", { class: "dot" }), picture && h("img", { src: picture, alt: "" }), name, looks,
      one.uncertain && h("span", { class: "badge warn" }, t("segment.uncertain")),
      button("", () => { state.references.splice(number, 1); paintReferences(); save(); }, { shape: "close", kind: "quiet", title: t("segment.take_out", { name: one.name }) }));
  }

  function paintFound(found) {
    if (!found) return result.replaceChildren(h("p", { class: "empty" }, t("segment.empty")));
    state.hidden.clear();
    const over = h("img", { class: "over", alt: "" });
    const paint = () => {
      const seen = found.subjects.map((_, number) => number).filter((number) => !state.hidden.has(number));
      over.src = `${found.url}/overlay.png?shown=${seen.join(",") || "none"}`;
    };
    paint();
    result.replaceChildren(
      h("figure", { class: "stacked", style: `--shape: ${found.width / found.height}` }, h("img", { src: `${found.url}/picture.png`, alt: t("segment.base_alt"), class: "base", width: found.width, height: found.height }), over),
      h("section", { class: "panel stack tight" }, h("h3", {}, t("segment.result")),
        h("ul", { class: "present" }, found.subjects.map((one, number) => subject(one, number, found, paint))),
        h("div", { class: "row" }, h("a", { class: "button plain", href: `${found.url}/all`, download: "" }, t("segment.all")), h("span", { class: "hint" }, t("segment.all_hint")))));
  }
  function subject(one, number, found, paint) {
    const eye = one.present && button("", () => {
      if (state.hidden.has(number)) state.hidden.delete(number); else state.hidden.add(number);
      eye.setAttribute("aria-pressed", String(!state.hidden.has(number)));
      paint();
    }, { shape: "eye", kind: "quiet", title: t("segment.show", { name: one.name }), "aria-pressed": "true" });
    return h("li", { style: `--own: ${one.colour}` }, h("span", { class: "dot" }), h("strong", {}, one.name),
      one.present ? h("span", { class: "sub" }, t("segment.share", { share: percent(one.share) })) : h("span", { class: "badge warn" }, t("segment.absent")),
      h("span", { class: "sub" }, t("segment.confidence", { value: percent(one.confidence) })), eye,
      one.present && h("a", { class: "button quiet", href: `${found.url}/masks/${number + 1}`, download: "", "aria-label": t("segment.mask_of", { name: one.name }) }, t("segment.mask")));
  }
  const percent = (share) => Math.round(share * 100);

  async function refresh() {
    paintFound((await ask("segment")).found);
  }
  on("cast-list", (characters) => { state.characters = characters; paintReferences(); });
  state.characters = (await ask("cast")).characters;
  const told = await ask("segment");
  Object.assign(state, { picture: told.segment.picture, references: told.segment.references, colours: told.colours });
  prompt.value = told.segment.prompt;
  paintPicture();
  paintReferences();
  paintFound(told.found);
  job.resume();
}
