import { printable } from '../errors.js';
import { figure, quantity } from './figure.js';
import type { JudgedLinear, JudgedResults, JudgedStep, JudgedVideo } from './subject.js';

/** Beyond this a scale is not the plan's: storing it in FP16 moves it by 2^-11. */
const SCALE_OFF = 0.01;

type Measured = Pick<JudgedResults, 'linears' | 'steps' | 'videos'>;

/** Linears whose scale is not the plan's, then by what they lose beyond INT8's own rounding, the worst first. */
export function worstLinears<T extends JudgedLinear>(
  { linears }: { readonly linears: readonly T[] },
  count: number,
): T[] {
  // Of a linear without any error, nothing is lost: Infinity less Infinity is no figure.
  const ranked = worst(linears, linears.length, ({ sqnr, excess }) =>
    excess === null || (Number.isNaN(excess) && sqnr === Number.POSITIVE_INFINITY) ? null : -excess,
  );
  return ranked.sort((a, b) => Number(isOffPlan(b)) - Number(isOffPlan(a))).slice(0, count);
}

/** Whether the scale of a linear's input is another than its plan says. */
export function isOffPlan({ scaleRatio }: Pick<JudgedLinear, 'scaleRatio'>): boolean {
  return typeof scaleRatio === 'number' && Math.abs(scaleRatio - 1) > SCALE_OFF;
}

/** Steps and branches by SQNR, the worst first. */
export function worstSteps({ steps }: Measured, count: number): JudgedStep[] {
  return worst(steps, count, ({ sqnr }) => sqnr);
}

/** Inspected videos by SQNR, the worst first. */
export function worstVideos({ videos }: Measured, count: number): JudgedVideo[] {
  return worst(videos, count, ({ sqnr }) => sqnr);
}

/** Where to look first: a line each for the worst linear, step and prompt, as far as they were measured. */
export function blameLines(results: Measured): string[] {
  return [
    ...worstLinears(results, 1).map((row) => `look first at linear ${linearText(row)}`),
    ...worstSteps(results, 1).map(
      (row) => `worst step: ${stepName(row)} (timestep ${row.timestep}): SQNR ${dB(row.sqnr)}`,
    ),
    ...worstVideos(results, 1).map((row) => `worst prompt: ${videoName(row)}: SQNR ${dB(row.sqnr)}`),
  ];
}

function linearText({ linear, sqnr, attainable, excess, scaleRatio }: JudgedLinear): string {
  const figures = `SQNR ${dB(sqnr)}, INT8 can have ${dB(attainable)}`;
  const off = isOffPlan({ scaleRatio });
  const scale = off ? `; the scale of its input is ${figure(scaleRatio as number)} x that of its plan` : '';
  return `${printable(linear, 120)}: ${dB(excess)} lost beyond what INT8 costs there (${figures}${scale})`;
}

export function stepName({ step, branch }: Pick<JudgedStep, 'step' | 'branch'>): string {
  return `${step + 1} ${printable(branch, 20)}`;
}

export function videoName({ prompt, seed }: Pick<JudgedVideo, 'prompt' | 'seed'>): string {
  return `"${printable(prompt, 80)}" seed ${seed}`;
}

export function dB(value: number | null): string {
  return value === null ? '-' : quantity(value, 'dB');
}

/** What was not measured is left out; what is not a number is the worst there is. */
function worst<T>(rows: readonly T[], count: number, by: (row: T) => number | null): T[] {
  const ranked = rows.flatMap((row) => {
    const value = by(row);
    return value === null ? [] : [{ row, value: Number.isNaN(value) ? Number.NEGATIVE_INFINITY : value }];
  });
  // Infinities may meet: a difference of them is no order.
  ranked.sort((a, b) => (a.value < b.value ? -1 : a.value > b.value ? 1 : 0));
  return ranked.slice(0, count).map(({ row }) => row);
}
