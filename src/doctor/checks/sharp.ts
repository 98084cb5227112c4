import type { Check } from '../finding.js';
import { PACKAGE_ROOT } from '../package.js';
import { runProgram } from '../run.js';

/** Encodes an image, in the formats that reports and clips have. */
const PROGRAM = `import sharp from 'sharp';
const pixel = { create: { width: 2, height: 2, channels: 3, background: 'red' } };
await sharp(pixel).webp().toBuffer();
await sharp(pixel).png().toBuffer();
process.stdout.write('sharp ' + sharp.versions.sharp + ', libvips ' + sharp.versions.vips);`;

/** In a process of its own: a library that does not fit this CPU ends the process that loads it. */
export const sharpCheck: Check = {
  name: 'images',
  look: async ({ signal }) => {
    const args = ['--input-type=module', '--eval', PROGRAM];
    const { stdout, stderr, failure } = await runProgram(process.execPath, args, { signal, cwd: PACKAGE_ROOT });
    if (failure === undefined) return [{ status: 'ok', seen: stdout }];
    const reason = stderr.match(/^(?:\w*Error.*?: )(.*)$/m)?.[1] ?? failure;
    return [
      {
        status: 'problem',
        seen: `sharp does not load: ${reason}`,
        mend: 'install again on this machine, without --omit=optional: eval, compare and generate need it',
      },
    ];
  },
};
