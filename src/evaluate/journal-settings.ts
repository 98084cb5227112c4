import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { fingerprints } from '../pipeline/fingerprints.js';
import type { PipelineFolder } from '../pipeline/layout.js';
import { contentHash, sha256 } from '../util/hash.js';
import { VERSION } from '../version.js';
import type { Workbench } from './workbench.js';

/** All that the steps of an evaluation depend on: its options, what lies behind the paths among them, and the program. */
export async function journalSettings({
  options,
  reference,
  quantized,
}: Workbench): Promise<Readonly<Record<string, unknown>>> {
  const { shared: _, journal: _journal, signal: _signal, onProgress: _progress, onVideo, ...given } = options;
  const { clips, features, perceptual, weights, sensitivities } = given;
  const digest = (target: string | undefined) => (target === undefined ? null : contentHash(target));
  return {
    ...given,
    wanq: VERSION,
    reference: await modelsOf(reference),
    quantized: await modelsOf(quantized),
    clips: await digest(clips),
    features: await digest(features),
    perceptual: await digest(perceptual),
    weights: await digest(weights),
    sensitivities: sensitivities === undefined ? null : sha256(JSON.stringify([...sensitivities])),
    pictures: onVideo !== undefined,
  };
}

/** Fingerprints of all graphs of a pipeline, and hashes of its small files. */
async function modelsOf(folder: PipelineFolder): Promise<Readonly<Record<string, string>>> {
  const found = await fingerprints(folder);
  for (const entry of await readdir(folder.root, { withFileTypes: true })) {
    const names = entry.name.endsWith('.json') ? [entry.name] : await smallFiles(folder.path(entry.name), entry.name);
    for (const name of names) found[name] = await contentHash(folder.path(name));
  }
  return found;
}

async function smallFiles(folder: string, name: string): Promise<string[]> {
  // A component may be a link to a folder.
  const names = await readdir(folder).catch((): string[] => []);
  return names.filter((file) => file.endsWith('.json')).map((file) => path.join(name, file));
}
