/**
 * Verifies a commit log on disk: every record's checksum and place (scan.ts) and meaning (verify.ts),
 * in one pass and bounded memory. Reads only and takes no lock: a run that is appending may be looked at.
 */
import { openToRead } from '../storage/index.ts';
import { scanHistory } from './scan.ts';
import { LogVerifier, type LogVerifierOptions, type VerifiedLog } from './verify.ts';

/**
 * What `options.path` holds, up to its last whole record. Throws DATA_MISSING when there is no such
 * file, and HISTORY_CORRUPT naming the first line that is wrong.
 */
export async function verifyLog(options: LogVerifierOptions): Promise<VerifiedLog> {
  const { path } = options;
  const verifier = new LogVerifier(options);
  const handle = await openToRead(path);
  try {
    const records = scanHistory(handle, path);
    let next = await records.next();
    while (next.done !== true) {
      verifier.take(next.value);
      next = await records.next();
    }
    return verifier.end(next.value);
  } finally {
    await handle.close();
  }
}
