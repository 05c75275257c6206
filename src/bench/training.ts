/**
 * Training throughput and time per phase: Lockstep and PyTorch DistributedDataParallel (gloo) take
 * turns at the same workload, each with one thread per process.
 *
 * What is compared: tokens/s of real target tokens, step by step once warm. The peer finds its batches
 * in memory, while Lockstep's time includes reading and noising its own (phase `data`).
 */
import { z } from 'zod';
import { messageOf } from '../base/index.ts';
import { costOfFaultTolerance, type FaultToleranceFigures, measureDigests } from './fault-tolerance.ts';
import { type TrainedStep, trainLockstep } from './lockstep-training.ts';
import { type Summary, summarize } from './statistics.ts';
import { type StepPhases, typicalPhases } from './step-phases.ts';
import type { TorchEnvironment } from './torch-environment.ts';
import { TorchFleet } from './torch-fleet.ts';
import type { Workload } from './workload.ts';

const peerAnswerSchema = z.object({
  parameters: z.int(),
  steps: z.array(z.object({ tokens: z.int(), milliseconds: z.number(), loss: z.number() })),
});

/** Peak resident memory of the largest worker. */
export interface MemoryFigures {
  readonly bytes: number;
  /** As a multiple of the parameters' bytes. */
  readonly timesParameters: number;
}

export interface TrainingFigures {
  /** The workload's name. */
  readonly preset: string;
  readonly workers: number;
  readonly workload: string;
  readonly numParameters: number;
  readonly microBatches: number;
  /** Tokens per second. */
  readonly lockstep: Summary;
  readonly peer: Summary | null;
  /** Median of Lockstep over median of the peer. */
  readonly ratio: number | null;
  /** Mean loss of the first measured step, to see that both train. */
  readonly lossLockstep: number;
  readonly lossPeer: number | null;
  readonly phases: StepPhases | null;
  readonly faultTolerance: FaultToleranceFigures | null;
  readonly memory: MemoryFigures | null;
  /** Why there is no peer. */
  readonly skipped: string | null;
}

export interface TrainingContext {
  readonly torch: TorchEnvironment;
  /** Scratch folder. */
  readonly folder: string;
  note(line: string): void;
}

interface MeasuredStep {
  readonly tokens: number;
  readonly milliseconds: number;
  readonly loss: number;
}

export async function compareTraining(
  workload: Workload,
  workers: number,
  context: TrainingContext,
): Promise<TrainingFigures> {
  const { name } = workload;
  const { rounds } = workload.options;
  const ours: TrainedStep[] = [];
  const theirs: MeasuredStep[] = [];
  const peaks: number[] = [];
  let skipped = context.torch.available ? null : context.torch.reason;
  for (let round = 1; round <= rounds; round += 1) {
    const place = `${name}, ${workers === 1 ? '1 worker' : `${workers} workers`}, round ${round} of ${rounds}`;
    context.note(`${place}: Lockstep`);
    const { steps, peakBytes } = await trainLockstep(workload, workers, context.folder);
    ours.push(...steps);
    if (peakBytes !== null) peaks.push(peakBytes);
    if (skipped !== null) continue;
    context.note(`${place}: PyTorch`);
    try {
      theirs.push(...(await trainPeer(workload, workers, context)));
    } catch (error) {
      skipped = messageOf(error);
    }
  }
  const lockstep = summarize(ours.map(tokensPerSecond));
  // A peer that failed half way has no figures: its rounds would not have been alternating.
  const peer = skipped === null ? summarize(theirs.map(tokensPerSecond)) : null;
  return {
    preset: name,
    workers,
    workload: workload.description,
    numParameters: workload.numParameters,
    microBatches: workload.config.step.microBatches,
    lockstep,
    peer,
    ratio: peer === null ? null : lockstep.median / peer.median,
    lossLockstep: ours[0]!.loss,
    lossPeer: peer === null ? null : theirs[0]!.loss,
    phases: typicalPhases(ours.flatMap(({ phases }) => phases ?? [])),
    faultTolerance: costOfFaultTolerance(
      ours.flatMap(({ settlementMs }) => settlementMs ?? []),
      ours.map(({ milliseconds }) => milliseconds),
      measureDigests(workload.numParameters),
    ),
    memory: memoryOf(peaks, workload.numParameters * 4),
    skipped,
  };
}

function memoryOf(peaks: readonly number[], parameterBytes: number): MemoryFigures | null {
  if (peaks.length === 0) return null;
  const bytes = Math.max(...peaks);
  return { bytes, timesParameters: bytes / parameterBytes };
}

async function trainPeer(
  workload: Workload,
  workers: number,
  { torch, folder }: TrainingContext,
): Promise<MeasuredStep[]> {
  if (!torch.available) throw new Error(torch.reason);
  const { peerFile, numParameters, options } = workload;
  const fleet = new TorchFleet({
    torch,
    script: 'elmer_ddp.py',
    numRanks: workers,
    folder,
    args: [peerFile],
  });
  try {
    const answers = await fleet.ask({}, peerAnswerSchema);
    // Steps end together, so any rank's clock will do.
    const { parameters, steps } = answers[0]!;
    if (parameters !== numParameters) {
      throw new Error(`the peer's model has ${parameters} parameters, Lockstep's ${numParameters}`);
    }
    return steps.slice(options.warmupSteps);
  } finally {
    await fleet.close();
  }
}

function tokensPerSecond({ tokens, milliseconds }: MeasuredStep): number {
  return (tokens * 1000) / milliseconds;
}
