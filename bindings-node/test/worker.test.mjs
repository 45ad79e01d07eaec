import assert from 'node:assert/strict';
import { once } from 'node:events';
import test from 'node:test';

import { MajordomoError, Message, ServiceError, Worker } from 'majordomo';
import { deferred, hub } from './hub.mjs';

test('what a handler returns is the reply', async (t) => {
  const { client, worker } = await hub(t);
  const c = await client();
  const handlers = {
    promise: [async (request) => request.body, ['ask', '1']],
    plain: [() => 'plain', ['plain']],
    list: [() => ['a', Buffer.from('b')], ['a', 'b']],
    nothing: [() => {}, []],
    byHand: [(request) => request.reply('by hand'), ['by hand']],
    message: [() => new Message(['m']), ['m']],
  };
  for (const [service, [handler, expected]] of Object.entries(handlers)) {
    worker(service, handler);
    assert.deepEqual([...(await c.request(service, ['ask', '1']))].map(String), expected, service);
  }
});

test('what a handler throws reaches the client as a service error', async (t) => {
  const { client, worker } = await hub(t);
  const c = await client();
  const cases = [
    [() => { throw new Error('broken'); }, 500, 'broken'],
    [async () => { throw new TypeError('rejected'); }, 500, 'rejected'],
    [() => { throw new ServiceError(404, 'no such page'); }, 404, 'no such page'],
    [() => { throw 'a string'; }, 500, '"a string"'],
    [() => { throw undefined; }, 500, 'undefined'],
    [() => { throw null; }, 500, 'null'],
    [() => Promise.reject(new MajordomoError('MD_ETIMEOUT', 'the next one was late')), 500, 'the next one was late'],
    [() => Object.create(null), 500, undefined],
    [() => 5, 500, undefined],
    [function* () { yield 5; }, 500, undefined],
  ];
  for (const [index, [handler, serviceCode, text]] of cases.entries()) {
    worker(`case${index}`, handler);
    await assert.rejects(c.request(`case${index}`, 'x'), (error) => {
      assert.ok(error instanceof ServiceError, `case ${index}: ${error}`);
      assert.equal(error.serviceCode, serviceCode, `case ${index}`);
      if (text !== undefined) assert.equal(error.text, text);
      return true;
    });
  }
});

test('a handler that fails after its answer is told of in a warning', async (t) => {
  const { client, worker } = await hub(t);
  const c = await client();
  const warned = once(process, 'warning');
  worker('late', (request) => {
    request.reply('answered');
    throw new Error('too late');
  });
  assert.equal((await c.request('late', '')).toString(), 'answered');
  const [warning] = await warned;
  assert.match(warning.message, /too late/);
});

test('every yield but the last is a part and the last one is final', async (t) => {
  const { client, worker } = await hub(t);
  const c = await client({ protocol: '0.2' });
  const cases = [
    [function* () {}, [[[], true]]],
    [async function* () {}, [[[], true]]],
    [function* () { yield 'only'; }, [[['only'], true]]],
    [function* () { yield 'a'; yield ['b', 'c']; }, [[['a'], false], [['b', 'c'], true]]],
    [function* () { yield 'a'; return 'b'; }, [[['a'], false], [['b'], true]]],
    [async () => (async function* () { yield 'a'; yield Promise.resolve('b'); })(), [[['a'], false], [['b'], true]]],
    [() => ({ async *[Symbol.asyncIterator]() { yield 'x'; yield 'y'; } }), [[['x'], false], [['y'], true]]],
  ];
  for (const [index, [handler, expected]] of cases.entries()) {
    worker(`case${index}`, handler, { protocol: '0.2' });
    const seen = [];
    const parts = c.stream(`case${index}`, '');
    for await (const part of parts) seen.push([[...part].map(String), parts.final]);
    assert.deepEqual(seen, expected, `case ${index}`);
  }
});

test('a generator that is left in the middle runs its finally', async (t) => {
  const { client, worker } = await hub(t);
  const c = await client();
  const left = deferred();
  worker('left', function* () {
    try {
      yield 5;
    } finally {
      left.resolve();
    }
  });
  await assert.rejects(c.request('left', ''), { code: 'MD_ESERVICE' });
  await left.promise;
});

test('a worker can be iterated, left, and iterated again', async (t) => {
  const { client, worker } = await hub(t);
  const w = worker('echo');
  const c = await client();
  for (let round = 0; round < 2; round += 1) {
    const reply = c.request('echo', [String(round), 'x']);
    for await (const request of w) {
      assert.equal(request.service, 'echo');
      assert.equal(request.answered, false);
      request.reply(request.body);
      assert.equal(request.answered, true);
      assert.throws(() => request.reply('again'), { code: 'MD_EINVAL' });
      assert.throws(() => request.partial('again'), { code: 'MD_EINVAL' });
      assert.throws(() => request.fail(1, 'again'), { code: 'MD_EINVAL' });
      break;
    }
    assert.equal((await reply).toString(), String(round));
  }
  const waiting = w.next();
  await w.close();
  assert.deepEqual(await waiting, { done: true, value: undefined });
  assert.deepEqual(await w.next(), { done: true, value: undefined });
});

test('a worker with a handler is not iterated', async (t) => {
  const { worker } = await hub(t);
  await assert.rejects(worker('echo', () => '').next(), { code: 'MD_EINVAL' });
});

test('concurrency is how many requests a worker holds at once', async (t) => {
  const { client, worker } = await hub(t);
  const c = await client({ timeout: 60_000 });
  const all = deferred();
  const go = deferred();
  let held = 0;
  worker('held', async (request) => {
    held += 1;
    if (held === 4) all.resolve();
    await go.promise;
    return request.body;
  }, { concurrency: 4 });
  const replies = Array.from({ length: 12 }, (_, index) => c.request('held', String(index)));
  await all.promise;
  assert.equal(held, 4);
  go.resolve();
  assert.deepEqual((await Promise.all(replies)).map(String), Array.from({ length: 12 }, (_, index) => String(index)));
});

test('a drained worker answers what it holds and takes no more', async (t) => {
  const { client, worker } = await hub(t);
  const c = await client({ timeout: 60_000 });
  const arrived = deferred();
  const go = deferred();
  const first = worker('held', async () => {
    arrived.resolve();
    await go.promise;
    return 'from the first';
  });
  const held = c.request('held', '');
  await arrived.promise;
  const drained = first.drain();
  const next = c.request('held', '');
  worker('held', () => 'from the second');
  assert.equal((await next).toString(), 'from the second');
  go.resolve();
  assert.equal((await held).toString(), 'from the first');
  await drained;
  await first.closed;
});

test('a drain gives up after its time limit', async (t) => {
  const { client, worker } = await hub(t);
  const c = await client({ timeout: 60_000 });
  const arrived = deferred();
  const w = worker('stuck', async () => {
    arrived.resolve();
    await new Promise(() => {});
  }, { drainTimeout: 20 });
  const held = c.request('stuck', '');
  await arrived.promise;
  await w.drain();
  worker('stuck', () => 'from another');
  assert.equal((await held).toString(), 'from another');
});

test('the request of a closed worker goes to another one', async (t) => {
  const { client, worker } = await hub(t);
  const c = await client({ timeout: 60_000 });
  const arrived = deferred();
  const first = worker('job', async (request) => {
    arrived.resolve(request);
    await new Promise(() => {});
  });
  const reply = c.request('job', 'x');
  const request = await arrived.promise;
  await first.close();
  worker('job', () => 'from another');
  assert.equal((await reply).toString(), 'from another');
  // Too late, and no error: the request is somebody else's.
  request.reply('late');
});

test('heartbeats go out while a handler computes', async (t) => {
  const { client, worker } = await hub(t, { heartbeat: 50, liveness: 3 });
  const c = await client({ timeout: 60_000, retries: 1 });
  const idle = worker('idle', (request) => request.body, { heartbeat: 50, liveness: 3 });
  worker('busy', () => {
    // Longer than the broker's patience with a silent worker; nothing of JavaScript runs meanwhile.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
    return 'computed';
  }, { heartbeat: 50, liveness: 3 });
  assert.equal((await c.request('busy', '')).toString(), 'computed');
  assert.equal((await c.request('idle', 'still here')).toString(), 'still here');
  await idle.close();
});

test('a worker registers again when its broker comes back', async (t) => {
  const { endpoint, broker, client, worker, kept } = await hub(t);
  worker('echo', (request) => request.body, { heartbeat: 50, liveness: 2, reconnect: 20 });
  const c = await client({ timeout: 200, retries: 100 });
  assert.equal((await c.request('echo', 'before')).toString(), 'before');
  await broker.close();
  const { Broker } = await import('majordomo');
  kept(await Broker.start(endpoint));
  assert.equal((await c.request('echo', 'after')).toString(), 'after');
});

test('a worker needs no broker to be made', async () => {
  const w = new Worker('tcp://127.0.0.1:9', 'echo', () => '');
  await w.close();
});
