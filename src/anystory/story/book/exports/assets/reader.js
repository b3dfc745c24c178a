"use strict";
(() => {
  const root = document.documentElement;
  const pages = [...document.querySelectorAll(".page")];
  const backwards = root.dataset.reading === "rtl";
  const get = (id) => document.getElementById(id);
  const whole = pages.map((page) => page.querySelector("svg").getAttribute("viewBox"));
  const frames = pages.map((page) => JSON.parse(page.dataset.frames));
  const covers = pages.filter((one) => "cover" in one.dataset).length;
  let page = 0, panel = 0;
  let panels = window.matchMedia("(max-width: 560px)").matches;
  const place = /^#(\d+)(?:\.(\d+))?$/.exec(location.hash);
  if (place) {
    page = Math.min(Math.max(+place[1] - 1, 0), pages.length - 1);
    panel = place[2] ? Math.min(Math.max(+place[2] - 1, 0), frames[page].length - 1) : 0;
  }

  function show() {
    pages.forEach((one, index) => one.classList.toggle("here", index === page));
    fit();
    get("where").textContent = pages[page].dataset.label + " / " + pages[pages.length - 1].dataset.label +
      (panels && page >= covers ? " · " + (panel + 1) : "");
    const first = page === 0 && (!panels || panel === 0);
    const last = page === pages.length - 1 && (!panels || panel >= frames[page].length - 1);
    get("earlier").disabled = first;
    get("later").disabled = last;
    get("panels").setAttribute("aria-pressed", panels);
    get("text").setAttribute("aria-pressed", root.classList.contains("text"));
    const at = "#" + (page + 1) + (panels ? "." + (panel + 1) : "");
    try { history.replaceState(null, "", at); } catch { /* some browsers refuse this for files */ }
  }

  // The picture is as large as fits, and no larger than what it shows, so that no other panel looks in.
  function fit() {
    const close = panels && page >= covers;
    const box = close ? frames[page][panel].join(" ") : whole[page];
    const [, , width, height] = box.split(" ").map(Number);
    const here = pages[page], svg = here.querySelector("svg");
    const roomAcross = here.clientWidth - 16;
    const roomDown = (here.clientHeight - 16) * (root.classList.contains("text") ? 0.6 : 1);
    const tall = !close && height > 1.8 * width;
    const scale = tall ? Math.min(roomAcross, 720) / width : Math.min(roomAcross / width, roomDown / height);
    here.classList.toggle("tall", tall);
    svg.setAttribute("viewBox", box);
    svg.style.width = width * scale + "px";
    svg.style.height = height * scale + "px";
  }

  const steps = (index) => (panels && index >= covers ? frames[index].length : 1);

  function go(by) {
    const next = panel + by;
    if (panels && next >= 0 && next < steps(page)) panel = next;
    else if (page + by >= 0 && page + by < pages.length) {
      page += by;
      panel = by > 0 ? 0 : steps(page) - 1;
    }
    show();
  }

  function jump(to) {
    page = to;
    panel = 0;
    show();
  }

  function togglePanels() {
    panels = !panels;
    panel = 0;
    show();
  }

  function toggleText() {
    root.classList.toggle("text");
    show();
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const onButton = event.target.closest && event.target.closest("button");
    const onward = backwards ? "ArrowLeft" : "ArrowRight";
    const back = backwards ? "ArrowRight" : "ArrowLeft";
    if (event.key === onward || event.key === "PageDown" || (event.key === " " && !event.shiftKey && !onButton)) go(1);
    else if (event.key === back || event.key === "PageUp" || (event.key === " " && event.shiftKey && !onButton)) go(-1);
    else if (event.key === "Home") jump(0);
    else if (event.key === "End") jump(pages.length - 1);
    else if (event.key === "p") togglePanels();
    else if (event.key === "t") toggleText();
    else return;
    event.preventDefault();
  });

  let start = null;
  const main = document.querySelector("main");
  main.addEventListener("pointerdown", (event) => { start = event.isPrimary ? event : null; });
  main.addEventListener("pointercancel", () => { start = null; });
  main.addEventListener("pointerup", (event) => {
    if (!start || !event.isPrimary) return;
    const dx = event.clientX - start.clientX, dy = event.clientY - start.clientY;
    const touched = start.pointerType !== "mouse";
    start = null;
    if (touched && Math.abs(dx) > 40 && Math.abs(dx) > 1.5 * Math.abs(dy)) go((dx < 0) !== backwards ? 1 : -1);
  });

  get("earlier").addEventListener("click", () => go(-1));
  get("later").addEventListener("click", () => go(1));
  get("panels").addEventListener("click", togglePanels);
  get("text").addEventListener("click", toggleText);
  window.addEventListener("resize", fit);
  root.classList.add("paged");
  show();
})();
