import { describe, expect, it } from 'vitest';
import type { HistoryRecord } from '../../../src/history/index.ts';
import { EMPTY_HISTORY, faultOf, withRecord } from '../../../src/history/sequence.ts';
import { checkpointed, committed, OPENED, recordsOf, skipped, TIME } from '../../support/history-fixtures.ts';

const finished = (step: number): HistoryRecord => ({ kind: 'finished', step, time: TIME });
const resumed = (fromStep: number): HistoryRecord => ({
  kind: 'resumed',
  fromStep,
  reason: 'killed',
  time: TIME,
});

describe('the order of records', () => {
  const history = recordsOf(4).reduce(withRecord, EMPTY_HISTORY);

  it('adds up to what the run is', () => {
    expect(history).toMatchObject({ opened: OPENED, lastStep: 4, tokens: 4 * 406, finished: false });
    expect(history.lastCheckpoint).toEqual(checkpointed(4));
    const ended = withRecord(history, finished(4));
    expect(ended.finished).toBe(true);
    expect(withRecord(ended, resumed(2)).finished).toBe(false);
    expect(withRecord(ended, committed(5)).finished).toBe(false);
    expect(withRecord(ended, skipped(5)).finished).toBe(false);
  });

  it.each<[string, HistoryRecord, RegExp | null]>([
    ['the next step', committed(5), null],
    ['a step again', committed(4), /step 4 committed after step 4/],
    ['a step too far', committed(6), /step 6 committed after step 4/],
    ['the next step, skipped', skipped(5), null],
    ['a step again, skipped this time', skipped(4), /step 4 skipped after step 4/],
    ['a step too far, skipped', skipped(6), /step 6 skipped after step 4/],
    ['a checkpoint, also again', checkpointed(2), null],
    ['the checkpoint of the start', checkpointed(0), null],
    ['a checkpoint of the future', checkpointed(5), /checkpoint of step 5/],
    ['a resume from anywhere before', resumed(0), null],
    ['a resume from the future', resumed(5), /resumed from 5/],
    ['the end', finished(4), null],
    ['an end elsewhere', finished(3), /finished at step 3/],
    ['a second opening', OPENED, /second "opened"/],
  ])('with %s', (_, record, fault) => {
    if (fault === null) expect(faultOf(history, record)).toBeNull();
    else expect(faultOf(history, record)).toMatch(fault);
  });

  it('counts a skipped step as a step, without its tokens', () => {
    const after = withRecord(history, skipped(5));
    expect(after).toMatchObject({ lastStep: 5, tokens: history.tokens });
    expect(faultOf(after, committed(5))).toMatch(/step 5 committed after step 5/);
    expect(faultOf(after, committed(6))).toBeNull();
    for (const record of [checkpointed(5), resumed(5), finished(5)])
      expect(faultOf(after, record)).toBeNull();
  });

  it('begins with the opening', () => {
    expect(faultOf(EMPTY_HISTORY, OPENED)).toBeNull();
    for (const record of [committed(1), skipped(1), checkpointed(0), finished(0), resumed(0)]) {
      expect(faultOf(EMPTY_HISTORY, record)).toMatch(/before "opened"/);
    }
  });
});
