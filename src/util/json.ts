import type { z } from 'zod';
import { type ErrorCode, printable, WanqError } from '../errors.js';
import { MAX_JSON_BYTES } from '../limits.js';
import { readText } from './files.js';

/**
 * Reads a JSON file and checks it against a schema.
 * @throws WanqError `code`, naming the first thing that is wrong; NOT_FOUND, NOT_READABLE
 */
export async function readJson<T>(file: string, schema: z.ZodType<T>, code: ErrorCode): Promise<T> {
  const text = await readText(file, MAX_JSON_BYTES);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new WanqError(code, `${printable(file)} is not JSON: ${printable((cause as Error).message, 120)}`, { cause });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const where = issue?.path.join('.') || 'the top level';
  throw new WanqError(code, `${printable(file)}: ${where}: ${printable(issue?.message ?? 'invalid', 160)}`);
}
