// Several JavaScript environments: worker_threads in one process, cluster over several.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import test from 'node:test';
import { Worker as Thread } from 'node:worker_threads';

import { hub } from './hub.mjs';
import { run } from './program.mjs';

/** Ends a test that hangs. */
const limit = { timeout: 120_000 };

/** Asks its own service and those of the others, until it is told to end; says `begun` after its first answers. */
const thread = `
  const { workerData: { endpoint, own, all }, parentPort } = require('node:worker_threads');
  const { Broker, Client, Worker } = require('majordomo');
  let over = false;
  const worker = new Worker(endpoint, own, (request) => [own, ...request.body], { concurrency: 8 });
  const serving = new Worker(endpoint, 'parts', function* () { yield '1'; yield '2'; yield own; });
  (async () => {
    const client = await Client.connect(endpoint, { timeout: 60_000, retries: 1 });
    const asking = async (service) => {
      for (let n = 0; !over; n += 1) {
        const reply = await client.request(service, String(n));
        if (String(reply[0]) !== service || String(reply[1]) !== String(n)) throw new Error('not my answer');
        if (n === 0) parentPort.postMessage('asked');
      }
    };
    const streaming = async () => {
      while (!over) {
        let parts = 0;
        for await (const part of client.stream('parts', '')) parts += 1;
        if (parts !== 3) throw new Error('not all parts');
      }
    };
    parentPort.once('message', () => { over = true; });
    await Promise.all([...all.map(asking), streaming(), streaming()]);
    parentPort.postMessage('quiet');
    // The others may still wait for answers from here.
    await new Promise((resolve) => parentPort.once('message', resolve));
    await Promise.all([worker.drain(), serving.drain()]);
    await client.close();
  })();
`;

function start(endpoint, own, all) {
  return new Thread(thread, { eval: true, workerData: { endpoint, own, all } });
}

async function told(thread, word, times = 1) {
  for (let n = 0; n < times; n += 1) assert.equal((await once(thread, 'message'))[0], word);
}

test('threads ask, stream and serve each other, and end by themselves', limit, async (t) => {
  const { endpoint, broker } = await hub(t);
  const all = ['a', 'b', 'c', 'd'];
  const threads = all.map((own) => start(endpoint, own, all));
  // Each sees the answers of every other one.
  await Promise.all(threads.map((thread) => told(thread, 'asked', all.length)));
  const quiet = Promise.all(threads.map((thread) => told(thread, 'quiet')));
  for (const thread of threads) thread.postMessage('be quiet');
  await quiet;
  const ends = Promise.all(threads.map((thread) => once(thread, 'exit')));
  for (const thread of threads) thread.postMessage('end');
  await ends;
  assert.equal((await broker.stats()).workers, 0);
});

test('threads that are terminated in the middle of requests leave the others and the process well', limit, async (t) => {
  const { endpoint, client, worker } = await hub(t);
  worker('steady', (request) => ['steady', ...request.body], { concurrency: 8 });
  const steady = await client({ timeout: 60_000, retries: 1 });
  for (let round = 0; round < 5; round += 1) {
    const threads = Array.from({ length: 3 }, (_, n) => start(endpoint, `own${n}`, ['steady', `own${n}`]));
    await Promise.all(threads.map((thread) => told(thread, 'asked', 2)));
    const asked = Array.from({ length: 50 }, (_, n) => steady.request('steady', String(n)));
    await Promise.all(threads.map((thread) => thread.terminate()));
    const replies = await Promise.all(asked);
    assert.deepEqual(replies.map((reply) => String(reply[1])), Array.from({ length: 50 }, (_, n) => String(n)));
  }
});

test('the processes of a cluster serve one service', limit, async (t) => {
  const { endpoint, client } = await hub(t);
  const { child, line, ended } = run(t, ['--eval', `
    const cluster = require('node:cluster');
    const { Client, Worker } = require('majordomo');
    const endpoint = process.argv[1];
    if (cluster.isPrimary) {
      cluster.setupPrimary({ execArgv: process.execArgv, args: [endpoint] });
      // The primary has handles of its own, before it starts the others and after.
      Client.connect(endpoint).then(async (client) => {
        await client.request('mmi.service', 'x');
        const own = new Worker(endpoint, 'primary', (request) => request.body);
        for (let n = 0; n < 3; n += 1) cluster.fork();
        cluster.on('exit', (worker, status, signal) => console.log('exit', signal ?? status));
        process.stdin.on('data', async (data) => {
          const [word, pid] = String(data).trim().split(' ');
          if (word === 'kill') process.kill(Number(pid), 'SIGKILL');
          if (word === 'start') cluster.fork();
          if (word === 'end') {
            cluster.disconnect();
            await own.drain();
            process.stdin.destroy();
          }
        });
      });
    } else {
      const worker = new Worker(endpoint, 'pid', () => String(process.pid));
      process.once('disconnect', () => worker.drain());
      Client.connect(endpoint).then(async (client) => client.request('primary', 'x'));
    }
  `, '--', endpoint]);
  const c = await client({ timeout: 60_000, retries: 1 });
  /** Asks until that many processes have answered; the set of them. */
  const answering = async (count, but) => {
    const pids = new Set();
    while (pids.size < count) {
      const pid = String(await c.request('pid', ''));
      if (pid !== but) pids.add(pid);
    }
    return pids;
  };
  const [victim] = await answering(3);
  const asked = Array.from({ length: 100 }, () => c.request('pid', ''));
  child.stdin.write(`kill ${victim}\n`);
  assert.equal(await line(), 'exit SIGKILL');
  // The requests that it held were answered by another one.
  assert.equal((await Promise.all(asked)).length, 100);
  child.stdin.write('start\n');
  await answering(3, victim);
  child.stdin.write('end\n');
  for (let n = 0; n < 3; n += 1) assert.equal(await line(), 'exit 0');
  assert.equal(await ended, 0);
});
