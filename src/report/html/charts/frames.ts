import { figure } from '../figures.js';
import { type Html, html } from '../markup.js';
import { axis, chart, extent, lineSeries, uprightAxis } from './chart.js';

const SIZE = { width: 900, height: 150 } as const;
const GRID = { left: 54, right: 16, top: 26, bottom: 38 } as const;

/** PSNR of each frame of a video, with a cursor that the page's script moves; it carries where the axis begins and ends. */
export function framePsnr(id: string, psnr: readonly (number | null)[]): Html {
  const ends = extent(psnr);
  const [from, to] = [GRID.left, SIZE.width - GRID.right];
  const cursor = html`<line class="cursor" data-from="${from}" data-to="${to}" data-frames="${psnr.length}" x1="${from}" x2="${from}" y1="${GRID.top}" y2="${SIZE.height - GRID.bottom}"></line>`;
  return chart(
    {
      id,
      title: 'PSNR by frame',
      summary: ends ? `From ${figure(ends[0])} to ${figure(ends[1])}.` : 'All frames are equal, or none was measured.',
    },
    {
      grid: GRID,
      xAxis: axis('frame', { min: 0, max: Math.max(1, psnr.length - 1), minInterval: 1, nameGap: 22 }),
      yAxis: uprightAxis('PSNR, dB', { splitNumber: 3 }),
      series: [
        lineSeries({ name: 'PSNR', tone: 'first', marker: 'circle', points: psnr.map((value, i) => [i, value]) }),
      ],
    },
    SIZE,
    cursor,
  );
}
