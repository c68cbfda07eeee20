// The tables: sorted by a click on a heading; only the rows in sight are in the document.
const tables = (() => {
  const HEIGHT = 28, SPARE = 8, panel = byId("panel"), head = byId("table").tHead.rows[0], body = byId("table").tBodies[0];
  const sum = (name, key) => ({ name, key, number: true, show: (row) => duration(row[key]) });
  const groups = (label, column) => ({
    label,
    columns: [
      { name: label.replace(/^By /, "").replace(/^./, (c) => c.toUpperCase()), key: "text", act: (row) => only(column, row) },
      { name: "Waits", key: "count", number: true, show: (row) => row.count },
      sum("Total", "total"), sum("Mean", "mean"), sum("Longest", "longest"),
      { name: "Not held", key: "bad", number: true, show: (row) => row.bad },
      { name: "Looks", key: "looks", number: true, show: (row) => row.looks },
      sum("Overshoot", "overshoot"),
    ],
    sorted: { key: "total", down: true },
    rows() {
      const found = new Map();
      for (const number of shown.waits) {
        const wait = data.waits[number], id = wait[column], virtual = isVirtual(wait), key = `${id} ${virtual}`;
        let row = found.get(key); // virtual time is never added to real time
        if (!row) found.set(key, row = { id, virtual, text: (data.texts[id] || "(outside of tests)") + (virtual ? ", in virtual time" : ""), count: 0, total: 0, longest: 0, bad: 0, looks: 0, overshoot: 0 });
        row.count++; row.total += wait[DURATION]; row.longest = Math.max(row.longest, wait[DURATION]);
        row.bad += textOf(wait, OUTCOME) !== "held"; row.looks += wait[LOOKS]; row.overshoot += wait[OVERSHOOT];
        row.mean = Math.round(row.total / row.count);
      }
      return [...found.values()];
    },
  });
  const all = {
    label: "All waits",
    columns: [
      { name: "Condition", key: "what", act: (row) => timeline.reveal(row.number) }, { name: "Site", key: "site" },
      { name: "Ended by", key: "outcome", brief: true }, { name: "Thread", key: "track" },
      sum("Began", "start"), sum("Took", "took"), { name: "Looks", key: "looks", number: true, show: (row) => row.looks }, sum("Overshoot", "overshoot"),
    ],
    sorted: { key: "took", down: true },
    rows: () => shown.waits.map((number) => {
      const wait = data.waits[number];
      return { number, what: textOf(wait, WHAT), site: textOf(wait, SITE), outcome: textOf(wait, OUTCOME), track: trackNames[wait[TRACK]],
        start: wait[START], took: wait[DURATION], looks: wait[LOOKS], overshoot: wait[OVERSHOOT] };
    }),
  };
  const kinds = [groups("By site", SITE), groups("By condition", WHAT), groups("By test", TEST), all];
  let kind = kinds[0], rows = [], first = -1;

  function only(column, { id, virtual, text }) { shown.only = { column, text: id, virtual, label: text }; shown.apply(); byId("only").focus(); }

  function sort() {
    const { key, down } = kind.sorted, sign = down ? -1 : 1;
    rows.sort((a, b) => sign * (typeof a[key] === "number" ? a[key] - b[key] : a[key].localeCompare(b[key])));
  }

  function refresh() {
    rows = kind.rows(); sort();
    head.replaceChildren(...kind.columns.map(heading));
    byId("table").setAttribute("aria-rowcount", rows.length + 1);
    first = -1; panel.scrollTop = 0; render();
  }

  function heading(column) {
    const cell = document.createElement("th"), button = document.createElement("button");
    cell.scope = "col"; cell.className = column.number ? "number" : column.brief ? "brief" : "";
    cell.ariaSort = kind.sorted.key !== column.key ? "none" : kind.sorted.down ? "descending" : "ascending";
    button.type = "button"; button.textContent = column.name; button.dataset.key = column.key;
    button.addEventListener("click", () => {
      const again = kind.sorted.key === column.key;
      kind.sorted = { key: column.key, down: again ? !kind.sorted.down : Boolean(column.number) };
      refresh(); head.querySelector(`[data-key="${column.key}"]`).focus();
    });
    cell.append(button);
    return cell;
  }

  function render() {
    const start = Math.max(0, Math.min(Math.floor(panel.scrollTop / HEIGHT) - SPARE, rows.length - 1));
    if (start === first) return;
    first = start;
    const stop = Math.min(rows.length, start + Math.ceil(panel.clientHeight / HEIGHT) + 2 * SPARE);
    const focused = body.contains(document.activeElement) ? document.activeElement.dataset.row : undefined;
    body.replaceChildren(space(start), ...rows.slice(start, stop).map((row, i) => line(row, start + i)), space(rows.length - stop));
    if (focused !== undefined) (body.querySelector(`[data-row="${focused}"]`) || panel).focus({ preventScroll: true });
  }

  function space(count) {
    const row = document.createElement("tr"), cell = document.createElement("td");
    row.className = "space"; row.ariaHidden = "true"; cell.colSpan = kind.columns.length; cell.style.height = count * HEIGHT + "px";
    row.append(cell);
    return row;
  }

  function line(row, position) {
    const element = document.createElement("tr");
    element.ariaRowIndex = position + 2;
    if (row.number !== undefined && row.number === chosen.number) element.className = "chosen";
    for (const column of kind.columns) {
      const cell = element.insertCell(), text = String(column.show ? column.show(row) : row[column.key]);
      cell.title = text;
      if (column.number) cell.className = "number";
      if (!column.act) { cell.textContent = text; continue; }
      const button = document.createElement("button");
      button.type = "button"; button.textContent = text; button.dataset.row = position;
      button.addEventListener("click", () => column.act(row));
      cell.append(button);
    }
    return element;
  }

  function select(next, focus) {
    kind = next;
    [...byId("tabs").children].forEach((tab, i) => {
      const mine = kinds[i] === kind;
      tab.ariaSelected = String(mine); tab.tabIndex = mine ? 0 : -1;
      if (mine) { byId("panel").setAttribute("aria-labelledby", tab.id); if (focus) tab.focus(); }
    });
    refresh();
  }

  kinds.forEach((each, i) => {
    const tab = document.createElement("button");
    tab.type = "button"; tab.id = "tab" + i; tab.textContent = each.label; tab.setAttribute("role", "tab"); tab.setAttribute("aria-controls", "panel");
    tab.addEventListener("click", () => select(each));
    byId("tabs").append(tab);
  });
  byId("tabs").addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by) select(kinds[(kinds.indexOf(kind) + by + kinds.length) % kinds.length], true);
  });
  panel.addEventListener("scroll", render);
  addEventListener("resize", () => { first = -1; render(); });
  shown.listeners.push(refresh);
  chosen.listeners.push(() => { first = -1; render(); });
  return { select, kinds };
})();
