/**
 * A TensorBoard event file in a run's folder: `tensorboard --logdir RUN/tensorboard` shows the run. Each start
 * of a run, and each command that adds samples, has a file of its own, as TensorBoard expects.
 */
import { join } from 'node:path';
import { AppendFile } from '../append-file.ts';
import type { CommittedRecord } from '../view/record.ts';
import { scalarsEvent, textEvent, versionEvent } from './events.ts';

export const TENSORBOARD_FOLDER = 'tensorboard';

export class TensorBoardFile {
  readonly #file: AppendFile;

  /** `onTrouble` hears once when no more can be written. Throws DISK_FULL. */
  static async create(
    folder: string,
    host: string,
    onTrouble: (reason: string) => void,
  ): Promise<TensorBoardFile> {
    const seconds = String(Math.floor(Date.now() / 1000)).padStart(10, '0');
    const name = `events.out.tfevents.${seconds}.${host.replace(/[^\w.-]/g, '_')}.${process.pid}`;
    const file = await AppendFile.open(join(folder, name), onTrouble);
    file.append(versionEvent(wallTime()));
    return new TensorBoardFile(file);
  }

  private constructor(file: AppendFile) {
    this.#file = file;
  }

  addCommit(
    { step, loss, learningRate, tokens, stepMs, workers }: CommittedRecord,
    goodput: number | null,
  ): void {
    const speed =
      stepMs === null ? {} : { 'speed/tokens_per_second': (tokens * 1000) / stepMs, 'speed/step_ms': stepMs };
    this.#file.append(
      scalarsEvent(wallTime(), step, {
        'train/loss': loss,
        'train/learning_rate': learningRate,
        'cluster/workers': workers.length,
        ...speed,
        ...(goodput === null ? {} : { 'speed/goodput': goodput }),
      }),
    );
  }

  addValidation(step: number, loss: number): void {
    this.#file.append(scalarsEvent(wallTime(), step, { 'validation/loss': loss }));
  }

  /** `text` is shown as it is: a code block keeps Markdown's hands off it. */
  addText(name: string, step: number, text: string): void {
    const indented = text.replace(/^/gm, '    ');
    this.#file.append(textEvent(wallTime(), step, name, indented));
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

function wallTime(): number {
  return Date.now() / 1000;
}
