import {
  cpSync,
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { importCheckpoint } from '../../../src/import/import.js';
import { loadModel } from '../../../src/onnx/load.js';
import { readSafetensors } from '../../../src/util/safetensors.js';
import { MICRO, MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { temporaryFolder } from '../support/environment.js';

const NAME = 'diffusion_pytorch_model.safetensors';
const folder = temporaryFolder();
const checkpoint = path.join(folder, 'checkpoint');
const at = (...parts: string[]): string => path.join(folder, ...parts);

beforeAll(() => cpSync(path.join(MICRO, 'checkpoint'), checkpoint, { recursive: true }));

function files(root: string): string[] {
  return readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((name) => statSync(path.join(root, name)).isFile())
    .sort();
}

describe('an import', () => {
  it('writes a pipeline folder around the weights of the checkpoint', async () => {
    const output = at('linked');
    const summary = await importCheckpoint({ checkpoint, output });
    expect(files(output)).toEqual([
      'model_index.json',
      'scheduler/scheduler_config.json',
      'tokenizer/tokenizer.json',
      'tokenizer/tokenizer_config.json',
      'transformer/config.json',
      `transformer/${NAME}`,
      'transformer/model.onnx',
      'vae/config.json',
    ]);
    expect(summary.lacking).toEqual(['text_encoder', 'vae_decoder']);
    const [ours, theirs] = [
      statSync(at('linked', 'transformer', NAME)),
      statSync(path.join(checkpoint, 'transformer', NAME)),
    ];
    expect([ours.dev, ours.ino]).toEqual([theirs.dev, theirs.ino]);
    expect(statSync(at('linked', 'transformer', 'model.onnx')).size).toBeLessThan(500_000);
  });

  it('reads every weight as the checkpoint has it', async () => {
    const loaded = await loadModel(at('linked', 'transformer', 'model.onnx'));
    const { tensors } = await readSafetensors(path.join(checkpoint, 'transformer', NAME));
    const { initializers } = loaded.model.graph;
    for (const [name, { data, shape }] of tensors) {
      const tensor = initializers.get(name);
      if (!tensor) throw new Error(`no ${name}`);
      expect(tensor.dims).toEqual(shape);
      const stored = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
      expect(Buffer.compare(await loaded.read(tensor), stored)).toBe(0);
    }
    await loaded.close();
  });

  it('copies the weights where that is asked for', async () => {
    const seen: number[] = [];
    const summary = await importCheckpoint({
      checkpoint,
      output: at('copied'),
      copy: true,
      onProgress: (done) => seen.push(done),
    });
    const [ours, theirs] = [at('copied', 'transformer', NAME), path.join(checkpoint, 'transformer', NAME)];
    expect(summary.placed).toBe('copied');
    expect(statSync(ours).ino).not.toBe(statSync(theirs).ino);
    expect(Buffer.compare(readFileSync(ours), readFileSync(theirs))).toBe(0);
    expect(seen.at(-1)).toBe(statSync(theirs).size);
  });

  it('links the file behind a link, as a download cache has it', async () => {
    const cache = at('cache');
    cpSync(checkpoint, cache, { recursive: true });
    const blob = path.join(checkpoint, 'transformer', NAME);
    rmSync(path.join(cache, 'transformer', NAME));
    symlinkSync(blob, path.join(cache, 'transformer', NAME));
    await importCheckpoint({ checkpoint: cache, output: at('from-cache') });
    const placed = lstatSync(at('from-cache', 'transformer', NAME));
    expect(placed.isFile()).toBe(true);
    expect(placed.ino).toBe(statSync(blob).ino);
  });

  it('takes models of another pipeline, linked or copied', async () => {
    await importCheckpoint({ checkpoint, output: at('with-links'), components: MICRO_PIPELINE });
    expect(lstatSync(at('with-links', 'text_encoder')).isSymbolicLink()).toBe(true);
    // What the checkpoint itself has is not replaced.
    expect(lstatSync(at('with-links', 'tokenizer')).isSymbolicLink()).toBe(false);
    const alone = path.join(checkpoint, 'transformer');
    const summary = await importCheckpoint({
      checkpoint: alone,
      output: at('with-copies'),
      components: MICRO_PIPELINE,
      copy: true,
    });
    expect(summary.lacking).toEqual([]);
    expect(lstatSync(at('with-copies', 'vae_decoder', 'model.onnx')).isFile()).toBe(true);
    expect(existsSync(at('with-copies', 'scheduler', 'scheduler_config.json'))).toBe(true);
  });
});

describe('leaves nothing behind', () => {
  it.each<[string, (broken: string) => void, object]>([
    ['a tensor is not a number', poison, { code: 'NON_FINITE' }],
    [
      'the index of the pipeline is broken',
      (broken) => writeFileSync(path.join(broken, 'model_index.json'), '{'),
      { code: 'PIPELINE_INVALID' },
    ],
  ])('where %s', async (what, breakIt, error) => {
    const broken = at(`broken ${what}`);
    cpSync(checkpoint, broken, { recursive: true });
    breakIt(broken);
    const before = readdirSync(folder).sort();
    await expect(importCheckpoint({ checkpoint: broken, output: at('never') })).rejects.toMatchObject(error);
    expect(readdirSync(folder).sort()).toEqual(before);
    // The checkpoint itself is whole.
    expect(existsSync(path.join(broken, 'transformer', NAME))).toBe(true);
  });

  it('where it is interrupted', async () => {
    const before = readdirSync(folder).sort();
    const controller = new AbortController();
    controller.abort(new Error('stop'));
    const stopped = importCheckpoint({ checkpoint, output: at('never'), signal: controller.signal });
    await expect(stopped).rejects.toThrow('stop');
    expect(readdirSync(folder).sort()).toEqual(before);
  });
});

it('never writes over what is there, nor into the checkpoint', async () => {
  await expect(importCheckpoint({ checkpoint, output: at('linked') })).rejects.toMatchObject({ code: 'OUTPUT_EXISTS' });
  const inside = path.join(checkpoint, 'onnx');
  await expect(importCheckpoint({ checkpoint, output: inside })).rejects.toMatchObject({ code: 'USAGE' });
  expect(existsSync(inside)).toBe(false);
});

/** Makes the last float of the weights, which lie behind the header, not a number. */
function poison(broken: string): void {
  const file = path.join(broken, 'transformer', NAME);
  const bytes = readFileSync(file);
  bytes.writeFloatLE(Number.NaN, bytes.length - 4);
  rmSync(file);
  writeFileSync(file, bytes);
}
