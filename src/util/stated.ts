import { printable } from '../errors.js';

/** A version as a file states it, for an error message. Objects have no text that can be relied on: `{"toString": 1}` is one. */
export function stated(version: unknown): string {
  if (Array.isArray(version)) return '(a list)';
  return typeof version === 'object' && version !== null ? '(an object)' : printable(String(version), 20);
}
