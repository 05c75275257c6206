/** `lockstep verify RUN`: proves that the run's log and checkpoints are whole and say the same. */
import type { Command } from 'commander';
import { LockstepError } from '../base/index.ts';
import { formatCount, runCommand, say, warn } from './terminal.ts';
import { type VerifiedRun, verifyRun } from './verify-run.ts';

export function addVerifyCommand(program: Command): void {
  program
    .command('verify')
    .description("prove a run's commit log and checkpoints, or name the first record that is wrong")
    .argument('<run>', 'folder of the run, also of one that is going on')
    .option('--json', 'print the verdict as one line of JSON')
    .action((run: string, { json }: { json?: true }) =>
      runCommand(() => (json === true ? verifyAsJson(run) : verifyAsText(run))),
    );
}

async function verifyAsText(run: string): Promise<number> {
  const verified = await verifyRun(run);
  for (const line of linesOf(verified)) say(line);
  for (const note of verified.notes) warn(note);
  return 0;
}

/** What is wrong is an answer too: it goes to standard output as well. */
async function verifyAsJson(run: string): Promise<number> {
  try {
    say(JSON.stringify(verdictOf(await verifyRun(run))));
    return 0;
  } catch (error) {
    if (!(error instanceof LockstepError)) throw error;
    const { code, message, context } = error;
    say(JSON.stringify({ ok: false, code, message, ...context }));
    return 1;
  }
}

/** One line for each thing proven. */
function linesOf({ log, checkpoints }: VerifiedRun): string[] {
  const { numRecords, numSlots, history } = log;
  const { opened, lastStep, tokens } = history;
  const chained = checkpoints.filter((checkpoint) => checkpoint.chained).length;
  const newest = checkpoints.at(-1);
  const run = opened === null ? '' : ` of run ${opened.runId}`;
  return [
    `records      ${formatCount(numRecords)}${run}, each chained to the one before`,
    `steps        ${formatCount(lastStep)}, each committed once and in order, at the rate of the schedule`,
    `slots        ${formatCount(numSlots)}, each once; tokens and losses of every step are the sums of its slots`,
    `tokens       ${formatCount(tokens)}`,
    `checkpoints  ${formatCount(checkpoints.length)}, every byte hashed, as the log has them; ` +
      `${formatCount(chained)} with the digest that the next step started from`,
    newest === undefined
      ? 'weights      none: there is no checkpoint'
      : `weights      ${newest.weightsSha256}  step ${newest.step}`,
  ];
}

function verdictOf({ log, checkpoints, notes }: VerifiedRun): unknown {
  const { opened, lastStep, tokens, finished } = log.history;
  const newest = checkpoints.at(-1);
  return {
    ok: true,
    runId: opened?.runId ?? null,
    fingerprint: opened?.fingerprint ?? null,
    datasetSha256: opened?.datasetSha256 ?? null,
    records: log.numRecords,
    steps: lastStep,
    slots: log.numSlots,
    tokens,
    finished,
    checkpoints,
    weights: newest === undefined ? null : { step: newest.step, sha256: newest.weightsSha256 },
    notes,
  };
}
