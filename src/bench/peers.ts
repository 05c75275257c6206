/** `npm run peers`: makes the Python environment that peers of the benchmark and tests of parity need. */
import { ensureTorch } from './torch-environment.ts';

const torch = await ensureTorch((line) => process.stdout.write(`${line}\n`));
if (torch.available) process.stdout.write(`${torch.python} has PyTorch ${torch.version}\n`);
else process.stderr.write(`lockstep: no peers: ${torch.reason}\n`);
process.exitCode = torch.available ? 0 : 1;
