export { ControlClient, ControlServer, type ControlServerHandlers, type LinkHandlers } from './control.ts';
export { GradientMemory, type LentVector, PeerMemories, type PeerMemory } from './gradient-memory.ts';
export { type PeerFrame, PeerReceiver, PeerSender } from './peer.ts';
export { Refusals } from './refusals.ts';
