export { ControlClient, ControlServer, type ControlServerHandlers, type LinkHandlers } from './control.ts';
export { type PeerFrame, PeerReceiver, PeerSender } from './peer.ts';
export { Refusals } from './refusals.ts';
