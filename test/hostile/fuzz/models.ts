import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { linearRows, summarize } from '../../../src/analyze/inspect.js';
import { findProducts } from '../../../src/analyze/leftovers.js';
import { readCalibration } from '../../../src/calibrate/file.js';
import { checkModel } from '../../../src/check/check.js';
import { pipelineMemory } from '../../../src/cli/actions/inspect-memory.js';
import { printable } from '../../../src/errors.js';
import { readFeatures } from '../../../src/evaluate/features.js';
import { pairLinears } from '../../../src/evaluate/linears/pairs.js';
import { graphText } from '../../../src/ir/text.js';
import { checkSaved } from '../../../src/onnx/check.js';
import { decodeModel, encodeModel } from '../../../src/onnx/codec.js';
import { type LoadedModel, loadGraph, loadModel } from '../../../src/onnx/load.js';
import { saveModel } from '../../../src/onnx/save.js';
import { NORMALIZE } from '../../../src/passes/normalize.js';
import { runPasses } from '../../../src/passes/pass.js';
import { PipelineFolder } from '../../../src/pipeline/layout.js';
import { transformerSignature } from '../../../src/pipeline/signature.js';
import { planComponents } from '../../../src/quantize/components/index.js';
import { makePlan } from '../../../src/quantize/plan.js';
import { bindPlan, planPipeline } from '../../../src/quantize/quantize.js';
import { rewriteModel } from '../../../src/quantize/rewrite.js';
import { refuseUnsupported } from '../../../src/quantize/support.js';
import { TARGETS } from '../../../src/quantize/target.js';
import { mutateBytes, withFloat } from './bytes.js';
import { componentOf, type ModelItem } from './corpus.js';
import { Broken } from './outcome.js';
import { type CalibrationFile, type Choices, PLAN, preparedPlan } from './prepare.js';
import { mutateModel } from './protobuf.js';
import type { Random } from './random.js';

/** What a plan may be asked for. */
const DRY_PLANS: readonly Partial<Choices>[] = [
  { scheme: 'ffn' },
  { scheme: 'blocks', float: 'fp16' },
  { scheme: 'ffn', target: 'tensorrt', float: 'fp16', method: 'kl' },
  { scheme: 'blocks', target: 'ort-cuda', activations: 'static' },
  { scheme: 'blocks', target: 'webgpu', float: 'fp16' },
  { scheme: 'ffn', target: 'directml', method: 'auto', smooth: 'auto' },
];

/** Of plans that need no calibration to be carried out. */
const FREE_PLANS: readonly Partial<Choices>[] = [
  { activations: 'dynamic' },
  { target: 'ort-cuda' },
  { target: 'webgpu', float: 'fp16' },
];

const FITTED_PLANS: readonly Partial<Choices>[] = [
  { method: 'minmax' },
  { method: 'kl', target: 'tensorrt', float: 'fp16' },
  { method: 'percentile', smooth: 0.5 },
  { method: 'minmax', target: 'ort-cuda', float: 'fp16', smooth: 0.3 },
];

/** One model of the corpus in a folder of its own, whose graph is written over again and again. */
export class ModelTarget {
  readonly item: ModelItem;
  readonly #folder: string;
  readonly #bytes: Uint8Array;
  readonly #names: readonly string[];
  /** File of the weights, where they are not in the model's own. */
  readonly #data: string;
  readonly #dataBytes: Uint8Array | undefined;
  #dataChanged = false;
  #calibration: CalibrationFile | undefined;

  private constructor(item: ModelItem, folder: string, bytes: Uint8Array, names: readonly string[]) {
    this.item = item;
    this.#folder = folder;
    this.#bytes = bytes;
    this.#names = names;
    this.#data = path.join(folder, componentOf(item.kind), 'model.onnx_data');
    this.#dataBytes = existsSync(this.#data) ? readFileSync(this.#data) : undefined;
  }

  /** @param folder a pipeline folder as the corpus has it */
  static async open(item: ModelItem, folder: string): Promise<ModelTarget> {
    const bytes = await readFile(path.join(folder, componentOf(item.kind), 'model.onnx'));
    const { graph } = decodeModel(bytes);
    const names = graph.nodes.flatMap(({ name, opType, inputs, outputs }) => [name, opType, ...inputs, ...outputs]);
    const target = new ModelTarget(item, folder, bytes, [...new Set([...names, ...graph.initializers.keys()])]);
    if (item.calibrated) {
      const file = path.join(folder, 'calibration.safetensors');
      target.#calibration = { file, calibration: await readCalibration(file, { held: false }) };
    }
    return target;
  }

  get bytes(): Uint8Array {
    return this.#bytes;
  }

  mutated(random: Random, other: Uint8Array): Uint8Array {
    return random.chance(0.25)
      ? mutateBytes(this.#bytes, random, other)
      : mutateModel(this.#bytes, random, { names: this.#names });
  }

  /** Loads, plans and rewrites the model as one of wanq's commands would. */
  async run(bytes: Uint8Array, random: Random): Promise<void> {
    const file = path.join(this.#folder, componentOf(this.item.kind), 'model.onnx');
    writeFileSync(file, bytes);
    this.#writeData(random);
    switch (this.item.kind) {
      case 'transformer':
        return this.#transformer(file, random);
      case 'quantized':
        return this.#quantized(file, random);
      case 'text_encoder':
        await planComponents(this.#folder, { textEncoder: 'w8', target: 'ort-cpu' });
        return;
      case 'vae_decoder':
        await planComponents(this.#folder, { vae: 'fp16', target: random.pick(TARGETS) });
        return;
      case 'features':
        await readFeatures(path.dirname(file), { frames: 17, height: 128, width: 128 });
    }
  }

  /** Weights that are cut off or no numbers in a tenth of the cases, in which they are read after all. */
  #writeData(random: Random): void {
    const data = this.#dataBytes;
    if (data === undefined) return;
    const change = random.chance(0.1);
    if (change) {
      writeFileSync(
        this.#data,
        random.chance(0.3) ? data.subarray(0, random.below(data.length)) : withFloat(data, random),
      );
    } else if (this.#dataChanged) writeFileSync(this.#data, data);
    this.#dataChanged = change;
  }

  async #transformer(file: string, random: Random): Promise<void> {
    const options = { ...PLAN, pipeline: this.#folder };
    const turn = random.below(10);
    if (turn < 4) {
      const plan = await planPipeline({ ...options, ...random.pick(DRY_PLANS) });
      if (!Number.isSafeInteger(plan.bytesAfter)) throw new Broken(`the plan has ${plan.bytesAfter} bytes`);
    } else if (turn < 5) await inspected(this.#folder, file);
    else if (turn < 6) roundTrip(await readFile(file));
    else await this.#quantize(file, turn, random);
  }

  async #quantize(file: string, turn: number, random: Random): Promise<void> {
    const loaded = await loadModel(file);
    try {
      const calibration = this.#calibration;
      const options = { ...PLAN, ...random.pick(calibration ? FITTED_PLANS : FREE_PLANS) };
      const fitted = calibration
        ? await preparedPlan(loaded, options, calibration)
        : await bindPlan(loaded, { ...options, pipeline: this.#folder }, turn === 6);
      rewriteModel(loaded.model, fitted);
      if (turn < 8) graphText(loaded.model);
      else await saved(loaded, path.join(this.#folder, 'saved'));
    } finally {
      await loaded.close();
    }
  }

  async #quantized(file: string, random: Random): Promise<void> {
    if (random.chance(0.5)) await checkSaved(file);
    const loaded = await loadModel(file);
    try {
      if (random.chance(0.3)) pairLinears(decodeModel(this.#bytes), loaded.model);
      await checkModel(loaded, random.pick(TARGETS));
    } finally {
      await loaded.close();
    }
  }
}

/** What `wanq inspect` makes of a transformer, without its tables. */
async function inspected(folder: string, file: string): Promise<void> {
  const model = await loadGraph(file);
  const text = graphText(model);
  if (!text.split('\n').every((line) => printable(line, Number.POSITIVE_INFINITY) === line.trim()))
    throw new Broken('the text of the graph has control characters');
  runPasses(model, NORMALIZE);
  const products = findProducts(model.graph);
  summarize(model.graph, model.opset, products);
  linearRows(model.graph, products.linears);
  await pipelineMemory(await PipelineFolder.open(folder), new Map([['transformer', model.graph]]), {});
  refuseUnsupported(model, file);
  makePlan(model.graph, PLAN, undefined, products);
  transformerSignature(model.graph, file);
}

/** What is read and not changed is written as it was: the same graph, and the same bytes from then on. */
function roundTrip(bytes: Uint8Array): void {
  const model = decodeModel(bytes);
  const written = encodeModel(model);
  const again = decodeModel(written);
  if (graphText(again) !== graphText(model)) throw new Broken('a model that was written is another one');
  if (Buffer.compare(encodeModel(again), written) !== 0) throw new Broken('writing a model twice gives other bytes');
}

/** Writes a quantized model and looks at it as `quantize` does. */
async function saved(loaded: LoadedModel, folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder);
  await saveModel(loaded.model, loaded, folder);
  await checkSaved(path.join(folder, 'model.onnx'));
}
