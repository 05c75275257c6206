/**
 * The few ways in which this front end makes elements. All text goes through text nodes, never through markup: a title or a
 * generated text that holds HTML is shown as it is written. Nothing here or elsewhere in web/ assigns innerHTML.
 */

export type Child = Node | string | null;

export interface Properties {
  readonly class?: string;
  readonly id?: string;
  readonly text?: string;
  readonly on?: Readonly<Record<string, (event: Event) => void>>;
  /** Everything else: role, aria-*, href, type, for. `null` leaves an attribute out. */
  readonly attributes?: Readonly<Record<string, string | null>>;
}

/** A new HTML element with its properties, listeners and children. */
export function element<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  properties: Properties = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[Name] {
  const made = document.createElement(name);
  if (properties.class !== undefined) made.className = properties.class;
  if (properties.id !== undefined) made.id = properties.id;
  if (properties.text !== undefined) made.textContent = properties.text;
  for (const [key, value] of Object.entries(properties.attributes ?? {})) {
    if (value !== null) made.setAttribute(key, value);
  }
  for (const [key, listener] of Object.entries(properties.on ?? {})) made.addEventListener(key, listener);
  for (const child of children) if (child !== null) made.append(child);
  return made;
}

/** A new SVG element; attributes only. */
export function svg(
  name: string,
  attributes: Readonly<Record<string, string | number>>,
  ...children: readonly Node[]
): SVGElement {
  const made = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  made.append(...children);
  return made;
}

/** Writes a text only when it is another one, so that live regions speak and selections survive. */
export function setText(node: Node, text: string): void {
  if (node.textContent !== text) node.textContent = text;
}

/** Sets or, for `null`, removes an attribute, only when that changes something. */
export function setAttribute(target: Element, name: string, value: string | null): void {
  if (target.getAttribute(name) === value) return;
  if (value === null) target.removeAttribute(name);
  else target.setAttribute(name, value);
}

/**
 * Makes the children of `parent` those of `items`, in their order. An item keeps its element for as long as its key stays, so
 * that focus, hover and open details survive an update.
 */
export function reconcile<Item, Made extends Element>(
  parent: Element,
  items: readonly Item[],
  keyOf: (item: Item) => string,
  create: (item: Item) => Made,
  update: (made: Made, item: Item) => void,
): void {
  const known = childrenByKey.get(parent) ?? new Map<string, Element>();
  childrenByKey.set(parent, known);
  const keys = new Set(items.map(keyOf));
  // First, so that those that stay are not moved: moving an element takes its focus away.
  for (const [key, made] of known) {
    if (keys.has(key)) continue;
    made.remove();
    known.delete(key);
  }
  let place: Element | null = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    // A parent's children were all made by the one `create` that its caller uses.
    const made = (known.get(key) as Made | undefined) ?? create(item);
    known.set(key, made);
    update(made, item);
    if (made === place) place = place.nextElementSibling;
    else parent.insertBefore(made, place);
  }
}

const childrenByKey = new WeakMap<Element, Map<string, Element>>();
