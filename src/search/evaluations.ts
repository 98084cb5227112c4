import path from 'node:path';
import { z } from 'zod';
import { printable, WanqError } from '../errors.js';
import { figureText, type Metric, resultsSchema } from '../report/results.js';
import { exists, writeAtomic } from '../util/files.js';
import { sha256 } from '../util/hash.js';
import { readJson } from '../util/json.js';
import { removeTemporarySiblings } from '../util/temporary.js';

/** Version of the file's layout. */
const EVALUATIONS_SCHEMA = 2;

const schema = z.strictObject({
  schema: z.literal(EVALUATIONS_SCHEMA),
  /** What was measured on what: model, plan that linears are given back of, and settings of the evaluation. */
  identity: z.string(),
  plans: z.array(z.strictObject({ givenBack: z.array(z.string()), metrics: resultsSchema.shape.metrics })),
});

/** Everything that a plan's metrics depend on beside the linears that are given back. */
export interface EvaluationSettings {
  readonly model: string;
  readonly plan: string;
  readonly calibration: string | null;
  readonly prompts: readonly string[];
  readonly negativePrompt: string;
  readonly seedsPerPrompt: number;
  readonly seed: number;
  readonly steps: number;
  readonly guidance: number;
  readonly sigmas: readonly number[];
  readonly inspected: number;
  readonly shape: readonly number[];
  readonly device: string;
  readonly deviceReference: string | null;
  readonly deviceVae: string | null;
  /** SHA-256 of the clips, of the feature network's folder and of the perceptual network. */
  readonly clips: string | null;
  readonly features: string | null;
  readonly perceptual: string | null;
}

/** Metrics of plans that were evaluated, kept in a file: what is there is not measured again. */
export class Evaluations {
  readonly #file: string;
  readonly #identity: string;
  readonly #plans: Map<string, Readonly<Record<string, Metric>>>;

  private constructor(file: string, identity: string, plans: Map<string, Readonly<Record<string, Metric>>>) {
    this.#file = file;
    this.#identity = identity;
    this.#plans = plans;
  }

  /**
   * @param folder where the files of all settings lie side by side, which no other process writes meanwhile
   * @throws WanqError CACHE_INVALID
   */
  static async open(folder: string, settings: EvaluationSettings): Promise<Evaluations> {
    const identity = sha256(JSON.stringify(settings));
    const file = path.join(folder, `evaluations-${identity.slice(0, 12)}.json`);
    await removeTemporarySiblings(file);
    if (!(await exists(file))) return new Evaluations(file, identity, new Map());
    const found = await readJson(file, schema as z.ZodType<z.output<typeof schema>>, 'CACHE_INVALID');
    if (found.identity !== identity) {
      throw new WanqError('CACHE_INVALID', `${printable(file)} holds evaluations with other settings`, {
        hint: 'remove it',
      });
    }
    return new Evaluations(file, identity, new Map(found.plans.map((plan) => [keyOf(plan.givenBack), plan.metrics])));
  }

  /** @param givenBack names of linears, in the order of the plan */
  get(givenBack: readonly string[]): Readonly<Record<string, Metric>> | undefined {
    return this.#plans.get(keyOf(givenBack));
  }

  async set(givenBack: readonly string[], metrics: Readonly<Record<string, Metric>>): Promise<void> {
    this.#plans.set(keyOf(givenBack), metrics);
    const plans = [...this.#plans].map(([key, of]) => ({ givenBack: JSON.parse(key) as string[], metrics: of }));
    const value = { schema: EVALUATIONS_SCHEMA, identity: this.#identity, plans };
    await writeAtomic(this.#file, `${JSON.stringify(value, figureText, 2)}\n`);
  }
}

function keyOf(givenBack: readonly string[]): string {
  return JSON.stringify(givenBack);
}
