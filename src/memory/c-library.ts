/**
 * The C library of this process, through koffi: for what Node has no interface. Loaded when first needed, as few
 * processes need it.
 */
import { createRequire } from 'node:module';

export interface CLibrary {
  /** The function of this prototype, in C. Throws where the library has none of that name. */
  func(prototype: string): unknown;
  /** The bytes at an address, for as long as they are there. */
  view(address: bigint, bytes: number): ArrayBuffer;
}

let loaded: CLibrary | null | undefined;

/** Null where koffi has no build for this system. */
export function cLibrary(): CLibrary | null {
  if (loaded === undefined) {
    try {
      const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
      const self = koffi.load(null);
      loaded = { func: (prototype) => self.func(prototype), view: koffi.view };
    } catch {
      loaded = null;
    }
  }
  return loaded;
}
