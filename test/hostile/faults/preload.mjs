/** `node --import preload.mjs`: the process runs over a disk that fails as WANQ_FAULT says, JSON of what a `World` takes. */
import { enter, World } from './layer.mjs';

enter(new World(JSON.parse(process.env.WANQ_FAULT ?? '{}')));
