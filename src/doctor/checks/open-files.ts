import { processReport } from '../../runtime/libc.js';
import type { Check, Seen } from '../finding.js';

/** A pipeline in shards, its checkpoints and the runtime's processes stay well below. */
const FEW = 256;

/** @param limit soft limit; undefined where it is not known */
export function judgeOpenFiles(limit: string | number | undefined): Seen {
  if (limit === undefined) return { status: 'ok', seen: 'the limit is not known here' };
  if (typeof limit === 'number' && limit < FEW) {
    return { status: 'note', seen: `at most ${limit}`, mend: 'raise the limit: ulimit -n 1024' };
  }
  return { status: 'ok', seen: limit === 'unlimited' ? 'no limit' : `at most ${limit}` };
}

export const openFilesCheck: Check = {
  name: 'open files',
  look: async () => {
    const { userLimits } = processReport() as { userLimits?: { open_files?: { soft?: string | number } } };
    return [judgeOpenFiles(userLimits?.open_files?.soft)];
  },
};
