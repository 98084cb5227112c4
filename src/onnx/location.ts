import { MAX_LOCATION_LENGTH } from '../limits.js';

/** A name that Windows would read as another one: a device, a stream of a file, a name without its last dots and spaces. */
const FOREIGN = /[:]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i;

/**
 * What is wrong with the text of an external data location, before any file is looked at: it is a relative path below the model's folder on every
 * system, or it is refused (CWE-22).
 *
 * @returns the end of a sentence about it; undefined where nothing is wrong
 */
export function locationFault(location: string): string | undefined {
  if (location === '') return 'has no name';
  if (location.length > MAX_LOCATION_LENGTH) return `has a name of more than ${MAX_LOCATION_LENGTH} letters`;
  if (location.includes('\0')) return 'has a NUL in its name';
  // Bytes that are no UTF-8 were read as U+FFFD: onnxruntime would open another file than the one that was looked at.
  if (location.includes('\ufffd')) return 'has a name that is not UTF-8';
  const parts = location.split(/[\\/]/);
  const [first = ''] = parts;
  if (first === '' || /^[A-Za-z]:/.test(location) || parts.includes('..')) return 'lies outside the model folder';
  if (location.includes('\\')) return 'has a backslash in its name';
  if (parts.some((part) => part !== '.' && FOREIGN.test(part))) return 'has a name that not every system can hold';
  return undefined;
}
