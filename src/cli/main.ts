#!/usr/bin/env node
/** The `lockstep` command: each subcommand is a file of this folder. */
import { Command } from 'commander';
import { addBundleCommand } from './bundle.ts';
import { addChaosCommand } from './chaos.ts';
import { addConfigCommand } from './config.ts';
import { addCoordinatorCommand } from './coordinator.ts';
import { addDashboardCommand } from './dashboard.ts';
import { addDigestCommand } from './digest.ts';
import { addDoctorCommand } from './doctor.ts';
import { addEvaluateCommand } from './evaluate.ts';
import { addExportCommand } from './export.ts';
import { addFinetuneCommand } from './finetune.ts';
import { addGenerateCommand } from './generate.ts';
import { addImportCommand } from './import.ts';
import { addInspectCommand } from './inspect.ts';
import { addPlaygroundCommand } from './playground.ts';
import { addPrepareCommand } from './prepare.ts';
import { addPrepareWorkerCommand } from './prepare-worker.ts';
import { addQuickstartCommand } from './quickstart.ts';
import { addSampleCommand } from './sample.ts';
import { addServeCommand } from './serve.ts';
import { addSimulateCommand } from './simulate.ts';
import { addStatusCommand } from './status.ts';
import { addTrainCommand } from './train.ts';
import { addVerifyCommand } from './verify.ts';
import { lockstepVersion } from './version.ts';
import { addWorkerCommand } from './worker.ts';

const program = new Command('lockstep')
  .description(
    'Distributed data-parallel training with the same weights to the bit, however many workers took part',
  )
  .version(lockstepVersion())
  .showSuggestionAfterError();

addPrepareCommand(program);
addPrepareWorkerCommand(program);
addInspectCommand(program);
addTrainCommand(program);
addFinetuneCommand(program);
addCoordinatorCommand(program);
addWorkerCommand(program);
addDashboardCommand(program);
addStatusCommand(program);
addDigestCommand(program);
addEvaluateCommand(program);
addGenerateCommand(program);
addServeCommand(program);
addVerifyCommand(program);
addImportCommand(program);
addExportCommand(program);
addChaosCommand(program);
addDoctorCommand(program);
addBundleCommand(program);
addSampleCommand(program);
addSimulateCommand(program);
addConfigCommand(program);
addQuickstartCommand(program);
addPlaygroundCommand(program);

await program.parseAsync();
