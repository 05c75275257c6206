/** `lockstep dashboard RUN`: the pages of a run from its folder, whether it runs, has ended, or is yet to start. */
import type { Command } from 'commander';
import { DashboardServer, RunFollower } from '../dashboard/index.ts';
import { port } from './flags.ts';
import { announcement, DASHBOARD_TOKEN_VARIABLE, dashboardTokenFor } from './observe.ts';
import { playgroundStarter, twinStarter } from './playground.ts';
import { runCommand, say, warn } from './terminal.ts';
import { lockstepVersion } from './version.ts';

interface ShowFlags {
  readonly port: number;
  readonly host: string;
  readonly data?: string;
  readonly twin?: string;
}

export function addDashboardCommand(program: Command): void {
  program
    .command('dashboard')
    .description('serve the dashboard of a run from its folder, until interrupted')
    .argument('<run>', 'folder of the run')
    .option('--port <n>', 'port to serve on; 0 takes a free one', port, 7780)
    .option(
      '--host <address>',
      `interface to listen on; beyond loopback it asks for ${DASHBOARD_TOKEN_VARIABLE}`,
      '127.0.0.1',
    )
    .option('--data <dir>', 'data set for the playground (default: the one that the run was started with)')
    .option('--twin <run>', 'autoregressive run on the same data, whose speed the playground shows beside')
    .action((run: string, flags: ShowFlags) => runCommand(() => show(run, flags)));
}

async function show(run: string, flags: ShowFlags): Promise<number> {
  const follower = new RunFollower(run);
  await follower.refresh();
  const token = dashboardTokenFor(flags.host);
  const startTwin = await twinStarter(flags.twin);
  const server = await DashboardServer.start({
    ...{ host: flags.host, port: flags.port, token: token?.value ?? null, version: lockstepVersion() },
    source: follower,
    ...{ actions: null, queue: null, isBoardWritable: false },
    startPlayground: playgroundStarter(run),
    startTwin,
    dataDir: flags.data ?? null,
    onTrouble: warn,
  });
  say(announcement(server.url, token));
  await new Promise<void>((resolve) => {
    process.once('SIGINT', resolve);
    process.once('SIGTERM', resolve);
  });
  await server.close();
  return 0;
}
