export {
  diskFailure,
  openToRead,
  readFully,
  readPieces,
  syncDirectory,
  writeFully,
  writeSynced,
  writeWhole,
  writing,
} from './durable.ts';
