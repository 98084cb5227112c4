import type { Kind } from './fuzzer.js';
import type { Outcome } from './outcome.js';

/** Inputs [from, to) of a kind, but for some that ended a process before. */
export interface Batch {
  readonly kind: Kind | 'planted';
  readonly seed: number;
  readonly from: number;
  readonly to: number;
  readonly skip: readonly number[];
}

/** An input that did not end as it must. */
export interface Finding {
  readonly index: number;
  readonly name: string;
  readonly what: string;
}

/** What became of the inputs of a batch. */
export interface Tally {
  inputs: number;
  accepted: number;
  readonly rejected: Record<string, number>;
  readonly findings: Finding[];
  /** The input that took longest. */
  slowest: { readonly ms: number; readonly index: number; readonly name: string };
}

export interface ToWorker {
  readonly batch: Batch;
}

export type FromWorker =
  | { readonly type: 'ready' }
  | {
      readonly type: 'done';
      readonly from: number;
      readonly to: number;
      readonly tally: Tally;
      readonly peakBytes: number;
      readonly controlBytes: number;
    }
  | { readonly type: 'memory'; readonly index: number; readonly bytes: number }
  | { readonly type: 'broken'; readonly what: string };

export function emptyTally(): Tally {
  return { inputs: 0, accepted: 0, rejected: {}, findings: [], slowest: { ms: 0, index: -1, name: '' } };
}

export function addOutcome(tally: Tally, outcome: Outcome, { index, name }: Pick<Finding, 'index' | 'name'>): void {
  tally.inputs++;
  if (outcome.kind === 'accepted') tally.accepted++;
  else if (outcome.kind === 'rejected') tally.rejected[outcome.code] = (tally.rejected[outcome.code] ?? 0) + 1;
  else tally.findings.push({ index, name, what: outcome.what });
}

export function addTally(sum: Tally, part: Tally): void {
  sum.inputs += part.inputs;
  sum.accepted += part.accepted;
  for (const [code, count] of Object.entries(part.rejected)) sum.rejected[code] = (sum.rejected[code] ?? 0) + count;
  sum.findings.push(...part.findings);
  if (part.slowest.ms > sum.slowest.ms) sum.slowest = part.slowest;
}
