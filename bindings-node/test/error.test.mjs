import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import test from 'node:test';

import * as majordomo from 'majordomo';
import { Broker, Client, MajordomoError, ServiceError, Worker, errorKinds } from 'majordomo';
import { deferred, hub } from './hub.mjs';

const ours = (code) => (error) => {
  assert.ok(error instanceof MajordomoError, `not ours: ${error}`);
  assert.ok(error instanceof Error);
  assert.equal(error.code, code, error.message);
  const row = errorKinds.find((row) => row.code === code);
  assert.equal(error.kind, row.kind);
  assert.equal(error.number, row.number);
  assert.equal(error.retryable, row.retryable);
  assert.notEqual(error.message, '');
  return true;
};

test('the table of failures has every number once', () => {
  assert.deepEqual(errorKinds.map((row) => row.number), Array.from({ length: 16 }, (_, index) => index + 1));
  assert.equal(errorKinds[0].code, 'MD_ETIMEOUT');
  assert.equal(errorKinds[7].kind, 'ServiceError');
});

test('import and require share their classes', () => {
  const required = createRequire(import.meta.url)('majordomo');
  assert.deepEqual(Object.keys(required).sort(), Object.keys(majordomo).sort());
  for (const name of Object.keys(required)) assert.equal(required[name], majordomo[name]);
});

test('a failure of the core is ours on the synchronous path', () => {
  assert.throws(() => new Worker('tcp://127.0.0.1:1', 'mmi.service', () => ''), ours('MD_EINVAL'));
  assert.throws(() => new Worker('nowhere', 'echo', () => ''), ours('MD_EINVAL'));
  assert.throws(() => new Worker('tcp://127.0.0.1:1', 'echo', () => '', { concurrency: 0 }), ours('MD_EINVAL'));
  assert.throws(() => new ServiceError(-1, 'no'), ours('MD_EINVAL'));
});

test('a failure of the core is ours on the asynchronous path', async (t) => {
  const { client, worker, endpoint } = await hub(t);
  const c = await client();
  await assert.rejects(c.request('nobody', 'x', { timeout: 30, retries: 1 }), ours('MD_ETIMEOUT'));
  await assert.rejects(c.request('', 'x'), ours('MD_EINVAL'));
  await assert.rejects(c.request('a\0b', 'x'), ours('MD_EINVAL'));
  await assert.rejects(c.request('echo', 'x', { timeout: 0 }), ours('MD_EINVAL'));
  await assert.rejects(Client.connect('nowhere'), ours('MD_EINVAL'));
  await assert.rejects(Client.connect(endpoint, { protocol: '7' }), ours('MD_EINVAL'));
  await assert.rejects(Broker.start(endpoint), (error) => error instanceof MajordomoError);
  worker('failing', (request) => request.fail(404, 'no such page'));
  await assert.rejects(c.request('failing', 'x'), (error) => {
    ours('MD_ESERVICE')(error);
    assert.ok(error instanceof ServiceError);
    assert.equal(error.serviceCode, 404);
    assert.equal(error.text, 'no such page');
    return true;
  });
});

test('a wrong type is an invalid argument everywhere', async (t) => {
  const { client, worker, endpoint } = await hub(t);
  const c = await client();
  const requests = deferred();
  worker('typed', async (request) => {
    requests.resolve(request);
    await checked.promise;
  });
  const checked = deferred();
  const wrong = [5, null, {}, Symbol('s'), () => '', 10n, true, NaN];
  const rejected = (promise) => assert.rejects(promise, ours('MD_EINVAL'));
  for (const value of wrong) {
    await rejected(c.request('typed', value));
    await rejected(c.request('typed', ['a', value]));
    await rejected(c.request(value, 'x'));
    await rejected(Client.connect(value));
    await rejected(Client.connect([endpoint, value]));
    await rejected(Broker.start(value));
    await rejected(c.stream('typed', value).next());
    assert.throws(() => new Worker(value, 'x', () => ''), ours('MD_EINVAL'));
    assert.throws(() => new Worker(endpoint, value, () => ''), ours('MD_EINVAL'));
    assert.throws(() => new majordomo.Message(value), ours('MD_EINVAL'));
    if (typeof value !== 'number') {
      for (const name of ['timeout', 'retries', 'maxInFlight', 'protocol']) {
        await rejected(Client.connect(endpoint, { [name]: value }));
      }
      await rejected(c.request('typed', 'x', { timeout: value }));
      assert.throws(() => new Worker(endpoint, 'x', () => '', { heartbeat: value }), ours('MD_EINVAL'));
      if (value !== null) await rejected(Broker.start('tcp://127.0.0.1:0', { requestTtl: value }));
    }
    await rejected(c.request('typed', 'x', { signal: value }));
    if (typeof value !== 'function' && (typeof value !== 'object' || value === null)) {
      await rejected(c.request('typed', 'x', value));
      await rejected(Client.connect(endpoint, value));
    }
  }
  await rejected(c.request('typed'));
  await rejected(c.request('typed', [, 'a']));
  await rejected(c.request('typed', 'x', { timeOut: 5 }));
  await rejected(c.request('typed', 'x', { timeout: -1 }));
  await rejected(c.request('typed', 'x', { timeout: Infinity }));
  await rejected(c.request('typed', 'x', { retries: 1.5 }));
  await rejected(c.request('typed', 'x', { retries: 2 ** 53 }));
  assert.throws(() => new Client(), ours('MD_EINVAL'));
  assert.throws(() => new Broker(), ours('MD_EINVAL'));
  assert.throws(() => new majordomo.Request(), ours('MD_EINVAL'));

  const answered = c.request('typed', 'x');
  const request = await requests.promise;
  for (const value of wrong) {
    assert.throws(() => request.reply(value), ours('MD_EINVAL'));
    assert.throws(() => request.partial(value), ours('MD_EINVAL'));
    if (value !== 5) assert.throws(() => request.fail(value, 'text'), ours('MD_EINVAL'));
    assert.throws(() => request.fail(1, value), ours('MD_EINVAL'));
  }
  assert.equal(request.answered, false);
  checked.resolve();
  assert.equal((await answered).length, 0);
});

test('what is closed says so and may be closed again', async (t) => {
  const { broker, client, worker } = await hub(t);
  const c = await client({ timeout: 60_000 });
  const pending = c.request('nobody', 'x');
  const streaming = c.stream('nobody', 'x').next();
  const both = Promise.all([assert.rejects(pending, ours('MD_ECLOSED')), assert.rejects(streaming, ours('MD_ECLOSED'))]);
  await c.close();
  await c.close();
  await both;
  await assert.rejects(c.request('echo', 'x'), ours('MD_ECLOSED'));
  await assert.rejects(c.stream('echo', 'x').next(), ours('MD_ECLOSED'));

  const w = worker('echo', (request) => request.body);
  await w.close();
  await w.close();
  await w.drain();
  await w.closed;
  w.ref().unref();

  await broker.close();
  await broker.close();
  await assert.rejects(broker.stats(), ours('MD_ECLOSED'));
  broker.ref().unref();
});

test('handles take part in asynchronous disposal', async (t) => {
  const { endpoint } = await hub(t);
  for (const handle of [
    await Client.connect(endpoint),
    new Worker(endpoint, 'echo', () => ''),
    await Broker.start('tcp://127.0.0.1:0'),
    (await Client.connect(endpoint)).stream('echo', 'x'),
  ]) {
    await handle[Symbol.asyncDispose]();
    await handle[Symbol.asyncDispose]();
  }
});
