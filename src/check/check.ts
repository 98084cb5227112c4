import { stat } from 'node:fs/promises';
import path from 'node:path';
import type { Role } from '../analyze/roles.js';
import { fromSystemError, printable, WanqError } from '../errors.js';
import { type LoadedModel, loadModel } from '../onnx/load.js';
import { type NumberDefect, quantizedNumbers } from '../onnx/quantized-numbers.js';
import type { Target } from '../quantize/target.js';
import { CheckedGraph, findQuantizedProducts, findStrayPairs } from './products.js';
import { RULES } from './targets/index.js';
import type { Verdict } from './verdict.js';

/** One quantized product, and what the target's runtime makes of it. */
export interface CheckedProduct extends Verdict {
  readonly node: string;
  readonly role: Role;
  /** Operator of the product. */
  readonly operator: string;
}

export interface CheckReport {
  readonly file: string;
  readonly target: Target;
  /** Target that wanq wrote the model for; null for models of others. */
  readonly madeFor: string | null;
  readonly opset: number;
  readonly products: readonly CheckedProduct[];
  /** Products by what becomes of them. */
  readonly integer: number;
  readonly weights: number;
  readonly float: number;
  /** QuantizeLinears that belong to no product, and who reads what is dequantized of them. */
  readonly others: readonly { readonly node: string; readonly readers: readonly string[] }[];
  /** What is wrong with scales, zero points and codes, whatever the target. */
  readonly defects: readonly NumberDefect[];
}

/**
 * Looks at a quantized graph for what a target's runtime would not turn into an integer kernel. Runs nothing, and reads no weights: only scales and
 * zero points.
 *
 * @param given a model file, or a pipeline folder, of which it is the transformer
 * @throws WanqError NOT_FOUND; MODEL_INVALID; MODEL_UNSUPPORTED where nothing is quantized
 */
export async function checkTarget(given: string, target: Target): Promise<CheckReport> {
  const info = await stat(given).catch((error) => {
    throw fromSystemError(error, given);
  });
  const file = info.isDirectory() ? path.join(given, 'transformer', 'model.onnx') : given;
  const loaded = await loadModel(file);
  try {
    return await checkModel(loaded, target);
  } finally {
    await loaded.close();
  }
}

/** As {@link checkTarget}, of a model that is loaded. */
export async function checkModel(loaded: LoadedModel, target: Target): Promise<CheckReport> {
  const { model } = loaded;
  const { defects, brokenScales: broken } = await quantizedNumbers(model, loaded.read);
  const checked = new CheckedGraph(model.graph, model.opset, { zero: await readZeros(loaded), broken });
  const found = findQuantizedProducts(checked);
  if (found.length === 0) {
    throw new WanqError('MODEL_UNSUPPORTED', `${printable(loaded.path)} has no quantized product`, {
      hint: 'name a model that `wanq quantize` or another quantizer wrote',
    });
  }
  const rule = RULES[target];
  const products = found.map((product): CheckedProduct => {
    const { name, operator } = product.node;
    return { node: name, role: product.role, operator, ...rule(product, checked) };
  });
  const count = (outcome: Verdict['outcome']): number => products.filter((each) => each.outcome === outcome).length;
  return {
    file: loaded.path,
    target,
    madeFor: model.metadata.get('wanq.target') ?? null,
    opset: model.opset,
    products,
    integer: count('integer'),
    weights: count('weights'),
    float: count('float'),
    others: findStrayPairs(checked, found).map(({ node, readers }) => ({ node: node.name, readers })),
    defects,
  };
}

async function readZeros({ model: { graph }, read }: LoadedModel): Promise<Map<string, boolean>> {
  const zero = new Map<string, boolean>();
  for (const { opType, inputs } of graph.nodes) {
    if (opType !== 'QuantizeLinear' && opType !== 'DequantizeLinear') continue;
    const zeroPoint = graph.initializers.get(inputs[2] ?? '');
    if (!zeroPoint || zero.has(zeroPoint.name)) continue;
    zero.set(
      zeroPoint.name,
      (await read(zeroPoint)).every((byte) => byte === 0),
    );
  }
  return zero;
}
