import { printable, WanqError } from '../errors.js';
import { MAX_PROMPT_FILE_BYTES, MAX_PROMPTS } from '../limits.js';
import { readText } from '../util/files.js';

/**
 * Prompts of a text file: one a line; empty lines and lines that start with # are skipped.
 * @throws WanqError PROMPTS_EMPTY, NOT_FOUND, NOT_READABLE, USAGE (too many)
 */
export async function readPrompts(file: string): Promise<string[]> {
  const text = await readText(file, MAX_PROMPT_FILE_BYTES);
  const prompts = text
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
  if (prompts.length === 0) {
    throw new WanqError('PROMPTS_EMPTY', `${printable(file)} holds no prompt`, { hint: 'write one prompt a line' });
  }
  if (prompts.length > MAX_PROMPTS) {
    throw new WanqError('USAGE', `${printable(file)} holds ${prompts.length} prompts, more than ${MAX_PROMPTS}`);
  }
  return prompts;
}
