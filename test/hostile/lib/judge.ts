import { type ErrorCode, ExitCode, WanqError } from '../../../src/errors.js';
import type { Command, End } from './case.js';
import { differences, type Place, SECRET } from './place.js';

export interface Outcome {
  readonly code: number | null;
  readonly signal?: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Judged {
  /** The end in a word: `ok`, a code, or what else happened. */
  readonly end: string;
  /** What is wrong with it. */
  readonly faults: readonly string[];
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/;

/** Holds an end against those that are right, and what was said and left against the rules that no command breaks. */
export function judge(
  command: Omit<Command, 'control'>,
  expected: readonly End[],
  outcome: Outcome,
  place: Place,
  before: ReadonlyMap<string, string>,
): Judged {
  const { code, stdout, stderr, signal } = outcome;
  const faults: string[] = [];
  const named = /^wanq: [^\n]* \[([A-Z_]+)\]\n?$/m.exec(stderr)?.[1];
  const end =
    signal != null
      ? signal
      : code === ExitCode.ok
        ? 'ok'
        : code === ExitCode.gateFailed
          ? 'fails'
          : (named ?? `exit ${code}`);
  const right = command.exits ? command.exits.includes(code) : expected.includes(end as End);
  if (!right) faults.push(`ended with ${end}: ${stderr.trim().slice(-300)}`);
  const lines = stderr.split('\n').filter((line) => line.startsWith('wanq: '));
  if (named !== undefined && code !== null && code > 1 && !command.exits) {
    if (lines.length !== 1) faults.push(`${lines.length} lines of errors`);
    const exit = new WanqError(named as ErrorCode, '').exitCode;
    if (exit !== code) faults.push(`exit code ${code} of ${named}`);
    if (stdout !== '') faults.push('prints results and fails');
  }
  if (/^\s+at .*[:(]\d+/m.test(stderr) || /^\s+at .*[:(]\d+/m.test(stdout)) faults.push('prints a stack trace');
  if (/a bug in wanq|unexpected error|\bINTERNAL\b/.test(stderr)) faults.push('calls itself broken');
  for (const text of [stdout, stderr]) {
    const found = CONTROL.exec(text);
    if (found) faults.push(`prints U+${found[0].charCodeAt(0).toString(16).padStart(4, '0')}`);
    if (/^\s*::/m.test(text.replace(/^::(error|warning|notice)( [^\n]*)?::[^\n]*$/gm, '')) || text.includes('##[')) {
      faults.push('prints a workflow command');
    }
    if (text.includes(SECRET)) faults.push('prints a secret');
  }
  const failed = end !== 'ok' && end !== 'fails';
  const allowed = failed ? (command.keeps ?? []) : (command.outputs ?? []);
  const changed = differences(before, place.snapshot(), allowed);
  if (changed.length > 0) faults.push(changed.slice(0, 4).join(', '));
  const after = failed ? undefined : command.afterwards?.(place, { stdout, stderr });
  if (after !== undefined) faults.push(after);
  return { end, faults };
}
