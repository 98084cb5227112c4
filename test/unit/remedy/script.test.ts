import { describe, expect, it } from 'vitest';
import { WanqError } from '../../../src/errors.js';
import { runScript } from '../../../src/remedy/script.js';
import { expectRejection } from '../helpers/errors.js';

/** Arguments that have Node stand for an interpreter. */
const script = (code: string): string[] => ['-e', code];

describe('runScript', () => {
  it('ends with the script, and passes on what it says', async () => {
    const lines: string[] = [];
    const code = 'console.error("step 1\\n\\nstep 2"); console.log("not this")';
    await runScript(process.execPath, script(code), { onLine: (line) => lines.push(line) });
    expect(lines).toEqual(['step 1', 'step 2']);
  });

  it('says the last line of one that fails', async () => {
    const code = 'console.error("Traceback\\nqat: no torch here"); process.exitCode = 4';
    await expect(runScript(process.execPath, script(code), {})).rejects.toMatchObject({
      code: 'RUNTIME_FAILED',
      message: expect.stringMatching(/ended with exit code 4: qat: no torch here$/),
    });
  });

  it('says the signal of one that was killed', () =>
    expect(runScript(process.execPath, script('process.kill(process.pid, "SIGKILL")'), {})).rejects.toMatchObject({
      code: 'RUNTIME_FAILED',
      message: expect.stringContaining('ended by SIGKILL'),
    }));

  it('says how to name an interpreter where there is none', () =>
    expectRejection(runScript('no-such-python', ['qat.py'], {}), 'NOT_FOUND'));

  it('is stopped by its signal', async () => {
    const controller = new AbortController();
    const running = runScript(process.execPath, script('console.error("on"); setInterval(() => {}, 1000)'), {
      signal: controller.signal,
      onLine: () => controller.abort(new WanqError('INTERRUPTED', 'interrupted')),
    });
    await expectRejection(running, 'INTERRUPTED');
  });
});
