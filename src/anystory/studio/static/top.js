// The head of the page: the name, the language, light or dark; and which tab is open, which a reload keeps.
import { h, icon, language, t } from "./core.js";

const isDark = () => document.body.classList.contains("dark");

function setTheme(theme) {
  document.body.classList.toggle("dark", theme === "dark");
  document.documentElement.style.colorScheme = theme;
}

export async function top(root) {
  const kept = localStorage.getItem("studio-theme");
  setTheme(kept || (window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
  const other = language === "de" ? "en" : "de";
  const theme = h("button", { type: "button", class: "button quiet", onclick: () => {
    setTheme(isDark() ? "light" : "dark");
    localStorage.setItem("studio-theme", isDark() ? "dark" : "light");
    paint();
  } });
  const paint = () => {
    theme.replaceChildren(icon(isDark() ? "sun" : "moon"));
    theme.setAttribute("aria-label", isDark() ? t("light") : t("dark"));
    theme.title = theme.getAttribute("aria-label");
  };
  paint();
  root.append(h("header", { class: "masthead" },
    h("h1", {}, h("img", { src: "/static/icon.svg", alt: "", width: 34, height: 34 }), h("span", {}, "AnyStory"), h("em", {}, "Studio")),
    h("div", { class: "row" },
      h("a", { class: "button quiet", href: `/${other}/`, lang: other, hreflang: other }, other === "de" ? "Deutsch" : "English"),
      theme)));
  keepTab();
}

/** Gradio's tabs forget which one is open: remember it. */
function keepTab() {
  const tabs = () => [...document.querySelectorAll("#tabs [role=tab]")];
  const wanted = Number(localStorage.getItem("studio-tab") || 0);
  const open = () => {
    const found = tabs();
    if (!found.length) return requestAnimationFrame(open);
    if (found[wanted] && wanted) found[wanted].click();
    document.getElementById("tabs").addEventListener("click", (event) => {
      const place = tabs().indexOf(event.target.closest("[role=tab]"));
      if (place >= 0) localStorage.setItem("studio-tab", place);
    });
  };
  open();
}

export function openTab(name) {
  document.querySelector(`#tabs [role=tab][id^="tab-${name}"]`)?.click();
}
