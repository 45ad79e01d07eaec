import assert from 'node:assert/strict';
import test from 'node:test';

import { Broker, Client, Worker } from 'majordomo';
import { hub } from './hub.mjs';

test('port 0 becomes a port that can be connected to', async (t) => {
  const broker = await Broker.start(['tcp://127.0.0.1:0', 'tcp://127.0.0.1:0']);
  t.after(() => broker.close());
  assert.match(broker.endpoint, /^tcp:\/\/127\.0\.0\.1:[1-9]\d*$/);
  assert.equal(broker.endpoints.length, 2);
  assert.notEqual(broker.endpoints[0], broker.endpoints[1]);
  const worker = new Worker(broker.endpoints[1], 'echo', (request) => request.body);
  const client = await Client.connect(broker.endpoints[0]);
  assert.equal((await client.request('echo', 'across')).toString(), 'across');
  await Promise.all([client.close(), worker.close()]);
});

test('a broker tells of its services', async (t) => {
  const { broker, client, worker } = await hub(t);
  worker('echo', (request) => request.body);
  const c = await client();
  await c.request('echo', 'x');
  assert.equal(typeof (await broker.stats()), 'object');
  assert.equal((await c.request('mmi.service', 'echo')).toString(), '200');
  assert.equal((await c.request('mmi.service', 'nobody')).toString(), '404');
  assert.equal((await c.request('mmi.nothing', '')).toString(), '501');
});

test('an endpoint in use is refused', async (t) => {
  const { endpoint } = await hub(t);
  await assert.rejects(Broker.start(endpoint), (error) => error.code.startsWith('MD_E'));
});

test('a closed broker frees its port', async () => {
  const first = await Broker.start('tcp://127.0.0.1:0');
  await first.close();
  const second = await Broker.start(first.endpoint);
  assert.equal(second.endpoint, first.endpoint);
  await second.close();
});
