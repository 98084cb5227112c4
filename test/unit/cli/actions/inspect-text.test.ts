import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { run } from '../../../../src/cli/actions/inspect.js';
import { type Context, createContext } from '../../../../src/cli/context.js';
import { graphText } from '../../../../src/ir/text.js';
import { decodeModel, encodeModel } from '../../../../src/onnx/codec.js';
import { expectRejection } from '../../helpers/errors.js';
import { model, node } from '../../helpers/graphs.js';
import { temporaryFolder } from '../../helpers/temporary.js';

const transformer = encodeModel(model({ nodes: [node('Relu', ['x'], 'y')], inputs: ['x'], outputs: ['y'] }));
const encoder = encodeModel(model({ nodes: [node('Neg', ['x'], 'y')], inputs: ['x'], outputs: ['y'] }));

/** What `inspect --text` prints of a pipeline with a transformer and a text encoder. */
async function inspect(text: string | true, json = false): Promise<string> {
  const pipeline = await temporaryFolder();
  await writeFile(path.join(pipeline, 'model_index.json'), '{}');
  for (const [name, bytes] of Object.entries({ transformer, text_encoder: encoder })) {
    await mkdir(path.join(pipeline, name));
    await writeFile(path.join(pipeline, name, 'model.onnx'), bytes);
  }
  let printed = '';
  const io = { stdout: { write: (part: string) => (printed += part) } } as unknown as Context['io'];
  const context = createContext(io, new AbortController().signal, { quiet: true, verbose: false, json });
  expect(await run(context, { positional: [pipeline], flags: { text }, given: new Set() })).toBeUndefined();
  return printed;
}

describe('inspect --text', () => {
  it("prints the transformer's graph and nothing else", async () => {
    expect(await inspect(true)).toBe(`${graphText(decodeModel(transformer))}\n`);
  });

  it('prints the graph of the component that is named', async () => {
    expect(await inspect('text_encoder')).toBe(`${graphText(decodeModel(encoder))}\n`);
  });

  it.each(['vae_decoder', 'scheduler', '../transformer'])('knows no component %s in this pipeline', async (name) => {
    await expectRejection(inspect(name), 'USAGE');
  });

  it('is not JSON', async () => {
    await expectRejection(inspect(true, true), 'USAGE');
  });
});
