// What is being drawn for a part of the page: asked for again and again while it runs, so that a reload finds it.
import { ask, button, h, jobs, seconds, t } from "./core.js";

const PACE = 450;

export function follow(what, { onstep = () => {}, onkept = () => {}, onend = () => {} }) {
  const progress = h("progress", { max: 1, value: 0, "aria-label": t("job.progress") });
  const line = h("p", { class: "job-line", role: "status" });
  const bar = h("div", { class: "job", hidden: true }, progress, line);
  const cancelButton = button(t("job.cancel"), async () => { cancelButton.disabled = true; await ask("cancel", { what }); }, { kind: "plain", shape: "close" });
  cancelButton.hidden = true;
  let kept = 0, timer = null;

  function show(told) {
    bar.hidden = false;
    cancelButton.hidden = !told.open;
    bar.classList.toggle("bad", told.state === "crashed" || told.state === "failed");
    progress.hidden = !told.open;
    if (told.step) progress.value = ((told.picture - 1) * told.steps + told.step) / (told.pictures * told.steps);
    else progress.removeAttribute("value");
    line.textContent = sentence(told);
  }
  function sentence(told) {
    if (told.state === "waiting") return told.ahead ? t("job.waiting", { count: told.ahead }) : t("job.starting");
    if (told.state === "loading") return t("job.loading");
    if (told.step && ["drawing", "looking"].includes(told.state)) {
      const words = told.state === "looking" ? "job.look" : told.pictures > 1 ? "job.step_of" : "job.step";
      const part = t(words, told);
      return told.seconds_left ? `${part} · ${t("job.left", { time: seconds(told.seconds_left) })}` : part;
    }
    return told.state === "failed" ? "" : t(`job.${told.state}`);
  }
  function take(told) {
    if (!told) return;
    show(told);
    if (told.kept > kept) { kept = told.kept; onkept(told); }
    if (told.open) {
      onstep(told);
      clearTimeout(timer);
      timer = setTimeout(poll, PACE);
      return;
    }
    cancelButton.disabled = false;
    if (told.state === "done") bar.hidden = true;
    onend(told);
  }
  async function poll() {
    try {
      take((await jobs())[what]);
    } catch {
      bar.hidden = false;
      line.textContent = t("errors.gone");
      timer = setTimeout(poll, 3000);
    }
  }
  return {
    bar, cancelButton,
    async start(payload) {
      kept = 0;
      progress.removeAttribute("value");
      take((await ask("draw", { what, ...payload }))[what]);
    },
    async resume() {
      const told = (await jobs())[what];
      if (told?.open) { kept = told.kept; take(told); }
    },
  };
}
