import { isSingle, NORMALIZATION, walkBack } from './flow.js';
import type { Survey, UnnamedLinear } from './survey.js';

/** The linears before the blocks. */
export interface Embedders {
  readonly patch: UnnamedLinear;
  readonly time: readonly [first: UnnamedLinear, second: UnnamedLinear, projection: UnnamedLinear];
  /** Empty where cross attention reads the text as it comes. */
  readonly text: readonly UnnamedLinear[];
  /** Image-to-video models that take an image's features beside the text. */
  readonly image: readonly UnnamedLinear[];
}

/** Each block shifts, scales and gates two of its three parts. */
const MODULATIONS = 6;

/**
 * The linears before the blocks, by what they read: the latents are what one linear alone reads, the timestep starts a chain of three of which
 * the last one is six times as wide, and the text is what cross attention reads.
 *
 * @param textInputs graph inputs that the keys of cross attention depend on
 * @returns undefined where the patch embedding or the time path are not to be found, without which a graph is no Wan transformer's
 */
export function findEmbedders(survey: Survey, textInputs: bigint): Embedders | undefined {
  const roots = survey.readersOf(0n);
  const inputs = ({ activation }: UnnamedLinear): bigint => survey.of(activation).inputs;
  const isText = (root: UnnamedLinear): boolean => (inputs(root) & textInputs) !== 0n;
  const times = roots.filter((root) => !isText(root)).flatMap((root) => timeChain(root, survey));
  const [time] = times;
  if (!time || times.length !== 1) return undefined;
  const patches = roots.filter((root) => !isText(root) && root !== time[0]);
  const [patch] = patches;
  if (!patch || patches.length !== 1 || patch.outFeatures !== time[1].outFeatures) return undefined;
  // A condition of the latents' shape may be joined to them, a timestep may not.
  if (inputs(patch) === 0n || (inputs(patch) & inputs(time[0])) !== 0n) return undefined;
  const pairs = roots.filter(isText).flatMap((first) => {
    const second = survey.successorOf(first);
    return second && second.outFeatures === patch.outFeatures ? [[first, second]] : [];
  });
  const [images, texts] = [
    pairs.filter(([first]) => isNormalized(first, survey)),
    pairs.filter(([first]) => !isNormalized(first, survey)),
  ];
  return { patch, time, text: only(texts), image: only(images) };
}

function timeChain(first: UnnamedLinear, survey: Survey): [UnnamedLinear, UnnamedLinear, UnnamedLinear][] {
  const second = survey.successorOf(first);
  const projection = second && survey.successorOf(second);
  if (!projection || projection.outFeatures !== MODULATIONS * second.outFeatures) return [];
  // What else depended on would be no time path.
  return isSingle(survey.of(projection.activation).inputs) ? [[first, second, projection]] : [];
}

function isNormalized({ activation }: UnnamedLinear, { index }: Survey): boolean {
  let normalized = false;
  walkBack(activation, index, 64, ({ opType }) => {
    normalized ||= NORMALIZATION.test(opType);
    return !normalized;
  });
  return normalized;
}

function only(pairs: readonly (readonly UnnamedLinear[])[]): readonly UnnamedLinear[] {
  return pairs.length === 1 ? (pairs[0] as readonly UnnamedLinear[]) : [];
}
