/** A pool thread's entry: piscina calls the default export with one article at a time. */
import { cleanWikitext } from './wikitext.ts';

export default cleanWikitext;
