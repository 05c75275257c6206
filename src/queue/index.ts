export { checkRedis, redact } from './connection.ts';
export { JobConsumer, JobProducer, type LeasedJob } from './job-queue.ts';
export { findRedisServer, freePort, type PrivateRedis, startPrivateRedis } from './private-redis.ts';
