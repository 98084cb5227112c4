import type { z } from 'zod';
import { type ErrorCode, printable, WanqError } from '../errors.js';
import { MAX_JSON_BYTES, MAX_JSON_DEPTH, MAX_JSON_VALUES } from '../limits.js';
import { readText } from './files.js';

/**
 * Reads a JSON file and checks it against a schema.
 * @throws WanqError `code`, naming the first thing that is wrong; NOT_FOUND, NOT_READABLE
 */
export async function readJson<T>(file: string, schema: z.ZodType<T>, code: ErrorCode): Promise<T> {
  const text = await readText(file, MAX_JSON_BYTES);
  let value: unknown;
  try {
    value = parseJson(text);
  } catch (cause) {
    throw new WanqError(code, `${printable(file)} is not JSON: ${printable((cause as Error).message, 120)}`, { cause });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const where = printable(issue?.path.join('.') || 'the top level', 120);
  throw new WanqError(code, `${printable(file)}: ${where}: ${printable(issue?.message ?? 'invalid', 160)}`);
}

/**
 * `JSON.parse` for texts of other people: bounded in depth and values before anything is made of them; a key that stands twice in an object, of which
 * readers take one or the other, and `__proto__`, which an assignment takes for something else (CWE-1321), are refused, and so are halves of
 * surrogate pairs, which no file can hold. Keys like `constructor` are plain keys here: nothing is looked up in these objects by a name from a
 * file without `Object.hasOwn`, and none is merged into another.
 *
 * @throws Error saying what is wrong
 */
export function parseJson(text: string): unknown {
  checkShape(text);
  const value: unknown = JSON.parse(text);
  if (/\\u[dD][89a-fA-F]/.test(text)) refuseHalves(value);
  return value;
}

/** Walks the brackets, commas and texts. What is no JSON besides is left to `JSON.parse`. */
function checkShape(text: string): void {
  let values = 1;
  /** Keys of each object around the place, undefined for a list. */
  const around: (Set<string> | undefined)[] = [];
  let keyNext = false;
  for (let i = 0; i < text.length; i++) {
    switch (text.charCodeAt(i)) {
      case 0x22: {
        const end = endOfText(text, i);
        if (keyNext) addKey(around.at(-1) as Set<string>, text.slice(i, end + 1));
        keyNext = false;
        i = end;
        break;
      }
      case 0x7b:
      case 0x5b:
        keyNext = text[i] === '{';
        around.push(keyNext ? new Set() : undefined);
        values++;
        if (around.length > MAX_JSON_DEPTH) throw new Error(`it is nested more than ${MAX_JSON_DEPTH} deep`);
        break;
      case 0x7d:
      case 0x5d:
        around.pop();
        keyNext = false;
        break;
      case 0x2c:
        keyNext = around.at(-1) !== undefined;
        values++;
        break;
    }
    if (values > MAX_JSON_VALUES) throw new Error(`it has more than ${MAX_JSON_VALUES} values`);
  }
}

/** @returns the closing quote of the text that begins at `start` */
function endOfText(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); ; end = text.indexOf('"', end + 1)) {
    if (end < 0) throw new Error('a text has no end');
    let slashes = 0;
    while (text.charCodeAt(end - 1 - slashes) === 0x5c) slashes++;
    if (slashes % 2 === 0) return end;
  }
}

function addKey(keys: Set<string>, quoted: string): void {
  const key = quoted.includes('\\') ? String(JSON.parse(quoted)) : quoted.slice(1, -1);
  if (key === '__proto__') throw new Error('it has a key __proto__');
  if (keys.has(key)) throw new Error(`it has the key "${printable(key, 60)}" twice`);
  keys.add(key);
}

function refuseHalves(root: unknown): void {
  const queue = [root];
  for (let value = queue.pop(); value !== undefined; value = queue.pop()) {
    if (typeof value === 'string' && /\p{Cs}/u.test(value)) throw new Error('a text holds half a surrogate pair');
    if (typeof value !== 'object' || value === null) continue;
    for (const [key, item] of Object.entries(value)) queue.push(key, item);
  }
}
