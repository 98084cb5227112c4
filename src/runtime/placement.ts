import { mkdtemp, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { MAX_PROFILE_BYTES } from '../limits.js';
import { readBounded } from '../util/files.js';
import type { RuntimeHost } from './host.js';
import type { Feed, ModelSource, SessionOptions } from './protocol.js';

const profile = z.array(
  z.looseObject({
    cat: z.string().optional(),
    name: z.string().optional(),
    args: z.looseObject({ provider: z.string().optional() }).optional(),
  }),
);

/**
 * Which provider took each node of a graph, from onnxruntime's profile of one run: a provider that took the model may leave nodes to the CPU.
 *
 * @param scratch folder that the profile is written into, and removed from
 * @returns nodes of each provider, by onnxruntime's names of them
 */
export async function nodePlacement(
  host: RuntimeHost,
  { source, options, feeds }: { source: ModelSource; options: SessionOptions; feeds: Readonly<Record<string, Feed>> },
  scratch: string,
): Promise<Record<string, number>> {
  const folder = await mkdtemp(path.join(scratch, 'profile-'));
  try {
    const session = await host.createSession(source, { ...options, profilePrefix: path.join(folder, 'run') });
    await session.run(feeds);
    await session.endProfiling();
    await session.release();
    const [file = ''] = await readdir(folder);
    return countNodes(new TextDecoder().decode(await readBounded(path.join(folder, file), MAX_PROFILE_BYTES)));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** @param text of a profile, JSON */
export function countNodes(text: string): Record<string, number> {
  const providers = new Map<string, string>();
  for (const { cat, name, args } of profile.parse(JSON.parse(text))) {
    if (cat === 'Node' && name !== undefined && args?.provider) providers.set(name, args.provider);
  }
  const counts: Record<string, number> = {};
  for (const provider of providers.values()) counts[provider] = (counts[provider] ?? 0) + 1;
  return counts;
}
