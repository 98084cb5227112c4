/**
 * Makes a pipeline folder with the 5B's real transformer graph, or a cut of it, and pseudo-random weights: something of full size to measure on.
 *
 *   npx tsx bench/make-model.ts 2-blocks-fp32|5b-fp32|5b-fp16 FOLDER [--blocks N]
 */
import { parseArgs } from 'node:util';
import { makeFullShape, SHAPES, type Shape } from './lib/full-shape.js';

const { positionals, values } = parseArgs({ allowPositionals: true, options: { blocks: { type: 'string' } } });
const [shape, folder] = positionals;
if (!SHAPES.includes(shape as Shape) || folder === undefined) {
  console.error(`usage: npx tsx bench/make-model.ts ${SHAPES.join('|')} FOLDER [--blocks N]`);
  process.exitCode = 2;
} else {
  const start = performance.now();
  let shown = start;
  const { blocks, dataBytes } = await makeFullShape(shape as Shape, folder, {
    blocks: values.blocks === undefined ? undefined : Number(values.blocks),
    onProgress: (done, total) => {
      if (performance.now() - shown < 5000) return;
      shown = performance.now();
      console.error(`${(done / 1e9).toFixed(2)} of ${(total / 1e9).toFixed(2)} GB`);
    },
  });
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  console.log(`${folder}: ${blocks} blocks, ${(dataBytes / 1e9).toFixed(2)} GB of weights, ${seconds} s`);
}
