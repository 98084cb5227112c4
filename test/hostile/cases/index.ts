import type { HostileCase, Row } from '../lib/case.js';
import { GARBAGE_ROWS } from './01-garbage.js';
import { NESTING_ROWS } from './03-nesting.js';
import { DATA_ROWS, OVERLAP_ROWS } from './05-locations.js';
import { TENSOR_ROWS } from './09-tensors.js';
import { GRAPH_ROWS } from './11-graphs.js';
import { FILE_ROWS } from './15-files.js';
import { NUMBER_ROWS } from './16-numbers.js';
import { ENVIRONMENT_ROWS } from './22-environment.js';
import { GATE_ROWS } from './34-gate.js';

const rows: readonly Row[] = [
  ...GARBAGE_ROWS,
  ...NESTING_ROWS,
  ...DATA_ROWS,
  ...TENSOR_ROWS,
  ...GRAPH_ROWS,
  ...OVERLAP_ROWS,
  ...FILE_ROWS,
  ...NUMBER_ROWS,
  ...ENVIRONMENT_ROWS,
  ...GATE_ROWS,
];

/** All cases of the list that concern a command line, in its order. */
export const ROWS: readonly Row[] = rows
  .map((row, i) => ({ row, i, number: Number.parseInt(row.id, 10) }))
  .sort((a, b) => a.number - b.number || a.i - b.i)
  .map(({ row }) => row);

export const CASES: readonly HostileCase[] = ROWS.filter((row): row is HostileCase => 'commands' in row);
