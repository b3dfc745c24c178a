// A story: its cast and places, its panels as cards, its pages to read and to export.
import { ask, attempt, button, confirmed, dropzone, errorPlace, field, h, later, on, say, select, t, upload, word } from "./core.js";
import { follow } from "./job.js";
import { panelCard } from "./panel.js";
import { exporter, reader } from "./reader.js";

export async function story(root) {
  const state = { story: null, problems: [], panels: [], characters: [], styles: [], templates: [], formats: [] };
  const place = h("div", { class: "story" });
  const job = follow("story", {
    onstep: (told) => live(told),
    onkept: () => refresh(),
    onend: (told) => { refresh(); if (told.message && told.state === "failed") attempt(place, () => { throw Object.assign(new Error(told.message), { field: null }); }); },
  });
  root.append(h("div", { class: "intro" }, h("h2", {}, t("story.title")), h("p", {}, t("story.lead"))), place);
  const save = later(() => keep(), 700);

  async function keep() {
    if (!state.story) return;
    take(await ask("story.save", { story: state.story }));
    paintFindings();
  }
  function take(told) {
    Object.assign(state, { problems: told.problems, panels: told.panels, styles: told.styles, templates: told.templates, formats: told.formats });
    if (!state.story) state.story = told.story && normal(told.story);
  }
  /** Show what is wrong and what is drawn, and leave what is being written alone. */
  function paintFindings() {
    for (const card of place.querySelectorAll(".panel-card")) card.update(state);
    const whole = place.querySelector(".whole-problems");
    whole?.replaceChildren(...problemsOf(null).map((text) => h("li", {}, text)));
    const missing = state.panels.filter((panel) => !panel.candidates.length).length;
    const line = place.querySelector(".drawn-line");
    if (line) line.textContent = state.problems.length && !state.panels.length ? t("story.unfinished") : t("story.drawn", { done: state.panels.length - missing, all: state.story.panels.length });
  }
  const problemsOf = (number) => state.problems.filter((one) => one.panel === number).map((one) => one.text);

  async function refresh() {
    const told = await ask("story");
    take(told);
    paintFindings();
  }
  function live(told) {
    for (const card of place.querySelectorAll(".panel-card")) card.classList.toggle("drawing", told.open && card.number === drawing);
  }
  let drawing = null;

  async function begin(payload) {
    if (state.story && !await confirmed(t("story.replace_question"), t("story.replace_yes"))) return;
    await attempt(place, async () => { state.story = null; take(await ask(...payload)); paint(); });
  }
  function start() {
    const file = dropzone(t("story.open"), (given) => attempt(file, async () => begin(["story.open", { upload: await upload(given) }])), { accept: ".yaml,.yml,.json,.md,.txt,.fountain", hint: t("story.open_hint"), name: "story_file" });
    return h("div", { class: "starters" },
      h("button", { type: "button", class: "dropzone", onclick: () => begin(["story.begin", { title: t("story.untitled") }]) }, h("strong", {}, t("story.empty")), h("span", {}, t("story.empty_hint"))),
      h("button", { type: "button", class: "dropzone", onclick: () => begin(["story.begin", { starter: true }]) }, h("strong", {}, t("story.starter")), h("span", {}, t("story.starter_hint"))),
      file);
  }
  function paint() {
    if (!state.story) return place.replaceChildren(start());
    place.replaceChildren(about(), castAndPlaces(), h("ol", { class: "panels" }, state.story.panels.map((panel, number) => panelCard(number, state, actions))),
      h("div", { class: "row center" }, button(t("story.add_panel"), () => { state.story.panels.push({ prompt: "" }); changed(); place.querySelector(".panels > :last-child textarea").focus(); }, { shape: "plus" })),
      toolbar(), errorPlace("any"), h("details", { class: "more" }, h("summary", {}, t("story.other")), start(),
        h("a", { class: "button quiet", href: "/files/story.yaml", download: "" }, t("story.download"))));
    paintFindings();
  }
  function changed(whole = true) {
    if (whole) { const y = window.scrollY; paint(); window.scrollTo(0, y); }
    save();
  }
  const actions = {
    changed: () => save(),
    repaint: changed,
    move(number, by) {
      const panels = state.story.panels, [panel] = panels.splice(number, 1);
      panels.splice(number + by, 0, panel);
      [state.panels, state.problems] = [[], []];
      changed();
      place.querySelectorAll(".panel-card")[number + by]?.querySelector(`[data-move="${by}"]`)?.focus();
    },
    async remove(number) {
      if (!await confirmed(t("story.remove_question", { number: number + 1 }), t("story.remove_yes"))) return;
      state.story.panels.splice(number, 1);
      changed();
    },
    draw: (number, payload = {}) => run({ panels: number === null ? null : [number + 1], ...payload }, number),
    choose: (number, candidate) => attempt(place, async () => { take(await ask("story.choose", { panel: number + 1, candidate })); paintFindings(); }),
  };
  async function run(payload, number = null) {
    await attempt(place, async () => {
      drawing = number;
      await save.now();
      if (state.problems.length && !state.panels.length) throw Object.assign(new Error(t("story.mend_first")), { field: null });
      await job.start(payload);
    });
  }

  function about() {
    const own = state.story;
    const text = (name, more = {}) => h("input", { type: "text", value: own[name] ?? "", oninput: (event) => { own[name] = event.target.value; save(); }, ...more });
    const choice = (name, values, usual) => select(values, own[name] ?? usual, { label: (value) => word(`${name}_names`, value), onchange: (event) => { own[name] = event.target.value; save(); } });
    const layout = select(state.templates, own.layout.template ?? "auto", { label: (value) => word("template_names", value), onchange: (event) => { own.layout.template = event.target.value; save(); } });
    const languages = [...new Set([own.language || "en", "en", "de", "fr", "es", "it", "pt", "nl", "pl", "ar", "he", "ja", "zh-Hans"])];
    const language = select(languages, own.language || "en", { label: nameOfLanguage, onchange: (event) => { own.language = event.target.value; save(); } });
    return h("section", { class: "panel fields" }, field("title", t("story.book_title"), text("title")), field("author", t("story.author"), text("author")),
      field("style", t("story.style"), choice("style", [...new Set(["plain", ...state.styles, ...(own.style ? [own.style] : []), ...Object.keys(own.styles || {})])], "plain")),
      field("template", t("story.layout"), layout), field("language", t("story.language"), language), h("div", { class: "wide", role: "status" }, h("ul", { class: "problems whole-problems" })));
  }
  function castAndPlaces() {
    const own = state.story, wanted = state.characters.filter((one) => !Object.values(own.cast).some((member) => member.library === `@${one.name}`));
    const names = Object.entries(own.cast).map(([id, member]) => h("li", { class: "chip", style: `--own: ${member.colour || colourOf(member)}` }, nameOf(own, id),
      button("", () => { delete own.cast[id]; changed(); }, { shape: "close", kind: "quiet", title: t("story.take_out", { name: nameOf(own, id) }) })));
    const add = h("select", { "aria-label": t("story.add_character"), onchange: () => { addMember(add.value); } }, h("option", { value: "" }, t("story.add_character")), wanted.map((one) => h("option", { value: one.name }, one.name)));
    const places = Object.entries(own.places).map(([id, one]) => {
      const words = h("input", { type: "text", value: one.prompt, "aria-label": t("story.place_words", { name: id }), oninput: () => { one.prompt = words.value; save(); } });
      return h("li", {}, h("strong", {}, one.name || id), words, button("", () => { delete own.places[id]; changed(); }, { shape: "close", kind: "quiet", title: t("story.take_place_out", { name: id }) }));
    });
    const fresh = h("input", { type: "text", placeholder: t("story.place_example"), "aria-label": t("story.new_place") });
    const addPlace = () => { if (fresh.value.trim()) { own.places[freeId(own.places, fresh.value.trim().split(/\s+/).pop())] = { prompt: fresh.value.trim() }; changed(); } };
    fresh.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); addPlace(); } });
    return h("section", { class: "panel two" },
      h("div", {}, h("h3", {}, t("story.cast")), h("ul", { class: "chips" }, names), wanted.length ? add : h("p", { class: "hint" }, t("story.no_more_cast"))),
      h("div", {}, h("h3", {}, t("story.places")), h("ul", { class: "places" }, places), h("div", { class: "row nowrap" }, fresh, button(t("story.add_place"), addPlace, { shape: "plus" }))));
  }
  const colourOf = (member) => state.characters.find((one) => `@${one.name}` === member.library)?.colour || "#8a8395";
  function addMember(name) {
    if (name) { state.story.cast[freeId(state.story.cast, name)] = { library: `@${name}` }; changed(); }
  }
  function toolbar() {
    return h("div", { class: "toolbar panel" }, h("p", { class: "drawn-line", role: "status" }), job.bar,
      h("div", { class: "row" }, button(t("story.draw_all"), () => run({ panels: null }), { kind: "strong", shape: "wand" }), job.cancelButton,
        button(t("story.read"), (event) => attempt(place, async () => reader(await ask("story.pages")), event.currentTarget), { shape: "book" }),
        button(t("story.export"), () => exporter(state.formats), { shape: "save" })));
  }
  on("cast-list", (characters) => { state.characters = characters; if (state.story) { const known = document.activeElement; if (!place.contains(known)) paint(); save(); } });
  state.characters = (await ask("cast")).characters;
  take(await ask("story"));
  paint();
  job.resume();
}

/** A story as the page edits it: short forms are written out. */
function normal(story) {
  const list = (value) => Array.isArray(value) ? value : [];
  const whole = { ...story, cast: {}, places: {}, layout: typeof story.layout === "string" ? { template: story.layout } : { ...story.layout } };
  for (const [id, member] of Object.entries(story.cast || {})) whole.cast[id] = typeof member !== "string" ? { ...member } : member.startsWith("@") ? { library: member } : { photos: member };
  for (const [id, place] of Object.entries(story.places || {})) whole.places[id] = typeof place === "string" ? { prompt: place } : { ...place };
  whole.panels = list(story.panels).map((panel) => typeof panel === "string" ? { prompt: panel } : { ...panel, dialogue: list(panel.dialogue).map(line) });
  return whole;
}

function line(said) {
  if (said.speaker !== undefined) return { ...said };
  const [speaker] = Object.keys(said).filter((key) => key !== "kind");
  return { speaker, text: said[speaker], ...(said.kind ? { kind: said.kind } : {}) };
}

export const nameOf = (story, id) => {
  const member = story.cast[id];
  return member?.name || (member?.library ? member.library.slice(1).split("@")[0] : id[0].toUpperCase() + id.slice(1));
};

function freeId(taken, name) {
  const short = name.normalize("NFKC").toLowerCase().replace(/[^\p{L}\p{N}_-]+/gu, "-").replace(/^[^\p{L}]+|-+$/gu, "") || "x";
  let id = short, number = 1;
  while (taken[id]) id = `${short}-${++number}`;
  return id;
}

function nameOfLanguage(code) {
  try { return new Intl.DisplayNames([document.documentElement.lang], { type: "language" }).of(code); } catch { return code; }
}
