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
  return report.float === 0 ? undefined : ExitCode.gateFailed;
};

function reportText(report: CheckReport, all: boolean): string {
  const { products, integer, weights, float, others, target, file } = report;
  const counts = [
    `${integer} of ${products.length} quantized products become integer kernels`,
    ...(weights > 0 ? [`${weights} keep their weight alone in INT8`] : []),
    ...(float > 0 ? [`${float} stay products of floats`] : []),
  ];
  const stray = others.map(({ node, readers }) => {
    const read = readers.length > 0 ? `, and is read by ${printable(readers.join(', '))}` : '';
    return `${printable(node)} quantizes the input of no product${read}`;
  });
  return [
    ...(all ? [productTable(products)] : []),
    ...why(products),
    ...stray,
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

/** Products that are named for one reason. */
const NAMED = 6;

/** One line for every reason, with the products that it keeps in floats. */
function why(products: readonly CheckedProduct[]): string[] {
  const byReason = new Map<string, string[]>();
  for (const { reasons, role, node } of products) {
    for (const reason of reasons) {
      byReason.set(reason, [...(byReason.get(reason) ?? []), role === UNKNOWN_ROLE ? printable(node, 48) : role]);
    }
  }
  return [...byReason].map(([reason, names]) => {
    const rest = names.length > NAMED ? ` and ${names.length - NAMED} more` : '';
    return `${reason}: ${printable(names.slice(0, NAMED).join(', '))}${rest}`;
  });
}
