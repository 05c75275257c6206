/** A parameter layout as text: what the machine compares, and keeps without knowing the model. */
import { layoutOf, type ParameterLayout } from '../base/index.ts';

/** Equal for layouts of the same names and shapes in the same order, and for no others. */
export function layoutKeyOf(tensors: readonly { name: string; shape: readonly number[] }[]): string {
  return JSON.stringify(tensors.map(({ name, shape }) => [name, shape]));
}

export function layoutOfKey(key: string): ParameterLayout {
  // Made by `layoutKeyOf`, in this process.
  const tensors = JSON.parse(key) as [string, number[]][];
  return layoutOf(tensors.map(([name, shape]) => ({ name, shape })));
}
