/** What the server and the thread that generates tell each other. Both are of one version: not parsed. */
import type { ErrorCode } from '../base/index.ts';
import type {
  GeneratedText,
  GenerationOptions,
  GeneratorFacts,
  OpenGeneratorOptions,
} from '../generation/index.ts';

export interface ThreadData {
  readonly place: string;
  readonly open: OpenGeneratorOptions;
}

export type ToThread =
  | { readonly type: 'generate'; readonly texts: readonly string[]; readonly options: GenerationOptions }
  | { readonly type: 'close' };

export type FromThread =
  | { readonly type: 'ready'; readonly facts: GeneratorFacts }
  | { readonly type: 'generated'; readonly results: readonly GeneratedText[] }
  | { readonly type: 'failed'; readonly code: ErrorCode | null; readonly reason: string };
