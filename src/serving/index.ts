export { GenerationServer, type GenerationServerOptions } from './generation-server.ts';
