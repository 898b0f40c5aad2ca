// Search in the whole book. The index is a script, static/index.js, so that
// it also loads on file://; it is fetched when the dialog first opens.
// window.BOOK holds rows of [url, chapter, title, text].

(() => {
  const dialog = document.getElementById("search");
  const input = dialog.querySelector("input");
  const list = dialog.querySelector("ol");
  const status = dialog.querySelector("[role=status]");
  const base = dialog.dataset.base;
  const LIMIT = 30;
  let loading = null;
  let rows = [];

  // Lower case without accents, one unit for each unit of the original, so
  // that a place in one is a place in the other.
  const fold = (text) => text.normalize("NFC").toLowerCase().replace(
    /[\u00c0-\uffff]/g, (c) => c.normalize("NFKD")[0]);

  function load() {
    loading ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `${base}static/index.js`;
      script.onload = resolve;
      script.onerror = reject;
      document.head.append(script);
    }).then(() => {
      rows = window.BOOK.map(([url, chapter, title, text]) => ({
        url, chapter,
        title: title.normalize("NFC"), text: text.normalize("NFC"),
        titleFolded: fold(title), textFolded: fold(text),
      }));
    });
    return loading;
  }

  const count = (text, word) => text.split(word).length - 1;
  const starts = (text, word) =>
    text.startsWith(word) || text.includes(` ${word}`);

  // Every word must occur; titles, word starts and the phrase weigh more.
  function score(row, words, phrase) {
    let sum = 0;
    for (const word of words) {
      const inTitle = row.titleFolded.includes(word);
      const inText = count(row.textFolded, word);
      if (!inTitle && !inText) return 0;
      sum += Math.min(inText, 8);
      if (inTitle) sum += starts(row.titleFolded, word) ? 25 : 12;
      if (starts(row.textFolded, word)) sum += 4;
    }
    if (row.titleFolded === phrase) sum += 60;
    else if (row.titleFolded.includes(phrase)) sum += 20;
    if (words.length > 1 && row.textFolded.includes(phrase)) sum += 15;
    return sum;
  }

  // The text as nodes, with the words found in <mark>.
  function marked(text, words) {
    const folded = fold(text);
    const nodes = [];
    let done = 0;
    while (done < text.length) {
      let at = text.length;
      let size = 0;
      for (const word of words) {
        const found = folded.indexOf(word, done);
        if (found >= 0 && (found < at ||
            found === at && word.length > size)) {
          at = found;
          size = word.length;
        }
      }
      nodes.push(text.slice(done, at));
      if (!size) break;
      const mark = document.createElement("mark");
      mark.textContent = text.slice(at, at + size);
      nodes.push(mark);
      done = at + size;
    }
    return nodes;
  }

  // Some 200 characters round the first word found.
  function excerpt(row, words) {
    const places = words.map((w) => row.textFolded.indexOf(w))
      .filter((i) => i >= 0);
    let from = places.length ? Math.max(0, Math.min(...places) - 60) : 0;
    if (from) from = row.text.indexOf(" ", from) + 1;
    const cut = row.text.slice(from, from + 200);
    const more = from + 200 < row.text.length;
    return (from ? "… " : "") + cut + (more ? " …" : "");
  }

  function item(row, words) {
    const link = document.createElement("a");
    link.href = base + row.url;
    const place = document.createElement("small");
    place.textContent = row.chapter === row.title ? "" : row.chapter;
    const title = document.createElement("b");
    title.append(...marked(row.title, words));
    const text = document.createElement("span");
    text.append(...marked(excerpt(row, words), words));
    link.append(place, title, text);
    const li = document.createElement("li");
    li.append(link);
    return li;
  }

  async function find() {
    const phrase = fold(input.value).trim().replace(/\s+/g, " ");
    const words = phrase.split(" ").filter(Boolean);
    try {
      await load();
    } catch {
      status.textContent = "The search index could not be loaded.";
      return;
    }
    if (phrase !== fold(input.value).trim().replace(/\s+/g, " ")) return;
    if (!words.length) {
      list.replaceChildren();
      status.textContent = "";
      return;
    }
    const hits = rows
      .map((row) => [score(row, words, phrase), row])
      .filter(([points]) => points)
      .sort((a, b) => b[0] - a[0]);
    list.replaceChildren(
      ...hits.slice(0, LIMIT).map(([, row]) => item(row, words)));
    list.scrollTop = 0;
    status.textContent = hits.length === 0 ? "Nothing found."
      : hits.length === 1 ? "1 section" : `${hits.length} sections`;
  }

  function open() {
    if (dialog.open) return;
    dialog.showModal();
    input.select();
    find();
  }

  // Arrow keys walk through input and results.
  dialog.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const stops = [input, ...list.querySelectorAll("a")];
    const at = stops.indexOf(document.activeElement);
    if (step && at >= 0) {
      event.preventDefault();
      stops[Math.max(0, Math.min(at + step, stops.length - 1))].focus();
    } else if (event.key === "Enter" && at === 0) {
      event.preventDefault();
      stops[1]?.click();
    }
  });
  list.addEventListener("click", (event) => {
    if (event.target.closest("a")) dialog.close();
  });
  input.addEventListener("input", find);
  document.getElementById("find").addEventListener("click", open);

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest(
      "input, textarea, select, [contenteditable]");
    const command = event.ctrlKey || event.metaKey;
    const single = document.getElementById("keys-on").checked;
    if (command && event.key.toLowerCase() === "k" ||
        event.key === "/" && single && !command && !typing &&
        !document.querySelector("dialog[open]")) {
      event.preventDefault();
      open();
    }
  });
})();
