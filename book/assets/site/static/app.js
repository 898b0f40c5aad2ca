// The book's page behaviour: theme, drawer, contents, tabs, copying, keys.
// Plain scripts without a framework, so that a page also works on file://.

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// Settings survive the page; a browser may refuse to store them.
const store = {
  get(key) {
    try { return localStorage.getItem(key); } catch { return null; }
  },
  set(key, value) {
    try { localStorage.setItem(key, value); } catch { /* not kept */ }
  },
};

// ---------------------------------------------------------------- theme

const page = document.documentElement;
const systemDark = matchMedia("(prefers-color-scheme: dark)");

function switchTheme() {
  page.dataset.theme = page.dataset.theme === "dark" ? "light" : "dark";
  store.set("theme", page.dataset.theme);
}

$("#theme").addEventListener("click", switchTheme);
systemDark.addEventListener("change", () => {
  if (!store.get("theme")) {
    page.dataset.theme = systemDark.matches ? "dark" : "light";
  }
});

// ------------------------------------- contents: a drawer on small screens

const menu = $("#menu");
const sidebar = $("#sidebar");
const shade = make("div", { className: "shade" });
document.body.append(shade);

function setDrawer(open) {
  page.classList.toggle("drawer-open", open);
  menu.setAttribute("aria-expanded", open);
  // All but the drawer is inert, so focus cannot leave it.
  for (const part of $$(".top, .toc, #main, .skip")) part.inert = open;
  if (open) $("#close-menu").focus();
  else menu.focus();
}

const drawerOpen = () => page.classList.contains("drawer-open");
menu.addEventListener("click", () => setDrawer(true));
$("#close-menu").addEventListener("click", () => setDrawer(false));
shade.addEventListener("click", () => setDrawer(false));
matchMedia("(min-width: 55rem)").addEventListener("change", (event) => {
  if (event.matches && drawerOpen()) setDrawer(false);
});

// Bring this chapter's line into view without moving the page.
const here = $("[aria-current=page]", sidebar);
if (here) sidebar.scrollTop = here.offsetTop - sidebar.clientHeight / 2;

// ------------------------------------------------ "On this page" and spy

const toc = $(".toc details");
const tocLinks = new Map(
  $$(".toc a").map((a) => [decodeURIComponent(a.hash.slice(1)), a]));
const headings = [...tocLinks.keys()]
  .map((id) => document.getElementById(id)).filter(Boolean);

function spy() {
  const edge = innerHeight * 0.25;
  const atEnd = innerHeight + scrollY >= page.scrollHeight - 4;
  let current = null;
  for (const heading of headings) {
    const { top } = heading.getBoundingClientRect();
    if (top < edge || (atEnd && top < innerHeight)) current = heading;
  }
  for (const [id, link] of tocLinks) {
    if (id !== current?.id) {
      link.removeAttribute("aria-current");
    } else if (!link.hasAttribute("aria-current")) {
      link.setAttribute("aria-current", "true");
      const box = $(".toc");
      box.scrollTop = link.offsetTop - box.clientHeight / 2;
    }
  }
}

if (toc) {
  const wide = matchMedia("(min-width: 80rem)");
  const fit = () => {
    toc.open = wide.matches;
    $("summary", toc).tabIndex = wide.matches ? -1 : 0;
  };
  fit();
  toc.classList.add("ready");
  wide.addEventListener("change", fit);
  toc.addEventListener("click", (event) => {
    if (event.target.closest("a")) fit();
    else if (wide.matches && event.target.closest("summary")) {
      event.preventDefault(); // on wide screens the list is always open
    }
  });
  let waiting = false;
  addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; spy(); });
  }, { passive: true });
  spy();
}

// ----------------------------------------------------------------- tabs

const tabsets = $$(".tabset").map((box, number) => {
  // A tabset may stand inside a panel of another: take only one's own.
  const own = (e) => e.closest(".tabset") === box;
  const tabs = $$("[role=tab]", box).filter(own);
  const panels = $$("[role=tabpanel]", box).filter(own);
  const titles = tabs.map((tab) => tab.textContent.trim());

  function show(chosen) {
    tabs.forEach((tab, i) => {
      tab.setAttribute("aria-selected", i === chosen);
      tab.tabIndex = i === chosen ? 0 : -1;
      panels[i].hidden = i !== chosen;
    });
  }

  const set = { tabs, panels, show, key: titles.join("\n") };
  tabs.forEach((tab, i) => {
    tab.id ||= `tab-${number}-${i}`;
    panels[i].id ||= `panel-${number}-${i}`;
    panels[i].tabIndex = 0;
    tab.setAttribute("aria-controls", panels[i].id);
    panels[i].setAttribute("aria-labelledby", tab.id);
    tab.addEventListener("click", () => choose(set, i));
    tab.addEventListener("keydown", (event) => {
      const last = tabs.length - 1;
      const target = {
        ArrowRight: i === last ? 0 : i + 1,
        ArrowLeft: i === 0 ? last : i - 1,
        Home: 0,
        End: last,
      }[event.key];
      if (target === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      choose(set, target);
      tabs[target].focus();
    });
  });
  show(0);
  return set;
});

// Tabsets with the same titles turn together; the clicked one stays put.
function choose(set, chosen) {
  const before = set.tabs[chosen].getBoundingClientRect().top;
  for (const other of tabsets) {
    if (other.key === set.key) other.show(chosen);
  }
  const moved = set.tabs[chosen].getBoundingClientRect().top - before;
  if (moved) scrollBy({ top: moved, behavior: "instant" });
}

// ------------------------- deep links open what hides their target

function reveal() {
  const id = decodeURIComponent(location.hash.slice(1));
  const target = id && document.getElementById(id);
  if (!target) return;
  let hidden = false;
  for (let e = target; e; e = e.parentElement) {
    if (e.tagName === "DETAILS" && !e.open) {
      e.open = hidden = true;
    } else if (e.role === "tabpanel" && e.hidden) {
      for (const set of tabsets) {
        const i = set.panels.indexOf(e);
        if (i >= 0) set.show(i);
      }
      hidden = true;
    }
  }
  if (hidden) target.scrollIntoView();
}

addEventListener("hashchange", reveal);
reveal();

// Paper shows every fold.
let folded = [];
addEventListener("beforeprint", () => {
  folded = $$("details:not([open])");
  for (const fold of folded) fold.open = true;
});
addEventListener("afterprint", () => {
  for (const fold of folded) fold.open = false;
});

// ----------------------------------------------------------- copy code

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // an insecure origin has no clipboard
    const area = make("textarea", { value: text, className: "away" });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

for (const block of $$("div.sourceCode")) {
  const code = $("code", block);
  if (!code) continue;
  const button = make("button", {
    type: "button", className: "copy", textContent: "Copy",
    ariaLabel: "Copy this code",
  });
  button.addEventListener("click", async () => {
    await copy(code.textContent.replace(/\n+$/, "\n"));
    button.textContent = "Copied";
    button.ariaLabel = "Copied";
    setTimeout(() => {
      button.textContent = "Copy";
      button.ariaLabel = "Copy this code";
    }, 1500);
  });
  block.append(button);
}

// --------------------------- wide formulas scroll, also from the keyboard

function reachFormulas() {
  for (const box of $$(".equation > p")) {
    if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}

document.fonts.ready.then(reachFormulas);
addEventListener("resize", reachFormulas);

// ----------------------------------------------------- enlarge pictures

const viewer = make("dialog", { id: "viewer", ariaLabel: "Picture" });
document.body.append(viewer);
viewer.addEventListener("click", () => viewer.close());

for (const image of $$("article figure img, article .output img")) {
  if (image.closest("a")) continue;
  const button = make("button", {
    type: "button", className: "zoom",
    ariaLabel: `Enlarge: ${image.alt || "picture"}`,
  });
  image.replaceWith(button);
  button.append(image);
  if (image.style.width) { // the width is a part of the text's, not of ours
    button.style.width = image.style.width;
    image.style.width = "100%";
  }
  button.addEventListener("click", () => {
    const large = image.cloneNode();
    large.removeAttribute("style");
    const close = make("button", {
      type: "button", className: "tool", textContent: "Close",
    });
    viewer.replaceChildren(large, close);
    viewer.showModal();
  });
}

// ------------------------------------ previews of cross-references

const peek = make("div", { id: "peek", role: "tooltip", hidden: true });
document.body.append(peek);
let peekTimer = 0;

// The page that a link leads to: this one, or one that can be fetched.
async function targetPage(link) {
  if (link.pathname === location.pathname) return document;
  if (location.protocol === "file:") return null; // no reading of files
  const answer = await fetch(link.href);
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

async function showPeek(link) {
  const source = await targetPage(link).catch(() => null);
  const id = decodeURIComponent(link.hash.slice(1));
  const target = id && source?.getElementById(id);
  if (!target) return;
  const copyOf = target.cloneNode(true);
  for (const e of $$(".copy, .anchor, .footnote-back", copyOf)) e.remove();
  for (const e of $$("[id]", copyOf)) e.removeAttribute("id");
  for (const image of $$("img", copyOf)) {
    image.src = new URL(image.getAttribute("src"), link.href);
    image.loading = "eager";
  }
  copyOf.removeAttribute("id");
  if (copyOf.tagName === "DETAILS") copyOf.open = true;
  // Pictures must have their size before the box finds its place.
  await Promise.allSettled($$("img", copyOf).map((image) => image.decode()));
  if (!link.matches(":hover, :focus")) return;
  peek.replaceChildren(copyOf);
  peek.hidden = false;
  const at = link.getBoundingClientRect();
  const left = Math.min(at.left, innerWidth - peek.offsetWidth - 16);
  const below = at.bottom + peek.offsetHeight + 16 < innerHeight;
  const top = below ? at.bottom + 8 : at.top - peek.offsetHeight - 8;
  peek.style.left = `${Math.max(8, left)}px`;
  peek.style.top = `${Math.max(8, top)}px`;
  link.setAttribute("aria-describedby", "peek");
}

function hidePeek(link) {
  clearTimeout(peekTimer);
  peek.hidden = true;
  link.removeAttribute("aria-describedby");
}

const peekable = "a.xref, a.footnote-ref, a[role=doc-biblioref]";
for (const link of $$(peekable, $("article"))) {
  const soon = () => {
    clearTimeout(peekTimer);
    peekTimer = setTimeout(showPeek, 250, link);
  };
  link.addEventListener("pointerenter", (event) => {
    if (event.pointerType === "mouse") soon();
  });
  link.addEventListener("focus", () => {
    if (link.matches(":focus-visible")) soon();
  });
  link.addEventListener("pointerleave", () => hidePeek(link));
  link.addEventListener("blur", () => hidePeek(link));
}

// ----------------------------------------------------- dialogs and keys

for (const button of $$("dialog [data-close]")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}
for (const dialog of $$("dialog")) {
  dialog.addEventListener("click", (event) => { // a click on the backdrop
    if (event.target === dialog) dialog.close();
  });
}

const keys = $("#keys");
const keysOn = $("#keys-on");
keysOn.checked = store.get("keys") !== "off";
keysOn.addEventListener("change", () => {
  store.set("keys", keysOn.checked ? "on" : "off");
});
$("#keys-open").addEventListener("click", () => keys.showModal());

const go = (which) => $(`.pager a[rel=${which}]`)?.click();

// Arrow keys belong to what scrolls or chooses.
function usesArrows(element) {
  return element.closest("[role=tablist]") ||
    element.scrollWidth > element.clientWidth + 1 && element !== page &&
    element !== document.body && element.tagName !== "MAIN";
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    if (drawerOpen()) setDrawer(false);
    peek.hidden = true;
    return;
  }
  const target = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (!keysOn.checked || $("dialog[open]") || drawerOpen()) return;
  if (target.closest("input, textarea, select, [contenteditable]")) return;
  const arrow = event.key.startsWith("Arrow");
  if (arrow && (event.shiftKey || usesArrows(target))) return;
  const action = {
    ArrowLeft: () => go("prev"),
    p: () => go("prev"),
    ArrowRight: () => go("next"),
    n: () => go("next"),
    t: switchTheme,
    "?": () => keys.showModal(),
  }[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});
