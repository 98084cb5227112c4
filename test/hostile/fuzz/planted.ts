import { WanqError } from '../../../src/errors.js';

/** Defects that are there on purpose, by index: what the fuzzer must see. */
export const PLANTED = ['nothing', 'rejection', 'type-error', 'hang', 'death', 'memory'] as const;

export function isPlanted(kind: string): kind is 'planted' {
  return kind === 'planted';
}

export async function planted(index: number): Promise<void> {
  switch (PLANTED[index]) {
    case 'rejection':
      throw new WanqError('MODEL_INVALID', 'as it must be');
    case 'type-error':
      (undefined as unknown as { value: { of: string } }).value.of.trim();
      break;
    case 'hang':
      for (;;);
    case 'death':
      process.kill(process.pid, 'SIGKILL');
      await new Promise(() => {});
      break;
    case 'memory': {
      const held = new Uint8Array(200 * 2 ** 20).fill(1);
      if (held[0] !== 1) throw new Error('never');
      break;
    }
  }
}
