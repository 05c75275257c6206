export { awaitRedis, checkRedis, redact } from './connection.ts';
export { JobConsumer, JobProducer, type LeasedJob } from './job-queue.ts';
export {
  endingWithParent,
  findRedisServer,
  freePort,
  type PrivateRedis,
  type RedisAddress,
  startPrivateRedis,
} from './private-redis.ts';
export { type QueueFigures, QueueInspector } from './queue-inspector.ts';
export { type PerformTask, type Task, type TaskHandlers, TaskProducer, TaskWorker } from './task-queue.ts';
