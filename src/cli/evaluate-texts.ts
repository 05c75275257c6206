/**
 * `lockstep evaluate` on texts: what models generate from --source, or files of --hypotheses, scored against --target.
 * Several runs and several thresholds give a row each, so that models are compared in one program. References are read
 * here and go to the metrics only: no length of theirs reaches a generator.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { LockstepError, messageOf } from '../base/index.ts';
import { ENGINE_NAMES, type EngineName } from '../config/index.ts';
import {
  type EvaluationRow,
  evaluationRow,
  type GenerationFigures,
  linesOf,
  measure,
  qualityTable,
  readTexts,
  referencesBeside,
  speedTable,
  type TextFile,
} from '../evaluation/index.ts';
import { type GenerationOptions, generationDefaults, TextGenerator } from '../generation/index.ts';
import { type ScoringOptions, stemmerWithExceptions } from '../metrics/index.ts';
import { CONFIDENCES, EXITS } from '../model/index.ts';
import { atLeastOne } from './flags.ts';
import { openOptionsOf, share } from './generation-flags.ts';
import { formatCount, LiveLine, say, warn } from './terminal.ts';
import { writeWhole } from './whole-file.ts';

export interface TextFlags {
  readonly data?: string;
  readonly source?: string;
  readonly target?: readonly string[];
  readonly hypotheses?: string;
  readonly limit?: number;
  readonly exit?: GenerationOptions['exit'];
  readonly threshold?: readonly number[];
  readonly quorum?: number;
  readonly confidence?: GenerationOptions['confidence'];
  readonly targetLength?: number;
  readonly beams?: number;
  readonly batchSize: number;
  readonly latencyTexts: number;
  readonly engine?: EngineName | 'auto';
  readonly stemming: boolean;
  readonly wordnet?: string;
  readonly json?: string;
  readonly output?: string;
}

export function addTextFlags(command: Command): Command {
  return command
    .option('--source <file>', 'a text on each line to generate from')
    .option('--target <file>', 'their references, line by line; repeatable', collect)
    .option('--hypotheses <file>', 'texts from elsewhere to score, line by line, instead of runs')
    .option('--limit <n>', 'only the first so many lines', atLeastOne)
    .addOption(new Option('--exit <name>', "where tokens leave (default: the model's)").choices(EXITS))
    .option('--threshold <list>', 'entropies of the hard exit in nats, as 0.5 or 0.1,0.5,1', numbers)
    .option(
      '--quorum <share>',
      "hard exit: share of a text's tokens that the others follow (default: 1)",
      share,
    )
    .addOption(
      new Option('--confidence <name>', "what the hard exit's test reads (default: shortlist)").choices(
        CONFIDENCES,
      ),
    )
    .option('--target-length <n>', "slots of each output (default: the model's)", atLeastOne)
    .option('--beams <n>', 'beams of an autoregressive model (default: 1)', atLeastOne)
    .option('--batch-size <n>', 'texts at once for the throughput', atLeastOne, 16)
    .option('--latency-texts <n>', 'texts generated one by one for the latency', atLeastOne, 100)
    .addOption(
      new Option('--engine <name>', "compute engine (default: the run's)").choices(['auto', ...ENGINE_NAMES]),
    )
    .option('--no-stemming', 'ROUGE of whole words')
    .option('--wordnet <dir>', "folder with WordNet's *.exc: ROUGE's stems as ROUGE-1.5.5 has them")
    .option('--json <file>', 'write all figures')
    .option('--output <file>', 'write the generated texts, for one model at one threshold');
}

/** Scores a file of texts. Throws CONFIG_INVALID, DATA_MISSING and DATA_CORRUPT. */
export async function scoreFiles(flags: TextFlags): Promise<number> {
  const scoring = scoringOf(flags);
  const { beside, references } = await readBeside(flags.hypotheses!, true, flags);
  const empty = beside.texts.filter((text) => text === '').length;
  if (empty > 0) warn(`${formatCount(empty)} of ${formatCount(beside.texts.length)} texts are empty`);
  const rows = [evaluationRow(beside.file, beside.texts, references, null, scoring)];
  finish(rows, flags);
  return 0;
}

/** One model and one way to generate with it: a row. */
interface Trial {
  readonly run: string;
  readonly generator: TextGenerator;
  readonly generation: GenerationOptions;
}

/** Generates with each run and scores. Throws as `scoreFiles` does, and as `TextGenerator.open`. */
export async function evaluateModels(runs: readonly string[], flags: TextFlags): Promise<number> {
  const scoring = scoringOf(flags);
  const { beside, references } = await readBeside(flags.source!, false, flags);
  const generators: TextGenerator[] = [];
  try {
    // All are opened before any work: a mistyped folder must not cost what was measured before it.
    const trials: Trial[] = [];
    for (const run of runs) {
      const generator = await TextGenerator.open(run, openOptionsOf(flags));
      generators.push(generator);
      for (const generation of waysToGenerate(run, generator, flags)) {
        trials.push({ run, generator, generation });
      }
    }
    if (flags.output !== undefined && trials.length > 1) {
      throw new LockstepError(
        'CONFIG_INVALID',
        `--output takes the texts of one model at one threshold; these are ${trials.length}`,
      );
    }
    const rows: EvaluationRow[] = [];
    let generated: readonly string[] = [];
    for (const trial of trials) {
      const { hypotheses, figures } = await generateTexts(trial, beside.texts, flags);
      generated = hypotheses;
      rows.push(evaluationRow(trial.run, hypotheses, references, figures, scoring));
    }
    finish(rows, flags);
    if (flags.output !== undefined) writeWhole('--output', flags.output, linesOf(generated));
    return 0;
  } finally {
    for (const generator of generators) await generator.close();
  }
}

/** What the flags say of this kind of model, one for each threshold; says aloud what does not concern it. */
function waysToGenerate(run: string, { facts }: TextGenerator, flags: TextFlags): GenerationOptions[] {
  const { exit, threshold, quorum, confidence, targetLength, beams } = flags;
  const usual: GenerationOptions = {
    ...generationDefaults(facts.kind),
    ...(targetLength === undefined ? {} : { targetLength }),
  };
  if (facts.kind === 'autoregressive') {
    if ([exit, threshold, quorum, confidence].some((flag) => flag !== undefined)) {
      warn(`${run} is autoregressive: --exit, --threshold, --quorum and --confidence do not concern it`);
    }
    return [{ ...usual, ...(beams === undefined ? {} : { beams }) }];
  }
  if (beams !== undefined) warn(`${run} is not autoregressive: --beams does not concern it`);
  const parallel: GenerationOptions = {
    ...usual,
    ...(exit === undefined ? {} : { exit }),
    ...(confidence === undefined ? {} : { confidence }),
    ...(quorum === undefined ? {} : { quorum }),
  };
  if (parallel.exit !== 'hard') {
    if (threshold !== undefined || quorum !== undefined) {
      warn(`${run} has exit ${parallel.exit}: --threshold and --quorum do not concern it`);
    }
    return [parallel];
  }
  return (threshold ?? [parallel.threshold]).map((value) => ({ ...parallel, threshold: value }));
}

async function generateTexts(
  { run, generator, generation }: Trial,
  sources: readonly string[],
  { batchSize, latencyTexts }: TextFlags,
): Promise<{ hypotheses: readonly string[]; figures: GenerationFigures }> {
  const live = new LiveLine();
  const onProgress = (share: number) => live.show(`${run}: ${Math.round(100 * share)} %`);
  const { hypotheses, ...measured } = await measure(generator, sources, {
    ...{ generation, batchSize, latencyTexts, onProgress },
  });
  live.end();
  if (measured.cut > 0) {
    warn(`${run}: ${formatCount(measured.cut)} sources are longer than the model reads and were cut`);
  }
  const { kind, step, decoderLayers } = generator.facts;
  const { removeRepeats: _, ...options } = generation;
  return { hypotheses, figures: { kind, step, decoderLayers, options, ...measured } };
}

async function readBeside(
  file: string,
  mayBeEmpty: boolean,
  { target, limit }: TextFlags,
): Promise<{ beside: TextFile; references: string[][] }> {
  if (target === undefined) {
    throw new LockstepError('CONFIG_INVALID', `--target is missing: the references of ${file}`);
  }
  const all = await readTexts(file, { mayBeEmpty });
  const targets: TextFile[] = [];
  for (const path of target) targets.push(await readTexts(path, { mayBeEmpty: false }));
  const references = referencesBeside(all, targets).slice(0, limit);
  return { beside: { file, texts: all.texts.slice(0, limit) }, references };
}

function scoringOf({ stemming, wordnet }: TextFlags): ScoringOptions {
  if (!stemming) {
    if (wordnet === undefined) return { rougeStem: null };
    throw new LockstepError('CONFIG_INVALID', '--wordnet is for stems: leave out --no-stemming');
  }
  if (wordnet === undefined) return {};
  const lists = ['adj', 'adv', 'noun', 'verb'].map((name) => {
    const path = join(wordnet, `${name}.exc`);
    try {
      return readFileSync(path, 'utf8');
    } catch (cause) {
      throw new LockstepError(
        'DATA_MISSING',
        `--wordnet ${path} cannot be read (${messageOf(cause)}): name the folder of WordNet's files, on Debian that of the package wordnet-base`,
        { context: { path }, cause },
      );
    }
  });
  return { rougeStem: stemmerWithExceptions(lists) };
}

/** Tables first: a file that cannot be written loses nothing. */
function finish(rows: readonly EvaluationRow[], flags: TextFlags): void {
  const { source, hypotheses, target, stemming, wordnet, json } = flags;
  const texts = rows[0]!.scores.texts;
  const against = target!.length === 1 ? 'one reference' : `${target!.length} references`;
  say(`${formatCount(texts)} texts of ${source ?? hypotheses} against ${against} each; shares times 100\n`);
  for (const line of qualityTable(rows)) say(line);
  const speed = speedTable(rows);
  if (speed.length > 0) {
    say(`\nmilliseconds of one text alone, encoder and decoder; texts/s in batches of ${flags.batchSize}\n`);
    for (const line of speed) say(line);
  }
  if (json === undefined) return;
  const rougeStems = !stemming ? 'none' : wordnet === undefined ? 'porter' : 'porter and WordNet exceptions';
  const report = { source: source ?? null, targets: target, rougeStems, rows };
  writeWhole('--json', json, `${JSON.stringify(report, null, 2)}\n`);
}

function collect(value: string, earlier: readonly string[] = []): string[] {
  return [...earlier, value];
}

function numbers(text: string): number[] {
  return text.split(',').map((part) => {
    const value = Number(part);
    if (part.trim() === '' || !(value >= 0 && value < Number.POSITIVE_INFINITY)) {
      throw new InvalidArgumentError('expected numbers of 0 or more, separated by commas');
    }
    return value;
  });
}
