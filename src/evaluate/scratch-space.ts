import { branchesAt } from '../pipeline/denoise.js';
import { latentElements } from '../pipeline/geometry.js';
import { assertSpace, treeSize } from '../util/files.js';
import type { Workbench } from './workbench.js';

/** Bytes of a value in the scratch folder. */
const FLOAT_BYTES = 4;

/**
 * Finds out before hours of work whether what an evaluation keeps meanwhile has room: latents of every take of both models, records of the inspected
 * ones, re-noised clips, and the rounded weights of the noise floor.
 * @throws WanqError NO_SPACE
 */
export async function assertScratchSpace({ options, shape, takes, inspected, reference, scratch }: Workbench) {
  const { steps, guidance, sigmas, noiseFloor } = options;
  const records = inspected.length * steps * (1 + branchesAt(guidance).length);
  const latents = records + 2 * takes.length + 2 * inspected.length * (1 + sigmas.length);
  const rounded = noiseFloor === 'fp16-weights' ? await treeSize(reference.path('transformer')) : 0;
  const needed = FLOAT_BYTES * latents * latentElements(shape.latents) + rounded;
  await assertSpace(scratch.folder, needed, 'the evaluation', 'look at fewer videos with --inspected');
}
