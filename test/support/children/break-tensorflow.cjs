// Preloaded into a process that is to have no tensorflow engine: loading its package throws, or aborts.
const Module = require('node:module');

const load = Module._load;
Module._load = function (request, ...rest) {
  if (request !== '@tensorflow/tfjs-node-gpu') return load.call(this, request, ...rest);
  if (process.env.LOCKSTEP_TEST_ABORT === '1') process.abort();
  throw new Error('libtensorflow.so.2: cannot open shared object file\nRequire stack: ...');
};
