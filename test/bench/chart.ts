// SPDX-License-Identifier: Apache-2.0
// Line charts as SVG text: panels in a grid, one legend. Numbers in, picture out; nothing of benchmarks is known here. Light and self-contained, so
// that it can lie in docs/ and be read in a diff.

export interface Series {
  name: string;
  // Same name, same colour; a dashed one has no entry in the legend of its own.
  dashed: boolean;
  points: [x: number, y: number][];
}

export interface Axis {
  title: string;
  // To 0..1 over the panel; must rise with the value.
  scale: (value: number) => number;
  ticks: { value: number; label: string }[];
}

export interface Panel {
  title: string;
  x: Axis;
  y: Axis;
  series: Series[];
}

export interface Chart {
  title: string;
  // Under the title.
  subtitle: string;
  columns: number;
  panels: Panel[];
}

// Told apart also by who sees red and green alike (after Okabe and Ito), then darker ones.
const COLOURS = [
  ...[
    '#0072B2',
    '#D55E00',
    '#009E73',
    '#CC79A7',
    '#56B4E9',
    '#E69F00',
    '#000000',
    '#8C6D1F',
    '#7A3FA0',
    '#A00040',
    '#5F7F1F',
  ],
];
const PANEL = { width: 420, height: 280, left: 58, right: 14, top: 34, bottom: 46 };
const HEAD = 64;
const LEGEND_LINE = 20;
const LEGEND_COLUMN = 210;

const escape = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
// Whole tenths: shorter, and the same from any machine.
const number = (value: number): string => String(Math.round(value * 10) / 10);

// A scale over [low, high] that makes equal factors equally long.
export function logarithmic(low: number, high: number): Axis['scale'] {
  if (!(low > 0 && high > low)) throw new Error(`no logarithmic scale from ${low} to ${high}`);
  return (value) => Math.log(value / low) / Math.log(high / low);
}

// 1, 2, 5, 10, ... from the last at or under `low` to the first at or over `high`.
export function logarithmicTicks(low: number, high: number): number[] {
  if (!(low > 0 && high >= low)) throw new Error(`no ticks from ${low} to ${high}`);
  const steps: number[] = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); ++power)
    for (const digit of [1, 2, 5]) steps.push(Number((digit * 10 ** power).toPrecision(1)));
  const first = steps.findLastIndex((step) => step <= low);
  const last = steps.findIndex((step) => step >= high);
  return steps.slice(Math.max(0, first), last < 0 ? steps.length : last + 1);
}

function text(x: number, y: number, content: string, more = ''): string {
  return `<text x="${number(x)}" y="${number(y)}"${more}>${escape(content)}</text>`;
}

function panelOf(panel: Panel, left: number, top: number, colourOf: (name: string) => string): string[] {
  const width = PANEL.width - PANEL.left - PANEL.right;
  const height = PANEL.height - PANEL.top - PANEL.bottom;
  const x = (value: number): number =>
    left + PANEL.left + Math.min(1, Math.max(0, panel.x.scale(value))) * width;
  const y = (value: number): number =>
    top + PANEL.top + (1 - Math.min(1, Math.max(0, panel.y.scale(value)))) * height;
  const bottom = top + PANEL.top + height;
  const lines = [text(left + PANEL.left + width / 2, top + 20, panel.title, ' class="panel"')];
  for (const tick of panel.y.ticks) {
    const at = y(tick.value);
    lines.push(`<path class="grid" d="M${number(left + PANEL.left)} ${number(at)}h${width}"/>`);
    lines.push(text(left + PANEL.left - 6, at + 4, tick.label, ' class="end"'));
  }
  for (const tick of panel.x.ticks) {
    const at = x(tick.value);
    lines.push(`<path class="grid" d="M${number(at)} ${number(bottom)}v-${height}"/>`);
    lines.push(text(at, bottom + 16, tick.label, ' class="mid"'));
  }
  lines.push(text(left + PANEL.left + width / 2, bottom + 36, panel.x.title, ' class="mid"'));
  lines.push(
    text(
      0,
      0,
      panel.y.title,
      ` class="mid" transform="translate(${number(left + 14)} ${number(top + PANEL.top + height / 2)}) rotate(-90)"`,
    ),
  );
  for (const series of panel.series) {
    if (series.points.length === 0) continue;
    const colour = colourOf(series.name);
    const path = series.points
      .map(([px, py], i) => `${i === 0 ? 'M' : 'L'}${number(x(px))} ${number(y(py))}`)
      .join('');
    lines.push(
      `<path class="${series.dashed ? 'floor' : 'line'}" stroke="${colour}" d="${path}"><title>${escape(series.name)}${series.dashed ? ' (dashed)' : ''}</title></path>`,
    );
    if (!series.dashed)
      for (const [px, py] of series.points)
        lines.push(`<circle cx="${number(x(px))}" cy="${number(y(py))}" r="2.5" fill="${colour}"/>`);
  }
  return lines;
}

export function svg(chart: Chart): string {
  const names = [...new Set(chart.panels.flatMap((panel) => panel.series.map((series) => series.name)))];
  const colourOf = (name: string): string => COLOURS[names.indexOf(name) % COLOURS.length] as string;
  const rows = Math.ceil(chart.panels.length / chart.columns);
  const width = chart.columns * PANEL.width;
  const perLine = Math.max(1, Math.floor((width - 20) / LEGEND_COLUMN));
  const legendTop = HEAD + rows * PANEL.height + 8;
  const height = legendTop + Math.ceil(names.length / perLine) * LEGEND_LINE + 12;
  const lines = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">`,
    `<title>${escape(chart.title)}</title>`,
    '<style>text{font:12px system-ui,sans-serif;fill:#222}.title{font-size:17px;font-weight:600}.panel{font-size:13px;font-weight:600;text-anchor:middle}' +
      '.mid{text-anchor:middle}.end{text-anchor:end}.grid{stroke:#ddd;fill:none}.line{fill:none;stroke-width:2}.floor{fill:none;stroke-width:1.5;stroke-dasharray:5 4}</style>',
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    text(16, 26, chart.title, ' class="title"'),
    text(16, 48, chart.subtitle),
  ];
  chart.panels.forEach((panel, i) => {
    const left = (i % chart.columns) * PANEL.width;
    const top = HEAD + Math.floor(i / chart.columns) * PANEL.height;
    lines.push(...panelOf(panel, left, top, colourOf));
  });
  names.forEach((name, i) => {
    const left = 20 + (i % perLine) * LEGEND_COLUMN;
    const top = legendTop + Math.floor(i / perLine) * LEGEND_LINE;
    lines.push(
      `<path class="line" stroke="${colourOf(name)}" d="M${left} ${top + 8}h24"/>`,
      text(left + 32, top + 12, name),
    );
  });
  lines.push('</svg>', '');
  return lines.join('\n');
}
