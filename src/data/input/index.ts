export { ByteSource, type ReaderContext } from './byte-source.ts';
export { readJsonLines } from './json-lines.ts';
export { type Line, readLines } from './lines.ts';
export { readMediaWiki } from './media-wiki.ts';
export { readPlainText } from './plain-text.ts';
export {
  type ArticleSource,
  formatOf,
  INPUT_FORMATS,
  type InputFormat,
  openArticles,
} from './read-articles.ts';
