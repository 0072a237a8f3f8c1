"use strict";
// The leaderboard, one trial's details, failures, and the tables of what is known.

const PAGE = 50;

const board = { sort: null, isDown: false, filter: "", limit: PAGE };

/** The columns of the leaderboard: a title, the value to sort by, the text to show. */
const columnsOf = (study) => {
  const { trials } = study;
  const goals = study.objective.map((name, goal) => ({
    id: `goal:${name}`,
    title: name,
    value: (row) => trials.values[goal][row],
    text: (row) => brief(trials.values[goal][row]),
    firstDown: isUp(study, goal),
    isNumber: true,
  }));
  const keys = study.space.map((key, index) => ({
    id: `key:${key.key}`,
    title: lastPart(key.key),
    hint: key.key,
    value: (row) => {
      const cell = trials.points[index][row];
      return key.choices && cell !== null ? key.choices[cell] : cell;
    },
    text: (row) => cellText(key, trials.points[index][row]),
    isNumber: !key.choices,
  }));
  return [
    {
      id: "number",
      title: "trial",
      value: (row) => trials.number[row],
      text: (row) => fourDigits(trials.number[row]),
    },
    { id: "state", title: "state", value: (row) => stateOf(study, row), text: (row) => stateOf(study, row) },
    ...goals,
    ...keys,
    {
      id: "seconds",
      title: "took",
      value: (row) => trials.seconds[row],
      text: (row) => seconds(trials.seconds[row]),
      isNumber: true,
    },
  ];
};

const compare = (a, b) =>
  typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));

/** The rows in the order of the chosen column, those without a value last; the best first at first. */
const sortedRows = (study, columns) => {
  const rows = study.trials.number.map((_, row) => row);
  if (!board.sort) {
    const place = new Map(study.best.map((number, index) => [number, index]));
    const placeOf = (row) => place.get(study.trials.number[row]) ?? place.size;
    return rows.sort((a, b) => placeOf(a) - placeOf(b) || a - b);
  }
  const column = columns.find((one) => one.id === board.sort);
  const { isDown } = board;
  const values = rows.map(column.value);
  const isEmpty = (row) => values[row] === null || values[row] === undefined;
  return rows.sort((a, b) => {
    if (isEmpty(a) || isEmpty(b)) return isEmpty(a) - isEmpty(b) || a - b;
    return (isDown ? compare(values[b], values[a]) : compare(values[a], values[b])) || a - b;
  });
};

/** Whether a row has every word of the filter; `key<number` and `key>number` compare. */
const filterOf = (columns) => {
  const tests = board.filter
    .trim()
    .split(/\s+/)
    .filter(Boolean)
    .map((word) => {
      const [, name, sign, limit] = /^([^<>=]+)([<>=])(.+)$/.exec(word) ?? [];
      const column = name && columns.find((one) => [one.title, one.hint].includes(name));
      if (!column) {
        const lower = word.toLowerCase();
        return (row) => columns.some((one) => one.text(row).toLowerCase().includes(lower));
      }
      if (sign === "=") return (row) => column.text(row) === limit || column.value(row) === Number(limit);
      const isPast = sign === "<" ? (value) => value < Number(limit) : (value) => value > Number(limit);
      return (row) => typeof column.value(row) === "number" && isPast(column.value(row));
    });
  return (row) => tests.every((test) => test(row));
};

const drawBoard = (study) => {
  const columns = columnsOf(study);
  const rows = sortedRows(study, columns).filter(filterOf(columns));
  const heads = columns.map((column) => {
    const button = make("button", {
      type: "button",
      textContent: column.title,
      title: column.hint ?? column.title,
    });
    if (board.sort === column.id) {
      button.setAttribute("aria-sort", board.isDown ? "descending" : "ascending");
      button.dataset.arrow = board.isDown ? "\u2193" : "\u2191";
    }
    button.addEventListener("click", () => {
      board.isDown = board.sort === column.id ? !board.isDown : Boolean(column.firstDown);
      board.sort = column.id;
      drawBoard(study);
    });
    return make("th", { className: column.isNumber ? "number" : "" }, button);
  });
  const body = make("tbody");
  for (const row of rows.slice(0, board.limit)) {
    const cells = columns.map((column) =>
      make("td", {
        textContent: column.text(row),
        title: column.text(row),
        className: column.isNumber ? "number" : "",
      }),
    );
    const open = make("button", { type: "button", className: "link", textContent: cells[0].textContent });
    cells[0].replaceChildren(open);
    cells[1].className = `state ${kindOf(study, row)}`;
    const line = make("tr", { className: kindOf(study, row) }, ...cells);
    line.dataset.row = row;
    line.addEventListener("click", () => select(row));
    body.append(line);
  }
  fill("board", make("thead", {}, make("tr", {}, ...heads)), body);
  byId("count").textContent =
    `${Math.min(rows.length, board.limit)} of ${rows.length} shown, ${study.trials.number.length} in all`;
  show("more", rows.length > board.limit);
  markSelected();
};

const markSelected = () => {
  for (const line of byId("board").querySelectorAll("tbody tr")) {
    line.classList.toggle("selected", Number(line.dataset.row) === page.row);
  }
};

/** Where the trackers show a trial. */
const trackerLines = (study, row) =>
  study.trackers.flatMap((tracker) => {
    const name = make("b", { textContent: `${tracker.name}: ` });
    if (tracker.base)
      return tracker.ids[row]
        ? [make("p", {}, name, link(tracker.base + encodeURIComponent(tracker.ids[row]), "open the run"))]
        : [];
    if (tracker.command)
      return [
        make("p", {}, name),
        copyButton(tracker.command),
        make("pre", { textContent: tracker.command }),
      ];
    if (tracker.files) {
      const file = `${tracker.files}/${fourDigits(study.trials.number[row])}.csv`;
      return [make("p", {}, name, study.link === null ? file : link(study.link + file, file))];
    }
    return [make("p", {}, name, tracker.text)];
  });

const drawDetails = (study, row) => {
  show("details", row !== null);
  if (row === null) return;
  const { trials } = study;
  const close = make("button", { type: "button", textContent: "Close" });
  close.addEventListener("click", () => select(null));
  const facts = [
    ["state", stateOf(study, row)],
    ...study.objective.map((name, goal) => [name, brief(trials.values[goal][row], 10)]),
    ["took", seconds(trials.seconds[row])],
    ...study.space.map((key, index) => [key.key, cellText(key, trials.points[index][row])]),
    ...Object.entries(trials.attrs[row] ?? {}),
    ["reason", trials.reasons[row] ?? ""],
  ].filter(([, text]) => text !== "");
  const folder = `${study.trials_folder}/${fourDigits(trials.number[row])}/`;
  const command = commandOf(study, row);
  fill(
    "details",
    make("h2", {}, `Trial ${fourDigits(trials.number[row])}`, close),
    make("table", {}, make("tbody", {}, ...facts.map(([label, text]) => rowOf(label, text)))),
    ...(command
      ? [
          make("p", { textContent: "Train it again: " }),
          copyButton(command),
          make("pre", { id: "command", textContent: command }),
        ]
      : []),
    make(
      "p",
      {},
      make("b", { textContent: "folder: " }),
      study.link === null ? `${study.path}/${folder}` : link(study.link + folder, folder),
    ),
    ...trackerLines(study, row),
  );
};

const drawFailures = (study) => {
  const groups = new Map();
  study.trials.number.forEach((_, row) => {
    if (kindOf(study, row) !== "failed") return;
    const reason = study.trials.reasons[row] ?? "";
    const id = `${stateOf(study, row)}\n${reason}`;
    if (!groups.has(id)) groups.set(id, { state: stateOf(study, row), reason, rows: [] });
    groups.get(id).rows.push(row);
  });
  show("failures-section", groups.size > 0);
  const lines = [...groups.values()]
    .sort((a, b) => b.rows.length - a.rows.length)
    .map((group) => {
      const buttons = group.rows.slice(0, 20).map((row) => {
        const button = make("button", {
          type: "button",
          className: "link",
          textContent: fourDigits(study.trials.number[row]),
        });
        button.addEventListener("click", () => select(row));
        return make("span", {}, button, " ");
      });
      if (group.rows.length > 20) buttons.push(`and ${group.rows.length - 20} more`);
      return rowOf(group.state, String(group.rows.length), group.reason, make("span", {}, ...buttons));
    });
  fill("failures", headOf("state", "trials", "reason", "which"), make("tbody", {}, ...lines));
};

const scaleText = (key) => {
  if (key.choices) return key.choices.join(", ");
  const ends = `${brief(key.low)} to ${brief(key.high)}`;
  const step = key.step && !(key.whole && key.step === 1) ? `, in steps of ${brief(key.step)}` : "";
  return `${key.whole ? "integers " : ""}${ends}${step}${key.log ? ", logarithmic" : ""}`;
};

const drawKnown = (study) => {
  const goals = study.objective.map((name, goal) => `${study.directions[goal]} ${name}`).join(", ");
  const planned = study.planned ? ` in ${study.planned} trials` : "";
  byId("goal-text").textContent = `To ${goals}${planned}.`;
  fill(
    "space",
    headOf("key", "values"),
    make("tbody", {}, ...study.space.map((key) => rowOf(key.key, scaleText(key)))),
  );
  fill("notes", ...study.notes.map((note) => make("li", { textContent: note })));
  const command = study.command.map(quoted).join(" ");
  fill(
    "origin",
    make("p", { textContent: "What all trials share: " }),
    copyButton(command),
    make("pre", { textContent: command }),
    make("p", { textContent: "The study: " }),
    copyButton(study.path),
    make("pre", { textContent: study.path }),
  );
  const facts = [
    ["begun", moment(study.created)],
    ["finished", moment(study.finished)],
    ...study.environment,
  ];
  const data = study.data.flatMap((one) => [
    ["data", one.runs === 1 ? "of 1 run" : `of ${one.runs} runs`],
    ...one.facts,
  ]);
  const lines = [...facts, ...data].filter(([, text]) => text);
  fill("environment", make("tbody", {}, ...lines.map(([label, text]) => rowOf(label, text))));
};

const drawComparison = (data) => {
  show("comparison", data.studies.length > 1);
  if (data.studies.length < 2) return;
  fill("sentences", ...data.compared.map((text) => make("p", { textContent: text })));
  const lines = data.studies.map((study) =>
    rowOf(study.label, study.found, study.slots.end ? seconds(study.slots.end) : ""),
  );
  fill("overview", headOf("study", "result", "from first start to last end"), make("tbody", {}, ...lines));
};
