import type { Check, Seen } from '../finding.js';

/** Names of files are UTF-8 to Node whatever the locale is; only a terminal may show them otherwise. */
export function judgeLocale(platform: string, env: Readonly<Record<string, string | undefined>>): Seen {
  const charset = env.LC_ALL || env.LC_CTYPE || env.LANG;
  if (platform === 'win32') return { status: 'ok', seen: 'Windows: names are UTF-16' };
  if (!charset) return { status: 'ok', seen: 'not set; names of files are taken as UTF-8' };
  if (/utf-?8/i.test(charset)) return { status: 'ok', seen: charset };
  return {
    status: /^(C|POSIX)$/.test(charset) ? 'ok' : 'note',
    seen: `${charset}; names of files are taken as UTF-8 all the same`,
    ...(/^(C|POSIX)$/.test(charset) ? {} : { mend: 'set LC_ALL=C.UTF-8 where a terminal shows names wrongly' }),
  };
}

export const localeCheck: Check = {
  name: 'locale',
  look: async ({ env }) => [judgeLocale(process.platform, env)],
};
