// Where somebody goes: a box that is dragged or moved by keys, or a painted place.
import { ask, attempt, button, dialog, errorPlace, freshId, h, t } from "./core.js";
import { brush } from "./brush.js";

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** An empty sheet in a picture's shape, as an address. */
function sheet(width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  context.fillStyle = "#efe7da";
  context.fillRect(0, 0, width, height);
  return canvas.toDataURL();
}

/** A picture with a box on it; `box()` is [left, top, right, bottom] in shares of the picture. */
export function boxOn(picture, colour, name, start = null) {
  let [left, top, right, bottom] = start || [0.3, 0.25, 0.7, 0.95];
  const frame = h("div", { class: "box", tabindex: 0, role: "group", "aria-label": t("places.box", { name }), style: `--own: ${colour}` }, h("span", {}, name),
    ["nw", "ne", "sw", "se"].map((corner) => h("i", { class: corner, "data-corner": corner })));
  const ground = h("div", { class: "box-ground" }, h("img", { src: picture, alt: "", draggable: false }), frame);
  let drag = null;
  function paint() {
    Object.assign(frame.style, { left: `${left * 100}%`, top: `${top * 100}%`, width: `${(right - left) * 100}%`, height: `${(bottom - top) * 100}%` });
    frame.setAttribute("aria-description", t("places.box_is", { left: Math.round(left * 100), top: Math.round(top * 100), right: Math.round(right * 100), bottom: Math.round(bottom * 100) }));
  }
  const place = (event) => {
    const around = ground.getBoundingClientRect();
    return [clamp((event.clientX - around.left) / around.width, 0, 1), clamp((event.clientY - around.top) / around.height, 0, 1)];
  };
  function move(x, y) {
    const w = right - left, high = bottom - top;
    left = clamp(left + x, 0, 1 - w); right = left + w;
    top = clamp(top + y, 0, 1 - high); bottom = top + high;
  }
  function stretch(x, y) {
    right = clamp(right + x, left + 0.05, 1);
    bottom = clamp(bottom + y, top + 0.05, 1);
  }
  ground.addEventListener("pointerdown", (event) => {
    const [x, y] = place(event), corner = event.target.dataset?.corner;
    ground.setPointerCapture(event.pointerId);
    if (corner) drag = { fixed: [corner.includes("w") ? right : left, corner.includes("n") ? bottom : top] };
    else if (event.target === frame || frame.contains(event.target)) drag = { from: [x, y] };
    else drag = { fixed: [x, y] };
    event.preventDefault();
    frame.focus();
  });
  ground.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const [x, y] = place(event);
    if (drag.fixed) {
      const [fx, fy] = drag.fixed;
      [left, right] = [Math.min(fx, x), Math.max(fx, x)];
      [top, bottom] = [Math.min(fy, y), Math.max(fy, y)];
    } else { move(x - drag.from[0], y - drag.from[1]); drag.from = [x, y]; }
    paint();
  });
  for (const kind of ["pointerup", "pointercancel"]) ground.addEventListener(kind, () => {
    drag = null;
    if (right - left < 0.05) right = clamp(left + 0.05, 0.05, 1), left = right - 0.05;
    if (bottom - top < 0.05) bottom = clamp(top + 0.05, 0.05, 1), top = bottom - 0.05;
    paint();
  });
  frame.addEventListener("keydown", (event) => {
    const ways = { ArrowLeft: [-0.02, 0], ArrowRight: [0.02, 0], ArrowUp: [0, -0.02], ArrowDown: [0, 0.02] };
    if (!ways[event.key]) return;
    event.preventDefault();
    (event.shiftKey ? stretch : move)(...ways[event.key]);
    paint();
  });
  paint();
  ground.box = () => [left, top, right, bottom].map((value) => Math.round(value * 1000) / 1000);
  return ground;
}

/** The dialog for one character: `done` gets {region, mask}; both null lets the model choose. */
export async function placeSomebody({ name, colour, picture, chosen, size, box = null, done }) {
  const ground = picture || sheet(size.width || 512, size.height || 512);
  const boxed = boxOn(ground, colour, name, chosen?.region || box);
  const painted = await brush({ picture: ground, tint: colour, label: t("places.paint_label", { name }) });
  const way = freshId("place");
  const stage = h("div", {}, boxed);
  let paints = false;
  const choice = (value, label) => h("label", {}, h("input", { type: "radio", name: way, checked: value === paints, onchange: () => { paints = value; stage.replaceChildren(value ? painted : boxed); hint.textContent = t(value ? "places.paint_hint" : "places.box_hint"); } }), h("span", {}, label));
  const hint = h("p", { class: "hint" }, t("places.box_hint"));
  const form = h("div", { class: "stack" },
    h("div", { class: "segments", role: "radiogroup", "aria-label": t("places.way") }, choice(false, t("places.by_box")), choice(true, t("places.by_paint"))),
    hint, stage, errorPlace("photo"),
    h("div", { class: "row between" },
      button(t("places.free"), () => { done({ region: null, mask: null }); shown.close(); }),
      button(t("places.take"), (event) => attempt(form, async () => {
        if (!paints) done({ region: boxed.box(), mask: null });
        else {
          const image = painted.mask();
          if (!image) throw Object.assign(new Error(t("errors.nothing_painted")), { field: "photo" });
          done({ region: null, mask: (await ask("mask", { image })).upload });
        }
        shown.close();
      }, event.currentTarget), { kind: "strong" })));
  const shown = dialog(t("places.title", { name }), form);
}
