import path from 'node:path';
import type { Command, Option } from 'commander';
import { printable, WanqError } from '../errors.js';
import { exists } from '../util/files.js';

export const CONFIG_FILE = 'wanq.config.json';

/**
 * Fills options of a command from `wanq.config.json` in the working folder: `{ "calibrate": { "steps": 20 } }`, keys as the flags are
 * spelled. Call it before the command line is parsed: flags and environment variables go before it, defaults after it.
 *
 * @throws WanqError CONFIG_INVALID naming an unknown key or a value that the flag would refuse
 */
export async function applyConfig(command: Command, cwd: string): Promise<void> {
  const file = path.join(cwd, CONFIG_FILE);
  if (!(await exists(file))) return;
  // Few have the file: only they wait for the library that checks it.
  const { readConfig } = await import('./config-file.js');
  const config = await readConfig(file);
  const commands = command.parent?.commands.map((sibling) => sibling.name()) ?? [];
  for (const name of Object.keys(config)) {
    if (!commands.includes(name)) refuse(`there is no command ${name}`, `they are ${commands.join(', ')}`);
  }
  for (const [key, raw] of Object.entries(config[command.name()] ?? {})) {
    const option = command.options.find(({ long }) => long === `--${key}`);
    if (!option) {
      return refuse(`${command.name()} has no option ${key}`, `\`wanq ${command.name()} --help\` lists them`);
    }
    const usual = option.defaultValue;
    try {
      const parsed = parseValue(option, raw);
      // Values of a variadic option are added to what is there, except to its default.
      if (option.variadic) option.default(parsed);
      command.setOptionValueWithSource(option.attributeName(), parsed, 'config');
      yields(command, option, usual);
    } catch (cause) {
      refuse(`${command.name()}.${key}: ${(cause as Error).message}`, 'write it as the flag takes it');
    }
  }
}

/** Has an option of the file give way to one of the command line that it conflicts with. */
function yields(command: Command, option: Option, usual: unknown): void {
  const name = option.attributeName();
  for (const other of command.options) {
    if (!conflictsOf(option).includes(other.attributeName()) && !conflictsOf(other).includes(name)) continue;
    command.on(`option:${other.name()}`, () => {
      if (command.getOptionValueSource(name) === 'config') command.setOptionValueWithSource(name, usual, 'default');
    });
  }
}

/** Names of the options that an option excludes, which commander's types leave out. */
function conflictsOf(option: Option): readonly string[] {
  return (option as Option & { readonly conflictsWith: readonly string[] }).conflictsWith;
}

function refuse(what: string, hint: string): never {
  throw new WanqError('CONFIG_INVALID', `${CONFIG_FILE}: ${printable(what)}`, { hint });
}

/** @throws Error where the flag would not take the value */
function parseValue(option: Option, raw: unknown): unknown {
  if (option.variadic) return (Array.isArray(raw) ? raw : [raw]).map(String);
  if (option.isBoolean()) {
    if (typeof raw !== 'boolean') throw new Error('true or false');
    return raw;
  }
  if (option.parseArg)
    return option.parseArg(Array.isArray(raw) && raw.length > 1 ? raw.join(',') : textOf(raw), undefined);
  return textOf(raw);
}

function textOf(raw: unknown): string {
  if (typeof raw !== 'string' && typeof raw !== 'number') throw new Error('one value');
  return String(raw);
}
