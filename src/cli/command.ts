import type { Command } from 'commander';
import type { Context } from './context.js';

/** What commander made of a command line. */
export interface Invocation {
  readonly positional: readonly string[];
  /** Options by camel-cased name, as the command declared them; each command casts them to what it declared. */
  readonly flags: Readonly<Record<string, unknown>>;
  /** Names of the options that do not have their default. */
  readonly given: ReadonlySet<string>;
}

/** What a command does. Returns an exit code if it is not 0. */
export type Action = (context: Context, invocation: Invocation) => Promise<number | undefined>;

/** A command: its flags, and where its work is. */
export interface CommandModule {
  readonly define: (command: Command) => Command;
  /** Imported when the command runs: help and mistakes in flags do not wait for the libraries that the work needs. */
  readonly load: () => Promise<{ readonly run: Action }>;
}
