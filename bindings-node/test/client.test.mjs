import assert from 'node:assert/strict';
import test from 'node:test';

import { Client, Message } from 'majordomo';
import { deferred, hub } from './hub.mjs';

test('many requests at once each get their own reply', async (t) => {
  const { client, worker } = await hub(t);
  worker('echo', (request) => request.body, { concurrency: 8 });
  const c = await client({ timeout: 30_000 });
  const numbers = Array.from({ length: 1000 }, (_, index) => String(index));
  const replies = await Promise.all(numbers.map((number) => c.request('echo', ['n', number])));
  assert.deepEqual(replies.map((reply) => reply.toString(1)), numbers);
});

test('requests beyond the limit of waiting ones are refused', async (t) => {
  const { client } = await hub(t);
  const c = await client({ maxInFlight: 1, maxWaiting: 1, timeout: 30_000 });
  const first = [c.request('nobody', '1'), c.request('nobody', '2')];
  const closed = first.map((promise) => assert.rejects(promise, { code: 'MD_ECLOSED' }));
  await assert.rejects(c.request('nobody', '3'), { code: 'MD_EQUEUEFULL' });
  await c.close();
  await Promise.all(closed);
});

test('a second broker takes over where the first is silent', async (t) => {
  const { endpoint, worker, kept } = await hub(t);
  worker('echo', (request) => request.body);
  // Port 9 is nobody's here: a connection is refused.
  const c = kept(await Client.connect(`tcp://127.0.0.1:9, ${endpoint}`, { timeout: 300, retries: 5 }));
  assert.equal((await c.request('echo', 'hi')).toString(), 'hi');
});

test('an aborted request is cancelled with the reason as its cause', async (t) => {
  const { client, worker } = await hub(t);
  const c = await client({ timeout: 60_000 });
  const arrived = deferred();
  const held = deferred();
  worker('held', async () => {
    arrived.resolve();
    await held.promise;
    return 'late';
  });
  const controller = new AbortController();
  const pending = c.request('held', 'x', { signal: controller.signal });
  await arrived.promise;
  const reason = new Error('no longer wanted');
  controller.abort(reason);
  await assert.rejects(pending, (error) => {
    assert.equal(error.code, 'MD_ECANCELLED');
    assert.equal(error.cause, reason);
    return true;
  });
  await assert.rejects(c.request('held', 'x', { signal: controller.signal }), { code: 'MD_ECANCELLED' });
  await assert.rejects(c.stream('held', 'x', { signal: controller.signal }).next(), { code: 'MD_ECANCELLED' });
  held.resolve();
  // The late answer goes to nobody.
  worker('echo', (request) => request.body);
  assert.equal((await c.request('echo', 'next')).toString(), 'next');
});

test('an abort after the reply changes nothing', async (t) => {
  const { client, worker } = await hub(t);
  worker('echo', (request) => request.body);
  const c = await client();
  const controller = new AbortController();
  const reply = await c.request('echo', 'x', { signal: controller.signal });
  controller.abort();
  assert.equal(reply.toString(), 'x');
});

test('one signal serves any number of requests without a warning', async (t) => {
  const { client, worker } = await hub(t);
  worker('echo', (request) => request.body, { concurrency: 4 });
  const c = await client({ timeout: 30_000 });
  const warnings = [];
  const listen = (warning) => warnings.push(warning);
  process.on('warning', listen);
  t.after(() => process.off('warning', listen));
  const { signal } = new AbortController();
  await Promise.all(Array.from({ length: 50 }, () => c.request('echo', 'x', { signal })));
  assert.deepEqual(warnings, []);
});

test('a stream gives every part and the final reply last', async (t) => {
  const { client, worker } = await hub(t);
  worker(
    'count',
    async function* (request) {
      for (let number = 1; number <= Number(request.body.toString()); number += 1) yield String(number);
      yield ['done', ''];
    },
    { protocol: '0.2' },
  );
  const c = await client({ protocol: '0.2' });
  const parts = c.stream('count', '100');
  const seen = [];
  for await (const part of parts) {
    assert.ok(part instanceof Message);
    seen.push(part.toString());
    assert.equal(parts.final, part.toString() === 'done');
  }
  assert.deepEqual(seen, [...Array.from({ length: 100 }, (_, index) => String(index + 1)), 'done']);
  assert.deepEqual(await parts.next(), { done: true, value: undefined });
});

test('leaving a stream early gives the request up', async (t) => {
  const { client, worker } = await hub(t);
  worker('count', function* () {
    for (let number = 0; number < 1000; number += 1) yield String(number);
  }, { protocol: '0.2' });
  const c = await client({ protocol: '0.2', maxInFlight: 1 });
  for (let round = 0; round < 3; round += 1) {
    const parts = c.stream('count', '');
    for await (const part of parts) {
      assert.equal(part.toString(), '0');
      break;
    }
    assert.deepEqual(await parts.next(), { done: true, value: undefined });
  }
});

test('a stream that is not read loses nothing', async (t) => {
  const { client, worker } = await hub(t);
  const sent = deferred();
  worker('flood', async function* () {
    for (let number = 0; number < 5000; number += 1) yield String(number);
    sent.resolve();
    yield 'end';
  }, { protocol: '0.2' });
  const c = await client({ protocol: '0.2', timeout: 60_000 });
  const parts = c.stream('flood', '');
  await sent.promise;
  let expected = 0;
  for await (const part of parts) {
    assert.equal(part.toString(), parts.final ? 'end' : String(expected));
    expected += 1;
  }
  assert.equal(expected, 5001);
});

test('a stream can be cancelled by its signal', async (t) => {
  const { client, worker } = await hub(t);
  const stop = deferred();
  worker('endless', async function* () {
    yield 'first';
    yield 'second';
    await stop.promise;
  }, { protocol: '0.2' });
  const c = await client({ protocol: '0.2', timeout: 60_000 });
  const controller = new AbortController();
  const parts = c.stream('endless', '', { signal: controller.signal });
  assert.equal((await parts.next()).value.toString(), 'first');
  const waiting = parts.next();
  controller.abort();
  await assert.rejects(waiting, { code: 'MD_ECANCELLED' });
  assert.equal((await parts.next()).done, true);
  stop.resolve();
});

test('parts may be asked for before they come', async (t) => {
  const { client, worker } = await hub(t);
  const c = await client({ protocol: '0.2' });
  const parts = c.stream('pair', '');
  const asked = [parts.next(), parts.next(), parts.next()];
  worker('pair', function* () {
    yield 'a';
    yield 'b';
  }, { protocol: '0.2' });
  const [first, second, end] = await Promise.all(asked);
  assert.equal(first.value.toString(), 'a');
  assert.equal(second.value.toString(), 'b');
  assert.equal(end.done, true);
});

test('a failure after some parts ends the stream with it', async (t) => {
  const { client, worker } = await hub(t);
  worker('broken', function* () {
    yield 'a';
    yield 'b';
    throw new Error('no more');
  }, { protocol: '0.2' });
  const c = await client({ protocol: '0.2' });
  const seen = [];
  await assert.rejects(
    async () => {
      for await (const part of c.stream('broken', '')) seen.push(part.toString());
    },
    { code: 'MD_ESERVICE', serviceCode: 500, text: 'no more' },
  );
  assert.deepEqual(seen, ['a']);
});

test('an older client gets the parts as one reply', async (t) => {
  const { client, worker } = await hub(t);
  worker('parts', function* () {
    yield 'a';
    yield ['b', 'c'];
  }, { protocol: '0.2' });
  const c = await client({ protocol: '0.1' });
  assert.deepEqual([...(await c.request('parts', ''))].map(String), ['a', 'b', 'c']);
  const seen = [];
  for await (const part of c.stream('parts', '')) seen.push([...part].map(String));
  assert.deepEqual(seen, [['a', 'b', 'c']]);
});

test('a client that is collected with a request pending still gives its reply', async (t) => {
  const { endpoint, worker } = await hub(t);
  const go = deferred();
  worker('held', async () => {
    await go.promise;
    return 'here';
  });
  const pending = (await Client.connect(endpoint)).request('held', '');
  globalThis.gc?.();
  go.resolve();
  assert.equal((await pending).toString(), 'here');
});

test('what arrives while more is being told than one call has room for is told as well', async (t) => {
  const { client, worker } = await hub(t);
  worker('echo', (request) => request.body, { concurrency: 256, prefetch: 512 });
  const c = await client({ timeout: 60_000, maxInFlight: 1000 });
  let asked = 0;
  const keepAsking = async () => {
    while (asked < 50_000) {
      asked += 1;
      const body = String(asked);
      assert.equal((await c.request('echo', body)).toString(), body);
    }
  };
  await Promise.all(Array.from({ length: 1000 }, keepAsking));
});
