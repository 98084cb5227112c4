import path from 'node:path';
import type { Command } from 'commander';
import { z } from 'zod';
import { WanqError } from '../errors.js';
import { exists } from '../util/files.js';
import { readJson } from '../util/json.js';

export const CONFIG_FILE = 'wanq.config.json';

const value = z.union([z.string(), z.number(), z.boolean(), z.array(z.union([z.string(), z.number()]))]);
const configFile = z.record(z.string(), z.record(z.string(), value));

/**
 * Fills options of a command from `wanq.config.json` in the working folder: `{ "calibrate": { "steps": 20 } }`, keys as the flags are
 * spelled. Flags and environment variables go before it, defaults after it.
 *
 * @throws WanqError CONFIG_INVALID naming an unknown key or a value that the flag would refuse
 */
export async function applyConfig(command: Command, cwd: string): Promise<void> {
  const file = path.join(cwd, CONFIG_FILE);
  if (!(await exists(file))) return;
  const settings = (await readJson(file, configFile, 'CONFIG_INVALID'))[command.name()] ?? {};
  for (const [key, raw] of Object.entries(settings)) {
    const option = command.options.find(({ long }) => long === `--${key}`);
    if (!option) {
      throw new WanqError('CONFIG_INVALID', `${CONFIG_FILE}: ${command.name()} has no option ${key}`, {
        hint: `\`wanq ${command.name()} --help\` lists them`,
      });
    }
    const name = option.attributeName();
    const source = command.getOptionValueSource(name);
    if (source !== undefined && source !== 'default') continue;
    try {
      const parsed = option.parseArg && !Array.isArray(raw) ? option.parseArg(String(raw), undefined) : raw;
      if (option.argChoices && !option.argChoices.includes(String(raw))) throw new Error(`one of ${option.argChoices}`);
      command.setOptionValueWithSource(name, parsed, 'config');
    } catch (cause) {
      throw new WanqError('CONFIG_INVALID', `${CONFIG_FILE}: ${command.name()}.${key}: ${(cause as Error).message}`, {
        cause,
      });
    }
  }
}
