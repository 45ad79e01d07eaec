// What happens to processes: when they end, and what is left when they end badly.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import test from 'node:test';
import { Worker as Thread } from 'node:worker_threads';

import { Client, Worker } from 'majordomo';
import { hub } from './hub.mjs';
import { program, run } from './program.mjs';

const folder = fileURLToPath(new URL('.', import.meta.url));

test('an idle client lets the process end', async (t) => {
  const { endpoint, worker } = await hub(t);
  worker('echo', (request) => request.body);
  const { line, ended } = program(t, `
    const client = await Client.connect(process.argv[1]);
    console.log((await client.request('echo', 'hi')).toString());
  `, endpoint);
  assert.equal(await line(), 'hi');
  assert.equal(await ended, 0);
});

test('a pending request keeps the process until it has its outcome', async (t) => {
  const { endpoint } = await hub(t);
  const { line, ended } = program(t, `
    const client = await Client.connect(process.argv[1]);
    client.request('nobody', 'hi', { timeout: 200, retries: 1 }).catch((error) => console.log(error.code));
  `, endpoint);
  assert.equal(await line(), 'MD_ETIMEOUT');
  assert.equal(await ended, 0);
});

test('an abandoned request and stream let the process end', async (t) => {
  const { endpoint } = await hub(t);
  const { ended } = program(t, `
    const client = await Client.connect(process.argv[1], { timeout: 3_600_000 });
    const controller = new AbortController();
    client.request('nobody', '', { signal: controller.signal }).catch(() => {});
    controller.abort();
    await client.stream('nobody', '').return();
  `, endpoint);
  assert.equal(await ended, 0);
});

test('an open worker keeps the process until it is closed', async (t) => {
  const { endpoint, client } = await hub(t);
  const { child, ended } = program(t, `
    const worker = new Worker(process.argv[1], 'echo', (request) => request.body);
    process.stdin.once('data', () => { process.stdin.destroy(); worker.drain(); });
    process.stdin.unref();
  `, endpoint);
  const c = await client({ timeout: 60_000 });
  assert.equal((await c.request('echo', 'alive')).toString(), 'alive');
  assert.equal((await c.request('echo', 'still')).toString(), 'still');
  child.stdin.write('close\n');
  assert.equal(await ended, 0);
});

test('an iterated worker keeps the process until it is closed', async (t) => {
  const { endpoint, client } = await hub(t);
  const { ended } = program(t, `
    const worker = new Worker(process.argv[1], 'echo');
    for await (const request of worker) {
      request.reply(request.body);
      if (request.body.toString() === 'last') break;
    }
    await worker.drain();
  `, endpoint);
  const c = await client({ timeout: 60_000 });
  assert.equal((await c.request('echo', 'alive')).toString(), 'alive');
  assert.equal((await c.request('echo', 'last')).toString(), 'last');
  assert.equal(await ended, 0);
});

test('a worker and a broker that are not to be waited for let the process end', async (t) => {
  const { ended } = program(t, `
    const broker = (await Broker.start('tcp://127.0.0.1:0')).unref();
    new Worker(broker.endpoint, 'echo', (request) => request.body).unref();
    await (await Client.connect(broker.endpoint)).request('echo', '');
  `);
  assert.equal(await ended, 0);
});

test('process.exit ends with things pending', async (t) => {
  const { endpoint } = await hub(t);
  for (let round = 0; round < 5; round += 1) {
    const { ended } = program(t, `
      const broker = await Broker.start('tcp://127.0.0.1:0');
      const client = await Client.connect(process.argv[1], { timeout: 60_000 });
      new Worker(process.argv[1], 'busy', () => new Promise(() => {}), { concurrency: 4 });
      for (let n = 0; n < 100; n += 1) client.request('busy', 'x').catch(() => {});
      const other = await Client.connect(process.argv[1]);
      for await (const part of other.stream('mmi.service', 'busy')) process.exit(7);
    `, endpoint);
    assert.equal(await ended, 7);
  }
});

test('an uncaught exception ends the process as it always does', async (t) => {
  const { endpoint } = await hub(t);
  const child = spawn(process.execPath, ['--input-type=module', '--eval', `
    import { Client, Worker } from 'majordomo';
    new Worker(process.argv[1], 'x', () => '');
    (await Client.connect(process.argv[1])).request('nobody', '').catch(() => {});
    throw new Error('on purpose');
  `, '--', endpoint], { cwd: folder, stdio: 'ignore' });
  assert.deepEqual(await once(child, 'close'), [1, null]);
});

test('the request of a killed worker is answered by another one', async (t) => {
  const { endpoint, client, worker } = await hub(t);
  const { child, line, ended } = program(t, `
    new Worker(process.argv[1], 'job', (request) => { console.log(request.body.toString()); return new Promise(() => {}); });
  `, endpoint);
  const c = await client({ timeout: 60_000, retries: 1 });
  const reply = c.request('job', 'the job');
  assert.equal(await line(), 'the job');
  let answers = 0;
  worker('job', () => `answer ${(answers += 1)}`);
  child.kill('SIGKILL');
  assert.equal(await ended, 'SIGKILL');
  assert.equal((await reply).toString(), 'answer 1');
});

test('a request that is forgotten is answered with a failure once it is collected', async (t) => {
  const { endpoint, client } = await hub(t);
  const { child, line } = run(t, ['--expose-gc', '--input-type=module', '--eval', `
    import { Worker } from 'majordomo';
    // In a function of its own: what belongs to a module is never collected.
    const forget = (worker) => worker.next().then(() => console.log('taken'));
    await forget(new Worker(process.argv[1], 'forgotten'));
    process.stdin.on('data', () => gc());
  `, '--', endpoint]);
  const c = await client({ timeout: 60_000, retries: 1 });
  const failure = c.request('forgotten', '').catch((error) => error);
  assert.equal(await line(), 'taken');
  // What is collected, and when, is the engine's business: it is asked until it has done it.
  const asking = setInterval(() => child.stdin.write('collect'), 10);
  // Before the child is ended: nobody reads then.
  const { serviceCode } = await failure.finally(() => clearInterval(asking));
  assert.equal(serviceCode, 500);
});

test('a thread that is terminated leaves the process and its requests well', async (t) => {
  const { endpoint, client, worker } = await hub(t);
  const c = await client({ timeout: 60_000, retries: 1 });
  for (let round = 0; round < 5; round += 1) {
    const thread = new Thread(`
      const { workerData, parentPort } = require('node:worker_threads');
      const { Client, Worker } = require('majordomo');
      Client.connect(workerData).then((client) => {
        for (let n = 0; n < 100; n += 1) client.request('nobody', 'x').catch(() => {});
      });
      new Worker(workerData, 'job', () => { parentPort.postMessage('holding'); return new Promise(() => {}); });
    `, { eval: true, workerData: endpoint });
    const reply = c.request('job', 'x');
    await once(thread, 'message');
    await thread.terminate();
    const other = worker('job', () => `answered in round ${round}`);
    assert.equal((await reply).toString(), `answered in round ${round}`);
    await other.drain();
  }
});

test('threads have clients of their own', async (t) => {
  const { endpoint, worker } = await hub(t);
  worker('echo', (request) => request.body, { concurrency: 4 });
  const source = `
    const { workerData, parentPort } = require('node:worker_threads');
    const { Client } = require('majordomo');
    Client.connect(workerData).then(async (client) => {
      const replies = await Promise.all(Array.from({ length: 100 }, (_, n) => client.request('echo', String(n))));
      parentPort.postMessage(replies.map(String).join());
    });
  `;
  const threads = Array.from({ length: 3 }, () => new Thread(source, { eval: true, workerData: endpoint }));
  const expected = Array.from({ length: 100 }, (_, n) => String(n)).join();
  for (const [said] of await Promise.all(threads.map((thread) => once(thread, 'message')))) assert.equal(said, expected);
  await Promise.all(threads.map((thread) => thread.terminate()));
});

test('mdbroker serves until it is told to end', async (t) => {
  for (const signal of ['SIGTERM', 'SIGINT']) {
    const command = fileURLToPath(new URL('../bin/mdbroker.cjs', import.meta.url));
    const { child, line, ended } = run(t, [command, '--bind', 'tcp://127.0.0.1:0']);
    const endpoint = (await line()).match(/^listening on (tcp:.*)$/)[1];
    const worker = new Worker(endpoint, 'echo', (request) => request.body);
    const client = await Client.connect(endpoint);
    t.after(() => Promise.all([worker.close(), client.close()]));
    assert.equal((await client.request('echo', 'hi')).toString(), 'hi');
    child.kill(signal);
    assert.equal(await ended, 0);
  }
});

test('mdbroker refuses what it does not understand', async (t) => {
  const command = fileURLToPath(new URL('../bin/mdbroker.cjs', import.meta.url));
  const child = spawn(process.execPath, [command, '--no-such-option'], { stdio: 'ignore' });
  const [status] = await once(child, 'close');
  assert.notEqual(status, 0);
});
