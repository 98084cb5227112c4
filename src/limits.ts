/**
 * Bounds on everything a file may claim about itself. A model, calibration or configuration file is untrusted input; each
 * bound stands beside the largest real value known, so that raising one is a decision and not a guess.
 */

/** Protobuf cannot hold more (int32 lengths); the weights of a larger model live in external data. */
export const MAX_MODEL_BYTES = 2 ** 31 - 1;

/** Nested subgraphs. Real exports use 2; deeper ones only exhaust the stack (CWE-674). */
export const MAX_GRAPH_DEPTH = 16;

/** Nodes in a graph. Wan2.2 5B, unoptimized: 14,608. */
export const MAX_NODES = 1_000_000;

/** Tensor rank. The widest tensor of a Wan export has 8 (VAE patchify). */
export const MAX_RANK = 32;

/** Elements in one tensor. Largest real one: 14336 x 3072 = 44 M (CWE-190: products are checked against this). */
export const MAX_TENSOR_ELEMENTS = 2 ** 40;

/** JSON configuration files (tokenizer.json of UMT5: 17 MB). */
export const MAX_JSON_BYTES = 64 * 2 ** 20;

/** Safetensors header; the format itself allows 100 MB. */
export const MAX_SAFETENSORS_HEADER_BYTES = 100_000_000;

/** Prompt files: one prompt a line. */
export const MAX_PROMPT_FILE_BYTES = 16 * 2 ** 20;
export const MAX_PROMPTS = 100_000;

/** UTF-16 units of one prompt. Text encoders cut prompts at 512 tokens, some 2,500 letters; files of videos hold them whole. */
export const MAX_PROMPT_LENGTH = 10_000;

/** One image or animation of a folder of clips; it is read whole. 121 lossless frames of 720p in WebP: 150 MB. */
export const MAX_CLIP_FILE_BYTES = 2 ** 30;

/** One read or write call. Node aborts or throws past 2^31-1; smaller chunks keep memory and Ctrl-C latency low. */
export const MAX_IO_CHUNK = 64 * 2 ** 20;

/** Denoising steps. Wan2.2 is served with 20 to 50; the noise schedule itself has 1,000. */
export const MAX_STEPS = 1000;

/** onnxruntime's profile of one run: a kilobyte or so a node, and the 5B has some 5,000. */
export const MAX_PROFILE_BYTES = 256 * 2 ** 20;

/** Plan files: a line or two for each linear. */
export const MAX_PLAN_BYTES = 16 * 2 ** 20;

/** Channels of all activations of a calibration together, which memory is taken for before any of them is read. Wan2.1 14B: 1.8 M (CWE-789). */
export const MAX_CALIBRATION_CHANNELS = 2 ** 23;
