import { printable } from '../../errors.js';
import type { Advice } from '../../report/ladder.js';

/** What may mend a model that failed the gate, for a terminal. */
export function adviceText({ notes, rungs, command }: Advice): string {
  return [
    ...notes.map((note) => printable(note, 2000)),
    ...(rungs.length > 0 ? ['what may mend it, the cheapest first:'] : []),
    ...rungs.flatMap(({ name, does, costs, commands }, i) => [
      `${i + 1}. ${name}: ${does}`,
      `   costs: ${costs}`,
      ...commands.map((line) => `   $ ${printable(line, 4000)}`),
    ]),
    ...(command === undefined ? [] : ['all of it, until one passes:', `   $ ${printable(command, 4000)}`]),
  ].join('\n');
}
