import { stat } from 'node:fs/promises';
import path from 'node:path';
import type { Role } from '../analyze/roles.js';
import { fromSystemError, printable, WanqError } from '../errors.js';
import { aligned } from '../ir/tensor.js';
import { bfloat16ToFloat32, halfToFloat32 } from '../numerics/half.js';
import { type LoadedModel, loadModel } from '../onnx/load.js';
import type { Target } from '../quantize/target.js';
import { CheckedGraph, findQuantizedProducts, findStrayPairs, type QuantizationNumbers } from './products.js';
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
  const checked = new CheckedGraph(model.graph, model.opset, await readNumbers(loaded));
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
  };
}

async function readNumbers({ model: { graph }, read }: LoadedModel): Promise<QuantizationNumbers> {
  const zero = new Map<string, boolean>();
  const broken = new Set<string>();
  for (const { opType, inputs } of graph.nodes) {
    if (opType !== 'QuantizeLinear' && opType !== 'DequantizeLinear') continue;
    const [, scale, zeroPoint] = inputs.map((name) => graph.initializers.get(name));
    if (zeroPoint && !zero.has(zeroPoint.name)) {
      zero.set(
        zeroPoint.name,
        (await read(zeroPoint)).every((byte) => byte === 0),
      );
    }
    if (!scale || broken.has(scale.name)) continue;
    const { buffer, byteOffset, byteLength } = aligned(await read(scale), 4);
    const words = (): Uint16Array => new Uint16Array(buffer, byteOffset, byteLength / 2);
    const values =
      scale.dtype === 'float16'
        ? halfToFloat32(words())
        : scale.dtype === 'bfloat16'
          ? bfloat16ToFloat32(words())
          : new Float32Array(buffer, byteOffset, byteLength / 4);
    if (!values.every((value) => value > 0 && value < Number.POSITIVE_INFINITY)) broken.add(scale.name);
  }
  return { zero, broken };
}
