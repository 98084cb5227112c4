import { appendFileSync, cpSync, linkSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { lstat } from 'node:fs/promises';
import path from 'node:path';
import { WanqError } from '../../../src/errors.js';
import { encodeMessage, type Message } from '../../../src/onnx/schema.js';
import { openSeen } from '../../../src/util/files.js';
import { type Command, type End, type HostileCase, type Input, lettered, type Row } from '../lib/case.js';
import { ALL, calibrate, dryRun, inspect, quantizeDynamic } from '../lib/commands.js';
import { DATA_FILE, entriesOf, entryOf, external, isOf, MODEL, messageOf, PIPELINE, tensorOf } from '../lib/models.js';
import type { Place } from '../lib/place.js';
import { makeFifo, makeNode, makeSocket } from '../lib/special.js';
import { bytesField, joined } from '../lib/wire.js';

const FOLDER = `${PIPELINE}/transformer`;

/** Commands that open data files; `inspect` reads none. */
const READERS = [dryRun, calibrate, quantizeDynamic] as const;

/** For files that are not there: a graph is planned without its weights. */
const NEEDERS: readonly Command[] = [{ ...dryRun, expected: ['ok'] }, calibrate, quantizeDynamic];

type Made = Omit<HostileCase, 'id'>;

const locate = (
  what: string,
  location: string | ((place: Place) => string),
  expected: readonly End[] = REFUSED,
): Made => ({
  what,
  input: entriesOf((entries, place) => {
    const entry = entries.find(({ key }) => key === 'location') as Message;
    entry.value = typeof location === 'string' ? location : location(place);
    return undefined;
  }),
  commands: ALL,
  expected,
  control: external,
});

const REFUSED: readonly End[] = ['EXTERNAL_DATA_INVALID'];

/** A location of bytes that no text holds. */
const rawLocation = (what: string, bytes: readonly number[]): Made => ({
  what,
  input: tensorOf(external, isOf(DATA_FILE), (tensor) => {
    const others = (tensor.externalData as Message[]).filter(({ key }) => key !== 'location');
    const entry = joined(bytesField(1, 'location'), bytesField(2, Uint8Array.from(bytes)));
    return joined(encodeMessage('TensorProto', { ...tensor, externalData: others }), bytesField(13, entry));
  }),
  commands: ALL,
  expected: REFUSED,
  control: external,
});

const up = `../../../outside/${DATA_FILE}`;

const LOCATIONS: readonly Made[] = [
  locate('an absolute path to a file of somebody else', (place) => place.outside(DATA_FILE)),
  locate('an absolute path to its own file', (place) => place.path(FOLDER, DATA_FILE)),
  locate('`/dev/zero`', '/dev/zero'),
  locate('`/proc/self/environ`', '/proc/self/environ'),
  locate('`../` to a file of somebody else', up),
  locate('`../transformer/FILE`, its own file', `../transformer/${DATA_FILE}`),
  locate('`a/../../` to a file of somebody else', `a/../${up}`),
  locate('`./../` to a file of somebody else', `./${up}`),
  locate('`FILE/../FILE`', `${DATA_FILE}/../${DATA_FILE}`),
  { ...locate('`FILE/`', `${DATA_FILE}/`), commands: READERS },
  { ...locate('`.`', '.'), commands: READERS },
  locate('`..`', '..'),
  { ...locate('`./`', './'), commands: READERS },
  locate('`/`', '/'),
  locate('empty', ''),
  locate('a space', ' '),
  locate('NUL at its end', `${DATA_FILE}\0`),
  locate('NUL within it', `${DATA_FILE}\0.txt`),
  locate('NUL alone, as wanq names mounted files', '\x000'),
  { ...locate('a newline at its end', `${DATA_FILE}\n`), commands: NEEDERS },
  locate('backslashes to a file of somebody else', up.replaceAll('/', '\\')),
  locate('a backslash', `a\\${DATA_FILE}`),
  locate('`C:\\` and a path', `C:\\${DATA_FILE}`),
  locate('`C:` and a name', `C:${DATA_FILE}`),
  locate('`\\\\host\\share\\`', `\\\\host\\share\\${DATA_FILE}`),
  locate('`//host/share/`', `//host/share/${DATA_FILE}`),
  locate('`\\\\?\\C:\\`', `\\\\?\\C:\\${DATA_FILE}`),
  locate('a dot at its end', `${DATA_FILE}.`),
  locate('dots at its end', `${DATA_FILE}...`),
  locate('a space at its end', `${DATA_FILE} `),
  locate('a folder with a dot at its end', `a./${DATA_FILE}`),
  locate('a stream of a file', `${DATA_FILE}::$DATA`),
  locate('`CON`', 'CON'),
  locate('`nul.bin`', 'nul.bin'),
  locate('a name of 5,000 letters', 'x'.repeat(5000)),
  locate('a path of 2,000 folders', `${'a/'.repeat(2000)}x`),
  { ...locate('a name of 300 letters, which no file system holds', 'x'.repeat(300)), commands: READERS },
  rawLocation('bytes that are no UTF-8', [...Buffer.from(DATA_FILE), 0xff, 0xfe]),
  rawLocation('`../` in overlong UTF-8', [0xc0, 0xae, 0xc0, 0xae, 0xc0, 0xaf, 0x78]),
  locate('half a surrogate pair', `\ud800${DATA_FILE}`),
  { ...locate('other case', DATA_FILE.toUpperCase()), commands: NEEDERS, impossible: caseless },
  { ...locate('`%2e%2e/` to a file of somebody else', up.replaceAll('..', '%2e%2e')), commands: NEEDERS },
  { ...locate('`..` of full-width dots', up.replaceAll('.', '\uff0e')), commands: NEEDERS },
  { ...locate('a slash of another alphabet', `..\u2215${DATA_FILE}`), commands: NEEDERS },
  { ...locate('a URL of a file', (place) => `file://${place.outside(DATA_FILE)}`) },
  { ...locate('`~/` and a name', `~/${DATA_FILE}`), commands: NEEDERS },
  { ...locate('`$HOME/` and a name', `$HOME/${DATA_FILE}`), commands: NEEDERS },
  { ...locate('letters turned by a control character', `\u202e${DATA_FILE}`), commands: NEEDERS },
  { ...locate('a colour of the terminal', `\u001b[31m${DATA_FILE}`), commands: NEEDERS },
  { ...locate('a command of a CI job', `::error::${DATA_FILE}`) },
  { ...locate('a file that is not there', 'none.bin'), commands: NEEDERS },
  { ...locate('the graph itself', 'model.onnx'), commands: READERS, expected: ['ok', 'EXTERNAL_DATA_INVALID'] },
  { ...locate('`./FILE`', `./${DATA_FILE}`), expected: ['ok'] },
];

/** Letters of both cases name the same file on some systems. */
function caseless(): string | undefined {
  return process.platform === 'linux' ? undefined : 'this file system may not tell the cases apart';
}

/** The data file put elsewhere, with something else in its place. */
function instead(
  what: string,
  put: (file: string, place: Place) => void | Promise<void>,
  more: Partial<Made> = {},
): Made {
  return {
    what,
    input: async (place) => {
      await external.input(place);
      const file = place.path(FOLDER, DATA_FILE);
      renameSync(file, place.outside('moved'));
      await put(file, place);
    },
    commands: READERS,
    expected: REFUSED,
    control: external,
    ...more,
  };
}

const OK: Partial<Made> = { expected: ['ok'], commands: ALL };

/** A checkout in Hugging Face's cache: the pipeline's files are links into a folder of blobs. */
function huggingFace(what: string, blobsOf: string, expected: readonly End[]): Made {
  const snapshot = 'models--a--b/snapshots/main';
  return {
    what,
    input: async (place) => {
      await external.input(place);
      const folder = place.path(snapshot, 'transformer');
      const blobs = place.path('models--a--b/blobs');
      const others = place.path(blobsOf);
      for (const made of [folder, blobs, others]) mkdirSync(made, { recursive: true });
      for (const name of ['model.onnx', 'config.json']) {
        renameSync(place.path(FOLDER, name), path.join(blobs, name));
        symlinkSync(path.relative(folder, path.join(blobs, name)), path.join(folder, name));
      }
      cpSync(place.path(FOLDER), others, { recursive: true });
      for (const name of ['blocks.1.bin', 'rest.bin']) link(name);
      for (const name of BLOCK_FILES) link(name);
      rmSync(place.path(PIPELINE), { recursive: true });
      function link(name: string): void {
        symlinkSync(path.relative(folder, path.join(others, name)), path.join(folder, name));
      }
    },
    commands: READERS.map((command) => ({
      ...command,
      args: command.args.map((arg) => (arg === PIPELINE ? snapshot : arg)),
      control: command,
    })),
    expected,
    control: external,
  };
}

const BLOCK_FILES = [
  ...['to_k', 'to_out.0', 'to_q', 'to_v'].flatMap((part) => [`blocks.0.attn1.${part}`, `blocks.0.attn2.${part}`]),
  ...['ffn.net.0.proj', 'ffn.net.0.proj.bias', 'ffn.net.2', 'scale_shift_table'].map((part) => `blocks.0.${part}`),
];

const KINDS: readonly Made[] = [
  instead('a link to a file of somebody else', (file, place) => symlinkSync(place.outside(DATA_FILE), file)),
  instead('a relative link to a file of somebody else', (file) => symlinkSync(up, file)),
  instead('a link to a link to a file of somebody else', (file, place) => {
    symlinkSync(place.outside(DATA_FILE), place.path(FOLDER, 'between'));
    symlinkSync('between', file);
  }),
  instead('a link to a file that is not there', (file) => symlinkSync('nowhere', file), { commands: NEEDERS }),
  instead('a link to itself', (file) => symlinkSync(DATA_FILE, file)),
  instead('two links to one another', (file, place) => {
    symlinkSync(DATA_FILE, place.path(FOLDER, 'other'));
    symlinkSync('other', file);
  }),
  instead('a link to `/dev/zero`', (file) => symlinkSync('/dev/zero', file)),
  instead('a link to `/proc/self/environ`', (file) => symlinkSync('/proc/self/environ', file)),
  instead('a link to `/proc/self/mem`', (file) => symlinkSync('/proc/self/mem', file)),
  instead('a FIFO', makeFifo),
  instead('a socket', makeSocket),
  instead('a device', makeNode),
  instead('a folder', (file) => void mkdirSync(file)),
  instead('an empty file', (_, place) => place.write(`${FOLDER}/${DATA_FILE}`, '')),
  instead('a file that is a byte too short', (file, place) => {
    place.write(`${FOLDER}/${DATA_FILE}`, readFileSync(place.outside('moved')).subarray(0, -1));
    void file;
  }),
  {
    ...instead('a link of a folder to files of somebody else', () => {}),
    input: linkedFolder((place) => place.outside()),
  },
  {
    ...instead('a link of a folder to a folder inside', () => {}, OK),
    input: linkedFolder((place) => {
      mkdirSync(place.path(FOLDER, 'real'));
      cpSync(place.outside(DATA_FILE), place.path(FOLDER, 'real', DATA_FILE));
      return 'real';
    }),
  },
  instead(
    'a link to a file inside',
    (file, place) => {
      cpSync(place.outside('moved'), place.path(FOLDER, 'inside'));
      symlinkSync('inside', file);
    },
    OK,
  ),
  instead('a hard link, of which no path tells', (file, place) => linkSync(place.outside('moved'), file), OK),
  huggingFace('Hugging Face’s cache, where links lead into the repository’s blobs', 'models--a--b/blobs', ['ok']),
  huggingFace('the same, where links lead into the blobs of another repository', 'models--a--c/blobs', REFUSED),
  huggingFace('the same, where links lead into a folder beside the blobs', 'models--a--b/other', REFUSED),
];

function linkedFolder(target: (place: Place) => string): Input {
  const named = entriesOf((entries) => {
    (entries.find(({ key }) => key === 'location') as Message).value = `linked/${DATA_FILE}`;
    return undefined;
  });
  return async (place) => {
    await named(place);
    symlinkSync(target(place), place.path(FOLDER, 'linked'));
  };
}

/** Something else in place of the graph. */
function graphInstead(
  what: string,
  put: (file: string, place: Place) => void | Promise<void>,
  ends: readonly End[],
): Made {
  return {
    what: `the graph: ${what}`,
    input: async (place) => {
      await external.input(place);
      const file = place.path(MODEL);
      renameSync(file, place.outside('moved.onnx'));
      await put(file, place);
    },
    commands: [inspect, dryRun, calibrate],
    expected: ends,
    control: external,
  };
}

const GRAPHS: readonly Made[] = [
  graphInstead('a FIFO', makeFifo, ['NOT_READABLE']),
  graphInstead('a folder', (file) => void mkdirSync(file), ['NOT_READABLE', 'NOT_A_PIPELINE']),
  graphInstead('a socket', makeSocket, ['NOT_READABLE']),
  graphInstead('a link to `/dev/zero`', (file) => symlinkSync('/dev/zero', file), ['NOT_READABLE']),
  graphInstead('a link to itself', (file) => symlinkSync('model.onnx', file), [
    'NOT_READABLE',
    'NOT_FOUND',
    'NOT_A_PIPELINE',
  ]),
  graphInstead('a link to nothing', (file) => symlinkSync('nowhere', file), ['NOT_FOUND', 'NOT_A_PIPELINE']),
  {
    ...graphInstead('a link to a model elsewhere that the user made', () => {}, ['ok']),
    input: async (place) => {
      await external.input(place);
      renameSync(place.path(MODEL), place.outside('moved.onnx'));
      symlinkSync(place.outside('moved.onnx'), place.path(MODEL));
    },
  },
];

const swapping: Command['during'] = async ({ place, until }) => {
  const file = place.path(FOLDER, DATA_FILE);
  cpSync(file, place.path(FOLDER, 'kept'));
  let secret = false;
  await until(() => {
    rmSync(file, { force: true });
    secret = !secret;
    if (secret) symlinkSync(place.outside(DATA_FILE), file);
    else cpSync(place.path(FOLDER, 'kept'), file);
    return false;
  });
};

const RACES: readonly Row[] = [
  {
    id: '7a',
    what: 'a file that becomes a link between the look at it and its opening',
    expected: 'refused, and the file itself is opened',
    look: async (place) => {
      const file = place.path('data');
      place.write('data', 'own');
      const seen = await lstat(file, { bigint: true });
      const { handle } = await openSeen(file, seen);
      await handle.close();
      rmSync(file);
      symlinkSync(place.outside('secret'), file);
      return `${await refusal(openSeen(file, seen))}, and the file itself is opened`;
    },
  },
  {
    id: '7b',
    what: 'a file that becomes another file between the look at it and its opening',
    expected: 'refused',
    look: async (place) => {
      const file = place.path('data');
      place.write('data', 'own');
      const seen = await lstat(file, { bigint: true });
      renameSync(file, place.path('first'));
      cpSync(place.outside('secret'), file);
      return refusal(openSeen(file, seen));
    },
  },
  {
    id: '7c',
    what: 'a file that is a link to a file of somebody else and a file of its own by turns, every 5 ms',
    input: external.input,
    commands: [
      {
        ...dryRun,
        during: swapping,
        // The case itself changes these.
        outputs: [FOLDER],
        keeps: [FOLDER],
        control: dryRun,
      },
      { ...quantizeDynamic, during: swapping, outputs: ['out', FOLDER], keeps: [FOLDER], control: quantizeDynamic },
    ],
    expected: ['ok', 'EXTERNAL_DATA_INVALID', 'NOT_FOUND'],
    control: external,
    varies: true,
    slow: true,
  },
];

async function refusal(opened: ReturnType<typeof openSeen>): Promise<string> {
  const error = await opened.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  return error instanceof WanqError ? 'refused' : `not refused (${String(error)})`;
}

type Entry = 'offset' | 'length';

const set =
  (name: Entry, value: string) =>
  (entries: Message[]): Message[] => [...entries.filter(({ key }) => key !== name), { key: name, value }];

const NUMBERS = [
  ...['-1', '-4096', '1e30', '0x10', '1e3', 'NaN', 'Infinity', '', ' 16', '16 ', '+16', '1.5', '1_000', '9,216'],
  ...[
    '\uff11\uff16',
    '99999999999999999999',
    '9007199254740993',
    '18446744073709551615',
    '9223372036854775807',
    '4096\0',
  ],
];

const numbers = (['offset', 'length'] as const).flatMap((name) =>
  NUMBERS.map(
    (value): Made => ({
      what: `${name} ${JSON.stringify(value)}`,
      input: entriesOf(set(name, value)),
      commands: [dryRun, calibrate],
      expected: REFUSED,
      control: external,
      slow: name === 'length',
    }),
  ),
);

const entries = (what: string, change: (entries: Message[]) => Message[], more: Partial<Made> = {}): Made => ({
  what,
  input: entriesOf(change),
  commands: ALL,
  expected: REFUSED,
  control: external,
  ...more,
});

const without =
  (name: string) =>
  (all: Message[]): Message[] =>
    all.filter(({ key }) => key !== name);

const ENTRIES: readonly Made[] = [
  ...numbers,
  entries('an offset past the end of the file', set('offset', '9216'), { commands: READERS }),
  entries('an offset far past the end of the file', set('offset', '4503599627370496'), { commands: READERS }),
  entries('an offset from which the tensor runs past the end', set('offset', '4'), { commands: READERS }),
  entries('a length that is not the shape’s', set('length', '9212')),
  entries('a length of 0', set('length', '0')),
  entries('no location', without('location')),
  entries('no entries', () => []),
  entries('the location twice', (all) => [...all, ...all.filter(({ key }) => key === 'location')]),
  entries('two offsets', (all) => [
    ...without('offset')(all),
    { key: 'offset', value: '0' },
    { key: 'offset', value: '4' },
  ]),
  entries('a key `__proto__`', (all) => [...all, { key: '__proto__', value: '{"length":4}' }]),
  entries('a key `constructor`', (all) => [...all, { key: 'constructor', value: 'x' }]),
  entries('a key `basepath` and no location', (all) => [...without('location')(all), { key: 'basepath', value: '/' }]),
  entries('keys in capitals', (all) => all.map(({ key, value }) => ({ key: String(key).toUpperCase(), value }))),
  entries('100,000 keys', (all) => [
    ...all,
    ...Array.from({ length: 100_000 }, (_, i) => ({ key: `k${i}`, value: 'x' })),
  ]),
  entries('an empty key', (all) => [...all, { key: '', value: 'x' }]),
  entries('no offset, which means the beginning', without('offset'), { expected: ['ok'] }),
  entries('no length, which means the shape’s', without('length'), { expected: ['ok'] }),
  {
    what: 'numbers that are right where the file is larger',
    input: async (place) => {
      await external.input(place);
      appendFileSync(place.path(FOLDER, DATA_FILE), Buffer.alloc(64));
    },
    commands: READERS,
    expected: ['ok'],
    control: external,
  },
];

const share = (what: string, change: (tensor: Message) => void, expected: readonly End[]): Made => ({
  what,
  input: tensorOf(external, isOf('blocks.0.attn1.to_q'), (tensor) => {
    change(tensor);
    return undefined;
  }),
  commands: READERS,
  expected,
  control: external,
});

const moveTo =
  (location: string, offset = '0') =>
  (tensor: Message): void => {
    (entryOf(tensor, 'location') as Message).value = location;
    tensor.externalData = set('offset', offset)(tensor.externalData);
  };

const OVERLAPS: readonly Made[] = [
  share('two tensors of one range, as tied weights are', moveTo(DATA_FILE), ['ok']),
  share('two tensors of one range by two names of the file', moveTo(`./${DATA_FILE}`), ['ok', 'EXTERNAL_DATA_INVALID']),
  {
    ...share('two tensors that overlap by four bytes', moveTo(DATA_FILE, '9212'), REFUSED),
    input: async (place) => {
      await share('', moveTo(DATA_FILE, '9212'), REFUSED).input(place);
      appendFileSync(place.path(FOLDER, DATA_FILE), Buffer.alloc(9212));
    },
  },
  {
    ...share('two tensors that overlap, by two names of the file', moveTo('second', '4'), REFUSED),
    input: async (place) => {
      await share('', moveTo('second', '4'), REFUSED).input(place);
      appendFileSync(place.path(FOLDER, DATA_FILE), Buffer.alloc(4));
      linkSync(place.path(FOLDER, DATA_FILE), place.path(FOLDER, 'second'));
    },
  },
  claimed(100_000, REFUSED),
  claimed(100, ['ok']),
];

/** A model in which many tensors lie in one place. */
function claimed(count: number, expected: readonly End[]): Made {
  return {
    what: `${count} tensors more in one place`,
    input: async (place) => {
      await messageOf(external, (graph) => {
        for (let i = 0; i < count; i++) {
          const location = { key: 'location', value: DATA_FILE };
          const fields = { name: `t${i}`, dataType: 1, dims: [2304], dataLocation: 1, externalData: [location] };
          (graph.initializer as Uint8Array[]).push(encodeMessage('TensorProto', fields));
        }
      })(place);
    },
    commands: READERS,
    expected,
    control: external,
  };
}

export const DATA_ROWS: readonly Row[] = [
  ...lettered(
    5,
    LOCATIONS.map((row) => ({ ...row, what: `location: ${row.what}` })),
  ),
  ...lettered(6, [...KINDS.map((row) => ({ ...row, what: `data file: ${row.what}` })), ...GRAPHS]),
  ...RACES,
  ...lettered(8, ENTRIES),
];

export const OVERLAP_ROWS: readonly Row[] = lettered(14, OVERLAPS);
