import { readFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import type { Check, Seen } from '../finding.js';

/** @param cpuinfo text of /proc/cpuinfo */
export function judgeKernels(arch: string, cpuinfo: string): Seen {
  const flags = new Set(
    cpuinfo
      .match(/^(?:flags|Features)\s*:(.*)$/m)?.[1]
      ?.trim()
      .split(/\s+/),
  );
  const has = (...names: string[]): string[] => names.filter((name) => flags.has(name));
  if (flags.size === 0) return { status: 'note', seen: 'the instructions of this CPU are unknown' };
  if (arch === 'arm64') {
    const found = has('i8mm', 'asimddp');
    if (found.length > 0) return { status: 'ok', seen: `INT8 products in hardware: ${found.join(', ')}` };
    return {
      status: 'note',
      seen: 'no dot products of INT8 (asimddp): quantized models are slower than they could be',
    };
  }
  const vnni = has('amx_int8', 'avx512_vnni', 'avx_vnni');
  if (vnni.length > 0) return { status: 'ok', seen: `INT8 products in hardware: ${vnni.join(', ')}` };
  const wide = has('avx512bw', 'avx2');
  if (wide.length > 0) {
    return {
      status: 'note',
      seen: `${wide[0]} without VNNI: products of UINT8 and INT8 are slower here, and can saturate`,
      mend: 'judge the quality of models for ort-cpu on a CPU with VNNI',
    };
  }
  return { status: 'note', seen: 'neither AVX2 nor VNNI: quantized models are slow here' };
}

export const kernelsCheck: Check = {
  name: 'INT8 kernels',
  look: async () => {
    const text = process.platform === 'linux' ? await readFile('/proc/cpuinfo', 'utf8').catch(() => '') : '';
    const { seen, ...rest } = judgeKernels(process.arch, text);
    const processors = cpus();
    const model = processors[0]?.model.trim() || 'a CPU';
    return [{ ...rest, seen: `${seen} (${processors.length} x ${model})` }];
  },
};
