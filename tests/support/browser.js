// What can be measured of a page as it is shown; gives a list of complaints. `tests/support/browser.py` runs it in the page.
(what) => {
  const shown = (one) => one.checkVisibility({ visibilityProperty: true }) && !one.closest("script, style, option, title, desc");
  const called = (one) => `<${one.tagName.toLowerCase()}${one.id && "#" + one.id}> ${one.textContent.trim().slice(0, 30)}`;

  // Colours, as red, green, blue from 0 to 255 and alpha, and their contrast by WCAG 2.2.
  const colour = (text) => {
    const [r, g, b, alpha = 1] = text.match(/-?[\d.]+(e-?\d+)?/g).map(Number);
    if (text.startsWith("rgb")) return [r, g, b, alpha];
    if (text.startsWith("color(srgb ")) return [r * 255, g * 255, b * 255, alpha];
    throw new Error(`a colour that is not known: ${text}`);
  };
  const over = ([r, g, b, alpha], ground) => [r, g, b].map((value, at) => value * alpha + ground[at] * (1 - alpha));
  const ancestors = (one) => (one ? [one, ...ancestors(one.parentElement)] : []);
  const ground = (one) => ancestors(one).map((each) => colour(getComputedStyle(each).backgroundColor))
    .reduceRight((below, above) => over(above, below), [255, 255, 255]);
  const opacity = (one) => ancestors(one).reduce((all, each) => all * getComputedStyle(each).opacity, 1);
  const luminance = (rgb) => rgb.map((value) => value / 255).map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
  const contrast = (text, one) => {
    const below = ground(one), [r, g, b, alpha] = colour(text);
    const [low, high] = [luminance(over([r, g, b, alpha * opacity(one)], below)), luminance(below)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };

  // Text that is hard to read.
  function pale() {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), seen = new Map();
    while (texts.nextNode()) if (texts.currentNode.data.trim()) seen.set(texts.currentNode.parentElement, texts.currentNode.data);
    const found = [];
    for (const [one, text] of seen) {
      if (!shown(one)) continue;
      const style = getComputedStyle(one), ratio = contrast(one instanceof SVGElement ? style.fill : style.color, one);
      if (ratio < 4.5) found.push(`${ratio.toFixed(2)} : 1 of ${called(one)} "${text.trim().slice(0, 30)}"`);
    }
    for (const one of document.querySelectorAll("[placeholder]")) {
      const ratio = contrast(getComputedStyle(one, "::placeholder").color, one);
      if (ratio < 4.5) found.push(`${ratio.toFixed(2)} : 1 of the placeholder of ${called(one)}`);
    }
    return found;
  }

  // What a screen reader, or somebody who cannot use a mouse, would miss.
  function mute() {
    const found = [], all = (selector) => [...document.querySelectorAll(selector)];
    const named = (one) => one.ariaLabel || one.getAttribute("aria-labelledby")?.split(" ").every((id) => document.getElementById(id)?.textContent.trim());
    const want = (holds, complaint) => { if (!holds) found.push(complaint); };
    want(document.documentElement.lang, "no language");
    want(document.title.trim(), "no title");
    for (const tag of ["h1", "main", "body > header", "body > footer"]) want(all(tag).length === 1, `${all(tag).length} of ${tag}`);
    const levels = all("h1, h2, h3, h4, h5, h6").map((one) => Number(one.tagName[1]));
    levels.forEach((level, at) => want(level - (levels[at - 1] ?? 0) <= 1, `a heading of level ${level} behind one of ${levels[at - 1]}`));
    for (const one of all("input:not([type=hidden]), select, textarea")) want(named(one) || [...one.labels].some((label) => label.textContent.trim()), `no label: ${called(one)} ${one.name}`);
    for (const one of all("a, button, summary")) want(named(one) || one.textContent.trim(), `no name: ${one.outerHTML.slice(0, 80)}`);
    for (const one of all("table")) want(named(one) || one.caption?.textContent.trim(), `no caption: ${called(one)}`);
    for (const one of all("nav, form, [role=region], [role=group], article")) want(named(one), `no label: ${called(one)}`);
    for (const one of all("svg:not([aria-hidden])")) want(one.role && (named(one) || one.querySelector("title")), `no name: ${called(one)}`);
    for (const one of all("main *")) {
      const style = getComputedStyle(one), scrolls = /auto|scroll/.test(style.overflowX + style.overflowY);
      if (scrolls && (one.scrollWidth > one.clientWidth + 1 || one.scrollHeight > one.clientHeight + 1)) want(one.tabIndex >= 0, `cannot be scrolled with keys: ${called(one)}`);
    }
    return found;
  }

  // What can be focused, and does not show it. Call it behind a key, so that the browser shows where it is.
  function unfocused() {
    const found = [];
    for (const one of document.querySelectorAll("a[href], button, input:not([type=hidden]), select, summary, [tabindex='0']")) {
      if (!shown(one)) continue;
      one.focus({ preventScroll: true });
      const style = getComputedStyle(one), ring = parseFloat(style.outlineWidth) >= 2 && style.outlineStyle !== "none";
      if (!ring || contrast(style.outlineColor, one) < 3) found.push(called(one));
    }
    return found;
  }

  // A page that is wider than its window.
  function wide() {
    const room = document.documentElement.clientWidth, width = document.documentElement.scrollWidth;
    if (width <= room) return [];
    const clipped = (one) => ancestors(one.parentElement).some((each) => /auto|scroll|hidden/.test(getComputedStyle(each).overflowX));
    const sticking = [...document.querySelectorAll("body *")].filter((one) => shown(one) && one.getBoundingClientRect().right > room + 1 && !clipped(one));
    return [`${width} pixels wide in a window of ${room}: ${sticking.slice(0, 3).map(called).join("; ")}`];
  }

  return { pale, mute, unfocused, wide }[what]();
}
