#!/usr/bin/env node
/** The `lockstep` command. */
import { endWithOutput } from './output.ts';
import { programFor } from './program.ts';

endWithOutput();
const program = await programFor(process.argv.slice(2));
await program.parseAsync();
