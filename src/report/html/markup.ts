import { UNSEEN_CLASS } from '../../errors.js';

/** Markup that goes into a page as it is. */
export class Html {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

/** What may stand in markup. Text is escaped; nothing is left out of null, undefined and false. */
export type Content = Html | string | number | null | undefined | false | readonly Content[];

/** Markup of a template. Text that is put into it is escaped, for elements and for quoted attributes alike, and made visible. */
export function html(strings: TemplateStringsArray, ...values: readonly Content[]): Html {
  return new Html(strings.map((text, i) => text + (i < values.length ? contentText(values[i]) : '')).join(''));
}

function contentText(content: Content): string {
  if (content === null || content === undefined || content === false) return '';
  if (content instanceof Html) return content.text;
  if (typeof content === 'object') return content.map(contentText).join('');
  return escapeText(visible(String(content)));
}

const ESCAPES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

function escapeText(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ESCAPES[character] as string);
}

const HIDDEN = new RegExp(String.raw`[\p{Cc}\p{Zl}\p{Zp}${UNSEEN_CLASS}]`, 'gu');

/** A joiner where writing needs it: in an emoji of several, in Arabic script, behind the sign that takes an Indic letter's vowel away. */
const JOINER =
  /(?<=[\p{Extended_Pictographic}\p{Emoji_Modifier}\p{Script=Arabic}\p{M}])[\u200c\u200d](?=[\p{Extended_Pictographic}\p{L}])/uy;

/** Text whose control characters and what else is not seen can be: `U+202E` in brackets instead of text that runs backwards. */
export function visible(text: string): string {
  return text.replace(HIDDEN, (character, at: number) => {
    JOINER.lastIndex = at;
    if (JOINER.test(text)) return character;
    const code = character.codePointAt(0) as number;
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    return `[U+${code.toString(16).toUpperCase().padStart(4, '0')}]`;
  });
}
