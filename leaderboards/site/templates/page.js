// Sorting, filtering, opening a row, drawing. Text from the board is set as text, never as markup.
"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const make = (tag, text, attributes) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
    return element;
  };
  const reportError = (error) => { setTimeout(() => { throw error; }); };

  // --- tables ---------------------------------------------------------------------------------------------------------------

  const key = (row, column) => {
    const text = row.cells[column].dataset.sort;
    if (text === "") return null;
    return column === 1 || column === 2 ? text.toLowerCase() : Number(text);
  };
  const sort = (table, column) => {
    const heading = table.tHead.rows[0].cells[column];
    const isFirst = heading.getAttribute("aria-sort") === null;
    const startsDown = heading.textContent.includes("\u2191");
    const down = isFirst ? startsDown : heading.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    close(table);
    const rows = Array.from(table.tBodies[0].rows);
    rows.sort((a, b) => {
      const [x, y] = [key(a, column), key(b, column)];
      if (x === null || y === null) return (x === null) - (y === null);
      return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
    });
    table.tBodies[0].append(...rows);
  };
  const close = (table) => {
    for (const row of table.querySelectorAll("tr.opened")) row.remove();
    for (const button of table.querySelectorAll("button.more")) button.setAttribute("aria-expanded", "false");
  };
  const filter = (table, text) => {
    close(table);
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = Array.from(table.tBodies[0].rows);
    let shown = 0;
    for (const row of rows) {
      const own = (row.dataset.strategy + " " + row.cells[0].textContent).toLowerCase();
      row.hidden = !words.every((word) => own.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    document.querySelector('[data-count="' + table.id + '"]').textContent = shown + " of " + rows.length + " rows";
  };

  // --- one strategy's cells -------------------------------------------------------------------------------------------------

  const command = (text, said) => {
    const line = make("div", undefined, { class: "command" });
    const code = make("code", text);
    const button = make("button", "Copy", { type: "button", class: "quiet", "aria-label": "Copy the command for " + said });
    button.addEventListener("click", () => {
      const range = document.createRange();
      range.selectNodeContents(code);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      const copied = () => { button.textContent = "Copied"; };
      if (navigator.clipboard) navigator.clipboard.writeText(text).then(copied, () => { button.textContent = "Selected"; });
      else button.textContent = "Selected";
    });
    line.append(code, button);
    return line;
  };
  const open = (row, of) => {
    const own = new Map(of.strategies).get(row.dataset.strategy);
    const inside = make("div", undefined, { class: "inside" });
    inside.append(make("h4", "All its cells again"), command(own.command, "all cells"));
    const parameters = data.parameters[row.dataset.strategy];
    if (parameters) inside.append(make("h4", "Parameters"), make("p", parameters, { class: "parameters" }));
    inside.append(make("h4", "Cells"));
    const cells = make("table");
    const head = cells.createTHead().insertRow();
    ["seed", "status", of.primary, "seconds", "peak MiB", "key", "reason", "again"].forEach((title, at) => {
      head.append(make("th", title, { scope: "col", ...(at > 1 && at < 5 ? { class: "number" } : {}) }));
    });
    const body = cells.createTBody();
    for (const [seed, ...texts] of own.rows) {
      const line = body.insertRow();
      line.append(make("th", String(seed), { scope: "row" }));
      texts.forEach((text, at) => line.append(make("td", text, at > 0 && at < 4 ? { class: "number" } : at === 4 ? { class: "key" } : {})));
      const again = make("td");
      const button = make("button", "Command", { type: "button", class: "quiet", "aria-expanded": "false", "aria-label": "Command for seed " + seed });
      button.addEventListener("click", () => {
        if (button.getAttribute("aria-expanded") === "true") { line.nextSibling.remove(); button.setAttribute("aria-expanded", "false"); return; }
        const extra = make("tr");
        const cell = make("td", undefined, { colspan: "8" });
        cell.append(command(own.one.replace("{seeds}", String(seed + 1)), "seed " + seed));
        extra.append(cell);
        line.after(extra);
        button.setAttribute("aria-expanded", "true");
      });
      again.append(button);
      line.append(again);
    }
    inside.append(cells);
    const opened = make("tr", undefined, { class: "opened" });
    const cell = make("td", undefined, { colspan: String(row.cells.length) });
    cell.append(inside);
    opened.append(cell);
    row.after(opened);
  };
  for (const table of document.querySelectorAll("table.ranking")) {
    table.tHead.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) sort(table, Number(button.dataset.column));
    });
    const of = data.cells[Number(table.id.replace("table-", "")) - 1];
    table.tBodies[0].addEventListener("click", (event) => {
      const button = event.target.closest("button.more");
      if (!button) return;
      const row = button.closest("tr");
      const isOpen = button.getAttribute("aria-expanded") === "true";
      if (isOpen) row.nextSibling.remove();
      else open(row, of);
      button.setAttribute("aria-expanded", String(!isOpen));
    });
  }
  for (const input of document.querySelectorAll("[data-filter]")) {
    input.addEventListener("input", () => filter(document.getElementById(input.dataset.filter), input.value));
  }
  for (const button of document.querySelectorAll("[data-extra]")) {
    button.addEventListener("click", () => {
      const shown = document.getElementById(button.dataset.extra).classList.toggle("all");
      button.setAttribute("aria-pressed", String(shown));
    });
  }

  // --- pictures -------------------------------------------------------------------------------------------------------------

  let loading = null;
  const plotly = () => {
    loading = loading || (async () => {
      const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (letter) => letter.charCodeAt(0));
      const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
      const script = document.createElement("script");
      script.textContent = await new Response(stream).text();
      document.head.append(script);
      return window.Plotly;
    })();
    return loading;
  };
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const NARROW = 560;
  const short = (text, most) => {
    const half = Math.floor((most - 1) / 2);
    return text.length > most ? text.slice(0, most - 1 - half) + "\u2026" + text.slice(-half) : text;
  };
  const wrapped = (text, most) => {
    const lines = [""];
    for (const word of text.split(" ")) {
      if (lines.at(-1) && (lines.at(-1) + " " + word).length > most) lines.push(word);
      else lines[lines.length - 1] = (lines.at(-1) + " " + word).trim();
    }
    return lines.join("<br>");
  };
  const titled = (own, width) => (own && own.title ? { ...own, title: { font: { size: 13 }, standoff: 8, ...own.title, text: wrapped(own.title.text, width < NARROW ? 22 : 60) } } : own);
  const styled = (layout, width) => {
    const text = colour("--text");
    const axis = (own) => ({ gridcolor: colour("--line"), linecolor: colour("--line"), zerolinecolor: colour("--line"), automargin: true, ...own });
    const shown = {
      ...layout, autosize: true, showlegend: false, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 13, color: text }, margin: { l: 12, r: 16, t: 12, b: 44 },
      hoverlabel: { bgcolor: colour("--raised"), bordercolor: colour("--line"), font: { color: text } },
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      xaxis: axis(titled(layout.xaxis, width)), yaxis: axis(titled(layout.yaxis, width)),
    };
    if (shown.yaxis.ticktext) {
      shown.yaxis.ticktext = shown.yaxis.ticktext.map((label) => short(label, width < NARROW ? 16 : 42));
      shown.yaxis.fixedrange = true;
      if (shown.xaxis.tickangle) shown.xaxis.ticktext = shown.xaxis.ticktext.map((label) => short(label, 16));
    }
    shown.annotations = (layout.annotations || []).map((note) => ({ ...note, font: { color: text, ...note.font } }));
    shown.shapes = (layout.shapes || []).map((shape) => (shape.line && shape.line.color === "text" ? { ...shape, line: { ...shape.line, color: text } } : shape));
    return shown;
  };
  const chosen = {};
  const off = {};
  const legend = (id, traces) => {
    const place = document.querySelector('[data-legend="' + id + '"]');
    const focused = document.activeElement && place.contains(document.activeElement) ? document.activeElement.dataset.strategy : null;
    place.replaceChildren();
    const named = new Map();
    for (const trace of traces) if (trace.meta && trace.meta.strategy) named.set(trace.meta.strategy, trace);
    if (named.size < 2) return;
    for (const [strategy, trace] of named) {
      const button = make("button", undefined, { type: "button", class: "chip", "aria-pressed": String(!off[id].has(strategy)) });
      const sample = make("span", undefined, { class: "sample", "aria-hidden": "true" });
      sample.style.background = (trace.line && trace.line.color) || (trace.marker && trace.marker.color) || "";
      sample.classList.add((trace.marker && trace.marker.symbol) || (trace.line && trace.line.dash) || "circle");
      button.dataset.strategy = strategy;
      button.append(sample, make("span", strategy));
      button.addEventListener("click", () => {
        if (off[id].has(strategy)) off[id].delete(strategy);
        else off[id].add(strategy);
        draw(id);
      });
      place.append(button);
      if (strategy === focused) button.focus();
    }
  };
  const banded = (trace) => {
    if (!trace.meta || !trace.meta.band) return [trace];
    const at = trace.x.map((_, place) => place).filter((place) => trace.customdata[place] !== null && trace.y[place] !== null);
    if (!at.length) return [trace];
    const edge = (places, sign) => places.map((place) => trace.y[place] + sign * trace.customdata[place]);
    const back = at.slice().reverse();
    const band = {
      type: "scatter", mode: "lines", x: at.concat(back).map((place) => trace.x[place]), y: edge(at, 1).concat(edge(back, -1)), meta: trace.meta,
      fill: "toself", fillcolor: trace.line.color, opacity: 0.13, line: { width: 0 }, hoverinfo: "skip",
    };
    return [band, trace];
  };
  const draw = async (id) => {
    const holder = document.querySelector('[data-picture="' + id + '"]');
    const spec = data.pictures[id][chosen[id] || 0];
    if (!off[id]) {
      off[id] = new Set();
      for (const trace of spec.data) if (trace.visible === "legendonly") off[id].add(trace.meta.strategy);
    }
    const traces = spec.data.flatMap(banded).map((trace) => (trace.meta && trace.meta.strategy ? { ...trace, visible: !off[id].has(trace.meta.strategy) } : trace));
    const drawer = await plotly();
    legend(id, traces);
    const options = { responsive: true, displayModeBar: false };
    await drawer.react(holder, traces, styled(spec.layout, holder.clientWidth), options);
    holder.dataset.drawn = "yes";
  };
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      watcher.unobserve(entry.target);
      draw(entry.target.dataset.picture).catch(reportError);
    }
  }, { rootMargin: "300px" });
  for (const holder of document.querySelectorAll("[data-picture]")) {
    holder.style.minHeight = data.pictures[holder.dataset.picture][0].layout.height + "px";
    watcher.observe(holder);
  }
  for (const select of document.querySelectorAll("[data-choose]")) {
    select.addEventListener("change", () => {
      chosen[select.dataset.choose] = Number(select.value);
      draw(select.dataset.choose).catch(reportError);
    });
  }
  for (const button of document.querySelectorAll("[data-save]")) {
    button.addEventListener("click", async () => {
      const id = button.dataset.save;
      await draw(id);
      const holder = document.querySelector('[data-picture="' + id + '"]');
      await (await plotly()).downloadImage(holder, { format: "svg", filename: id, width: holder.clientWidth, height: holder.clientHeight });
    });
  }
  const again = () => {
    for (const holder of document.querySelectorAll("[data-drawn]")) draw(holder.dataset.picture).catch(reportError);
  };
  document.addEventListener("themechange", again);
  matchMedia("(max-width: 700px)").addEventListener("change", again);
})();
