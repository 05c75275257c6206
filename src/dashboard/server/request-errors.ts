/** What a request that cannot be followed is answered with, whatever the server: its status and its one line. */
import { z } from 'zod';
import { messageOf } from '../../base/index.ts';

/** 400 for a body or query that does not fit its schema, Fastify's own status for what it refuses, else 500. */
export function requestStatusOf(error: unknown): number {
  if (error instanceof z.ZodError) return 400;
  if (error instanceof Error && 'statusCode' in error && typeof error.statusCode === 'number') {
    return error.statusCode;
  }
  return 500;
}

/** Names the field where a schema was not met. */
export function requestMessageOf(error: unknown): string {
  if (!(error instanceof z.ZodError)) return messageOf(error);
  const issue = error.issues[0];
  return `${issue?.path.join('.') || 'the request'}: ${issue?.message}`;
}
