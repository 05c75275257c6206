/**
 * The page of `lockstep inspect --html`: one file without scripts, fonts or addresses of others. All that comes from the
 * data is text to it: `escapeHtml` stands between, and the page's own policy forbids what would get past.
 */
import type { Inspection, SpelledPiece } from '../data/index.ts';
import { summaryRows } from './inspect-report.ts';
import { formatCount } from './terminal.ts';

const STYLE = `
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --accent: #2a6fdb; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
table { border-collapse: collapse; } td, th { padding: .15rem .8rem .15rem 0; text-align: left; vertical-align: top; }
td { overflow-wrap: anywhere; } .number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.bar { display: block; height: .8rem; background: var(--accent); min-width: 1px; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; margin: 1rem 0 2rem; }
@media (max-width: 50rem) { .pair { grid-template-columns: 1fr; } }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--soft); padding: .7rem; margin: 0; max-height: 24rem; overflow: auto; }
figure { margin: 0; min-width: 0; } figcaption { font-size: .85rem; opacity: .75; margin-bottom: .2rem; }
mark { background: #f5c54266; color: inherit; border-radius: .2rem; padding: 0 .1rem; }
`;

export function inspectionPage(dir: string, inspection: Inspection): string {
  const rows = summaryRows(dir, inspection).map(
    ([name, value]) => `<tr><th scope="row">${escapeHtml(name)}</th><td>${escapeHtml(value)}</td></tr>`,
  );
  const articles = inspection.articles.map(({ title, before, after }) => {
    const caption = (when: string, characters: number) => `${when}, ${formatCount(characters)} characters`;
    return `<h3>${escapeHtml(title)}</h3>${pair(
      [caption('before cleaning', before.characters), escapeHtml(before.text)],
      [caption('after cleaning', after.characters), escapeHtml(after.text)],
    )}`;
  });
  const noised = inspection.noised.map(({ source, target, sourceTokens, targetTokens }) =>
    pair(
      [`source, ${sourceTokens} tokens`, spelled(source)],
      [`target, ${targetTokens} tokens`, spelled(target)],
    ),
  );
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Data set ${escapeHtml(inspection.sha256.slice(0, 12))}</title>
<style>${STYLE}</style>
</head>
<body>
<h1>Data set ${escapeHtml(dir)}</h1>
<table id="summary">${rows.join('\n')}</table>
<h2>Tokens per document</h2>
${histogram(inspection)}
<h2>Articles before and after cleaning</h2>
${articles.join('\n')}
<h2>Samples as the model sees them</h2>
${noised.join('\n')}
</body>
</html>
`;
}

function histogram({ lengths }: Inspection): string {
  const most = Math.max(...lengths.map(({ documents }) => documents));
  const rows = lengths.map(({ from, to, documents }) => {
    const percent = ((100 * documents) / most).toFixed(1);
    return (
      `<tr><td class="number">${formatCount(from)} to ${formatCount(to)}</td>` +
      `<td class="number">${formatCount(documents)}</td>` +
      `<td style="width: 30rem"><span class="bar" style="width: ${percent}%"></span></td></tr>`
    );
  });
  return `<table id="lengths"><tr><th>tokens</th><th>documents</th><th></th></tr>${rows.join('\n')}</table>`;
}

type Side = readonly [caption: string, html: string];

function pair(...sides: readonly [Side, Side]): string {
  const figures = sides.map(
    ([caption, html]) => `<figure><figcaption>${escapeHtml(caption)}</figcaption><pre>${html}</pre></figure>`,
  );
  return `<div class="pair">${figures.join('')}</div>`;
}

function spelled(pieces: readonly SpelledPiece[]): string {
  return pieces
    .map(({ text, isSpecial }) => (isSpecial ? `<mark>${escapeHtml(text)}</mark>` : escapeHtml(text)))
    .join('');
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** Text as HTML says it, between tags and within quoted attributes. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (sign) => ENTITIES[sign]!);
}
