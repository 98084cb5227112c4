import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = path.resolve(fileURLToPath(new URL('../..', import.meta.url)));
export const MICRO = path.join(ROOT, 'fixtures', 'micro-wan');
export const MICRO_PIPELINE = path.join(MICRO, 'pipeline');
export const FULL_SHAPE = path.join(ROOT, 'fixtures', 'full-shape');
export const MICRO_COMPONENTS = ['transformer', 'text_encoder', 'vae_decoder', 'vae_encoder'] as const;
