import { cpSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { writeSafetensors } from '../../../src/util/safetensors.js';
import { VARIANTS } from '../../helpers/variants.js';
import { type Command, type Control, type End, type HostileCase, lettered, type Row } from '../lib/case.js';
import { calibratePrompt, dryRun, inspect } from '../lib/commands.js';
import { micro, PIPELINE } from '../lib/models.js';
import type { Place } from '../lib/place.js';
import { makeFifo } from '../lib/special.js';

type Made = Omit<HostileCase, 'id'>;

const nest = (depth: number): string => `${'['.repeat(depth)}${']'.repeat(depth)}`;

/** A JSON object with one entry more. */
const entry = (json: string, name: string, value: string): string => json.replace('{', `{"${name}":${value},`);

/** What makes any JSON file hostile. */
const JSON_KINDS: readonly (readonly [what: string, make: (json: string) => string | Uint8Array])[] = [
  ['empty', () => ''],
  ['cut in the middle', (json) => json.slice(0, json.length / 2)],
  ['an array', () => '[]'],
  ['a number', () => '1'],
  ['`null`', () => 'null'],
  ['100,000 arrays in one another', (json) => entry(json, 'x', nest(100_000))],
  ['100,000 objects in one another', (json) => entry(json, 'x', `${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`)],
  ['a key `__proto__`', (json) => entry(json, '__proto__', '{"num_layers":1,"polluted":true}')],
  ['a key `__proto__` within', (json) => entry(json, 'x', '{"__proto__":{"polluted":true}}')],
  ['an escaped key `__proto__`', (json) => entry(json, '\\u005f_proto__', '{"polluted":true}')],
  ['the same key twice', (json) => entry(entry(json, 'x', '1'), 'x', '2')],
  ['5,000,000 values', (json) => entry(json, 'x', `[${'0,'.repeat(5_000_000)}0]`)],
  ['bytes that are no UTF-8', (json) => Buffer.from(json.replace('{', '{"\xff\xfe":1,'), 'latin1')],
  ['UTF-16', (json) => Buffer.from(json, 'utf16le')],
  ['a NUL', (json) => `${json}\0`],
  ['text after its end', (json) => `${json}{}`],
  ['half a surrogate pair', (json) => entry(json, 'x', '"\\ud800"')],
  ['JavaScript', () => 'require("child_process").execSync("touch owned")'],
];

const FILES: readonly (readonly [file: string, expected: End])[] = [
  ['model_index.json', 'PIPELINE_INVALID'],
  ['transformer/config.json', 'PIPELINE_INVALID'],
  ['vae_decoder/config.json', 'PIPELINE_INVALID'],
  ['scheduler/scheduler_config.json', 'PIPELINE_INVALID'],
  ['tokenizer/tokenizer.json', 'TOKENIZER_INVALID'],
  ['tokenizer/tokenizer_config.json', 'TOKENIZER_INVALID'],
];

/** A file of the micro pipeline changed. */
const changed = (
  file: string,
  what: string,
  change: (json: string) => string | Uint8Array,
  more: Partial<Made>,
): Made => ({
  what: `${file}: ${what}`,
  input: async (place) => {
    await micro.input(place);
    place.write(path.posix.join(PIPELINE, file), change(readFileSync(place.path(PIPELINE, file), 'utf8')));
  },
  commands: [calibratePrompt],
  expected: ['PIPELINE_INVALID'],
  control: micro,
  ...more,
});

/** All of them are read by the same function. */
const TESTED = ['model_index.json', 'tokenizer/tokenizer.json'];

const everyFile = FILES.flatMap(([file, code]) =>
  JSON_KINDS.map(([what, make]) =>
    changed(file, what, make, {
      expected: [code, 'NOT_READABLE'],
      // Read by commands that run nothing too.
      ...(file === 'model_index.json' ? { commands: [inspect, dryRun, calibratePrompt] } : {}),
      ...(what.startsWith('5,000,000') || !TESTED.includes(file) ? { slow: true } : {}),
    }),
  ),
);

const set = (file: string, name: string, value: string, more: Partial<Made> = {}): Made =>
  changed(
    file,
    `${name} is \`${value.length > 60 ? `${value.slice(0, 40)}…` : value}\``,
    (json) => {
      const parsed = JSON.parse(json);
      const text = JSON.stringify({ ...parsed, [name]: 'TO BE SET' });
      return text.replace('"TO BE SET"', () => value);
    },
    more,
  );

const ANY: readonly End[] = [
  'PIPELINE_INVALID',
  'SCHEDULER_UNSUPPORTED',
  'TOKENIZER_INVALID',
  'USAGE',
  'MODEL_INVALID',
];

const VALUES: readonly Made[] = [
  ...['-1', '0', '1e999', '1e30', '1.5', '"24"', 'null', '[]', 'true'].map((value) =>
    set('transformer/config.json', 'num_layers', value, { expected: [...ANY, 'ok'] }),
  ),
  ...['[1,2]', '[0,0,0]', '[1,1e9,1e9]', '[-1,2,2]', '"x"'].map((value) =>
    set('transformer/config.json', 'patch_size', value, { expected: ANY }),
  ),
  ...['[]', '[0]', '"x"', '[1e999]', `[${'1,'.repeat(100_000)}1]`].map((value) =>
    set('vae_decoder/config.json', 'latents_mean', value, { expected: [...ANY, 'ok'] }),
  ),
  ...['[0,0,0,0,0,0,0,0,0,0,0,0]', '[]', '[-1]'].map((value) =>
    set('vae_decoder/config.json', 'latents_std', value, { expected: [...ANY, 'ok'] }),
  ),
  ...['0', '-1', '1e9', '"16"'].map((value) =>
    set('vae_decoder/config.json', 'scale_factor_spatial', value, { expected: ANY }),
  ),
  ...['"../../outside/evil"', '"__proto__"', '"constructor"', '1', '"\\u001b[31mX"'].map((value) =>
    set('scheduler/scheduler_config.json', '_class_name', value, { expected: ANY }),
  ),
  ...['0', '-1', '1e9', '1e999', '"x"'].map((value) =>
    set('scheduler/scheduler_config.json', 'num_train_timesteps', value, { expected: [...ANY, 'ok'] }),
  ),
  ...['0', '-1', '1e999', '1e308', '"x"', 'null'].map((value) =>
    set('scheduler/scheduler_config.json', 'flow_shift', value, { expected: [...ANY, 'ok', 'NON_FINITE'] }),
  ),
  set('scheduler/scheduler_config.json', 'solver_order', '1000000', { expected: [...ANY, 'ok'] }),
  ...['0', '-1', '1e30', '1e999', '"x"'].map((value) =>
    set('tokenizer/tokenizer_config.json', 'model_max_length', value, { expected: [...ANY, 'ok'] }),
  ),
  set('tokenizer/tokenizer.json', 'model', '{"type":"Unigram"}', { expected: ['TOKENIZER_INVALID'] }),
  set('tokenizer/tokenizer.json', 'model', '{"type":"__proto__"}', { expected: ['TOKENIZER_INVALID'] }),
  set('tokenizer/tokenizer.json', 'model', '{"type":"Unigram","unk_id":99999,"vocab":[["a",0]]}', {
    expected: ['TOKENIZER_INVALID', 'ok', 'RUNTIME_FAILED'],
  }),
  set(
    'tokenizer/tokenizer.json',
    'pre_tokenizer',
    '{"type":"Split","pattern":{"Regex":"(x+x+)+y"},"behavior":"Removed"}',
    {
      expected: ['ok', 'TOKENIZER_INVALID'],
    },
  ),
  {
    ...set(
      'tokenizer/tokenizer.json',
      'normalizer',
      '{"type":"Replace","pattern":{"Regex":"([a-z ]+)+\\\\d"},"content":"x"}',
      { expected: ['TOKENIZER_INVALID'], slow: true },
    ),
    what: 'tokenizer/tokenizer.json: a regular expression that takes hours for the prompt',
  },
  set('tokenizer/tokenizer.json', 'normalizer', '{"type":"Replace","pattern":{"Regex":"("},"content":"x"}', {
    expected: ['TOKENIZER_INVALID'],
  }),
  set('tokenizer/tokenizer.json', 'added_tokens', '[{"id":-1,"content":"a"},{"id":1e9,"content":" "}]', {
    expected: ['TOKENIZER_INVALID', 'ok', 'RUNTIME_FAILED'],
  }),
  set('model_index.json', 'transformer', '["../../outside","../../x"]', { expected: ['ok', 'PIPELINE_INVALID'] }),
  set('model_index.json', 'tokenizer', '["/etc/passwd","x"]', { expected: ['ok', 'PIPELINE_INVALID'] }),
  set('model_index.json', '../../x', '["diffusers","x"]', { expected: ['ok', 'PIPELINE_INVALID'] }),
];

/** A file of no size on disk, or no file. */
function put(what: string, file: string, make: (file: string, place: Place) => void, expected: readonly End[]): Made {
  return {
    what: `${file}: ${what}`,
    input: async (place) => {
      await micro.input(place);
      const full = place.path(PIPELINE, file);
      renameSync(full, place.outside('moved'));
      make(full, place);
    },
    commands: [calibratePrompt],
    expected,
    control: micro,
  };
}

const PUT: readonly Made[] = FILES.flatMap(([file, code]) => [
  put('1 GB of zeros', file, (full) => sparse(full, 2 ** 30), ['NOT_READABLE', code]),
  put('60 MB of zeros', file, (full) => sparse(full, 60 * 2 ** 20), ['NOT_READABLE', code]),
  put('a FIFO', file, makeFifo, ['NOT_READABLE']),
  put('a folder', file, (full) => void mkdirSync(full), ['NOT_READABLE']),
  put('a link to `/dev/zero`', file, (full) => symlinkSync('/dev/zero', full), ['NOT_READABLE']),
]);

function sparse(file: string, size: number): void {
  writeFileSync(file, '');
  truncateSync(file, size);
}

/** A .safetensors file by hand. */
export function safetensors(
  header: string | Uint8Array,
  data: Uint8Array = new Uint8Array(0),
  length?: bigint,
): Uint8Array {
  const json = typeof header === 'string' ? Buffer.from(header) : header;
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(length ?? BigInt(json.length));
  return Buffer.concat([prefix, json, data]);
}

const bytes = (count: number): Uint8Array => new Uint8Array(count);
const F32 = (shape: string, from: number, to: number): string =>
  `{"dtype":"F32","shape":${shape},"data_offsets":[${from},${to}]}`;

const HEADERS: readonly (readonly [what: string, bytes: () => Uint8Array])[] = [
  ['an empty file', () => bytes(0)],
  ['7 bytes', () => bytes(7)],
  ['a header of 2^63 bytes', () => safetensors('{}', bytes(0), 2n ** 63n)],
  ['a header of 2^64 - 1 bytes', () => safetensors('{}', bytes(0), 2n ** 64n - 1n)],
  ['a header of 100 MB', () => safetensors('{}', bytes(0), 100_000_000n)],
  ['a header longer than the file', () => safetensors('{}', bytes(0), 3n)],
  ['a header that is no JSON', () => safetensors('{"a"')],
  ['a header that is an array', () => safetensors('[]')],
  ['a header after a byte order mark', () => safetensors('\ufeff{}')],
  ['a header after a space', () => safetensors(' {}')],
  ['a header of 100,000 arrays in one another', () => safetensors(`{"a":${nest(100_000)}}`)],
  ['a tensor `__proto__`', () => safetensors(`{"__proto__":${F32('[1]', 0, 4)}}`, bytes(4))],
  ['one tensor twice', () => safetensors(`{"a":${F32('[1]', 0, 4)},"a":${F32('[1]', 0, 4)}}`, bytes(4))],
  ['tensors that overlap', () => safetensors(`{"a":${F32('[2]', 0, 8)},"b":${F32('[2]', 4, 12)}}`, bytes(12))],
  ['tensors with a hole between', () => safetensors(`{"a":${F32('[1]', 0, 4)},"b":${F32('[1]', 8, 12)}}`, bytes(12))],
  ['bytes after the last tensor', () => safetensors(`{"a":${F32('[1]', 0, 4)}}`, bytes(8))],
  ['a tensor past the end', () => safetensors(`{"a":${F32('[2]', 0, 8)}}`, bytes(4))],
  ['offsets in the wrong order', () => safetensors(`{"a":${F32('[1]', 4, 0)}}`, bytes(4))],
  ['negative offsets', () => safetensors(`{"a":${F32('[1]', -4, 0)}}`, bytes(4))],
  ['offsets of 1e30', () => safetensors(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,1e30]}}`, bytes(4))],
  ['a shape whose product overflows', () => safetensors(`{"a":${F32('[4294967296,4294967296]', 0, 0)}}`)],
  ['a shape with a zero and 2^53', () => safetensors(`{"a":${F32('[0,9007199254740991]', 0, 0)}}`)],
  ['a negative shape', () => safetensors(`{"a":${F32('[-1,-1]', 0, 4)}}`, bytes(4))],
  ['a shape of 1e6 ones', () => safetensors(`{"a":${F32(`[${'1,'.repeat(1_000_000)}1]`, 0, 4)}}`, bytes(4))],
  ['a shape that is not its bytes', () => safetensors(`{"a":${F32('[2]', 0, 4)}}`, bytes(4))],
  ['an unknown type', () => safetensors('{"a":{"dtype":"F1","shape":[1],"data_offsets":[0,4]}}', bytes(4))],
  ['a type `__proto__`', () => safetensors('{"a":{"dtype":"__proto__","shape":[1],"data_offsets":[0,4]}}', bytes(4))],
  ['metadata that is no text', () => safetensors('{"__metadata__":{"a":1}}')],
  [
    'a million tensors',
    () => safetensors(`{${Array.from({ length: 1_000_000 }, (_, i) => `"${i}":${F32('[0]', 0, 0)}`).join()}}`),
  ],
  ['a name of 10 MB', () => safetensors(`{"${'x'.repeat(10_000_000)}":${F32('[0]', 0, 0)}}`)],
  ['a header that is no UTF-8', () => safetensors(Buffer.from('{"\xff":1}', 'latin1'))],
  ['a pickle', () => Buffer.from("\x80\x04cposix\nsystem\n(S'touch owned'\ntR.", 'latin1')],
];

const EMBEDDINGS: Command = {
  args: [
    ...['calibrate', PIPELINE, '--embeddings', 'e', '--steps', '1', '--guidance', '1', '--device', 'cpu'],
    ...['-o', 'out'],
  ],
  outputs: ['out'],
};
const embedded: Control = {
  name: 'embeddings',
  input: async (place) => {
    await micro.input(place);
    const zeros = () => ({ dtype: 'F32' as const, shape: [1, 32, 64], data: new Float32Array(32 * 64).fill(0.01) });
    const tensors = new Map([
      ['prompt_embeds', zeros()],
      ['negative_prompt_embeds', zeros()],
    ]);
    await writeSafetensors(place.path('e'), { tensors, metadata: {} });
  },
};

const headers = HEADERS.map(
  ([what, make]): Made => ({
    what: `.safetensors: ${what}`,
    input: async (place) => {
      await embedded.input(place);
      place.write('e', make());
    },
    commands: [EMBEDDINGS],
    expected: ['SAFETENSORS_INVALID'],
    control: embedded,
    ...(what.includes('million') || what.includes('10 MB') ? { slow: true } : {}),
  }),
);

/** A checkpoint of two shards, with an index that says which tensor is where. */
const checkpoint: Control = {
  name: 'checkpoint',
  input: (place) => cpSync(path.join(VARIANTS, 'checkpoint'), place.path('c'), { recursive: true }),
};
const INDEX = 'c/diffusion_pytorch_model.safetensors.index.json';
const importing: Command = { args: ['import', 'c', '-o', 'out'], outputs: ['out'] };

const index = (what: string, change: (json: string) => string): Made => ({
  what: `index of shards: ${what}`,
  input: async (place) => {
    await checkpoint.input(place);
    place.write(INDEX, change(readFileSync(place.path(INDEX), 'utf8')));
  },
  commands: [importing],
  expected: ['MODEL_INVALID', 'MODEL_UNSUPPORTED'],
  control: checkpoint,
});

const FIRST = 'diffusion_pytorch_model-00001-of-00002.safetensors';
const INDICES: readonly Made[] = [
  index('`../` to a file of somebody else', (json) => json.replaceAll(FIRST, '../../outside/x.safetensors')),
  index('an absolute path', (json) => json.replaceAll(FIRST, '/dev/zero.safetensors')),
  index('a backslash', (json) => json.replaceAll(FIRST, '..\\\\x.safetensors')),
  index('a file that is not there', (json) => json.replace(FIRST, 'x.safetensors')),
  index('a tensor in the wrong file', (json) => json.replace(FIRST, FIRST.replace('00001', '00002'))),
  index('a key `__proto__`', (json) => json.replace('"weight_map": {', `"weight_map": {"__proto__": "${FIRST}",`)),
  index('no tensors', () => '{"weight_map":{}}'),
  index('100,000 arrays in one another', () => nest(100_000)),
  {
    ...index('', (json) => json),
    what: 'checkpoint: a shard that is a link to a file of somebody else',
    input: async (place) => {
      await checkpoint.input(place);
      renameSync(place.path('c', FIRST), place.outside(FIRST));
      symlinkSync(place.outside(FIRST), place.path('c', FIRST));
    },
    expected: ['ok', 'MODEL_INVALID'],
  },
  {
    ...index('', (json) => json),
    what: 'checkpoint: weights as a pickle',
    input: async (place) => {
      await checkpoint.input(place);
      rmSync(place.path(INDEX));
      for (const name of [FIRST, FIRST.replace('00001', '00002')]) rmSync(place.path('c', name), { force: true });
      place.write('c/diffusion_pytorch_model.bin', "cposix\nsystem\n(S'touch owned'\ntR.");
    },
    expected: ['MODEL_UNSUPPORTED', 'MODEL_INVALID', 'NOT_FOUND', 'NOT_A_PIPELINE'],
  },
];

/** Prompts that come from others. */
const PROMPTS: readonly (readonly [what: string, content: string | Uint8Array, expected: readonly End[]])[] = [
  ['no UTF-8', Buffer.from([0x61, 0xff, 0xfe, 0x0a]), ['NOT_READABLE']],
  ['a prompt of a million letters', 'a'.repeat(1_000_000), ['USAGE']],
  ['a million empty lines', '\n'.repeat(1_000_000), ['PROMPTS_EMPTY']],
  ['200,000 prompts', 'a\n'.repeat(200_000), ['USAGE']],
  ['17 MB', 'a'.repeat(17 * 2 ** 20), ['NOT_READABLE']],
  ['a prompt of control characters', 'a \u001b[31mred\u0007 circle \u0000 \u202e', ['ok']],
  ['a prompt that is a command', '$(touch owned) `touch owned` ; touch owned | sh', ['ok']],
  ['a prompt that is a path', '../../outside/secret', ['ok']],
  ['a prompt of half-known letters', '\u{1f408}\u200d\u2b1b \u05d0 \ufdfa \u0301\u0301\u0301', ['ok']],
];

const prompts = PROMPTS.map(
  ([what, content, expected]): Made => ({
    what: `prompts: ${what}`,
    input: async (place) => {
      await micro.input(place);
      place.write('prompts.txt', content);
    },
    commands: [calibratePrompt],
    expected,
    control: micro,
    ...(expected.includes('ok') ? { slow: true } : {}),
  }),
);

export const FILE_ROWS: readonly Row[] = lettered(15, [
  ...everyFile,
  ...VALUES,
  ...PUT.map((row) => ({ ...row, slow: true })),
  ...headers,
  ...INDICES,
  ...prompts,
]);
