/**
 * `npm run quickstart -- <arguments>`: set-up, then `lockstep quickstart` with the same arguments, terminal, exit status and
 * signals, as if it had been started directly.
 */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { SetupError, setup } from './setup.mjs';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

try {
  await setup({ root });
} catch (error) {
  // A SetupError has been printed by the step that met it.
  if (!(error instanceof SetupError)) throw error;
  process.exit(1);
}

const main = path.join(root, 'dist', 'cli', 'main.js');
const child = spawn(process.execPath, [main, 'quickstart', ...process.argv.slice(2)], { stdio: 'inherit' });

/** @type {NodeJS.Signals[]} */
const signals = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'];
for (const signal of signals) {
  process.on(signal, () => {
    // Control-C reaches the child from the terminal as well: a second one would say "at once".
    const isFromTerminal = process.stdin.isTTY && (signal === 'SIGINT' || signal === 'SIGQUIT');
    if (!isFromTerminal) child.kill(signal);
  });
}
child.on('error', (error) => {
  process.stderr.write(`quickstart: ${error.message}\n`);
  process.exit(1);
});
child.on('exit', (code, signal) => {
  if (signal === null) process.exit(code ?? 1);
  for (const name of signals) process.removeAllListeners(name);
  process.kill(process.pid, signal);
});
