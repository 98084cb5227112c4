import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll } from 'vitest';
import { RuntimeHost } from '../../../src/runtime/host.js';

/** A folder that is removed after the file's tests. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'wanq-test-'));
  afterAll(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A runtime that is closed after the file's tests. */
export function sharedHost(): RuntimeHost {
  const host = new RuntimeHost();
  afterAll(() => host.close());
  return host;
}
