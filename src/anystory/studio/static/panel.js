// One panel of a story as a card: what is seen, what is said, its drawings.
import { button, field, h, select, t } from "./core.js";
import { complete } from "./names.js";
import { nameOf } from "./story.js";

const KINDS = ["speech", "thought", "shout", "whisper"];

export function panelCard(number, state, actions) {
  const panel = state.story.panels[number], last = state.story.panels.length - 1;
  const picture = h("div", { class: "panel-picture" });
  const problems = h("ul", { class: "problems" });
  const strip = h("div", { class: "strip", role: "group", "aria-label": t("panel.candidates") });
  const drawn = h("div", { class: "row" });
  const prompt = h("textarea", { rows: 2, value: panel.prompt ?? "", placeholder: t("panel.prompt_example"), spellcheck: false, oninput: () => { panel.prompt = prompt.value; actions.changed(); } });
  const narration = h("textarea", { rows: 1, value: panel.narration ?? "", oninput: () => { set("narration", narration.value); } });
  const set = (name, value) => { if (value === "" || value === null) delete panel[name]; else panel[name] = value; actions.changed(); };
  const places = ["", ...new Set([...Object.keys(state.story.places), ...(panel.place ? [panel.place] : [])])];
  const place = select(places, panel.place ?? "", { label: (id) => id === "" ? t("panel.no_place") : state.story.places[id]?.name || id, onchange: () => set("place", place.value) });
  const alt = h("input", { type: "text", value: panel.alt ?? "", oninput: () => set("alt", alt.value) });
  const seed = h("input", { type: "number", min: 0, max: 4294967295, value: panel.seed ?? "", placeholder: t("panel.own_seed"), oninput: () => set("seed", seed.value === "" ? null : Number(seed.value)) });
  const promptField = field("prompt", t("panel.prompt"), prompt);
  complete(prompt, () => Object.keys(state.story.cast).map((id) => nameOf(state.story, id)), () => { panel.prompt = prompt.value; actions.changed(); });
  const card = h("li", { class: "panel-card panel", "aria-label": t("panel.title", { number: number + 1 }) },
    h("header", { class: "row between" }, h("h3", {}, t("panel.title", { number: number + 1 })),
      h("div", { class: "row" },
        button("", () => actions.move(number, -1), { shape: "up", kind: "quiet", title: t("panel.up", { number: number + 1 }), disabled: number === 0, "data-move": -1 }),
        button("", () => actions.move(number, 1), { shape: "down", kind: "quiet", title: t("panel.down", { number: number + 1 }), disabled: number === last, "data-move": 1 }),
        button("", () => { state.story.panels.splice(number + 1, 0, structuredClone(panel)); actions.repaint(); }, { shape: "copy", kind: "quiet", title: t("panel.copy", { number: number + 1 }) }),
        button("", () => actions.remove(number), { shape: "trash", kind: "quiet", title: t("panel.remove", { number: number + 1 }), disabled: last === 0 }))),
    h("div", { class: "panel-body" },
      h("div", { class: "panel-drawn" }, picture, strip, drawn),
      h("div", { class: "stack tight" }, h("div", { role: "status" }, problems), promptField, field("place", t("panel.place"), place), field("narration", t("panel.narration"), narration),
        dialogue(), h("details", { class: "more" }, h("summary", {}, t("panel.more")), h("div", { class: "fields small" }, field("alt", t("panel.alt"), alt, { wide: true }), field("seed", t("panel.seed"), seed))))));
  card.number = number;
  card.update = (now) => update(now);
  return card;

  function dialogue() {
    const list = h("ul", { class: "dialogue" });
    panel.dialogue ||= [];
    const members = Object.keys(state.story.cast);
    const paint = () => list.replaceChildren(...panel.dialogue.map((line, at) => {
      const who = select([...new Set([...members, line.speaker])], line.speaker, { label: (id) => state.story.cast[id] ? nameOf(state.story, id) : id, "aria-label": t("panel.speaker", { number: at + 1 }), onchange: () => { line.speaker = who.value; actions.changed(); } });
      const how = select(KINDS, line.kind || "speech", { label: (kind) => t(`kinds.${kind}`), "aria-label": t("panel.how", { number: at + 1 }), onchange: () => { if (how.value === "speech") delete line.kind; else line.kind = how.value; actions.changed(); } });
      const text = h("input", { type: "text", value: line.text ?? "", "aria-label": t("panel.line", { number: at + 1 }), oninput: () => { line.text = text.value; actions.changed(); } });
      return h("li", {}, who, how, text, button("", () => { panel.dialogue.splice(at, 1); paint(); actions.changed(); }, { shape: "close", kind: "quiet", title: t("panel.drop_line", { number: at + 1 }) }));
    }));
    paint();
    return h("div", {}, h("span", { class: "label" }, t("panel.dialogue")), list,
      button(t("panel.add_line"), () => { panel.dialogue.push({ speaker: members[0] || t("panel.somebody"), text: "" }); paint(); list.lastElementChild.querySelector("input").focus(); }, { shape: "plus", kind: "quiet" }));
  }

  function update(now) {
    const found = now.problems.filter((one) => one.panel === number);
    problems.replaceChildren(...found.map((one) => h("li", {}, one.text)));
    card.classList.toggle("wrong", found.length > 0);
    const told = now.panels[number], chosen = told?.candidates.find((one) => one.chosen);
    picture.replaceChildren(chosen ? h("img", { src: chosen.url, alt: told.alt }) : h("p", { class: "hint" }, t("panel.not_drawn")));
    const many = (told?.candidates.length ?? 0) > 1;
    strip.replaceChildren(...(many ? told.candidates.map((one) => h("button", { type: "button", "aria-pressed": String(one.chosen), "aria-label": t("panel.choose", { number: one.number }), onclick: () => actions.choose(number, one.number) }, h("img", { src: one.url, alt: "" }))) : []));
    const again = told && chosen && told.subjects.length ? h("select", { "aria-label": t("panel.again_who"), onchange: () => { if (again.value) actions.draw(number, { reroll: true, panel: number + 1, character: again.value }); again.value = ""; } },
      h("option", { value: "" }, t("panel.only")), told.subjects.map(([member, name]) => h("option", { value: member }, state.story.cast[member] ? nameOf(state.story, member) : name))) : null;
    drawn.replaceChildren(...[chosen ? button(t("panel.again"), () => actions.draw(number, { reroll: true, panel: number + 1 }), { shape: "dice", kind: "plain" }) : button(t("panel.draw"), () => actions.draw(number), { shape: "wand", kind: "plain" }), again].filter(Boolean));
    card.classList.remove("drawing");
  }
}
