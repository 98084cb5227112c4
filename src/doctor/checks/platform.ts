import { release } from 'node:os';
import { libc } from '../../runtime/libc.js';
import type { Check, Seen } from '../finding.js';

/** What onnxruntime-node has libraries for. */
const SUPPORTED: ReadonlySet<string> = new Set([
  'linux x64',
  'linux arm64',
  'win32 x64',
  'win32 arm64',
  'darwin arm64',
]);

/** @param library the C library of a Linux */
export function judgePlatform(platform: string, arch: string, library: string | undefined): Seen {
  const seen = [`${platform} ${arch}`, library].filter(Boolean).join(', ');
  if (!SUPPORTED.has(`${platform} ${arch}`)) {
    const mend = `use one of ${[...SUPPORTED].join(', ')}: onnxruntime-node has no libraries for others`;
    return { status: 'problem', seen, mend };
  }
  if (platform === 'linux' && !/^glibc \d/.test(library ?? '')) {
    return { status: 'problem', seen, mend: 'use a Linux with glibc, such as the image node:22-slim, not Alpine' };
  }
  return { status: 'ok', seen };
}

export const platformCheck: Check = {
  name: 'platform',
  look: async () => {
    const { seen, ...rest } = judgePlatform(process.platform, process.arch, libc());
    return [{ seen: `${seen}, ${release()}`, ...rest }];
  },
};
