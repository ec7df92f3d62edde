"use strict";
// The matrix of boards and commits, and the details of one result, drawn from the facts that are embedded in the page.
// Without this script the page has its verdict, commits and tables all the same.

/**
 * One board: a letter a commit in `v` (b built, w warnings, f failed, n no result, x not there, . still to come) and in `c` (what
 * changed: B broke, M mended, E another error, W new warning, C clean, R renamed, N new, G gone, . nothing); numbers a commit in
 * `t` (text), `m` (machine) and `s` (seconds, -1 not known); by index of the commit in `l` (end of the log), `r` (return
 * code), `n` there called `n`: notes, `o` (options); sizes in `z`; in `g` the commits that changed sizes.
 * @typedef {{v: string, c: string, t: number[], m: number[], s: number[], l?: Object<string, number>,
 *   r?: Object<string, number>, n?: Object<string, number[]>, o?: Object<string, number>,
 *   z?: Object<string, number[][]>, g?: number[]}} Row
 *
 * @typedef {{number: number, hash: string, subject: string, dir: string, counts: number[]}} Commit
 *
 * @typedef {{base: string, commits: Commit[], archs: string[], boards: [string, number, string?][], machines: string[],
 *   cells: Row[], programs: string[], problems: [number, string, string, number, number[], number, number][],
 *   sets: number[][], lines: string[], texts: number[][], notes: string[], options: string[], where: string}} Facts
 */

(() => {
  /** Height of a row of the matrix in pixels, as the style sheet has it. */
  const ROW = 27;
  /** Rows that are drawn above and below what can be seen. */
  const SPARE = 8;
  const WORDS = { b: "built", w: "built with warnings", f: "failed", n: "no result", x: "not there", ".": "still to come" };
  const CHANGED = {
    B: "breaks here", M: "fixed here", E: "different error here", W: "new warning here", C: "no more warnings",
    R: "renamed here", N: "first result here", G: "no longer built", ".": "",
  };
  const PARTS = ["text", "data", "bss", "rodata"];

  /** @type {Facts} */
  const facts = JSON.parse(byId("facts").textContent || "");
  const { commits, boards, archs, cells } = facts;
  /** The boards in the order of the matrix: by architecture, then by name. */
  const order = boards.map((_, at) => at).sort((one, other) =>
    boards[one][1] - boards[other][1] || (boards[one][0] < boards[other][0] ? -1 : 1));
  const numbers = new Map(boards.map((board, at) => [board[0], at]));

  // --- small things ---

  /** @param {string} id @returns {HTMLElement} */
  function byId(id) {
    return /** @type {HTMLElement} */ (document.getElementById(id));
  }

  /**
   * Make an element; texts among the children stay texts.
   * @param {string} tag
   * @param {Object<string, string | number>} [attributes]
   * @param {...(Node | string)} children
   * @returns {HTMLElement}
   */
  function make(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, String(value));
    made.append(...children);
    return made;
  }

  /** @param {number} at @returns {string} what a commit is called */
  function label(at) {
    const commit = commits[at];
    return commit.number ? `${String(commit.number).padStart(2, "0")} ${commit.hash.slice(0, 10)}` : "the current source";
  }

  /** @param {number} at @returns {string} as `label`, for a column */
  function short(at) {
    return commits[at].number ? String(commits[at].number).padStart(2, "0") : "now";
  }

  /** @param {number} number @returns {string} */
  function many(number) {
    return number.toLocaleString("en-US");
  }

  /** @param {number} number @returns {string} with its sign */
  function signed(number) {
    return (number > 0 ? "+" : "") + many(number);
  }

  /** @param {string} word @returns {string} the word as a shell takes it */
  function quoted(word) {
    return /^[\w@%+=:,.\/-]+$/.test(word) ? word : `'${word.replace(/'/g, `'"'"'`)}'`;
  }

  /** @param {number} text @returns {string} */
  function textOf(text) {
    return facts.texts[text].map((line) => facts.lines[line]).join("\n");
  }

  /** @param {string} verdict @param {string} change @returns {string} what stands in a cell */
  function mark(verdict, change) {
    if (change === "N") return "*";
    if (change === "M" || change === "C") return verdict === "w" ? "✓w" : "✓";
    return { b: "·", w: "w", f: "F", n: "-", ".": "" }[verdict] || "";
  }

  // --- which boards are shown ---

  const form = /** @type {HTMLFormElement} */ (byId("filter"));
  const search = /** @type {HTMLInputElement} */ (byId("f-text"));
  const archChoice = /** @type {HTMLSelectElement} */ (byId("f-arch"));
  const showChoice = /** @type {HTMLSelectElement} */ (byId("f-show"));
  /** Boards that a problem has, where only these are to be shown. @type {{boards: Set<number>, words: string} | null} */
  let only = null;
  /** Rows of the matrix: a board's number, or an architecture's as a number below zero. @type {number[]} */
  let rows = [];

  /** @type {Object<string, (row: Row) => boolean>} */
  const RULES = {
    changed: (row) => /[^.]/.test(row.c) || (commits.length === 1 && row.v !== "b"),
    failing: (row) => row.v.endsWith("f"),
    bad: (row) => row.v.endsWith("f") || row.v.endsWith("w"),
    none: (row) => row.v.includes("n"),
    size: (row) => Boolean(row.g),
    all: () => true,
  };

  function choose() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const arch = archChoice.value === "" ? -1 : Number(archChoice.value);
    const rule = RULES[showChoice.value] || RULES.all;
    rows = [];
    let number = 0;
    let before = -1;
    for (const at of order) {
      const [name, its] = boards[at];
      if (arch >= 0 && its !== arch) continue;
      if (only ? !only.boards.has(at) : !rule(cells[at])) continue;
      const said = `${name} ${archs[its]}`.toLowerCase();
      if (!words.every((word) => said.includes(word))) continue;
      if (its !== before) rows.push(-1 - its);
      before = its;
      rows.push(at);
      number += 1;
    }
    const hidden = boards.length - number;
    byId("f-count").textContent = `${many(number)} of ${many(boards.length)} boards` +
      (only ? `: those of ${only.words}` : hidden && showChoice.value === "changed" ? " (those that changed)" : "");
    active = { row: rows.findIndex((one) => one >= 0), column: 0 };
    grid.setAttribute("aria-rowcount", String(rows.length + 1));
    box.scrollTop = 0;
    draw();
    remember();
  }

  /** Keep what is shown for when the page is loaded again. */
  function remember() {
    try {
      sessionStorage.setItem(location.pathname, JSON.stringify([search.value, archChoice.value, showChoice.value]));
    } catch {
      // There may be no storage for files; then the page begins as it always does.
    }
  }

  function recall() {
    try {
      const [text, arch, show] = JSON.parse(sessionStorage.getItem(location.pathname) || "[]");
      search.value = text || "";
      archChoice.value = arch || "";
      if (show in RULES) showChoice.value = show;
    } catch {
      // As above.
    }
  }

  // --- the matrix ---

  const box = byId("box");
  const grid = byId("grid");
  const body = /** @type {HTMLElement} */ (grid.querySelector("tbody"));
  /** The cell that has the keyboard, by its place. */
  let active = { row: -1, column: 0 };
  let whole = false;

  function drawHead() {
    const row = make("tr", { "aria-rowindex": 1 }, make("th", { scope: "col" }, "Board"));
    commits.forEach((commit, at) => {
      const link = make("a", { href: `#c-${commit.number}`, title: `${label(at)} ${commit.subject}`, tabindex: -1 }, short(at));
      row.append(make("th", { scope: "col" }, link));
    });
    /** @type {HTMLElement} */ (grid.querySelector("thead")).replaceChildren(row);
    grid.setAttribute("aria-colcount", String(commits.length + 1));
  }

  /** Draw the rows that can be seen, and give the others their room. */
  function draw() {
    const held = grid.contains(document.activeElement) || document.activeElement === box;
    const first = whole ? 0 : Math.max(Math.floor(box.scrollTop / ROW) - SPARE, 0);
    // Before anything is in it the box has no height; it is never higher than the window.
    const seen = Math.ceil(Math.max(box.clientHeight, innerHeight) / ROW);
    const last = whole ? rows.length : Math.min(first + seen + 2 * SPARE, rows.length);
    const drawn = document.createDocumentFragment();
    if (first) drawn.append(pad(first));
    for (let at = first; at < last; at += 1) drawn.append(rows[at] < 0 ? archRow(at) : boardRow(at));
    if (last < rows.length) drawn.append(pad(rows.length - last));
    if (!rows.length) drawn.append(make("tr", {}, make("td", { colspan: commits.length + 1 }, "No board is so.")));
    body.replaceChildren(drawn);
    if (held) hold();
  }

  /** @param {number} number of rows @returns {HTMLElement} room for them */
  function pad(number) {
    const cell = make("td", { colspan: commits.length + 1 });
    cell.style.height = `${number * ROW}px`;
    return make("tr", { class: "pad", "aria-hidden": "true" }, cell);
  }

  /** @param {number} at @returns {HTMLElement} */
  function archRow(at) {
    const arch = -1 - rows[at];
    let end = at + 1;
    while (end < rows.length && rows[end] >= 0) end += 1;
    const words = `${archs[arch] || "architecture not known"}: ${many(end - at - 1)}`;
    return make("tr", { class: "arch", "aria-rowindex": at + 2 },
      make("th", { scope: "rowgroup" }, words), make("td", { colspan: commits.length, "aria-hidden": "true" }));
  }

  /** @param {number} at @returns {HTMLElement} */
  function boardRow(at) {
    const number = rows[at];
    const row = cells[number];
    const name = boards[number][0];
    const made = make("tr", { "aria-rowindex": at + 2 }, make("th", { scope: "row", title: name }, name));
    for (let column = 0; column < commits.length; column += 1) {
      const [verdict, change] = [row.v[column], row.c[column]];
      const words = `${name} at ${short(column)}: ${WORDS[verdict]}${change === "." ? "" : `, ${CHANGED[change]}`}`;
      const here = active.row === at && active.column === column;
      made.append(make("td", {
        class: `v-${verdict === "." ? "x" : verdict}${change === "." ? "" : " ch"}`, role: "gridcell", "aria-label": words,
        "data-at": at, "data-column": column, tabindex: here ? 0 : -1,
      }, mark(verdict, change)));
    }
    return made;
  }

  /** Give the keyboard to the active cell, or, where it is not drawn, to the box around the matrix. */
  function hold() {
    const cell = body.querySelector(`td[data-at="${active.row}"][data-column="${active.column}"]`);
    /** @type {HTMLElement} */ (cell || box).focus({ preventScroll: true });
  }

  /** @param {number} row @param {number} column */
  function go(row, column) {
    const step = row < active.row ? -1 : 1;
    let to = Math.min(Math.max(row, 0), rows.length - 1);
    // Rows of architectures have no results: on to the next board, or back to the last.
    while (rows[to] < 0) to += step;
    if (to < 0 || to >= rows.length) {
      to = Math.min(Math.max(row, 0), rows.length - 1);
      while (rows[to] < 0) to -= step;
    }
    active = { row: to, column: Math.min(Math.max(column, 0), commits.length - 1) };
    const top = to * ROW;
    if (top < box.scrollTop + ROW) box.scrollTop = top - ROW;
    else if (top + 3 * ROW > box.scrollTop + box.clientHeight) box.scrollTop = top + 3 * ROW - box.clientHeight;
    draw();
    hold();
    const cell = body.querySelector(`td[data-at="${to}"][data-column="${active.column}"]`);
    if (cell) cell.scrollIntoView({ block: "nearest", inline: "nearest", behavior: "instant" });
  }

  box.addEventListener("keydown", (event) => {
    if (event.ctrlKey && !["Home", "End"].includes(event.key)) return;
    if (event.altKey || event.metaKey || active.row < 0) return;
    const { row, column } = active;
    const page = Math.max(Math.floor(box.clientHeight / ROW) - 2, 1);
    /** @type {Object<string, () => void>} */
    const keys = {
      ArrowUp: () => go(row - 1, column), ArrowDown: () => go(row + 1, column),
      ArrowLeft: () => go(row, column - 1), ArrowRight: () => go(row, column + 1),
      PageUp: () => go(row - page, column), PageDown: () => go(row + page, column),
      Home: () => go(event.ctrlKey ? 0 : row, 0), End: () => go(event.ctrlKey ? rows.length - 1 : row, commits.length - 1),
      Enter: () => open(rows[row], column), " ": () => open(rows[row], column),
    };
    const does = keys[event.key];
    if (does) {
      event.preventDefault();
      does();
    }
  });

  body.addEventListener("click", (event) => {
    const cell = /** @type {HTMLElement} */ (event.target).closest("td[data-at]");
    if (!(cell instanceof HTMLElement)) return;
    active = { row: Number(cell.dataset.at), column: Number(cell.dataset.column) };
    draw();
    hold();
    open(rows[active.row], active.column);
  });

  let asked = false;
  box.addEventListener("scroll", () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      draw();
    });
  });
  addEventListener("resize", () => draw());

  // --- one result ---

  const dialog = /** @type {HTMLDialogElement} */ (byId("details"));

  /**
   * Show one result.
   * @param {number} number of the board
   * @param {number} at index of the commit
   */
  function open(number, at) {
    const [name, arch, url] = boards[number];
    const row = cells[number];
    const commit = commits[at];
    const [verdict, change] = [row.v[at], row.c[at]];
    const made = document.createDocumentFragment();
    made.append(make("h2", { id: "d-title" }, `${name} at ${label(at)}`), make("p", { class: "dim" }, commit.number ? commit.subject : ""));
    const move = (/** @type {number} */ to, /** @type {string} */ words) => {
      const button = make("button", { type: "button" }, words);
      if (commits[to]) button.addEventListener("click", () => open(number, to));
      else button.setAttribute("disabled", "");
      return button;
    };
    const close = make("button", { type: "button" }, "Close");
    close.addEventListener("click", () => dialog.close());
    made.append(make("div", { class: "bar" }, move(at - 1, "← Commit before"), move(at + 1, "Next commit →"), close));
    const list = make("dl");
    const say = (/** @type {string} */ what, /** @type {(Node | string)[]} */ ...words) =>
      list.append(make("dt", {}, what), make("dd", {}, ...words));
    const code = row.r && row.r[at];
    say("Result", make("span", { class: `tag v-${verdict}` }, WORDS[verdict]),
      `${CHANGED[change] ? ` ${CHANGED[change]}` : ""}${code ? `; return code ${code}` : ""}`);
    say("Architecture", archs[arch] || "not known");
    if (row.m[at]) say("Machine", facts.machines[row.m[at]]);
    if (row.s[at] >= 0) say("Took", `${many(row.s[at])} s`);
    for (const note of (row.n && row.n[at]) || []) say(verdict === "n" ? "Reason" : "Note", facts.notes[note]);
    if ("bwf".includes(verdict)) {
      const place = `${facts.base}${commit.dir ? `${commit.dir}/` : ""}${url || encodeURIComponent(name)}/`;
      const links = verdict === "b" ? ["log"] : ["err", "log"];
      const files = links.map((file) => make("a", { href: place + file, target: "_blank", rel: "noopener" }, file));
      say("Files", ...files.flatMap((file) => [file, " "]), make("a", { href: place, target: "_blank", rel: "noopener" }, "all"));
    }
    const which = commit.number ? `--commits ${commit.hash.slice(0, 12)}` : "--force";
    const options = facts.options[(row.o && row.o[at]) || 0];
    // A comma separates names.
    const again = ["inv build --only", quoted(name.replace(/,/g, "\\,")), which, options, facts.where].filter(Boolean).join(" ");
    say("Again", make("code", {}, again));
    made.append(list);
    if (row.t[at]) made.append(make("h3", {}, verdict === "f" ? "Error" : "What was said"), make("pre", { tabindex: 0 }, textOf(row.t[at])));
    if (row.l && row.l[at]) made.append(make("h3", {}, "End of the log"), make("pre", { tabindex: 0 }, textOf(row.l[at])));
    const sizes = sizesOf(row, at);
    if (sizes) made.append(sizes);
    byId("d-body").replaceChildren(made);
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    close.focus();
  }

  /**
   * Make the table of sizes at a commit, with the difference to the commit before.
   * @param {Row} row @param {number} at @returns {HTMLElement | null}
   */
  function sizesOf(row, at) {
    if (!row.z || !"bwf".includes(row.v[at]) || row.v[at] === "f") return null;
    const lines = Object.entries(row.z).flatMap(([program, steps]) => {
      const now = [0, 0, 0, 0];
      let last = [0, 0, 0, 0];
      let known = false;
      for (const [where, ...deltas] of steps) {
        if (where > at) break;
        deltas.forEach((delta, part) => { now[part] += delta; });
        last = where === at && known ? deltas : [0, 0, 0, 0];
        known = true;
      }
      if (!known) return [];
      const sum = (/** @type {number[]} */ parts) => parts.reduce((one, other) => one + other, 0);
      const cell = (/** @type {number} */ value, /** @type {number} */ delta) =>
        make("td", { class: "n" }, `${many(value)}${delta ? ` (${signed(delta)})` : ""}`);
      return [make("tr", {}, make("th", { scope: "row" }, facts.programs[Number(program)]), cell(sum(now), sum(last)),
        ...now.map((value, part) => cell(value, last[part])))];
    });
    if (!lines.length) return null;
    const heads = ["Program", "all", ...PARTS].map((words, part) => make("th", { scope: "col", class: part ? "n" : "" }, words));
    return make("table", {}, make("caption", {}, "Sizes in bytes, and the difference to the commit before"),
      make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...lines));
  }

  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("close", () => {
    byId("d-body").replaceChildren();
  });

  // --- ways into the matrix ---

  document.addEventListener("click", (event) => {
    const target = /** @type {Element} */ (event.target);
    const button = target.closest("button[data-problem]");
    if (button instanceof HTMLElement) {
      const problem = facts.problems[Number(button.dataset.problem)];
      const those = facts.sets[problem[5]];
      const part = those.length < problem[6] ? ` (the first ${those.length} of ${many(problem[6])})` : "";
      only = { boards: new Set(those), words: `${short(problem[0])}: ${facts.lines[problem[3]] || problem[1]}${part}` };
      search.value = "";
      archChoice.value = "";
      choose();
      byId("matrix").scrollIntoView();
      go(active.row, problem[0]);
      return;
    }
    const bar = target.closest("[data-board]");
    const number = bar && numbers.get(bar.getAttribute("data-board") || "");
    if (typeof number === "number") {
      const failed = cells[number].v.indexOf("f");
      open(number, failed < 0 ? commits.length - 1 : failed);
    }
  });

  form.addEventListener("submit", (event) => event.preventDefault());
  for (const [one, what] of [[search, "input"], [archChoice, "change"], [showChoice, "change"]]) {
    /** @type {HTMLElement} */ (one).addEventListener(/** @type {string} */ (what), () => {
      only = null;
      choose();
    });
  }
  form.addEventListener("reset", (event) => {
    event.preventDefault(); // The browser would do it after this.
    only = null;
    search.value = "";
    archChoice.value = "";
    showChoice.value = "changed";
    choose();
  });

  /** What stands closed is opened for paper, and closed again. @type {HTMLDetailsElement[]} */
  let opened = [];
  addEventListener("beforeprint", () => {
    whole = true;
    opened = [...document.querySelectorAll("details")].filter((one) => !one.open);
    opened.forEach((one) => { one.open = true; });
    draw();
  });
  addEventListener("afterprint", () => {
    whole = false;
    opened.forEach((one) => { one.open = false; });
    draw();
  });

  // --- the beginning ---

  archs.forEach((arch, at) => archChoice.append(make("option", { value: at }, arch || "not known")));
  for (const one of document.querySelectorAll("button.js")) one.removeAttribute("hidden");
  for (const id of ["filter", "box", "grid-help"]) byId(id).removeAttribute("hidden");
  drawHead();
  recall();
  choose();
  document.documentElement.dataset.ready = "yes";
})();
