/**
 * Who takes part: a worker's way in (hello, prepared, entering, member), and out.
 */
import type { WorkerMessage } from '../protocol/index.ts';
import { abandonCheckpoint, beginCheckpoint } from './checkpoints.ts';
import { layoutKeyOf } from './layout-key.ts';
import type { CoordinatorState, WorkerRecord } from './state.ts';
import { members, note, refuse, say, type Turn, updateWorker } from './turn.ts';

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
    device: '',
    phase: 'preparing',
    lastHeardMs: turn.state.nowMs,
    speed: null,
    parametersDigest: null,
    residentBytes: 0,
    sentBytes: 0,
    receivedBytes: 0,
    times: null,
  });
  turn.effects.push({ type: 'welcome', to: incarnation, worker });
  note(turn, 'info', 'workerJoined', { worker, host: message.host, pid: message.pid });
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
  if (state.engineVersion !== message.engineVersion) {
    return `it computes with ${message.engineVersion}, the run with ${state.engineVersion}: install the same on every host`;
  }
  updateWorker(turn, worker.incarnation, { phase: 'prepared', device: message.device });
  return null;
}

/** The worker holds the state. Returns why it cannot take part, or null. */
export function onReady(
  turn: Turn,
  worker: WorkerRecord,
  message: Extract<WorkerMessage, { type: 'ready' }>,
): string | null {
  const { state } = turn;
  if (worker.phase !== 'entering' || message.step !== state.stateStep) return null;
  const { parametersDigest, step } = message;
  const expected = expectedParametersDigest(state);
  if (expected !== null && expected !== parametersDigest) {
    return `its parameters at step ${step} have digest ${parametersDigest}, those of the run ${expected}`;
  }
  updateWorker(turn, worker.incarnation, { phase: 'member', parametersDigest });
  state.generation += 1;
  note(turn, 'info', 'workerEntered', {
    worker: worker.worker,
    generation: state.generation,
    step,
    device: worker.device,
  });
  return null;
}

/** What the parameters of the current state must digest to, if the log or a member tells. */
function expectedParametersDigest(state: CoordinatorState): string | null {
  const recorded = state.recorded.get(state.stateStep + 1);
  if (recorded !== undefined) return recorded.parametersDigest;
  // A member's digest dates from its entry: it speaks of this state only before the first step.
  return state.startedComputing ? null : (members(state)[0]?.parametersDigest ?? null);
}

/** Sends prepared workers to the state they enter with, or has a checkpoint made for them. */
export function admitPrepared(turn: Turn): void {
  const { state } = turn;
  const prepared = [...state.workers.values()].filter((worker) => worker.phase === 'prepared');
  if (prepared.length === 0) return;
  if (members(state).length === 0 && state.checkpoint !== null) return;
  if (state.stateStep === state.storedStep) {
    for (const worker of prepared) {
      updateWorker(turn, worker.incarnation, { phase: 'entering' });
      const kind = state.stateStep === 0 ? 'initial' : 'checkpoint';
      say(turn, worker.incarnation, { type: 'enter', source: { kind } });
    }
  } else {
    beginCheckpoint(turn);
  }
}

/**
 * With no member left nobody holds the newest state: the run goes back to the newest checkpoint and
 * repeats the steps after it, which the log proves equal.
 */
export function rewindToStored(turn: Turn): void {
  const { state } = turn;
  if (state.stateStep === state.storedStep) return;
  note(turn, 'warn', 'rewound', { from: state.stateStep, to: state.storedStep });
  state.stateStep = state.storedStep;
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

/** Strikes workers off, by incarnation with the reason. True when members were among them. */
export function removeWorkers(turn: Turn, lost: ReadonlyMap<string, string>): boolean {
  const { state } = turn;
  const removed = [...lost.keys()].flatMap((incarnation) => state.workers.get(incarnation) ?? []);
  state.workers = new Map([...state.workers].filter(([incarnation]) => !lost.has(incarnation)));
  for (const worker of removed) {
    note(turn, 'warn', 'workerLost', {
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
  const wereMembers = removed.some((worker) => worker.phase === 'member');
  if (wereMembers) state.generation += 1;
  return wereMembers;
}
