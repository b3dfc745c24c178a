// The character creator: all attributes of the embedded model's world, and a dice.
import { ask, attempt, button, field, h, say, select, t, tell, word } from "./core.js";

/** The form of the creator; `done` is called with the name of the character that was added. */
export async function creator(done) {
  const { attributes, chosen } = await ask("creator");
  const form = h("form", { class: "creator", onsubmit: (event) => { event.preventDefault(); add(); } });
  const picture = h("img", { alt: "", class: "portrait" });
  const controls = {};

  const group = (name) => /colour|primary|secondary|accent/.test(name) ? "colours" : name;
  for (const [name, { values, seen }] of Object.entries(attributes)) {
    const option = (value) => h("option", { value }, word(`values_${group(name)}`, value));
    const further = values.filter((value) => !seen.includes(value));
    const known = values.filter((value) => seen.includes(value));
    const rest = further.filter((value) => value !== "none");
    const first = further.includes("none") ? ["none", ...known] : known;
    controls[name] = h("select", { onchange: () => show() }, rest.length
      ? [h("optgroup", { label: t("creator.seen") }, first.map(option)), h("optgroup", { label: t("creator.further") }, rest.map(option))]
      : values.map(option));
  }
  const fields = Object.fromEntries(Object.entries(controls).map(([name, control]) => [name, field(name, t(`attributes.${name}`), control)]));
  const title = h("input", { type: "text", required: true, autocomplete: "off", maxlength: 80 });
  const all = h("input", { type: "checkbox" });

  const read = () => Object.fromEntries(Object.entries(controls).map(([name, control]) => [name, control.value]));
  function set(values) {
    for (const [name, control] of Object.entries(controls)) if (values[name]) control.value = values[name];
    show();
  }
  function show() {
    for (const [name, { only }] of Object.entries(attributes)) {
      fields[name].hidden = Boolean(only) && Object.entries(only).some(([other, values]) => !values.includes(controls[other].value));
    }
    picture.src = `/files/portrait.png?${new URLSearchParams(read())}`;
    const values = read();
    picture.alt = t("creator.alt", { kind: word("values_kind", values.kind), colour: word("values_colours", values.primary) });
  }
  const roll = button(t("creator.dice"), async () => set((await ask("creator.dice", { all: all.checked })).chosen), { shape: "dice", kind: "strong" });
  const add = () => attempt(form, async () => {
    const { added } = await ask("creator.add", { name: title.value, chosen: read() });
    say(t("cast.added", { name: added }));
    tell("cast");
    done(added);
  });
  form.append(
    h("div", { class: "creator-side" },
      h("div", { class: "stage" }, picture),
      h("div", { class: "row center" }, roll),
      h("label", { class: "check" }, all, h("span", {}, t("creator.all")))),
    h("div", { class: "creator-main" },
      field("name", t("cast.name"), title, { hint: t("creator.name_hint") }),
      h("div", { class: "fields" }, Object.values(fields)),
      h("div", { class: "row end" }, h("button", { type: "submit", class: "button strong" }, t("cast.add_this")))));
  set(chosen);
  return form;
}
