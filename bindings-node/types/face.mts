// Checked by `tsc --strict`, never run: what a user of ESM writes.
import {
  Broker,
  Client,
  MajordomoError,
  Message,
  ServiceError,
  Worker,
  errorKinds,
  version,
  type Body,
  type ErrorCode,
  type Handler,
  type Request,
} from 'majordomo';

const broker: Broker = await Broker.start('tcp://127.0.0.1:0', { heartbeat: 500, requestTtl: null, attemptTimeout: 1000 });
const endpoint: string = broker.endpoint;
const bound: readonly string[] = broker.endpoints;
const numbers: Record<string, unknown> = await broker.stats();

const client: Client = await Client.connect([endpoint, 'tcp://127.0.0.1:1'], { timeout: 100, retries: 1, protocol: '0.2' });
const reply: Message = await client.request('echo', 'hi', { timeout: 10, signal: AbortSignal.timeout(5) });
const first: Buffer | undefined = reply[0];
const [head = Buffer.alloc(0), ...tail]: readonly Buffer[] = reply;
const text: string = reply.toString(0, 'latin1');
const lengths: number[] = reply.map((frame) => frame.length);
const bodies: Body[] = ['text', Buffer.of(1), new Uint8Array(2), ['a', Buffer.of(2)], reply, new Message(['a']), Message.of('a', 'b')];

const parts = client.stream('echo', bodies[0] ?? '');
for await (const part of parts) {
  const frame: Buffer | undefined = part[0];
  const last: boolean = parts.final;
  void [frame, last];
}

const workers: Worker[] = [
  new Worker(endpoint, 'a', async (request) => request.body, { concurrency: 2, drainTimeout: 10 }),
  new Worker(endpoint, 'b', (request) => request.body.toString()),
  new Worker(endpoint, 'c', async function* (request: Request) {
    yield 'part';
    yield* request.body;
    return 'last';
  }),
  new Worker(endpoint, 'd', function* () {
    yield ['a', 'b'];
  }),
  new Worker(endpoint, 'e', () => {
    throw new ServiceError(404, 'no such page');
  }),
  new Worker(endpoint, 'f', async (request) => {
    request.partial('part');
    request.fail(7, 'no');
  }),
  new Worker([endpoint], 'g', { heartbeat: 100 }),
];
for await (const request of new Worker(endpoint, 'h')) {
  if (!request.answered) request.reply(request.body);
  const service: string = request.service;
  void service;
  break;
}
const handler: Handler = async () => undefined;
const ended: Promise<void> = new Worker(endpoint, 'i', handler).unref().ref().closed;

try {
  await client.request('echo', []);
} catch (error) {
  if (error instanceof ServiceError) {
    const code: number = error.serviceCode;
    const said: string = error.text;
    void [code, said];
  } else if (error instanceof MajordomoError) {
    const code: ErrorCode = error.code;
    const retry: boolean = error.retryable;
    const maybe: number | undefined = error.serviceCode;
    void [code, retry, maybe, error.number, error.kind, error.cause];
  }
}

for (const worker of workers) await worker.drain();
await ended;
await client[Symbol.asyncDispose]();
await broker.close();
void [bound, numbers, first, head, tail, text, lengths, errorKinds, version];

// What must not be accepted.
// @ts-expect-error a number is not a body
await client.request('echo', 5);
// @ts-expect-error a misspelt option
await client.request('echo', '', { timeOut: 5 });
// @ts-expect-error a version that nobody speaks
await Client.connect(endpoint, { protocol: '0.3' });
// @ts-expect-error made by connect only
new Client();
// @ts-expect-error a message does not change
reply[0] = Buffer.alloc(0);
// @ts-expect-error a handler gives a body
new Worker(endpoint, 'j', async () => 5);
