import { hostileText, mutateBytes } from './bytes.js';
import type { Random } from './random.js';

/** Marks a text that is to stand in the file without quotes: numbers that JavaScript has no text for, and what is no JSON. */
const RAW = '\u0001raw:';
const raw = (text: string): string => `${RAW}${text}\u0001`;

const NUMBERS = [
  0,
  -0,
  1,
  -1,
  0.5,
  1.5,
  -1e-9,
  5e-324,
  1e-30,
  1e30,
  1e308,
  -1e308,
  2 ** 31,
  2 ** 32,
  2 ** 53,
  2 ** 63,
  65_504,
  70_000,
  1e6,
] as const;

const RAW_NUMBERS = ['1e400', '-1e400', 'NaN', 'Infinity', '9007199254740993', '01', '-', '0x10', '1e', '.5'] as const;

/** What an object may have beside its own: keys that JavaScript's objects answer to. */
const KEYS = ['__proto__', 'constructor', 'toString', 'valueOf', 'length', 'prototype', 'hasOwnProperty', 'then', ''];

function leaf(random: Random): unknown {
  switch (random.below(7)) {
    case 0:
      return random.pick(NUMBERS);
    case 1:
      return raw(random.pick(RAW_NUMBERS));
    case 2:
      return hostileText(random);
    case 3:
      return null;
    case 4:
      return random.chance(0.5);
    case 5:
      return random.pick<unknown>([[], {}, [[]], [null], { a: 1 }, { toString: 1, valueOf: 1 }]);
    default:
      return raw(nested(random));
  }
}

function nested(random: Random): string {
  const depth = random.pick([3, 60, 1000, 20_000]);
  return random.chance(0.5)
    ? `${'['.repeat(depth)}${']'.repeat(depth)}`
    : `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`;
}

type Holder = Record<string | number, unknown>;

function holdersOf(value: unknown, found: Holder[] = []): Holder[] {
  if (typeof value === 'object' && value !== null) {
    found.push(value as Holder);
    // Long lists of figures are all alike.
    for (const inner of Object.values(value).slice(0, 200)) holdersOf(inner, found);
  }
  return found;
}

/** Sets an own property, whatever its name means otherwise. */
function define(holder: Holder, key: string, value: unknown): void {
  Object.defineProperty(holder, key, { value, enumerable: true, configurable: true, writable: true });
}

/** Changes one place of a tree of objects and lists. */
function mutateTree(root: unknown, random: Random): unknown {
  const holders = holdersOf(root);
  if (holders.length === 0 || random.chance(0.01)) return leaf(random);
  const holder = random.pick(holders);
  const keys = Object.keys(holder);
  const key = keys.length > 0 ? random.pick(keys) : Array.isArray(holder) ? '0' : random.pick(KEYS);
  const old = Object.hasOwn(holder, key) ? holder[key] : undefined;
  switch (random.below(9)) {
    case 0:
      if (Array.isArray(holder)) holder.splice(Number(key), 1);
      else delete holder[key];
      break;
    case 1:
      if (Array.isArray(holder)) holder.splice(random.below(holder.length + 1), 0, leaf(random), old);
      else
        define(
          holder,
          random.chance(0.7) ? random.pick(KEYS) : hostileText(random),
          random.chance(0.5) ? old : leaf(random),
        );
      break;
    case 2: {
      const other = random.pick(holders);
      // From elsewhere in the file: right in itself, wrong here.
      define(holder, key, structuredClone(other === root ? leaf(random) : other));
      break;
    }
    case 3:
      define(holder, key, [old]);
      break;
    case 4:
      define(holder, key, typeof old === 'number' ? String(old) : typeof old === 'string' ? Number(old) : { old });
      break;
    case 5:
      if (typeof old === 'number')
        define(holder, key, random.pick([-old, old + 1, old - 1, old * 1e9, old / 3, -old - 1]));
      else if (typeof old === 'string')
        define(holder, key, random.chance(0.5) ? old.slice(0, old.length >> 1) : `${old}${hostileText(random)}`);
      else define(holder, key, leaf(random));
      break;
    case 6:
      if (Array.isArray(holder)) holder.reverse();
      else {
        delete holder[key];
        define(holder, `${key}x`, old);
      }
      break;
    default:
      define(holder, key, leaf(random));
  }
  return root;
}

function textOf(value: unknown, random: Random): string {
  const text = JSON.stringify(value, null, random.chance(0.5) ? 2 : 0) ?? 'null';
  return text.replace(/"\\u0001raw:(.*?)\\u0001"/g, (_, inner: string) => inner.replaceAll('\\"', '"'));
}

/** Changes values of a JSON file. */
export function mutateJsonValue(json: unknown, random: Random): string {
  let value = structuredClone(json);
  for (let left = random.few(5); left > 0; left--) value = mutateTree(value, random);
  return textOf(value, random);
}

/** Changes the text of a JSON file, so that it may be none any more. */
function mutateJsonText(text: string, random: Random): string {
  switch (random.below(5)) {
    case 0:
      return `\ufeff${text}`;
    case 1:
      return `${text}${random.pick([',', '}', ']', '\0', text.slice(0, 1000), '// comment'])}`;
    case 2: {
      // The first key of an object, once more and with something else.
      const key = text.match(/\{\s*("[^"]*")\s*:/);
      return key?.[1] ? text.replace('{', () => `{${key[1]}:${random.pick(['1', 'null', '{}', '"x"'])},`) : text;
    }
    case 3:
      return text.replace(/\d+/g, (digits) => (random.chance(0.02) ? random.pick(RAW_NUMBERS) : digits));
    default:
      return nested(random);
  }
}

export function mutateJson(bytes: Uint8Array, random: Random, other: Uint8Array): Uint8Array {
  if (random.chance(0.15)) return mutateBytes(bytes, random, other);
  const text = new TextDecoder().decode(bytes);
  const made = random.chance(0.1) ? mutateJsonText(text, random) : mutateJsonValue(JSON.parse(text), random);
  return new TextEncoder().encode(made);
}
