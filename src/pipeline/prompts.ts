import { printable, WanqError } from '../errors.js';
import { MAX_PROMPT_FILE_BYTES, MAX_PROMPT_LENGTH, MAX_PROMPTS } from '../limits.js';
import { readText } from '../util/files.js';

/**
 * Prompts of a text file: one a line; empty lines and lines that start with # are skipped.
 * @throws WanqError PROMPTS_EMPTY, NOT_FOUND, NOT_READABLE (not UTF-8 too), USAGE (too many, or one too long)
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
  const long = prompts.findIndex((prompt) => prompt.length > MAX_PROMPT_LENGTH);
  if (long >= 0) {
    throw new WanqError('USAGE', `${printable(file)}: prompt ${long + 1} has more than ${MAX_PROMPT_LENGTH} letters`, {
      hint: 'text encoders cut prompts after some 2,500',
    });
  }
  return prompts;
}
