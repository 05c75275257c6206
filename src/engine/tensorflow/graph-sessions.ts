/** TensorFlow sessions of recorded graphs, kept by structure. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Attribute, Binding } from './binding.ts';
import { attributeValue, constant, type GraphNode, placeholder, savedModel, TAG } from './graph-def.ts';
import { RULES } from './op-shapes.ts';
import type { Entry, RecordedNode } from './recording.ts';

/** A training run has a handful; generation one for each layer and state of exits. */
const SESSIONS_MAX = 64;
interface Session {
  readonly id: number;
  readonly inputNames: string;
  readonly outputNames: string;
}

/** How the tensors of a recorded graph hang together. */
interface Wiring {
  /** The same for graphs of the same structure, and for those only. */
  readonly signature: string;
  /** What is given at each run, in order. */
  readonly inputs: readonly Entry[];
  /** What comes of it, in order, by the names of the graph. */
  readonly outputs: readonly Entry[];
  readonly outputNames: readonly string[];
  /** The names of each node's inputs. */
  readonly inputsOf: readonly (readonly string[])[];
  readonly constants: ReadonlyMap<string, Entry>;
}

export class GraphSessions {
  readonly #binding: Binding;
  /** The one used last comes last. */
  readonly #sessions = new Map<string, Session>();
  /** Of attribute lists that are used again and again. */
  readonly #attributeKeys = new WeakMap<readonly Attribute[], string>();

  constructor(binding: Binding) {
    this.#binding = binding;
  }

  /** Runs `nodes` and gives their held outputs handles. `handleOf` tells those of what no node makes. */
  run(nodes: readonly RecordedNode[], handleOf: (entry: Entry) => number): void {
    const wiring = this.#wire(nodes);
    const { id, inputNames, outputNames } = this.#sessionOf(wiring, nodes);
    const results = this.#binding.runSavedModel(id, wiring.inputs.map(handleOf), inputNames, outputNames);
    wiring.outputs.forEach((entry, index) => {
      entry.handle = results[index]!.id;
      entry.source = null;
    });
  }

  #wire(nodes: readonly RecordedNode[]): Wiring {
    const names = new Map<Entry, string>();
    const inputs: Entry[] = [];
    const outputs: Entry[] = [];
    const outputNames: string[] = [];
    const constants = new Map<string, Entry>();
    const lines: string[] = [];
    const nameOf = (entry: Entry, isConstant: boolean): string => {
      if (isConstant && entry.values !== null) {
        const key = `${entry.dtype}[${entry.shape}]${entry.values}`;
        if (!constants.has(key)) constants.set(key, entry);
        return key;
      }
      let name = names.get(entry);
      if (name === undefined) {
        name = `f${inputs.length}`;
        // The type is part of the graph.
        lines.push(`${name}:${entry.dtype}`);
        inputs.push(entry);
        names.set(entry, name);
      }
      return name;
    };
    const inputsOf = nodes.map((node, index) => {
      const { op, attributes, outputs: made } = node;
      const count = node.inputs.length;
      const places = RULES.get(op)!.constants.map((place) => (place < 0 ? place + count : place));
      const from = node.inputs.map((entry, place) => nameOf(entry, places.includes(place)));
      let held = '';
      made.forEach((entry, output) => {
        const name = `n${index}:${output}`;
        names.set(entry, name);
        if (!entry.isHeld) return;
        outputs.push(entry);
        outputNames.push(name);
        held += output;
      });
      lines.push(`${op} ${this.#attributeKey(attributes)} ${from.join()} ${held}`);
      return from;
    });
    return { signature: lines.join('\n'), inputs, outputs, outputNames, inputsOf, constants };
  }

  #attributeKey(attributes: readonly Attribute[]): string {
    let key = this.#attributeKeys.get(attributes);
    if (key === undefined) {
      key = attributes.map(({ name, value }) => `${name}=${value}`).join();
      this.#attributeKeys.set(attributes, key);
    }
    return key;
  }

  #sessionOf(wiring: Wiring, nodes: readonly RecordedNode[]): Session {
    const { signature, inputs, outputNames } = wiring;
    const known = this.#sessions.get(signature);
    this.#sessions.delete(signature);
    const session = known ?? {
      id: this.#load(savedModel(this.#graphOf(wiring, nodes))),
      inputNames: inputs.map((_, index) => `f${index}:0`).join(),
      outputNames: outputNames.join(),
    };
    this.#sessions.set(signature, session);
    if (this.#sessions.size > SESSIONS_MAX) this.#forgetOldest();
    return session;
  }

  #forgetOldest(): void {
    const [signature, { id }] = this.#sessions.entries().next().value!;
    this.#sessions.delete(signature);
    this.#binding.deleteSavedModel(id);
  }

  #graphOf({ inputs, constants, inputsOf }: Wiring, nodes: readonly RecordedNode[]): GraphNode[] {
    const constantNames = new Map([...constants.keys()].map((key, index) => [key, `c${index}`]));
    return [
      ...inputs.map(({ dtype }, index) => placeholder(`f${index}`, dtype)),
      ...[...constants].map(([key, { dtype, shape, values }]) =>
        constant(constantNames.get(key)!, dtype, shape, values!),
      ),
      ...nodes.map(({ op, attributes }, index) => ({
        name: `n${index}`,
        op,
        inputs: inputsOf[index]!.map((name) => constantNames.get(name) ?? name),
        attributes: attributes.map(
          (attribute) => [attribute.name, attributeValue(this.#binding, attribute)] as const,
        ),
      })),
    ];
  }

  /** TensorFlow loads graphs from folders only. */
  #load(model: Uint8Array): number {
    const folder = mkdtempSync(join(tmpdir(), 'lockstep-graph-'));
    try {
      writeFileSync(join(folder, 'saved_model.pb'), model);
      return this.#binding.loadSavedModel(folder, TAG);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }
}
