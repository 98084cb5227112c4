import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { commentOf, type Provenance } from '../../../src/generate/provenance.js';
import { VERSION } from '../../../src/version.js';
import { HOSTILE_PROMPTS } from '../../helpers/videos.js';

const facts: Provenance = {
  prompt: 'a ball',
  negativePrompt: 'blur',
  seed: 42,
  steps: 20,
  guidance: 5.5,
  scheduler: 'UniPCMultistepScheduler',
  precision: 'FP32',
};

describe('the comment of a file', () => {
  it('is JSON of how the video was made', () => {
    expect(JSON.parse(commentOf(facts))).toEqual({
      prompt: 'a ball',
      negative_prompt: 'blur',
      seed: 42,
      steps: 20,
      guidance_scale: 5.5,
      scheduler: 'UniPCMultistepScheduler',
      precision: 'FP32',
      wanq: VERSION,
    });
  });

  it('brings every prompt back, and holds no character that acts on what is around it', () => {
    const check = (prompt: string): void => {
      const comment = commentOf({ ...facts, prompt });
      expect(JSON.parse(comment).prompt).toBe(prompt);
      expect(comment).toMatch(/^[^\p{Cc}\p{Cf}\p{Cs}\u2028\u2029\ufffe\uffff]*$/u);
      expect(Buffer.from(comment).toString()).toBe(comment);
    };
    for (const [, prompt] of HOSTILE_PROMPTS) check(prompt);
    const anyUnits = fc.array(fc.integer({ min: 0, max: 0xffff })).map((units) => String.fromCharCode(...units));
    fc.assert(fc.property(anyUnits, check));
  });

  it('keeps letters of all scripts readable', () => {
    expect(commentOf({ ...facts, prompt: 'schön 赤い円 🟥' })).toContain('schön 赤い円 🟥');
  });
});
