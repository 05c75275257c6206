/** Who is let in: tokens, cookies, names of the host, origins, and the header that only our page knows. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CSRF_HEADER } from '../../../src/dashboard/contract.ts';
import { withoutForeignLinks } from '../../../src/dashboard/server/board.ts';
import { Guard, isLoopback } from '../../../src/dashboard/server/security.ts';

const TOKEN = 'a-token-of-some-length';

describe('with a token', () => {
  const guard = new Guard(TOKEN, '7780');
  const cookie = guard.cookie().split(';')[0]!;

  test('nothing but the token as a bearer, or the cookie made from it, is let in', () => {
    expect(guard.isAuthorized({})).toBe(false);
    expect(guard.isAuthorized({ authorization: `Bearer ${TOKEN}` })).toBe(true);
    expect(guard.isAuthorized({ cookie })).toBe(true);
    expect(guard.isAuthorized({ cookie: `other=1; ${cookie}; more=2` })).toBe(true);
    expect(guard.isAuthorized({ authorization: TOKEN })).toBe(false);
    expect(guard.isAuthorized({ cookie, authorization: 'Bearer wrong' })).toBe(false);
    fc.assert(
      fc.property(fc.string(), (text) => {
        fc.pre(text !== TOKEN);
        expect(guard.isToken(text)).toBe(false);
        expect(guard.isAuthorized({ authorization: `Bearer ${text}` })).toBe(false);
        expect(guard.isAuthorized({ cookie: `${cookie.split('=')[0]}=${text}` })).toBe(false);
      }),
    );
  });

  test('the cookie does not hold the token, and is for this server’s own pages only', () => {
    expect(guard.cookie()).not.toContain(TOKEN);
    expect(guard.cookie()).toMatch(/^lockstep_7780=[\w-]+; Path=\/; HttpOnly; SameSite=Strict$/);
    expect(new Guard('another-token-altogether', '7780').isAuthorized({ cookie })).toBe(false);
  });
});

describe('without a token', () => {
  const guard = new Guard(null, '7780');

  test('everyone on this machine is let in, under a name of this machine', () => {
    expect(guard.isAuthorized({})).toBe(true);
    for (const host of ['localhost:7780', '127.0.0.1:7780', '127.8.8.8', '[::1]:7780', 'a.localhost']) {
      expect(guard.isExpectedHost({ host }), host).toBe(true);
    }
    for (const host of ['evil.example:7780', '10.0.0.5:7780', 'localhost.evil.example', '[::2]', '']) {
      expect(guard.isExpectedHost({ host }), host).toBe(false);
    }
  });

  test('no token is never a token', () => {
    expect(guard.isToken('')).toBe(false);
  });
});

describe('requests that change something', () => {
  const guard = new Guard(null, '7780');
  const host = '127.0.0.1:7780';

  test('come from this server’s own origin', () => {
    expect(guard.isSameOrigin({ host })).toBe(true);
    expect(guard.isSameOrigin({ host, origin: `http://${host}`, 'sec-fetch-site': 'same-origin' })).toBe(
      true,
    );
    expect(guard.isSameOrigin({ host, origin: 'http://evil.example' })).toBe(false);
    expect(guard.isSameOrigin({ host, origin: 'http://127.0.0.1:9999' })).toBe(false);
    expect(guard.isSameOrigin({ host, origin: 'null' })).toBe(false);
    expect(guard.isSameOrigin({ host, 'sec-fetch-site': 'cross-site' })).toBe(false);
    expect(guard.isSameOrigin({ host, 'sec-fetch-site': 'same-site' })).toBe(false);
  });

  test('carry what only a page of this process knows', () => {
    expect(guard.carriesCsrf({ [CSRF_HEADER]: guard.csrf })).toBe(true);
    expect(guard.carriesCsrf({})).toBe(false);
    expect(guard.carriesCsrf({ [CSRF_HEADER]: new Guard(null, '7780').csrf })).toBe(false);
  });
});

test.each([
  ['localhost', true],
  ['127.0.0.1', true],
  ['::1', true],
  ['0.0.0.0', false],
  ['::', false],
  ['192.168.1.4', false],
  ['127.evil.example', false],
])('%s is loopback: %s', (host, expected) => {
  expect(isLoopback(host)).toBe(expected);
});

test('the board’s page loses its links to other hosts and keeps its own', () => {
  const html =
    '<link href="https://fonts.googleapis.com/css2?family=X&display=swap" rel="stylesheet">\n' +
    '<link rel="stylesheet" href="http://elsewhere.example/a.css"><link href="static/css/main.css" rel="stylesheet">';
  expect(withoutForeignLinks(html)).toBe('\n<link href="static/css/main.css" rel="stylesheet">');
});
