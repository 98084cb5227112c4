import { type LinearRow, linearRows, summarize } from '../../analyze/inspect.js';
import { findProducts, type Products } from '../../analyze/leftovers.js';
import { printable, WanqError } from '../../errors.js';
import type { Graph, Model, Value } from '../../ir/graph.js';
import { graphText } from '../../ir/text.js';
import { loadGraph } from '../../onnx/load.js';
import { NORMALIZE } from '../../passes/normalize.js';
import { runPasses } from '../../passes/pass.js';
import type { VideoSize } from '../../pipeline/geometry.js';
import { COMPONENTS, type Component, PipelineFolder } from '../../pipeline/layout.js';
import { DEFAULT_PERCENTILE, FLOAT_STORAGES, type FloatStorage } from '../../quantize/options.js';
import { makePlan } from '../../quantize/plan.js';
import { SCHEMES, type Scheme } from '../../quantize/scheme.js';
import { refuseUnsupported } from '../../quantize/support.js';
import { formatBytes } from '../../report/format.js';
import type { Action } from '../command.js';
import type { Context } from '../context.js';
import { renderTable } from '../ui/table.js';
import { memoryText, pipelineMemory } from './inspect-memory.js';

/** What a scheme makes of the transformer, or why it cannot. */
type SchemeSize =
  | { readonly scheme: Scheme; readonly float: FloatStorage; readonly bytes: number; readonly share: number }
  | { readonly scheme: Scheme; readonly float: FloatStorage; readonly note: string };

export const run: Action = async (context, { positional, flags }) => {
  const [pipeline] = positional as [string];
  const folder = await PipelineFolder.open(pipeline);
  const { text, roles, ...size } = flags as VideoSize & { text?: string | true; roles?: boolean };
  if (text !== undefined) return printText(context, folder, text === true ? 'transformer' : text);
  const components = [];
  const graphs = new Map<Component, Graph>();
  let schemes: SchemeSize[] = [];
  let linears: LinearRow[] = [];
  for (const name of COMPONENTS) {
    if (!(await folder.has(name))) continue;
    const file = folder.modelPath(name);
    const model = await loadGraph(file);
    const nodes = model.graph.nodes.length;
    if (name === 'transformer') runPasses(model, NORMALIZE);
    const products = findProducts(model.graph);
    components.push({ name, ...summarize(model.graph, model.opset, products), nodes });
    graphs.set(name, model.graph);
    if (name === 'transformer') {
      if (roles) linears = linearRows(model.graph, products.linears);
      schemes = SCHEMES.flatMap((scheme) =>
        FLOAT_STORAGES.map((float) => sizeAfter(scheme, float, model, file, products)),
      );
    }
  }
  const memory = await pipelineMemory(folder, graphs, size);
  if (context.json) {
    context.print(JSON.stringify({ pipeline, components, schemes, memory, ...(roles ? { linears } : {}) }, null, 2));
    return undefined;
  }
  for (const { name, inputs, outputs, nodes, opset, parameters, bytes } of components) {
    context.print(`${name}: ${nodes} nodes, opset ${opset}, ${millions(parameters)} parameters, ${formatBytes(bytes)}`);
    for (const value of inputs) context.print(`  in   ${describe(value)}`);
    for (const value of outputs) context.print(`  out  ${describe(value)}`);
  }
  const transformer = components.find(({ name }) => name === 'transformer');
  context.print(`\nLinears of the transformer (${transformer?.blocks ?? 0} blocks):`);
  context.print(
    renderTable(
      ['role', 'count', 'parameters', 'bytes', 'known by', 'confidence'],
      (transformer?.roles ?? []).map(({ role, count, parameters, bytes, evidence, confidence }) => [
        role,
        String(count),
        millions(parameters),
        formatBytes(bytes),
        evidence,
        confidence,
      ]),
      [1, 2, 3],
    ),
  );
  for (const { operator, why, count } of transformer?.leftovers ?? []) {
    context.print(`${count} x ${printable(operator)} with weights will stay as it is: ${why}`);
  }
  if (roles) {
    context.print('\nEvidence for each role:');
    context.print(rolesTable(linears));
  }
  context.print('\nSize of the transformer after `wanq quantize`:');
  context.print(
    renderTable(
      ['scheme', 'other linears', 'bytes', 'of now'],
      [
        ['as it is', '', formatBytes(transformer?.bytes ?? 0), '100.0 %'],
        ...schemes.map((row) =>
          'note' in row
            ? [row.scheme, row.float, '-', row.note]
            : [row.scheme, row.float, formatBytes(row.bytes), `${(100 * row.share).toFixed(1)} %`],
        ),
      ],
      [2, 3],
    ),
  );
  context.print('\nPredicted memory of the pipeline:');
  context.print(memoryText(memory));
  return undefined;
};

function rolesTable(linears: readonly LinearRow[]): string {
  return renderTable(
    ['role', 'confidence', 'evidence', 'structure says', 'product', 'weight', 'read through'],
    linears.map(({ role, confidence, evidence, structure, kind, node, weight, shape, stored, computed, chain }) => [
      role,
      confidence,
      evidence,
      structure === null ? 'nothing' : structure === role ? 'the same' : structure,
      printable(`${kind} ${node}`, 48),
      printable(`${weight} [${shape.join(', ')}] ${stored}${computed === stored ? '' : ` -> ${computed ?? '?'}`}`, 64),
      chain.join(', '),
    ]),
  );
}

async function printText(context: Context, folder: PipelineFolder, name: string): Promise<undefined> {
  if (context.json) {
    throw new WanqError('USAGE', 'a graph as text is not JSON', { hint: 'leave out --json or --text' });
  }
  const component = COMPONENTS.find((known): known is Component => known === name);
  if (component === undefined || !(await folder.has(component))) {
    throw new WanqError('USAGE', `the pipeline has no component ${printable(name)}`, {
      hint: `--text takes one of ${COMPONENTS.join(', ')}`,
    });
  }
  context.print(graphText(await loadGraph(folder.modelPath(component))));
  return undefined;
}

function sizeAfter(scheme: Scheme, float: FloatStorage, model: Model, file: string, products: Products): SchemeSize {
  const options = { scheme, float, target: 'ort-cpu', method: 'kl', percentile: DEFAULT_PERCENTILE, keep: [] } as const;
  try {
    refuseUnsupported(model, file);
    const { plan } = makePlan(model.graph, options, undefined, products);
    return { scheme, float, bytes: plan.bytesAfter, share: plan.bytesAfter / plan.bytesBefore };
  } catch (error) {
    if (!(error instanceof WanqError)) throw error;
    return { scheme, float, note: error.message };
  }
}

function describe({ name, dtype, dims }: Value): string {
  return printable(`${name}: ${dtype ?? '?'} [${dims?.map((dim) => dim ?? '?').join(', ') ?? '...'}]`);
}

function millions(parameters: number): string {
  return parameters >= 1e9 ? `${(parameters / 1e9).toFixed(3)} G` : `${(parameters / 1e6).toFixed(3)} M`;
}
