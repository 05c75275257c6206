export { Generator } from './generator.ts';
export type { DatasetFacts, Example, Generation } from './messages.ts';
export { Playground } from './playground.ts';
export { servePlayground } from './serve.ts';
