/** Starts the built `lockstep` with a dashboard, and finds where it is served. */
import { type Running, start } from './lockstep-command.ts';

export interface DashboardRun {
  readonly running: Running;
  /** Ends in a slash. */
  readonly url: string;
  /** Ends it at once, and waits for that. */
  end(): Promise<void>;
}

/** `args` begin with the command; `--dashboard-port` is the caller's to give. */
export async function startWithDashboard(
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<DashboardRun> {
  const running = start(args, { env });
  const url = await new Promise<string>((resolve, reject) => {
    let text = '';
    const look = (chunk: Buffer) => {
      text += chunk.toString();
      const found = /dashboard.*?(http:\/\/[^\s"]+\/)/.exec(text)?.[1];
      if (found !== undefined) resolve(found);
    };
    running.child.stdout?.on('data', look);
    running.child.stderr?.on('data', look);
    void running.finished.then(({ stdout, stderr }) =>
      reject(new Error(`no dashboard:\n${stdout}\n${stderr}`)),
    );
  });
  const end = async () => {
    // The first asks it to stop after this step, the second not to wait for that.
    running.kill('SIGINT');
    running.kill('SIGINT');
    await running.finished;
  };
  return { running, url, end };
}

/** The JSON answer of a path of the dashboard. */
export async function ask<Answer>({ url }: DashboardRun, path: string): Promise<Answer> {
  const response = await fetch(new URL(path, url));
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return (await response.json()) as Answer;
}
