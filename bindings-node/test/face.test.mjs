// What MDPX adds: over a real broker, with the default protocol.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import test from 'node:test';

import { CONTENT_TYPE, IDEMPOTENCY_KEY, Message, ServiceError, TRACEPARENT } from 'majordomo';
import { deferred, hub } from './hub.mjs';

test('properties travel with a request and with its reply', async (t) => {
  const { client, worker } = await hub(t);
  const seen = deferred();
  worker('props', (request) => {
    seen.resolve(request.properties);
    request.reply('done', { properties: { [CONTENT_TYPE]: 'text/plain' } });
  });
  const c = await client();
  const reply = await c.request('props', 'x', { properties: { [TRACEPARENT]: 'trace', bytes: Buffer.from([0, 255]) } });
  const properties = await seen.promise;
  assert.deepEqual(Object.keys(properties), [TRACEPARENT, 'bytes']);
  assert.deepEqual([properties[TRACEPARENT].toString(), properties.bytes], ['trace', Buffer.from([0, 255])]);
  assert.deepEqual([reply.toString(), reply.properties[CONTENT_TYPE].toString()], ['done', 'text/plain']);
});

test('a message that a handler returns takes its properties along', async (t) => {
  const { client, worker } = await hub(t);
  worker('props', () => new Message('done', { properties: { name: 'value', __proto: 'x' } }));
  const c = await client();
  const { properties } = await c.request('props', 'x');
  assert.deepEqual([properties.name.toString(), properties.__proto.toString()], ['value', 'x']);
});

test('parts of a stream carry properties', async (t) => {
  const { client, worker } = await hub(t);
  worker('parts', function* () {
    yield new Message('a', { properties: { part: '1' } });
    yield new Message('b', { properties: { part: '2' } });
  });
  const c = await client();
  const parts = [];
  for await (const part of c.stream('parts', 'x')) parts.push(`${part}${part.properties.part}`);
  assert.deepEqual(parts, ['a1', 'b2']);
});

test('properties that are none are refused', async (t) => {
  const { client } = await hub(t);
  const c = await client();
  const { MajordomoError } = await import('majordomo');
  for (const properties of [{ '': 'x' }, { name: 7 }, 'text', { big: 'x'.repeat(65_536) }]) {
    await assert.rejects(c.request('x', 'x', { properties }), (error) => error instanceof MajordomoError && error.code === 'MD_EINVAL');
  }
  assert.equal(IDEMPOTENCY_KEY, 'idempotency-key');
});

test('a retryable failure gets another attempt, and its number says so', async (t) => {
  const { client, worker } = await hub(t);
  const attempts = [];
  worker('flaky', (request) => {
    attempts.push(request.attempt);
    if (request.attempt < 2) throw new ServiceError(503, 'again', { retryable: true });
    return 'ok';
  });
  const c = await client();
  assert.equal((await c.request('flaky', 'x')).toString(), 'ok');
  assert.deepEqual(attempts, [1, 2]);
});

test('with one attempt a retryable failure is the outcome, and says that it is retryable', async (t) => {
  const { client, worker } = await hub(t);
  let ran = 0;
  worker('flaky', (request) => {
    ran += 1;
    request.fail(503, 'again', { retryable: true });
  });
  const c = await client();
  const expected = { code: 'MD_ESERVICE', serviceCode: 503, text: 'again', retryable: true };
  await assert.rejects(c.request('flaky', 'x', { maxAttempts: 1 }), expected);
  assert.equal(ran, 1);
});

test('a request that fails fast does not wait for a worker', async (t) => {
  const { client } = await hub(t);
  const c = await client({ timeout: 60_000 });
  await assert.rejects(c.request('nobody', 'x', { failFast: true }), { code: 'MD_ENOWORKER' });
});

test('a handler sees how long its caller waits', async (t) => {
  const { client, worker } = await hub(t);
  worker('time', (request) => String(request.remaining));
  const c = await client();
  const remaining = Number((await c.request('time', 'x', { deadline: 50_000 })).toString());
  assert.ok(remaining > 0 && remaining <= 50_001, String(remaining));
});

test('an aborted request aborts the signal of its handler', async (t) => {
  const { client, worker } = await hub(t);
  const arrived = deferred();
  const told = deferred();
  worker('held', async (request) => {
    assert.deepEqual([request.cancelled, request.signal.aborted], [false, false]);
    arrived.resolve();
    await once(request.signal, 'abort');
    told.resolve(request.cancelled);
    return 'late';
  });
  const c = await client({ timeout: 60_000 });
  const controller = new AbortController();
  const pending = c.request('held', 'x', { signal: controller.signal });
  await arrived.promise;
  controller.abort();
  await assert.rejects(pending, { code: 'MD_ECANCELLED' });
  assert.equal(await told.promise, true);
});

test('leaving a stream aborts the signal of its handler', async (t) => {
  const { client, worker } = await hub(t);
  const told = deferred();
  worker('held', async (request) => {
    request.partial('first');
    await once(request.signal, 'abort');
    told.resolve();
  });
  const c = await client({ timeout: 60_000 });
  for await (const part of c.stream('held', 'x')) {
    assert.equal(part.toString(), 'first');
    break;
  }
  await told.promise;
});

test('a client and a worker tell what happens to their connections', async (t) => {
  const { client, worker, endpoint } = await hub(t);
  const w = worker('echo', (request) => request.body);
  const registered = once(w, 'connected');
  const c = await client();
  const connected = once(c, 'connected');
  await c.request('echo', 'x');
  assert.deepEqual((await registered)[0], { endpoint, protocol: 'x1' });
  assert.deepEqual((await connected)[0], { endpoint, protocol: 'x1' });
  const draining = once(w, 'draining');
  await w.drain();
  await draining;
});

test('every version of the protocol can be asked for', async (t) => {
  const { client, worker } = await hub(t);
  worker('echo', (request) => request.body, { prefetch: 4, keepOutcomes: 10 });
  for (const protocol of ['auto', '0.1', '0.2', 'x1']) {
    const c = await client({ protocol });
    assert.equal((await c.request('echo', protocol)).toString(), protocol);
  }
});
