import type { Option } from 'commander';

/** Options as a command line has them; those that have their default are left out. */
export function argumentsOf(options: readonly Option[], flags: Readonly<Record<string, unknown>>): string[] {
  return options.flatMap((option) => {
    const value = flags[option.attributeName()];
    if (option.negate) return value === false ? [option.long as string] : [];
    if (value === true) return [option.long as string];
    if (value === undefined || String(value) === String(option.defaultValue)) return [];
    return [option.long as string, String(value)];
  });
}
