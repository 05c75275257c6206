export { assert, InvariantError, unreachable } from './assert.ts';
export {
  ERROR_CODES,
  type ErrorCode,
  type ErrorContext,
  LockstepError,
  messageOf,
  systemCodeOf,
} from './errors.ts';
export {
  FUSED_KERNELS,
  type FusedKernelKey,
  type FusedKernelName,
  fusedKernelName,
  WHOLE_KERNELS,
} from './fused-kernels.ts';
export { asRunId, type RunId, type SlotRange } from './ids.ts';
export { type LogFields, type Logger, silentLogger } from './logger.ts';
export { layoutOf, layoutSize, type ParameterEntry, type ParameterLayout } from './parameter-layout.ts';
export {
  type PhiloxBase,
  PhiloxRng,
  philox4x32,
  philoxBase,
  RANDOM_STREAMS,
  type RandomKey,
  type RandomStream,
} from './philox.ts';
export { bytesField, doubleField, floatField, message, varintField } from './protobuf.ts';
export { quantile } from './quantile.ts';
export { SECTIONS, type Section } from './state-sections.ts';
export { SteadyClock } from './steady-clock.ts';
export { type Column, renderTable } from './text-table.ts';
