export { KEEPABLE, type Keep, type Keepable, stripBlocks } from './blocks.ts';
export { countLeftovers, normaliseLine, stripLeftovers } from './leftovers.ts';
export { type CleanResult, cleanArticle, cleanPlainText, cleanWikitext } from './wikitext.ts';
