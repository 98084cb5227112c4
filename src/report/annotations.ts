import { printable } from '../errors.js';
import type { Verdict } from '../gate/judge.js';
import { type GateLine, gateLines } from '../gate/lines.js';

export interface AnnotatedFiles {
  /** Relative to the repository, with slashes; absent where there is none in it. */
  readonly rules?: string | undefined;
  readonly baseline?: string | undefined;
}

/** Workflow commands of GitHub Actions, one a line: an error for each check that failed, a warning for each that warns. */
export function annotations(verdict: Verdict, files: AnnotatedFiles = {}): string[] {
  return gateLines(verdict).flatMap((of) => {
    if (of.status === 'ok') return [];
    const command = of.status === 'warn' ? 'warning' : 'error';
    const properties = Object.entries({ title: `wanq gate: ${of.name}`, ...placeOf(of, files) })
      .map(([name, value]) => `${name}=${property(value)}`)
      .join(',');
    return [`::${command} ${properties}::${data(of.message)}`];
  });
}

function placeOf({ kind, line }: GateLine, { rules, baseline }: AnnotatedFiles): Record<string, string> {
  if (kind === 'baseline') return baseline === undefined ? {} : { file: baseline };
  return rules === undefined || line === undefined ? {} : { file: rules, line: String(line) };
}

function data(text: string): string {
  return withoutCommands(printable(text, 2000)).replaceAll('%', '%25');
}

function property(text: string): string {
  return withoutCommands(printable(text, 500)).replaceAll('%', '%25').replaceAll(':', '%3A').replaceAll(',', '%2C');
}

/** The runner takes `##[name]` for a command wherever it stands in a line (ActionCommand.TryParse of actions/runner). */
export function withoutCommands(text: string): string {
  return text.replaceAll('##[', '## [');
}
