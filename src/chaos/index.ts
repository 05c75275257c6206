export { FAULT_KINDS, type Fault, type FaultKind, type FaultPlanOptions, planFaults } from './fault-plan.ts';
export {
  type Commit,
  type FiredFault,
  goodputOf,
  type RecoverySummary,
  summarizeRecoveries,
  type Throughput,
  type WorkforceChange,
  workforceMs,
} from './observations.ts';
export {
  type Evidence,
  judge,
  type LedgerTally,
  type Refusals,
  tallyLedger,
  type Verdict,
} from './verdict.ts';
