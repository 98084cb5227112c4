import path from 'node:path';

/**
 * A relative path as an address that stays relative, and one word of Markdown, whatever its parts are called.
 * @returns undefined for an absolute path
 */
export function relativeUrl(file: string): string | undefined {
  if (path.isAbsolute(file)) return undefined;
  return ['.', ...file.split(path.sep).map(encoded)].join('/');
}

function encoded(part: string): string {
  // Half of a surrogate pair, as file names of Windows may have, is no text to encode.
  const text = encodeURIComponent(part.replace(/\p{Surrogate}/gu, '\ufffd'));
  return text.replace(/[!'()*~]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);
}
