/**
 * The gradients of this worker's slots and where they are added up: in the host's memory, or first on the device where
 * the engine can. Sums on the device are brought home before others need them, whole or not at all; a device that
 * makes trouble loses them, and then what was in them is computed again, to the same bits, and the host adds from then on.
 */
import { assert } from '../base/index.ts';
import type { MicroBatch } from '../data/index.ts';
import type { DeviceSums, Engine } from '../engine/index.ts';
import type { GradientResult, SlotKey, TrainingModel } from '../model/index.ts';
import { DeviceFragments, freeGradient } from './device-fragments.ts';
import { type DeviceContext, gradientDespiteTrouble } from './device-trouble.ts';
import type { FragmentStore } from './fragment-store.ts';
import type { SharedFragment } from './thread-messages.ts';

export interface SlotGradientsOptions extends Pick<DeviceContext, 'parameters' | 'onRestart'> {
  readonly engine: Pick<Engine, 'device' | 'restart' | 'troubleOf' | 'readInto'>;
  readonly model: Pick<TrainingModel, 'layout' | 'gradient' | 'gradientOnDevice' | 'setParameters'>;
  readonly fragments: FragmentStore;
  readonly microBatches: number;
  /** Null where the host adds. */
  readonly sums: DeviceSums | null;
  /** A micro-batch of this run once more. */
  batchOf(key: SlotKey): Promise<MicroBatch>;
}

/** A gradient that is neither in the sums nor dropped yet; one of the two must be called. */
export interface SlotGradient extends GradientResult {
  /** False if it is not finite; then sums that it met are of no use any more. */
  keep(): boolean;
  drop(): void;
}

export class SlotGradients {
  readonly #options: SlotGradientsOptions;
  /** Null where the host adds, or does since there was trouble. */
  #device: { readonly sums: DeviceSums; readonly fragments: DeviceFragments } | null;
  /** Of the slots that are on the device. */
  #keys: SlotKey[] = [];

  constructor(options: SlotGradientsOptions) {
    this.#options = options;
    const { sums, microBatches } = options;
    this.#device = sums === null ? null : { sums, fragments: new DeviceFragments(sums, microBatches) };
  }

  /** Whether sums of slots that were kept are on the device. */
  get areOnDevice(): boolean {
    return this.#keys.length > 0;
  }

  /** What is in the host's memory. */
  fragments(): SharedFragment[] {
    return this.#options.fragments.fragments();
  }

  async compute(batch: MicroBatch, key: SlotKey): Promise<SlotGradient> {
    if (this.#device !== null) {
      try {
        return await this.#onDevice(batch, key);
      } catch (error) {
        await this.#recover(error);
      }
    }
    return this.#onHost(batch, key);
  }

  /** Reads what is on the device, if anything is, into the host's fragments. */
  async bringHome(): Promise<void> {
    if (!this.areOnDevice) return;
    assert(this.#device !== null, 'what is on the device is in sums there');
    const { fragments, model, engine } = this.#options;
    try {
      await this.#device.fragments.bringHome(fragments, model.layout, engine.readInto);
      this.#keys = [];
    } catch (error) {
      await this.#recover(error);
    }
  }

  /** Forgets everything; the step is over. */
  clear(): void {
    this.#options.fragments.clear();
    this.#device?.fragments.clear();
    this.#keys = [];
  }

  async #onDevice(batch: MicroBatch, key: SlotKey): Promise<SlotGradient> {
    const { sums, fragments } = this.#device!;
    const { gradient, ...result } = await this.#options.model.gradientOnDevice(batch, key);
    const { leaf, allFinite } = await sums.leaf(gradient);
    const drop = () => freeGradient(leaf);
    const keep = () => {
      if (!allFinite) {
        drop();
        return false;
      }
      fragments.add(key.slot, leaf);
      this.#keys.push(key);
      return true;
    };
    return { ...result, keep, drop };
  }

  async #onHost(batch: MicroBatch, key: SlotKey): Promise<SlotGradient> {
    const { fragments } = this.#options;
    const leaf = fragments.leaf();
    const result = await gradientDespiteTrouble(this.#options, batch, key, leaf);
    const drop = () => fragments.release(leaf);
    return { ...result, keep: () => fragments.add(key.slot, leaf), drop };
  }

  /** Goes on without sums on the device; throws what has nothing to do with the device. */
  async #recover(error: unknown): Promise<void> {
    if (this.#options.engine.troubleOf(error) === null) throw error;
    this.#device?.fragments.clear();
    this.#device = null;
    for (const key of this.#keys.splice(0)) {
      const gradient = await this.#onHost(await this.#options.batchOf(key), key);
      assert(gradient.keep(), 'what was finite is so once more');
    }
  }
}
