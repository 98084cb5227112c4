// The sampling chain with onnxruntime-node and nothing else: what a calibration is held against. One process, the model by its path, default
// options; the same noise, embeddings and schedule as `wanq calibrate --synthetic-inputs`. Prints the seconds of every forward as JSON.
//
//   node bench/lib/plain-inference.mjs PIPELINE CHAINS STEPS GUIDANCE FRAMES HEIGHT WIDTH
import * as ort from 'onnxruntime-node';
import { syntheticInputs } from '../../dist/calibrate/inputs.js';
import { randn } from '../../dist/numerics/rng.js';
import { runChain, transformerFeeds } from '../../dist/pipeline/denoise.js';
import { latentElements } from '../../dist/pipeline/geometry.js';
import { PipelineFolder } from '../../dist/pipeline/layout.js';
import { describePipeline } from '../../dist/pipeline/open.js';
import { readScheduler } from '../../dist/pipeline/schedulers/index.js';

const [pipeline, ...numbers] = process.argv.slice(2);
const [chains, steps, guidance, frames, height, width] = numbers.map(Number);
ort.env.logLevel = 'fatal';
const folder = await PipelineFolder.open(pipeline);
const face = await describePipeline(folder, { frames, height, width });
const makeScheduler = await readScheduler(folder, true);
const inputs = syntheticInputs(chains, 0, face.signature);
const session = await ort.InferenceSession.create(folder.modelPath('transformer'), { executionProviders: ['cpu'] });
const seconds = [];
for (let chain = 0; chain < chains; chain++) {
  const cond = await inputs.cond(chain);
  await runChain({
    scheduler: makeScheduler(steps),
    shape: face.latents,
    noise: randn(chain, latentElements(face.latents)),
    text: { cond, uncond: guidance > 1 ? await inputs.uncond() : cond },
    guidance,
    predict: async (calls) => {
      const velocities = [];
      for (const { input } of calls) {
        const start = performance.now();
        const feeds = Object.entries(transformerFeeds(face, input)).map(([name, { dtype, dims, data }]) => [
          name,
          new ort.Tensor(dtype, data, dims),
        ]);
        const results = await session.run(Object.fromEntries(feeds));
        velocities.push(results[face.signature.output].data);
        seconds.push((performance.now() - start) / 1000);
      }
      return velocities;
    },
  });
}
console.log(JSON.stringify(seconds));
