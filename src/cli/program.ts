import { Command } from 'commander';
import { printableLines } from '../errors.js';
import { runtimeEnvironment } from '../runtime/environment.js';
import { VERSION } from '../version.js';
import type { CommandModule } from './command.js';
import { calibrateCommand } from './commands/calibrate.js';
import { checkCommand } from './commands/check.js';
import { compareCommand } from './commands/compare.js';
import { doctorCommand } from './commands/doctor.js';
import { evalCommand } from './commands/eval.js';
import { gateCommand } from './commands/gate.js';
import { generateCommand } from './commands/generate.js';
import { importCommand } from './commands/import.js';
import { inspectCommand } from './commands/inspect.js';
import { mergeCommand } from './commands/merge.js';
import { quantizeCommand } from './commands/quantize.js';
import { searchCommand } from './commands/search.js';
import { sensitivityCommand } from './commands/sensitivity.js';
import { applyConfig } from './config.js';
import { createContext, type Io } from './context.js';

const COMMANDS: readonly CommandModule[] = [
  importCommand,
  inspectCommand,
  calibrateCommand,
  mergeCommand,
  sensitivityCommand,
  searchCommand,
  quantizeCommand,
  checkCommand,
  evalCommand,
  gateCommand,
  compareCommand,
  generateCommand,
  doctorCommand,
];

interface GlobalFlags {
  readonly quiet?: boolean;
  readonly verbose?: boolean;
  readonly json?: boolean;
}

export function makeProgram(io: Io, signal: AbortSignal, outcome: { code: number }): Command {
  const program = new Command('wanq')
    .description(
      'INT8 quantization of the Wan2.2 text-to-video ONNX pipeline, with the quality loss measured and gated',
    )
    .version(VERSION)
    .option('-q, --quiet', 'no progress and no hints on stderr')
    .option('-v, --verbose', 'what each step did, on stderr')
    .option('--json', 'results as JSON on stdout, nothing else')
    .showSuggestionAfterError()
    .exitOverride()
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(printableLines(text)),
      outputError: (text, write) =>
        write(
          `wanq: ${text
            .replace(/^error: /, '')
            .trim()
            .replace(/\s*\n\s*/g, ' ')} [USAGE]\n`,
        ),
    })
    .addHelpText(
      'after',
      '\nExit codes: 0 ok, 1 gate or check failed, 2 usage, 3 model, 4 runtime, 5 files or resources, 130 interrupted.',
    );
  program.hook('preSubcommand', (_, command) => applyConfig(command, io.cwd()));
  for (const { define, load } of COMMANDS) {
    const command = define(program.createCommand()).copyInheritedSettings(program);
    command.action(async () => {
      const { quiet = false, verbose = false, json = false } = program.opts<GlobalFlags>();
      const context = createContext(io, signal, { quiet, verbose, json });
      // Now, and not after the hours that come before the first model is run.
      runtimeEnvironment(io.env);
      const { run } = await load();
      const flags = command.opts();
      const given = new Set(Object.keys(flags).filter((name) => command.getOptionValueSource(name) !== 'default'));
      outcome.code = (await run(context, { positional: command.args, flags, given })) ?? 0;
    });
    program.addCommand(command);
  }
  return program;
}
