"use strict";
// The page: its state, its controls, what is drawn when.

/** What is chosen on the page; `row` is the selected trial's. */
const page = {
  data: null,
  at: 0,
  row: null,
  goal: 0,
  isLog: false,
  metric: null,
  slice: null,
  across: null,
  up: null,
  paretoX: 0,
  paretoY: 1,
};

const CHARTS = {
  compare: sideBySide,
  importance,
  history: historyOf,
  curves,
  parallel,
  slice,
  contour,
  pareto,
  lineage,
  timeline,
};

const drawn = new Map();

const current = () => page.data.studies[page.at];

/** Draws a chart, or writes why there is none. */
const draw = (name) => {
  const element = byId(`chart-${name}`);
  if (element.closest("[hidden]")) return;
  const option = CHARTS[name](current(), theme(), element);
  const isText = typeof option === "string";
  element.classList.toggle("empty", isText);
  if (isText) {
    drawn.get(name)?.dispose();
    drawn.delete(name);
    element.textContent = option;
    return;
  }
  if (!drawn.has(name)) {
    element.textContent = "";
    drawn.set(name, echarts.init(element));
    listen(name, drawn.get(name));
  }
  if (!matchMedia("print").matches) drawn.get(name).resize(); // paper scales what is drawn
  drawn.get(name).setOption(option, { notMerge: true });
};

/** A click on a trial in a chart selects it. */
const listen = (name, chart) => {
  if (name === "curves") {
    chart
      .getZr()
      .on("click", ({ offsetX, offsetY }) => select(nearestCurve(current(), chart, offsetX, offsetY)));
    return;
  }
  chart.on("click", ({ value, data }) => {
    if (name === "timeline") select(value[1]);
    else if (name === "lineage") select(value[0]);
    else if (name === "parallel") select(data.row);
    else if (["history", "slice", "contour", "pareto"].includes(name) && value.length > 2) select(value[2]);
  });
};

const breath = () => new Promise((done) => setTimeout(done));

const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));

/** Draws all charts, one after another, so that the page can be read meanwhile. */
const drawAll = async () => {
  for (const name of Object.keys(CHARTS)) {
    draw(name);
    await breath();
  }
  await frame();
  document.body.dataset.drawn = String(Math.round(performance.now()));
};

/** Selects a trial in all charts, or none. */
const select = async (row) => {
  page.row = row;
  drawDetails(current(), row);
  markSelected();
  for (const name of ["history", "curves", "parallel", "slice", "contour", "pareto", "lineage", "timeline"]) {
    await breath();
    if (page.row !== row) return; // another was selected meanwhile
    draw(name);
  }
};

const options = (id, names, chosen, use) => {
  const texts = names.map((name) =>
    make("option", { value: name, textContent: name, selected: name === chosen }),
  );
  fill(id, ...texts);
  byId(id).onchange = (event) => use(event.target.value);
};

/** Fills the controls of a study; keeps what is chosen where it still exists. */
const control = (study) => {
  const keep = (chosen, names, first) => (names.includes(chosen) ? chosen : first);
  const metrics = Object.keys(study.curves);
  page.goal = Math.min(page.goal, study.objective.length - 1);
  page.metric = keep(page.metric, metrics, metrics[0] ?? null);
  options("metric", metrics, page.metric, (name) => {
    page.metric = name;
    draw("curves");
  });

  const ranked = study.importance[page.goal].shares.map(([key]) => key);
  const keys = [...new Set([...ranked, ...study.space.map((key) => key.key)])];
  page.slice = keep(page.slice, keys, keys[0] ?? null);
  page.across = keep(page.across, keys, keys[0] ?? null);
  page.up = keep(page.up, keys, keys[1] ?? null);
  options("slice", keys, page.slice, (name) => {
    page.slice = name;
    draw("slice");
  });
  options("across", keys, page.across, (name) => {
    page.across = name;
    draw("contour");
  });
  options("up", keys, page.up, (name) => {
    page.up = name;
    draw("contour");
  });

  show("goal-label", study.objective.length > 1);
  show("pareto-section", study.objective.length > 1);
  show("lineage-section", study.lineage !== null);
  const goalAt = (name) => study.objective.indexOf(name);
  options("goal", study.objective, study.objective[page.goal], (name) => {
    page.goal = goalAt(name);
    drawAll();
  });
  options("pareto-x", study.objective, study.objective[page.paretoX], (name) => {
    page.paretoX = goalAt(name);
    draw("pareto");
  });
  options("pareto-y", study.objective, study.objective[page.paretoY], (name) => {
    page.paretoY = goalAt(name);
    draw("pareto");
  });
};

const tabs = () => {
  const { studies } = page.data;
  const buttons =
    studies.length < 2
      ? []
      : studies.map((study, index) => {
          const button = make("button", { type: "button", textContent: study.label });
          button.setAttribute("aria-pressed", String(index === page.at));
          button.addEventListener("click", () => {
            Object.assign(page, { at: index, row: null });
            Object.assign(board, { sort: null, limit: PAGE });
            render();
          });
          return button;
        });
  fill("studies", ...buttons);
};

/** Shows the data of the chosen study. */
const render = () => {
  const study = current();
  byId("name").textContent = study.name;
  byId("found").textContent = study.found;
  byId("written").textContent = moment(study.written);
  tabs();
  control(study);
  drawKnown(study);
  drawComparison(page.data);
  drawBoard(study);
  drawFailures(study);
  drawDetails(study, page.row);
  return drawAll();
};

/** Fetches the data anew while a server sends the page; waits ten times as long as that took. */
const refresh = async (address) => {
  for (;;) {
    const began = performance.now();
    try {
      const answer = await fetch(address, { cache: "no-store" });
      if (!answer.ok) throw new Error(await answer.text());
      const data = await answer.json();
      const seen = JSON.stringify(data.studies.map((study) => ({ ...study, written: 0 })));
      if (seen !== page.seen) {
        Object.assign(page, { data, seen });
        if (page.row >= current().trials.number.length) page.row = null;
        await render();
      }
      byId("fresh").textContent = `Live, as of ${new Date().toLocaleTimeString()}`;
    } catch (error) {
      byId("fresh").textContent = `Not refreshed: ${error.message}`;
    }
    await new Promise((done) => setTimeout(done, Math.max(3000, 10 * (performance.now() - began))));
  }
};

/** Sets the theme, or follows the system's if there is none. */
const setTheme = (name) => {
  if (name) document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
  for (const chart of drawn.keys()) draw(chart);
};

const isDark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};

/** Paper is white: a dark page is drawn light, printed, and drawn as it was. */
const preparePrint = () => {
  let before = null;
  addEventListener("beforeprint", () => {
    before = isDark() ? { theme: document.documentElement.dataset.theme } : null;
    if (before) setTheme("light");
    for (const chart of drawn.values()) chart.getZr().flush();
  });
  addEventListener("afterprint", () => {
    if (before) setTheme(before.theme);
  });
};

const start = () => {
  page.data = JSON.parse(byId("data").textContent);
  byId("theme").addEventListener("click", () => setTheme(isDark() ? "light" : "dark"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
    drawn.forEach((_, name) => draw(name)),
  );
  byId("log").addEventListener("change", (event) => {
    page.isLog = event.target.checked;
    drawAll();
  });
  byId("filter").addEventListener("input", (event) => {
    Object.assign(board, { filter: event.target.value, limit: PAGE });
    drawBoard(current());
  });
  byId("more").addEventListener("click", () => {
    board.limit += 4 * PAGE;
    drawBoard(current());
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") select(null);
  });
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    drawn.forEach((_, name) => draw(name));
  });
  preparePrint();
  render();
  if (document.body.dataset.live) refresh(document.body.dataset.live);
};

start();
