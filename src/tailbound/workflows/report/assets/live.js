"use strict";
// Of a page that a server gave: it follows the runs, and keeps what the reader has chosen.
(() => {
  const strip = document.getElementById("live");
  if (!strip || !location.protocol.startsWith("http")) return;
  const lines = strip.querySelector("ul"), button = strip.querySelector("button");
  const said = strip.querySelector("[role=status]");
  const RETRY = 10, MOST_FAILURES = 6, TYPING = 1000, CHOOSING = 10000;
  let page = strip.dataset.page, paused = false, failures = 0, timer = null;
  let typed = 0, choosing = 0;

  const say = (text) => { if (said.textContent !== text) said.textContent = text; };
  const ask = async (path) => {
    const answer = await fetch(location.pathname + path, { cache: "no-store", credentials: "omit" });
    if (!answer.ok) throw new Error(String(answer.status));
    return answer;
  };

  // An element by the nearest id above it and its place among its like there.
  const PLACES = "a[href],button,input,select,summary,[tabindex]";
  const home = (node) => node.closest("[id]") || document.body;
  const within = (one) => [...one.querySelectorAll(PLACES)].filter((node) => home(node) === one);
  const address = (node) => ({ id: home(node).id, place: within(home(node)).indexOf(node) });
  const found = ({ id, place }) => {
    const one = document.getElementById(id);
    return one ? within(one)[place] : undefined;
  };
  const titled = (one) => `${home(one).id}\n${one.querySelector("summary").textContent}`;

  const kept = () => {
    const focus = document.activeElement;
    const top = [...document.querySelectorAll("main [id]")].filter((one) => {
      const box = one.getBoundingClientRect();
      return box.height > 0 && box.top <= innerHeight / 2 && box.bottom > 0;
    }).pop();
    return {
      boxes: [...document.querySelectorAll(".browser")].map((box) => [box.id, box.chosen()]),
      open: new Set([...document.querySelectorAll("details[open]")].map(titled)),
      sideways: [...document.querySelectorAll("main .scroll")]
        .filter((one) => one.scrollLeft > 0).map((one) => [address(one), one.scrollLeft]),
      focus: focus && focus.closest("main, header") ? address(focus) : null,
      marked: focus && focus.type === "search" ? [focus.selectionStart, focus.selectionEnd] : null,
      top: top && scrollY > 0 ? [top.id, top.getBoundingClientRect().top] : null,
    };
  };
  const restore = (before) => {
    for (const [id, choice] of before.boxes) {
      const box = document.getElementById(id);
      if (box && box.choose) box.choose(choice);
    }
    for (const one of document.querySelectorAll("details")) one.open = before.open.has(titled(one));
    for (const [where, left] of before.sideways) {
      const one = found(where);
      if (one) one.scrollLeft = left;
    }
    const focus = before.focus && found(before.focus);
    if (focus) {
      focus.focus({ preventScroll: true });
      if (before.marked && focus.type === "search") focus.setSelectionRange(...before.marked);
    }
    const top = before.top && document.getElementById(before.top[0]);
    if (top) scrollBy({ top: top.getBoundingClientRect().top - before.top[1], behavior: "instant" });
  };

  // A page is not changed under a hand that selects, types or chooses.
  const now = () => performance.now();
  const busy = () => {
    const selection = getSelection();
    return now() - typed < TYPING || now() - choosing < CHOOSING ||
      (selection && !selection.isCollapsed && selection.toString() !== "");
  };
  document.addEventListener("input", () => { typed = now(); }, true);
  for (const kind of ["pointerdown", "keydown"])
    document.addEventListener(kind, (event) => {
      if (event.target.tagName === "SELECT") choosing = event.key === "Escape" ? 0 : now();
    }, true);
  for (const kind of ["change", "focusout"])
    document.addEventListener(kind, (event) => {
      if (event.target.tagName === "SELECT") choosing = 0;
    }, true);
  choosing = typed = -CHOOSING;

  const renew = async () => {
    const text = await (await ask("")).text();
    if (paused || busy()) return;
    const fresh = new DOMParser().parseFromString(text, "text/html");
    const before = kept();
    for (const name of ["header", "main"])
      document.querySelector(name).replaceChildren(...fresh.querySelector(name).childNodes);
    document.title = fresh.title;
    page = fresh.getElementById("live").dataset.page;
    document.dispatchEvent(new Event("renewed"));
    restore(before);
  };

  const look = async () => {
    if (document.hidden) return;
    let wait = RETRY;
    try {
      const status = await (await ask("status")).json();
      failures = 0;
      wait = status.wait;
      lines.replaceChildren(...status.lines.map((line) => {
        const one = document.createElement("li");
        one.textContent = line;
        return one;
      }));
      say(paused ? "Updates are paused; the lines above go on." : "");
      if (status.page !== page && !paused && !busy()) await renew();
      if (status.finished && status.page === page) {
        say("Finished: the page is complete and asks no more.");
        button.hidden = true;
        return;
      }
    } catch {
      failures += 1;
      if (failures >= MOST_FAILURES) {
        say("No answer: tailbound view has ended, and the page stays as it is.");
        button.hidden = true;
        return;
      }
      say("No answer from tailbound view; asking again.");
    }
    clearTimeout(timer);
    timer = setTimeout(look, wait * 1000);
  };

  button.hidden = false;
  button.addEventListener("click", () => {
    paused = !paused;
    button.textContent = paused ? "Resume updates" : "Pause updates";
    clearTimeout(timer);
    look();
  });
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (!document.hidden && !button.hidden) look();
  });
  look();
})();
