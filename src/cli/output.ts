/**
 * Who reads standard output may go before a command has said everything, as `head` does, and the disk behind it may fill. Node
 * ignores SIGPIPE (signal(7)) and reports a write that failed as an event; here, for every command, it ends the process: without a
 * word and with the status of a process that SIGPIPE ended, or with one line.
 */
import { messageOf, systemCodeOf } from '../base/index.ts';

/** 128 and the number of the signal, as shells tell it. */
const ENDED_BY_SIGPIPE = 128 + 13;

export function endWithOutput(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error) => {
      if (systemCodeOf(error) === 'EPIPE') process.exit(ENDED_BY_SIGPIPE);
      if (stream === process.stdout) {
        process.stderr.write(
          `lockstep: DISK_FULL: standard output could not be written (${messageOf(error)}): give it a place with space\n`,
        );
      }
      process.exit(1);
    });
  }
}
