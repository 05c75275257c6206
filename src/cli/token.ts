/** The cluster's token travels in the environment, where other users cannot read it off the process list. */
import { LockstepError } from '../base/index.ts';

export const TOKEN_VARIABLE = 'LOCKSTEP_TOKEN';

/** Throws CONFIG_INVALID when there is none, or one that could be guessed. */
export function tokenFromEnvironment(): string {
  const token = process.env[TOKEN_VARIABLE] ?? '';
  if (token.length >= 16) return token;
  throw new LockstepError(
    'CONFIG_INVALID',
    `${TOKEN_VARIABLE} is ${token === '' ? 'not set' : 'shorter than 16 characters'}: ` +
      'give coordinator and workers one secret, as from `openssl rand -hex 32`',
  );
}
