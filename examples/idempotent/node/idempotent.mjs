// A request that may be asked again: the worker keeps its outcome by the caller's key, and a failure that may pass goes to
// another attempt (MDPX).
import { Client, CONTENT_TYPE, IDEMPOTENCY_KEY, Message, ServiceError, TRACEPARENT, Worker } from 'majordomo';

const endpoint = process.argv[2];
// A header of this application's own.
const TENANT = 'x-tenant';
const given = {
  [CONTENT_TYPE]: 'text/plain',
  [TRACEPARENT]: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
};
let calls = 0;
let charges = 0;

const charge = (request) => {
  calls += 1;
  const tenant = request.properties[TENANT];
  if (!tenant) throw new ServiceError(400, 'whom shall I charge?');
  // A failure that may pass: the broker makes another attempt, by another worker where there is one.
  if (request.attempt === 1) throw new ServiceError(503, 'the till is closed', { retryable: true });
  charges += 1;
  const text = `charged ${request.body} to ${tenant} at attempt ${request.attempt}`;
  // Who traces requests through several services hands the trace on.
  const properties = { [CONTENT_TYPE]: 'text/plain', [TRACEPARENT]: request.properties[TRACEPARENT] };
  return new Message(text, { properties });
};

const worker = new Worker(endpoint, 'idempotent', charge, { keepOutcomes: 100 });
const client = await Client.connect(endpoint);

for (const time of ['first', 'again']) {
  const properties = { ...given, [IDEMPOTENCY_KEY]: 'order-1', [TENANT]: 'acme' };
  const reply = await client.request('idempotent', '7 EUR', { properties });
  console.log(`${time}: ${reply} (${reply.properties[CONTENT_TYPE]}, trace ${reply.properties[TRACEPARENT]})`);
}
console.log(`calls of the handler: ${calls}, charges: ${charges}`);

try {
  await client.request('idempotent', '7 EUR', { properties: given });
} catch (error) {
  const { kind, serviceCode, retryable, text } = error;
  console.log(`without a tenant: ${kind} ${serviceCode}, retryable: ${retryable}, "${text}"`);
}

await client.close();
await worker.close();
