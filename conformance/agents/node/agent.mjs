// The agent of Node (see conformance/AGENT.md): lines into calls of the package `majordomo`, and what comes back into lines.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';

import { body, described, flat, generated, properties } from './body.mjs';

// The package as its users have it; from the project's folder, where nothing is installed beside the agent.
const require = createRequire(new URL('../../../bindings-node/package.json', import.meta.url));
const { Broker, Client, MajordomoError, Message, ServiceError, Worker } = require('majordomo');

const clients = new Map();
const workers = new Map();
const brokers = new Map();
/** For each request in progress, by the id of its command: what cancels it. */
const running = new Map();

function say(event) {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}

/** The given options under the names of the package; what is absent stays absent. */
function options(command, names) {
  const given = {};
  for (const [key, name] of Object.entries(names)) {
    if (command[key] !== undefined) given[name] = command[key];
  }
  return given;
}

const requestNames = { timeout_ms: 'timeout', retries: 'retries', deadline_ms: 'deadline' };
const onceNames = { ...requestNames, max_attempts: 'maxAttempts', fail_fast: 'failFast' };
const clientNames = {
  ...requestNames,
  protocol: 'protocol',
  max_in_flight: 'maxInFlight',
  max_waiting: 'maxWaiting',
  max_message_bytes: 'maxMessageBytes',
  reconnect_min_ms: 'reconnectMin',
  reconnect_max_ms: 'reconnectMax',
};
const workerNames = {
  protocol: 'protocol',
  heartbeat_ms: 'heartbeat',
  liveness: 'liveness',
  reconnect_ms: 'reconnect',
  concurrency: 'concurrency',
  prefetch: 'prefetch',
  keep_outcomes: 'keepOutcomes',
  max_message_bytes: 'maxMessageBytes',
  drain_timeout_ms: 'drainTimeout',
};

function named(map, name) {
  if (!map.has(name)) throw new Error(`nothing has the name ${name}`);
  return map.get(name);
}

/** Writes what happens to the connection of a client or a worker. */
function watch(handle, command, of) {
  if (!command.events) return;
  for (const name of ['connected', 'disconnected', 'reconnecting', 'draining']) {
    handle.on(name, (details) => say({ event: 'connection', [of]: command[of], name, ...details }));
  }
}

/** Does `ask` with the options of one request, so that `cancel` finds it. */
async function cancellable(command, ask) {
  const controller = new AbortController();
  running.set(command.id, controller);
  const given = options(command, onceNames);
  if (command.properties !== undefined) given.properties = properties(command.properties);
  try {
    return await ask({ ...given, signal: controller.signal });
  } finally {
    running.delete(command.id);
  }
}

/** A worker with what the tests want to know of it and do to it. */
function startWorker(command) {
  let release;
  const state = { handled: 0, released: new Promise((resolve) => { release = resolve; }) };
  state.release = release;
  const handlers = {
    echo: (request) => request.body,
    reverse: (request) => [...request.body].reverse(),
    name: () => command.worker,
    stream: function* (request) {
      for (const frame of [...request.body, 'END']) yield new Message(frame, { properties: request.properties });
    },
    fail: () => {
      throw new ServiceError(command.code, command.text);
    },
    raise: () => {
      throw new Error(command.text);
    },
    hold: async (request) => {
      say({ event: 'holding', worker: command.worker, handled: state.handled });
      await state.released;
      return request.body;
    },
    describe: (request) => {
      const { attempt, remaining } = request;
      const remaining_ms = remaining === undefined ? -1 : Math.floor(remaining);
      const text = JSON.stringify({ attempt, remaining_ms, properties: flat(request.properties) });
      return new Message(text, { properties: request.properties });
    },
    wait_cancel: async (request) => {
      const { signal } = request;
      const cancelled = new Promise((resolve) => {
        if (signal.aborted) resolve();
        else signal.addEventListener('abort', resolve, { once: true });
      });
      if (command.part_first) request.partial(request.body);
      say({ event: 'holding', worker: command.worker, handled: state.handled });
      await cancelled;
      say({ event: 'cancelled', worker: command.worker });
      return request.body;
    },
    witness: async (request) => {
      say({ event: 'running', worker: command.worker, request: Number(request.body[0]) });
      if (request.attempt === 1) await pause(command.pause_ms);
      return request.body;
    },
    retry: (request) => {
      if (request.attempt >= command.succeed_at) return request.body;
      throw new ServiceError(503, 'try again', { retryable: true });
    },
    spin: (request) => {
      const end = performance.now() + command.spin_ms;
      while (performance.now() < end);
      return request.body;
    },
  };
  const handler = handlers[command.behaviour];
  if (handler === undefined) throw new Error(`there is no behaviour ${command.behaviour}`);
  state.worker = new Worker(
    command.endpoint,
    command.service,
    (request) => {
      state.handled += 1;
      return handler(request);
    },
    options(command, workerNames),
  );
  state.worker.closed.catch(({ kind, number, message }) => {
    say({ event: 'worker_ended', worker: command.worker, kind, number, text: message });
  });
  watch(state.worker, command, 'worker');
  workers.set(command.worker, state);
}

async function requestMany(command) {
  const client = named(clients, command.client);
  const given = options(command, onceNames);
  const result = { ok: 0, mismatched: 0, errors: 0 };
  let next = 0;
  const ask = async () => {
    while (next < command.count) {
      const number = next;
      next += 1;
      const frames = [Buffer.from(String(number)), generated(command.size, number)];
      try {
        const reply = await client.request(command.service, frames, given);
        const equal = reply.length === frames.length && frames.every((frame, index) => frame.equals(reply[index]));
        result[equal ? 'ok' : 'mismatched'] += 1;
      } catch (error) {
        if (!(error instanceof MajordomoError)) throw error;
        result.errors += 1;
        result.first_error ??= error.kind;
      }
    }
  };
  await Promise.all(Array.from({ length: command.concurrency ?? 1 }, ask));
  return { event: 'many', ...result };
}

/** What each command does; its result is the closing event. */
const commands = {
  async open_client(command) {
    const client = await Client.connect(command.endpoint, options(command, clientNames));
    watch(client, command, 'client');
    clients.set(command.client, client);
  },
  async request(command) {
    const client = named(clients, command.client);
    const reply = await cancellable(command, (given) => client.request(command.service, body(command), given));
    return { event: 'reply', ...described(reply) };
  },
  async stream(command) {
    const client = named(clients, command.client);
    let parts = 0;
    await cancellable(command, async (given) => {
      for await (const part of client.stream(command.service, body(command), given)) {
        parts += 1;
        say({ event: 'part', id: command.id, ...described(part) });
        if (parts === command.leave_after) break;
      }
    });
    return { event: 'end', parts };
  },
  request_many: requestMany,
  cancel(command) {
    named(running, command.request).abort();
  },
  async close_client(command) {
    await named(clients, command.client).close();
    clients.delete(command.client);
  },
  start_worker: startWorker,
  release(command) {
    named(workers, command.worker).release();
  },
  worker_stats(command) {
    return { event: 'ok', handled: named(workers, command.worker).handled };
  },
  async stop_worker(command) {
    const { worker } = named(workers, command.worker);
    await worker.drain();
    const { handled } = workers.get(command.worker);
    workers.delete(command.worker);
    return { event: 'ok', handled };
  },
  async start_broker(command) {
    const broker = await Broker.start(command.bind);
    brokers.set(command.broker, broker);
    return { event: 'ok', endpoint: broker.endpoint };
  },
  async stop_broker(command) {
    await named(brokers, command.broker).close();
    brokers.delete(command.broker);
  },
  ping() {},
};

async function obey(command) {
  const { id, cmd } = command;
  try {
    if (!Object.hasOwn(commands, cmd)) throw new Error(`there is no command ${cmd}`);
    const closing = await commands[cmd](command);
    say({ event: 'ok', ...closing, id });
  } catch (error) {
    if (error instanceof MajordomoError) {
      const { kind, number, retryable, serviceCode } = error;
      const text = error.text ?? error.message;
      const service = serviceCode === undefined ? {} : { service_code: serviceCode };
      say({ event: 'error', id, kind, number, retryable, ...service, text });
    } else {
      say({ event: 'failed', id, text: String(error?.message ?? error) });
    }
  }
}

async function end() {
  const handles = [...clients.values(), ...[...workers.values()].map(({ worker }) => worker)];
  await Promise.all(handles.map((handle) => handle.close()));
  await Promise.all([...brokers.values()].map((broker) => broker.close()));
}

say({ event: 'hello', language: 'node', agent: 1 });
for await (const line of createInterface({ input: process.stdin })) {
  if (line.trim() === '') continue;
  const command = JSON.parse(line);
  if (command.cmd === 'quit') {
    await end();
    say({ event: 'ok', id: command.id });
    process.exit(0);
  }
  obey(command);
}
await end();
process.exit(0);
