import { cp, mkdir } from 'node:fs/promises';
import path from 'node:path';
import { asBytes, Tensor } from '../../src/ir/tensor.js';
import { indexGraph } from '../../src/ir/traverse.js';
import { MersenneTwister } from '../../src/numerics/rng.js';
import { loadModel } from '../../src/onnx/load.js';
import { saveModel } from '../../src/onnx/save.js';

/** Ways to spoil one quantized linear (QDQ) of a model that is well otherwise. */
export const DAMAGES = {
  /** All its weights 1.5 times as large. */
  scaled: 'weight scales x 1.5',
  /** Its input in steps 4 times as wide. */
  coarse: 'activation scale x 4',
  /** The scale of one output channel, a strong one, 4 times as large. */
  channel: 'one weight scale x 4',
  /** Its codes in another order. */
  shuffled: 'weights shuffled',
} as const;

export type Damage = keyof typeof DAMAGES;

/** Copies a quantized pipeline with the transformer's linear of one role damaged. */
export async function damagedPipeline(source: string, target: string, role: string, damage: Damage): Promise<string> {
  await mkdir(target, { recursive: true });
  const written = ['model.onnx', 'model.onnx_data'].map((name) => path.join(source, 'transformer', name));
  await cp(source, target, { recursive: true, filter: (from) => !written.includes(from) });
  const loaded = await loadModel(path.join(source, 'transformer', 'model.onnx'));
  try {
    const { graph } = loaded.model;
    const { producers } = indexGraph(graph);
    const product = graph.nodes.find(({ metadata }) => metadata.get('wanq:quantized') === role);
    const [activation, weight] = (product?.inputs ?? []).map((name) => producers.get(name));
    if (!activation || !weight) throw new Error(`${role} is no quantized linear in QDQ form`);
    const place = damage === 'coarse' ? activation.inputs[1] : weight.inputs[damage === 'shuffled' ? 0 : 1];
    const tensor = graph.initializers.get(place as string) as Tensor;
    const bytes = (await loaded.read(tensor)).slice();
    // Others may share it.
    const spoilt = Tensor.fromBytes(`${tensor.name}_damaged`, tensor.dtype, tensor.dims, spoil(damage, tensor, bytes));
    graph.addInitializer(spoilt);
    const nodes = damage === 'coarse' ? [activation, producers.get(activation.inputs[0] as string)] : [weight];
    for (const node of nodes) if (node) node.inputs[damage === 'shuffled' ? 0 : 1] = spoilt.name;
    await saveModel(loaded.model, loaded, path.join(target, 'transformer'));
  } finally {
    await loaded.close();
  }
  return target;
}

function spoil(damage: Damage, { dtype }: Tensor, bytes: Uint8Array): Uint8Array {
  if (damage === 'shuffled') return shuffled(bytes);
  if (dtype !== 'float32') throw new Error(`a scale of ${dtype}`);
  const scales = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  const largest = scales.indexOf(scales.reduce((a, b) => Math.max(a, b)));
  return asBytes(
    scales.map((scale, i) => {
      if (damage === 'scaled') return scale * 1.5;
      return damage === 'coarse' || i === largest ? scale * 4 : scale;
    }),
  );
}

function shuffled(bytes: Uint8Array): Uint8Array {
  const generator = new MersenneTwister(1);
  for (let i = bytes.length - 1; i > 0; i--) {
    const j = Math.floor(generator.uniform() * (i + 1));
    [bytes[i], bytes[j]] = [bytes[j] as number, bytes[i] as number];
  }
  return bytes;
}
