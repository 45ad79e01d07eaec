// Where one request follows the other, the event loop reads messages itself: what that must not change.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import test from 'node:test';
import { Worker as Thread } from 'node:worker_threads';

import { hub } from './hub.mjs';
import { program } from './program.mjs';

/** Ends a test that hangs. */
const limit = { timeout: 120_000 };

/** After so many requests, one by one, the loop reads by itself. */
const MANY = 100;

/** Asks a service so often, one by one. */
async function ask(client, service, times = MANY) {
  for (let n = 0; n < times; n += 1) assert.equal(String(await client.request(service, String(n))), String(n));
}

test('a loop that a handler blocks leaves heartbeats and deadlines to others', limit, async (t) => {
  const { broker, client, worker } = await hub(t, { heartbeat: 50, liveness: 3 });
  const c = await client({ timeout: 60_000, retries: 1 });
  worker('echo', (request) => request.body, { heartbeat: 50, liveness: 3 });
  worker('busy', () => {
    // Longer than the broker's patience with a silent worker; nothing of JavaScript runs meanwhile.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
    return 'computed';
  }, { heartbeat: 50, liveness: 3 });
  await ask(c, 'echo');
  const late = assert.rejects(c.request('nobody', '', { timeout: 100 }), { code: 'MD_ETIMEOUT' });
  assert.equal(String(await c.request('busy', '')), 'computed');
  await late;
  await ask(c, 'echo');
  assert.equal((await broker.stats()).workers_lost, 0);
});

test('bursts come between single requests, and streams', limit, async (t) => {
  const { client, worker } = await hub(t);
  const c = await client();
  worker('echo', (request) => request.body, { concurrency: 8 });
  worker('parts', function* parts() {
    yield 'a';
    yield 'b';
  });
  for (let round = 0; round < 10; round += 1) {
    await ask(c, 'echo');
    const asked = Array.from({ length: 50 }, (_, n) => c.request('echo', String(n)));
    assert.deepEqual((await Promise.all(asked)).map(String), Array.from({ length: 50 }, (_, n) => String(n)));
    const parts = [];
    for await (const part of c.stream('parts', '')) parts.push(String(part));
    assert.deepEqual(parts, ['a', 'b']);
  }
});

test('what a listener throws is an uncaught exception, and the loop goes on', limit, async (t) => {
  const { ended, line } = program(t, `
    const broker = await Broker.start('tcp://127.0.0.1:0');
    const worker = new Worker(broker.endpoint, 'echo', (request) => request.body, { heartbeat: 50, liveness: 3 });
    const client = await Client.connect(broker.endpoint, { timeout: 1000, retries: 60 });
    const ask = async () => { for (let n = 0; n < ${MANY}; n += 1) await client.request('echo', 'x'); };
    await ask();
    process.once('uncaughtException', (error) => console.log(error.message));
    client.once('disconnected', () => { throw new Error('on purpose'); });
    await broker.close();
    const second = await Broker.start(broker.endpoint);
    await ask();
    console.log('asked');
    await Promise.all([client.close(), worker.close()]);
    await second.close();
  `);
  assert.equal(await line(), 'on purpose');
  assert.equal(await line(), 'asked');
  assert.equal(await ended, 0);
});

test('a process that a handler ends, or a reply, ends with its status', limit, async (t) => {
  const { endpoint } = await hub(t);
  const ends = {
    handler: "await client.request('mine', 'exit');",
    reply: "client.request('mine', 'x').then(() => process.exit(7)); await new Promise(() => {});",
  };
  for (const end of Object.values(ends)) {
    const { ended } = program(t, `
      const [endpoint] = process.argv.slice(1);
      new Worker(endpoint, 'mine', (request) => {
        if (String(request.body) === 'exit') process.exit(7);
        return request.body;
      });
      const client = await Client.connect(endpoint);
      for (let n = 0; n < ${MANY}; n += 1) await client.request('mine', 'x');
      ${end}
    `, endpoint);
    assert.equal(await ended, 7);
  }
});

/** Asks its own service one by one; says when the loop reads by itself, and goes on until it is told to end. */
const thread = `
  const { workerData: { endpoint, own }, parentPort } = require('node:worker_threads');
  const { Client, Worker } = require('majordomo');
  let over = false;
  parentPort.once('message', () => { over = true; });
  (async () => {
    const worker = new Worker(endpoint, own, (request) => request.body);
    const client = await Client.connect(endpoint, { timeout: 60_000, retries: 1 });
    for (let n = 0; !over; n += 1) {
      await client.request(own, 'x');
      if (n === ${MANY}) parentPort.postMessage('settled');
    }
    await worker.drain();
    await client.close();
  })();
`;

test('threads end and are terminated while their loops read', limit, async (t) => {
  const { endpoint, broker } = await hub(t);
  for (let round = 0; round < 10; round += 1) {
    const threads = Array.from({ length: 4 }, (_, n) =>
      new Thread(thread, { eval: true, workerData: { endpoint, own: `own${n}` } }));
    await Promise.all(threads.map((one) => once(one, 'message')));
    const ends = threads.map((one) => once(one, 'exit'));
    threads.forEach((one, n) => (n % 2 === 0 ? one.terminate() : one.postMessage('end')));
    await Promise.all(ends);
  }
  assert.equal((await broker.stats()).workers, 0);
});

test('a process ends by itself when its loop has nothing more to read for', limit, async (t) => {
  const { endpoint } = await hub(t);
  const { ended, line } = program(t, `
    const [endpoint] = process.argv.slice(1);
    const worker = new Worker(endpoint, 'mine', (request) => request.body);
    const client = await Client.connect(endpoint);
    for (let n = 0; n < ${MANY}; n += 1) await client.request('mine', 'x');
    await worker.close();
    // The client stays open, and keeps nothing alive.
    console.log('done');
  `, endpoint);
  assert.equal(await line(), 'done');
  assert.equal(await ended, 0);
});
