import { WanqError } from '../errors.js';
import type { Model } from '../ir/graph.js';

/** One transformation of a model, in place. Running it twice changes nothing the second time. */
export interface Pass {
  readonly name: string;
  /** One line for `--help` and logs. */
  readonly description: string;
  /** @throws WanqError where the model is not one the pass can work on */
  requires?(model: Model): void;
  /** @returns what it did, as one line to read ("dropped 3 nodes"), or undefined where there was nothing to do */
  run(model: Model): string | undefined;
  /** @returns what is wrong with the result, or undefined; a defect of the pass, not of the model. */
  ensures?(model: Model): string | undefined;
}

/** A pass that changed a model, and what it did. */
export interface PassReport {
  readonly pass: string;
  readonly did: string;
}

/**
 * Runs passes in order.
 * @returns the passes that changed something
 * @throws WanqError of a pass's `requires`
 */
export function runPasses(model: Model, passes: readonly Pass[]): PassReport[] {
  return passes.flatMap((pass) => {
    pass.requires?.(model);
    const did = pass.run(model);
    const defect = pass.ensures?.(model);
    if (defect !== undefined) throw new Error(`pass ${pass.name} left the model broken: ${defect}`);
    return did === undefined ? [] : [{ pass: pass.name, did }];
  });
}

/** @returns "1 node", "2 nodes"; undefined for none, which is what a pass returns that did nothing */
export function counted(count: number, noun: string): string | undefined {
  return count === 0 ? undefined : `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** A requirement several passes share. @throws WanqError MODEL_UNSUPPORTED */
export function requireOpset(model: Model, least: number, why: string): void {
  if (model.opset >= least) return;
  throw new WanqError('MODEL_UNSUPPORTED', `the model uses opset ${model.opset}, and ${why} needs opset ${least}`, {
    hint: `export it again with opset ${least} or newer`,
  });
}
