"use strict";
// The data, the filter, and who wants to know when what is shown has changed.
const data = JSON.parse(document.getElementById("data").textContent);
// The columns of data.waits. Texts are numbers into data.texts; times are microseconds, since the first wait of their axis began; a limit of -1 is none.
const [TRACK, WHAT, OUTCOME, SITE, TEST, TASK, LAST, START, DURATION, OVERSHOOT, LIMIT, LOOKS] = Array(12).keys();
const OUTCOMES = ["held", "timeout", "failed", "cancelled", "error"];
const byId = (id) => document.getElementById(id);
const textOf = (wait, column) => data.texts[wait[column]];
// Real time is one axis, which has no name; each virtual clock has one of its own. They have nothing in common, not even a zero.
const axisOf = (wait) => data.axisOf[wait[TRACK]];
const isVirtual = (wait) => data.axes[axisOf(wait)] !== "";
const trackNames = data.tracks.map((name, track) => name + (data.axes[data.axisOf[track]] && ", " + data.axes[data.axisOf[track]]));

function duration(us) {
  if (us < 1000) return us + " µs";
  if (us < 1e6) return (us / 1e3).toFixed(us < 1e4 ? 2 : 1) + " ms";
  if (us < 6e7) return (us / 1e6).toFixed(2) + " s";
  return us < 3.6e9 ? (us / 6e7).toFixed(1) + " min" : (us / 3.6e9).toFixed(1) + " h";
}

const shown = {
  waits: [], // the numbers of the waits that pass the filter, by axis and start
  words: "", outcomes: new Set(OUTCOMES), only: null, // only: {column, text, virtual, label}
  listeners: [],
  apply() {
    const words = this.words.toLowerCase().split(/\s+/).filter(Boolean);
    const has = (text, word) => text.toLowerCase().includes(word);
    // Each text is searched once, not once for each wait that has it.
    const matches = data.texts.map((text) => words.map((word) => has(text, word)));
    const tracks = trackNames.map((text) => words.map((word) => has(text, word)));
    this.waits = [];
    data.waits.forEach((wait, number) => {
      if (!this.outcomes.has(textOf(wait, OUTCOME))) return;
      if (this.only && (wait[this.only.column] !== this.only.text || isVirtual(wait) !== this.only.virtual)) return;
      const passes = words.every((_, w) => tracks[wait[TRACK]][w]
        || [WHAT, SITE, TEST, TASK, LAST, OUTCOME].some((column) => matches[wait[column]][w]));
      if (passes) this.waits.push(number);
    });
    this.listeners.forEach((listener) => listener());
  },
};

const chosen = {
  number: null, listeners: [],
  choose(number) { this.number = number; this.listeners.forEach((listener) => listener()); },
};

function describe(number) {
  const wait = data.waits[number];
  const limit = wait[LIMIT] < 0 ? "" : " of " + duration(wait[LIMIT]);
  const lines = [
    `${textOf(wait, WHAT)}: ${textOf(wait, OUTCOME)} after ${duration(wait[DURATION])}${limit}, `
      + `${wait[LOOKS]} looks, overshoot at most ${duration(wait[OVERSHOOT])}`,
    `at ${textOf(wait, SITE)}, in ${trackNames[wait[TRACK]]}` + (textOf(wait, TASK) && `, task ${textOf(wait, TASK)}`)
      + `, ${duration(wait[START])} after the first` + (textOf(wait, TEST) && `, test ${textOf(wait, TEST)}`),
  ];
  if (textOf(wait, LAST)) lines.push("last: " + textOf(wait, LAST));
  for (const [from, to, looks, seen] of data.tries[number] || []) {
    lines.push(`  ${duration(from)} to ${duration(to)}, ${looks} looks: ${data.texts[seen]}`);
  }
  return lines.join("\n");
}
