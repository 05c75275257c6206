export { BrokenProperty, FAULTS, type Fault, SimulatedCluster } from './cluster.ts';
export { Oracle } from './oracle.ts';
export { type Parts, REAL_PARTS } from './parts.ts';
export { runSchedule, type Schedule, type ScheduleOptions, scheduleOf } from './schedule.ts';
