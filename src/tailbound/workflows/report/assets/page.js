"use strict";
(() => {
  const PAGE = 25, MOST_CHOICES = 200, SPACE = "http://www.w3.org/2000/svg";

  const make = (name, attributes = {}, ...children) => {
    const found = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
    found.append(...children);
    return found;
  };
  const drawing = (name, attributes) => {
    const found = document.createElementNS(SPACE, name);
    for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
    return found;
  };
  const numeric = (kind) => kind === "count" || kind === "probability";

  const written = (kind, value) => {
    if (value === null) return "–";
    if (kind === "count") return value.toLocaleString("en-US", { maximumFractionDigits: 1 });
    if (kind !== "probability") return String(value);
    if (value === 0) return "0";
    if (value >= 0.995 && value < 1) return ">0.99";
    if (value >= 0.1) return value.toFixed(2).replace(/\.00$/, "");
    return value.toExponential(1).replace(/e([+-])(\d)$/, "e$10$2");
  };

  // Marks of one row on the logarithmic scale that all rows share.
  const bar = (scale, row, places, open) => {
    const at = (value) => {
      const held = Math.min(Math.max(value, scale.low), scale.high);
      const span = Math.log(scale.high / scale.low) || 1;
      return (2 + 96 * (Math.log(held / scale.low) / span)).toFixed(2) + "%";
    };
    const value = row[places.mark];
    const low = places.low === undefined ? null : row[places.low];
    const high = places.high === undefined ? null : row[places.high];
    const picture = drawing("svg", { "aria-hidden": "true", focusable: "false" });
    if (open) picture.setAttribute("class", "open");
    picture.append(drawing("line", { class: "track", x1: "2%", x2: "98%", y1: 7, y2: 7 }));
    if (low !== null && high !== null && high > 0)
      picture.append(drawing("line", {
        class: "ends", x1: at(Math.max(low, scale.low)), x2: at(high), y1: 7, y2: 7,
      }));
    if (value !== null && value > 0)
      picture.append(drawing("circle", { class: "mark", cx: at(value), cy: 7, r: 4 }));
    return picture;
  };

  const browse = (box) => {
    const held = JSON.parse(document.getElementById(box.dataset.source).textContent);
    const { columns, rows, prompts, scale } = held;
    const place = Object.fromEntries(columns.map((column, number) => [column.key, number]));
    const status = columns.findIndex((column) => column.kind === "status");
    const first = columns.findIndex((column) => column.key === held.first);
    const body = box.querySelector("tbody"), head = box.querySelector("thead tr");
    const said = box.querySelector(".count"), controls = box.querySelector(".controls");
    const pager = box.querySelector(".pager");
    let order = rows.map((_, number) => number), sorted = null, down = false, page = 0;
    let words = null;
    const chosen = {};

    const open = (row) => status >= 0 && !["resolved", "held"].includes(row[status]);
    const places = scale && {
      mark: place[scale.mark],
      low: scale.ends ? place[scale.ends.split(",")[0]] : undefined,
      high: scale.ends ? place[scale.ends.split(",")[1]] : undefined,
    };

    const show = () => {
      const pages = Math.max(1, Math.ceil(order.length / PAGE));
      page = Math.min(page, pages - 1);
      const from = page * PAGE, part = order.slice(from, from + PAGE);
      body.replaceChildren(...part.map((number) => {
        const row = rows[number];
        const line = make("tr");
        columns.forEach((column, at) => {
          const value = row[at], cell = make("td");
          if (at === first) {
            cell.className = "words";
            const text = make("bdi", { dir: "auto" });
            text.textContent = prompts[number] ?? String(value);
            cell.append(text);
            if (prompts[number] !== null) {
              const name = make("small");
              const whole = String(value);
              name.textContent = whole.length > 80 ? `${whole.slice(0, 79)}…` : whole;
              cell.append(name);
            }
          } else {
            let text = written(column.kind, value);
            if (scale && scale.ends && column.key === scale.mark && open(row)) text = `(${text})`;
            cell.textContent = text;
            cell.className = numeric(column.kind) ? "n" : column.kind === "text" ? "label" : "";
            if (at === status && open(row)) cell.className = "open";
          }
          line.append(cell);
        });
        if (scale) line.append(make("td", { class: "bar" }, bar(scale, row, places, open(row))));
        return line;
      }));
      said.textContent = order.length
        ? `${(from + 1).toLocaleString("en-US")} to ${(from + part.length).toLocaleString("en-US")} of ` +
          `${order.length.toLocaleString("en-US")} prompts`
        : "No prompt matches.";
      pager.hidden = pages === 1;
      const [before, after] = pager.querySelectorAll("button");
      before.disabled = page === 0;
      after.disabled = page === pages - 1;
    };

    const arrange = () => {
      const asked = (chosen.words || "").toLowerCase().split(/\s+/).filter(Boolean);
      if (asked.length && words === null)
        words = rows.map((row, number) =>
          [prompts[number] ?? "", ...row.filter((cell) => typeof cell === "string")].join(" ")
            .toLowerCase());
      const kept = [];
      for (let number = 0; number < rows.length; number++) {
        const row = rows[number];
        const matches = held.filters.every((key) => {
          const wanted = chosen[key];
          return wanted === undefined || wanted === "" || String(row[place[key]]) === wanted;
        });
        if (matches && asked.every((word) => words[number].includes(word))) kept.push(number);
      }
      if (sorted !== null) {
        const sign = down ? -1 : 1;
        kept.sort((a, b) => {
          const one = rows[a][sorted], other = rows[b][sorted];
          if (one === null || other === null)
            return (one === null) - (other === null) || a - b;
          if (one === other) return a - b;
          return sign * (one < other ? -1 : 1);
        });
      }
      order = kept;
      page = 0;
      show();
    };

    head.replaceChildren(...columns.map((column, at) => {
      const button = make("button", { type: "button", title: column.help });
      button.textContent = column.label;
      const cell = make("th", { scope: "col", "aria-sort": "none" }, button);
      if (numeric(column.kind)) cell.className = "n";
      button.addEventListener("click", () => {
        down = sorted === at ? !down : numeric(column.kind);
        sorted = at;
        for (const other of head.children) if (other.hasAttribute("aria-sort"))
          other.setAttribute("aria-sort", "none");
        cell.setAttribute("aria-sort", down ? "descending" : "ascending");
        arrange();
      });
      return cell;
    }));
    if (scale) {
      const cell = make("th", { scope: "col" });
      cell.textContent = scale.label;
      head.append(cell);
    }

    const search = make("input", { type: "search", autocomplete: "off", spellcheck: "false" });
    let waiting = null;
    search.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => { chosen.words = search.value; arrange(); }, 120);
    });
    controls.append(make("label", {}, "Search prompts", search));
    for (const key of held.filters) {
      const values = [...new Set(rows.map((row) => String(row[place[key]])))].sort();
      if (values.length < 2 || values.length > MOST_CHOICES) continue;
      const list = make("select", { "data-key": key });
      list.append(make("option", { value: "" }, "all"));
      for (const value of values) {
        const option = make("option");
        option.value = value;
        option.textContent = value === "null" ? "none" : value;
        list.append(option);
      }
      list.addEventListener("change", () => { chosen[key] = list.value; arrange(); });
      controls.append(make("label", {}, columns[place[key]].label, list));
    }
    const turn = (label, step) => {
      const button = make("button", { type: "button" }, label);
      button.addEventListener("click", () => { page += step; show(); });
      return button;
    };
    pager.append(turn("Previous", -1), turn("Next", 1));
    controls.hidden = false;
    show();

    // What a reader has chosen, for a page that is renewed under the reader's eyes.
    box.chosen = () => ({
      page, down, sorted: sorted === null ? null : columns[sorted].key,
      ...chosen, words: search.value,
    });
    box.choose = (before) => {
      search.value = before.words;
      chosen.words = before.words;
      for (const list of controls.querySelectorAll("select")) {
        const wanted = before[list.dataset.key];
        if (![...list.options].some((option) => option.value === wanted)) continue;
        list.value = chosen[list.dataset.key] = wanted;
      }
      if (before.sorted in place) {
        sorted = place[before.sorted];
        down = before.down;
        head.children[sorted].setAttribute("aria-sort", down ? "descending" : "ascending");
      }
      arrange();
      page = before.page;
      show();
    };
  };

  const start = () => {
    for (const box of document.querySelectorAll(".browser")) browse(box);
  };
  start();
  document.addEventListener("renewed", start);
  document.documentElement.dataset.ready = "yes";
})();
