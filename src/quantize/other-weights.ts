import { distance } from 'fastest-levenshtein';
import { findProducts } from '../analyze/leftovers.js';
import type { Linear } from '../analyze/linears.js';
import { printable, WanqError } from '../errors.js';
import { STORED_FLOATS } from '../ir/dtype.js';
import type { Graph } from '../ir/graph.js';
import { sameDims, Tensor } from '../ir/tensor.js';
import type { LoadedModel } from '../onnx/load.js';
import type { ReplacedWeight } from '../passes/replace-weights.js';
import { SafetensorsFile } from '../util/safetensors.js';
import { planKeys } from './plan-file.js';

/** Version of the file's layout. Another one is refused, never guessed at. */
export const WEIGHTS_SCHEMA = 1;

const PARTS = ['weight', 'bias', 'smoothing'] as const;
type Part = (typeof PARTS)[number];

/** Weights that were trained for a plan, as `python/qat.py` writes them. */
export interface OtherWeights {
  readonly replaced: readonly ReplacedWeight[];
  /** Output of a linear to what its input is divided by, `[in]`: the smoothing that the weights were trained with. */
  readonly smoothing: ReadonlyMap<string, Float32Array>;
}

/**
 * Reads which weights a `.safetensors` file has for a model; the weights themselves are read when the model is written. Tensors, by the plan's names of
 * linears: `KEY.weight` `[out, in]`, `KEY.bias` `[out]`, `KEY.smoothing` F32 `[in]`.
 *
 * @param source fingerprint of the model
 * @throws WanqError WEIGHTS_INVALID where the file is of another schema or model, or has what the model has not; SAFETENSORS_INVALID, NOT_FOUND
 */
export async function openWeights(
  file: string,
  loaded: LoadedModel,
  graph: Graph,
  source: string,
): Promise<OtherWeights> {
  const opened = await SafetensorsFile.open(file);
  try {
    const fail = (why: string, hint = 'make it again with python/qat.py'): never => {
      throw new WanqError('WEIGHTS_INVALID', `${printable(file)} ${why}`, { hint });
    };
    const { entries, metadata } = opened;
    const schema = metadata['wanq.weights.schema'];
    if (schema !== String(WEIGHTS_SCHEMA)) {
      const what = schema === undefined ? 'is no file of trained weights' : `has schema ${printable(schema, 20)}`;
      fail(`${what}; this wanq reads weights of schema ${WEIGHTS_SCHEMA}`);
    }
    if (source !== '' && metadata['wanq.source'] !== source) fail(`was made for another model than ${loaded.path}`);
    const { linears } = findProducts(graph);
    const keys = planKeys(linears);
    const known = new Map(keys.map((key, i) => [key, linears[i] as Linear]));
    const location = await loaded.mount(file);
    const smoothing = new Map<string, Float32Array>();
    const found = new Map<Linear, Partial<Record<Part, Tensor>>>();
    for (const [name, { dtype, shape, begin, end }] of entries) {
      const [, key = '', part] = name.match(/^(.+)\.([a-z]+)$/) ?? [];
      const linear = known.get(key);
      if (!linear || !PARTS.includes(part as Part)) {
        const nearest = keys.toSorted((a, b) => distance(a, key) - distance(b, key))[0];
        return fail(`has "${printable(name)}", which is no linear's`, `the nearest linear is ${nearest}`);
      }
      const type = STORED_FLOATS[dtype];
      const { inFeatures, outFeatures, weight } = linear;
      const dims = { weight: [outFeatures, inFeatures], bias: [outFeatures], smoothing: [inFeatures] }[part as Part];
      const kernel = part === 'weight' && linear.kind === 'Conv' && sameDims(shape, weight.dims);
      if (type === undefined || !(kernel || sameDims(shape, dims))) {
        return fail(`has ${printable(name)} as ${dtype} [${shape.join(', ')}], wanted floats [${dims.join(', ')}]`);
      }
      if (part === 'smoothing') {
        const { data } = await opened.read(name);
        if (!(data instanceof Float32Array) || !data.every((value) => value > 0))
          return fail(`has ${printable(name)} that is not positive numbers in FP32`);
        smoothing.set(linear.output, data);
        continue;
      }
      const tensor = new Tensor('', type, dims, { kind: 'external', location, offset: begin, length: end - begin });
      found.set(linear, { ...found.get(linear), [part as Part]: tensor });
    }
    const replaced = [...found].map(([linear, { weight, bias }]): ReplacedWeight => {
      return weight ? { linear, weight, bias } : fail(`has a bias for ${printable(linear.role)} and no weight`);
    });
    return { replaced, smoothing };
  } finally {
    await opened.close();
  }
}
