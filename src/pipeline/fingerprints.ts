import { fingerprint, loadModel } from '../onnx/load.js';
import { COMPONENTS, type PipelineFolder } from './layout.js';

/** Fingerprints of the graphs that a pipeline has, by component. @throws WanqError as {@link loadModel} */
export async function fingerprints(folder: PipelineFolder): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const component of COMPONENTS) {
    if (!(await folder.has(component))) continue;
    const loaded = await loadModel(folder.modelPath(component));
    found[component] = await fingerprint(loaded).finally(() => loaded.close());
  }
  return found;
}
