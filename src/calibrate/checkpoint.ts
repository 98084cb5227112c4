import { printable, WanqError } from '../errors.js';
import { exists } from '../util/files.js';
import { partialPath } from '../util/resumable.js';
import { type Calibration, type CalibrationIdentity, identityDifferences, readCalibration } from './file.js';
import type { Shard } from './shard.js';

/** Where the state of an unfinished run lies. */
export const checkpointPath = partialPath;

/**
 * The checkpoint of the same run, if one is there.
 * @throws WanqError CALIBRATION_MISMATCH where it is another run's; CALIBRATION_INVALID
 */
export async function readCheckpoint(
  checkpoint: string,
  identity: CalibrationIdentity,
  shard: Shard | null,
): Promise<Calibration | undefined> {
  if (!(await exists(checkpoint))) return undefined;
  const hint = 'remove it to start afresh';
  const found = await readCalibration(checkpoint).catch((error: WanqError) => {
    throw new WanqError(error.code ?? 'CALIBRATION_INVALID', error.message, { cause: error, hint });
  });
  const differs: string[] = identityDifferences(found.identity, identity);
  if (JSON.stringify(found.shard) !== JSON.stringify(shard)) differs.push('shard');
  if (differs.length === 0) return found;
  throw new WanqError(
    'CALIBRATION_MISMATCH',
    `${printable(checkpoint)} is the checkpoint of another run (it differs in ${differs.join(', ')})`,
    { hint: 'repeat that run to finish it, remove the file, or name another output' },
  );
}
