/**
 * BullMQ and its Redis client, required as the CommonJS that they are: an import reads all their files for the names
 * they export before it runs them, which is a quarter of the processor time that a worker takes to start.
 */
import { createRequire } from 'node:module';
import type * as bullmq from 'bullmq';
import type * as ioredis from 'ioredis';

const require = createRequire(import.meta.url);

export const { Queue, QueueEvents, Worker } = require('bullmq') as typeof bullmq;
export type Queue = bullmq.Queue;
export type QueueEvents = bullmq.QueueEvents;
export type Worker = bullmq.Worker;

export const { Redis } = require('ioredis') as typeof ioredis;
export type Redis = ioredis.Redis;
