import { readFileSync } from 'node:fs';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { decodeModel, encodeModel } from '../../../src/onnx/codec.js';
import { FULL_SHAPE, MICRO, MICRO_COMPONENTS, MICRO_PIPELINE } from '../../helpers/fixtures.js';

const files: Record<string, () => Buffer> = Object.fromEntries([
  ...MICRO_COMPONENTS.map((component) => [
    `micro-wan ${component}`,
    () => readFileSync(path.join(MICRO_PIPELINE, component, 'model.onnx')),
  ]),
  ['micro-wan fvd', () => readFileSync(path.join(MICRO, 'fvd', 'model.onnx'))],
  ...['2-blocks-fp32', '5b-fp32', '5b-fp16'].map((name) => [
    `full-shape ${name}`,
    () => gunzipSync(readFileSync(path.join(FULL_SHAPE, name, 'model.onnx.gz'))),
  ]),
]);

describe('decoding and encoding every fixture model', () => {
  it.each(Object.keys(files))('gives the same bytes: %s', (name) => {
    const bytes = (files[name] as () => Buffer)();
    expect(Buffer.from(encodeModel(decodeModel(bytes))).equals(bytes)).toBe(true);
  });
});
