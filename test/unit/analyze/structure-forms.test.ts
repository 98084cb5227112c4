import { describe, expect, it } from 'vitest';
import { findLinears } from '../../../src/analyze/linears.js';
import { type StructuralRole, structuralInputs, structuralRoles } from '../../../src/analyze/structure.js';
import { int, ints } from '../../../src/ir/attribute.js';
import { type Dim, Graph, Node, type NodeFields, type Value } from '../../../src/ir/graph.js';
import { Tensor } from '../../../src/ir/tensor.js';

const DIM = 8;
const MICROSOFT = 'com.microsoft';

/** What is drawn otherwise than in the plain transformer. */
interface Form {
  attention?:
    | 'MultiHeadAttention'
    | 'Attention'
    | 'packed weights'
    | 'packed linear'
    | 'probabilities on the right'
    | 'masked'
    | 'softmax in parts';
  gelu?: 'BiasGelu' | 'FastGelu' | 'tanh' | 'erf' | 'Relu';
  patch?: 'MatMul' | 'Conv2d' | 'of latents and a condition';
  latents?: Dim[] | null;
  text?: 'as it comes' | 'none' | 'with an image' | 'with an image in one Split';
  time?: 'none' | 'four modulations' | 'tokens';
  feedForward?: 'parallel to cross attention' | 'missing in block 1' | 'none' | 'wider in block 1';
  weightOf?: 'text keys computed';
  operands?: 'omitted';
}

/** Draws a transformer of two blocks. Each weight is named after the role that its linear has. */
class Drawing {
  readonly nodes: Node[] = [];
  readonly initializers: Tensor[] = [];
  readonly #form: Form;

  constructor(form: Form) {
    this.#form = form;
  }

  transformer(): Graph {
    const { latents = ['b', 4, 'f', 'h', 'w'], text, time } = this.#form;
    const modulation = time === 'none' ? undefined : this.#time();
    const condition = text === 'none' ? undefined : this.#condition();
    let stream = this.#patches();
    for (const n of [0, 1]) stream = this.#block(n, stream, modulation?.projected, condition);
    const last = modulation ? this.op('Add', [this.#norm(stream), modulation.embedded]) : this.#norm(stream);
    this.#linear('proj_out', last, DIM, 16, 'output');
    const inputs: Value[] = [
      { name: 'text', dtype: 'float32', dims: ['b', 's', 12] },
      { name: 'image', dtype: 'float32', dims: ['b', 's', 20] },
      { name: 'time', dtype: 'int64', dims: time === 'tokens' ? ['b', 's'] : ['b'] },
      { name: 'latents', dtype: 'float32', dims: latents },
      { name: 'frame', dtype: 'float32', dims: latents },
    ];
    const outputs: Value[] = [{ name: 'output', dtype: 'float32', dims: null }];
    const used = inputs.filter(({ name }) => this.nodes.some((node) => node.inputs.includes(name)));
    return new Graph({ name: '', nodes: this.nodes, initializers: this.initializers, inputs: used, outputs });
  }

  op(opType: string, inputs: string[], fields: Partial<NodeFields> = {}): string {
    const output = fields.outputs?.[0] ?? `${opType}_${this.nodes.length}`;
    this.nodes.push(new Node({ opType, inputs, outputs: [output], ...fields }));
    return output;
  }

  #constant(name: string, dims: number[], dtype: 'float32' | 'int64' = 'float32'): string {
    const bytes = new Uint8Array(dtype === 'int64' ? 8 : 0).fill(name.startsWith('zero') ? 0 : 1);
    if (!this.initializers.some((tensor) => tensor.name === name)) {
      this.initializers.push(Tensor.fromBytes(name, dtype, dims, bytes));
    }
    return name;
  }

  #linear(role: string, input: string, from: number, to: number, output?: string): string {
    const product = this.op('MatMul', [input, this.#constant(role, [from, to])]);
    return this.op(
      'Add',
      [this.#constant(`bias of ${role}`, [to]), product],
      output === undefined ? {} : { outputs: [output] },
    );
  }

  #norm(value: string): string {
    const inputs = [value, this.#constant('ones', [DIM])];
    if (this.#form.operands !== 'omitted') return this.op('LayerNormalization', inputs);
    return this.op('LayerNormalization', [...inputs, ''], { outputs: [`norm_${this.nodes.length}`, '', ''] });
  }

  #patches(): string {
    const { patch } = this.#form;
    if (patch !== 'MatMul') {
      const image = patch === 'of latents and a condition' ? this.op('Concat', ['latents', 'frame']) : 'latents';
      const kernel = this.#constant('patch_embedding', patch === 'Conv2d' ? [DIM, 4, 2, 2] : [DIM, 4, 1, 2, 2]);
      return this.op('Transpose', [this.op('Reshape', [this.op('Conv', [image, kernel]), 'shape'])]);
    }
    const split = this.op('Reshape', ['latents', this.#constant('shape', [8], 'int64')]);
    const tokens = this.op('Reshape', [this.op('Transpose', [split]), this.#constant('shape', [8], 'int64')]);
    return this.#linear('patch_embedding', tokens, 16, DIM);
  }

  #time(): { embedded: string; projected: string } {
    const silu = (value: string): string => this.op('Mul', [value, this.op('Sigmoid', [value])]);
    const angles = this.op('Mul', [
      this.op('Cast', ['time'], { attributes: [int('to', 1)] }),
      this.#constant('waves', [3]),
    ]);
    const waves = this.op('Concat', [this.op('Cos', [angles]), this.op('Sin', [angles])]);
    // As many copies as the latents have tokens: a shape is no data.
    const repeated = this.op('Expand', [waves, this.op('Shape', ['latents'])]);
    const embedded = this.#linear('time_embedder.2', silu(this.#linear('time_embedder.1', repeated, 6, DIM)), DIM, DIM);
    // Its type is the text's, and nothing else of it is.
    const typed = this.#form.text === 'none' ? embedded : this.op('CastLike', [embedded, 'text']);
    const parts = this.#form.time === 'four modulations' ? 4 : 6;
    return { embedded: typed, projected: this.#linear('time_proj', silu(typed), DIM, parts * DIM) };
  }

  #condition(): { text: string; image?: string } {
    const { text } = this.#form;
    if (text === 'as it comes') return { text: 'text' };
    const embed = (name: string, from: string, width: number): string => {
      const hidden = this.op('Gelu', [this.#linear(`${name}_embedder.1`, from, width, DIM)]);
      return this.#linear(`${name}_embedder.2`, hidden, DIM, DIM);
    };
    const embedded = embed('text', 'text', 12);
    if (text === undefined) return { text: embedded };
    const image = embed('image', this.op('LayerNormalization', ['image', this.#constant('many ones', [20])]), 20);
    const joined = this.op('Concat', [image, embedded]);
    if (text === 'with an image in one Split') {
      this.op('Split', [joined], { outputs: ['image part', 'text part'] });
      return { text: 'text part', image: 'image part' };
    }
    const [zero, length, end] = ['zero', 'length', 'end'].map((name) => this.#constant(name, [1], 'int64'));
    const start = this.op('Reshape', [this.op('Cast', [zero as string]), 'shape']);
    return {
      text: this.op('Slice', [joined, length as string, end as string]),
      image: this.op('Slice', [joined, start, length as string]),
    };
  }

  #block(
    n: number,
    stream: string,
    modulation: string | undefined,
    condition: { text: string; image?: string } | undefined,
  ): string {
    const { feedForward } = this.#form;
    const modulated = (value: string): string =>
      modulation ? this.op('Mul', [this.#norm(value), modulation]) : this.#norm(value);
    const attended = this.op('Add', [stream, this.#selfAttention(`blocks.${n}.attn1`, modulated(stream))]);
    const crossed = condition
      ? this.op('Add', [attended, this.#crossAttention(`blocks.${n}.attn2`, this.#norm(attended), condition)])
      : attended;
    if (feedForward === 'none' || (feedForward === 'missing in block 1' && n === 1)) return crossed;
    const source = feedForward === 'parallel to cross attention' ? attended : crossed;
    const wide = feedForward === 'wider in block 1' && n === 1 ? 64 : 32;
    const up = this.#linear(`blocks.${n}.ffn.up`, modulated(source), DIM, wide);
    return this.op('Add', [crossed, this.#linear(`blocks.${n}.ffn.down`, this.#gelu(up), wide, DIM)]);
  }

  #gelu(value: string): string {
    const { gelu = 'Gelu' } = this.#form;
    if (gelu === 'BiasGelu') return this.op(gelu, [value, this.#constant('bias', [32])], { domain: MICROSOFT });
    if (gelu === 'FastGelu') return this.op(gelu, [value], { domain: MICROSOFT });
    if (gelu === 'Gelu' || gelu === 'Relu') return this.op(gelu, [value]);
    const bent = this.op(gelu === 'erf' ? 'Erf' : 'Tanh', [this.op('Mul', [value, this.#constant('scale', [])])]);
    return this.op('Mul', [value, this.op('Add', [bent, this.#constant('one', [])])]);
  }

  #selfAttention(role: string, input: string): string {
    const { attention } = this.#form;
    if (attention === 'packed weights') {
      const weights = this.#constant(`packed ${role}`, [DIM, 3 * DIM]);
      const result = this.op('Attention', [input, weights], { domain: MICROSOFT });
      return this.#linear(`${role}.out`, result, DIM, DIM);
    }
    if (attention === 'packed linear') {
      const packed = this.#linear(`${role}.qkv`, input, DIM, 3 * DIM);
      const [q, k, v] = ['q', 'k', 'v'].map((name) => `${name} of ${role}`) as [string, string, string];
      this.op('Split', [packed], { outputs: [q, k, v] });
      return this.#linear(`${role}.out`, this.#attend(this.#rotate(q), this.#rotate(k), v), DIM, DIM);
    }
    const [q, k, v] = ['q', 'k', 'v'].map((name) => this.#linear(`${role}.${name}`, input, DIM, DIM)) as [
      string,
      string,
      string,
    ];
    const result = this.#attend(this.#rotate(this.#rms(q)), this.#rotate(this.#rms(k)), v);
    return this.#linear(`${role}.out`, result, DIM, DIM);
  }

  #crossAttention(role: string, input: string, { text, image }: { text: string; image?: string }): string {
    const width = text === 'text' ? 12 : DIM;
    const q = this.#rms(this.#linear(`${role}.q`, input, DIM, DIM));
    const attend = (from: string, prefix: string): string => {
      const k = this.#form.weightOf
        ? this.op('MatMul', [from, this.op('Mul', ['unknown', 'unknown'])])
        : this.#linear(`${role}.${prefix}k`, from, width, DIM);
      return this.#attend(q, this.#rms(k), this.#linear(`${role}.${prefix}v`, from, width, DIM));
    };
    const fromText = attend(text, '');
    const result = image === undefined ? fromText : this.op('Add', [fromText, attend(image, 'add_')]);
    return this.#linear(`${role}.out`, result, DIM, DIM);
  }

  #rms(value: string): string {
    const omitted = this.#form.operands === 'omitted' ? [''] : [];
    return this.op('SimplifiedLayerNormalization', [value, this.#constant('ones', [DIM]), ...omitted]);
  }

  #rotate(value: string): string {
    const tables = ['cosines', 'sines'].map((name) => this.#constant(name, [16, DIM]));
    return this.op('RotaryEmbedding', [value, this.#constant('positions', [16], 'int64'), ...tables], {
      domain: MICROSOFT,
    });
  }

  #attend(q: string, k: string, v: string): string {
    const { attention } = this.#form;
    if (attention === 'MultiHeadAttention') return this.op(attention, [q, k, v], { domain: MICROSOFT });
    if (attention === 'Attention') return this.op(attention, [q, k, v]);
    const swapped = this.op('Transpose', [attention === 'probabilities on the right' ? q : k], {
      attributes: [ints('perm', [0, 1, 3, 2])],
    });
    const scores =
      attention === 'probabilities on the right' ? this.op('MatMul', [k, swapped]) : this.op('MatMul', [q, swapped]);
    const scaled = this.op('Mul', [this.#constant('scale', []), scores]);
    const masked = attention === 'masked' ? this.op('Add', [scaled, this.#constant('mask', [1])]) : scaled;
    const probabilities = this.op('Cast', [this.#softmax(this.op('Cast', [masked]))]);
    return attention === 'probabilities on the right'
      ? this.op('MatMul', [this.op('Transpose', [v]), probabilities])
      : this.op('MatMul', [probabilities, v]);
  }

  #softmax(scores: string): string {
    if (this.#form.attention !== 'softmax in parts') return this.op('Softmax', [scores]);
    const exponentials = this.op('Exp', [this.op('Sub', [scores, this.op('ReduceMax', [scores])])]);
    return this.op('Div', [exponentials, this.op('ReduceSum', [exponentials])]);
  }
}

const draw = (form: Form): Graph => new Drawing(form).transformer();

/** The role of every linear by the one that its weight is named after. */
function roles(graph: Graph): Map<string, StructuralRole | undefined> {
  const linears = findLinears(graph);
  const found = structuralRoles(graph, linears);
  return new Map(linears.map(({ node, weight }) => [weight.name, found.get(node)]));
}

function wrong(graph: Graph): string[] {
  return [...roles(graph)].flatMap(([name, found]) => (found?.role === name ? [] : [`${name}: ${found?.role}`]));
}

function confidences(graph: Graph): Set<string | undefined> {
  return new Set([...roles(graph).values()].map((found) => found?.confidence));
}

describe('structuralRoles', () => {
  it.each<Form>([
    {},
    { attention: 'MultiHeadAttention' },
    { attention: 'Attention' },
    { attention: 'packed weights' },
    { attention: 'packed linear' },
    { attention: 'probabilities on the right' },
    { attention: 'masked' },
    { attention: 'softmax in parts' },
    { gelu: 'BiasGelu' },
    { gelu: 'FastGelu' },
    { gelu: 'tanh' },
    { gelu: 'erf' },
    { patch: 'MatMul' },
    { patch: 'of latents and a condition' },
    { operands: 'omitted' },
    { latents: null },
    { text: 'as it comes' },
    { text: 'with an image' },
    { text: 'with an image in one Split' },
    { time: 'tokens' },
  ])('are known and certain: %o', (form) => {
    const graph = draw(form);
    expect(roles(graph).size).toBeGreaterThan(20);
    expect(wrong(graph)).toEqual([]);
    expect(confidences(graph)).toEqual(new Set(['high']));
  });

  it.each<[Form, string]>([
    [{ gelu: 'Relu' }, 'medium'],
    [{ feedForward: 'missing in block 1' }, 'medium'],
    [{ feedForward: 'none' }, 'medium'],
    [{ feedForward: 'wider in block 1' }, 'medium'],
    [{ feedForward: 'parallel to cross attention' }, 'low'],
  ])('say what is not certain: %o', (form, confidence) => {
    const graph = draw(form);
    expect(wrong(graph)).toEqual([]);
    expect(confidences(graph)).toEqual(new Set(['high', confidence]));
    expect(roles(graph).get('proj_out')?.confidence).toBe('high');
  });

  it('name a linear that makes queries, keys and values at once after all of them', () => {
    const found = roles(draw({ attention: 'packed linear' })).get('blocks.1.attn1.qkv');
    expect(found?.evidence).toBe(
      "its output is the rows of a self-attention's scores, and the columns of a self-attention's scores, and what a self-attention's softmax weighs; first of 3 groups in block 1 of 2",
    );
  });

  it('do not take the linear before an unknown product for the product', () => {
    const graph = draw({ weightOf: 'text keys computed' });
    expect(wrong(graph)).toEqual([]);
    expect([...roles(graph).keys()]).not.toContain('blocks.0.attn2.k');
    expect(confidences(graph)).toEqual(new Set(['high']));
  });

  it.each<Form>([
    { text: 'none' },
    { time: 'none' },
    { time: 'four modulations' },
    { patch: 'Conv2d' },
    { latents: ['b', 4, 'h', 'w'] },
  ])('are none for another architecture: %o', (form) => {
    const graph = draw(form);
    expect(structuralRoles(graph, findLinears(graph))).toEqual(new Map());
  });

  it('come with a sentence', () => {
    expect(roles(draw({})).get('blocks.1.ffn.up')?.evidence).toBe(
      'its output goes through GELU into a linear of the reverse shape; third of 3 groups in block 1 of 2',
    );
  });

  it('are none without linears', () => {
    expect(structuralRoles(draw({}), [])).toEqual(new Map());
  });
});

describe('structuralInputs', () => {
  it('tells a text from an image', () => {
    const { latents, timestep, text } = structuralInputs(draw({ text: 'with an image' }));
    expect([latents, timestep, text].map((value) => value?.name)).toEqual(['latents', 'time', 'text']);
  });

  it('tells latents of unknown rank by the moves of their axes', () => {
    expect(structuralInputs(draw({ latents: null, patch: 'MatMul' })).latents?.name).toBe('latents');
  });

  it('leaves out what is missing or has another rank', () => {
    const inputs = structuralInputs(draw({ text: 'none', latents: ['b', 4, 'h', 'w'] }));
    expect(inputs).toEqual({ timestep: { name: 'time', dtype: 'int64', dims: ['b'] } });
  });
});
