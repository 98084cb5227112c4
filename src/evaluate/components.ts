import { WanqError } from '../errors.js';
import { cosine, type Difference, difference, mean, median, sqnr } from '../numerics/stats.js';
import { fingerprint, loadModel } from '../onnx/load.js';
import { COMPONENTS, type Component, type PipelineFolder } from '../pipeline/layout.js';
import type { Metric, Results } from '../report/results.js';
import { treeSize } from '../util/files.js';
import type { StepError } from './runs.js';
import type { StoredEmbeddings } from './stored-embeddings.js';

type Section = NonNullable<Results['components']>;

/** A component beside the transformer that is another model in the quantized pipeline. */
export type ChangedComponent = Section['changed'][number];

/** Components beside the transformer whose fingerprints differ. One that the quantized pipeline lacks is the reference's. */
export async function changedComponents(
  reference: PipelineFolder,
  quantized: PipelineFolder,
): Promise<ChangedComponent[]> {
  const changed: ChangedComponent[] = [];
  for (const component of COMPONENTS) {
    if (component === 'transformer' || !(await reference.has(component)) || !(await quantized.has(component))) continue;
    const [before, after] = await Promise.all([reference, quantized].map((folder) => describe(folder, component)));
    if (!before || !after || before.fingerprint === after.fingerprint) continue;
    changed.push({ component, reference: before, quantized: after });
  }
  return changed;
}

export function isChanged(changed: readonly ChangedComponent[], name: Component): boolean {
  return changed.some(({ component }) => component === name);
}

async function describe(folder: PipelineFolder, component: Component): Promise<ChangedComponent['reference']> {
  const loaded = await loadModel(folder.modelPath(component));
  try {
    return { fingerprint: await fingerprint(loaded), bytes: await treeSize(folder.path(component)) };
  } finally {
    await loaded.close();
  }
}

/** How far each component drifts alone, and what all do together, as it was measured. */
export interface ComponentDrift {
  readonly changed: readonly ChangedComponent[];
  readonly embeddings: Section['embeddings'];
  /** Of the reference transformer, fed the quantized encoder's embeddings; undefined where the encoder is the same. */
  readonly encoderErrors: readonly StepError[] | undefined;
  /** Of the quantized transformer, fed the quantized encoder's embeddings. */
  readonly pipelineErrors: readonly StepError[];
  readonly videos: Section['videos'];
  /** Latents of either VAE encoder; undefined where it is the same. */
  readonly latents: readonly Difference[] | undefined;
}

/**
 * Errors of the quantized encoder's embeddings of each prompt; padding is zero in both.
 * @throws WanqError PIPELINE_INVALID where they are of another size
 */
export async function embeddingErrors(
  prompts: readonly string[],
  reference: Pick<StoredEmbeddings, 'get'>,
  quantized: Pick<StoredEmbeddings, 'get'>,
): Promise<Section['embeddings']> {
  const errors: Section['embeddings'] = [];
  for (const prompt of new Set(prompts)) {
    const [a, b] = [await reference.get(prompt), await quantized.get(prompt)];
    if (a.length !== b.length || a.features !== b.features) {
      const sizes = [a, b].map(({ length, features }) => `${length} x ${features}`);
      throw new WanqError('PIPELINE_INVALID', `the text encoders make embeddings of ${sizes.join(' and ')}`, {
        hint: 'compare a pipeline with the one it was quantized from',
      });
    }
    const error = difference(a.data, b.data);
    errors.push({ prompt, sqnr: sqnr(error), cosine: cosine(error) });
  }
  return errors;
}

/** What results keep of a drift beside its metrics. */
export function driftSection({ changed, embeddings, videos }: ComponentDrift): Section {
  return { changed: [...changed], embeddings, videos };
}

/** Metrics of the components that changed, and of all together; none of those that are the same. */
export function driftMetrics(drift: ComponentDrift): Record<string, Metric> {
  const { embeddings, encoderErrors, pipelineErrors, videos, latents } = drift;
  const decoded = videos.flatMap(({ vaePsnr }) => vaePsnr ?? []);
  const together = videos.flatMap(({ pipelinePsnr }) => pipelinePsnr ?? []);
  const ofSteps = (name: string, errors: readonly StepError[]): Record<string, Metric> => {
    const ratios = errors.flatMap((row) => row.errors.map(sqnr));
    return { [name]: metric(ratios, 'dB'), [`${name}_min`]: metric(ratios, 'dB', least) };
  };
  const ratios = embeddings.flatMap((row) => row.sqnr ?? []);
  return {
    ...(encoderErrors
      ? {
          embedding_sqnr: metric(ratios, 'dB'),
          embedding_sqnr_min: metric(ratios, 'dB', least),
          embedding_cosine_min: metric(
            embeddings.flatMap((row) => row.cosine ?? []),
            '',
            least,
          ),
          ...ofSteps('text_encoder_sqnr', encoderErrors),
        }
      : {}),
    ...(decoded.length > 0
      ? { vae_decoder_psnr: metric(decoded, 'dB'), vae_decoder_psnr_min: metric(decoded, 'dB', least) }
      : {}),
    ...(latents ? { vae_encoder_sqnr: metric(latents.map(sqnr), 'dB') } : {}),
    ...ofSteps('pipeline_sqnr', pipelineErrors),
    pipeline_psnr: metric(together, 'dB'),
    pipeline_psnr_median: metric(together, 'dB', median),
    pipeline_ssim: metric(
      videos.flatMap(({ pipelineSsim }) => pipelineSsim ?? []),
      '',
    ),
  };
}

function least(values: readonly number[]): number {
  return Math.min(...values);
}

function metric(values: readonly number[], unit: string, of = mean): Metric {
  return { value: values.length > 0 ? of(values) : null, unit, better: 'higher', n: values.length };
}
