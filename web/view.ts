/**
 * What a view is to the frame around it. A view builds its elements once, when it is first shown; `update` then only changes
 * what differs, so that focus and selection survive.
 */
import type { LiveRun } from './live.ts';

export interface View {
  readonly root: HTMLElement;
  /** Called when the view comes on screen, with what follows its name in the address. */
  show(rest: readonly string[]): void;
  hide(): void;
  /** Called after each change of the run while the view is on screen, and once a second for ages and times left. */
  update(run: LiveRun): void;
  /** Colours have changed: redraw what is drawn on canvas. */
  recolor(): void;
}
