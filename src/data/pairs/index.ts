export { type PreparedPairs, type PreparePairsOptions, preparePairs } from './prepare-pairs.ts';
export { PAIR_FIELDS, type PairFields } from './read-pairs.ts';
