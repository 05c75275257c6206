/**
 * Numbers as people read them: grouped digits, units, ages. Pure and in one fixed locale, so that a screenshot of one machine
 * reads like that of another. A value that is not known is an en dash, never 0.
 */

export const UNKNOWN = '–';

const grouped = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });

/** `12345` as `12,345`. */
export function formatCount(value: number | null): string {
  return value === null || !Number.isFinite(value) ? UNKNOWN : grouped.format(value);
}

/** A count in at most four characters and a letter: `950`, `4.04k`, `12.3M`. */
export function formatShort(value: number | null): string {
  if (value === null || !Number.isFinite(value)) return UNKNOWN;
  const size = Math.abs(value);
  for (const [limit, letter] of [
    [1e12, 'T'],
    [1e9, 'G'],
    [1e6, 'M'],
    [1e3, 'k'],
  ] as const) {
    // 999.95k would be written 1000k.
    if (size >= limit * 0.9995) return `${threeDigits(value / limit)}${letter}`;
  }
  return size >= 100 || Number.isInteger(value) ? grouped.format(value) : threeDigits(value);
}

/** A count for an axis, without digits that say nothing: `5k`, `12.5k`. */
export function formatTick(value: number): string {
  return formatShort(value)
    .replace(/(\.\d*?)0+(?=[A-Za-z]?$)/, '$1')
    .replace(/\.(?=[A-Za-z]?$)/, '');
}

/** Three significant digits, without an exponent. */
function threeDigits(value: number): string {
  const size = Math.abs(value);
  return value.toFixed(size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2);
}

/** A loss in nats: `6.278`. */
export function formatLoss(value: number | null): string {
  return value === null || !Number.isFinite(value) ? UNKNOWN : value.toFixed(3);
}

/** A learning rate: `3.0e-4`. */
export function formatRate(value: number | null): string {
  if (value === null || !Number.isFinite(value)) return UNKNOWN;
  return value === 0 ? '0' : value.toExponential(1).replace('e-', 'e−');
}

/** A share between 0 and 1 as `97 %`; `99.95 %` is not rounded up to all of it. */
export function formatShare(value: number | null): string {
  if (value === null || !Number.isFinite(value)) return UNKNOWN;
  const percent = value * 100;
  if (percent > 99 && percent < 100) return `${(Math.floor(percent * 10) / 10).toFixed(1)} %`;
  return `${percent > 0 && percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`;
}

/** Bytes in binary units: `1.50 GiB`. */
export function formatBytes(value: number | null): string {
  if (value === null || !Number.isFinite(value)) return UNKNOWN;
  let size = value;
  for (const unit of ['B', 'KiB', 'MiB', 'GiB']) {
    if (size < 1023.5) return unit === 'B' ? `${Math.round(size)} B` : `${threeDigits(size)} ${unit}`;
    size /= 1024;
  }
  return `${threeDigits(size)} TiB`;
}

/** A span of time with its two largest units: `0.8 s`, `42 s`, `3 min 5 s`, `2 h 14 min`, `3 d 4 h`. */
export function formatDuration(milliseconds: number | null): string {
  if (milliseconds === null || !Number.isFinite(milliseconds)) return UNKNOWN;
  if (milliseconds < 999.5) return `${Math.max(0, Math.round(milliseconds))} ms`;
  if (milliseconds < 9_950) return `${(milliseconds / 1000).toFixed(1)} s`;
  const seconds = Math.round(milliseconds / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return twoUnits(seconds, 60, 'min', 's');
  if (seconds < 86_400) return twoUnits(Math.round(seconds / 60), 60, 'h', 'min');
  return twoUnits(Math.round(seconds / 3600), 24, 'd', 'h');
}

function twoUnits(amount: number, size: number, large: string, small: string): string {
  const whole = Math.floor(amount / size);
  const rest = amount % size;
  return rest === 0 ? `${whole} ${large}` : `${whole} ${large} ${rest} ${small}`;
}

/** How long ago something was: `now`, `12 s ago`, `3 min ago`. One unit: an age is read at a glance. */
export function formatAge(milliseconds: number | null): string {
  if (milliseconds === null || !Number.isFinite(milliseconds)) return UNKNOWN;
  const seconds = Math.floor(Math.max(0, milliseconds) / 1000);
  if (seconds < 2) return 'now';
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}

/** A time of day with its date only when that is not today: `14:03:27`, `Nov 3, 14:03`. */
export function formatTime(at: number | null, now: Date): string {
  if (at === null || !Number.isFinite(at)) return UNKNOWN;
  const then = new Date(at);
  const clock = (['getHours', 'getMinutes', 'getSeconds'] as const).map((part) =>
    String(then[part]()).padStart(2, '0'),
  );
  if (then.toDateString() === now.toDateString()) return clock.join(':');
  const day = then.toLocaleDateString('en-US', { month: 'short', day: 'numeric' });
  return `${day}, ${clock.slice(0, 2).join(':')}`;
}

/** `1 worker`, `3 workers`. */
export function plural(count: number, noun: string): string {
  return `${formatCount(count)} ${noun}${count === 1 ? '' : 's'}`;
}
