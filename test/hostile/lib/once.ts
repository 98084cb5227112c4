import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Input } from './case.js';
import { Place } from './place.js';

/** What is made of an input, once for all cases. */
export function once<T>(make: (place: Place) => Promise<T>): (input: Input) => Promise<T> {
  let made: Promise<T> | undefined;
  return (input) => {
    made ??= (async () => {
      const place = new Place(mkdtempSync(path.join(tmpdir(), 'wanq-hostile-once-')));
      try {
        await input(place);
        return await make(place);
      } finally {
        place.remove();
      }
    })();
    return made;
  };
}
