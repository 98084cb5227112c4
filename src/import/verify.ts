import { WanqError } from '../errors.js';
import { deriveSeed, randn } from '../numerics/rng.js';
import { checkSaved } from '../onnx/check.js';
import { RuntimeHost } from '../runtime/host.js';
import { LOAD_ONLY, RUN_UP_TO_BYTES } from '../runtime/load-only.js';
import { float32Tensor, type HostTensor, toFloat32 } from '../runtime/tensor.js';
import type { WanConfig } from './config.js';
import type { TimestepInput } from './options.js';

/** How a written model was checked: onnxruntime took it, or ran it on a small random input too. */
export type Checked = 'loaded' | 'ran';

/**
 * Checks a written transformer: every weight lies inside its file, and onnxruntime takes it. A large one is
 * loaded and not run: its weights stay on the disk.
 *
 * @throws WanqError MODEL_INVALID, EXTERNAL_DATA_INVALID, RUNTIME_FAILED; NON_FINITE where a run gives NaN or infinity
 */
export async function verifyImported(
  file: string,
  config: WanConfig,
  timestepInput: TimestepInput,
  weightBytes: number,
  signal: AbortSignal | undefined,
): Promise<Checked> {
  await checkSaved(file);
  const host = new RuntimeHost({ signal });
  try {
    const runs = weightBytes <= RUN_UP_TO_BYTES;
    const session = await host.createSession({ path: file }, runs ? { providers: ['cpu'] } : LOAD_ONLY);
    if (!runs) return 'loaded';
    const { outputs } = await session.run(smallInput(config, timestepInput));
    const [output] = Object.values(outputs);
    if (!output || !toFloat32(output).every(Number.isFinite)) {
      throw new WanqError('NON_FINITE', 'the imported model gives NaN or infinity on a random input', {
        hint: 'the checkpoint is damaged: download it again',
      });
    }
    return 'ran';
  } finally {
    await host.close();
  }
}

/** A random input of 2 x 2 x 2 tokens. */
function smallInput(config: WanConfig, timestepInput: TimestepInput): Record<string, HostTensor> {
  const random = (stream: number, dims: readonly number[]): HostTensor =>
    float32Tensor(
      randn(
        deriveSeed(1, stream),
        dims.reduce((a, b) => a * b, 1),
      ),
      dims,
    );
  const { patch, inChannels, textDim, imageDim, imagePositions } = config;
  const times = timestepInput === 'batch' ? [1] : [1, 8];
  const timestep = new Float32Array(times.at(-1) as number).fill(500);
  return {
    hidden_states: random(0, [1, inChannels, ...patch.map((side) => 2 * side)]),
    timestep: float32Tensor(timestep, times),
    encoder_hidden_states: random(1, [1, 8, textDim]),
    ...(imageDim !== null && { encoder_hidden_states_image: random(2, [1, imagePositions ?? 8, imageDim]) }),
  };
}
