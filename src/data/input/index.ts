export { ByteSource, fileSize, type ReaderContext } from './byte-source.ts';
export { compressionOf } from './compression.ts';
export { formatOf, formatOfName, INPUT_FORMATS, type InputFormat } from './format.ts';
export { COMPRESSION_RATIO, planInput } from './layout.ts';
export { readLines } from './lines.ts';
export { type PlannedInput, plannedInputSchema, recordsOfUnit, recordsOfWhole } from './units.ts';
