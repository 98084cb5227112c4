import type { Check } from '../finding.js';
import { runProgram } from '../run.js';

export const ffmpegCheck: Check = {
  name: 'ffmpeg',
  look: async ({ signal }) => {
    const { stdout, failure } = await runProgram('ffmpeg', ['-hide_banner', '-version'], { signal });
    const version = stdout.match(/^ffmpeg version (\S+)/)?.[1];
    if (failure === undefined && version !== undefined) return [{ status: 'ok', seen: `ffmpeg ${version}` }];
    return [
      {
        status: 'note',
        seen: failure === 'ENOENT' || failure === undefined ? 'not on PATH' : `does not run: ${failure}`,
        mend: 'install ffmpeg where --clips are to be read from MP4 and other video files; nothing else needs it',
      },
    ];
  },
};
