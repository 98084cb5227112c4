import { freemem, totalmem } from 'node:os';
import type { Check, Seen } from '../finding.js';

/** Below it not even the streaming rewrite of a 5B fits (docs/performance.md: 0.5 GB). */
const LEAST = 0.75e9;

/** Above it a 5B is calibrated whole, or in segments. */
const AMPLE = 8e9;

/** @param limit of the control group, bytes; 0 where there is none */
export function judgeMemory(total: number, free: number, limit: number): Seen {
  const limited = limit > 0 && limit < total;
  const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;
  const seen = [
    `${gigabytes(total)}, ${gigabytes(free)} free`,
    ...(limited ? [`limited to ${gigabytes(limit)} by the control group`] : []),
  ].join(', ');
  const usable = limited ? limit : total;
  if (usable < LEAST) return { status: 'problem', seen, mend: 'give it 1 GB for quantize, and 8 GB to calibrate a 5B' };
  if (usable < AMPLE) {
    return {
      status: 'note',
      seen,
      mend: 'to calibrate a 5B give it 8 GB, and see `wanq inspect` for what models need',
    };
  }
  return { status: 'ok', seen };
}

export const memoryCheck: Check = {
  name: 'memory',
  look: async () => [judgeMemory(totalmem(), freemem(), process.constrainedMemory())],
};
