import { ExitCode } from '../../errors.js';
import { judge } from '../../gate/judge.js';
import { DEFAULT_RULES, readRules } from '../../gate/rules.js';
import { readResults } from '../../report/results.js';
import type { CommandModule } from '../command.js';
import { verdictText } from '../ui/verdict.js';

export const gateCommand: CommandModule = {
  define: (command) =>
    command
      .name('gate')
      .description('judge saved results again, without running a model')
      .argument('<results>', 'results.json of a report')
      .option('--rules <file>', 'rules file (default: PSNR drop <= 3 dB, FVD growth < 15 %)'),
  async run(context, { positional, flags }) {
    const [file] = positional as [string];
    const { rules: rulesFile } = flags as { rules?: string };
    const rules = rulesFile === undefined ? DEFAULT_RULES : await readRules(rulesFile);
    const verdict = judge((await readResults(file)).metrics, rules);
    context.print(context.json ? JSON.stringify(verdict, null, 2) : verdictText(verdict));
    return verdict.passed ? undefined : ExitCode.gateFailed;
  },
};
