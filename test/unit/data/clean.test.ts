import { describe, expect, it } from 'vitest';
import {
  cleanPlainText,
  cleanWikitext,
  countLeftovers,
  type Keepable,
  stripLeftovers,
} from '../../../src/data/clean/index.ts';

const clean = (text: string, title = 'Title') => cleanWikitext({ id: '1', title, text, markup: 'wikitext' });
const paragraphs = (text: string) => {
  const result = clean(text);
  return result.kind === 'article' ? result.paragraphs : result.reason;
};

describe('cleanWikitext', () => {
  it('keeps prose paragraphs in order and drops the rest', () => {
    const text = `{{Infobox person|name=X|born={{birth date|1980|1|2}}}}
'''Ada''' was a [[mathematician|great mathematician]].<ref name="a">{{cite book|title=B}}</ref> She wrote ''notes''.<!-- no -->

Second paragraph with [http://example.org a link] and &nbsp;spaces.
== Life ==
{| class="wikitable"
! a !! b
|-
| c || d
|}
Third paragraph.
* An item that is a sentence.
* fragment
== References ==
{{reflist}}
A note that goes.
=== Sub ===
This goes too.
== Legacy ==
Fourth.
[[Category:People]]`;
    expect(paragraphs(text)).toEqual([
      'Ada was a great mathematician. She wrote notes.',
      'Second paragraph with a link and spaces.',
      'Third paragraph.',
      'An item that is a sentence.',
      'Fourth.',
    ]);
  });

  it('knows disambiguations by template or title, not by a phrase', () => {
    expect(clean('Ada may refer to:\n* [[Ada Lovelace]]\n{{disambiguation}}')).toMatchObject({
      reason: 'disambiguation',
    });
    expect(clean('Ada may refer to:\n{{human name disambiguation|x}}')).toMatchObject({
      reason: 'disambiguation',
    });
    expect(clean('X', 'Ada (disambiguation)')).toMatchObject({ reason: 'disambiguation' });
    expect(clean('An asteroid may also refer to a comet.{{disambiguation needed}}').kind).toBe('article');
    expect(clean('{{Other uses|Ada (disambiguation)}}Ada is a language.').kind).toBe('article');
  });

  it('gives the same text at any time: templates that read the clock are silent', () => {
    const text =
      'Now {{CURRENTYEAR}} {{currentmonth}} {{age|1980|1|1}} {{birth year and age|1980}} {{time ago|2001-01-01}} end.';
    expect(paragraphs(text)).toEqual(['Now end.']);
    expect(paragraphs('In {{year|2020-01-01}} it began.')).toEqual(['In 2020 it began.']);
  });

  it('takes a page that is all opening signs, or one endless paragraph, in its stride', () => {
    for (const sign of ['{{', '[[', '{{a|', "'''", '<b>x ', '<ref>a ', '}}', '\n{|\n|a\n']) {
      expect(['article', 'dropped']).toContain(clean(sign.repeat(40_000)).kind);
    }
    const sentence = 'The quick [[fox]] jumps. ';
    const found = paragraphs(sentence.repeat(8000));
    expect((found as string[]).join(' ')).toHaveLength(8000 * 'The quick fox jumps. '.length - 1);
  });

  it('keeps on request what it drops otherwise', () => {
    const text = `Energy <math>E={{m}}c^2</math> of <math>x</math>.<ref>{{cite book|last=Doe|title=T|year=1999}}</ref>
{|
|-
! a !! [[b]]
|-
| style="x" | c || d
|}
* fragment`;
    const kept = (...keep: Keepable[]) =>
      cleanWikitext({ id: '1', title: 'T', text, markup: 'wikitext' }, new Set(keep));
    const paragraphsOf = (...keep: Keepable[]) => {
      const result = kept(...keep);
      return result.kind === 'article' ? result.paragraphs : result.reason;
    };
    expect(paragraphsOf()).toEqual(['Energy of x.']);
    expect(paragraphsOf('math')).toEqual(['Energy E={ {m}}c^2 of x.']);
    expect(paragraphsOf('tables')).toEqual(['Energy of x.', 'a, b', 'c, d']);
    expect(paragraphsOf('lists')).toEqual(['Energy of x.', 'fragment']);
    expect(paragraphsOf('references')).toEqual(['Energy of x.', 'Doe, T, 1999.']);
  });

  it('brings text into NFC and plain white space', () => {
    expect(paragraphs('Cafe\u0301\u00a0au\u00adlait\ufeff\u200b here.')).toEqual(['Café aulait here.']);
  });
});

describe('stripLeftovers', () => {
  it.each([
    ['a [[b|c]] d', 'a c d'],
    ['a [[File:x.png|thumb|A [[b]] c]] d', 'a  d'],
    ['a {{b {{c}} d}} e', 'a  e'],
    ['a <ref name=x>y</ref>b<ref name="z" />c', 'a bc'],
    ['a <ref>never closed', 'a '],
    ["'''a''' ''b'' don't", "a b don't"],
    ['{| a\n|b\n|} c', ' c'],
    ['a [[b', 'a b'],
    ['a }} b', 'a  b'],
    ['x &lt;y&gt; &#65;&#x42; &unknown;', 'x <y> AB &unknown;'],
    ['a ( , ; ) b (; c)', 'a  b (c)'],
    ['5 < 6 and 7 > 2', '5 < 6 and 7 > 2'],
    ['File:A (b).svg|thumb|caption', ''],
  ])('%j becomes %j', (before, after) => {
    expect(stripLeftovers(before)).toBe(after);
  });

  it('is measured by countLeftovers', () => {
    expect(countLeftovers("[[a]] {{b}} <ref>c</ref> {| d '''e'''")).toBe(6);
    expect(countLeftovers(stripLeftovers("[[a]] {{b}} <ref>c</ref> {| d '''e'''"))).toBe(0);
  });
});

it('cleanPlainText keeps paragraphs and touches no signs', () => {
  expect(cleanPlainText("a  [[b]]\nc\n\n \n<s> '''d'''\n")).toEqual(['a [[b]] c', "<s> '''d'''"]);
});

it('cleanPlainText takes each line for a paragraph where they are written so', () => {
  expect(cleanPlainText('a  b\nc\n\nd\n', 'lines')).toEqual(['a b', 'c', 'd']);
});
