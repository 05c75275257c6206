export { diskFailure, readFully, readPieces, syncDirectory, writeFully, writing } from './durable.ts';
