/**
 * Who may ask the dashboard for what. On loopback without a token, whoever is on this machine; a page of
 * another site is kept out by the Host header (DNS rebinding) and, for anything that changes something, by
 * Origin and a header of the session's own. With a token, every request for data carries it, as a bearer or
 * as a cookie made from it; comparisons take the same time whatever was sent.
 */
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { isIP } from 'node:net';
import { CSRF_HEADER } from '../contract.ts';

/** Everything comes from here, nothing is inline, and no other page may frame this one. */
export const PAGE_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; " +
  "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/** Bull Board sets styles inline and its page's base; its scripts are files. */
export const BOARD_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
  "font-src 'self'; connect-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'";

export const COMMON_HEADERS: Readonly<Record<string, string>> = {
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
};

export class Guard {
  /** What `CSRF_HEADER` must hold; of this process only. */
  readonly csrf = randomBytes(24).toString('base64url');
  readonly #token: string | null;
  readonly #cookieName: string;
  readonly #cookieValue: string;

  /** @param scope tells dashboards of one host apart: cookies know no ports */
  constructor(token: string | null, scope: string) {
    this.#token = token;
    this.#cookieName = `lockstep_${scope.replace(/\W/g, '_')}`;
    this.#cookieValue = createHmac('sha256', token ?? '')
      .update('dashboard session')
      .digest('base64url');
  }

  get needsToken(): boolean {
    return this.#token !== null;
  }

  isAuthorized(headers: IncomingHttpHeaders): boolean {
    if (this.#token === null) return true;
    const bearer = /^Bearer (.+)$/.exec(headers.authorization ?? '')?.[1];
    if (bearer !== undefined) return this.isToken(bearer);
    const cookie = cookieOf(headers.cookie ?? '', this.#cookieName);
    return cookie !== null && equal(cookie, this.#cookieValue);
  }

  isToken(given: string): boolean {
    return this.#token !== null && equal(given, this.#token);
  }

  /** The cookie that stands for the token from here on; a script cannot read it, another site not send it. */
  cookie(): string {
    return `${this.#cookieName}=${this.#cookieValue}; Path=/; HttpOnly; SameSite=Strict`;
  }

  /** Without a token the name by which this host was reached must be its own: else a page elsewhere asks. */
  isExpectedHost(headers: IncomingHttpHeaders): boolean {
    return this.#token !== null || isLoopback(hostnameOf(headers.host ?? ''));
  }

  /** Whether a request that changes something comes from a page of this very server. */
  isSameOrigin(headers: IncomingHttpHeaders): boolean {
    const { origin } = headers;
    const site = headers['sec-fetch-site'];
    if (site !== undefined && site !== 'same-origin' && site !== 'none') return false;
    return origin === undefined || originHost(origin) === (headers.host ?? '').toLowerCase();
  }

  carriesCsrf(headers: IncomingHttpHeaders): boolean {
    const given = headers[CSRF_HEADER];
    return typeof given === 'string' && equal(given, this.csrf);
  }
}

/** Whether a name or address means this machine alone. */
export function isLoopback(host: string): boolean {
  if (host === 'localhost' || host.endsWith('.localhost')) return true;
  if (isIP(host) === 4) return host.startsWith('127.');
  return host === '::1';
}

function hostnameOf(hostHeader: string): string {
  const bracketed = /^\[([^\]]*)\]/.exec(hostHeader)?.[1];
  return (bracketed ?? hostHeader.replace(/:\d+$/, '')).toLowerCase();
}

function originHost(origin: string): string | null {
  try {
    return new URL(origin).host;
  } catch {
    return null;
  }
}

function cookieOf(header: string, name: string): string | null {
  for (const part of header.split(';')) {
    const [key, ...value] = part.trim().split('=');
    if (key === name) return value.join('=');
  }
  return null;
}

/** By way of digests, whose lengths are equal whatever was sent. */
function equal(given: string, expected: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given), digest(expected));
}
