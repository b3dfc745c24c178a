// Puts each part of the page into its place.
import { loadTexts, t } from "./core.js";
import { top } from "./top.js";
import { cast } from "./cast.js";
import { scene } from "./scene.js";
import { story } from "./story.js";
import { segment } from "./segment.js";
import { models } from "./models.js";

const parts = { top, cast, scene, story, segment, models };

export async function mount(name, element) {
  await loadTexts();
  const place = element.querySelector(".studio-part") || element;
  if (place.dataset.mounted) return;
  place.dataset.mounted = "true";
  const root = document.createElement(name === "top" ? "div" : "section");
  root.className = `part part-${name}`;
  if (name !== "top") root.setAttribute("aria-label", t(`tabs.${name}`));
  place.replaceChildren(root);
  await parts[name](root);
  root.dataset.ready = "true";
}
