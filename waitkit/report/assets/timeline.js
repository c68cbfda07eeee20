// The timeline: one canvas, whatever the number of waits. What it shows is in the tables, too.
const timeline = (() => {
  const canvas = byId("timeline"), scroller = byId("scroller"), pen = canvas.getContext("2d");
  const ROW = 22, AXIS = 20, LABEL = 170;
  const titled = data.axes.some(Boolean), HEAD = titled ? ROW + AXIS : AXIS; // above the tracks of an axis: its name, its ticks
  const tops = [], axes = data.axes.map((name) => ({ name: name || "real time", tracks: [], top: 0, bottom: 0, from: 0, to: 1, end: 1 }));
  data.axisOf.forEach((axis, track) => axes[axis].tracks.push(track));
  let whole = 0;
  for (const axis of axes) {
    axis.top = whole;
    axis.tracks.forEach((track, i) => { tops[track] = whole + HEAD + i * ROW; });
    whole = axis.bottom = whole + HEAD + axis.tracks.length * ROW;
  }
  for (const wait of data.waits) {
    const axis = axes[axisOf(wait)];
    axis.to = axis.end = Math.max(axis.end, wait[START] + wait[DURATION]);
  }
  let active = axes[0], colours = {}, pending = false; // active: the one that the keys move
  const depths = nesting(), perTrack = data.tracks.map(() => []);

  function nesting() { // how many waits of its track each wait lies within
    const open = data.tracks.map(() => []);
    return data.waits.map((wait) => {
      const around = open[wait[TRACK]];
      while (around.length && around.at(-1) <= wait[START]) around.pop();
      around.push(wait[START] + wait[DURATION]);
      return Math.min(around.length - 1, 3);
    });
  }

  function readColours() {
    const style = getComputedStyle(document.documentElement);
    for (const name of ["ink", "quiet", "line", "page", "raised", "focus", ...OUTCOMES]) colours[name] = style.getPropertyValue("--" + name);
    draw();
  }

  const x = (axis, us) => LABEL + (us - axis.from) / (axis.to - axis.from) * (canvas.clientWidth - LABEL);

  function draw() {
    if (pending) return;
    pending = true;
    requestAnimationFrame(() => { pending = false; paint(); });
  }

  function paint() {
    const width = canvas.clientWidth, ratio = devicePixelRatio || 1;
    const height = Math.min(whole, 330);
    byId("extent").style.height = whole + "px";
    canvas.style.height = height + "px";
    canvas.width = width * ratio; canvas.height = height * ratio;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.fillStyle = colours.page; pen.fillRect(0, 0, width, height);
    pen.font = "12px system-ui, sans-serif"; pen.textBaseline = "middle";
    const top = scroller.scrollTop;
    for (const axis of axes.filter((axis) => axis.bottom > top && axis.top < top + height)) {
      for (const track of axis.tracks.filter((track) => tops[track] + ROW > top && tops[track] < top + height)) {
        const y = tops[track] - top;
        pen.fillStyle = colours.line; pen.fillRect(0, y + ROW - 1, width, 1);
        paintTrack(axis, track, y, width);
        pen.fillStyle = colours.page; pen.fillRect(0, y, LABEL, ROW - 1);
        pen.fillStyle = colours.ink; pen.fillText(data.tracks[track], 6, y + ROW / 2, LABEL - 12);
      }
      paintHead(axis, headTop(axis), width);
    }
  }

  // The head of the axis whose tracks scroll by stays, until the next one pushes it away.
  const headTop = (axis) => Math.min(Math.max(axis.top - scroller.scrollTop, 0), axis.bottom - scroller.scrollTop - HEAD);

  function paintTrack(axis, track, y, width) {
    let covered = -1, colour = null;
    for (const number of perTrack[track]) {
      const wait = data.waits[number], left = x(axis, wait[START]), right = Math.max(left + 1.5, x(axis, wait[START] + wait[DURATION]));
      if (right < LABEL || left > width) continue;
      const outcome = textOf(wait, OUTCOME), marked = number === chosen.number;
      if (right <= covered && outcome === colour && !marked && depths[number] === 0) continue; // nothing new to be seen
      const inset = depths[number] * 4, h = ROW - 5 - inset;
      pen.fillStyle = colours[outcome]; pen.fillRect(left, y + 2 + inset, right - left, h);
      const late = Math.min(right - left, wait[OVERSHOOT] / (axis.to - axis.from) * (width - LABEL));
      if (late > 2) hatch(right - late, y + 2 + inset, late, h);
      if (marked) { pen.strokeStyle = colours.ink; pen.lineWidth = 2; pen.strokeRect(left - 1, y + 1, right - left + 2, ROW - 3); }
      if (right - left > 60) {
        pen.fillStyle = colours.page; pen.save(); pen.beginPath(); pen.rect(left, y, right - left - 3, ROW); pen.clip();
        pen.fillText(textOf(wait, WHAT), Math.max(left, LABEL) + 4, y + ROW / 2); pen.restore();
      }
      covered = right; colour = outcome;
    }
  }

  function hatch(left, top, width, height) {
    pen.save(); pen.beginPath(); pen.rect(left, top, width, height); pen.clip();
    pen.strokeStyle = colours.page; pen.lineWidth = 1.5; pen.beginPath();
    for (let at = left - height; at < left + width; at += 5) { pen.moveTo(at, top + height); pen.lineTo(at + height, top); }
    pen.stroke(); pen.restore();
  }

  function paintHead(axis, top, width) {
    pen.fillStyle = colours.raised; pen.fillRect(0, top, width, HEAD);
    const { from, to } = axis, y = top + HEAD - AXIS;
    const rough = (to - from) / Math.max(2, (width - LABEL) / 110), power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
    pen.fillStyle = colours.quiet;
    for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
      const text = step >= 1e5 && to < 3.6e9 ? +(at / 1e6).toFixed(1) + " s" : duration(Math.round(at));
      pen.fillRect(x(axis, at), y, 1, AXIS); pen.fillText(text, x(axis, at) + 4, y + AXIS / 2);
    }
    pen.fillStyle = colours.raised; pen.fillRect(0, y, LABEL, AXIS);
    if (!titled) return;
    pen.fillStyle = axis === active ? colours.ink : colours.quiet;
    pen.fillText(axis.name, 6, top + ROW / 2, width - 12);
  }

  function show(axis, start, stop) {
    const span = Math.min(axis.end, Math.max(20, stop - start));
    active = axis;
    axis.from = Math.min(Math.max(0, start), axis.end - span); axis.to = axis.from + span;
    draw();
  }
  const showAll = () => { for (const axis of axes) { axis.from = 0; axis.to = axis.end; } draw(); };
  const zoom = (factor, axis = active, at = (axis.from + axis.to) / 2) => show(axis, at - (at - axis.from) * factor, at + (axis.to - at) * factor);
  const pan = (share, axis = active) => { const by = (axis.to - axis.from) * share; show(axis, axis.from + by, axis.to + by); };
  const timeAt = (axis, px) => axis.from + (px - LABEL) / (canvas.clientWidth - LABEL) * (axis.to - axis.from);
  const axisAt = (y) => axes.find((axis) => y + scroller.scrollTop < axis.bottom) || axes.at(-1);

  function step(by) {
    if (!shown.waits.length) return;
    const at = shown.waits.indexOf(chosen.number);
    const next = at < 0 ? (by > 0 ? 0 : shown.waits.length - 1) : Math.min(shown.waits.length - 1, Math.max(0, at + by));
    reveal(shown.waits[next]);
  }

  function reveal(number) {
    const wait = data.waits[number], axis = axes[axisOf(wait)], stop = wait[START] + wait[DURATION], span = axis.to - axis.from;
    active = axis;
    if (wait[START] < axis.from || stop > axis.to) show(axis, wait[START] - span * .1, wait[START] + Math.max(span * .9, wait[DURATION] * 1.2));
    const y = tops[wait[TRACK]] - HEAD; // right below the head
    if (y < scroller.scrollTop || y + ROW + HEAD > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = y;
    chosen.choose(number);
  }

  const keys = {
    ArrowLeft: () => pan(-.2), ArrowRight: () => pan(.2), ArrowUp: () => { scroller.scrollTop -= ROW; }, ArrowDown: () => { scroller.scrollTop += ROW; },
    "+": () => zoom(.6), "=": () => zoom(.6), "-": () => zoom(1 / .6), 0: showAll,
    Home: () => show(active, 0, active.to - active.from), End: () => show(active, active.end - (active.to - active.from), active.end),
    n: () => step(1), p: () => step(-1),
  };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
    event.preventDefault(); keys[event.key]();
  });
  canvas.addEventListener("wheel", (event) => {
    const axis = axisAt(event.offsetY);
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) pan((event.deltaX || event.deltaY) / 1000, axis);
    else zoom(event.deltaY > 0 ? 1.25 : .8, axis, timeAt(axis, event.offsetX));
    event.preventDefault();
  }, { passive: false });
  let held = null;
  canvas.addEventListener("pointerdown", (event) => { const axis = axisAt(event.offsetY); held = { x: event.offsetX, axis, from: axis.from, to: axis.to, moved: false }; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointermove", (event) => {
    if (!held) return;
    const by = (held.x - event.offsetX) / (canvas.clientWidth - LABEL) * (held.to - held.from);
    held.moved ||= Math.abs(held.x - event.offsetX) > 3;
    if (held.moved) show(held.axis, held.from + by, held.to + by);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (held && !held.moved) {
      const { axis } = held, y = event.offsetY, at = timeAt(axis, event.offsetX), slack = (axis.to - axis.from) / canvas.clientWidth * 3;
      const track = y < headTop(axis) + HEAD ? undefined : axis.tracks.find((track) => y + scroller.scrollTop < tops[track] + ROW);
      active = axis;
      draw();
      const hit = (perTrack[track] || []).findLast((number) => data.waits[number][START] - slack <= at && at <= data.waits[number][START] + data.waits[number][DURATION] + slack);
      if (hit !== undefined) chosen.choose(hit);
    }
    held = null;
  });
  scroller.addEventListener("scroll", draw);
  addEventListener("resize", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", readColours);
  shown.listeners.push(() => {
    perTrack.forEach((list) => { list.length = 0; });
    for (const number of shown.waits) perTrack[data.waits[number][TRACK]].push(number);
    draw();
  });
  chosen.listeners.push(() => { byId("chosen").textContent = chosen.number === null ? "No wait is chosen." : describe(chosen.number); draw(); });
  return { readColours, reveal };
})();
