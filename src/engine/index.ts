export { ADAPTER_REMEDY, type Adapter, adapterText, chooseAdapter } from './adapters.ts';
export {
  type DeviceGradient,
  type DeviceSums,
  type DeviceTrouble,
  type Engine,
  type EngineOptions,
  loadEngine,
  requirePrecision,
  settleEngine,
} from './engine.ts';
export { nvidiaCards } from './nvidia.ts';
export { type AdapterProbe, type EngineProbe, probeAdapters, probeEngine, probeEngines } from './probe.ts';
