/** From flags to an open run: what `train` and `coordinator` have in common. */
import { LockstepError, messageOf } from '../base/index.ts';
import {
  deadlinesFrom,
  type EngineName,
  type RunConfig,
  readConfigFile,
  resolveConfig,
} from '../config/index.ts';
import { openRun, type RunFolder, savedConfig } from '../coordinator/index.ts';
import { openDataset, settledDataConfig, tokenizerToJson } from '../data/index.ts';
import { requirePrecision, settleEngine } from '../engine/index.ts';
import { awaitRedis, checkRedis } from '../queue/index.ts';
import { openWeights, type WeightsSource } from '../weights/index.ts';
import { configTreeOf, type RunFlags } from './flags.ts';
import { cutsText } from './prepare-pairs.ts';
import { requireSameSizes, requireSameTokens, type StartingPoint, startFrom } from './start-from.ts';
import { say, warn } from './terminal.ts';

/** A run as the flags describe it; nothing is written yet. */
export interface PlannedRun {
  readonly dir: string;
  readonly config: RunConfig;
  readonly datasetSha256: string;
  readonly tokenizerJson: string;
  readonly resume: boolean;
  /** The weights that `--from` names; `openPlannedRun` closes them. */
  readonly start: StartingPoint | null;
}

/** Throws what a person can mend, before anything is started or written. */
export async function planRun(flags: RunFlags): Promise<PlannedRun> {
  const resume = flags.resume === true;
  const saved = resume ? await savedConfig(flags.run) : null;
  if (resume && saved === null) {
    throw new LockstepError(
      'DATA_MISSING',
      `--resume: ${flags.run} holds no run; leave the flag out to start one`,
    );
  }
  const file =
    flags.config === undefined ? undefined : { path: flags.config, values: readConfigFile(flags.config) };
  const source = flags.from === undefined ? null : await openWeights(flags.from);
  try {
    const asked = resolveConfig({
      base: saved ?? undefined,
      model: source?.model,
      file,
      flags: configTreeOf(flags),
    });
    return { ...(await planOf(flags, asked, source)), resume };
  } catch (error) {
    await source?.close();
    throw error;
  }
}

/**
 * Throws REDIS_UNAVAILABLE at once for a new run. One that goes on was reached before, and its workers wait for it: it
 * waits for Redis as long as they do for it.
 */
export async function reachRedis(url: string, { resume, config }: PlannedRun): Promise<void> {
  const { connectLimitMs, coordinatorLimitMs } = deadlinesFrom(config.network.heartbeatLimitMs);
  try {
    await checkRedis(url, connectLimitMs);
  } catch (error) {
    if (!resume) throw error;
    warn(`${messageOf(error)}; tried again for ${coordinatorLimitMs / 1000} s`);
    await awaitRedis(url, coordinatorLimitMs);
  }
}

async function planOf(
  flags: RunFlags,
  asked: RunConfig,
  source: WeightsSource | null,
): Promise<Omit<PlannedRun, 'resume'>> {
  const dataset = await openDataset(flags.data, { verifyHashes: false });
  const { vocabSize, sha256: datasetSha256 } = dataset;
  const tokenizerJson = tokenizerToJson(dataset.tokenizer);
  if (source !== null) requireSameTokens(source, dataset.tokenizer, flags.data);
  dataset.close();
  const model = withVocabulary(asked.model, vocabSize, flags.data);
  if (source !== null) requireSameSizes(source, model);
  const data = settledDataConfig(asked.data, dataset.manifest, model.maxPositions);
  const cuts = cutsText(dataset, data);
  if (cuts !== null) warn(cuts);
  const start = source === null ? null : await startFrom(source, model);
  const begins = start === null ? asked.start : { weightsSha256: start.sha256 };
  const config = { ...asked, model, data, start: begins, engine: await engineOf(asked) };
  return { dir: flags.run, config, datasetSha256, tokenizerJson, start };
}

/** Opens or makes the run's folder, and says what was passed over or repaired on the way. */
export async function openPlannedRun(plan: PlannedRun): Promise<RunFolder> {
  const { start } = plan;
  const run = await openRun({ ...plan, start: start?.weights ?? null }).finally(() => start?.source.close());
  for (const notice of [...(start?.notices ?? []), ...run.notices]) warn(notice);
  if (start !== null) say(`starts from ${start.source.description}, SHA-256 ${start.sha256}`);
  if (run.startStep < run.config.steps) return run;
  await closeRun(run);
  throw new LockstepError(
    'CONFIG_INVALID',
    `${plan.dir} is complete: it has reached step ${run.startStep} of ${run.config.steps}; raise --steps to go on`,
  );
}

/** Lets go of a run that no coordinator has taken over. */
export async function closeRun(run: RunFolder): Promise<void> {
  await run.log.close();
  await run.checkpoint?.close();
}

function withVocabulary(model: RunConfig['model'], vocabSize: number, data: string): RunConfig['model'] {
  if (model.vocabSize !== 0 && model.vocabSize !== vocabSize) {
    throw new LockstepError(
      'CONFIG_MISMATCH',
      `model.vocabSize is ${model.vocabSize}, but the data set ${data} has ${vocabSize} tokens: set it to 0 to take the data set's`,
    );
  }
  return { ...model, vocabSize };
}

/** Engines round differently, so a run names the one it means: `auto` is settled once, here. */
async function engineOf({ engine, matmulPrecision }: RunConfig): Promise<EngineName> {
  const { name, warning } = engine === 'auto' ? await settleEngine() : { name: engine, warning: null };
  requirePrecision(name, matmulPrecision);
  if (warning !== null) warn(warning);
  return name;
}
