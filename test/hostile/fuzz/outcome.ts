import { WanqError } from '../../../src/errors.js';

/** What became of one input. Rejections have wanq's own codes; anything else that is thrown is a finding. */
export type Outcome =
  | { readonly kind: 'accepted' }
  | { readonly kind: 'rejected'; readonly code: string }
  | { readonly kind: 'finding'; readonly what: string };

/** A looked-at input does not hold what it must: thrown by targets themselves. */
export class Broken extends Error {
  override readonly name = 'Broken';
}

export async function outcomeOf(work: () => Promise<void>): Promise<Outcome> {
  try {
    await work();
    return { kind: 'accepted' };
  } catch (error) {
    if (error instanceof WanqError) return { kind: 'rejected', code: error.code };
    return { kind: 'finding', what: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}
