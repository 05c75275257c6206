/**
 * One line per set-up step: `[2/5] npm packages ... installing ... done (8.4 s)`.
 * On a terminal the line is rewritten in place with live detail; elsewhere each phase is named once, so that a log stays
 * readable. When quiet, a step that finds nothing to do prints nothing. Everything goes to standard error: standard output
 * belongs to the program that is set up.
 *
 * @typedef {(phase: string, detail?: string) => void} Note says what a step is busy with
 * @typedef {{ did: boolean, lacking?: boolean, said?: string }} Outcome
 *   did: something was changed or tried; lacking: set-up goes on without what the step is for
 */

/** A step that cannot be satisfied: the message is for the user and names the remedy. */
export class SetupError extends Error {
  /**
   * @param {string} message one line
   * @param {string} [output] what the failed tool printed, shown below the line
   */
  constructor(message, output = '') {
    super(message);
    this.name = 'SetupError';
    this.output = output;
  }
}

/** Prints the steps of one set-up run. */
export class Progress {
  #quiet;
  #total;
  #out;
  #number = 0;

  /** @param {{ quiet: boolean, total: number, out?: NodeJS.WriteStream }} options */
  constructor({ quiet, total, out = process.stderr }) {
    this.#quiet = quiet;
    this.#total = total;
    this.#out = out;
  }

  /**
   * Runs one step and prints its line. A SetupError is printed, then rethrown.
   * @param {string} title
   * @param {(note: Note) => Promise<Outcome>} body
   * @returns {Promise<Outcome>}
   */
  async step(title, body) {
    this.#number += 1;
    const head = `[${this.#number}/${this.#total}] ${title} ...`;
    const live = this.#out.isTTY === true;
    const started = performance.now();
    let isOpen = false;
    let lastPhase = '';

    const open = () => {
      if (!isOpen) this.#out.write(head);
      isOpen = true;
    };
    const close = (/** @type {string} */ words) => {
      const seconds = ((performance.now() - started) / 1000).toFixed(1);
      open();
      this.#out.write(`${live ? `\r\u001b[K${head}` : ''} ${words} (${seconds} s)\n`);
    };
    const note = (/** @type {string} */ phase, /** @type {string | undefined} */ detail) => {
      open();
      if (live) {
        const text = `${head} ${detail === undefined ? phase : `${phase} ${detail}`}`;
        this.#out.write(`\r\u001b[K${text.slice(0, (this.#out.columns || 80) - 1)}`);
      } else if (phase !== lastPhase) {
        this.#out.write(` ${phase} ...`);
      }
      lastPhase = phase;
    };

    if (!this.#quiet) open();
    try {
      const outcome = await body(note);
      const word = outcome.lacking ? 'not available' : outcome.did ? 'done' : 'already done';
      const words = outcome.said === undefined ? word : `${word}: ${outcome.said}`;
      if (isOpen || outcome.did) close(words);
      return outcome;
    } catch (error) {
      const isExpected = error instanceof SetupError;
      close(isExpected ? `failed: ${error.message}` : 'failed');
      if (isExpected && error.output !== '') this.#out.write(`${error.output.trimEnd()}\n`);
      throw error;
    }
  }
}

/** @param {number} bytes */
export function megabytes(bytes) {
  return `${Math.round(bytes / 1e6)} MB`;
}
