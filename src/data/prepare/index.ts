export { JobSite, type PrepareJob } from './jobs.ts';
export {
  PREPARE_PHASES,
  type PrepareOptions,
  type PreparePhase,
  type PrepareProgress,
} from './options.ts';
export { type PreparedDataset, prepareDataset, type RunJobs, runHere } from './prepare.ts';
export { WorkFolder } from './work-folder.ts';
