import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import type { Graph } from '../../src/ir/graph.js';
import { transformerSignature } from '../../src/pipeline/signature.js';
import { fromFloat32, type HostTensor } from '../../src/runtime/tensor.js';
import { readSafetensors, type SafeTensor } from '../../src/util/safetensors.js';
import { ROOT } from './fixtures.js';

export const VARIANTS = path.join(ROOT, 'fixtures', 'variants');

/** What `python/make_variants.py` says of a variant. */
export interface Variant {
  readonly name: string;
  readonly what: string;
  readonly producer: string;
  readonly opset: number;
  readonly irVersion: number;
  /** Prefix of its cases in `reference.safetensors`. */
  readonly reference: string;
  readonly cases: readonly string[];
  /** How far onnxruntime's output is from torch's at most, relative. */
  readonly tolerance: number;
}

export async function readVariants(): Promise<Variant[]> {
  return JSON.parse(await readFile(path.join(VARIANTS, 'index.json'), 'utf8')) as Variant[];
}

/** Makes a pipeline folder of a variant: a transformer and its configuration. */
export async function unpackVariant(name: string, pipeline: string): Promise<void> {
  const target = path.join(pipeline, 'transformer');
  await mkdir(target, { recursive: true });
  const source = path.join(VARIANTS, name);
  for (const file of await readdir(source)) {
    const bytes = await readFile(path.join(source, file));
    const packed = file.endsWith('.gz');
    await writeFile(path.join(target, packed ? file.slice(0, -3) : file), packed ? gunzipSync(bytes) : bytes);
  }
  await cp(path.join(VARIANTS, 'checkpoint', 'config.json'), path.join(target, 'config.json'));
}

export interface Case {
  readonly name: string;
  readonly inputs: Readonly<Record<'latents' | 'timestep' | 'text', SafeTensor>>;
  /** torch's output. */
  readonly output: Float32Array;
}

const INPUTS = { latents: 'hidden_states', timestep: 'timestep', text: 'encoder_hidden_states' } as const;

export async function readCases({ reference, cases }: Variant): Promise<Case[]> {
  const { tensors } = await readSafetensors(path.join(VARIANTS, 'reference.safetensors'));
  return cases.map((name) => {
    const of = (part: string): SafeTensor => tensors.get(path.posix.join(reference, name, part)) as SafeTensor;
    const inputs = { latents: of(INPUTS.latents), timestep: of(INPUTS.timestep), text: of(INPUTS.text) };
    return { name, inputs, output: of('output').data as Float32Array };
  });
}

/** The inputs of a case, under the names and in the types that a graph declares. */
export function feedsOf(graph: Graph, { inputs }: Case): { feeds: Record<string, HostTensor>; output: string } {
  const signature = transformerSignature(graph, 'the variant');
  const feeds = Object.fromEntries(
    (['latents', 'timestep', 'text'] as const).map((part) => {
      const { data, shape } = inputs[part];
      const { name, dtype } = signature[part];
      return [name, fromFloat32(data as Float32Array, [...shape], dtype)];
    }),
  );
  return { feeds, output: signature.output };
}
