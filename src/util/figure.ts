import { z } from 'zod';

/** A measured number in JSON, which has no infinities: they travel as text. null: not measured. */
export const figure = z
  .union([z.number(), z.enum(['Infinity', '-Infinity', 'NaN']), z.null()])
  .transform((value) => (typeof value === 'string' ? Number(value) : value));
