// A scene: what happens, who is in it, pictures as they are drawn, and the gallery.
import { ask, attempt, button, dropzone, errorPlace, field, h, later, on, say, t, upload } from "./core.js";
import { cutoutUrl } from "./cast.js";
import { follow } from "./job.js";
import { complete } from "./names.js";
import { placeSomebody } from "./places.js";
import { viewer } from "./viewer.js";

export async function scene(root) {
  const state = { cast: [], characters: [], pictures: [] };
  const prompt = h("textarea", { rows: 3, maxlength: 4000, placeholder: t("scene.prompt_example"), spellcheck: false });
  const names = h("div", { class: "chips", role: "group", "aria-label": t("scene.insert") });
  const present = h("ul", { class: "present" });
  const reads = h("p", { class: "reads" });
  const number = (more) => h("input", { type: "number", inputmode: "numeric", ...more });
  const controls = {
    pictures: number({ min: 1, max: 16, value: 1 }), seed: number({ min: 0, max: 4294967295, placeholder: t("scene.random") }),
    steps: number({ min: 1, max: 1000, placeholder: t("scene.usual") }), guidance: number({ min: 0, max: 100, step: "any", placeholder: t("scene.usual") }),
    width: number({ min: 1, max: 8192, placeholder: t("scene.usual") }), height: number({ min: 1, max: 8192, placeholder: t("scene.usual") }),
  };
  const negative = h("input", { type: "text", maxlength: 4000 });
  const verbatim = h("input", { type: "checkbox" });
  const job = follow("scene", {
    onstep: (told) => showLive(told),
    onkept: () => refresh(),
    onend: (told) => { live.hidden = true; if (told.message) attempt(composer, () => { throw Object.assign(new Error(told.message), { field: told.field }); }); showWords(told.words); },
  });
  const drawing = h("button", { type: "submit", class: "button strong large" }, t("scene.draw"));
  const wordsNote = h("p", { class: "note", hidden: true });
  const composer = h("form", { class: "composer panel", onsubmit: (event) => { event.preventDefault(); draw(); } },
    field("prompt", t("scene.prompt"), prompt, { hint: t("scene.prompt_hint") }), names,
    h("div", { "data-field": "cast" }, h("h3", {}, t("scene.who")), present, h("p", { class: "error", role: "alert" })),
    reads, wordsNote, errorPlace("any"),
    h("div", { class: "row" }, drawing, job.cancelButton), job.bar,
    h("details", { class: "more" }, h("summary", {}, t("scene.settings")),
      h("div", { class: "fields small" }, Object.entries(controls).map(([name, control]) => field(name, t(`scene.${name}`), control)),
        field("negative", t("scene.negative"), negative, { wide: true }),
        h("label", { class: "check wide" }, verbatim, h("span", {}, t("scene.verbatim"))))));
  const live = h("figure", { class: "live", hidden: true }, h("img", { alt: t("scene.live") }));
  const gallery = h("ul", { class: "gallery" });
  const record = dropzone(t("scene.restore"), (file) => attempt(record, async () => {
    const told = await ask("scene.restore", { upload: await upload(file) });
    show(told);
    say(told.missing.length ? t("scene.restored_without", { names: told.missing.join(", ") }) : t("scene.restored"), told.missing.length ? "bad" : "good");
  }), { accept: ".png,.json", hint: t("scene.restore_hint"), name: "record" });
  root.append(
    h("div", { class: "intro" }, h("h2", {}, t("scene.title")), h("p", {}, t("scene.lead"))),
    h("div", { class: "bench" }, h("div", { class: "stack" }, composer, record),
      h("div", { class: "stack" }, live, gallery)));

  const optional = (control) => control.value.trim() === "" ? null : Number(control.value);
  const read = () => ({
    prompt: prompt.value, verbatim: verbatim.checked, negative: negative.value, cast: state.cast,
    pictures: Number(controls.pictures.value) || 1,
    ...Object.fromEntries(["seed", "steps", "guidance", "width", "height"].map((name) => [name, optional(controls[name])])),
  });
  const save = later(async () => {
    const told = await ask("scene.save", { scene: read() }).catch(() => null);
    if (told) showReads(told);
  });
  composer.addEventListener("input", () => save());

  function showReads({ reads: text, subjects }) {
    reads.replaceChildren(...(text && text !== prompt.value.trim() ? [h("span", {}, t("scene.reads")), " ", text] : []));
    state.subjects = subjects;
    paintPresent();
  }
  function paintNames() {
    names.replaceChildren(...state.characters.map((one) => h("button", { type: "button", class: "chip", style: `--own: ${one.colour}`, onclick: () => insert(one.name), "aria-label": t("scene.insert_name", { name: one.name }) },
      h("img", { src: cutoutUrl(one, one.photos[0]), alt: "" }), one.name)));
    if (!state.characters.length) names.replaceChildren(h("span", { class: "hint" }, t("scene.no_cast")));
  }
  function insert(name) {
    const at = prompt.selectionStart ?? prompt.value.length, before = prompt.value.slice(0, at), after = prompt.value.slice(prompt.selectionEnd ?? at);
    const gap = before && !/\s$/.test(before) ? " " : "", end = after && !/^[\s,.!?]/.test(after) ? " " : "";
    prompt.value = before + gap + name + end + after;
    prompt.focus();
    prompt.selectionStart = prompt.selectionEnd = (before + gap + name).length;
    save();
  }
  function paintPresent() {
    const told = new Map((state.subjects || []).map(([name, colour]) => [name, colour]));
    for (const one of state.cast) if (!told.has(one.name)) told.set(one.name, state.characters.find((other) => other.name === one.name)?.colour);
    present.replaceChildren(...[...told].map(([name, colour]) => presence(name, colour)));
    const others = state.characters.filter((one) => !told.has(one.name));
    if (others.length) {
      const choice = h("select", { "aria-label": t("scene.add_somebody"), onchange: () => { setOwn(choice.value, {}); } },
        h("option", { value: "" }, t("scene.add_somebody")), others.map((one) => h("option", { value: one.name }, one.name)));
      present.append(h("li", { class: "adds" }, choice));
    }
  }
  function own(name) { return state.cast.find((one) => one.name === name); }
  function setOwn(name, changes) {
    const now = own(name);
    if (now) Object.assign(now, changes); else state.cast.push({ name, variant: null, region: null, mask: null, ...changes });
    paintPresent();
    save();
  }
  function presence(name, colour) {
    const one = state.characters.find((other) => other.name === name), chosen = own(name);
    const variants = one?.variants ?? [];
    const looks = variants.length ? h("select", { "aria-label": t("scene.look_of", { name }), onchange: () => setOwn(name, { variant: looks.value || null }) },
      h("option", { value: "" }, t("cast.usual_look")), variants.map((variant) => h("option", { value: variant.name, selected: chosen?.variant === variant.name }, variant.name))) : null;
    const placed = chosen?.region || chosen?.mask;
    return h("li", { style: `--own: ${colour || "#888"}` }, h("span", { class: "dot" }), h("strong", {}, name), looks,
      button(placed ? t("scene.placed") : t("scene.place"), () => placeSomebody({
        name, colour: colour || "#888888", picture: state.pictures[0]?.url, chosen, size: read(), done: (place) => setOwn(name, place),
      }), { shape: placed ? "box" : null, kind: "quiet" }),
      chosen && button("", () => { state.cast = state.cast.filter((other) => other !== chosen); paintPresent(); save(); }, { shape: "close", kind: "quiet", title: t("scene.take_out", { name }) }));
  }

  function draw() {
    wordsNote.hidden = true;
    return attempt(composer, async () => job.start({ scene: read() }), drawing);
  }
  function showLive(told) {
    live.hidden = !told.preview;
    if (told.preview) live.querySelector("img").src = told.preview;
  }
  function showWords(found = []) {
    wordsNote.hidden = !found.length;
    wordsNote.textContent = t("scene.unknown_words", { words: found.map((one) => `“${one}”`).join(", ") });
  }
  function paintGallery() {
    gallery.replaceChildren(...state.pictures.map((one) => h("li", {}, h("button", { type: "button", class: "picture", onclick: () => open(one.stem), "aria-label": t("scene.open", { number: Number(one.stem), prompt: one.prompt }) },
      h("img", { src: one.url, alt: one.prompt, loading: "lazy", width: one.width || null, height: one.height || null }),
      h("span", { class: "sub" }, one.redrawn ? t("scene.redrawn", { name: one.redrawn }) : one.prompt)))));
    if (!state.pictures.length) gallery.replaceChildren(h("li", { class: "empty" }, t("scene.empty")));
  }
  function open(stem) {
    viewer(state.pictures.find((one) => one.stem === stem), {
      redraw: (name) => attempt(composer, () => job.start({ picture: stem, redraw: name })),
      rerun: async (places, picture) => {
        show(await ask("scene.restore", { picture: picture.stem }));
        for (const [name, place] of Object.entries(places)) setOwn(name, place);
        await attempt(composer, () => job.start({ scene: { ...read(), pictures: 1 } }));
      },
      restore: async () => { show(await ask("scene.restore", { picture: stem })); say(t("scene.restored")); },
      forget: async () => show(await ask("scene.forget", { picture: stem })),
    });
  }
  function show(told) {
    const { scene: kept } = told;
    state.pictures = told.pictures;
    state.cast = kept.cast;
    prompt.value = kept.prompt;
    negative.value = kept.negative;
    verbatim.checked = kept.verbatim;
    for (const [name, control] of Object.entries(controls)) control.value = kept[name] ?? "";
    paintGallery();
    paintPresent();
    save.now();
  }
  async function refresh() {
    const told = await ask("scene");
    state.pictures = told.pictures;
    paintGallery();
  }
  function setCharacters(characters) {
    state.characters = characters;
    paintNames();
    paintPresent();
    save();
  }
  complete(prompt, () => state.characters.flatMap((one) => [one.name, ...one.aliases]), save);
  on("cast-list", setCharacters);
  state.characters = (await ask("cast")).characters;
  paintNames();
  show(await ask("scene"));
  job.resume();
}
