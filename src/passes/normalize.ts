import { inlineFunctions } from './inline-functions.js';
import { liftConstants } from './lift-constants.js';
import type { Pass } from './pass.js';

/** What every command does to a transformer before it looks for linears, so that all see the same ones whatever tool wrote the graph. */
export const NORMALIZE: readonly Pass[] = [inlineFunctions, liftConstants];
