import { VERSION } from '../version.js';

/** How a video was made. */
export interface Provenance {
  readonly prompt: string;
  readonly negativePrompt: string;
  readonly seed: number;
  readonly steps: number;
  readonly guidance: number;
  readonly scheduler: string;
  /** What the transformer's weights are, as `describePrecision` says it. */
  readonly precision: string;
}

/** Program and version, as it is written into files. */
export const TOOL = `wanq ${VERSION}`;

/**
 * Characters that no text in a file may hold as they are: controls, those that change how the text around them is shown, line separators, and
 * what XML or UTF-8 cannot hold.
 */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Noncharacter_Code_Point}]/gu;

/** A video's provenance as JSON, for a file's metadata. Prompts are other people's text: `JSON.parse` brings each character back. */
export function commentOf(made: Provenance): string {
  const { prompt, negativePrompt, seed, steps, guidance, scheduler, precision } = made;
  const json = JSON.stringify({
    prompt,
    negative_prompt: negativePrompt,
    seed,
    steps,
    guidance_scale: guidance,
    scheduler,
    precision,
    wanq: VERSION,
  });
  return json.replace(UNSAFE, jsonEscape);
}

/** @returns `\uXXXX` for each UTF-16 unit */
export function jsonEscape(character: string): string {
  return Array.from({ length: character.length }, (_, i) => {
    return `\\u${character.charCodeAt(i).toString(16).padStart(4, '0')}`;
  }).join('');
}
