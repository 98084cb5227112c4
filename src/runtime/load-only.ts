import type { SessionOptions } from './protocol.js';

/** Larger models are loaded to check them, and not run unless that is asked for: a run brings all weights into memory. */
export const RUN_UP_TO_BYTES = 256e6;

/**
 * Loads a model without bringing its weights into memory. With a memory pattern, onnxruntime would ask for room for all of them at once, and
 * be refused where they are larger than the machine's memory.
 */
export const LOAD_ONLY: SessionOptions = {
  providers: ['cpu'],
  optimization: 'disabled',
  prepack: false,
  memoryPattern: false,
};
