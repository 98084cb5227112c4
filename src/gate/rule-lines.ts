/**
 * Lines of a rules file, from 1, on which the elements of its `rules` begin, in order. Annotations point there.
 * @param text JSON that parses
 */
export function ruleLines(text: string): number[] {
  let lines: number[] = [];
  let line = 1;
  /** Of what encloses the position. */
  const open: ('{' | '[')[] = [];
  /** The last string of the top level: before a colon, a key. */
  let key = '';
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (character === '\n') line++;
    else if (character === '"') {
      const end = endOfString(text, i);
      if (open.length === 1) key = JSON.parse(text.slice(i, end)) as string;
      i = end - 1;
    } else if (character === '{' || character === '[') {
      // Of keys that come twice, the last counts.
      if (open.length === 1 && character === '[' && key === 'rules') lines = [];
      if (open.length === 2 && open[1] === '[' && key === 'rules') lines.push(line);
      open.push(character);
    } else if (character === '}' || character === ']') open.pop();
  }
  return lines;
}

/** @returns the position behind the closing quote */
function endOfString(text: string, start: number): number {
  let i = start + 1;
  while (text[i] !== '"') i += text[i] === '\\' ? 2 : 1;
  return i + 1;
}
