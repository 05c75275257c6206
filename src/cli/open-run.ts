/** From flags to an open run: what `train` and `coordinator` have in common. */
import { LockstepError } from '../base/index.ts';
import { type RunConfig, readConfigFile, resolveConfig } from '../config/index.ts';
import { openRun, type RunFolder, savedConfig } from '../coordinator/index.ts';
import { openDataset } from '../data/index.ts';
import { probeEngine } from '../engine/index.ts';
import { configTreeOf, type RunFlags } from './flags.ts';
import { warn } from './terminal.ts';

/** Says what was passed over or repaired on the way. Throws what a person can mend. */
export async function openRunFromFlags(flags: RunFlags): Promise<RunFolder> {
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
  const asked = resolveConfig({ base: saved ?? undefined, file, flags: configTreeOf(flags) });
  const dataset = await openDataset(flags.data, { verifyHashes: false });
  const { vocabSize, sha256 } = dataset;
  dataset.close();
  const config = {
    ...asked,
    model: withVocabulary(asked.model, vocabSize, flags.data),
    engine: await engineOf(asked),
  };
  const run = await openRun({ dir: flags.run, config, datasetSha256: sha256, resume });
  for (const notice of run.notices) warn(notice);
  if (run.startStep >= config.steps) {
    await run.log.close();
    await run.checkpoint?.close();
    throw new LockstepError(
      'CONFIG_INVALID',
      `${flags.run} is complete: it has reached step ${run.startStep} of ${config.steps}; raise --steps to go on`,
    );
  }
  return run;
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
async function engineOf(config: RunConfig): Promise<RunConfig['engine']> {
  if (config.engine !== 'auto') return config.engine;
  const tensorflow = await probeEngine('tensorflow');
  if (tensorflow.available) return 'tensorflow';
  warn(
    `engine wasm, because tensorflow cannot be loaded: ${tensorflow.reason}; \`npm run setup\` installs it`,
  );
  return 'wasm';
}
