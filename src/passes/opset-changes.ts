/**
 * What a node of one opset needs to mean the same in a later one. An operator's versions where it only took more types, or an attribute or
 * input that may be left out and then means what was so before, need nothing.
 */
export type OpsetConversion =
  /** `axes` becomes an input. */
  | 'axes-to-input'
  /** What is normalized together: before, all axes from `axis` on, which was 1 by default; now `axis` alone, by default the last. */
  | 'softmax-axis'
  /** `split` becomes an input. */
  | 'split-to-input'
  /** Without `split`, the number of parts is stated. */
  | 'split-count'
  /** `ratio` becomes an input, which only training reads. */
  | 'dropout-ratio'
  /** Outputs for training are others. */
  | 'batch-norm-outputs'
  /** Of `scales` and `sizes` one is left out, which was an empty tensor before; one way to transform coordinates is gone. */
  | 'resize-scales'
  /** The default shifts coordinates by half a pixel, which it did not before. */
  | 'roi-align-mode'
  /** `bilinear` is called `linear`, `bicubic` `cubic`. */
  | 'grid-sample-mode'
  /** `axis` becomes an input, with another default. */
  | 'dft-axis'
  /** Scale and bias are given for each channel, and no longer for each group. */
  | 'group-norm-scale'
  /** Windows that would start in the padding on the right are passed over, which only `ceil_mode` can tell. */
  | 'pool-ceil';

/** The opsets the table speaks of. */
export const FIRST_OPSET = 11;
export const LAST_OPSET = 25;

/** A version at which an operator changed, with what a node of the version before needs; a number alone where it needs nothing. */
export type OperatorVersion = number | readonly [version: number, needs: OpsetConversion];

/**
 * Operators of ONNX's default domain: the version in force at opset 11, or the first one after it, and every later version up to 25.
 *
 * Of the types an operator takes, one version took some away: Erf-13 has no integers, which no runtime computed.
 *
 * Source: the operator schemas and their texts in ONNX 1.23.2; test/unit/passes/opset-changes.test.ts holds the versions against
 * fixtures/onnx-operators, which python/onnx_operator_versions.py wrote.
 */
export const OPERATORS: Readonly<Record<string, readonly [number, ...OperatorVersion[]]>> = {
  Abs: [6, 13],
  Acos: [7, 22],
  Acosh: [9, 22],
  Add: [7, 13, 14],
  AffineGrid: [20],
  And: [7],
  ArgMax: [11, 12, 13],
  ArgMin: [11, 12, 13],
  Asin: [7, 22],
  Asinh: [9, 22],
  Atan: [7, 22],
  Atanh: [9, 22],
  Attention: [23, 24, 25],
  AveragePool: [11, [19, 'pool-ceil'], [22, 'pool-ceil']],
  BatchNormalization: [9, [14, 'batch-norm-outputs'], 15],
  Bernoulli: [15, 22],
  BitShift: [11],
  BitwiseAnd: [18],
  BitwiseNot: [18],
  BitwiseOr: [18],
  BitwiseXor: [18],
  BlackmanWindow: [17],
  Cast: [9, 13, 19, 21, 23, 24, 25],
  CastLike: [15, 19, 21, 23, 24, 25],
  Ceil: [6, 13],
  Celu: [12],
  CenterCropPad: [18],
  Clip: [11, 12, 13],
  Col2Im: [18],
  Compress: [11],
  Concat: [11, 13],
  ConcatFromSequence: [11],
  Constant: [11, 12, 13, 19, 21, 23, 24, 25],
  ConstantOfShape: [9, 20, 21, 23, 24, 25],
  Conv: [11, 22],
  ConvInteger: [10],
  ConvTranspose: [11, 22],
  Cos: [7, 22],
  Cosh: [9, 22],
  CumSum: [11, 14],
  DFT: [17, [20, 'dft-axis']],
  DeformConv: [19, 22],
  DepthToSpace: [11, 13],
  DequantizeLinear: [10, 13, 19, 21, 23, 24, 25],
  Det: [11, 22],
  Div: [7, 13, 14],
  Dropout: [10, [12, 'dropout-ratio'], 13, 22],
  DynamicQuantizeLinear: [11],
  Einsum: [12],
  Elu: [6, 22],
  Equal: [11, 13, 19],
  Erf: [9, 13],
  Exp: [6, 13],
  Expand: [8, 13],
  EyeLike: [9, 22],
  Flatten: [11, 13, 21, 23, 24, 25],
  Floor: [6, 13],
  GRU: [7, 14, 22],
  Gather: [11, 13],
  GatherElements: [11, 13],
  GatherND: [11, 12, 13],
  Gelu: [20],
  Gemm: [11, 13],
  GlobalAveragePool: [1, 22],
  GlobalLpPool: [2, 22],
  GlobalMaxPool: [1, 22],
  Greater: [9, 13],
  GreaterOrEqual: [12, 16],
  GridSample: [16, [20, 'grid-sample-mode'], 22],
  GroupNormalization: [18, [21, 'group-norm-scale']],
  HammingWindow: [17],
  HannWindow: [17],
  HardSigmoid: [6, 22],
  HardSwish: [14, 22],
  Hardmax: [11, [13, 'softmax-axis']],
  Identity: [1, 13, 14, 16, 19, 21, 23, 24, 25],
  If: [11, 13, 16, 19, 21, 23, 24, 25],
  ImageDecoder: [20],
  InstanceNormalization: [6, 22],
  IsInf: [10, 20],
  IsNaN: [9, 13, 20],
  LRN: [1, 13],
  LSTM: [7, 14, 22],
  LayerNormalization: [17],
  LeakyRelu: [6, 16],
  Less: [9, 13],
  LessOrEqual: [12, 16],
  Log: [6, 13],
  LogSoftmax: [11, [13, 'softmax-axis']],
  Loop: [11, 13, 16, 19, 21, 23, 24, 25],
  LpNormalization: [1, 22],
  LpPool: [11, 18, 22],
  MatMul: [9, 13],
  MatMulInteger: [10],
  Max: [8, 12, 13],
  MaxPool: [11, 12, [22, 'pool-ceil']],
  MaxRoiPool: [1, 22],
  MaxUnpool: [11, 22],
  Mean: [8, 13],
  MeanVarianceNormalization: [9, 13],
  MelWeightMatrix: [17],
  Min: [8, 12, 13],
  Mish: [18, 22],
  Mod: [10, 13],
  Mul: [7, 13, 14],
  Multinomial: [7, 22],
  Neg: [6, 13],
  NegativeLogLikelihoodLoss: [12, 13, 22],
  NonMaxSuppression: [11],
  NonZero: [9, 13],
  Not: [1],
  OneHot: [11],
  Optional: [15],
  OptionalGetElement: [15, 18],
  OptionalHasElement: [15, 18],
  Or: [7],
  PRelu: [9, 16],
  Pad: [11, 13, 18, 19, 21, 23, 24, 25],
  Pow: [7, 12, 13, 15],
  QLinearConv: [10],
  QLinearMatMul: [10, 21],
  QuantizeLinear: [10, 13, 19, 21, 23, 24, 25],
  RMSNormalization: [23],
  RNN: [7, 14, 22],
  RandomNormal: [1, 22],
  RandomNormalLike: [1, 22],
  RandomUniform: [1, 22],
  RandomUniformLike: [1, 22],
  Range: [11],
  Reciprocal: [6, 13],
  ReduceL1: [11, 13, [18, 'axes-to-input']],
  ReduceL2: [11, 13, [18, 'axes-to-input']],
  ReduceLogSum: [11, 13, [18, 'axes-to-input']],
  ReduceLogSumExp: [11, 13, [18, 'axes-to-input']],
  ReduceMax: [11, 12, 13, [18, 'axes-to-input'], 20],
  ReduceMean: [11, 13, [18, 'axes-to-input']],
  ReduceMin: [11, 12, 13, [18, 'axes-to-input'], 20],
  ReduceProd: [11, 13, [18, 'axes-to-input']],
  ReduceSum: [11, [13, 'axes-to-input']],
  ReduceSumSquare: [11, 13, [18, 'axes-to-input']],
  RegexFullMatch: [20],
  Relu: [6, 13, 14],
  Reshape: [5, 13, 14, 19, 21, 23, 24, 25],
  Resize: [11, [13, 'resize-scales'], 18, 19],
  ReverseSequence: [10],
  RoiAlign: [10, [16, 'roi-align-mode'], 22],
  RotaryEmbedding: [23],
  Round: [11, 22],
  STFT: [17],
  Scan: [11, 16, 19, 21, 23, 24, 25],
  ScatterElements: [11, 13, 16, 18],
  ScatterND: [11, 13, 16, 18],
  Selu: [6, 22],
  SequenceAt: [11],
  SequenceConstruct: [11],
  SequenceEmpty: [11],
  SequenceErase: [11],
  SequenceInsert: [11],
  SequenceLength: [11],
  SequenceMap: [17],
  Shape: [1, 13, 15, 19, 21, 23, 24, 25],
  Shrink: [9],
  Sigmoid: [6, 13],
  Sign: [9, 13],
  Sin: [7, 22],
  Sinh: [9, 22],
  Size: [1, 13, 19, 21, 23, 24, 25],
  Slice: [11, 13],
  Softmax: [11, [13, 'softmax-axis']],
  SoftmaxCrossEntropyLoss: [12, 13],
  Softplus: [1, 22],
  Softsign: [1, 22],
  SpaceToDepth: [1, 13],
  Split: [11, [13, 'split-to-input'], [18, 'split-count']],
  SplitToSequence: [11, 24],
  Sqrt: [6, 13],
  Squeeze: [11, [13, 'axes-to-input'], 21, 23, 24, 25],
  StringConcat: [20],
  StringNormalizer: [10],
  StringSplit: [20],
  Sub: [7, 13, 14],
  Sum: [8, 13],
  Swish: [24],
  Tan: [7, 22],
  Tanh: [6, 13],
  TensorScatter: [24],
  TfIdfVectorizer: [9],
  ThresholdedRelu: [10, 22],
  Tile: [6, 13],
  TopK: [11, 24],
  Transpose: [1, 13, 21, 23, 24, 25],
  Trilu: [14],
  Unique: [11],
  Unsqueeze: [11, [13, 'axes-to-input'], 21, 23, 24, 25],
  Where: [9, 16],
  Xor: [7],
};

/**
 * Operators that onnxruntime's fusions put into the default domain of a model of any opset. It has one version of each, which is, of the one
 * that ONNX took over later, ONNX's.
 *
 * Source: onnxruntime 1.30, ContribOperators: SimplifiedLayerNormalization-1, LayerNormalization-1 (in ONNX from 17 on).
 */
export const RUNTIME_OPERATORS: ReadonlySet<string> = new Set(['LayerNormalization', 'SimplifiedLayerNormalization']);

/** IR versions that the releases of ONNX with these opsets came with; an older IR may not import them. */
export const IR_VERSIONS: readonly (readonly [opset: number, irVersion: number])[] = [
  [11, 6],
  [12, 7],
  [15, 8],
  [19, 9],
  [21, 10],
  [23, 11],
  [24, 12],
  [25, 13],
];
