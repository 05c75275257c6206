export {
  diskFailure,
  openToRead,
  readFully,
  readPieces,
  syncDirectory,
  writeFully,
  writing,
} from './durable.ts';
