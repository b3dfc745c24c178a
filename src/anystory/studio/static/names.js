// Completion of names in a text: the names that begin as the word before the cursor does, in a list below it.
import { freshId, h, t } from "./core.js";

export function complete(text, names, onchange) {
  const id = freshId("names");
  const list = h("ul", { class: "completion", role: "listbox", id, "aria-label": t("scene.names"), hidden: true });
  text.after(list);
  text.setAttribute("aria-autocomplete", "list");
  text.setAttribute("aria-controls", id);
  let found = [], at = 0;

  const begun = () => /(?:^|[\s,;(])@?([\p{L}\p{N}_-]{2,})$/u.exec(text.value.slice(0, text.selectionStart))?.[1];
  function close() { list.hidden = true; found = []; text.removeAttribute("aria-activedescendant"); }
  function show() {
    const start = begun()?.toLocaleLowerCase();
    found = start ? names().filter((name) => name.toLocaleLowerCase().startsWith(start) && name.toLocaleLowerCase() !== start).slice(0, 6) : [];
    if (!found.length) return close();
    at = 0;
    list.hidden = false;
    paint();
  }
  function paint() {
    list.replaceChildren(...found.map((name, number) => h("li", { role: "option", id: `${id}-${number}`, "aria-selected": String(number === at), onmousedown: (event) => { event.preventDefault(); take(number); } }, name)));
    text.setAttribute("aria-activedescendant", `${id}-${at}`);
  }
  function take(number) {
    const end = text.selectionStart, before = text.value.slice(0, end).replace(/@?[\p{L}\p{N}_-]+$/u, "");
    text.value = before + found[number] + text.value.slice(end);
    text.selectionStart = text.selectionEnd = (before + found[number]).length;
    close();
    onchange();
  }
  text.addEventListener("input", show);
  text.addEventListener("blur", close);
  text.addEventListener("keydown", (event) => {
    if (list.hidden) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      at = (at + (event.key === "ArrowDown" ? 1 : found.length - 1)) % found.length;
      paint();
    } else if (event.key === "Enter" || event.key === "Tab") take(at);
    else if (event.key === "Escape") { close(); event.stopPropagation(); }
    else return;
    event.preventDefault();
  });
}
