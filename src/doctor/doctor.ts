import { printable, WanqError } from '../errors.js';
import { ffmpegCheck } from './checks/ffmpeg.js';
import { foldersCheck } from './checks/folders.js';
import { homeCheck } from './checks/home.js';
import { kernelsCheck } from './checks/kernels.js';
import { localeCheck } from './checks/locale.js';
import { memoryCheck } from './checks/memory.js';
import { nodeCheck } from './checks/node.js';
import { onnxruntimeCheck } from './checks/onnxruntime.js';
import { openFilesCheck } from './checks/open-files.js';
import { ownFilesCheck } from './checks/own-files.js';
import { platformCheck } from './checks/platform.js';
import { sharpCheck } from './checks/sharp.js';
import type { Check, Finding, Place } from './finding.js';

const CHECKS: readonly Check[] = [
  nodeCheck,
  platformCheck,
  ownFilesCheck,
  onnxruntimeCheck,
  kernelsCheck,
  memoryCheck,
  foldersCheck,
  homeCheck,
  sharpCheck,
  ffmpegCheck,
  localeCheck,
  openFilesCheck,
];

/** What was found out about a machine. */
export interface Diagnosis {
  /** Whether nothing is a problem. */
  readonly ok: boolean;
  readonly findings: readonly Finding[];
}

/**
 * Looks at whether this machine can run wanq.
 * @throws WanqError INTERRUPTED
 */
export async function examine(place: Place, checks: readonly Check[] = CHECKS): Promise<Diagnosis> {
  const findings = (await Promise.all(checks.map((check) => lookSafely(check, place)))).flat();
  place.signal.throwIfAborted();
  return { ok: findings.every(({ status }) => status !== 'problem'), findings };
}

/** A check that fails says that, and the others go on. */
async function lookSafely({ name, look }: Check, place: Place): Promise<Finding[]> {
  try {
    return (await look(place)).map((finding) => ({ check: name, ...finding }));
  } catch (error) {
    place.signal.throwIfAborted();
    const seen = `could not be looked at: ${printable(error instanceof Error ? error.message : String(error), 160)}`;
    const mend = error instanceof WanqError ? error.hint : undefined;
    return [{ check: name, status: 'problem', seen, ...(mend === undefined ? {} : { mend }) }];
  }
}
