/**
 * Who is there: a worker's greeting, what it says of itself, and its end. How it gets the state is in
 * entering.ts, how it goes politely in leaving.ts.
 */
import type { WorkerMessage } from '../protocol/index.ts';
import { abandonCheckpoint } from './checkpoints.ts';
import { layoutKeyOf } from './layout-key.ts';
import type { CoordinatorState, WorkerRecord } from './state.ts';
import { members, note, refuse, type Turn, updateWorker } from './turn.ts';

export function onHello(turn: Turn, message: Extract<WorkerMessage, { type: 'hello' }>): void {
  const { incarnation } = message;
  if (message.run !== '' && message.run !== turn.state.settings.run) {
    refuse(turn, incarnation, `this is run ${turn.state.settings.run}, not ${message.run}`);
    return;
  }
  const known = turn.state.workers.get(incarnation);
  if (known !== undefined) {
    // The first welcome may have been lost on the way; saying it again is harmless.
    turn.effects.push({ type: 'welcome', to: incarnation, worker: known.worker });
    return;
  }
  const taken = new Set([...turn.state.workers.values()].map((worker) => worker.worker));
  if (message.name !== null && taken.has(message.name)) {
    refuse(turn, incarnation, `a worker named ${message.name} is in the run already`);
    return;
  }
  let number = 0;
  while (taken.has(`worker-${number}`)) number += 1;
  const worker = message.name ?? `worker-${number}`;
  turn.state.workers = new Map(turn.state.workers).set(incarnation, {
    incarnation,
    worker,
    host: message.host,
    pid: message.pid,
    peerEndpoint: message.peerEndpoint,
    peerMemory: message.peerMemory,
    device: '',
    phase: 'preparing',
    lastHeardMs: turn.state.nowMs,
    speed: null,
    parametersDigest: null,
    membersTold: null,
    held: null,
    followsFrom: 0,
    isEntering: false,
    numStateFailures: 0,
    numQuarantines: 0,
    isLagging: false,
    isDraining: false,
    isStraggler: false,
    residentBytes: 0,
    engineBytes: null,
    sentBytes: 0,
    receivedBytes: 0,
    times: null,
  });
  turn.effects.push({ type: 'welcome', to: incarnation, worker });
  const { host, pid } = message;
  note(turn, 'info', 'workerJoined', { worker, host, pid, returning: message.formerly !== null });
}

/** The worker has loaded engine and data. Returns why it cannot take part, or null. */
export function onPrepared(
  turn: Turn,
  worker: WorkerRecord,
  message: Extract<WorkerMessage, { type: 'prepared' }>,
): string | null {
  const { state } = turn;
  if (worker.phase !== 'preparing') return null;
  const layoutKey = layoutKeyOf(message.layout);
  state.layoutKey ??= layoutKey;
  if (state.layoutKey !== layoutKey)
    return 'its parameters have other names or shapes than those of this run';
  // Two versions of a library round differently, and the replicas' work would not add up to one run.
  state.engineVersion ??= message.engineVersion;
  if (state.engineVersion !== message.engineVersion && !state.settings.mixedEngines) {
    return `it computes with ${message.engineVersion}, the run with ${state.engineVersion}: install the same on every host, or start a run with --set mixedEngines=true`;
  }
  const { device, held } = message;
  updateWorker(turn, worker.incarnation, { phase: 'prepared', device, held });
  return null;
}

/** Workers that have been silent for too long, with the reason. */
export function silentWorkers({ nowMs, settings, workers }: CoordinatorState): Map<string, string> {
  const silent = new Map<string, string>();
  for (const { incarnation, lastHeardMs } of workers.values()) {
    const silenceMs = nowMs - lastHeardMs;
    if (silenceMs > settings.heartbeatLimitMs)
      silent.set(incarnation, `silent for ${Math.round(silenceMs)} ms`);
  }
  return silent;
}

/** Strikes workers off, by incarnation with the reason, and returns who they were; told as `event`. */
export function removeWorkers(
  turn: Turn,
  lost: ReadonlyMap<string, string>,
  event: 'workerLost' | 'workerLeft' = 'workerLost',
): WorkerRecord[] {
  const { state } = turn;
  const removed = [...lost.keys()].flatMap((incarnation) => state.workers.get(incarnation) ?? []);
  state.workers = new Map([...state.workers].filter(([incarnation]) => !lost.has(incarnation)));
  for (const worker of removed) {
    // One that was told to stop has only done so.
    if (worker.phase === 'leaving') continue;
    note(turn, 'warn', event, {
      worker: worker.worker,
      reason: lost.get(worker.incarnation),
      phase: worker.phase,
      step: state.stateStep + 1,
    });
  }
  const uploader = removed.find((worker) => state.checkpoint?.pending.has(worker.incarnation));
  if (uploader !== undefined) {
    abandonCheckpoint(turn, `${uploader.worker} was lost while it uploaded its part`);
  }
  if (removed.some(({ phase }) => phase === 'member' || phase === 'following')) state.generation += 1;
  if (removed.some(({ phase }) => phase === 'member') && members(state).length === 0) {
    // They may only have been cut off, and come back with what they hold.
    const names = new Set(removed.map(({ worker }) => worker));
    state.awaited = { names, untilMs: state.nowMs + state.settings.heartbeatLimitMs };
  }
  return removed;
}
