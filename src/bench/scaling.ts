/**
 * `npm run bench -- --scaling FILE`: constants from the figures that a benchmark kept, the model of
 * scaling-model.ts checked against the runs in the same file, and what it says of networks and numbers
 * of workers that are not here.
 */
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { LockstepError, messageOf, renderTable } from '../base/index.ts';
import { PRESETS } from '../config/index.ts';
import { type Constants, type Network, speedup, stepTime, type TransportCost } from './scaling-model.ts';
import { formatFigure } from './table.ts';

const keptSchema = z.object({
  startedAt: z.string(),
  machine: z.string(),
  loads: z.record(z.string(), z.object({ loadAverages: z.array(z.number()) }).nullable()),
  updateNsPerParameter: z.number(),
  training: z.array(
    z.object({
      preset: z.string(),
      workers: z.int(),
      numParameters: z.int(),
      microBatches: z.int(),
      faultTolerance: z.object({ settlement: z.number() }).nullable(),
      phases: z
        .object({ data: z.number(), compute: z.number(), optimizer: z.number(), step: z.number() })
        .nullable(),
    }),
  ),
  allReduce: z.array(
    z.object({
      numRanks: z.int(),
      bytes: z.number(),
      transport: z.string(),
      lockstep: z.object({ cpuMin: z.number() }),
    }),
  ),
});
type Kept = z.infer<typeof keptSchema>;

const WORKERS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
/** Bytes per millisecond. */
const gigabits = (number: number) => (number * 1e9) / 8 / 1000;
const NETWORKS: readonly Network[] = [
  { name: '1 Gbit/s', bytesPerMs: gigabits(1), latencyMs: 0.2 },
  { name: '10 Gbit/s', bytesPerMs: gigabits(10), latencyMs: 0.05 },
  { name: '100 Gbit/s', bytesPerMs: gigabits(100), latencyMs: 0.02 },
];
const WORKERS_PER_HOST = 8;
/** The model at other sizes: what a step costs is scaled with parameters, its compute given. */
const SCENARIOS = [
  { name: 'base on CPUs', numParameters: 140e6, slotMs: 8000, microBatches: 1024 },
  { name: 'base on GPUs', numParameters: 140e6, slotMs: 100, microBatches: 1024 },
] as const;

/** Lines for a terminal or a document. Throws DATA_MISSING naming the file and what it lacks. */
export async function reportScaling(file: string): Promise<string[]> {
  const kept = await readKept(file);
  const measured = kept.training.filter(({ phases }) => phases !== null);
  const presets = [...new Set(measured.map(({ preset }) => preset))];
  const checks = presets.flatMap((preset) => {
    const constants = constantsOf(kept, preset, file);
    return measured
      .filter((run) => run.preset === preset)
      .map(({ workers, phases }) => {
        const model = stepTime(constants, NETWORKS[0]!, {
          numWorkers: workers,
          workersPerHost: workers,
          twoLevels: false,
        });
        return [preset, String(workers), phases!.step, model.total] as const;
      });
  });
  const constants = constantsOf(kept, presets.at(-1)!, file);
  const load = kept.loads.training?.loadAverages.map((average) => average.toFixed(1)).join(' ') ?? 'not told';
  return [
    `from ${kept.startedAt}, ${kept.machine}, load averages before ${load}`,
    `a message costs ${costOf(constants.memory)} through memory and ${costOf(constants.sockets)} through sockets, in processor time of both ends; an update costs ${formatFigure(kept.updateNsPerParameter)} ns per parameter`,
    '',
    'the model against the runs of the same file, milliseconds per step',
    ...renderTable(
      [
        { title: 'preset', align: 'left' },
        { title: 'workers', align: 'right' },
        { title: 'measured', align: 'right' },
        { title: 'model', align: 'right' },
        { title: 'model / measured', align: 'right' },
      ],
      checks.map(([preset, workers, ms, model]) => [
        preset,
        workers,
        formatFigure(ms),
        formatFigure(model),
        (model / ms).toFixed(2),
      ]),
    ),
    ...SCENARIOS.flatMap((scenario) => [
      '',
      ...scenarioLines(constants, kept.updateNsPerParameter, scenario),
    ]),
  ];
}

function scenarioLines(
  measured: Constants,
  updateNs: number,
  scenario: (typeof SCENARIOS)[number],
): string[] {
  const { name, numParameters, slotMs, microBatches } = scenario;
  const updateMs = (updateNs * numParameters) / 1e6;
  const constants = { ...measured, numParameters, slotMs, microBatches, updateMs };
  const columns = NETWORKS.flatMap((network) => [
    { network, twoLevels: false },
    { network, twoLevels: true },
  ]);
  const rows = WORKERS.map((numWorkers) => [
    String(numWorkers),
    ...columns.map(({ network, twoLevels }) => {
      const workersPerHost = Math.min(WORKERS_PER_HOST, numWorkers);
      const gain = speedup(constants, network, { numWorkers, workersPerHost, twoLevels });
      return `${formatFigure(gain)} ${bar(gain / numWorkers)}`;
    }),
  ]);
  return [
    `${name}: ${numParameters / 1e6} M parameters, ${microBatches} micro-batches of ${slotMs} ms, ${WORKERS_PER_HOST} workers per host;`,
    'work done as a multiple of one worker, and bars for the share of a perfect division',
    ...renderTable(
      [
        { title: 'workers', align: 'right' },
        ...columns.map(({ network, twoLevels }) => ({
          title: `${network.name}, ${twoLevels ? 'two levels' : 'direct'}`,
          align: 'left' as const,
        })),
      ],
      rows,
    ),
  ];
}

/** A share from 0 to 1 in eight characters. */
function bar(share: number): string {
  return '█'.repeat(Math.round(share * 8)).padEnd(8, '·');
}

function costOf({ messageMs, byteMs }: TransportCost): string {
  return `${formatFigure(messageMs * 1000)} µs and ${formatFigure(byteMs * 1e6)} ns per byte`;
}

async function readKept(file: string): Promise<Kept> {
  let parsed: z.ZodSafeParseResult<Kept>;
  try {
    parsed = keptSchema.safeParse(JSON.parse(await readFile(file, 'utf8')));
  } catch (cause) {
    throw new LockstepError(
      'DATA_MISSING',
      `${file}: ${messageOf(cause)}; give a file that \`npm run bench\` kept`,
      {
        cause,
      },
    );
  }
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw missing(file, `${issue?.path.join('.')}: ${issue?.message}`);
}

function missing(file: string, what: string): LockstepError {
  return new LockstepError(
    'DATA_MISSING',
    `${file}: ${what}; give a file that \`npm run bench\` of this version kept`,
  );
}

function constantsOf(kept: Kept, preset: string, file: string): Constants {
  const alone = kept.training.find((run) => run.preset === preset && run.workers === 1);
  if (alone?.phases == null || alone.faultTolerance === null) {
    throw missing(file, `it holds no run of ${preset} with one worker`);
  }
  const { phases, microBatches, numParameters } = alone;
  const memory = costsOf(kept, 'memory', file);
  return {
    slotMs: (phases.compute + phases.data) / microBatches,
    microBatches,
    numParameters,
    memory,
    sockets: costsOf(kept, 'sockets', file),
    pieceBytes: PRESETS.small.network.pieceBytes,
    commitMs: alone.faultTolerance.settlement,
    // Order, vote and commit: the coordinator's half of three messages.
    memberMs: 1.5 * memory.messageMs,
    updateMs: phases.optimizer,
  };
}

/**
 * From the smallest and the largest vector over two ranks, whose messages and bytes are known; the least
 * time of all iterations, as other load can only add to it.
 */
function costsOf(kept: Kept, transport: string, file: string): TransportCost {
  const runs = kept.allReduce
    .filter((run) => run.numRanks === 2 && run.transport === transport)
    .sort((a, b) => a.bytes - b.bytes);
  const [small, large] = [runs[0], runs.at(-1)];
  if (small === undefined || large === undefined || small === large) {
    throw missing(file, `it holds no two sizes of all-reduce through ${transport}`);
  }
  // A vector of one block is one rank's: one fragment there, one finished piece back.
  const messageMs = small.lockstep.cpuMin / 2;
  const pieces = Math.ceil(large.bytes / 2 / PRESETS.small.network.pieceBytes);
  // Each of the two ranks sends half of the vector twice.
  const bytes = 2 * large.bytes;
  const byteMs = Math.max(0, large.lockstep.cpuMin - 4 * pieces * messageMs) / bytes;
  return { messageMs, byteMs };
}
