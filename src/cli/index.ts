export { cacheFolder } from './cache-folder.ts';
export { type LocalProcess, startLocalWorker, TOKEN_VARIABLE } from './local-workers.ts';
export { lockstepVersion } from './version.ts';
