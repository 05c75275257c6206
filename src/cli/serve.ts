/** `lockstep serve PLACE`: generation over HTTP, until interrupted. */
import type { Command } from 'commander';
import { LockstepError } from '../base/index.ts';
import { isLoopback } from '../dashboard/index.ts';
import { GenerationServer } from '../serving/index.ts';
import { atLeastOne, port } from './flags.ts';
import { addModelFlags, type ModelFlags, openOptionsOf } from './generation-flags.ts';
import { runCommand, say } from './terminal.ts';
import { TOKEN_VARIABLE } from './token.ts';

interface ServeFlags extends ModelFlags {
  readonly port: number;
  readonly host: string;
  readonly waiting: number;
}

export function addServeCommand(program: Command): void {
  const command = program
    .command('serve')
    .description('serve generation over HTTP: POST /generate, GET /healthz; until interrupted')
    .argument('<place>', 'folder of a run, or of a model as Hugging Face lays it out')
    .option('--port <n>', 'port to serve on; 0 takes a free one', port, 7790)
    .option(
      '--host <address>',
      `interface to listen on; beyond loopback every request needs the token in ${TOKEN_VARIABLE}`,
      '127.0.0.1',
    )
    .option('--waiting <n>', 'requests that may wait in line; more are answered with 503', atLeastOne, 32);
  addModelFlags(command).action((place: string, flags: ServeFlags) => runCommand(() => serve(place, flags)));
}

async function serve(place: string, flags: ServeFlags): Promise<number> {
  const server = await GenerationServer.start({
    ...{ place, open: openOptionsOf(flags), waitingMax: flags.waiting },
    ...{ host: flags.host, port: flags.port, token: tokenFor(flags.host) },
  });
  say(`serving: ${server.url}`);
  await new Promise<void>((resolve) => {
    process.once('SIGINT', resolve);
    process.once('SIGTERM', resolve);
  });
  await server.close();
  return 0;
}

/** On loopback whoever is on this machine may ask; beyond it the token is asked for. */
function tokenFor(host: string): string | null {
  if (isLoopback(host)) return null;
  const token = process.env[TOKEN_VARIABLE] ?? '';
  if (token.length >= 16) return token;
  throw new LockstepError(
    'CONFIG_INVALID',
    `--host ${host} is beyond loopback and ${TOKEN_VARIABLE} is ${token === '' ? 'not set' : 'shorter than 16 characters'}: set a secret, as from \`openssl rand -hex 32\``,
  );
}
