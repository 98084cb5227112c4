import { judge } from '../../src/gate/judge.js';
import type { Rule } from '../../src/gate/rules.js';
import { MersenneTwister } from '../../src/numerics/rng.js';
import type { TensorHistogram } from '../../src/report/histograms.js';
import type { ReportInput } from '../../src/report/html/page.js';
import type { LinearRow, Metric, Results } from '../../src/report/results.js';
import { makeSheets, PAGE_SHEETS_BYTES, type SheetPictures } from '../../src/report/sheets.js';
import type { Frames } from '../../src/report/strip.js';

export interface SampleSize {
  readonly prompts: number;
  readonly steps: number;
  /** Blocks of ten linears, and seven around them. */
  readonly blocks: number;
  readonly frames: number;
  readonly height: number;
  readonly width: number;
}

/** The 5B's graph and chain, and videos of the micro pipeline's kind. */
export const SAMPLE: SampleSize = { prompts: 20, steps: 50, blocks: 30, frames: 17, height: 128, width: 128 };

/** A linear of block 7 that is damaged in the sample. */
export const DAMAGED = 'blocks.7.ffn.down';

/** Text that would end elements, attributes, scripts or lines if it could. */
export const HOSTILE = [
  '</script><script>document.title = "owned"</script><!--',
  '"><img src=x onerror="document.title=\'owned\'">',
  'a & b <b>bold</b> &lt; \'single\' "double" `x`',
  'turned \u202E sdrawkcab \u2066 and\u0007 rung, \u001b[31mred\u001b[0m',
  '一只猫在雨中 🐈‍⬛ مرحبا',
  'long '.repeat(120).trim(),
] as const;

const ATTENTION = ['q', 'k', 'v', 'out'];
const OUTER = [
  'patch_embedding',
  'time_embedder.1',
  'time_embedder.2',
  'time_proj',
  'text_embedder.1',
  'text_embedder.2',
];

/** Results as an evaluation of a model with one damaged linear gives them: every field filled, the same for the same size. */
export function sampleResults({ prompts, steps, blocks, frames }: SampleSize = SAMPLE): Results {
  const random = new MersenneTwister(7);
  const around = (centre: number, spread: number): number => centre + spread * (2 * random.uniform() - 1);
  const facts = (path: string, bytes: number, ms: number): Results['reference'] => ({
    path,
    fingerprint: Array.from({ length: 64 }, () => Math.floor(16 * random.uniform()).toString(16)).join(''),
    transformerBytes: bytes,
    provider: 'cpu',
    peakBytes: 1.4 * bytes,
    forwardMs: ms,
    calibratedOn: null,
  });
  const promptOf = (i: number): string =>
    HOSTILE[i] ?? `prompt ${i}: a small red circle moving left over a dark background`;
  const videos = Array.from({ length: prompts }, (_, i): Results['videos'][number] => {
    const psnr = around(36, 6);
    return {
      prompt: promptOf(i),
      seed: 40 + i,
      psnr,
      ssim: around(0.96, 0.03),
      msSsim: around(0.98, 0.015),
      temporalPsnr: around(39, 5),
      flicker: around(1.02, 0.05),
      lpips: i % 2 === 0 ? around(0.05, 0.02) : null,
      floorPsnr: around(52, 5),
      floorSsim: around(0.997, 0.002),
      sqnr: around(31, 4),
      sqnrMin: around(24, 3),
      framePsnr: Array.from({ length: frames }, (_, f) => around(psnr - f / frames, 1.5)),
      strip: null,
      sheets: null,
    };
  });
  const psnrDrop = [0.25, 0.5, 0.75].flatMap((sigma) =>
    Array.from({ length: Math.min(8, prompts) }, (_, clip) => {
      const reference = around(40 - 12 * sigma, 2);
      const drop = around(2 + 4 * sigma, 1);
      return { clip, prompt: promptOf(clip), sigma, reference, quantized: reference - drop, drop };
    }),
  );
  return {
    schema: 2,
    createdAt: '2026-11-25T12:00:00.000Z',
    wanqVersion: '0.1.0',
    runtimeVersion: '1.30.0',
    nodeVersion: 'v20.20.2',
    platform: 'linux-x64',
    settings: {
      prompts,
      promptsDigest: 'c'.repeat(64),
      seedsPerPrompt: 1,
      seed: 40,
      steps,
      guidance: 5,
      negativePrompt: 'blurry, <b>low</b> quality',
      scheduler: 'UniPCMultistepScheduler',
      latents: [48, 5, 16, 16],
      sigmas: [0.25, 0.5, 0.75],
      clips: 'clips/"mine" & <yours>.safetensors',
      clipsDigest: 'a'.repeat(64),
      features: 'features/i3d',
      featuresDigest: 'b'.repeat(64),
      perceptual: null,
      noiseFloor: 'fp16-weights',
    },
    reference: facts('models/<wan> "fp32" & co', 20_000_000_000, 812.4),
    quantized: { ...facts("models/wan 'int8' </title>", 7_400_000_000, 640.9), calibratedOn: 'prompts' },
    devices: [
      {
        component: 'transformer',
        asked: 'cuda',
        ran: 'cpu',
        refused: [{ provider: 'cuda', reason: 'libcublasLt.so.12: cannot open shared object file <no such file>' }],
        nodes: { CPUExecutionProvider: 14_608 },
        peakBytes: 10_360_000_000,
        deviceBytes: null,
      },
      {
        component: 'vae_decoder',
        asked: 'webgpu',
        ran: 'webgpu',
        refused: [],
        nodes: { WebGpuExecutionProvider: 412, CPUExecutionProvider: 31 },
        peakBytes: 3_100_000_000,
        deviceBytes: 2_200_000_000,
      },
    ],
    timing: { wallMs: 5_412_000, modelMs: 5_108_000 },
    metrics: sampleMetrics(prompts),
    psnrDrop,
    steps: Array.from({ length: steps }, (_, step) =>
      (['cond', 'uncond'] as const).map((branch) => {
        const sqnr = around(34 - 10 * (step / steps) ** 3 - (branch === 'cond' ? 1.5 : 0), 0.6);
        const relativeError = 10 ** (-sqnr / 20);
        const cosine = 1 - relativeError ** 2 / 2;
        return { step, timestep: 999 - (999 * step) / steps, branch, sqnr, cosine, relativeError };
      }),
    ).flat(),
    drift: Array.from({ length: steps }, (_, step) => ({
      step,
      timestep: 999 - (999 * step) / steps,
      quantized: 0.002 * (step + 1) ** 1.2,
      floor: 0.0004 * (step + 1),
    })),
    videos,
    linears: linearNames(blocks).map((linear): LinearRow => {
      const quantized = linear.includes('.ffn.');
      const attainable = around(44, 4);
      const lost = linear === DAMAGED ? 27.5 : Math.abs(around(0.4, 0.8));
      return {
        linear,
        shape: linear.endsWith('.down') ? [14_336, 3072] : [3072, 3072],
        precision: quantized ? 'int8' : 'float16',
        reason: quantized ? 'scheme ffn' : 'scheme ffn keeps <attention> & embeddings',
        smoothing: quantized && random.uniform() > 0.3 ? 0.5 : null,
        low: quantized ? around(-6, 2) : null,
        high: quantized ? around(8, 3) : null,
        clipped: quantized ? Math.abs(around(0.0005, 0.0005)) : null,
        sqnr: quantized ? attainable - lost : Number.POSITIVE_INFINITY,
        attainable: quantized ? attainable : null,
        excess: quantized ? lost : null,
        scaleRatio: quantized ? around(1, 0.001) : null,
        sensitivity: quantized ? around(48, 6) : null,
      };
    }),
  };
}

function linearNames(blocks: number): string[] {
  const inBlock = Array.from({ length: blocks }, (_, block) => [
    ...['attn1', 'attn2'].flatMap((attention) => ATTENTION.map((part) => `blocks.${block}.${attention}.${part}`)),
    `blocks.${block}.ffn.up`,
    `blocks.${block}.ffn.down`,
  ]);
  return [...OUTER, ...inBlock.flat(), 'proj_out'];
}

function sampleMetrics(prompts: number): Results['metrics'] {
  const metric = (
    value: number | null,
    unit: string,
    better: Metric['better'],
    rest: Partial<Metric> = {},
  ): Metric => ({
    value,
    unit,
    better,
    n: prompts,
    ...rest,
  });
  const interval = (low: number, high: number): Pick<Metric, 'interval'> =>
    prompts < 2 ? {} : { interval: { low, high, level: 0.95, units: prompts } };
  return {
    psnr_drop: metric(4.0123, 'dB', 'lower', { ...interval(3.61, 4.44), median: 3.9, worst: 5.87 }),
    psnr_drop_max: metric(5.87, 'dB', 'lower'),
    fvd_growth: metric(12.5, '%', 'lower', {
      ...interval(8.2, 17.9),
      note: '20 videos are no more than 400 feature dimensions',
    }),
    sqnr: metric(30.71, 'dB', 'higher', interval(30.2, 31.3)),
    sqnr_min: metric(23.02, 'dB', 'higher'),
    cosine_min: metric(0.99731, '', 'higher'),
    psnr: metric(36.2, 'dB', 'higher', interval(34.9, 37.4)),
    psnr_median: metric(36.54, 'dB', 'higher'),
    psnr_floor: metric(52.2, 'dB', 'higher'),
    ssim: metric(0.9612, '', 'higher', interval(0.955, 0.967)),
    size_ratio: metric(0.37, 'x', 'lower', { n: 1 }),
    memory_ratio: metric(0.37, 'x', 'lower', { n: 1 }),
    latency_ratio: metric(0.789, 'x', 'lower', { n: 1 }),
    int8_speed_bound: metric(1.42, 'x', 'higher', {
      n: 1,
      note: 'the most a forward of this shape can gain if INT8 products run twice as fast (Amdahl)',
    }),
  };
}

/** A circle that moves over noise, and the same with error: noise everywhere, and a block of wrong colours that grows. */
export function sampleVideos(index: number, { frames, height, width }: SampleSize): { a: Frames; b: Frames } {
  const [a, b] = [0, 1].map(() => new Uint8Array(frames * height * width * 3)) as [Uint8Array, Uint8Array];
  // Not as good as random, and quick for large videos.
  let state = index + 1;
  const noise = (range: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(range * (state / 2 ** 32 - 0.5));
  };
  const colour = [60 + ((index * 67) % 180), 60 + ((index * 101) % 180), 60 + ((index * 31) % 180)];
  const radius = Math.min(height, width) * 0.2;
  for (let f = 0, i = 0; f < frames; f++) {
    const [cx, cy] = [width * (0.2 + (0.6 * f) / frames), height * (0.5 + 0.2 * Math.sin(f / 3))];
    const wrong = (width * f) / frames / 4;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const inside = (x - cx) ** 2 + (y - cy) ** 2 < radius ** 2;
        const damaged = x < wrong && y < wrong;
        for (let c = 0; c < 3; c++, i++) {
          const base = inside ? (colour[c] as number) : 40 + (120 * y) / height;
          const value = base + noise(24);
          a[i] = value;
          b[i] = Math.max(0, value + noise(6) + (damaged ? 40 : 0));
        }
      }
    }
  }
  return { a: { data: a, frames, height, width }, b: { data: b, frames, height, width } };
}

/** Bell-shaped histograms with a long tail, one for each quantized linear. */
export function sampleHistograms(linears: readonly LinearRow[]): TensorHistogram[] {
  return linears
    .filter(({ low }) => low !== null)
    .map(({ linear, low, high, clipped, smoothing }): TensorHistogram => {
      const [from, to] = [-12, 16];
      const counts = Array.from({ length: 128 }, (_, i) => {
        const x = from + ((i + 0.5) * (to - from)) / 128;
        return Math.round(1e6 * Math.exp(-(x * x) / 3) + 400 * Math.exp(-Math.abs(x) / 2.5));
      });
      const note = smoothing === null ? 'Over all samples.' : 'After smoothing, over the kept tokens.';
      const tensor = `/${linear.replaceAll('.', '/')}/<input>`;
      return { tensor, linears: [linear], low, high, min: from, max: to, counts, from, to, clipped, note };
    });
}

const RULES: readonly Rule[] = [
  { metric: 'psnr_drop', operator: '<=', limit: 3, level: 'error' },
  { metric: 'fvd_growth', operator: '<', limit: 15, level: 'error' },
  { metric: 'sqnr_min', operator: '>=', limit: 25, level: 'warn' },
];

/** All that the page is made of, with pictures of videos in the sample's size. */
export async function sampleReport(
  size: SampleSize = SAMPLE,
  pictures: (index: number) => Promise<SheetPictures> = async (index) => {
    const { a, b } = sampleVideos(index, size);
    return makeSheets(a, b, PAGE_SHEETS_BYTES / size.prompts);
  },
): Promise<ReportInput> {
  const measured = sampleResults(size);
  const files = new Map<string, Uint8Array>();
  const videos: Results['videos'] = [];
  for (const [i, video] of measured.videos.entries()) {
    const { layout, ...made } = await pictures(i);
    const names = Object.entries(made).map(([kind, bytes]) => {
      const name = `sheets/${i}-${kind}.webp`;
      files.set(name, bytes);
      return [kind, name] as const;
    });
    videos.push({
      ...video,
      sheets: { ...layout, ...(Object.fromEntries(names) as Record<keyof typeof made, string>) },
    });
  }
  const results = { ...measured, videos };
  return {
    results,
    verdict: judge(results.metrics, RULES),
    advice: {
      notes: ['A note with <angles> & "quotes".'],
      rungs: [
        {
          name: 'smooth',
          does: 'ranges and smoothing chosen anew by what errs least',
          costs: 'no bytes, quantizing once',
          commands: ["wanq quantize 'models/<wan>' --method auto --smooth auto -o mended"],
        },
      ],
      command: 'wanq eval reference quantized --gate --remedy mended',
    },
    media: async (name) => {
      const bytes = files.get(name);
      if (!bytes) throw new Error(`no picture ${name}`);
      return bytes;
    },
    histograms: sampleHistograms(results.linears),
    command: ['wanq', 'eval', 'models/<wan> "fp32" & co', "models/wan 'int8'", '--prompts', 'eval.txt', '--gate'],
  };
}
