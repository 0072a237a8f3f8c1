"use strict";
// Charts over trials and steps: history, learning curves, importance, parallel coordinates.

/** The colors of the theme, read from the style sheet. */
const theme = () => {
  const style = getComputedStyle(document.documentElement);
  const names = [
    "ink",
    "quiet",
    "line",
    "card",
    "done",
    "cut",
    "failed",
    "open",
    "best",
    "low",
    "middle",
    "high",
    "shade",
  ];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
};

const channels = (color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));

const SHADES = 64;

const shades = new Map();

/** The colors from low over middle to high, computed once a theme. */
const shadesOf = (colors) => {
  if (!shades.has(colors.low)) {
    const stops = [colors.low, colors.middle, colors.high].map(channels);
    const mix = (share) => {
      const at = Math.min(1, Math.floor(share * 2));
      const parts = stops[at].map(
        (value, index) => value + (stops[at + 1][index] - value) * (share * 2 - at),
      );
      return `rgb(${parts.map(Math.round).join(",")})`;
    };
    shades.set(
      colors.low,
      Array.from({ length: SHADES + 1 }, (_, index) => mix(index / SHADES)),
    );
  }
  return shades.get(colors.low);
};

/** A color between low and high, for a share between 0 and 1. */
const ramp = (colors, share) => shadesOf(colors)[Math.round(share * SHADES)];

/** For each row, how good it is among the given ones: 0 for the worst, 1 for the best. */
const ranks = (rows, values, isMaximized) => {
  const order = [...rows].sort((a, b) => (isMaximized ? values[a] - values[b] : values[b] - values[a]));
  return new Map(order.map((row, index) => [row, order.length > 1 ? index / (order.length - 1) : 1]));
};

/** The rows of completed trials. A pruned one's value is the last that it reported. */
const doneRows = (study) => study.trials.number.map((_, row) => row).filter((row) => isDone(study, row));

/** What a tip says: lines of text, never markup. */
const tip = (...lines) => make("div", { className: "tip", textContent: lines.filter(Boolean).join("\n") });

const trialTip = (study, row) =>
  tip(
    `Trial ${fourDigits(study.trials.number[row])}, ${stateOf(study, row)}`,
    ...study.objective.map(
      (name, goal) =>
        study.trials.values[goal][row] !== null && `${name}: ${brief(study.trials.values[goal][row])}`,
    ),
    ...study.space.map(
      (key, index) =>
        study.trials.points[index][row] !== null &&
        `${lastPart(key.key)}: ${cellText(key, study.trials.points[index][row])}`,
    ),
  );

/** What all charts share. */
const base = (colors, rest) => ({
  backgroundColor: "transparent",
  animation: false,
  textStyle: { color: colors.quiet, fontFamily: "system-ui, sans-serif" },
  tooltip: {
    confine: true,
    backgroundColor: colors.card,
    borderColor: colors.line,
    textStyle: { color: colors.ink },
  },
  grid: { left: 8, right: 18, top: 14, bottom: 8, outerBoundsMode: "same", outerBoundsContain: "all" },
  ...rest,
});

const axis = (colors, rest) => ({
  type: "value",
  scale: true,
  nameLocation: "middle",
  nameGap: 26,
  nameTextStyle: { color: colors.quiet },
  axisLine: { lineStyle: { color: colors.line } },
  axisTick: { lineStyle: { color: colors.line } },
  axisLabel: {
    color: colors.quiet,
    hideOverlap: true,
    formatter: (value) => (typeof value === "number" ? brief(value, 4) : value),
  },
  splitLine: { lineStyle: { color: colors.line } },
  ...rest,
});

/** The axis of an objective: logarithmic if asked for, and if all values are above zero. */
const valueAxis = (colors, values, name, rest) => {
  const isLog = page.isLog && values.every((value) => value === null || value > 0);
  return axis(colors, { type: isLog ? "log" : "value", name, nameGap: 44, ...rest });
};

/** The axis of a key, as it was searched. */
const keyAxis = (colors, key, rest) =>
  axis(colors, {
    ...(key.choices
      ? { type: "category", data: key.choices }
      : { type: key.log ? "log" : "value", min: key.low, max: key.high }),
    name: key.key,
    ...rest,
  });

const dots = (data, rest) => ({
  type: "scatter",
  data,
  symbolSize: data.length > 2000 ? 4 : 8,
  progressive: 0,
  ...rest,
});

/** The selected trial, drawn over the others. */
const ring = (colors, point) =>
  dots(point ? [point] : [], {
    id: "ring",
    z: 10,
    symbolSize: 15,
    silent: true,
    itemStyle: { color: "transparent", borderColor: colors.ink, borderWidth: 2 },
  });

/** The best value so far, as steps over trial numbers. */
const bestSoFar = (study, goal, rows) => {
  const isMore = isUp(study, goal);
  const steps = [];
  let best = null;
  for (const row of rows) {
    const value = study.trials.values[goal][row];
    if (best === null || (isMore ? value > best : value < best)) {
      best = value;
      steps.push([study.trials.number[row], value]);
    }
  }
  if (steps.length) steps.push([study.trials.number[rows.at(-1)], best]);
  return steps;
};

const historyOf = (study, colors) => {
  const rows = doneRows(study);
  if (!rows.length) return "No trial has completed.";
  const values = study.trials.values[page.goal];
  const point = (row) => [study.trials.number[row], values[row], row];
  return base(colors, {
    tooltip: {
      ...base(colors).tooltip,
      formatter: (about) => (about.value.length > 2 ? trialTip(study, about.value[2]) : ""),
    },
    xAxis: axis(colors, {
      name: "trial",
      minInterval: 1,
      min: 0,
      max: Math.max(study.trials.number.at(-1), 1),
    }),
    yAxis: valueAxis(colors, values, study.objective[page.goal]),
    series: [
      dots(rows.map(point), { itemStyle: { color: colors.done, opacity: 0.75 } }),
      {
        type: "line",
        step: "end",
        data: bestSoFar(study, page.goal, rows),
        showSymbol: false,
        silent: true,
        lineStyle: { color: colors.best, width: 2 },
      },
      ring(colors, isDone(study, page.row) ? point(page.row) : null),
    ],
  });
};

/** The points of one curve; its steps are listed, or are the first and the gap. */
const pointsOf = (curve, index) => {
  const [steps, values] = [curve.steps[index], curve.values[index]];
  const isListed = steps.length === values.length;
  return values.map((value, at) => [isListed ? steps[at] : steps[0] + steps[1] * at, value]);
};

/** All curves of a kind as one line of [x, y, x, y, ...], with a gap after each. */
const lineOf = (curve, indexes) => {
  const flat = [];
  for (const index of indexes) {
    for (const [step, value] of pointsOf(curve, index)) flat.push(step, value ?? NaN);
    flat.push(NaN, NaN);
  }
  return Float64Array.from(flat);
};

const curves = (study, colors) => {
  const curve = study.curves[page.metric];
  if (!curve) return "No trial has logged a metric yet.";
  const best = study.trials.number.indexOf(study.best[0]);
  const groups = { failed: [], cut: [], open: [], done: [], best: [], selected: [] };
  const single = [];
  curve.rows.forEach((row, index) => {
    const kind = row === best ? "best" : kindOf(study, row);
    groups[kind].push(index);
    if (row === page.row) groups.selected.push(index);
    if (curve.values[index].length === 1) single.push([...pointsOf(curve, index)[0], kind]);
  });
  const line = (kind, rest) => ({
    type: "line",
    dimensions: ["step", "value"],
    data: lineOf(curve, groups[kind]),
    showSymbol: false,
    silent: true,
    connectNulls: false,
    lineStyle: { color: colors[kind] ?? colors.done, width: 1.2, ...rest },
  });
  return base(colors, {
    tooltip: { show: false },
    xAxis: axis(colors, { name: "step" }),
    yAxis: valueAxis(colors, curve.values.flat(), page.metric),
    dataZoom: [{ type: "inside", zoomOnMouseWheel: "ctrl", moveOnMouseMove: "shift" }],
    series: [
      line("failed", { opacity: 0.45 }),
      line("cut", { opacity: 0.55 }),
      line("open", { opacity: 0.9 }),
      line("done", { opacity: 0.85, width: 1.5 }),
      line("best", { width: 3 }),
      { ...line("selected", { width: 3, color: colors.ink }), z: 10 },
      dots(single, {
        silent: true,
        symbolSize: 5,
        itemStyle: { color: (about) => colors[about.value[2]] ?? colors.done },
      }),
    ],
  });
};

/** The trial whose curve is nearest to a place in the chart, within 20 pixels. */
const nearestCurve = (study, chart, x, y) => {
  const curve = study.curves[page.metric];
  if (!curve) return null;
  let found = null;
  let least = 20 * 20;
  curve.rows.forEach((row, index) => {
    for (const point of pointsOf(curve, index)) {
      if (point[1] === null) continue;
      const [px, py] = chart.convertToPixel({ gridIndex: 0 }, point);
      const distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < least) [least, found] = [distance, row];
    }
  });
  return found;
};

const importance = (study, colors) => {
  const found = study.importance[page.goal];
  byId("importance-text").textContent = found.text;
  if (!found.shares.length) return "Nothing to rank yet.";
  const shares = [...found.shares].reverse();
  return base(colors, {
    tooltip: {
      ...base(colors).tooltip,
      formatter: (about) => tip(about.name, `${brief(about.value * 100, 3)}%`),
    },
    grid: { left: 8, right: 54, top: 4, bottom: 8, outerBoundsMode: "same", outerBoundsContain: "all" },
    xAxis: axis(colors, { show: false, min: 0, max: 1 }),
    yAxis: axis(colors, {
      type: "category",
      data: shares.map(([key]) => key),
      splitLine: { show: false },
      axisLabel: { color: colors.ink, width: 190, overflow: "truncate" },
    }),
    series: [
      {
        type: "bar",
        data: shares.map(([, share]) => share),
        barMaxWidth: 22,
        itemStyle: { color: colors.done, borderRadius: 4 },
        label: {
          show: true,
          position: "right",
          color: colors.quiet,
          formatter: (about) => `${brief(about.value * 100, 3)}%`,
        },
      },
    ],
  });
};

const parallel = (study, colors, element) => {
  const rows = doneRows(study);
  if (!rows.length) return "No trial has completed.";
  const values = study.trials.values[page.goal];
  const good = ranks(rows, values, isUp(study, page.goal));
  const isNarrow = element.clientWidth < 560;
  const look = {
    nameTextStyle: { color: colors.quiet, width: isNarrow ? 90 : 120, overflow: "truncate" },
    axisLabel: {
      ...axis(colors).axisLabel,
      color: colors.ink,
      textBorderColor: colors.card,
      textBorderWidth: 3,
      width: 70,
      overflow: "truncate",
    },
  };
  const axes = study.space.map((key, index) => ({
    ...keyAxis(colors, key, look),
    dim: index,
    name: lastPart(key.key),
    nameLocation: "end",
  }));
  axes.push({
    ...valueAxis(colors, values, study.objective[page.goal], look),
    dim: axes.length,
    nameLocation: "end",
  });
  // Thousands of lines hide one another: then only good ones are opaque.
  const opacity = (row) => (rows.length > 500 ? 0.05 + 0.7 * good.get(row) ** 12 : 0.8);
  const data = [...rows]
    .sort((a, b) => good.get(a) - good.get(b))
    .map((row) => ({
      value: [...study.space.map((key, index) => study.trials.points[index][row] ?? "-"), values[row]],
      row,
      lineStyle:
        row === page.row
          ? { color: colors.failed, width: 4, opacity: 1 }
          : { color: ramp(colors, good.get(row)), opacity: opacity(row) },
    }));
  return base(colors, {
    tooltip: { ...base(colors).tooltip, formatter: (about) => trialTip(study, about.data.row) },
    parallel: isNarrow
      ? { layout: "vertical", left: 14, right: 96, top: 26, bottom: 20 }
      : { left: 80, right: 90, top: 40, bottom: 20 },
    parallelAxis: axes.map((one) => ({
      ...one,
      nameGap: 12,
      axisLine: { lineStyle: { color: colors.quiet } },
      splitLine: undefined,
    })),
    series: [
      {
        type: "parallel",
        data,
        progressive: 0,
        lineStyle: { width: rows.length > 500 ? 1 : 2 },
        inactiveOpacity: 0.03,
        activeOpacity: 0.9,
      },
    ],
  });
};
