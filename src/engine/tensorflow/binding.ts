/** The part of tfjs-node's native binding that is used here; its own types are not published. */
export interface Attribute {
  readonly name: string;
  readonly type: number;
  readonly value: boolean | number | string;
}

export type Values = Float32Array | Int32Array | Uint8Array;

/** A tensor of TensorFlow's: its handle, its shape and its type as TensorFlow numbers them. */
export interface TensorMetadata {
  readonly id: number;
  readonly shape: number[];
  readonly dtype: number;
}

export interface Binding {
  readonly TF_Version: string;
  readonly TF_FLOAT: number;
  readonly TF_INT32: number;
  readonly TF_BOOL: number;
  readonly TF_ATTR_TYPE: number;
  readonly TF_ATTR_BOOL: number;
  readonly TF_ATTR_INT: number;
  readonly TF_ATTR_STRING: number;
  /** Over the memory of `values`, which must not change as long as the tensor lives. */
  createTensor(shape: readonly number[], dtype: number, values: Values): number;
  deleteTensor(id: number): void;
  tensorDataSync(id: number): Values;
  executeOp(
    name: string,
    attributes: readonly Attribute[],
    inputs: readonly number[],
    numOutputs: number,
  ): readonly TensorMetadata[];
  /** From the folder of a SavedModel; tags and names are lists with commas. */
  loadSavedModel(folder: string, tags: string): number;
  runSavedModel(
    session: number,
    inputs: readonly number[],
    inputNames: string,
    outputNames: string,
  ): readonly TensorMetadata[];
  deleteSavedModel(session: number): void;
}
