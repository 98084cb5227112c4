import { WanqError } from '../../errors.js';
import { RuntimeHost } from '../../runtime/host.js';
import type { Check, Place, Seen } from '../finding.js';
import { runTinyModel } from '../tiny-model.js';

const TIME_LIMIT_MS = 30_000;

const MEND: Readonly<Record<string, string>> = {
  cuda: 'install CUDA and cuDNN, and let the install script of onnxruntime-node run, which only downloads its CUDA libraries',
  tensorrt:
    'install TensorRT and CUDA, and let the install script of onnxruntime-node run, which only downloads its CUDA libraries',
  webgpu: 'install a Vulkan driver (Linux) or the driver of the GPU',
  dml: 'update Windows and the driver of the GPU',
  coreml: 'update macOS',
};

/** Does `work` in a process of its own, since a provider can take the whole process with it. */
async function apart<T>({ signal }: Place, work: (host: RuntimeHost) => Promise<T>): Promise<T> {
  const host = new RuntimeHost({ signal, timeoutMs: TIME_LIMIT_MS });
  try {
    return await work(host);
  } finally {
    await host.close();
  }
}

function problem(error: unknown): Seen {
  const { message, hint } = error as WanqError;
  // The doctor is who runs it.
  const mend = hint?.replace(/;? ?(run )?`wanq doctor`.*$/, '');
  return { status: 'problem', seen: message, ...(mend ? { mend } : {}) };
}

/** A provider that wanq can do without. */
async function lookAtProvider(place: Place, provider: string): Promise<Seen> {
  const mend = MEND[provider];
  try {
    const { wrong } = await apart(place, (host) => runTinyModel(host, provider));
    if (wrong === undefined) return { check: provider, status: 'ok', seen: 'runs a model' };
    return {
      status: 'note',
      check: provider,
      seen: `computes wrongly (${wrong})`,
      mend: 'update its driver, or do not use it',
    };
  } catch (error) {
    if (place.signal.aborted || !(error instanceof WanqError)) throw error;
    const reason = error.message
      .replace(/^no execution provider took the model: /, '')
      .replace(`${provider}: `, '')
      // Before the reason stands the condition in the sources.
      .replace(/^.* was false\. (?=\S)/, '');
    return {
      status: 'note',
      check: provider,
      seen: reason,
      ...(mend === undefined ? {} : { mend }),
    };
  }
}

/** Whether onnxruntime loads, which providers it has, and which of them run a model. */
export const onnxruntimeCheck: Check = {
  name: 'onnxruntime',
  look: async (place) => {
    try {
      const { status, wrong } = await apart(place, async (host) => ({
        status: await host.status(),
        wrong: (await runTinyModel(host, 'cpu')).wrong,
      }));
      const seen = `onnxruntime-node ${status.runtimeVersion}; cpu: `;
      if (wrong !== undefined) {
        return [
          {
            status: 'problem',
            seen: `${seen}computes wrongly (${wrong})`,
            mend: 'remove node_modules and install again',
          },
        ];
      }
      const others = status.backends.filter((name) => name !== 'cpu');
      const findings: Seen[] = [{ status: 'ok', seen: `${seen}runs a model` }];
      for (const provider of others) findings.push(await lookAtProvider(place, provider));
      return findings;
    } catch (error) {
      if (place.signal.aborted || !(error instanceof WanqError)) throw error;
      return [problem(error)];
    }
  },
};
