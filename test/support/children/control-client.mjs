/**
 * A process that connects to a control server, says hello until it is answered and then only lives. Its
 * life ends by a kill. Arguments: compiled source, endpoint, token, incarnation.
 */
const [source, endpoint, token, incarnation] = process.argv.slice(2);
const { ControlClient } = await import(`${source}/net/index.js`);
const { coordinatorMessageSchema, deriveKey, PROTOCOL_VERSION } = await import(`${source}/protocol/index.js`);

const client = new ControlClient(endpoint, incarnation, deriveKey(token, 'frame'), coordinatorMessageSchema, {
  onMessage: () => process.stdout.write('answered\n'),
  onRefused: (reason) => process.stdout.write(`refused ${reason}\n`),
  onMessagesLost: () => process.stdout.write('messages were lost\n'),
});
const envelope = { protocol: PROTOCOL_VERSION, run: '', incarnation, generation: 0, step: 0, attempt: 0 };
client.send({ ...envelope, type: 'draining' });
setInterval(() => {}, 1000);
