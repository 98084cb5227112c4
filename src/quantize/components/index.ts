import { type Component, PipelineFolder } from '../../pipeline/layout.js';
import type { TextEncoderForm, VaeForm } from '../options.js';
import type { Target } from '../target.js';
import type { ComponentPlan, ComponentSummary, RewrittenComponent, SaveOptions } from './component.js';
import { openTextEncoder } from './text-encoder.js';
import { openVae } from './vae.js';

export interface ComponentOptions {
  /** Absent: as it is. */
  readonly textEncoder?: TextEncoderForm | undefined;
  /** Of both halves. Absent: as they are. */
  readonly vae?: VaeForm | undefined;
  readonly target: Target;
}

/** What would be written anew, for `--dry-run`. @throws WanqError as {@link RewrittenComponents.open} */
export async function planComponents(pipeline: string, options: ComponentOptions): Promise<readonly ComponentPlan[]> {
  const components = await RewrittenComponents.open(await PipelineFolder.open(pipeline), options);
  await components.close();
  return components.plans;
}

/** The components that are written anew beside the transformer. */
export class RewrittenComponents {
  readonly #members: readonly RewrittenComponent[];

  private constructor(members: readonly RewrittenComponent[]) {
    this.#members = members;
  }

  /**
   * Rewrites their graphs; writes nothing.
   * @throws WanqError PIPELINE_INVALID where one that was asked for is missing; MODEL_UNSUPPORTED
   */
  static async open(
    folder: PipelineFolder,
    { textEncoder, vae, target }: ComponentOptions,
  ): Promise<RewrittenComponents> {
    const members: RewrittenComponent[] = [];
    try {
      if (textEncoder) members.push(await openTextEncoder(folder));
      if (vae) members.push(await openVae(folder, 'vae_decoder', target));
      if (vae && (await folder.has('vae_encoder'))) members.push(await openVae(folder, 'vae_encoder', target));
    } catch (error) {
      for (const member of members) await member.close();
      throw error;
    }
    return new RewrittenComponents(members);
  }

  get plans(): readonly ComponentPlan[] {
    return this.#members.map(({ plan }) => plan);
  }

  has(name: string): boolean {
    return this.plans.some(({ component }) => component === (name as Component));
  }

  get bytesAfter(): number {
    return this.plans.reduce((sum, { bytesAfter }) => sum + bytesAfter, 0);
  }

  /** @param target the pipeline folder to write into @throws WanqError as {@link RewrittenComponent.save} */
  async save(target: string, options: SaveOptions): Promise<ComponentSummary[]> {
    const summaries: ComponentSummary[] = [];
    for (const member of this.#members) summaries.push(await member.save(target, options));
    return summaries;
  }

  async close(): Promise<void> {
    for (const member of this.#members) await member.close();
  }
}
