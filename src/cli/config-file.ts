import { z } from 'zod';
import { readJson } from '../util/json.js';

const value = z.union([z.string(), z.number(), z.boolean(), z.array(z.union([z.string(), z.number()]))]);
const schema = z.record(z.string(), z.record(z.string(), value));

/** Options by command and flag. */
export type Config = z.infer<typeof schema>;

/** @throws WanqError CONFIG_INVALID; NOT_READABLE */
export function readConfig(file: string): Promise<Config> {
  return readJson(file, schema, 'CONFIG_INVALID');
}
