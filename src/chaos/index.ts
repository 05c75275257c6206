export {
  CUT_MODES,
  type CutMode,
  FAULT_KINDS,
  type Fault,
  type FaultKind,
  type FaultPlanOptions,
  planFaults,
} from './fault-plan.ts';
export {
  type CapacityChange,
  type Commit,
  type Contribution,
  capacityMs,
  type FiredFault,
  type Goodput,
  goodputOf,
  holdUpMs,
  type Join,
  type JoinSummary,
  type RecoverySummary,
  type Spread,
  summarizeJoins,
  summarizeRecoveries,
  type Throughput,
} from './observations.ts';
export {
  type Evidence,
  judge,
  type LedgerTally,
  type Refusals,
  tallyLedger,
  type Verdict,
} from './verdict.ts';
