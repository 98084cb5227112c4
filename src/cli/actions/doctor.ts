import { examine } from '../../doctor/doctor.js';
import { ExitCode } from '../../errors.js';
import { VERSION } from '../../version.js';
import type { Action } from '../command.js';
import { renderTable } from '../ui/table.js';

export const run: Action = async (context) => {
  const { io, signal } = context;
  const { ok, findings } = await examine({ env: io.env, cwd: io.cwd(), signal });
  if (context.json) {
    context.print(JSON.stringify({ version: VERSION, ok, findings }, null, 2));
  } else {
    context.print(
      renderTable(
        ['', 'check', 'seen'],
        findings.map(({ check, status, seen }) => [status === 'problem' ? 'PROBLEM' : status, check, seen]),
      ),
    );
    for (const { check, mend } of findings) if (mend !== undefined) context.print(`${check}: ${mend}`);
    const problems = findings.filter(({ status }) => status === 'problem').length;
    context.print(ok ? `wanq ${VERSION} runs here` : `wanq ${VERSION}: ${problems} problems`);
  }
  return ok ? undefined : ExitCode.runtime;
};
