import { printable } from '../errors.js';

/** A rung of the ladder: one thing that may mend a model that failed the gate. */
export interface AdvisedRung {
  readonly name: string;
  /** One line each. */
  readonly does: string;
  readonly costs: string;
  /** Command lines, in the order in which they are to be run. */
  readonly commands: readonly string[];
}

/** What may be done about a model that failed the gate. */
export interface Advice {
  /** What is in the way of the rungs, or helps in general where none is known to apply. */
  readonly notes: readonly string[];
  /** By what they cost, the cheapest first. */
  readonly rungs: readonly AdvisedRung[];
  /** The command that tries all of them; undefined where there are none. */
  readonly command: string | undefined;
}

/** A section of the Markdown report; empty without advice. */
export function adviceMarkdown(advice: Advice | undefined): string[] {
  if (!advice) return [];
  const { notes, rungs, command } = advice;
  // Commands begin with a program's name, so that none ends a fence; paths are other people's text.
  const fenced = (lines: readonly string[], indent: string): string[] =>
    ['```', ...lines.map((line) => printable(line, 4000)), '```'].map((line) => `${indent}${line}`);
  return [
    '## What may mend it',
    ...notes.flatMap((note) => ['', escaped(note)]),
    ...(rungs.length > 0 ? ['', 'One after the other, the cheapest first:', ''] : []),
    ...rungs.flatMap(({ name, does, costs, commands }, i) => [
      `${i + 1}. **${name}**: ${escaped(does)}. Costs: ${escaped(costs)}.`,
      ...fenced(commands, '   '),
    ]),
    ...(command === undefined ? [] : ['', 'All of it, until one passes:', '', ...fenced([command], '')]),
    '',
  ];
}

function escaped(text: string): string {
  return printable(text, 2000).replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('*', '\\*');
}
