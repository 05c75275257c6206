/** What the playground's process is asked and what it answers. Between processes of one version: not parsed. */

import type { Validated } from '../evaluation/index.ts';

export interface GenerateOrder {
  readonly text: string;
  /** Null takes the newest valid checkpoint. */
  readonly checkpoint: number | null;
  /** Slots to fill; null takes the run's sequence length. */
  readonly length: number | null;
  /** Confidence from which on a token leaves its layer, 1 - H / ln V for an entropy H; null computes every layer. */
  readonly threshold: number | null;
}

export interface ValidateOrder {
  readonly step: number;
  readonly samplesMax: number;
}

export interface ExamplePlace {
  readonly step: number;
  readonly slot: number;
  readonly row: number;
}

export interface Orders {
  readonly describe: { readonly order: null; readonly answer: DatasetFacts };
  readonly generate: { readonly order: GenerateOrder; readonly answer: Generation };
  readonly example: { readonly order: ExamplePlace; readonly answer: Example };
  readonly validate: { readonly order: ValidateOrder; readonly answer: Validated };
}
export type OrderName = keyof Orders;

export interface DatasetFacts {
  readonly articles: number;
  readonly tokens: number;
  readonly vocabSize: number;
  /** Of the run's sequence length. */
  readonly samples: number;
}

export interface Generation {
  /** Step of the checkpoint that was asked. */
  readonly step: number;
  readonly layers: number;
  readonly tokens: readonly {
    readonly text: string;
    readonly layer: number;
    readonly confidence: number | null;
  }[];
  readonly text: string;
  readonly sourceTokens: number;
  /** The input was cut to so many tokens; null when it was not. */
  readonly cutTo: number | null;
  /** Of the model alone. */
  readonly generateMs: number;
}

export interface Example {
  readonly source: readonly { readonly text: string; readonly mask: boolean }[];
  readonly target: readonly string[];
  /** Null when the run has no checkpoint yet. */
  readonly generated: Generation | null;
}

export interface Asked {
  readonly id: number;
  readonly name: OrderName;
  readonly order: unknown;
}

export type Answered =
  | { readonly id: number; readonly ok: true; readonly answer: unknown }
  | { readonly id: number; readonly ok: false; readonly reason: string };
