"use strict";
// Numbers, texts and elements. A text from a study only ever becomes a text node.

const make = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

const byId = (id) => document.getElementById(id);

const fill = (id, ...children) => byId(id).replaceChildren(...children);

const show = (id, isShown) => {
  byId(id).hidden = !isShown;
};

/** A number with at most `digits` digits, without trailing zeros. */
const brief = (value, digits = 6) =>
  value === null || value === undefined ? "" : String(Number(value.toPrecision(digits)));

const fourDigits = (number) => String(number).padStart(4, "0");

const seconds = (value) => {
  if (value === null || value === undefined) return "";
  if (value < 60) return `${brief(value, 3)} s`;
  const minutes = Math.round(value / 60);
  if (value < 3600) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
};

const moment = (time) => (time ? new Date(time * 1000).toLocaleString() : "");

/** The last part of a key: what a table's head has room for. */
const lastPart = (key) => key.slice(key.lastIndexOf(".") + 1);

/** Quotes a word for a POSIX shell. */
const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`);

const isUp = (study, goal) => study.directions[goal] === "maximize";

/** What a key's cell means: the label of a choice, or a number. */
const cellText = (key, cell) => {
  if (cell === null) return "";
  return key.choices ? key.choices[cell] : brief(cell);
};

/** The command that trains a trial again; null if it has no folder. */
const commandOf = (study, row) => {
  const { overrides, override_names: names } = study.trials;
  if (!overrides[row]) return null;
  const own = overrides[row].map(([name, text]) => names[name] + text);
  return [...study.command, ...own].map(quoted).join(" ");
};

const kindOf = (study, row) => study.trials.kinds[study.trials.state[row]];

const isDone = (study, row) =>
  row !== null && kindOf(study, row) === "done" && study.trials.values[0][row] !== null;

const stateOf = (study, row) => study.trials.states[study.trials.state[row]];

const copyButton = (text) => {
  const button = make("button", { type: "button", textContent: "Copy" });
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      const range = document.createRange(); // without the right to the clipboard: select it
      range.selectNodeContents(button.nextElementSibling);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      button.textContent = "Selected";
    }
  });
  return button;
};

const link = (href, text) =>
  make("a", { href, textContent: text, target: "_blank", rel: "noopener noreferrer" });

const rowOf = (...cells) => make("tr", {}, ...cells.map((cell) => make("td", {}, cell)));

const headOf = (...titles) =>
  make("thead", {}, make("tr", {}, ...titles.map((title) => make("th", { textContent: title }))));
