"use strict";
// Charts of one thing against another: slice, contour, Pareto front, timeline, several studies.

/** A key's cell as a coordinate: a choice's place with a little spread, so that dots stay apart. */
const spread = (key, cell, row) => {
  if (!key.choices) return cell;
  return cell + (((row * 0.618034) % 1) - 0.5) * 0.35;
};

/** A numeric axis for choices, whose dots may lie beside the middle. */
const spreadAxis = (colors, key, rest) => {
  if (!key.choices) return keyAxis(colors, key, rest);
  return axis(colors, {
    name: key.key,
    min: -0.5,
    max: key.choices.length - 0.5,
    interval: 0.5,
    axisLabel: {
      ...axis(colors).axisLabel,
      formatter: (value) => (Number.isInteger(value) ? (key.choices[value] ?? "") : ""),
      width: 90,
      overflow: "truncate",
    },
    axisTick: { show: false },
    splitLine: { show: false },
    ...rest,
  });
};

const slice = (study, colors) => {
  const index = study.space.findIndex((key) => key.key === page.slice);
  if (index < 0) return "No key was searched.";
  const key = study.space[index];
  const values = study.trials.values[page.goal];
  const cells = study.trials.points[index];
  const rows = doneRows(study).filter((row) => cells[row] !== null);
  if (!rows.length) return "No trial with this key has completed.";
  const last = Math.max(rows.at(-1), 1);
  const point = (row) => [spread(key, cells[row], row), values[row], row];
  const isHere = isDone(study, page.row) && cells[page.row] !== null;
  return base(colors, {
    tooltip: { ...base(colors).tooltip, formatter: (about) => trialTip(study, about.value[2]) },
    xAxis: spreadAxis(colors, key),
    yAxis: valueAxis(colors, values, study.objective[page.goal]),
    series: [
      dots(rows.map(point), {
        itemStyle: {
          color: (about) => ramp(colors, about.value[2] / last),
          borderColor: colors.quiet,
          borderWidth: rows.length > 2000 ? 0 : 0.5,
        },
      }),
      ring(colors, isHere ? point(page.row) : null),
    ],
  });
};

/** A key's cell on a scale from 0 to 1, and back. */
const scaleOf = (key, cells) => {
  if (key.choices)
    return {
      count: key.choices.length,
      unit: (cell) => (cell + 0.5) / key.choices.length,
      value: (unit) => unit * key.choices.length - 0.5,
    };
  const bend = key.log ? Math.log : (value) => value;
  const back = key.log ? Math.exp : (value) => value;
  const known = cells.filter((cell) => cell !== null);
  const [low, high] = [bend(key.low ?? Math.min(...known)), bend(key.high ?? Math.max(...known))];
  const width = high - low || 1;
  return { count: 30, unit: (cell) => (bend(cell) - low) / width, value: (unit) => back(low + unit * width) };
};

/** The middle of each cell of the shade, and the average rank of the trials nearby. */
const shadeOf = (points, across, up) => {
  const cells = [];
  const step = Math.max(1, Math.ceil(points.length / 1500));
  const used = points.filter((_, index) => index % step === 0);
  for (let i = 0; i < across.count; i += 1) {
    for (let j = 0; j < up.count; j += 1) {
      const [x, y] = [(i + 0.5) / across.count, (j + 0.5) / up.count];
      let [sum, weight] = [0, 0];
      for (const point of used) {
        const near = 1 / ((point.x - x) ** 2 + (point.y - y) ** 2 + 0.0008) ** 1.5;
        sum += near * point.good;
        weight += near;
      }
      cells.push([i, j, sum / weight]);
    }
  }
  return cells;
};

const contour = (study, colors) => {
  const [a, b] = [page.across, page.up].map((name) => study.space.findIndex((key) => key.key === name));
  if (a < 0 || b < 0 || a === b) return "Two keys make a contour.";
  const [first, second] = [study.space[a], study.space[b]];
  const [xs, ys] = [study.trials.points[a], study.trials.points[b]];
  const values = study.trials.values[page.goal];
  const rows = doneRows(study).filter((row) => xs[row] !== null && ys[row] !== null);
  if (!rows.length) return "No trial with both keys has completed.";
  const good = ranks(rows, values, isUp(study, page.goal));
  const [across, up] = [scaleOf(first, xs), scaleOf(second, ys)];
  const shade = shadeOf(
    rows.map((row) => ({ x: across.unit(xs[row]), y: up.unit(ys[row]), good: good.get(row) })),
    across,
    up,
  );
  const point = (row) => [spread(first, xs[row], row), spread(second, ys[row], row + 1), row];
  const isHere = page.row !== null && good.has(page.row);
  return base(colors, {
    tooltip: {
      ...base(colors).tooltip,
      formatter: (about) => (about.seriesIndex === 1 ? trialTip(study, about.value[2]) : ""),
    },
    xAxis: spreadAxis(colors, first, { splitLine: { show: false } }),
    yAxis: spreadAxis(colors, second, { splitLine: { show: false }, nameGap: 52 }),
    series: [
      {
        type: "custom",
        silent: true,
        progressive: 0,
        data: shade,
        encode: { x: -1, y: -1 },
        renderItem: (_, api) => {
          const [i, j, share] = [api.value(0), api.value(1), api.value(2)];
          const corner = (x, y) =>
            api.coord([across.value(x / across.count), up.value(y / up.count)]).map(Math.round);
          const [from, to] = [corner(i, j), corner(i + 1, j + 1)];
          return {
            type: "rect",
            shape: { x: from[0], y: to[1], width: to[0] - from[0], height: from[1] - to[1] },
            style: { fill: ramp(colors, share), opacity: 0.55 },
          };
        },
      },
      dots(rows.map(point), {
        itemStyle: {
          color: (about) => ramp(colors, good.get(about.value[2])),
          borderColor: colors.card,
          borderWidth: 1,
        },
      }),
      ring(colors, isHere ? point(page.row) : null),
    ],
  });
};

const pareto = (study, colors) => {
  if (study.objective.length < 2) return "One objective has no front.";
  const [xs, ys] = [study.trials.values[page.paretoX], study.trials.values[page.paretoY]];
  const front = new Set(study.best);
  const rows = doneRows(study);
  if (!rows.length) return "No trial has completed.";
  const point = (row) => [xs[row], ys[row], row];
  const isOn = (row) => front.has(study.trials.number[row]);
  const name = (goal) => `${study.objective[goal]} (${study.directions[goal]})`;
  return base(colors, {
    tooltip: { ...base(colors).tooltip, formatter: (about) => trialTip(study, about.value[2]) },
    xAxis: axis(colors, { name: name(page.paretoX) }),
    yAxis: axis(colors, { name: name(page.paretoY), nameGap: 44 }),
    series: [
      dots(rows.filter((row) => !isOn(row)).map(point), { itemStyle: { color: colors.cut, opacity: 0.8 } }),
      dots(rows.filter(isOn).map(point), { itemStyle: { color: colors.best }, z: 5 }),
      ring(colors, isDone(study, page.row) ? point(page.row) : null),
    ],
  });
};

/** The steps that each trial trained itself: [row, from, to], cut where it has copied another. */
const strandsOf = ({ last, copies }) =>
  last.flatMap((end, row) => {
    const own = copies.filter((copy) => copy[0] === row);
    const starts = [0, ...own.map((copy) => copy[3])];
    const ends = [...own.map((copy) => copy[1]), end];
    return starts.map((from, index) => [row, from, ends[index]]).filter(([, from, to]) => to > from);
  });

/** An arc from a point to one above or below it, bent to the right. */
const arc = ([x1, y1], [x2, y2], style) => {
  const bend = x1 + 14 + Math.abs(y2 - y1) * 0.15;
  const [tip, wide] = [x2 + 2, x2 + 9];
  const points = [
    [tip, y2],
    [wide, y2 - 4],
    [wide, y2 + 4],
  ];
  const curve = { x1, y1, x2: wide, y2, cpx1: bend, cpy1: y1, cpx2: bend, cpy2: y2 };
  return {
    type: "group",
    children: [
      { type: "bezierCurve", shape: curve, style: { ...style, fill: "none", lineWidth: 1.5 } },
      { type: "polygon", shape: { points }, style: { ...style, lineWidth: 0 } },
      { type: "circle", shape: { cx: x1, cy: y1, r: 3 }, style: { ...style, lineWidth: 0 } },
    ],
  };
};

const lineage = (study, colors, element) => {
  if (!study.lineage) return "No trial has copied another one.";
  const { number } = study.trials;
  const { copies } = study.lineage;
  element.style.height = `${Math.min(900, 70 + number.length * 28)}px`;
  const isMarked = (...rows) => page.row === null || rows.includes(page.row);
  return base(colors, {
    tooltip: {
      ...base(colors).tooltip,
      formatter: ({ seriesIndex, dataIndex, value }) => {
        if (seriesIndex === 0) return trialTip(study, value[0]);
        const [row, at, donor, step, changed] = copies[dataIndex];
        const [to, from] = [row, donor].map((one) => fourDigits(number[one]));
        return tip(`Trial ${to}, after step ${at}, copied trial ${from} at step ${step}`, ...changed);
      },
    },
    grid: { left: 8, right: 18, top: 4, bottom: 34, outerBoundsMode: "same", outerBoundsContain: "all" },
    xAxis: axis(colors, { name: "step", min: 0, minInterval: 1, scale: false }),
    yAxis: axis(colors, {
      type: "category",
      inverse: true,
      data: number.map(fourDigits),
      splitLine: { show: false },
    }),
    series: [
      {
        type: "custom",
        progressive: 0,
        data: strandsOf(study.lineage),
        encode: { x: [1, 2], y: 0 },
        renderItem: (_, api) => {
          const row = api.value(0);
          const [from, to] = [api.coord([api.value(1), row]), api.coord([api.value(2), row])];
          return {
            type: "rect",
            shape: { x: from[0], y: from[1] - 4, width: to[0] - from[0], height: 8, r: 4 },
            style: { fill: colors[kindOf(study, row)], opacity: isMarked(row) ? 0.55 : 0.25 },
          };
        },
      },
      {
        type: "custom",
        progressive: 0,
        z: 5,
        data: copies.map(([row, , donor, step]) => [row, donor, step]),
        encode: { x: 2, y: [0, 1] },
        renderItem: (_, api) => {
          const [row, donor, step] = [api.value(0), api.value(1), api.value(2)];
          const opacity = isMarked(row, donor) ? 1 : 0.2;
          const style = { fill: colors.ink, stroke: colors.ink, opacity };
          return arc(api.coord([step, donor]), api.coord([step, row]), style);
        },
      },
    ],
  });
};

const kindOfStatus = (study, row, status) => (status === "interrupted" ? "open" : kindOf(study, row));

const timeline = (study, colors, element) => {
  const { slots } = study;
  byId("timeline-text").textContent = slots.text;
  if (!slots.bars.length) return "No trial has run yet.";
  element.style.height = `${Math.min(600, 70 + slots.lanes * 34)}px`;
  return base(colors, {
    tooltip: {
      ...base(colors).tooltip,
      formatter: ({ value }) =>
        tip(
          `Trial ${fourDigits(study.trials.number[value[1]])}, ${stateOf(study, value[1])}`,
          `from ${seconds(value[2])} to ${seconds(value[3])}`,
          seconds(value[3] - value[2]),
        ),
    },
    grid: { left: 8, right: 18, top: 4, bottom: 34, outerBoundsMode: "same", outerBoundsContain: "all" },
    xAxis: axis(colors, {
      scale: false,
      min: 0,
      max: slots.end || 1,
      axisLabel: { ...axis(colors).axisLabel, formatter: (value) => seconds(value) },
    }),
    yAxis: axis(colors, {
      type: "category",
      inverse: true,
      data: Array.from({ length: slots.lanes }, (_, lane) => String(lane + 1)),
      splitArea: { show: true, areaStyle: { color: [colors.shade] } },
      splitLine: { show: true, lineStyle: { color: colors.card, width: 4 } },
    }),
    dataZoom: [
      { type: "inside", filterMode: "weakFilter", zoomOnMouseWheel: "ctrl", moveOnMouseMove: "shift" },
    ],
    series: [
      {
        type: "custom",
        clip: true,
        progressive: 0,
        data: slots.bars,
        encode: { x: [2, 3], y: 0 },
        renderItem: (about, api) => {
          const row = api.value(1);
          const [from, to] = [
            api.coord([api.value(2), api.value(0)]),
            api.coord([api.value(3), api.value(0)]),
          ];
          const height = Math.max(3, api.size([0, 1])[1] * 0.62);
          return {
            type: "rect",
            shape: { x: from[0], y: from[1] - height / 2, width: Math.max(1, to[0] - from[0] - 0.6), height },
            style: {
              fill:
                row === page.row
                  ? colors.ink
                  : colors[kindOfStatus(study, row, slots.bars[about.dataIndex][4])],
            },
          };
        },
      },
    ],
  });
};

/** The best value so far of the studies with the first one's objective. */
const sideBySide = (first, colors) => {
  const isLike = (study) =>
    study.objective[0] === first.objective[0] && study.directions[0] === first.directions[0];
  const studies = page.data.studies.filter((study) => isLike(study) && doneRows(study).length);
  if (studies.length < 2) return "No other study has this objective.";
  const shades = [colors.done, colors.best, colors.failed, colors.open, colors.quiet, colors.ink];
  const series = studies.map((study, index) => ({
    type: "line",
    step: "end",
    showSymbol: false,
    data: bestSoFar(study, 0, doneRows(study)),
    lineStyle: { width: 2.5, color: shades[index % shades.length] },
    endLabel: {
      show: true,
      formatter: () => study.label,
      color: shades[index % shades.length],
      width: 130,
      overflow: "truncate",
    },
  }));
  const values = studies.flatMap((study) => study.trials.values[0]);
  return base(colors, {
    tooltip: { show: false },
    grid: { ...base(colors).grid, right: 140 },
    xAxis: axis(colors, { name: "trial", min: 0 }),
    yAxis: valueAxis(colors, values, first.objective[0]),
    series,
  });
};
