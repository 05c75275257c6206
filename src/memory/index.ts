export { keepFreedMemory } from './malloc.ts';
export { canMap, map, mapPrivate, reserve, unmap, viewOf } from './memory-map.ts';
export {
  addressOf,
  canReachMemory,
  copyMemory,
  isAligned,
  partOf,
  type RawValues,
  rawOf,
  storeAt,
} from './raw-memory.ts';
