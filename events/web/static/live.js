// Keeps a page up to date: is notified by the server that the run moved, fetches the same page again, and replaces every element
// marked `data-live` by the new one with the same id. Focus and scroll stay; what a reader has folded open stays open.
"use strict";

(() => {
  const PAUSE = 1000; // milliseconds between two fetches, at least
  let last = 0, waiting = false, busy = false;

  function keep(now, fresh) {
    const open = [...now.querySelectorAll("details")].map((one) => one.open);
    fresh.querySelectorAll("details").forEach((one, at) => { one.open = open[at] ?? one.open; });
  }

  // The same thing in the new element: what says the same and leads to the same place, else what is at the same place.
  function again(one, now, fresh) {
    const all = (of) => [...of.querySelectorAll("a, button, summary, [tabindex]")];
    const same = (other) => other.textContent === one.textContent && other.getAttribute("href") === one.getAttribute("href");
    return all(fresh).find(same) ?? all(fresh)[all(now).indexOf(one)] ?? fresh;
  }

  function replace(now, fresh) {
    const focused = now.contains(document.activeElement) && again(document.activeElement, now, fresh);
    const scrolled = (of) => [of, ...of.querySelectorAll(".scroll")];
    const places = scrolled(now).map((one) => [one.scrollLeft, one.scrollTop]);
    keep(now, fresh);
    now.replaceWith(fresh);
    scrolled(fresh).forEach((one, at) => one.scrollTo(...(places[at] ?? [0, 0])));
    if (focused) focused.focus({ preventScroll: true });
  }

  async function refresh() {
    waiting = false;
    if (busy || document.hidden) return;
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
  let stream = null, reported = null; // what the server said last

  // Only a page that is seen listens: browsers allow few connections, and every tab would hold one.
  function listen() {
    if (document.hidden) {
      stream?.close();
      stream = null;
    } else if (!stream) {
      stream = new EventSource(address);
      stream.addEventListener("moved", (event) => {
        // At the beginning it says where things stand, which may be a moment after the page was made.
        if (reported === null) last = Date.now();
        if (event.data !== reported) soon();
        reported = event.data;
      });
    }
  }

  listen();
  document.addEventListener("visibilitychange", listen);
  addEventListener("pagehide", () => stream?.close());
})();
