// The programs of `cargo xtask bench` in Node: the same options and lines of JSON as those of `majordomo-bench`.
import { parseArgs } from 'node:util';
import { Client, Worker } from 'majordomo';

const SERVICE = 'echo';

// Long enough that no request is ever sent twice.
const TIMEOUT = 60_000;

// Requests that a worker of MDPX works on at once, and further ones that it holds ready; MDP/0.1 has one at a time.
const MANY = { concurrency: 256, prefetch: 512 };

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    endpoint: { type: 'string' },
    protocol: { type: 'string', default: '0.1' },
    size: { type: 'string', default: '11' },
    outstanding: { type: 'string', default: '1000' },
    'warm-up': { type: 'string', default: '0.5' },
    seconds: { type: 'string', default: '1' },
  },
});
const { endpoint, protocol } = values;
const outstanding = Number(values.outstanding);
const body = Buffer.alloc(Number(values.size), 'x');

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

// Counts replies once the warm-up is over, for some seconds.
class Meter {
  #begin = performance.now() + 1000 * Number(values['warm-up']);
  #end = this.#begin + 1000 * Number(values.seconds);
  #last = 0;
  #replies = 0;
  counts = false;

  // A reply came; whether to go on.
  receive() {
    const now = performance.now();
    if (this.counts) {
      this.#replies += 1;
    } else if (now >= this.#begin) {
      this.counts = true;
      this.#begin = now;
    }
    this.#last = now;
    return now < this.#end;
  }

  report(more = {}) {
    const seconds = (this.#last - this.#begin) / 1000;
    say({ replies: this.#replies, seconds, rate: this.#replies / seconds, ...more });
  }
}

// Keeps requests outstanding: as many loops as requests, each of which waits for its reply.
async function client() {
  const hub = await Client.connect(endpoint, { protocol, maxInFlight: outstanding, timeout: TIMEOUT });
  const meter = new Meter();
  await new Promise((resolve, reject) => {
    let enough = false;
    const keepAsking = async () => {
      while (!enough) {
        await hub.request(SERVICE, body);
        if (!enough && !meter.receive()) {
          enough = true;
          resolve();
        }
      }
    };
    for (let started = 0; started < outstanding; started += 1) keepAsking().catch((error) => enough || reject(error));
  });
  meter.report();
  await hub.close();
}

async function worker() {
  new Worker(endpoint, SERVICE, (request) => request.body, { protocol, ...(protocol === 'x1' ? MANY : {}) });
  say({ ready: true });
}

async function roundTrip() {
  const hub = await Client.connect(endpoint, { protocol, timeout: TIMEOUT });
  const meter = new Meter();
  const times = [];
  let going = true;
  while (going) {
    const begin = performance.now();
    await hub.request(SERVICE, body);
    if (meter.counts) times.push(performance.now() - begin);
    going = meter.receive();
  }
  times.sort((left, right) => left - right);
  const percentile = (part) => 1000 * times[Math.floor(part * (times.length - 1))];
  meter.report({ median_us: percentile(0.5), p99_us: percentile(0.99) });
  await hub.close();
}

async function dealer() {
  const { Dealer } = await import('zeromq');
  const socket = new Dealer({ sendHighWaterMark: 0, receiveHighWaterMark: 0, linger: 0 });
  socket.connect(endpoint);
  return socket;
}

// MDP/0.1 as the Guide's asynchronous client: send without waiting, then take replies as they come.
async function handWrittenClient() {
  const socket = await dealer();
  const request = ['', 'MDPC01', SERVICE, body];
  const meter = new Meter();
  for (let sent = 0; sent < outstanding; sent += 1) await socket.send(request);
  for (;;) {
    await socket.receive();
    if (!meter.receive()) break;
    await socket.send(request);
  }
  meter.report();
  socket.close();
}

// MDP/0.1: one request at a time.
async function handWrittenWorker() {
  const socket = await dealer();
  await socket.send(['', 'MDPW01', '\x01', SERVICE]);
  say({ ready: true });
  let beat = performance.now() + 2500;
  for (;;) {
    const [, , command, address, , ...frames] = await socket.receive();
    if (command[0] === 2) await socket.send(['', 'MDPW01', '\x03', address, '', ...frames]);
    if (performance.now() >= beat) {
      beat += 2500;
      await socket.send(['', 'MDPW01', '\x04']);
    }
  }
}

const roles = {
  client,
  worker,
  'round-trip': roundTrip,
  'hand-written-client': handWrittenClient,
  'hand-written-worker': handWrittenWorker,
};
const role = roles[positionals[0]];
if (!role || !endpoint) {
  console.error(`usage: peer.mjs ${Object.keys(roles).join('|')} --endpoint ENDPOINT`);
  process.exit(2);
}
await role();
