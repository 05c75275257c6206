export { RunRecorder } from './recorder.ts';
export { RunFollower } from './run-follower.ts';
export { sentenceOf } from './view/sentences.ts';
