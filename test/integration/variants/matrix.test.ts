import { cp, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { findLinears } from '../../../src/analyze/linears.js';
import { NAME_EVIDENCE } from '../../../src/analyze/roles.js';
import { addDifferences, type Difference, sqnr } from '../../../src/numerics/stats.js';
import { encodeModel } from '../../../src/onnx/codec.js';
import { loadGraph } from '../../../src/onnx/load.js';
import { NORMALIZE } from '../../../src/passes/normalize.js';
import { runPasses } from '../../../src/passes/pass.js';
import { type QuantizeSummary, quantize } from '../../../src/quantize/quantize.js';
import { ROOT } from '../../helpers/fixtures.js';
import { readVariants, unpackVariant, type Variant } from '../../helpers/variants.js';
import { sharedHost, temporaryFolder } from '../support/environment.js';
import { againstTorch, calibrated, modelOf } from '../support/variants.js';

/** Nothing to quantize alike; `refused.test.ts` has what wanq says of them. */
const REFUSED = ['quantized', 'not-wan', 'contrib-attention', 'subgraph-linear'];

const REFERENCE = 'dynamo';

/** How far the SQNR of a quantized variant may be from the reference's, dB. */
const TOLERANCE_DB = 0.3;

const folder = temporaryFolder();
const host = sharedHost();

interface Row {
  readonly variant: Variant;
  readonly summary: QuantizeSummary;
  readonly roles: readonly string[];
  readonly knownBy: string;
  readonly integerKernels: number;
  /** Against torch's output, by case: as the variant is, and quantized. */
  readonly before: ReadonlyMap<string, Difference>;
  readonly after: ReadonlyMap<string, Difference>;
}

async function measure(variant: Variant, packed = true): Promise<Row> {
  const pipeline = path.join(folder, variant.name);
  if (packed) await unpackVariant(variant.name, pipeline);
  const output = `${pipeline}-int8`;
  const summary = await quantize({
    ...{ pipeline, calibration: await calibrated(pipeline), output, link: false, scheme: 'blocks', target: 'ort-cpu' },
    ...{ method: 'minmax', percentile: 99.999, keep: [] },
  });
  return {
    variant,
    summary,
    roles: summary.plan.rows.map(({ role }) => role).sort(),
    knownBy: await knownBy(pipeline),
    integerKernels: await integerKernels(output),
    before: await againstTorch(host, variant, pipeline),
    after: await againstTorch(host, variant, output),
  };
}

/** How far a quantized variant is from the quantized reference over the cases that both have, dB. */
function distance(row: Row): number {
  const other = row.variant.reference === 'shared' ? unshared : reference;
  const cases = [...row.after.keys()].filter((name) => other.after.has(name));
  const over = (differences: ReadonlyMap<string, Difference>): number =>
    sqnr(cases.map((name) => differences.get(name) as Difference).reduce(addDifferences));
  return Math.abs(over(row.after) - over(other.after));
}

/** Integer products in the graph that onnxruntime's CPU provider runs. */
async function integerKernels(pipeline: string): Promise<number> {
  const optimizedModelPath = `${pipeline}.optimized.onnx`;
  const session = await host.createSession({ path: modelOf(pipeline) }, { providers: ['cpu'], optimizedModelPath });
  await session.release();
  const { graph } = await loadGraph(optimizedModelPath);
  return graph.nodes.filter(({ opType }) => /^(MatMulIntegerToFloat|QLinearMatMul)$/.test(opType)).length;
}

async function knownBy(pipeline: string): Promise<string> {
  const model = await loadGraph(modelOf(pipeline));
  runPasses(model, NORMALIZE);
  const named = (evidence: string): boolean => NAME_EVIDENCE.some((name) => name === evidence);
  const kinds = findLinears(model.graph).map(({ evidence }) => (named(evidence) ? evidence : 'structure'));
  return [...new Set(kinds)].join(', ');
}

const int8Roles = ({ summary }: Row): string[] =>
  summary.plan.rows
    .filter(({ decision }) => decision === 'int8')
    .map(({ role }) => role)
    .sort();

/** Roles with what a tool put together taken apart again: q, k and v as one product count as three. */
function apart(roles: readonly string[]): string[] {
  return roles
    .flatMap((role) => {
      const [, before, parts] = role.match(/^(.*\.)(qkv|kv)$/) ?? [];
      return parts ? [...parts].map((part) => `${before}${part}`) : [role];
    })
    .sort();
}

/** A graph whose nodes share weights, with a copy of each weight for every node. */
async function undoSharing(variant: Variant): Promise<Variant> {
  const name = `${variant.name}-undone`;
  const shared = path.join(folder, variant.name);
  await cp(shared, path.join(folder, name), { recursive: true });
  const model = await loadGraph(modelOf(shared));
  const seen = new Set<string>();
  for (const node of model.graph.nodes) {
    node.inputs = node.inputs.map((input, i) => {
      const tensor = model.graph.initializers.get(input);
      if (!tensor || !seen.has(input)) {
        seen.add(input);
        return input;
      }
      const copy = `${input}_of_${node.outputs[0]}_${i}`;
      model.graph.addInitializer(tensor.renamed(copy));
      return copy;
    });
  }
  await writeFile(modelOf(path.join(folder, name)), encodeModel(model));
  return { ...variant, name };
}

const rows: Row[] = [];
for (const variant of await readVariants()) if (!REFUSED.includes(variant.name)) rows.push(await measure(variant));
const rowOf = (name: string): Row => rows.find(({ variant }) => variant.name === name) as Row;
const reference = rowOf(REFERENCE);
// Other weights than the reference's have another SQNR: sharing must not change it.
const unshared = await measure(await undoSharing(rowOf('shared').variant), false);

describe('every export of the model', () => {
  it.each(rows.map((row) => [row.variant.name, row] as const))('%s is quantized like the reference', (_, row) => {
    for (const before of row.before.values()) {
      expect(sqnr(before)).toBeGreaterThan(-20 * Math.log10(row.variant.tolerance));
    }
    expect(apart(row.roles)).toEqual(reference.roles);
    expect(apart(int8Roles(row))).toEqual(int8Roles(reference));
    expect(row.integerKernels).toBe(int8Roles(row).length);
    expect(distance(row)).toBeLessThan(TOLERANCE_DB);
  });

  it('is in the table of docs/exports.md', async () => {
    await expect(table()).toMatchFileSnapshot(path.join(ROOT, 'docs', 'exports-matrix.md'));
  });
});

/** Figures that are the same on every machine. */
function table(): string {
  const head = ['variant', 'written by', 'opset', 'IR', 'linears', 'known by', 'INT8', 'integer kernels', 'SQNR'];
  const lines = rows.map((row) => {
    const { name, producer, opset, irVersion } = row.variant;
    const within = distance(row) < TOLERANCE_DB;
    return [
      ...[name, producer, opset, irVersion, row.roles.length, row.knownBy, int8Roles(row).length],
      ...[row.integerKernels, within ? `within ${TOLERANCE_DB} dB` : 'differs'],
    ];
  });
  const line = (cells: readonly (string | number)[]): string => `| ${cells.join(' | ')} |`;
  return `${[
    '# Exports: the matrix',
    '',
    'Written by `test/integration/variants/matrix.test.ts`, which fails where it is out of date (`npx vitest run -u` writes it anew).',
    'What the variants are: `fixtures/variants/README.md`. What the columns mean: `docs/exports.md`.',
    '',
    line(head),
    line(head.map(() => '---')),
    ...lines.map(line),
  ].join('\n')}\n`;
}
