import { cpSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Model } from '../../../src/ir/graph.js';
import { decodeModel, encodeModel } from '../../../src/onnx/codec.js';
import { decodeMessage, encodeMessage, type Message } from '../../../src/onnx/schema.js';
import { MICRO_COMPONENTS, MICRO_PIPELINE } from '../../helpers/fixtures.js';
import { unpackVariant } from '../../helpers/variants.js';
import type { Control, Input } from './case.js';
import type { Place } from './place.js';

/** The pipeline that most cases are made of, and its graph. */
export const PIPELINE = 'p';
export const MODEL = `${PIPELINE}/transformer/model.onnx`;

/** A weight of {@link external} that has a data file of its own. */
export const DATA_FILE = 'blocks.0.attn1.to_k';

/** A tiny Wan transformer whose weights lie in data files. */
export const external: Control = { name: 'external data', input: variant('external-many') };

/** The same with its weights in the graph. */
export const inline: Control = { name: 'one file', input: variant('opset18') };

/** The micro pipeline, with everything that makes a video of a prompt. */
export const micro: Control = {
  name: 'micro pipeline',
  input: (place) => {
    const isGraph = (file: string): boolean => path.basename(file) === 'model.onnx';
    cpSync(MICRO_PIPELINE, place.path(PIPELINE), { recursive: true, filter: (file) => !isGraph(file) });
    // 20 MB that no case changes.
    for (const name of MICRO_COMPONENTS) {
      const file = path.join(name, 'model.onnx');
      symlinkSync(path.join(MICRO_PIPELINE, file), place.path(PIPELINE, file));
    }
    place.write('prompts.txt', 'a small red circle moving left over a dark background\n');
  },
};

export function variant(name: string): Input {
  return async (place) => {
    await unpackVariant(name, place.path(PIPELINE));
    // Readable to whoever looks where a location leads.
    if (name === 'external-many') {
      cpSync(place.path(PIPELINE, 'transformer', DATA_FILE), place.outside(DATA_FILE));
    }
  };
}

/** The control with the bytes of its graph changed. */
export function graphFile({ input }: Control, change: (bytes: Uint8Array, place: Place) => Uint8Array): Input {
  return async (place) => {
    await input(place);
    const file = place.path(MODEL);
    writeFileSync(file, change(readFileSync(file), place));
  };
}

/** The control with its graph changed as a model of the IR. */
export function graphOf(control: Control, change: (model: Model, place: Place) => void): Input {
  return graphFile(control, (bytes, place) => {
    const model = decodeModel(bytes);
    change(model, place);
    return encodeModel(model);
  });
}

/** The control with its graph changed as a message, in which nodes and tensors are bytes. */
export function messageOf(control: Control, change: (graph: Message, model: Message, place: Place) => void): Input {
  return graphFile(control, (bytes, place) => {
    const model = decodeMessage('ModelProto', bytes);
    const graph = decodeMessage('GraphProto', model.graph);
    change(graph, model, place);
    return encodeMessage('ModelProto', { ...model, graph: encodeMessage('GraphProto', graph) });
  });
}

/** The control with one of its tensors changed. */
export function tensorOf(
  control: Control,
  which: (tensor: Message) => boolean,
  change: (tensor: Message, place: Place) => Uint8Array | undefined,
): Input {
  return messageOf(control, (graph, _, place) => {
    const initializers = graph.initializer as Uint8Array[];
    const at = initializers.findIndex((bytes) => which(decodeMessage('TensorProto', bytes)));
    const tensor = decodeMessage('TensorProto', initializers[at] as Uint8Array);
    const changed = change(tensor, place);
    initializers[at] = changed ?? encodeMessage('TensorProto', tensor);
  });
}

/** The pipeline {@link external} with the entries of the external data of {@link DATA_FILE} changed. */
export function entriesOf(change: (entries: Message[], place: Place) => Message[] | undefined): Input {
  return tensorOf(external, isOf(DATA_FILE), (tensor, place) => {
    tensor.externalData = change(tensor.externalData, place) ?? tensor.externalData;
    return undefined;
  });
}

export const isOf =
  (location: string) =>
  (tensor: Message): boolean =>
    entryOf(tensor, 'location')?.value === location;

export function entryOf(tensor: Message, key: string): Message | undefined {
  return (tensor.externalData as Message[] | undefined)?.find((entry) => entry.key === key);
}

/** A file of the pipeline, written anew. */
export function withFile(control: Control, name: string, content: string | Uint8Array): Input {
  return async (place) => {
    await control.input(place);
    place.write(path.posix.join(PIPELINE, name), content);
  };
}

/** Joins inputs, one after the other. */
export function both(...inputs: readonly Input[]): Input {
  return async (place) => {
    for (const input of inputs) await input(place);
  };
}
