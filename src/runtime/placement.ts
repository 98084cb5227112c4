import { mkdtemp, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { MAX_PROFILE_BYTES } from '../limits.js';
import { readBounded } from '../util/files.js';
import { parseJson } from '../util/json.js';
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
 * @returns nodes of each provider, by onnxruntime's names of them; null as {@link countNodes}
 */
export async function nodePlacement(
  host: RuntimeHost,
  { source, options, feeds }: { source: ModelSource; options: SessionOptions; feeds: Readonly<Record<string, Feed>> },
  scratch: string,
): Promise<Record<string, number> | null> {
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

/**
 * @param text of a profile, JSON
 * @returns null where it cannot be read: onnxruntime writes names of nodes into it as they are, quotes and control characters included
 */
export function countNodes(text: string): Record<string, number> | null {
  let json: unknown;
  try {
    json = parseJson(text);
  } catch {
    return null;
  }
  const events = profile.safeParse(json);
  if (!events.success) return null;
  const providers = new Map<string, string>();
  for (const { cat, name, args } of events.data) {
    if (cat === 'Node' && name !== undefined && args?.provider) providers.set(name, args.provider);
  }
  const counts: Record<string, number> = {};
  for (const provider of providers.values()) counts[provider] = (counts[provider] ?? 0) + 1;
  return counts;
}
