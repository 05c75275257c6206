export { AllReduce, type AllReducePhase } from './all-reduce.ts';
export {
  type AllReduceConfig,
  type AllReduceEffect,
  type AllReduceEvent,
  type AttemptId,
  type Operand,
  type RejectKind,
  sameAttempt,
} from './all-reduce-types.ts';
export {
  type AddResult,
  type CoverageError,
  FragmentSet,
  type Merge,
} from './fragment-set.ts';
export { planMissing, planRanges } from './range-plan.ts';
export {
  childrenOf,
  commonHeight,
  isNode,
  largestNodeAt,
  maximalSubtrees,
  parentOf,
  rootOf,
  siblingOf,
} from './reduction-tree.ts';
export { type Piece, planPieces, planShards, type VectorRange } from './shard-plan.ts';
