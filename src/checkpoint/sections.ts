/**
 * How a checkpoint is laid out on disk: its folder's name, its files, and where in them each section
 * (a flat vector of the model's length) lies. Pure.
 *
 *   step-00000012/model.safetensors      parameters, under their own names
 *                 optimizer.safetensors  first_moment.<name> ..., then second_moment.<name> ...
 *                 manifest.json          written last
 *
 * Nothing here depends on the number of workers (DESIGN section 7).
 */
import { layoutOf, layoutSize, type ParameterLayout, type Section } from '../base/index.ts';

export const MODEL_FILE = 'model.safetensors';
export const OPTIMIZER_FILE = 'optimizer.safetensors';
export const MANIFEST_FILE = 'manifest.json';
export const TENSOR_FILES = [MODEL_FILE, OPTIMIZER_FILE] as const;
export type TensorFileName = (typeof TENSOR_FILES)[number];

/** The tensors of one file, given those of the model. */
export function layoutOfFile(file: TensorFileName, layout: ParameterLayout): ParameterLayout {
  if (file === MODEL_FILE) return layout;
  const named = (prefix: string) => layout.map(({ name, shape }) => ({ name: `${prefix}.${name}`, shape }));
  return layoutOf([...named('first_moment'), ...named('second_moment')]);
}

/** The file that holds a section, and the section's first float within that file's data. */
export function placeOf(
  section: Section,
  layout: ParameterLayout,
): { readonly file: TensorFileName; readonly firstFloat: number } {
  switch (section) {
    case 'parameters':
      return { file: MODEL_FILE, firstFloat: 0 };
    case 'firstMoment':
      return { file: OPTIMIZER_FILE, firstFloat: 0 };
    case 'secondMoment':
      return { file: OPTIMIZER_FILE, firstFloat: layoutSize(layout) };
  }
}

const STEP_DIGITS = 8;
const CHECKPOINT_NAME = /^step-(\d{8,15})$/;

/** Zero-padded, so that a listing sorts by step. */
export function checkpointName(step: number): string {
  return `step-${String(step).padStart(STEP_DIGITS, '0')}`;
}

/** The step of a checkpoint folder's name, or null for any other name. */
export function stepOfName(name: string): number | null {
  const digits = CHECKPOINT_NAME.exec(name)?.[1];
  if (digits === undefined) return null;
  const step = Number(digits);
  return checkpointName(step) === name ? step : null;
}
