import { BarChart, CustomChart, LineChart, ScatterChart } from 'echarts/charts';
import { GridComponent, LegendComponent, MarkAreaComponent, MarkLineComponent } from 'echarts/components';
import * as echarts from 'echarts/core';
import { SVGRenderer } from 'echarts/renderers';
import { Html, html } from '../markup.js';

echarts.use([
  BarChart,
  CustomChart,
  LineChart,
  ScatterChart,
  GridComponent,
  LegendComponent,
  MarkAreaComponent,
  MarkLineComponent,
  SVGRenderer,
]);

/** Roles of colour in charts. The page's style says what they are, in light and in dark. */
export type Tone = 'ink' | 'quiet' | 'rule' | 'first' | 'second' | 'third' | 'page';

/** Colours that stand for the tones while the chart is drawn. */
const STANDS: Readonly<Record<Tone, string>> = {
  ink: '#0a0b01',
  quiet: '#0a0b02',
  rule: '#0a0b03',
  first: '#0a0b04',
  second: '#0a0b05',
  third: '#0a0b06',
  page: '#0a0b07',
};

export const tone = (name: Tone): string => STANDS[name];

/** Where the axes cross and end, of the chart's width and height. */
export const GRID = { left: 54, right: 16, top: 34, bottom: 40 } as const;

export const SIZE = { width: 430, height: 240 } as const;

export interface ChartText {
  /** Of its element, for one page. */
  readonly id: string;
  readonly title: string;
  /** What is seen in it, for those who cannot: figures. */
  readonly summary: string;
}

/**
 * Draws a chart as SVG without script, inline style or colour of its own.
 * @param extra drawn over it
 */
export function chart(
  { id, title, summary }: ChartText,
  option: echarts.EChartsCoreOption,
  size: { readonly width: number; readonly height: number } = SIZE,
  extra?: Html,
): Html {
  const drawn = echarts.init(null, null, { renderer: 'svg', ssr: true, ...size });
  let svg: string;
  try {
    drawn.setOption({ animation: false, textStyle: { color: tone('ink'), fontSize: 12 }, ...option });
    svg = drawn.renderToSVGString();
  } finally {
    drawn.dispose();
  }
  const body = svg.slice(svg.indexOf('>') + 1, svg.lastIndexOf('</svg>'));
  return html`<svg class="chart" id="${id}" viewBox="0 0 ${size.width} ${size.height}" role="img" aria-labelledby="${id}-title ${id}-text"><title id="${id}-title">${title}</title><desc id="${id}-text">${summary}</desc>${new Html(themed(body, id))}${extra}</svg>`;
}

function themed(svg: string, id: string): string {
  const tones = Object.entries(STANDS).map(([name, color]) => [color, `var(--${name})`] as const);
  const plain = svg
    // Rules for a pointer over marks, and what they hang on.
    .replace(/<style[\s\S]*?<\/style>/g, '')
    .replace(/ (?:class|pointer-events|ecmeta_\w+)="[^"]*"/g, '')
    // A page that allows no inline style takes the same as attributes.
    .replace(/ style="([^"]*)"/g, (_, style: string) => {
      const size = /font-size:\s*([\d.]+)px/.exec(style)?.[1];
      const weight = /font-weight:\s*(\w+)/.exec(style)?.[1];
      return `${size ? ` font-size="${size}"` : ''}${weight ? ` font-weight="${weight}"` : ''}`;
    })
    // What is drawn and not seen.
    .replace(/ fill="rgb\(0,0,0\)" fill-opacity="0"/g, ' fill="none"')
    .replace(/ stroke="[^"]*" stroke-width="0"/g, '')
    .replace(/zr\d+-/g, `${id}-`)
    .replace(/\n+/g, '');
  return tones.reduce((text, [color, variable]) => text.replaceAll(color, variable), plain);
}

/** Settings of an axis that all charts share. */
export function axis(name: string, rest: object = {}): object {
  return {
    type: 'value',
    name,
    nameLocation: 'middle',
    nameGap: 26,
    nameTextStyle: { color: tone('quiet'), fontSize: 12 },
    axisLine: { show: true, onZero: false, lineStyle: { color: tone('quiet') } },
    axisTick: { lineStyle: { color: tone('quiet') } },
    axisLabel: { color: tone('quiet'), fontSize: 11, hideOverlap: true },
    splitLine: { lineStyle: { color: tone('rule') } },
    ...rest,
  };
}

/** The upright axis: its name above it, where it takes no width. */
export function uprightAxis(name: string, rest: object = {}): object {
  return axis(name, {
    nameLocation: 'end',
    nameGap: 10,
    nameTextStyle: { color: tone('quiet'), fontSize: 12, align: 'left', padding: [0, 0, 0, -46] },
    scale: true,
    ...rest,
  });
}

export function legend(names: readonly { readonly name: string; readonly icon?: string }[]): object {
  return {
    data: names,
    top: 4,
    right: 12,
    itemWidth: 28,
    itemHeight: 9,
    itemGap: 14,
    textStyle: { color: tone('ink'), fontSize: 12 },
    inactiveColor: tone('quiet'),
  };
}

export interface Line {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number | null])[];
  readonly tone: Tone;
  readonly dash?: 'solid' | 'dashed' | 'dotted';
  readonly marker?: 'circle' | 'diamond' | 'triangle' | 'none';
}

/** Lines told apart by dash and marker as well as by colour. What is not finite is left out. */
export function lineSeries({ name, points, tone: of, dash = 'solid', marker = 'none' }: Line): object {
  // Many markers hide the line that they are to tell apart.
  const every = Math.max(1, Math.ceil(points.length / 25));
  return {
    type: 'line',
    name,
    data: points.map(([x, y], i) => ({
      value: [x, y !== null && Number.isFinite(y) ? y : '-'],
      symbol: i % every === 0 || points.length < 30 ? marker : 'none',
    })),
    symbol: marker,
    symbolSize: 6,
    showSymbol: true,
    lineStyle: { color: tone(of), width: 1.8, type: dash },
    itemStyle: { color: tone(of) },
  };
}

/** Least and greatest of what is finite, for texts; undefined of nothing. */
export function extent(values: readonly (number | null)[]): readonly [least: number, most: number] | undefined {
  const finite = values.filter((value): value is number => value !== null && Number.isFinite(value));
  if (finite.length === 0) return undefined;
  return [
    finite.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY),
    finite.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY),
  ];
}
