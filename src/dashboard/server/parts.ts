/**
 * What a dashboard is made of: the run it shows and the few things it can do. Ports, so that the server works
 * alike for a coordinator and for a run folder that is only looked at.
 */
import type { Playground } from '../../playground/index.ts';
import type { QueueInspector } from '../../queue/index.ts';
import type { RunView } from '../view/run-view.ts';

/** The run, live or from its folder. */
export interface RunSource {
  readonly dir: string;
  readonly name: string;
  /** Whether the coordinator itself serves. */
  readonly live: boolean;
  /** Of the present moment; another object when another run has taken the folder. */
  readonly view: RunView;
  /** Takes in what was recorded since; a live view is always up to date. */
  refresh(): Promise<void>;
}

/** What an operator may do to the cluster. Each throws a LockstepError that says why it cannot be done. */
export interface ClusterActions {
  /** The worker finishes what it is at, hands back the rest, and its process ends. */
  readonly drain: (worker: string) => void;
  /** The worker is struck off at once, its slots go to others, and its process ends when it hears of it. */
  readonly evict: (worker: string) => void;
}

export interface DashboardOptions {
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  /** What requests must carry; null for none, on loopback only. */
  readonly token: string | null;
  readonly version: string;
  readonly source: RunSource;
  /** Null for a run that is only looked at. */
  readonly actions: ClusterActions | null;
  readonly queue: QueueInspector | null;
  /** Whether Bull Board may change the queue. */
  readonly isBoardWritable: boolean;
  /** Makes the process that answers the playground, given the run's data folder. */
  readonly startPlayground: (dataDir: string) => Playground;
  /** Makes the process that answers for the run's autoregressive twin, given its data folder; null without one. */
  readonly startTwin: ((dataDir: string) => Playground) | null;
  /** The data set, where it is not the one that the run was started with. */
  readonly dataDir: string | null;
  readonly onTrouble: (reason: string) => void;
}
