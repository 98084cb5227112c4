/**
 * Bounds on everything a file may claim about itself. A model, calibration or configuration file is untrusted input; each
 * bound stands beside the largest real value known, so that raising one is a decision and not a guess. `docs/security.md` has the same table, and a
 * test holds the two together.
 *
 * What most of them stop: a small file that makes a large memory (CWE-400, CWE-770, CWE-789), products that overflow (CWE-190), reading past
 * an end (CWE-125), and recursion without an end (CWE-674).
 */

// The .onnx file

/** Protobuf cannot hold more (int32 lengths); the weights of a larger model live in external data (CWE-400). */
export const MAX_MODEL_BYTES = 2 ** 31 - 1;

/** Nested subgraphs (CWE-674). Real exports use 2; deeper ones only exhaust the stack. */
export const MAX_GRAPH_DEPTH = 16;

/** Protobuf fields of a whole model: each becomes an object some 100 bytes large, from as little as 2 in the file (CWE-770). Wan2.2 5B: 404,000. */
export const MAX_MODEL_FIELDS = 2 ** 21;

/** Nodes of all graphs and functions of a model (CWE-770). Wan2.2 5B, unoptimized: 14,608; the 14B: some 20,000. */
export const MAX_NODES = 250_000;

/** Initializers of a graph (CWE-770). Wan2.2 5B: 827. */
export const MAX_INITIALIZERS = 250_000;

/** Types of intermediate values of a graph (CWE-770). Wan2.2 5B: 6,768; at most one an output of a node. */
export const MAX_VALUE_INFOS = 500_000;

/** Inputs of a graph, and outputs (CWE-770). Wan: 4; old exports list every initializer among the inputs. */
export const MAX_GRAPH_VALUES = MAX_INITIALIZERS;

/** Attributes of a node (CWE-770). Wan: 6; the richest operator of ONNX, LSTM, has 8. */
export const MAX_ATTRIBUTES = 256;

/** Inputs of a node, and outputs (CWE-770). Wan: 8; a model-local function may take all its weights. */
export const MAX_NODE_VALUES = 65_536;

/** Numbers or texts in one attribute (CWE-770). Wan: 8. Larger tables are tensors. */
export const MAX_ATTRIBUTE_VALUES = 2 ** 20;

/** Model-local functions (CWE-770). Largest seen: 3; one for each module of the 5B would be some 1,000. */
export const MAX_FUNCTIONS = 10_000;

/** Functions that call one another, one in the other (CWE-674). Real: 3; onnxruntime's stack ends at some thousand. */
export const MAX_FUNCTION_DEPTH = 64;

/** Operator sets that a model or function imports (CWE-770). Real: 3. */
export const MAX_OPSETS = 256;

/** `metadata_props` of a model, graph, node or tensor (CWE-770). wanq itself writes some 20 for a model, torch 5 for a node. */
export const MAX_METADATA_ENTRIES = 4096;

/** Bytes of the name of anything in a model (CWE-789). The longest of the 5B is the expression of a dimension: 258. */
export const MAX_NAME_BYTES = 16 * 2 ** 10;

/** Bytes of a doc string or a metadata text (CWE-789). torch's table of shape constraints in the 5B: 68 KB. */
export const MAX_TEXT_BYTES = 16 * 2 ** 20;

/** Tensor rank (CWE-770). The widest tensor of a Wan export has 8 (VAE patchify). */
export const MAX_RANK = 32;

/**
 * Elements in one tensor, and its largest dimension (CWE-190: dimensions are compared before they are multiplied). Largest real one: UMT5's embedding,
 * 256,384 x 4,096 = 1.05e9.
 */
export const MAX_TENSOR_ELEMENTS = 2 ** 34;

/** Bytes of one tensor (CWE-789). UMT5's embedding in FP32: 4.2 GB. */
export const MAX_TENSOR_BYTES = 2 ** 35;

/** Numbers or texts in the typed fields of a tensor, which take 8 to 40 bytes of memory each (CWE-770). Real exports put large tensors into raw data. */
export const MAX_TYPED_ELEMENTS = 2 ** 22;

/** Entries that say where a tensor's external data lies: ONNX knows five keys (CWE-770). */
export const MAX_EXTERNAL_ENTRIES = 5;

// External data

/** UTF-16 units of a location, Linux' PATH_MAX over 4 (CWE-789). Real: a file name, some 20. */
export const MAX_LOCATION_LENGTH = 1024;

/** Data files of one model, all open at once (CWE-770). torch writes one a tensor: 827 for the 5B. */
export const MAX_DATA_FILES = 4096;

/** Tensors at one and the same place of a data file: what reads them all reads it as often (CWE-405). Tied weights: 2. */
export const MAX_SHARED_RANGE = 256;

// JSON and safetensors

/** JSON configuration files (CWE-400). tokenizer.json of UMT5: 17 MB. */
export const MAX_JSON_BYTES = 64 * 2 ** 20;

/** Lists and objects in one another in a JSON file (CWE-674). tokenizer.json: 8. */
export const MAX_JSON_DEPTH = 64;

/** Values of a JSON file, each an object or array slot in memory (CWE-770). tokenizer.json of UMT5: 770,000. */
export const MAX_JSON_VALUES = 4_000_000;

/** Safetensors header (CWE-789). The format allows 100 MB; that of a shard of the 14B has 150 KB, a calibration file of the 5B 1 MB. */
export const MAX_SAFETENSORS_HEADER_BYTES = 25_000_000;

/** Tensors of a safetensors file (CWE-770). Wan 14B: 1,095; a calibration file of the 5B: some 5,000. */
export const MAX_SAFETENSORS_TENSORS = 200_000;

/** UTF-16 units of a tensor's name in a safetensors file (CWE-789). Real: 80. */
export const MAX_SAFETENSORS_NAME_LENGTH = 4096;

/** Tensors of a safetensors file that is read whole (CWE-789). Calibration files of the 5B stay below 200 MB. */
export const MAX_SAFETENSORS_BYTES = 2 ** 31;

// Pipelines

/** Tokens of a prompt that a text encoder's graph or a tokenizer may fix (CWE-789). Wan: 512. */
export const MAX_PROMPT_TOKENS = 8192;

/** Time that a tokenizer may take for one prompt, ms: its file holds regular expressions (CWE-1333). UMT5's: 2. */
export const MAX_TOKENIZE_MS = 5000;

/** Channels, layers, heads and the like in the configuration of a model (CWE-789). Wan 14B: 5,120 channels. */
export const MAX_CONFIG_COUNT = 65_536;

/** Pixels of a latent and of a patch along one axis, as a configuration states them (CWE-789). Wan2.2 5B: 16. */
export const MAX_SCALE_FACTOR = 256;

/** Elements of the latents of one video (CWE-789). Wan2.2 5B, 121 frames of 1280 x 704: 5.2 M. */
export const MAX_LATENT_ELEMENTS = 2 ** 28;

/** Prompt files: one prompt a line (CWE-400). prompts/calibration.txt: 10 KB. */
export const MAX_PROMPT_FILE_BYTES = 16 * 2 ** 20;

/** Prompts of a file (CWE-770). A calibration takes some 20, an evaluation 100. */
export const MAX_PROMPTS = 100_000;

/** UTF-16 units of one prompt (CWE-789). Text encoders cut prompts at 512 tokens, some 2,500 letters; files of videos hold them whole. */
export const MAX_PROMPT_LENGTH = 10_000;

/** One image or animation of a folder of clips; it is read whole (CWE-789). 121 lossless frames of 720p in WebP: 150 MB. */
export const MAX_CLIP_FILE_BYTES = 2 ** 30;

/** One read or write call. Node aborts or throws past 2^31-1; smaller chunks keep memory and Ctrl-C latency low (CWE-789). */
export const MAX_IO_CHUNK = 64 * 2 ** 20;

/** Denoising steps (CWE-400). Wan2.2 is served with 20 to 50; the noise schedule itself has 1,000. */
export const MAX_STEPS = 1000;

/** onnxruntime's profile of one run (CWE-400): a kilobyte or so a node, and the 5B has some 5,000. */
export const MAX_PROFILE_BYTES = 256 * 2 ** 20;

/** Plan files: a line or two for each linear (CWE-400). 5B: 60 KB. */
export const MAX_PLAN_BYTES = 16 * 2 ** 20;

/** Channels of all activations of a calibration together, which memory is taken for before any of them is read. Wan2.1 14B: 1.8 M (CWE-789). */
export const MAX_CALIBRATION_CHANNELS = 2 ** 23;
