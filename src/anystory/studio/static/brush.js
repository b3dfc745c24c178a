// A picture to paint on: which of it is the subject, or where somebody goes. By pointer, finger or keyboard.
import { button, freshId, h, t } from "./core.js";

const load = (url) => new Promise((resolve, reject) => {
  const image = new Image();
  image.onload = () => resolve(image);
  image.onerror = reject;
  image.src = url;
});

const canvasOf = (width, height) => Object.assign(document.createElement("canvas"), { width, height });

/** A grey picture as a canvas whose alpha is its brightness. */
function asAlpha(image, width, height) {
  const canvas = canvasOf(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!image) return canvas;
  context.drawImage(image, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height);
  for (let at = 0; at < pixels.data.length; at += 4) {
    pixels.data[at + 3] = pixels.data[at];
    pixels.data[at] = pixels.data[at + 1] = pixels.data[at + 2] = 255;
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/**
 * The painting tool.
 *   picture: address of the picture; matte: of what is chosen already, or null;
 *   tint: a colour that covers what is chosen, or null to veil what is not; label: for screen readers.
 * `mask()` gives what is chosen as a data URL, white on black; null if nothing was painted.
 */
export async function brush({ picture, matte = null, tint = null, label }) {
  const [image, chosen] = await Promise.all([load(picture), matte ? load(matte) : null]);
  const factor = Math.max(1, 512 / Math.max(image.naturalWidth, image.naturalHeight));
  const width = Math.round(image.naturalWidth * factor), height = Math.round(image.naturalHeight * factor);
  const view = h("canvas", { tabindex: 0, role: "application", "aria-label": label, class: "painting" });
  Object.assign(view, { width, height });
  const mask = asAlpha(chosen, width, height), first = asAlpha(chosen, width, height);
  const cover = canvasOf(width, height);
  const state = { adds: true, radius: Math.max(width, height) / 24, x: width / 2, y: height / 2, last: null, changed: false, keyed: false };

  function draw() {
    const over = cover.getContext("2d"), context = view.getContext("2d");
    over.globalCompositeOperation = "source-over";
    over.clearRect(0, 0, width, height);
    over.fillStyle = tint || "#332d40";
    over.fillRect(0, 0, width, height);
    over.globalCompositeOperation = tint ? "destination-in" : "destination-out";
    over.drawImage(mask, 0, 0);
    context.globalAlpha = 1;
    context.clearRect(0, 0, width, height);
    context.imageSmoothingQuality = "high";
    context.drawImage(image, 0, 0, width, height);
    context.globalAlpha = tint ? 0.6 : 0.7;
    context.drawImage(cover, 0, 0);
    context.globalAlpha = 1;
    context.lineWidth = Math.max(1.5, width / 300);
    context.strokeStyle = "#ffffff";
    context.beginPath();
    context.arc(state.x, state.y, state.radius, 0, 7);
    context.stroke();
    context.setLineDash([context.lineWidth * 3, context.lineWidth * 3]);
    context.strokeStyle = "#1d1a26";
    context.stroke();
    context.setLineDash([]);
  }

  function paint(x, y, from = null) {
    const context = mask.getContext("2d");
    context.globalCompositeOperation = state.adds ? "source-over" : "destination-out";
    context.fillStyle = context.strokeStyle = "#fff";
    context.lineWidth = state.radius * 2;
    context.lineCap = "round";
    context.beginPath();
    context.moveTo(...(from || [x, y]));
    context.lineTo(x + 0.01, y);
    context.stroke();
    state.changed = true;
    draw();
  }

  const place = (event) => {
    const box = view.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width * width, (event.clientY - box.top) / box.height * height];
  };
  view.addEventListener("pointerdown", (event) => {
    view.setPointerCapture(event.pointerId);
    [state.x, state.y] = place(event);
    state.last = [state.x, state.y];
    paint(state.x, state.y);
    event.preventDefault();
    view.focus();
  });
  view.addEventListener("pointermove", (event) => {
    [state.x, state.y] = place(event);
    if (state.last) { paint(state.x, state.y, state.last); state.last = [state.x, state.y]; } else draw();
  });
  for (const kind of ["pointerup", "pointercancel"]) view.addEventListener(kind, () => { state.last = null; });
  view.addEventListener("keydown", (event) => {
    const step = Math.max(1, state.radius / (event.shiftKey ? 1 : 3));
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (event.key === " ") { state.keyed = true; paint(state.x, state.y); event.preventDefault(); }
    if (!moves[event.key]) return;
    event.preventDefault();
    const from = [state.x, state.y];
    state.x = Math.min(width, Math.max(0, state.x + moves[event.key][0]));
    state.y = Math.min(height, Math.max(0, state.y + moves[event.key][1]));
    if (state.keyed) paint(state.x, state.y, from); else draw();
  });
  view.addEventListener("keyup", (event) => { if (event.key === " ") state.keyed = false; });

  const ways = h("div", { class: "segments", role: "radiogroup", "aria-label": t("brush.way") });
  const name = freshId("way");
  for (const adds of [true, false]) {
    ways.append(h("label", {}, h("input", { type: "radio", name, checked: adds, onchange: () => { state.adds = adds; } }),
      h("span", {}, adds ? t("brush.add") : t("brush.remove"))));
  }
  const wide = h("input", { type: "range", min: 4, max: 100, value: 30, "aria-label": t("brush.size"), oninput: () => {
    state.radius = Math.max(width, height) * wide.value / 720;
    draw();
  } });
  const reset = button(t("brush.reset"), () => {
    const context = mask.getContext("2d");
    context.globalCompositeOperation = "source-over";
    context.clearRect(0, 0, width, height);
    context.drawImage(first, 0, 0);
    state.changed = false;
    draw();
  }, { kind: "quiet", shape: "again" });
  draw();
  const element = h("div", { class: "brush" }, view,
    h("div", { class: "row" }, ways, h("label", { class: "slider" }, h("span", {}, t("brush.size")), wide), reset),
    h("p", { class: "hint" }, t("brush.keys")));
  element.mask = () => {
    if (!state.changed) return null;
    const whole = canvasOf(width, height), context = whole.getContext("2d");
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    context.drawImage(mask, 0, 0);
    return whole.toDataURL("image/png");
  };
  return element;
}
