/**
 * Reads dialogues as Synthetic-Persona-Chat publishes them (Jandaghi et al. 2023): CSV with the two speakers' personas
 * and a conversation of `User 1: ...` and `User 2: ...`, a turn a line. Every turn but the first is a target; its source
 * is the persona of who speaks it and the turns before, a line each. Lines of no speaker (scenes, "* * *") and the
 * asterisks around a turn are left out: the conversations are a model's. A conversation is one group, so that none is on both sides of the split.
 */
import { readFileSync } from 'node:fs';
import { TextDecoder } from 'node:util';
import { LockstepError } from '../../base/index.ts';
import { cannotRead } from '../input/index.ts';
import { parseCsv } from './csv.ts';
import type { Pair } from './read-pairs.ts';

const COLUMNS = ['user 1 personas', 'user 2 personas', 'Best Generated Conversation'] as const;
/** Older turns are left out: what is cut off a long source is its end, which here is the turn to answer. */
const HISTORY_TURNS = 8;
const TURN = /^[*\s]*User ([12]):[*\s]*([^*\s].*?)[*\s]*$/;

interface Turn {
  /** Column of the speaker's persona. */
  readonly speaker: 0 | 1;
  readonly text: string;
}

/**
 * `onLeftOut` hears how many conversations have no two turns, if any. Throws DATA_MISSING, and DATA_CORRUPT naming the
 * line of the row, or the column that is not there.
 */
export function* readPersonaChat(file: string, onLeftOut: (conversations: number) => void): Generator<Pair> {
  const [head, ...rows] = parseCsv(readText(file)) ?? [];
  if (head === undefined) throw corrupt(file, 'is no CSV: a quote is not closed, or stands within a field');
  const places = COLUMNS.map((name) => head.fields.indexOf(name));
  const missing = COLUMNS.find((_, column) => places[column] === -1);
  if (missing !== undefined) {
    throw corrupt(file, `has no column "${missing}" (there are: ${head.fields.join(', ')})`);
  }
  let leftOut = 0;
  for (const { line, fields } of rows) {
    const [first, second, conversation] = places.map((place) => fields[place]?.normalize('NFC').trim());
    if (first === undefined || second === undefined || conversation === undefined) {
      throw corrupt(file, `the row of line ${line} lacks a column`);
    }
    const turns = turnsOf(conversation);
    if (turns.length < 2) leftOut += 1;
    const personas = [first, second].map((persona) => persona.split(/\s*\n\s*/).join(' '));
    for (const [index, { speaker, text }] of turns.entries()) {
      if (index === 0) continue;
      const history = turns.slice(Math.max(0, index - HISTORY_TURNS), index).map((turn) => turn.text);
      yield { source: [personas[speaker]!, ...history].join('\n'), target: text, group: conversation };
    }
  }
  if (leftOut > 0) onLeftOut(leftOut);
}

function turnsOf(conversation: string): Turn[] {
  return conversation.split('\n').flatMap((row) => {
    const match = TURN.exec(row.trim());
    return match === null
      ? []
      : [{ speaker: match[1] === '1' ? (0 as const) : (1 as const), text: match[2]! }];
  });
}

function readText(file: string): string {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    throw cannotRead(file, error);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw corrupt(file, 'is not UTF-8: convert the file to UTF-8 first', cause);
  }
}

function corrupt(file: string, what: string, cause?: unknown): LockstepError {
  return new LockstepError('DATA_CORRUPT', `${file}: ${what}`, { context: { file }, cause });
}
