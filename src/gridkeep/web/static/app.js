// What pages do beyond what a browser does by itself. Every page works without: this makes it live, quick and kind to
// hands on a keyboard. No text from the server becomes markup here but the server's own pages.
// @ts-check

/** @param {string} selector @returns {HTMLElement[]} */
const all = (selector) => [...document.querySelectorAll(selector)].map((node) => /** @type {HTMLElement} */ (node));

/** Says something to everybody, for a moment. @param {string} text */
function tell(text) {
  const told = document.getElementById("told");
  if (!told) return;
  told.textContent = text;
  clearTimeout(tell.timer);
  tell.timer = setTimeout(() => (told.textContent = ""), 6000);
}
/** @type {number | undefined} */
tell.timer = undefined;

// ---------------------------------------------------------------------------------------------------------------- theme

for (const button of all("[data-do=theme]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    const next = (document.documentElement.dataset.theme || dark) === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    localStorage.setItem("theme", next);
  });
}

// ----------------------------------------------------------------------------------------------------------- copy a link

/** A fresh link to what the button stands for, into the clipboard. @param {HTMLButtonElement} button */
async function copyLink(button) {
  const asked = { method: "POST", body: new URLSearchParams({ of: button.value }), headers: { accept: "application/json" } };
  try {
    const answer = await fetch("/links", asked);
    const made = await answer.json();
    if (!answer.ok) return tell(made.detail);
    const ends = new Date(made.expires_at).toLocaleString();
    await navigator.clipboard.writeText(made.link);
    tell(`Copied the link to ${made.of}; it ends ${ends}.`);
  } catch {
    button.form?.requestSubmit(button); // no clipboard here, or no answer: the page shows the link, or what is wrong
  }
}

document.addEventListener("click", (event) => {
  const target = /** @type {Element} */ (event.target).closest("[data-do=link]");
  if (!(target instanceof HTMLButtonElement) || !event.isTrusted) return;
  event.preventDefault();
  copyLink(target);
});

// ------------------------------------------------------------------------------------------------------------- selection

/** How many experiments are selected, said and shown. */
function countSelected() {
  const boxes = /** @type {HTMLInputElement[]} */ (all("input[name=e]"));
  const count = boxes.filter((box) => box.checked).length;
  const every = /** @type {HTMLInputElement | null} */ (document.querySelector("[data-do=all] input"));
  if (every) {
    every.checked = count > 0 && count === boxes.length;
    every.indeterminate = count > 0 && count < boxes.length;
  }
  for (const said of all("[data-told=selected]")) {
    said.textContent = `${count} ${count === 1 ? "experiment" : "experiments"} selected`;
    said.hidden = !count;
  }
  for (const said of all("[data-told=none]")) said.hidden = count > 0;
}

for (const every of all("[data-do=all]")) {
  every.hidden = false;
  every.addEventListener("change", (event) => {
    const checked = /** @type {HTMLInputElement} */ (event.target).checked;
    for (const box of /** @type {HTMLInputElement[]} */ (all("input[name=e]"))) box.checked = checked;
  });
}
addEventListener("change", countSelected);
addEventListener("pageshow", countSelected);
countSelected();

for (const form of all("[data-do=find]"))
  form.addEventListener("change", () => {
    if (!("htmx" in window)) /** @type {HTMLFormElement} */ (form).requestSubmit();
  });

// ---------------------------------------------------------------------------------------------------------------- keys

/** The row that has the focus, or none. */
const rowOf = () => document.activeElement?.closest("tr, li");

/** @param {number} step */
function move(step) {
  const rows = all("[data-row]").filter((row) => row.checkVisibility());
  const at = rows.findIndex((row) => row === document.activeElement || row.closest("tr, .line") === document.activeElement?.closest("tr, .line"));
  rows[Math.max(0, Math.min(rows.length - 1, at + step))]?.focus();
}

/** @type {Record<string, () => void>} */
const keys = {
  "/": () => document.getElementById("q")?.focus(),
  j: () => move(1),
  k: () => move(-1),
  x: () => /** @type {HTMLElement | null} */ (rowOf()?.querySelector("input[type=checkbox]"))?.click(),
  c: () => {
    const button = rowOf()?.querySelector("[data-do=link]");
    if (button instanceof HTMLButtonElement) copyLink(button);
  },
  d: () => /** @type {HTMLElement | null} */ (rowOf()?.querySelector("a[download]"))?.click(),
  "?": () => tell("/ search · j k move · x select · enter open · c copy link · d download"),
};

document.addEventListener("keydown", (event) => {
  const typing = event.target instanceof HTMLInputElement && event.target.type !== "checkbox";
  if (typing || event.target instanceof HTMLSelectElement || event.ctrlKey || event.metaKey || event.altKey) return;
  const act = keys[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

// ----------------------------------------------------------------------------------------------------------------- live

/** Makes `now` like `next` and keeps what the reader did: focus, check marks, open folders. @param {Node} now @param {Node} next */
function renew(now, next) {
  if (now.isEqualNode(next)) return;
  if (!(now instanceof Element && next instanceof Element) || now.nodeName !== next.nodeName) {
    now.parentNode?.replaceChild(next.cloneNode(true), now);
    return;
  }
  for (const { name, value } of next.attributes) if (now.getAttribute(name) !== value) now.setAttribute(name, value);
  for (const { name } of [...now.attributes]) if (name !== "open" && !next.hasAttribute(name)) now.removeAttribute(name);
  if (now instanceof HTMLDetailsElement && now.open && now.hasAttribute("data-lazy")) {
    const [head, nextHead] = [now.querySelector("summary"), next.querySelector("summary")];
    if (head && nextHead) renew(head, nextHead); // what was opened stays as it is
    return;
  }
  const known = new Map([...now.children].map((child) => [keyOf(child), child]));
  let at = now.firstChild;
  for (const wanted of [...next.childNodes]) {
    const key = keyOf(wanted);
    const mine = key ? known.get(key) : at && !keyOf(at) ? at : undefined;
    if (!mine) {
      now.insertBefore(wanted.cloneNode(true), at);
    } else {
      if (mine !== at) now.insertBefore(mine, at);
      at = mine.nextSibling;
      renew(mine, wanted);
    }
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.parentNode?.removeChild(gone);
  }
}

/** @param {Node} node */
const keyOf = (node) => (node instanceof HTMLElement && (node.id || node.dataset.key)) || "";

/** Shows the page as it is now. */
async function refresh() {
  const answer = await fetch(location.href, { headers: { accept: "text/html" } });
  if (answer.redirected) return location.reload(); // logged out
  const next = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const id of ["main", "facts", "total", "active"]) {
    const [now, then] = [document.getElementById(id), next.getElementById(id)];
    if (now && then) renew(now, then);
  }
  /** @type {any} */ (window).htmx?.process(document.body);
  countSelected();
}

/** Follows the changes while the page is looked at: one that is hidden leaves the connection to others. */
function follow() {
  const { live, kinds, run } = document.body.dataset;
  const shown = document.getElementById("connection");
  if (live === undefined || !kinds) return;
  let last = live;
  /** @type {EventSource | undefined} */
  let source;
  let [stale, busy, rest] = [false, false, 0];

  /** Refreshes as often as there is news, but for most of the time leaves a server that is slow to others. */
  const soon = async () => {
    stale = true;
    if (busy) return;
    busy = true;
    while (stale) {
      await new Promise((done) => setTimeout(done, rest));
      const begun = performance.now();
      stale = false; // what comes from now on may not be in the answer
      await refresh().catch(() => {});
      rest = Math.max(1000, 10 * (performance.now() - begun));
    }
    busy = false;
  };
  /** @param {string} word @param {string} state */
  const say = (word, state) => {
    if (shown) Object.assign(shown, { hidden: false, textContent: word, className: `st dim ${state}` });
  };
  const open = () => {
    if (source || document.hidden) return;
    const asked = new URLSearchParams([["after", last], ...kinds.split(" ").map((kind) => ["kind", kind])]);
    if (run) asked.set("run", run);
    source = new EventSource(`/v1/events?${asked}`);
    source.onopen = () => say("Live", "completed");
    source.onerror = () => say("Reconnecting", "pending");
    for (const kind of kinds.split(" "))
      source.addEventListener(kind, (event) => {
        last = event.lastEventId;
        soon();
      });
  };
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) return open();
    source?.close();
    source = undefined;
  });
  addEventListener("pagehide", () => {
    source?.close();
    source = undefined;
  });
  addEventListener("pageshow", open);
  open();
}
follow();
