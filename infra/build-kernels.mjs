/**
 * Compiles the WebAssembly kernels: src/kernels/*.wat, joined in name order into one module, to
 * dist/kernels/kernels.wasm. The second half of `npm run build`.
 * The output is a pure function of the .wat files.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import createWabt from 'wabt';

const sourceFolder = new URL('../src/kernels/', import.meta.url);
const outputFolder = new URL('../dist/kernels/', import.meta.url);

const names = readdirSync(sourceFolder)
  .filter((name) => name.endsWith('.wat'))
  .sort();
const sources = names.map((name) => readFileSync(new URL(name, sourceFolder), 'utf8'));

const features = { simd: true };
const wabt = await createWabt();
const module = wabt.parseWat('kernels.wat', sources.join('\n'), features);
module.resolveNames();
module.validate(features);
const { buffer } = module.toBinary({});
module.destroy();

// Renamed into place, so that a process starting meanwhile reads the old file or the new, never half of one.
mkdirSync(outputFolder, { recursive: true });
const output = new URL('kernels.wasm', outputFolder);
const temporary = new URL(`kernels.wasm.${process.pid}`, outputFolder);
writeFileSync(temporary, buffer);
renameSync(temporary, output);
console.log(`${fileURLToPath(output)}: ${buffer.length} bytes from ${names.join(', ')}`);
