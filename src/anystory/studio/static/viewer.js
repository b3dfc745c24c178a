// A picture, with the routing maps over it: who the model gave which pixel, at each step and layer.
import { ask, attempt, button, confirmed, dialog, errorPlace, freshId, h, say, t } from "./core.js";
import { placeSomebody } from "./places.js";

export async function viewer(picture, { redraw, rerun, restore, forget }) {
  const maps = await ask("scene.maps", { picture: picture.stem });
  const over = h("img", { class: "over", alt: "", hidden: true });
  const state = { on: maps.names.length > 0, step: Math.max(0, maps.steps - 1), layer: -1, refined: 1, hidden: new Set(), places: {} };
  let more = null;
  const shown = dialog(t("viewer.title", { number: Number(picture.stem) }), h("div", { class: "viewer" },
    h("figure", {}, h("div", { class: "stacked" }, h("img", { src: picture.url, alt: picture.prompt, class: "base" }), over), h("figcaption", {}, picture.prompt)),
    h("div", { class: "stack" }, maps.names.length ? [mapControls(), subjects(), again()] : h("p", { class: "hint" }, t("viewer.nobody")), files(), settings())), { wide: true });
  paint();

  function paint() {
    over.hidden = !state.on;
    over.classList.toggle("coarse", state.layer >= 0);
    const seen = maps.names.map((_, number) => number).filter((number) => !state.hidden.has(number));
    if (state.on && maps.names.length) over.src = `/files/maps/${picture.stem}.png?step=${state.step}&layer=${state.layer}&refined=${state.refined}&shown=${seen.join(",") || "none"}`;
  }
  function mapControls() {
    const onoff = h("input", { type: "checkbox", role: "switch", checked: state.on, onchange: () => { state.on = onoff.checked; paint(); } });
    const slide = (name, low, high, value, said, change) => {
      const line = h("output", {}, said(value));
      const input = h("input", { type: "range", min: low, max: high, value, id: freshId(name), "aria-valuetext": said(value), oninput: () => {
        line.textContent = said(Number(input.value));
        input.setAttribute("aria-valuetext", line.textContent);
        change(Number(input.value));
        paint();
      } });
      return h("div", { class: "slide" }, h("label", { for: input.id }, t(`viewer.${name}`)), input, line);
    };
    const kind = freshId("kind");
    const kinds = h("div", { class: "segments", role: "radiogroup", "aria-label": t("viewer.kind") }, [[0, "coarse"], [1, "refined"]].map(([value, name]) =>
      h("label", {}, h("input", { type: "radio", name: kind, checked: value === state.refined, onchange: () => { state.refined = value; paint(); } }), h("span", {}, t(`viewer.${name}`)))));
    return h("section", { class: "panel" },
      h("label", { class: "check" }, onoff, h("strong", {}, t("viewer.maps"))),
      slide("step", 0, maps.steps - 1, state.step, (value) => t("viewer.of", { one: value + 1, all: maps.steps }), (value) => { state.step = value; }),
      slide("layer", -1, maps.layers.length - 1, state.layer, (value) => value < 0 ? t("viewer.mean") : maps.layers[value], (value) => { state.layer = value; }),
      kinds);
  }
  function subjects() {
    return h("ul", { class: "present" }, maps.names.map((name, number) => {
      const colour = picture.colours[number % picture.colours.length];
      const eye = button("", () => {
        if (state.hidden.has(number)) state.hidden.delete(number); else state.hidden.add(number);
        eye.setAttribute("aria-pressed", String(!state.hidden.has(number)));
        paint();
      }, { shape: "eye", kind: "quiet", title: t("viewer.show", { name }), "aria-pressed": "true" });
      const place = button(t("viewer.move"), () => placeSomebody({
        name, colour, picture: picture.url, chosen: state.places[name], box: maps.boxes[number], size: picture,
        done: (found) => { state.places[name] = found; place.classList.add("chosen"); more.hidden = false; },
      }), { shape: "box", kind: "quiet" });
      return h("li", { style: `--own: ${colour}` }, h("span", { class: "dot" }), h("strong", {}, name),
        h("span", { class: "sub" }, t("viewer.share", { share: Math.round(maps.shares[number] * 100) })), eye, place,
        button(t("viewer.redraw", { name }), () => { shown.close(); redraw(name); }, { shape: "again", kind: "quiet" }));
    }));
  }
  function again() {
    more = h("div", { class: "row", hidden: true }, button(t("viewer.rerun"), () => { shown.close(); rerun(state.places, picture); }, { kind: "strong", shape: "wand" }));
    return h("div", {}, more, errorPlace("redraw"));
  }
  function files() {
    const link = (what) => h("a", { class: "button plain", href: `/files/download/${picture.stem}/${what}`, download: "" }, t(`viewer.get_${what}`));
    return h("section", { class: "panel" }, h("h3", {}, t("viewer.files")), h("div", { class: "row" }, ["picture", "masks", "layers", "record", "all"].filter((what) => maps.names.length || !["masks", "layers"].includes(what)).map(link)));
  }
  function settings() {
    const lines = [picture.prompt, ...Object.entries(picture.settings).filter(([name, value]) => value !== null && value !== "" && value !== false && name !== "pictures").map(([name, value]) => `${t(`scene.${name}`)}: ${value}`)];
    return h("div", { class: "row" },
      button(t("viewer.copy"), async () => { await copy(lines.join("\n")); say(t("viewer.copied")); }, { shape: "copy" }),
      button(t("viewer.restore"), () => attempt(shown, async () => { await restore(); shown.close(); }), { shape: "again" }),
      button(t("viewer.forget"), async () => { if (await confirmed(t("viewer.forget_question"), t("viewer.forget"))) { await forget(); shown.close(); } }, { shape: "trash", kind: "quiet" }));
  }
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {  // the browser does not let us: the old way works without its leave
    const area = h("textarea", { value: text });
    (document.querySelector("dialog[open]") || document.body).append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}
