// Keeps a page up to date: hears from the server that the run moved, fetches the same page again, and replaces every element
// marked `data-live` by the new one with the same id. Focus and scroll stay; what a reader has folded open stays open.
"use strict";

(() => {
  const PAUSE = 1000; // milliseconds between two fetches, at least
  let last = 0, waiting = false, busy = false;

  function keep(now, fresh) {
    const open = [...now.querySelectorAll("details")].map((one) => one.open);
    fresh.querySelectorAll("details").forEach((one, at) => { one.open = open[at] ?? one.open; });
  }

  function replace(now, fresh) {
    const within = now.contains(document.activeElement);
    const focused = within && [...now.querySelectorAll("a, button, summary, [tabindex]")].indexOf(document.activeElement);
    const left = now.scrollLeft, top = now.scrollTop;
    keep(now, fresh);
    now.replaceWith(fresh);
    fresh.scrollLeft = left;
    fresh.scrollTop = top;
    if (within) (fresh.querySelectorAll("a, button, summary, [tabindex]")[focused] ?? fresh).focus({ preventScroll: true });
  }

  async function refresh() {
    waiting = false;
    // A page that nobody sees is fetched when it is seen again.
    if (busy || document.hidden) { waiting = document.hidden; return; }
    busy = true;
    last = Date.now();
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const now of document.querySelectorAll("main [data-live], footer [data-live]")) {
        const fresh = page.getElementById(now.id);
        if (fresh && fresh.outerHTML !== now.outerHTML) replace(now, document.adoptNode(fresh));
      }
      // The status line keeps its element: a screen reader speaks what changes inside it.
      for (const now of document.querySelectorAll("[data-live-text]")) {
        const fresh = page.getElementById(now.id);
        if (fresh && fresh.textContent !== now.textContent) now.textContent = fresh.textContent;
      }
      document.dispatchEvent(new Event("moved"));
    } catch {
      // The server is gone or restarts; the stream comes back by itself.
    } finally {
      busy = false;
    }
  }

  function soon() {
    if (waiting) return;
    waiting = true;
    setTimeout(refresh, Math.max(0, last + PAUSE - Date.now()));
  }

  const address = document.body.dataset.stream;
  if (!address || !document.querySelector("[data-live]")) return;
  let first = true;
  const stream = new EventSource(address);
  stream.addEventListener("moved", () => {
    // What it says at once is where things stood when the page was made, or a moment later.
    if (first) { first = false; setTimeout(soon, PAUSE); } else soon();
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden && waiting) { waiting = false; soon(); } });
  addEventListener("pagehide", () => stream.close());
})();
