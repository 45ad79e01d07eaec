// A program for leaks.test.mjs: does one thing again and again, and prints how much more is held afterwards.
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { setImmediate } from 'node:timers/promises';

import { Broker, Client, ServiceError, Worker } from 'majordomo';

const [what, count, mallinfo] = process.argv.slice(2);
const inUse = createRequire(import.meta.url)(mallinfo);

const PATIENCE = 60_000;
const SPANS = 4;

/** What this process holds; sizes are in bytes. */
async function held() {
  // Finalizers run between two turns of the event loop, and may let go of what the next collection finds.
  for (let n = 0; n < 4; n += 1) {
    global.gc();
    await setImmediate();
  }
  const { heapUsed, external, arrayBuffers, rss } = process.memoryUsage();
  return {
    heap: heapUsed,
    external,
    arrayBuffers,
    native: inUse(),
    resident: rss,
    handles: process.getActiveResourcesInfo().length,
    descriptors: readdirSync('/proc/self/fd').length,
    threads: readdirSync('/proc/self/task').length,
  };
}

/**
 * How much more is held after `rounds`, when first uses are over and tables of a bounded size are full. They are made
 * several times, and the smallest figure counts: a table that grows now and then shows in some of the spans, a leak in
 * all of them.
 */
async function growth(rounds, once) {
  for (let n = 0; n < Math.max(3, rounds); n += 1) await once();
  const spans = [];
  let before = await held();
  for (let span = 0; span < SPANS; span += 1) {
    for (let n = 0; n < rounds; n += 1) await once();
    const after = await held();
    spans.push(Object.keys(after).map((name) => [name, after[name] - before[name]]));
    before = after;
  }
  return Object.fromEntries(spans[0].map(([name], index) => [name, Math.min(...spans.map((span) => span[index][1]))]));
}

/** Fails unless the promise does. */
async function refused(promise) {
  const failed = await promise.then(() => false, () => true);
  if (!failed) throw new Error('was not refused');
}

async function drained(parts) {
  let count = 0;
  for await (const part of parts) count += part.length;
  return count;
}

const bodies = ['text', Buffer.from('buffer'), new Uint8Array(100), ['several', Buffer.alloc(10)], [], Buffer.alloc(100_000)];
const refusals = [
  ['fail', 'own', {}],
  ['fail', 'any', {}],
  ['nobody', '', { failFast: true }],
  ['nobody', '', { deadline: 1 }],
  ['echo', Buffer.alloc(300_000), {}],
  ['echo', {}, {}],
  ['no\0name', '', {}],
  ['echo', '', { timeout: -1 }],
];

async function requests(endpoint) {
  const client = await Client.connect(endpoint, { timeout: PATIENCE, maxMessageBytes: 200_000 });
  client.on('connected', () => {});
  let begun = () => {};
  const workers = Object.entries({
    echo: (request) => request.body,
    later: async (request) => { await setImmediate(); request.reply(request.body, { properties: request.properties }); },
    parts: async function* () { yield '1'; yield '2'; yield '3'; },
    fail: (request) => { throw String(request.body) === 'own' ? new ServiceError(404, 'not here') : new Error('no coffee'); },
    hang: (request) => new Promise((resolve) => {
      request.signal.addEventListener('abort', () => resolve(''));
      begun();
    }),
  }).map(([service, handler]) => new Worker(endpoint, service, handler, { concurrency: 8 }));
  const iterated = new Worker(endpoint, 'iterated');
  const iteration = (async () => {
    for await (const request of iterated) request.reply(request.body);
  })();

  const once = async () => {
    const asked = bodies.flatMap((body) => ['echo', 'later', 'iterated'].flatMap((service) => [
      client.request(service, body),
      client.request(service, body, { properties: { 'content-type': 'text/plain' } }),
    ]));
    await Promise.all(asked);
    for (const [service, body, options] of refusals) {
      await refused(client.request(service, body, options));
      await refused(drained(client.stream(service, body, options)));
    }
    await drained(client.stream('parts', ''));
    for await (const part of client.stream('parts', '')) if (part) break;
    await client.stream('parts', '').next();
    // Given up before it is sent, on its way, in a queue of the broker's, and in its handler.
    for (const service of ['echo', 'nobody', 'hang']) {
      const controller = new AbortController();
      const holding = new Promise((resolve) => { begun = resolve; });
      const lost = client.request(service, '', { signal: controller.signal });
      if (service === 'nobody') await setImmediate();
      if (service === 'hang') await holding;
      controller.abort();
      await refused(lost);
    }
    const controller = new AbortController();
    const stream = client.stream('nobody', '', { signal: controller.signal });
    const next = stream.next();
    controller.abort();
    await refused(next);
    return asked.length + 2 * refusals.length + 7;
  };
  const end = async () => {
    await Promise.all([...workers, iterated].map((worker) => worker.drain()));
    await iteration;
    await client.close();
  };
  return { once, end };
}

async function handles(endpoint) {
  const echo = new Worker(endpoint, 'echo', (request) => request.body, { concurrency: 8 });
  const once = async () => {
    const clients = await Promise.all(Array.from({ length: 5 }, () => Client.connect(endpoint, { timeout: PATIENCE })));
    await Promise.all(clients.map((client) => client.request('echo', 'x')));
    const worker = new Worker(endpoint, 'mine', (request) => request.body);
    await clients[0].request('mine', 'x');
    await worker.drain();
    // The last one is forgotten, and closed by the collector.
    await Promise.all(clients.slice(1).map((client) => client.close()));
    const broker = await Broker.start('tcp://127.0.0.1:0');
    await broker.close();
    return 5;
  };
  return { once, end: () => echo.drain() };
}

const broker = await Broker.start('tcp://127.0.0.1:0');
const { once, end } = await (what === 'requests' ? requests : handles)(broker.endpoint);
const each = await once();
const rounds = Math.max(1, Math.floor(Number(count) / each / SPANS));
console.log(JSON.stringify({ rounds, count: SPANS * rounds * each, ...(await growth(rounds, once)) }));
await end();
await broker.close();
