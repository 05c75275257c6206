/**
 * The words, tones and colours that several views share: states of runs and workers, kinds of history, phases of a step. A
 * tone never stands alone: beside each coloured mark is the word.
 */
import type { HistoryKind, Phase, RunState, WorkerState } from './contract.ts';
import { element } from './dom.ts';

export type Tone = 'good' | 'warn' | 'bad' | 'muted';

export const RUN_TONES: Readonly<Record<RunState, Tone>> = {
  waiting: 'warn',
  training: 'good',
  closing: 'good',
  completed: 'good',
  stopped: 'muted',
  failed: 'bad',
  silent: 'bad',
};

export const WORKER_WORDS: Readonly<Record<WorkerState, { word: string; tone: Tone }>> = {
  preparing: { word: 'Preparing', tone: 'warn' },
  joining: { word: 'Joining', tone: 'warn' },
  training: { word: 'Training', tone: 'good' },
  draining: { word: 'Draining', tone: 'warn' },
  left: { word: 'Left', tone: 'muted' },
  lost: { word: 'Lost', tone: 'bad' },
};

export const PHASE_WORDS: Readonly<Record<Phase, { word: string; meaning: string }>> = {
  data: { word: 'Data', meaning: 'reading and noising micro-batches' },
  compute: { word: 'Compute', meaning: 'gradients of its slots' },
  wait: { word: 'Wait', meaning: 'for the other workers' },
  reduce: { word: 'Reduce', meaning: 'exchanging and summing gradients' },
  commit: { word: 'Commit', meaning: 'vote, and the record on disk' },
  optimizer: { word: 'Optimizer', meaning: 'AdamW, and the upload to the device' },
};

export const KIND_WORDS: Readonly<Record<HistoryKind, { word: string; many: string }>> = {
  commit: { word: 'Commit', many: 'Commits' },
  join: { word: 'Join', many: 'Joins' },
  loss: { word: 'Loss', many: 'Losses' },
  abort: { word: 'Abort', many: 'Aborted attempts' },
  divergence: { word: 'Divergence', many: 'Divergences' },
  stale: { word: 'Refused', many: 'Refused as stale' },
  checkpoint: { word: 'Checkpoint', many: 'Checkpoints' },
  run: { word: 'Run', many: 'Run' },
};

/** A dot and a word in one tone. */
export function tag(word: string, tone: Tone): HTMLElement {
  const dot = element('span', { class: 'dot' });
  dot.dataset.tone = tone;
  const made = element('span', { class: 'tag' }, dot, word);
  made.dataset.tone = tone;
  return made;
}
