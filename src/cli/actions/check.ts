import { UNKNOWN_ROLE } from '../../analyze/roles.js';
import { type CheckedProduct, type CheckReport, checkTarget } from '../../check/check.js';
import { ExitCode, printable } from '../../errors.js';
import type { Target } from '../../quantize/target.js';
import type { Action } from '../command.js';
import { renderTable } from '../ui/table.js';

export const run: Action = async (context, { positional, flags }) => {
  const [model] = positional as [string];
  const { target, all = false } = flags as { target: Target; all?: boolean };
  const report = await checkTarget(model, target);
  context.print(context.json ? JSON.stringify(report, null, 2) : reportText(report, all));
  if (report.madeFor !== null && report.madeFor !== target) {
    context.say(`wanq wrote this model for ${report.madeFor}: quantize with --target ${target} for ${target}`);
  }
  return report.float === 0 && report.defects.length === 0 ? undefined : ExitCode.gateFailed;
};

function reportText(report: CheckReport, all: boolean): string {
  const { products, integer, weights, float, others, target, file } = report;
  const counts = [
    `${integer} of ${products.length} quantized products become integer kernels`,
    ...(weights > 0 ? [`${weights} keep their weight alone in INT8`] : []),
    ...(float > 0 ? [`${float} stay products of floats`] : []),
  ];
  return [
    ...(all ? [productTable(products)] : []),
    ...why(products),
    ...strayPairs(others),
    ...report.defects.map(({ tensor, why }) => `${printable(tensor)} ${why}`),
    `${printable(file)} on ${target}: ${counts.join(', ')}`,
  ].join('\n');
}

function productTable(products: readonly CheckedProduct[]): string {
  return renderTable(
    ['role', 'product', 'becomes', 'of note'],
    products.map(({ role, node, operator, outcome, kernel, notes }) => [
      role,
      printable(`${operator} ${node}`, 48),
      outcome === 'float' ? 'a product of floats' : (kernel ?? ''),
      notes.join('; '),
    ]),
  );
}

/** Nodes that are named in one line. */
const NAMED = 6;

/** One line for every reason, with the products that it keeps in floats. */
function why(products: readonly CheckedProduct[]): string[] {
  const byReason = new Map<string, string[]>();
  for (const { reasons, role, node } of products) {
    for (const reason of reasons) {
      byReason.set(reason, [...(byReason.get(reason) ?? []), role === UNKNOWN_ROLE ? printable(node, 48) : role]);
    }
  }
  return [...byReason].map(([reason, names]) => `${reason}: ${named(names)}`);
}

/** One line for all pairs that the same operators read. */
function strayPairs(others: CheckReport['others']): string[] {
  const byReaders = new Map<string, string[]>();
  for (const { node, readers } of others) {
    const key = readers.join(', ');
    byReaders.set(key, [...(byReaders.get(key) ?? []), printable(node, 48)]);
  }
  return [...byReaders].map(([readers, nodes]) => {
    const read = readers === '' ? '' : `, read by ${printable(readers)}`;
    return `quantized for no product${read}: ${named(nodes)}`;
  });
}

function named(names: readonly string[]): string {
  const rest = names.length > NAMED ? ` and ${names.length - NAMED} more` : '';
  return `${printable(names.slice(0, NAMED).join(', '))}${rest}`;
}
