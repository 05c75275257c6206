/**
 * The `lockstep` program: each of its commands is a file of this folder. Only the command that is asked for is loaded: one that
 * prints a digest does not wait for what another trains with.
 */
import { Command } from 'commander';
import { lockstepVersion } from './version.ts';

type AddCommand = (program: Command) => void;

const COMMANDS: Readonly<Record<string, () => Promise<AddCommand>>> = {
  prepare: async () => (await import('./prepare.ts')).addPrepareCommand,
  'prepare-worker': async () => (await import('./prepare-worker.ts')).addPrepareWorkerCommand,
  inspect: async () => (await import('./inspect.ts')).addInspectCommand,
  train: async () => (await import('./train.ts')).addTrainCommand,
  finetune: async () => (await import('./finetune.ts')).addFinetuneCommand,
  coordinator: async () => (await import('./coordinator.ts')).addCoordinatorCommand,
  worker: async () => (await import('./worker.ts')).addWorkerCommand,
  dashboard: async () => (await import('./dashboard.ts')).addDashboardCommand,
  status: async () => (await import('./status.ts')).addStatusCommand,
  digest: async () => (await import('./digest.ts')).addDigestCommand,
  evaluate: async () => (await import('./evaluate.ts')).addEvaluateCommand,
  generate: async () => (await import('./generate.ts')).addGenerateCommand,
  serve: async () => (await import('./serve.ts')).addServeCommand,
  verify: async () => (await import('./verify.ts')).addVerifyCommand,
  import: async () => (await import('./import.ts')).addImportCommand,
  export: async () => (await import('./export.ts')).addExportCommand,
  chaos: async () => (await import('./chaos.ts')).addChaosCommand,
  doctor: async () => (await import('./doctor.ts')).addDoctorCommand,
  bundle: async () => (await import('./bundle.ts')).addBundleCommand,
  sample: async () => (await import('./sample.ts')).addSampleCommand,
  simulate: async () => (await import('./simulate.ts')).addSimulateCommand,
  config: async () => (await import('./config.ts')).addConfigCommand,
  quickstart: async () => (await import('./quickstart.ts')).addQuickstartCommand,
  playground: async () => (await import('./playground.ts')).addPlaygroundCommand,
};

export const COMMAND_NAMES: readonly string[] = Object.keys(COMMANDS);

/** The program with what `words` (the arguments) need of it; all commands where they name none: for help and suggestions. */
export async function programFor(words: readonly string[]): Promise<Command> {
  const program = new Command('lockstep')
    .description(
      'Distributed data-parallel training with the same weights to the bit, however many workers took part',
    )
    .version(lockstepVersion())
    .showSuggestionAfterError();
  const asked = words.find((word) => !word.startsWith('-') && word !== 'help') ?? '';
  const names = Object.hasOwn(COMMANDS, asked) ? [asked] : COMMAND_NAMES;
  for (const add of await Promise.all(names.map((name) => COMMANDS[name]!()))) add(program);
  return program;
}
