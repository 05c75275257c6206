export { type Cleaner, createCleaner, mapInOrder } from './cleaner.ts';
export { countLeftovers, normaliseLine, stripLeftovers } from './leftovers.ts';
export { type CleanResult, cleanPlainText, cleanWikitext } from './wikitext.ts';
