/** Preset, file and flags become one configuration, or one line that says what is wrong where. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { LockstepError } from '../../../src/base/index.ts';
import { type ConfigTree, PRESETS, readConfigFile, resolveConfig } from '../../../src/config/index.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';

const PATH = 'run.json';

/** The message that a configuration is refused with; one line, always. */
function refusalOf(file: ConfigTree | null, flags: ConfigTree = {}): string {
  try {
    resolveConfig({ file: file === null ? undefined : { path: PATH, values: file }, flags });
  } catch (error) {
    expect(error).toBeInstanceOf(LockstepError);
    expect(error).toMatchObject({ code: 'CONFIG_INVALID' });
    const { message } = error as LockstepError;
    expect(message).not.toContain('\n');
    return message;
  }
  return 'accepted';
}

describe('precedence', () => {
  test('default < file < flag, setting by setting', () => {
    const config = resolveConfig({
      file: { path: PATH, values: { steps: 7, optimizer: { warmupSteps: 2, beta1: 0.5 } } },
      flags: { steps: 9, optimizer: { beta1: 0.6 } },
    });
    expect(config.steps).toBe(9);
    expect(config.optimizer).toEqual({ ...PRESETS.tiny.optimizer, warmupSteps: 2, beta1: 0.6 });
    expect(config.model).toEqual(PRESETS.tiny.model);
  });

  test('a preset in the file holds, and one among the flags wins over it', () => {
    const file = { path: PATH, values: { preset: 'small', steps: 3 } };
    expect(resolveConfig({ file }).model).toEqual(PRESETS.small.model);
    const { model, steps, preset } = resolveConfig({ file, flags: { preset: 'base' } });
    expect(model).toEqual(PRESETS.base.model);
    expect({ steps, preset }).toEqual({ steps: 3, preset: 'base' });
  });

  test('a flag that was not given (undefined) changes nothing', () => {
    expect(resolveConfig({ flags: { steps: undefined, engine: undefined } })).toEqual(PRESETS.tiny);
  });

  test('null is a value: it turns clipping off', () => {
    expect(resolveConfig({ flags: { optimizer: { clipNorm: null } } }).optimizer.clipNorm).toBeNull();
  });

  test('a resumed run keeps its own settings under file and flags', () => {
    const base = { ...PRESETS.small, seed: 77 };
    const config = resolveConfig({ base, flags: { preset: 'small', steps: 5000 } });
    expect(config).toEqual({ ...base, steps: 5000 });
  });

  test('the result cannot be changed', () => {
    const config = resolveConfig({});
    expect(() => Object.assign(config, { steps: 1 })).toThrow(TypeError);
    expect(() => Object.assign(config.data.noise, { maskRatio: 1 })).toThrow(TypeError);
  });
});

describe('unknown settings', () => {
  test.each([
    [{ optimiser: {} }, 'run.json: unknown setting optimiser; did you mean optimizer?'],
    [
      { optimizer: { learningrate: 1 } },
      'unknown setting optimizer.learningrate; did you mean learningRate?',
    ],
    [{ data: { noise: { maskratio: 1 } } }, 'unknown setting data.noise.maskratio; did you mean maskRatio?'],
    [{ colour: 'red' }, 'run.json: unknown setting colour; `lockstep config` prints all there are'],
    [{ step: { batches: 1 } }, 'run.json: unknown setting step.batches; `lockstep config`'],
    // Names that every object has are settings of none.
    [{ constructor: 1 }, 'run.json: unknown setting constructor'],
    [{ model: { toString: 1 } }, 'run.json: unknown setting model.toString'],
    [JSON.parse('{"__proto__": {"steps": 1}}') as ConfigTree, 'run.json: unknown setting __proto__'],
  ])('%o are named, with the one that was meant', (values, message) => {
    expect(refusalOf(values)).toContain(message);
  });

  test('among flags too', () => {
    expect(refusalOf(null, { optimizer: { rate: 1 } })).toContain('unknown setting optimizer.rate');
    expect(refusalOf(null, { stepz: 4 })).toContain('unknown setting stepz');
  });
});

describe('impossible values', () => {
  test.each<[ConfigTree, string]>([
    [{ steps: 0 }, 'steps is 0:'],
    [{ steps: 1.5 }, 'steps is 1.5:'],
    [{ steps: '60' }, 'steps is "60":'],
    [{ seed: -1 }, 'seed is -1:'],
    [{ seed: 2 ** 53 }, 'seed is 9007199254740992:'],
    [{ step: { microBatches: 0 } }, 'step.microBatches is 0:'],
    [{ step: { microBatches: 65_537 } }, 'step.microBatches is 65537:'],
    [{ step: { microBatchSize: 0 } }, 'step.microBatchSize is 0:'],
    [{ model: { heads: 5 } }, 'model.heads is 5: must divide dModel evenly'],
    [{ model: { heads: 0 } }, 'model.heads is 0:'],
    [{ model: { dropout: 1 } }, 'model.dropout is 1:'],
    [{ model: { initStd: 0 } }, 'model.initStd is 0:'],
    [{ data: { sequenceLength: 65 } }, 'data.sequenceLength is 65: expected at most model.maxPositions (64)'],
    [{ data: { sequenceLength: 7 } }, 'data.sequenceLength is 7:'],
    [{ data: { noise: { maskRatio: 1.1 } } }, 'data.noise.maskRatio is 1.1:'],
    [{ optimizer: { learningRate: 0 } }, 'optimizer.learningRate is 0:'],
    [{ optimizer: { schedule: 'step' } }, 'optimizer.schedule is "step":'],
    [{ optimizer: { beta2: 1 } }, 'optimizer.beta2 is 1:'],
    [{ checkpoint: { every: 0 } }, 'checkpoint.every is 0:'],
    [{ network: { heartbeatLimitMs: 499 } }, 'network.heartbeatLimitMs is 499:'],
    [{ network: { pieceBytes: 16_385 } }, 'network.pieceBytes is 16385: must be a multiple of 16384'],
    [{ engine: 'cuda' }, 'engine is "cuda":'],
    [{ matmulPrecision: 'bfloat16' }, 'matmulPrecision is "bfloat16":'],
    [{ model: null }, 'model is null:'],
    [{ model: 4 }, 'model is 4:'],
  ])('%o are refused with field and value', (values, message) => {
    expect(refusalOf(values)).toContain(message);
    expect(refusalOf(null, values)).toContain(message);
  });

  test('the file is named when the value is the file’s, and not when a flag overrode it', () => {
    expect(refusalOf({ steps: 0 })).toContain('run.json: steps is 0:');
    expect(refusalOf({ seed: 1 }, { steps: 0 })).toMatch(/^steps is 0:/);
  });

  test('an unknown preset is refused with the known ones', () => {
    expect(refusalOf(null, { preset: 'huge' })).toBe('--preset is "huge": expected one of tiny, small, base');
    expect(refusalOf({ preset: 3 })).toBe('run.json: preset is 3: expected one of tiny, small, base');
  });
});

describe('readConfigFile', () => {
  test('reads an object', async () => {
    const path = join(await temporaryFolder(), 'run.json');
    await writeFile(path, '{"steps": 5}');
    expect(readConfigFile(path)).toEqual({ steps: 5 });
  });

  test.each([
    ['{"steps": 5', 'CONFIG_INVALID', 'is not valid JSON'],
    ['[1]', 'CONFIG_INVALID', 'expected a JSON object'],
    ['null', 'CONFIG_INVALID', 'expected a JSON object'],
    ['', 'CONFIG_INVALID', 'is not valid JSON'],
  ])('refuses %j', async (text, code, message) => {
    const path = join(await temporaryFolder(), 'run.json');
    await writeFile(path, text);
    expect(() => readConfigFile(path)).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(`${path}`) }),
    );
    expect(() => readConfigFile(path)).toThrow(message);
  });

  test('says which file is not there', () => {
    expect(() => readConfigFile('/nowhere/run.json')).toThrow(
      expect.objectContaining({
        code: 'DATA_MISSING',
        message: expect.stringContaining('--config /nowhere/run.json'),
      }),
    );
  });
});
