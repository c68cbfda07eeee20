// The timeline: one canvas, whatever the number of waits. What it shows is in the tables, too.
const timeline = (() => {
  const canvas = byId("timeline"), scroller = byId("scroller"), pen = canvas.getContext("2d");
  const ROW = 22, AXIS = 20, LABEL = 170;
  const end = Math.max(1, ...chunked(data.waits, (wait) => wait[START] + wait[DURATION]));
  let from = 0, to = end, colours = {}, pending = false;
  const depths = nesting(), perTrack = data.tracks.map(() => []);

  function chunked(list, value) { // the greatest of each thousand: a call takes only so many arguments
    const greatest = [];
    for (let i = 0; i < list.length; i += 1000) greatest.push(Math.max(...list.slice(i, i + 1000).map(value)));
    return greatest;
  }

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

  const x = (us) => LABEL + (us - from) / (to - from) * (canvas.clientWidth - LABEL);

  function draw() {
    if (pending) return;
    pending = true;
    requestAnimationFrame(() => { pending = false; paint(); });
  }

  function paint() {
    const width = canvas.clientWidth, ratio = devicePixelRatio || 1;
    const whole = AXIS + data.tracks.length * ROW;
    const height = Math.min(whole, 330);
    byId("extent").style.height = whole + "px";
    canvas.style.height = height + "px";
    canvas.width = width * ratio; canvas.height = height * ratio;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.fillStyle = colours.page; pen.fillRect(0, 0, width, height);
    pen.font = "12px system-ui, sans-serif"; pen.textBaseline = "middle";
    const top = scroller.scrollTop, first = Math.floor(top / ROW), last = Math.min(data.tracks.length, first + Math.ceil(height / ROW) + 1);
    for (let track = first; track < last; track++) {
      const y = AXIS + track * ROW - top;
      pen.fillStyle = colours.line; pen.fillRect(0, y + ROW - 1, width, 1);
      paintTrack(track, y, width);
      pen.fillStyle = colours.page; pen.fillRect(0, y, LABEL, ROW - 1);
      pen.fillStyle = colours.ink; pen.fillText(data.tracks[track], 6, y + ROW / 2, LABEL - 12);
    }
    paintAxis(width, height);
  }

  function paintTrack(track, y, width) {
    let covered = -1, colour = null;
    for (const number of perTrack[track]) {
      const wait = data.waits[number], left = x(wait[START]), right = Math.max(left + 1.5, x(wait[START] + wait[DURATION]));
      if (right < LABEL || left > width) continue;
      const outcome = textOf(wait, OUTCOME), marked = number === chosen.number;
      if (right <= covered && outcome === colour && !marked && depths[number] === 0) continue; // nothing new to be seen
      const inset = depths[number] * 4, h = ROW - 5 - inset;
      pen.fillStyle = colours[outcome]; pen.fillRect(left, y + 2 + inset, right - left, h);
      const late = Math.min(right - left, wait[OVERSHOOT] / (to - from) * (width - LABEL));
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

  function paintAxis(width, height) {
    pen.fillStyle = colours.raised; pen.fillRect(0, 0, width, AXIS);
    const rough = (to - from) / Math.max(2, (width - LABEL) / 110), power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
    pen.fillStyle = colours.quiet;
    for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
      pen.fillRect(x(at), 0, 1, AXIS); pen.fillText(step >= 1e5 ? +(at / 1e6).toFixed(1) + " s" : duration(Math.round(at)), x(at) + 4, AXIS / 2);
    }
    pen.fillStyle = colours.raised; pen.fillRect(0, 0, LABEL, AXIS);
  }

  function show(start, stop) {
    const span = Math.min(end, Math.max(20, stop - start));
    from = Math.min(Math.max(0, start), end - span); to = from + span;
    draw();
  }
  const zoom = (factor, at = (from + to) / 2) => show(at - (at - from) * factor, at + (to - at) * factor);
  const pan = (share) => show(from + (to - from) * share, to + (to - from) * share);
  const timeAt = (px) => from + (px - LABEL) / (canvas.clientWidth - LABEL) * (to - from);

  function step(by) {
    if (!shown.waits.length) return;
    const at = shown.waits.indexOf(chosen.number);
    const next = at < 0 ? (by > 0 ? 0 : shown.waits.length - 1) : Math.min(shown.waits.length - 1, Math.max(0, at + by));
    reveal(shown.waits[next]);
  }

  function reveal(number) {
    const wait = data.waits[number], stop = wait[START] + wait[DURATION], span = to - from;
    if (wait[START] < from || stop > to) show(wait[START] - span * .1, wait[START] + Math.max(span * .9, wait[DURATION] * 1.2));
    const y = wait[TRACK] * ROW;
    if (y < scroller.scrollTop || y + ROW + AXIS > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = y;
    chosen.choose(number);
  }

  const keys = {
    ArrowLeft: () => pan(-.2), ArrowRight: () => pan(.2), ArrowUp: () => { scroller.scrollTop -= ROW; }, ArrowDown: () => { scroller.scrollTop += ROW; },
    "+": () => zoom(.6), "=": () => zoom(.6), "-": () => zoom(1 / .6), 0: () => show(0, end), Home: () => show(0, to - from), End: () => show(end - (to - from), end),
    n: () => step(1), p: () => step(-1),
  };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
    event.preventDefault(); keys[event.key]();
  });
  canvas.addEventListener("wheel", (event) => {
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) pan((event.deltaX || event.deltaY) / 1000);
    else zoom(event.deltaY > 0 ? 1.25 : .8, timeAt(event.offsetX));
    event.preventDefault();
  }, { passive: false });
  let held = null;
  canvas.addEventListener("pointerdown", (event) => { held = { x: event.offsetX, from, to, moved: false }; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointermove", (event) => {
    if (!held) return;
    const by = (held.x - event.offsetX) / (canvas.clientWidth - LABEL) * (held.to - held.from);
    held.moved ||= Math.abs(held.x - event.offsetX) > 3;
    if (held.moved) show(held.from + by, held.to + by);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (held && !held.moved) {
      const track = Math.floor((event.offsetY - AXIS + scroller.scrollTop) / ROW), at = timeAt(event.offsetX), slack = (to - from) / canvas.clientWidth * 3;
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
