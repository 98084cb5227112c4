import type { Survey } from './survey.js';
import type { Unit, UnitKind } from './units.js';

/** The blocks of a transformer, in the order of the residual stream. */
export interface Blocks {
  readonly blocks: readonly (readonly Unit[])[];
  /** Whether each part reads what the one before it wrote. */
  readonly chained: boolean;
  /** Whether all blocks have their three parts, and what several have is of one shape. */
  readonly alike: boolean;
}

const ORDER: Readonly<Record<UnitKind, number>> = { attn1: 0, attn2: 1, ffn: 2 };

/** Groups what stands on the residual stream into blocks: one begins wherever its parts begin anew. */
export function groupBlocks(units: readonly Unit[], survey: Survey): Blocks {
  const stream = units.toSorted((a, b) => survey.of(a.entry).depth - survey.of(b.entry).depth);
  const blocks: Unit[][] = [];
  for (const unit of stream) {
    const last = blocks.at(-1)?.at(-1);
    if (last && ORDER[unit.kind] > ORDER[last.kind]) blocks.at(-1)?.push(unit);
    else blocks.push([unit]);
  }
  const chained = stream.every((unit, i) => {
    const before = stream[i - 1]?.exit ?? 0n;
    return (survey.of(unit.entry).near & before) === before;
  });
  return { blocks, chained, alike: blocks.every(isComplete) && areAlike(blocks) };
}

/** Whether a block attends to the latents and then to the text, as a Wan transformer's do. */
export function attendsToBoth(block: readonly Unit[]): boolean {
  return block[0]?.kind === 'attn1' && block[1]?.kind === 'attn2';
}

/** Whether a block has its three parts. */
function isComplete(block: readonly Unit[]): boolean {
  return block.length === Object.keys(ORDER).length;
}

/** Whether a linear that several blocks have has one shape in all of them. */
function areAlike(blocks: readonly (readonly Unit[])[]): boolean {
  const shapes = new Map<string, string>();
  return blocks.flat().every(({ kind, parts }) =>
    parts.every(({ name, linear: { inFeatures, outFeatures } }) => {
      const [key, shape] = [`${kind}.${name}`, `${inFeatures}x${outFeatures}`];
      if (!shapes.has(key)) shapes.set(key, shape);
      return shapes.get(key) === shape;
    }),
  );
}
