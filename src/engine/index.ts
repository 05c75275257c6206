export { type Engine, type EngineOptions, loadEngine } from './engine.ts';
export { type EngineProbe, probeEngine, probeEngines } from './probe.ts';
