/// <reference types="@webgpu/types" />
/**
 * Own shaders on tfjs's WebGPU backend: in its command stream, on its buffers and from its pool, so that they
 * mix with the backend's kernels freely. The backend's own way, `runWebGPUProgram`, writes one tensor per
 * shader, binds whole buffers and leaves no room for `enable`; here a shader writes several, binds rows
 * of a tensor where the whole is more than the device lets a shader see, and may use extensions.
 *
 * A shader is WGSL with a function `run(lane, group)`: the invocation within its workgroup, and the
 * workgroup, counted through. Its order of additions is fixed by shapes, and it uses no atomics: the same bits
 * on the same device, whatever that runs first.
 */

import type { TensorInfo } from '@tensorflow/tfjs';
import type { WebGPUBackend } from '@tensorflow/tfjs-backend-webgpu';
import { assert } from '../../base/index.ts';
import { type Reduction, reductionCode } from './lanes.ts';

export interface Shader {
  readonly name: string;
  /** Names of arrays read, float32 but for those written as `labels: i32`. */
  readonly inputs: readonly string[];
  /** Names of arrays written, which may be read as well. */
  readonly outputs: readonly string[];
  /** Names of numbers, u32 but for those written as `scale: f32`; WGSL finds them as `sizes.NAME`. */
  readonly sizes: readonly string[];
  /** Invocations of a workgroup; WGSL finds the number as `LANES`. */
  readonly lanes: number;
  /** WGSL; declares `fn run(lane: u32, group: u32)`. */
  readonly code: string;
  /** What it combines over a workgroup's lanes, by the names of lanes.ts. */
  readonly reductions?: readonly Reduction[];
  /** Extensions of WGSL. */
  readonly enable?: readonly string[];
}

/**
 * Some rows of a tensor of two dimensions. Where they begin may be no place for a binding to begin: the shader is
 * then told how many floats to skip, by the size `skip_NAME`.
 */
export interface RowRange {
  readonly tensor: TensorInfo;
  readonly first: number;
  readonly count: number;
}

export type Operand = TensorInfo | RowRange;

/** The same rows of another tensor or of a range in one. */
export function rowsOf(operand: Operand, { first, count }: Pick<RowRange, 'first' | 'count'>): RowRange {
  if ('tensor' in operand) return { tensor: operand.tensor, first: operand.first + first, count };
  return { tensor: operand, first, count };
}

/** Of an operand of two dimensions. */
export function shapeOf(operand: Operand): readonly [number, number] {
  if ('tensor' in operand) return [operand.count, operand.tensor.shape[1]!];
  return operand.shape as [number, number];
}

/** The parts of the backend that are used here; its types declare most private. */
interface Backend {
  readonly device: GPUDevice;
  readonly bufferManager: WebGPUBackend['bufferManager'];
  readonly tensorMap: { get(dataId: object): { readonly resource?: GPUBuffer } };
  commandQueueOwnedIds: WeakSet<object>;
  commandEncoder: GPUCommandEncoder;
  computePassEncoder: GPUComputePassEncoder | null;
  dispatchCountInPass: number;
  uniformPendingDisposal: GPUBuffer[];
  uploadToGPU(dataId: object): void;
  makeTensorInfo(shape: readonly number[], dtype: 'float32' | 'int32'): TensorInfo;
  incRef(dataId: object): void;
  disposeData(dataId: object): boolean;
  ensureCommandEncoderReady(): void;
  endComputePassEncoder(): void;
  submitQueue(): void;
}

/** What a submission holds at most: the device begins early, and the host is not busy with submitting. */
const DISPATCHES_PER_SUBMISSION = 32;

/** The types know of no such feature yet. */
export const SUBGROUPS_FEATURE = 'subgroups' as GPUFeatureName;

export interface RecorderOptions {
  /** Fewer bytes of a buffer than the device lets a shader see, for tests. */
  readonly bindingBytesMax?: number | undefined;
  readonly halfProducts?: boolean | undefined;
  /** Whether lanes of a subgroup exchange numbers, where the device has the feature; true if absent. Changes no bit. */
  readonly subgroups?: boolean | undefined;
}

export class Recorder {
  readonly #backend: Backend;
  readonly #alignment: number;
  readonly #pipelines = new Map<Shader, GPUComputePipeline>();

  /** Largest part of a buffer that a shader is given, in bytes. */
  readonly bindingBytesMax: number;

  /** Lanes of the smallest subgroup that the device may choose, 1 without subgroups. */
  readonly subgroupLanes: number;

  /** Whether operands of products are rounded to float16. */
  readonly halfProducts: boolean;

  constructor(backend: WebGPUBackend, options: RecorderOptions = {}) {
    const { bindingBytesMax = Number.POSITIVE_INFINITY, halfProducts = false, subgroups = true } = options;
    this.halfProducts = halfProducts;
    this.#backend = backend as unknown as Backend;
    const { features, adapterInfo } = backend.device;
    this.subgroupLanes =
      subgroups && features.has(SUBGROUPS_FEATURE) ? (adapterInfo.subgroupMinSize ?? 1) : 1;
    const { maxStorageBufferBindingSize, maxBufferSize, minStorageBufferOffsetAlignment } =
      backend.device.limits;
    this.bindingBytesMax = Math.min(bindingBytesMax, maxStorageBufferBindingSize, maxBufferSize);
    this.#alignment = minStorageBufferOffsetAlignment;
  }

  /** A tensor to write to; the caller returns or `release`s it. */
  create(shape: readonly number[], dtype: 'float32' | 'int32' = 'float32'): TensorInfo {
    return this.#backend.makeTensorInfo([...shape], dtype);
  }

  release(...tensors: readonly TensorInfo[]): void {
    for (const { dataId } of tensors) this.#backend.disposeData(dataId);
  }

  /** The same values as a result of their own. */
  share(tensor: TensorInfo): TensorInfo {
    this.#backend.incRef(tensor.dataId);
    return { dataId: tensor.dataId, shape: tensor.shape, dtype: tensor.dtype };
  }

  /**
   * The rows of a tensor [rows, columns] in ranges that a shader can be given; most often one.
   * @param rowBytesMax of what else grows with the rows, if that is more than a row of the tensor
   */
  rowRanges(tensor: TensorInfo, rowBytesMax = 0): readonly RowRange[] {
    const [numRows, numColumns] = tensor.shape as [number, number];
    const rowBytes = Math.max(numColumns * 4, rowBytesMax);
    // A range that begins between two places where a binding may begin is given what lies before it, too.
    const atOnce = Math.floor((this.bindingBytesMax - this.#alignment) / rowBytes);
    // Of a row that does not fit nothing is to be had; the device will say so.
    const isWhole = numRows * rowBytes <= this.bindingBytesMax || atOnce < 1;
    if (isWhole) return [{ tensor, first: 0, count: numRows }];
    return Array.from({ length: Math.ceil(numRows / atOnce) }, (_, index) => ({
      tensor,
      first: index * atOnce,
      count: Math.min(atOnce, numRows - index * atOnce),
    }));
  }

  /** Records one dispatch of `groups` workgroups. */
  run(
    shader: Shader,
    operands: Readonly<Record<string, Operand>>,
    sizes: Readonly<Record<string, number>>,
    groups: number,
  ): void {
    const backend = this.#backend;
    const { device } = backend;
    const pipeline = this.#pipelineOf(shader);
    const names = [...shader.outputs, ...shader.inputs].map(nameOf);
    const skips: Record<string, number> = {};
    const resources = names.map((name) => {
      const { resource, skip } = this.#binding(operands[name], `${shader.name}: ${name}`);
      assert(skip === 0 || shader.sizes.includes(`skip_${name}`), `${shader.name} skips none of ${name}`);
      skips[`skip_${name}`] = skip;
      return resource;
    });
    const uniforms = this.#uniforms(shader, { ...sizes, ...skips });
    const entries = [...resources, { buffer: uniforms }].map((resource, binding) => ({ binding, resource }));
    const bindGroup = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
    backend.ensureCommandEncoderReady();
    backend.computePassEncoder ??= backend.commandEncoder.beginComputePass();
    const pass = backend.computePassEncoder;
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, bindGroup);
    const wide = Math.min(groups, device.limits.maxComputeWorkgroupsPerDimension);
    pass.dispatchWorkgroups(wide, Math.ceil(groups / wide));
    backend.dispatchCountInPass += 1;
    if (backend.dispatchCountInPass < DISPATCHES_PER_SUBMISSION) return;
    backend.endComputePassEncoder();
    backend.submitQueue();
  }

  #pipelineOf(shader: Shader): GPUComputePipeline {
    const known = this.#pipelines.get(shader);
    if (known !== undefined) return known;
    const { device } = this.#backend;
    const module = device.createShaderModule({
      code: wgslOf(shader, this.subgroupLanes),
      label: shader.name,
    });
    const pipeline = device.createComputePipeline({
      compute: { module, entryPoint: 'main' },
      label: shader.name,
      layout: 'auto',
    });
    this.#pipelines.set(shader, pipeline);
    return pipeline;
  }

  #binding(operand: Operand | undefined, what: string): { resource: GPUBufferBinding; skip: number } {
    assert(operand !== undefined, `${what} is missing`);
    const { tensor, first, count } =
      'tensor' in operand ? operand : { tensor: operand, first: 0, count: null };
    this.#backend.uploadToGPU(tensor.dataId);
    const { resource: buffer } = this.#backend.tensorMap.get(tensor.dataId);
    assert(buffer !== undefined, `${what} is on the device`);
    // Not freed before what is recorded has been handed to the device.
    this.#backend.commandQueueOwnedIds.add(tensor.dataId);
    if (count === null) return { resource: { buffer }, skip: 0 };
    const rowBytes = tensor.shape[1]! * 4;
    const over = (first * rowBytes) % this.#alignment;
    const offset = first * rowBytes - over;
    return { resource: { buffer, offset, size: over + count * rowBytes }, skip: over / 4 };
  }

  #uniforms(shader: Shader, sizes: Readonly<Record<string, number>>): GPUBuffer {
    const { bufferManager, device, uniformPendingDisposal } = this.#backend;
    const bytes = new DataView(new ArrayBuffer(Math.max(16, shader.sizes.length * 4)));
    shader.sizes.forEach((declared, index) => {
      const value = sizes[nameOf(declared)];
      assert(value !== undefined, `${shader.name}: size ${declared} is missing`);
      if (declared.endsWith(': f32')) bytes.setFloat32(index * 4, value, true);
      else bytes.setUint32(index * 4, value, true);
    });
    const buffer = bufferManager.acquireBuffer(
      bytes.byteLength,
      GPUBufferUsage.COPY_DST | GPUBufferUsage.UNIFORM,
    );
    device.queue.writeBuffer(buffer, 0, bytes.buffer);
    uniformPendingDisposal.push(buffer);
    return buffer;
  }
}

/**
 * The whole of a shader, with its bindings declared: arrays written, arrays read, numbers.
 * @param subgroupLanes of the smallest subgroup that the device may choose; 1 for a device without subgroups
 */
export function wgslOf(shader: Shader, subgroupLanes: number): string {
  const { inputs, outputs, sizes, lanes, code, reductions = [] } = shader;
  const exchanged = reductions.length === 0 ? 1 : Math.min(subgroupLanes, lanes);
  const exchanges = exchanged > 1;
  const enable = [...(shader.enable ?? []), ...(exchanges ? ['subgroups'] : [])];
  const declarations = [
    ...outputs.map((declared) => ['read_write', declared] as const),
    ...inputs.map((declared) => ['read', declared] as const),
  ].map(
    ([access, declared], binding) =>
      `@group(0) @binding(${binding}) var<storage, ${access}> ${nameOf(declared)}: array<${typeOf(declared, 'f32')}>;`,
  );
  const fields = sizes.map((declared) => `${nameOf(declared)}: ${typeOf(declared, 'u32')},`);
  return `${enable.map((extension) => `enable ${extension};`).join('\n')}
${declarations.join('\n')}
struct Sizes { ${fields.join(' ')} }
@group(0) @binding(${declarations.length}) var<uniform> sizes: Sizes;
const LANES = ${lanes}u;
${exchanges ? 'var<private> subgroupLane: u32;' : ''}
${reductions.map((name) => reductionCode(name, exchanged)).join('')}
${code}
@compute @workgroup_size(${lanes})
fn main(
  @builtin(local_invocation_index) lane: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  ${exchanges ? '@builtin(subgroup_invocation_id) placeInSubgroup: u32,' : ''}
) {
  ${exchanges ? 'subgroupLane = placeInSubgroup;' : ''}
  run(lane, group.y * groups.x + group.x);
}
`;
}

function nameOf(declared: string): string {
  return declared.split(':', 1)[0]!;
}

function typeOf(declared: string, usual: string): string {
  return declared.split(': ')[1] ?? usual;
}
