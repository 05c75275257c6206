/**
 * Every deadline of a run, derived from its one setting, the heartbeat limit. Contradictory
 * timeouts cost other systems' users days (torchtitan#2899, torchft#229): here none can be set apart.
 */
export interface Deadlines {
  /** A process sends a sign of life this often. */
  readonly heartbeatIntervalMs: number;
  /** A worker silent for this long is lost. */
  readonly heartbeatLimitMs: number;
  /** A job whose lock is not renewed for this long returns to the queue. */
  readonly lockDurationMs: number;
  /** How long a reduction may go without a frame before the attempt is given up. */
  readonly reductionSilenceMs: number;
  /** How often job locks are renewed: three chances before one expires. */
  readonly lockRenewalMs: number;
  /** How often the queue looks for jobs whose lock has expired. */
  readonly stalledCheckMs: number;
  /** How long connecting to Redis or to the coordinator may take before a process gives up. */
  readonly connectLimitMs: number;
  /** How long a worker without word from its coordinator waits for it to come back before it gives up. */
  readonly coordinatorLimitMs: number;
  /** How long processes that were told to stop may take before they are killed. */
  readonly shutdownLimitMs: number;
}

export function deadlinesFrom(heartbeatLimitMs: number): Deadlines {
  return {
    heartbeatIntervalMs: Math.round(heartbeatLimitMs / 5),
    heartbeatLimitMs,
    lockDurationMs: heartbeatLimitMs * 3,
    reductionSilenceMs: heartbeatLimitMs * 5,
    lockRenewalMs: heartbeatLimitMs,
    stalledCheckMs: heartbeatLimitMs * 3,
    connectLimitMs: heartbeatLimitMs * 5,
    coordinatorLimitMs: heartbeatLimitMs * 30,
    shutdownLimitMs: heartbeatLimitMs * 5,
  };
}
