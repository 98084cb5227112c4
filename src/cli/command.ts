import type { Command } from 'commander';
import type { Context } from './context.js';

/** What commander made of a command line. */
export interface Invocation {
  readonly positional: readonly string[];
  /** Options by camel-cased name, as the command declared them; each command casts them to what it declared. */
  readonly flags: Readonly<Record<string, unknown>>;
}

/** A command: its flags, and what it does with them. Returns an exit code if it is not 0. */
export interface CommandModule {
  readonly define: (command: Command) => Command;
  readonly run: (context: Context, invocation: Invocation) => Promise<number | undefined>;
}
