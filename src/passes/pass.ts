import { WanqError } from '../errors.js';
import type { Model } from '../ir/graph.js';

/** One transformation of a model, in place. Running it twice changes nothing the second time. */
export interface Pass {
  readonly name: string;
  /** One line for `--help` and logs. */
  readonly description: string;
  /** @throws WanqError where the model is not one the pass can work on */
  requires?(model: Model): void;
  /** @returns whether anything changed */
  run(model: Model): boolean;
  /** @returns what is wrong with the result, or undefined; a defect of the pass, not of the model. */
  ensures?(model: Model): string | undefined;
}

/** Runs passes in order. @throws WanqError of a pass's `requires` */
export function runPasses(model: Model, passes: readonly Pass[]): string[] {
  return passes
    .filter((pass) => {
      pass.requires?.(model);
      const modified = pass.run(model);
      const defect = pass.ensures?.(model);
      if (defect !== undefined) throw new Error(`pass ${pass.name} left the model broken: ${defect}`);
      return modified;
    })
    .map(({ name }) => name);
}

/** A requirement several passes share. @throws WanqError MODEL_UNSUPPORTED */
export function requireOpset(model: Model, least: number, why: string): void {
  if (model.opset >= least) return;
  throw new WanqError('MODEL_UNSUPPORTED', `the model uses opset ${model.opset}, and ${why} needs opset ${least}`, {
    hint: `export it again with opset ${least} or newer`,
  });
}
