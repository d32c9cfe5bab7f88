// Keys: `/` searches, `g` and a letter goes somewhere, `j` and `k` move through rows, Enter opens, `[` and `]` turn pages, `?`
// lists the keys.
// Keys do nothing in an input, or with Ctrl, Alt or Meta. All of it can be done with Tab and links as well.
"use strict";

(() => {
  const root = document.body.dataset.root;
  const GO = { r: ["/", "runs"] };
  if (root) Object.assign(GO, {
    o: [root, "overview of the run"],
    g: [`${root}/goalposts`, "goalposts"],
    s: [`${root}/search`, "search"],
    x: [`${root}/suspicion`, "suspicion"],
    p: [`${root}/policies`, "policies"],
    e: [`${root}/events`, "events"],
  });
  const KEYS = [
    ...(root ? [["/", "search this run"]] : []),
    ...Object.entries(GO).map(([letter, [, name]]) => [`g ${letter}`, name]),
    ["j", "next row"], ["k", "row before"], ["Enter", "open the row"], ["]", "next page or attempt"], ["[", "the one before"], ["?", "these keys"], ["Esc", "close"],
  ];
  const ROWS = "main tbody tr, main .hits > li";
  let going = 0; // when `g` was pressed

  function help() {
    let dialog = document.getElementById("keys");
    if (!dialog) {
      dialog = document.createElement("dialog");
      dialog.id = "keys";
      dialog.setAttribute("aria-labelledby", "keys-title");
      const title = document.createElement("h2");
      title.id = "keys-title";
      title.textContent = "Keys";
      const list = document.createElement("dl");
      list.className = "facts";
      for (const [keys, name] of KEYS) {
        const term = document.createElement("dt"), meaning = document.createElement("dd");
        keys.split(" ").forEach((key, at) => {
          if (at) term.append(" ");
          term.append(Object.assign(document.createElement("kbd"), { textContent: key }));
        });
        meaning.textContent = name;
        list.append(term, meaning);
      }
      const close = Object.assign(document.createElement("button"), { textContent: "Close", type: "button" });
      close.addEventListener("click", () => dialog.close());
      dialog.append(title, list, close);
      document.body.append(dialog);
    }
    if (!dialog.open) dialog.showModal();
  }

  // The link that a row opens is its first one.
  function rows() {
    return [...document.querySelectorAll(ROWS)].map((row) => row.querySelector("a[href]"))
      .filter((link) => link && link.offsetParent !== null);
  }

  function move(step) {
    const links = rows();
    if (!links.length) return;
    const row = document.activeElement.closest?.(ROWS);
    const at = row ? links.indexOf(row.querySelector("a[href]")) : step > 0 ? -1 : links.length;
    const link = links[Math.min(Math.max(at + step, 0), links.length - 1)];
    link.focus();
    link.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
    const on = event.target;
    if (on.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(on.tagName)) {
      if (event.key === "Escape") on.blur();
      return;
    }
    if (document.querySelector("dialog[open]")) return;
    const soon = Date.now() - going < 1500;
    going = 0;
    if (soon && GO[event.key]) location.assign(GO[event.key][0]);
    else if (event.key === "g") going = Date.now();
    else if (event.key === "j") move(1);
    else if (event.key === "k") move(-1);
    else if (event.key === "]" || event.key === "[") document.querySelector(`main a[rel=${event.key === "]" ? "next" : "prev"}]`)?.click();
    else if (event.key === "?") help();
    else if (event.key === "/" && document.getElementById("q")) document.getElementById("q").focus();
    else return;
    event.preventDefault();
  });
})();
