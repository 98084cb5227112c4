import { createContext, Script } from 'node:vm';
import { Tokenizer } from '@huggingface/tokenizers';
import { z } from 'zod';
import { printable, WanqError } from '../errors.js';
import { MAX_PROMPT_TOKENS, MAX_TOKENIZE_MS } from '../limits.js';
import { exists } from '../util/files.js';
import { readJson } from '../util/json.js';
import type { PipelineFolder } from './layout.js';

/** diffusers' Wan pipeline pads to this where the text encoder does not fix a length. */
const DEFAULT_LENGTH = 512;

const tokenizerJson = z.looseObject({
  model: z.looseObject({}),
  added_tokens: z.array(z.looseObject({ id: z.int(), content: z.string() })).default([]),
});

const tokenizerConfig = z.looseObject({
  model_max_length: z.number().min(1).optional(),
  pad_token: z.union([z.string(), z.looseObject({ content: z.string() })]).nullish(),
  eos_token: z.union([z.string(), z.looseObject({ content: z.string() })]).nullish(),
});

/** Token ids of one prompt, padded to a fixed length. */
export interface TokenizedPrompt {
  /** `[length]` */
  readonly ids: readonly number[];
  /** 1 for every real token, the end token included. */
  readonly mask: readonly number[];
}

/**
 * A Hugging Face fast tokenizer (`tokenizer.json`), used as diffusers' WanPipeline uses it: whitespace collapsed, cut so that the end
 * token stays, padded. (diffusers also repairs mojibake with ftfy and unescapes HTML; wanq takes prompts as they are written.)
 */
export class PromptTokenizer {
  readonly length: number;
  readonly #limit: Limit;
  readonly #tokenizer: Tokenizer;
  readonly #pad: number;
  readonly #end: number | undefined;

  private constructor(limit: Limit, tokenizer: Tokenizer, length: number, pad: number, end: number | undefined) {
    this.#limit = limit;
    this.#tokenizer = tokenizer;
    this.length = length;
    this.#pad = pad;
    this.#end = end;
  }

  /**
   * @param fixedLength length that the text encoder's graph demands, if it does
   * @param limitMs time that it may take for one prompt
   * @throws WanqError TOKENIZER_INVALID, NOT_FOUND
   */
  static async open(
    folder: PipelineFolder,
    fixedLength: number | undefined,
    limitMs = MAX_TOKENIZE_MS,
  ): Promise<PromptTokenizer> {
    const file = await folder.requireFile('tokenizer', 'tokenizer.json');
    const configFile = folder.path('tokenizer', 'tokenizer_config.json');
    const json = await readJson(file, tokenizerJson, 'TOKENIZER_INVALID');
    const config = (await exists(configFile)) ? await readJson(configFile, tokenizerConfig, 'TOKENIZER_INVALID') : {};
    const idOf = (token: string | { content: string } | null | undefined, fallback: string): number | undefined => {
      const content = (typeof token === 'object' ? token?.content : token) ?? fallback;
      return json.added_tokens.find((added) => added.content === content)?.id;
    };
    const stated = config.model_max_length ?? DEFAULT_LENGTH;
    const length = fixedLength ?? Math.min(stated, DEFAULT_LENGTH);
    if (!Number.isInteger(length) || length < 1 || length > MAX_PROMPT_TOKENS) {
      throw new WanqError('TOKENIZER_INVALID', `${printable(file)}: prompts of ${length} tokens are not possible`, {
        hint: `the text encoder and its tokenizer take 1 to ${MAX_PROMPT_TOKENS}`,
      });
    }
    const limit: Limit = { file, ms: limitMs };
    const tokenizer = timed(limit, () => new Tokenizer(json, config));
    return new PromptTokenizer(
      limit,
      tokenizer,
      length,
      idOf(config.pad_token, '<pad>') ?? 0,
      idOf(config.eos_token, '</s>'),
    );
  }

  /** @throws WanqError TOKENIZER_INVALID where the tokenizer fails or takes too long */
  encode(prompt: string): TokenizedPrompt {
    const text = prompt.replace(/\s+/g, ' ').trim();
    let ids = timed(this.#limit, () => [...this.#tokenizer.encode(text).ids]);
    while (ids.length > 0 && ids.at(-1) === this.#pad) ids.pop();
    if (ids.length > this.length) {
      ids = this.#end === undefined ? ids.slice(0, this.length) : [...ids.slice(0, this.length - 1), this.#end];
    }
    const real = ids.length;
    const fill = <T>(value: T): T[] => new Array<T>(this.length - real).fill(value);
    return { ids: [...ids, ...fill(this.#pad)], mask: [...new Array<number>(real).fill(1), ...fill(0)] };
  }
}

/** What a tokenizer may take, and the file to name where it takes more. */
interface Limit {
  readonly file: string;
  readonly ms: number;
}

const work: { call(): void } = { call: () => {} };
const CONTEXT = createContext(work);
const CALL = new Script('call()');

/** A tokenizer's file holds regular expressions, of which some never end (CWE-1333): only a script's time can be limited. */
function timed<T>({ file, ms }: Limit, make: () => T): T {
  let result: T | undefined;
  work.call = () => {
    result = make();
  };
  try {
    CALL.runInContext(CONTEXT, { timeout: ms });
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const why =
      code === 'ERR_SCRIPT_EXECUTION_TIMEOUT'
        ? `takes more than ${ms / 1000} s for a prompt`
        : `cannot be used: ${printable(message, 160)}`;
    throw new WanqError('TOKENIZER_INVALID', `${printable(file)} ${why}`, { cause });
  }
  return result as T;
}
