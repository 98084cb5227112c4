import type { ErrorCode } from '../../../src/errors.js';
import type { Place } from './place.js';

/** How a command ends: with one of wanq's errors, well, or with a failed gate. */
export type End = ErrorCode | 'ok' | 'fails';

export interface Command {
  readonly args: readonly string[];
  /** Ends that are right, where they differ from those of the case. */
  readonly expected?: readonly End[];
  /** Beside PATH, HOME and TMPDIR; null: not set. */
  readonly env?: Readonly<Record<string, string | null>>;
  /** A line of sh that runs it as "$@". */
  readonly sh?: string;
  /** What happens while it runs. */
  readonly during?: (running: During) => Promise<void>;
  /** What of the working folder it may write; nothing is left of it where it fails. */
  readonly outputs?: readonly string[];
  /** What a failure may leave. */
  readonly keeps?: readonly string[];
  /** The command that succeeds on the control, where another one does. */
  readonly control?: Omit<Command, 'control'>;
  /** What must hold after a command that did not fail, or why it does not. */
  readonly afterwards?: (place: Place, said: { stdout: string; stderr: string }) => string | undefined;
  /** How the table names it; the command's name if absent. */
  readonly name?: string;
  /** Exit codes of the shell's line where that is not wanq's own, such as that of the last part of a pipe. */
  readonly exits?: readonly (number | null)[];
}

export interface During {
  readonly pid: number;
  readonly place: Place;
  stderr(): string;
  /** Waits for something. @returns false where the command ended before */
  until(ready: () => boolean): Promise<boolean>;
  /** Processes that it started. */
  children(): number[];
}

export type Input = (place: Place) => void | Promise<void>;

/** The same input without what is hostile in it, by a name that cases share. */
export interface Control {
  readonly name: string;
  readonly input: Input;
}

/** One row of the table: an input that wants to do harm, the commands that read it, and how they must end. */
export interface HostileCase {
  /** Number of the case in the list, with a letter. */
  readonly id: string;
  readonly what: string;
  readonly input: Input;
  readonly commands: readonly Command[];
  readonly expected: readonly End[];
  readonly control: Control;
  /** Which of the expected ends it is depends on the moment. */
  readonly varies?: true;
  /** Why it cannot be made on this machine. */
  readonly impossible?: () => string | undefined;
  /** Whether `npm test` leaves it out: it takes seconds, gigabytes or another process, or goes through the same code as another one. */
  readonly slow?: boolean;
}

/** A row that is shown by other means than commands. */
export interface Elsewhere {
  readonly id: string;
  readonly what: string;
  /** What shows it, as tests and commands; or, with `notRun`, why nothing does. */
  readonly shownBy: string;
  readonly notRun?: true;
}

/** A row that a function of its own looks at, in the process of the runner. */
export interface Probe {
  readonly id: string;
  readonly what: string;
  readonly expected: string;
  /** @returns what was seen; right where it is `expected` */
  readonly look: (place: Place) => Promise<string>;
}

export type Row = HostileCase | Elsewhere | Probe;

/** Rows of one number, lettered in their order: 5a, 5b, ..., 5z, 5aa. */
export function lettered<T extends object>(number: number, rows: readonly T[]): (T & { readonly id: string })[] {
  return rows.map((row, i) => ({ ...row, id: `${number}${letters(i)}` }));
}

function letters(i: number): string {
  const letter = String.fromCharCode(97 + (i % 26));
  return i < 26 ? letter : letters(Math.floor(i / 26) - 1) + letter;
}
