export { ByteSource, cannotRead, fileSize, type ReaderContext } from './byte-source.ts';
export { compressionOf } from './compression.ts';
export { download } from './download.ts';
export { findInputs } from './find-inputs.ts';
export { formatOf, formatOfName, INPUT_FORMATS, type InputFormat } from './format.ts';
export { COMPRESSION_RATIO, planInput, scanFile } from './layout.ts';
export { readLines } from './lines.ts';
export { type PlannedInput, plannedInputSchema, recordsOfUnit, recordsOfWhole } from './units.ts';
export { DUMPS_URL, describeRemote, newestDump, type RemoteFile } from './wikipedia.ts';
