// The page: heading, filters, theme; and the first look.
(() => {
  const total = (waits) => duration(waits.reduce((sum, wait) => sum + wait[DURATION], 0));
  const real = data.waits.filter((wait) => !isVirtual(wait)), virtual = data.waits.filter(isVirtual);
  const totals = virtual.length ? [real.length && total(real) + " of real time", total(virtual) + " of virtual time"] : [total(real) + " in all"];
  const counts = Object.fromEntries(OUTCOMES.map((name) => [name, data.waits.filter((wait) => textOf(wait, OUTCOME) === name).length]));
  document.title = byId("title").textContent = data.title;
  byId("summary").textContent = `${data.waits.length} ${data.waits.length === 1 ? "wait" : "waits"}, ${totals.filter(Boolean).join(" and ")}, ${data.waits.length - counts.held} did not end by their condition`
    + (data.dropped ? `; ${data.dropped} more found no room` : "");
  byId("several").hidden = data.axes.length === 1;

  for (const name of OUTCOMES) {
    const label = document.createElement("label"), box = document.createElement("input"), swatch = document.createElement("span");
    box.type = "checkbox"; box.checked = true; box.value = name;
    swatch.className = "swatch"; swatch.style.background = `var(--${name})`;
    label.append(box, swatch, `${name} (${counts[name]})`);
    box.addEventListener("change", () => { shown.outcomes[box.checked ? "add" : "delete"](name); shown.apply(); });
    byId("outcomes").append(label);
  }
  let soon;
  for (const event of ["input", "change"]) byId("words").addEventListener(event, () => {
    clearTimeout(soon);
    soon = setTimeout(() => {
      if (shown.words === byId("words").value) return;
      shown.words = byId("words").value;
      shown.apply();
    }, data.waits.length > 5000 ? 120 : 0);
  });
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("only").addEventListener("click", () => { shown.only = null; shown.apply(); byId("words").focus(); });
  shown.listeners.push(() => {
    byId("shown").textContent = `${shown.waits.length} of ${data.waits.length} shown`;
    byId("only").hidden = !shown.only;
    if (shown.only) byId("only").textContent = `Only ${shown.only.label} ✕`;
  });

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const theme = byId("theme"), isDark = () => (document.documentElement.dataset.theme || (dark.matches ? "dark" : "light")) === "dark";
  const tell = () => { theme.setAttribute("aria-pressed", String(isDark())); timeline.readColours(); };
  theme.addEventListener("click", () => { document.documentElement.dataset.theme = isDark() ? "light" : "dark"; tell(); });
  dark.addEventListener("change", tell);
  shown.apply();
  tables.select(tables.kinds[0]);
  tell();
})();
