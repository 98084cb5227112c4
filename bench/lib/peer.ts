import { spawnSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { findLinears } from '../../src/analyze/linears.js';
import { syntheticInputs } from '../../src/calibrate/inputs.js';
import { randn } from '../../src/numerics/rng.js';
import { loadGraph } from '../../src/onnx/load.js';
import { transformerFeeds } from '../../src/pipeline/denoise.js';
import { latentElements, type VideoSize } from '../../src/pipeline/geometry.js';
import { PipelineFolder } from '../../src/pipeline/layout.js';
import { describePipeline } from '../../src/pipeline/open.js';
import { decide, type Scheme } from '../../src/quantize/scheme.js';
import type { HostTensor } from '../../src/runtime/tensor.js';
import { type SafeTensor, writeSafetensors } from '../../src/util/safetensors.js';
import { ROOT } from './paths.js';

const python = process.env.PYTHON ?? 'python3';
const MODULES = 'onnx, onnxruntime, safetensors';

/** Whether onnxruntime's quantizer is there; says on stderr if not. */
export function hasPeer(): boolean {
  const found = spawnSync(python, ['-c', `import ${MODULES}`], { stdio: 'ignore' }).status === 0;
  if (!found) console.error(`skipped the peer: ${python} lacks one of ${MODULES}`);
  return found;
}

/** The inputs of one forward of a pipeline's transformer over random latents and embeddings. */
export async function oneForward(pipeline: string, size: VideoSize): Promise<Record<string, HostTensor>> {
  const face = await describePipeline(await PipelineFolder.open(pipeline), size);
  return transformerFeeds(face, {
    shape: face.latents,
    latents: randn(1, latentElements(face.latents)),
    timestep: 500,
    text: await syntheticInputs(1, 0, face.signature).cond(0),
  });
}

/** Node names of the linears that a scheme quantizes. */
export async function nodesOf(model: string, scheme: Scheme): Promise<string[]> {
  return findLinears((await loadGraph(model)).graph)
    .filter((linear) => decide(scheme, linear, true).quantize)
    .map(({ node }) => node.name);
}

/**
 * The command that lets onnxruntime's quantizer do the same linears, calibrated on one forward.
 * @param work folder for its inputs and its output, `<name>.onnx`
 */
export async function peerCommand(
  model: string,
  feeds: Readonly<Record<string, HostTensor>>,
  nodes: readonly string[],
  work: string,
  name: string,
): Promise<{ command: string; args: string[]; output: string }> {
  const feedsFile = path.join(work, `${name}-feeds.safetensors`);
  const nodesFile = path.join(work, `${name}-nodes.json`);
  const output = path.join(work, `${name}.onnx`);
  const tensors = new Map(Object.entries(feeds).map(([input, tensor]) => [input, safeTensor(tensor)]));
  await writeSafetensors(feedsFile, { metadata: {}, tensors });
  await writeFile(nodesFile, JSON.stringify(nodes));
  const script = path.join(ROOT, 'bench', 'peer_quantize.py');
  return { command: python, args: [script, model, feedsFile, nodesFile, output], output };
}

function safeTensor({ dtype, dims, data }: HostTensor): SafeTensor {
  const type = ({ float32: 'F32', int64: 'I64' } as const)[dtype as 'float32' | 'int64'];
  return { dtype: type, shape: dims, data: data as Float32Array | BigInt64Array };
}
