export { cacheFolder } from './cache-folder.ts';
export { type LocalProcess, startLocalWorker } from './local-workers.ts';
export { TOKEN_VARIABLE } from './token.ts';
export { lockstepVersion } from './version.ts';
