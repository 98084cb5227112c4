/** What quantizing one linear alone does. */
export interface PlottedLinear {
  /** Role, or the name of a node where roles do not tell linears apart. */
  readonly name: string;
  /** Squared error over squared output. */
  readonly damage: number;
}

export interface PlotText {
  readonly title: string;
  readonly subtitle: string;
}

/** Shades of the heat map, least damage first. */
const LIGHT = ['#eef4fb', '#d3e3f5', '#b0cdec', '#85b2df', '#5994cd', '#3676b4', '#1f5a94', '#123f6d'];
const DARK = ['#16222f', '#1b3147', '#20435f', '#2a5a80', '#3a76a4', '#5596c6', '#7fb6df', '#b3d8f3'];

/** First shade on which text has the other colour. */
const TURN = 5;

const MARGIN = 24;
const TOP = 76;
const CELL = { width: 62, height: 20 } as const;
const LABEL = 84;
const BAR = { width: 360, height: 14, step: 22, label: 170 } as const;
/** Families that get a bar. */
const MOST_BARS = 24;

/**
 * Damage as an SVG: a heat map of blocks by linears, each cell with its signal to noise in dB, and below it the kinds of linears by their sum over blocks.
 * Shades are logarithmic. Follows the reader's light or dark colour scheme.
 */
export function sensitivityPlot(linears: readonly PlottedLinear[], { title, subtitle }: PlotText): string {
  const { kinds, blocks, cells } = gridOf(linears);
  const bars = barsOf(linears);
  const shade = shadesOf(linears);
  const map = {
    width: LABEL + kinds.length * CELL.width,
    height: blocks.length === 0 ? 0 : 60 + blocks.length * CELL.height,
  };
  const barsTop = TOP + map.height;
  const width = MARGIN * 2 + Math.max(map.width, BAR.label + BAR.width + 120);
  const height = barsTop + 34 + bars.length * BAR.step + MARGIN;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">`,
    `<title>${escapeXml(title)}</title>`,
    `<style>${style()}</style>`,
    `<rect class="page" width="${width}" height="${height}"/>`,
    text(MARGIN, 34, title, 'title'),
    text(MARGIN, 54, subtitle, 'quiet'),
    ...(blocks.length === 0 ? [] : heatMap()),
    ...barChart(),
    '</svg>',
    '',
  ].join('\n');

  function heatMap(): string[] {
    const left = MARGIN + LABEL;
    const top = TOP + 40;
    return [
      text(MARGIN, TOP + 14, 'SQNR at the output with one linear quantized alone, dB', 'head'),
      ...kinds.map((kind, k) => text(left + (k + 0.5) * CELL.width, top - 6, kind, 'quiet middle')),
      ...blocks.map((block, b) => text(left - 8, top + (b + 0.5) * CELL.height + 4, `block ${block}`, 'quiet end')),
      ...blocks.flatMap((block, b) =>
        kinds.flatMap((kind, k) => {
          const damage = cells.get(`${block} ${kind}`);
          if (damage === undefined) return [];
          const [x, y, q] = [left + k * CELL.width, top + b * CELL.height, shade(damage)];
          const box = `<rect class="q${q}" x="${x + 1}" y="${y + 1}" width="${CELL.width - 2}" height="${CELL.height - 2}" rx="2"/>`;
          const label = text(
            x + CELL.width / 2,
            y + CELL.height / 2 + 4,
            decibels(damage),
            `cell middle${q >= TURN ? ' over' : ''}`,
          );
          return `<g><title>${escapeXml(`blocks.${block}.${kind}: ${damage.toExponential(2)}`)}</title>${box}${label}</g>`;
        }),
      ),
    ];
  }

  function barChart(): string[] {
    const total = linears.reduce((sum, { damage }) => sum + damage, 0);
    const most = Math.max(...bars.map(({ damage }) => damage), Number.MIN_VALUE);
    const left = MARGIN + BAR.label;
    return [
      text(MARGIN, barsTop + 14, 'Share of the noise of all together, by kind', 'head'),
      ...bars.map(({ name, damage }, i) => {
        const y = barsTop + 28 + i * BAR.step;
        const length = (BAR.width * damage) / most;
        const share = total === 0 ? '0 %' : `${((100 * damage) / total).toFixed(1)} %`;
        return [
          text(left - 8, y + BAR.height - 3, name, 'quiet end'),
          `<rect class="bar" x="${left}" y="${y}" width="${length.toFixed(1)}" height="${BAR.height}" rx="2"/>`,
          text(left + length + 6, y + BAR.height - 3, share, 'value'),
        ].join('');
      }),
    ];
  }
}

function style(): string {
  const fills = (shades: readonly string[]): string => shades.map((fill, i) => `.q${i}{fill:${fill}}`).join('');
  const theme = (page: string, ink: string, quiet: string, bar: string, over: string): string =>
    `.page{fill:${page}}text{fill:${ink}}.quiet{fill:${quiet}}.bar{fill:${bar}}text.over{fill:${over}}`;
  return [
    'text{font:12px system-ui,sans-serif}.title{font-size:17px;font-weight:600}.head{font-weight:600}.cell{font-size:11px}',
    '.middle{text-anchor:middle}.end{text-anchor:end}',
    theme('#ffffff', '#1c2530', '#5b6773', '#3676b4', '#ffffff'),
    fills(LIGHT),
    `@media (prefers-color-scheme:dark){${theme('#0f151c', '#e6ebf0', '#9aa7b4', '#5596c6', '#0f151c')}${fills(DARK)}}`,
  ].join('');
}

function text(x: number, y: number, content: string, className: string): string {
  return `<text x="${x}" y="${y}" class="${className}">${escapeXml(content)}</text>`;
}

/** Names come from files: no markup, and no character that XML has no place for. */
export function escapeXml(value: string): string {
  const escapes: Readonly<Record<string, string>> = {
    '&': '&amp;',
    '<': '&lt;',
    '>': '&gt;',
    '"': '&quot;',
    "'": '&#39;',
  };
  return (
    value
      // biome-ignore lint/suspicious/noControlCharactersInRegex: XML 1.0 allows none of them
      .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '')
      .replace(/[&<>"']/g, (character) => escapes[character] as string)
  );
}

function decibels(damage: number): string {
  return damage === 0 ? '∞' : (-10 * Math.log10(damage)).toFixed(1);
}

/** Linears of blocks as a table; kinds in the order in which they come. */
function gridOf(linears: readonly PlottedLinear[]): {
  readonly kinds: readonly string[];
  readonly blocks: readonly number[];
  readonly cells: ReadonlyMap<string, number>;
} {
  const kinds = new Set<string>();
  const blocks = new Set<number>();
  const cells = new Map<string, number>();
  for (const { name, damage } of linears) {
    const [, block, kind] = name.match(/^blocks\.(\d+)\.(.+)$/) ?? [];
    if (block === undefined || kind === undefined) continue;
    kinds.add(kind);
    blocks.add(Number(block));
    cells.set(`${Number(block)} ${kind}`, damage);
  }
  return { kinds: [...kinds], blocks: [...blocks].sort((a, b) => a - b), cells };
}

function barsOf(linears: readonly PlottedLinear[]): PlottedLinear[] {
  const sums = new Map<string, number>();
  for (const { name, damage } of linears) {
    const family = name.replace(/^blocks\.\d+\./, 'blocks.*.');
    sums.set(family, (sums.get(family) ?? 0) + damage);
  }
  const all = [...sums].map(([name, damage]): PlottedLinear => ({ name, damage })).sort((a, b) => b.damage - a.damage);
  return all.slice(0, MOST_BARS);
}

/** @returns the shade of a damage, on a logarithmic scale from the least to the most */
function shadesOf(linears: readonly PlottedLinear[]): (damage: number) => number {
  const logs = linears.filter(({ damage }) => damage > 0).map(({ damage }) => Math.log(damage));
  const [least, most] = [Math.min(...logs), Math.max(...logs)];
  return (damage) => {
    if (damage === 0) return 0;
    if (least === most) return LIGHT.length - 1;
    return Math.min(LIGHT.length - 1, Math.floor((LIGHT.length * (Math.log(damage) - least)) / (most - least)));
  };
}
