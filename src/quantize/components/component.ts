import { copyFile, mkdir, readdir } from 'node:fs/promises';
import path from 'node:path';
import { WanqError } from '../../errors.js';
import { fingerprint, type LoadedModel, loadModel } from '../../onnx/load.js';
import { type SavedModel, type SaveProgress, saveModel } from '../../onnx/save.js';
import { NORMALIZE } from '../../passes/normalize.js';
import { type Pass, type PassReport, runPasses } from '../../passes/pass.js';
import type { Component, PipelineFolder } from '../../pipeline/layout.js';
import { type HostTensor, toFloat32 } from '../../runtime/tensor.js';
import { VERSION } from '../../version.js';
import type { Verification } from '../options.js';
import { refuseUnsupported } from '../support.js';
import { type Verified, verifyModel } from '../verify.js';

/** What `wanq quantize` makes of a component beside the transformer. */
export interface ComponentPlan {
  readonly component: Component;
  readonly form: 'w8' | 'fp16';
  /** One line to read: what is stored how. */
  readonly did: string;
  /** Bytes of all initializers, before and after. */
  readonly bytesBefore: number;
  readonly bytesAfter: number;
  /** What each pass over the graph did. */
  readonly passes: readonly PassReport[];
}

export interface ComponentSummary extends ComponentPlan, SavedModel {
  readonly verified: Verified;
}

/** What is done to the graph of a component. */
export interface Treatment extends Pick<ComponentPlan, 'component' | 'form' | 'did'> {
  readonly passes: readonly Pass[];
  /** What the model's metadata says of it, beside what all have. */
  readonly metadata: Iterable<readonly [string, string]>;
  /** An input to try the written model on beside the original. */
  sample(): Promise<Readonly<Record<string, HostTensor>>>;
  /** Whether a run on that input takes seconds, not hours. */
  readonly runsQuickly: boolean;
}

export interface SaveOptions {
  readonly verify?: Verification | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: SaveProgress | undefined;
}

/** A component whose graph is rewritten in memory; its weights are still where they were. */
export class RewrittenComponent {
  readonly plan: ComponentPlan;
  readonly #folder: PipelineFolder;
  readonly #loaded: LoadedModel;
  readonly #treatment: Treatment;

  private constructor(plan: ComponentPlan, folder: PipelineFolder, loaded: LoadedModel, treatment: Treatment) {
    this.plan = plan;
    this.#folder = folder;
    this.#loaded = loaded;
    this.#treatment = treatment;
  }

  /**
   * @param need what the user asked for, for the message where the component is missing
   * @param treat looks at the normalised graph and says what to do
   * @throws WanqError PIPELINE_INVALID without that component; MODEL_UNSUPPORTED where it is quantized already; those of `treat`
   */
  static async open(
    folder: PipelineFolder,
    component: Component,
    need: string,
    treat: (loaded: LoadedModel) => Promise<Treatment>,
  ): Promise<RewrittenComponent> {
    const loaded = await loadModel(await folder.require(component, need));
    try {
      const { model } = loaded;
      refuseUnsupported(model, loaded.path);
      const source = await fingerprint(loaded);
      const bytesBefore = model.graph.weightBytes;
      const normalized = runPasses(model, NORMALIZE);
      const treatment = await treat(loaded);
      const passes = [...normalized, ...runPasses(model, treatment.passes)];
      model.metadata = new Map([
        ...model.metadata,
        ['wanq.version', VERSION],
        ['wanq.source', source],
        ['wanq.form', treatment.form],
        ...treatment.metadata,
      ]);
      const { form, did } = treatment;
      const plan = { component, form, did, bytesBefore, bytesAfter: model.graph.weightBytes, passes };
      return new RewrittenComponent(plan, folder, loaded, treatment);
    } catch (error) {
      await loaded.close();
      throw error;
    }
  }

  close(): Promise<void> {
    return this.#loaded.close();
  }

  /**
   * Writes the component, and the small files that lie beside it, and checks it as the transformer is checked.
   *
   * @param target the pipeline folder to write into
   * @throws WanqError RUNTIME_FAILED where onnxruntime does not take it; NON_FINITE where a run overflows; those of saving
   */
  async save(target: string, { verify = 'auto', signal, onProgress }: SaveOptions): Promise<ComponentSummary> {
    const { component, bytesBefore } = this.plan;
    const folder = path.join(target, component);
    await mkdir(folder);
    for (const name of await readdir(this.#folder.path(component))) {
      if (name.endsWith('.json')) await copyFile(this.#folder.path(component, name), path.join(folder, name));
    }
    const saved = await saveModel(this.#loaded.model, this.#loaded, folder, (done, total) => {
      signal?.throwIfAborted();
      onProgress?.(done, total);
    });
    const { sample, runsQuickly } = this.#treatment;
    const verified = await verifyModel({
      original: this.#loaded.path,
      written: path.join(folder, 'model.onnx'),
      bytesBefore,
      how: verify === 'auto' && !runsQuickly ? 'load' : verify,
      signal,
      run: async (host, file) => {
        const session = await host.createSession({ path: file }, { providers: ['cpu'] });
        const [output] = session.info.outputs as [string];
        const { outputs } = await session.run(await sample(), [output]);
        await session.release();
        return finite(toFloat32(outputs[output] as HostTensor), component);
      },
    });
    return { ...this.plan, ...saved, verified };
  }
}

function finite(values: Float32Array, component: Component): Float32Array {
  if (values.every(Number.isFinite)) return values;
  throw new WanqError('NON_FINITE', `the output of ${component} on a random input holds NaN or infinity`, {
    hint: 'leave this component as it is',
  });
}
