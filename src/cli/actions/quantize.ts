import { UNKNOWN_ROLE } from '../../analyze/roles.js';
import { printable, WanqError } from '../../errors.js';
import type { ComponentPlan } from '../../quantize/components/component.js';
import { planComponents } from '../../quantize/components/index.js';
import { NOT_FINITE, NOT_QUANTIZABLE, type PlanRow, type QuantPlan } from '../../quantize/plan.js';
import { planToFile, writePlan } from '../../quantize/plan-file.js';
import { isInt8 } from '../../quantize/precision.js';
import { planPipeline, type QuantizeOptions, quantize } from '../../quantize/quantize.js';
import type { Verified } from '../../quantize/verify.js';
import { formatBytes } from '../../report/format.js';
import { assertWritable, refuseExisting, withOutput } from '../../util/files.js';
import type { Action } from '../command.js';
import type { Context } from '../context.js';
import { smoothingOf } from '../plan-options.js';
import { startProgress } from '../ui/progress.js';
import { renderTable } from '../ui/table.js';

type Flags = Omit<QuantizeOptions, 'pipeline' | 'calibration' | 'output' | 'signal' | 'onProgress'> & {
  readonly calibration?: string;
  readonly output?: string;
  readonly dryRun?: boolean;
  readonly savePlan?: string;
};

export const run: Action = async (context, { positional, flags, given }) => {
  const [pipeline] = positional as [string];
  const { dryRun, savePlan, calibration, output, ...asked } = flags as unknown as Flags;
  if (savePlan !== undefined) {
    await refuseExisting(savePlan);
    await assertWritable(savePlan);
  }
  const options = { ...asked, smooth: smoothingOf(context, { ...asked, calibration }, given) };
  if (dryRun) {
    const plan = await planPipeline({ ...options, pipeline, calibration });
    if (savePlan !== undefined) await withOutput(savePlan, () => writePlan(savePlan, planToFile(plan)));
    sayNotices(context, plan);
    const components = await planComponents(pipeline, { ...options, target: plan.target });
    context.print(context.json ? JSON.stringify({ ...plan, components }, null, 2) : planTable(plan));
    if (!context.json) for (const component of components) context.print(componentLine(component));
    return undefined;
  }
  if (output === undefined) {
    throw new WanqError('USAGE', '--output is missing', { hint: 'give it, or look at the plan with --dry-run' });
  }
  const progress = startProgress(context, 'planning');
  const summary = await quantize({
    ...options,
    pipeline,
    calibration,
    output,
    signal: context.signal,
    onFitted: (done, total) => progress.update(`choosing range ${done} of ${total}`, done / total),
    onProgress: (done, total) =>
      progress.update(`quantizing ${formatBytes(done)} of ${formatBytes(total)}`, done / total),
  }).finally(() => progress.stop());
  const reports = [summary, ...summary.components].flatMap(({ passes }) => passes);
  for (const { pass, did } of reports) context.detail(`${pass}: ${did}`);
  const { plan, dataBytes, graphBytes, verified, inputs } = summary;
  if (savePlan !== undefined) await withOutput(savePlan, () => writePlan(savePlan, planToFile(plan)));
  if (context.json) {
    context.print(JSON.stringify(summary, null, 2));
    return undefined;
  }
  const int8 = plan.rows.filter(({ decision }) => isInt8(decision)).length;
  context.print(
    `${summary.output}: ${int8} of ${plan.rows.length} linears in INT8, ${formatBytes(dataBytes + graphBytes)} (weights ${formatBytes(plan.bytesBefore)} before)`,
  );
  for (const component of summary.components) context.print(componentLine(component));
  sayNotices(context, plan);
  for (const value of summary.overflow) {
    context.say(`what reads or makes ${printable(value)} stays FP32: it came too near the end of FP16`);
  }
  for (const { role, reason } of unexpectedlyKept(plan)) context.say(`warning: ${role} stays as it is: ${reason}`);
  if (inputs === 'synthetic') {
    context.say('warning: the calibration is over random embeddings: the ranges are not those of real prompts');
  }
  sayOddWeights(context, [verified, ...summary.components.map((component) => component.verified)]);
  context.say(`checked: the written model ${verifiedText(verified)}`);
  for (const { component, verified: done } of summary.components) {
    context.say(`checked: the written ${component} ${verifiedText(done)}`);
  }
  context.say(`next: wanq eval ${pipeline} ${summary.output} --prompts FILE -o reports/NAME --gate`);
  return undefined;
};

function componentLine({ component, did, bytesBefore, bytesAfter }: ComponentPlan): string {
  return `${component}: ${did}: ${formatBytes(bytesBefore)} -> ${formatBytes(bytesAfter)} of weights`;
}

function verifiedText({ ran, sqnr }: Verified): string {
  const against = sqnr === null ? '' : `, ${sqnr.toFixed(1)} dB SQNR against the original on a random input`;
  return `loads${ran ? ` and runs${against}` : ''}`;
}

function sayOddWeights(context: Context, all: readonly Verified[]): void {
  for (const { tensor, channels, zero, single } of all.flatMap(({ odd }) => odd)) {
    const parts = [
      ...(zero > 0 ? [`${zero} of ${channels} channels are 0`] : []),
      ...(single > 0 ? [`in ${single} of ${channels} channels one weight leaves all others 0`] : []),
    ];
    context.say(`warning: weight ${printable(tensor)}: ${parts.join(', ')}`);
  }
}

/** What the plan leaves out without having been told to. */
function sayNotices(context: Context, { leftovers, knownModel, rows, overflow }: QuantPlan): void {
  if (!knownModel) {
    context.say(
      'warning: this is no Wan transformer that wanq knows: every linear is quantized alike, embeddings included',
    );
  }
  const unknown = rows.filter(({ role, decision }) => knownModel && role === UNKNOWN_ROLE && !isInt8(decision)).length;
  if (unknown > 0) context.say(`warning: ${unknown} linears have no known role and stay as they are`);
  for (const { role, warnings } of rows) {
    for (const warning of warnings) context.say(`warning: ${role}: ${warning}`);
  }
  for (const { role, value, magnitude } of overflow) {
    context.say(
      `${role} stays FP32: ${printable(value)} reached ${magnitude.toPrecision(3)}, too near the end of FP16`,
    );
  }
  for (const { operator, why, count } of leftovers) {
    context.say(`warning: ${count} x ${printable(operator)} with weights stays as it is: ${why}`);
  }
}

/** Linears that the scheme names and that cannot be quantized all the same. */
function unexpectedlyKept({ rows }: QuantPlan): PlanRow[] {
  return rows.filter(
    ({ decision, reason }) =>
      !isInt8(decision) && (reason.startsWith(NOT_FINITE) || reason.startsWith(NOT_QUANTIZABLE)),
  );
}

function planTable({ rows, bytesBefore, bytesAfter, scheme, target, method, smooth, float }: QuantPlan): string {
  const head = ['role', 'weight', 'decision', 'smooth', 'range', 'seen', 'clipped', 'tried', 'reason'];
  const range = (low: number, high: number): string => `${low.toPrecision(3)} .. ${high.toPrecision(3)}`;
  const table = renderTable(
    head,
    rows.map(({ role, weightShape, decision, reason, smoothing, activation: a }) => [
      role,
      weightShape.join(' x '),
      decision,
      smoothing === null ? '' : String(smoothing),
      a ? range(a.low, a.high) : '',
      a ? range(a.min, a.max) : '',
      a ? `${(100 * a.clippedShare).toFixed(4)} %` : '',
      a ? String(a.candidates) : '',
      reason,
    ]),
    [6, 7],
  );
  return `${table}\nscheme ${scheme}, target ${target}, method ${method}, smoothing ${smooth}, other linears ${float}: ${formatBytes(bytesBefore)} -> ${formatBytes(bytesAfter)} of weights`;
}
