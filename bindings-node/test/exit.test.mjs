// A process ends with requests in flight: without a crash, without a wait, and with the status that it was given.
import assert from 'node:assert/strict';
import test from 'node:test';

import { hub } from './hub.mjs';
import { program, run } from './program.mjs';

/** Asks, streams and serves all the time; `begun` is fulfilled when all of it is under way. */
const busy = `
  const [endpoint] = process.argv.slice(1);
  const broker = await Broker.start('tcp://127.0.0.1:0');
  const begun = new Promise((resolve) => {
    new Worker(endpoint, 'hanging', () => { resolve(); return new Promise(() => {}); }, { concurrency: 4 });
  });
  new Worker(endpoint, 'mine', (request) => request.body, { concurrency: 4 });
  new Worker(endpoint, 'idle').next();
  const clients = await Promise.all(Array.from({ length: 4 }, () => Client.connect(endpoint, { timeout: 3_600_000 })));
  const [asking, streaming, waiting, hanging] = clients;
  const forever = async (once) => { for (;;) await once(); };
  for (let n = 0; n < 20; n += 1) forever(() => asking.request('mine', 'x')).catch(() => {});
  const read = async () => { for await (const part of streaming.stream('mine', 'x')) part; };
  for (let n = 0; n < 5; n += 1) forever(read).catch(() => {});
  for (let n = 0; n < 100; n += 1) waiting.request('nobody', 'x').catch(() => {});
  for (let n = 0; n < 100; n += 1) hanging.request('hanging', 'x').catch(() => {});
  await begun;
  for (const client of clients.slice(0, 2)) await client.request('mine', 'x');
  console.log('begun');
`;

/** Ends a test that hangs. */
const limit = { timeout: 120_000 };

const ends = {
  'process.exit': ['process.exit(7);', 7],
  'process.exit in a callback': ["asking.request('mine', '').then(() => process.exit(7));", 7],
  'an uncaught exception': ["throw new Error('on purpose');", 1],
  'an uncaught exception in a handler of events': ["setImmediate(() => { throw new Error('on purpose'); });", 1],
  'an unhandled rejection': ["Promise.reject(new Error('on purpose'));", 1],
  'process.reallyExit': ['process.reallyExit(8);', 8],
  'process.abort': ['process.abort();', 'SIGABRT'],
  SIGTERM: ["process.kill(process.pid, 'SIGTERM');", 'SIGTERM'],
  SIGINT: ["process.kill(process.pid, 'SIGINT');", 'SIGINT'],
  'a handler of SIGINT that exits': [
    "process.on('SIGINT', () => process.exit(130)); process.kill(process.pid, 'SIGINT');",
    130,
  ],
  'a handler of SIGINT that closes everything': [
    `process.on('SIGINT', async () => {
       for (const client of clients) await client.close();
       process.exitCode = 9;
       process.exit();
     });
     process.kill(process.pid, 'SIGINT');`,
    9,
  ],
};

for (const [name, [statement, expected]] of Object.entries(ends)) {
  test(`${name} ends a process that asks, streams and serves`, limit, async (t) => {
    const { endpoint } = await hub(t);
    const code = `import { Broker, Client, Worker } from 'majordomo';\n${busy}\n${statement}`;
    // A race between the end and what is under way, so not once only.
    for (let round = 0; round < 3; round += 1) {
      const { ended, line } = run(t, ['--input-type=module', '--eval', code, '--', endpoint], 'ignore');
      assert.equal(await line(), 'begun');
      assert.equal(await ended, expected);
    }
  });
}

test('a process that closes what it has opened ends by itself', limit, async (t) => {
  const { endpoint } = await hub(t);
  const { ended } = program(t, `
    const [endpoint] = process.argv.slice(1);
    const broker = await Broker.start('tcp://127.0.0.1:0');
    const worker = new Worker(endpoint, 'hanging', () => new Promise(() => {}), { concurrency: 4 });
    const client = await Client.connect(endpoint, { timeout: 3_600_000 });
    const lost = Array.from({ length: 100 }, (_, n) => client.request(n % 2 ? 'hanging' : 'nobody', 'x'));
    const codes = Promise.all(lost.map((one) => one.catch((error) => error.code)));
    process.once('SIGINT', async () => {
      await client.close();
      await worker.close();
      await broker.close();
      process.exitCode = new Set(await codes).has('MD_ECLOSED') ? 5 : 1;
    });
    process.kill(process.pid, 'SIGINT');
  `, endpoint);
  assert.equal(await ended, 5);
});
