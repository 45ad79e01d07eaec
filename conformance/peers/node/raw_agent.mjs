// An agent (AGENT.md) made of nothing but the npm package zeromq and the published frames: a stranger in the conformance matrix.
import { createInterface } from 'node:readline'
import { crc32 } from 'node:zlib'

import { RawClient, TimedOut } from './raw_client.mjs'
import { RawWorker } from './raw_worker.mjs'

const emit = (event, fields) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`)

function madeFrame(size, seed, k) {
  return Buffer.alloc(size, Buffer.from(Array.from({ length: 251 }, (_, i) => (seed + k + i) % 256)))
}

function bodyOf(command) {
  if (command.body) return command.body.map((frame) => Buffer.from(frame, 'base64'))
  return Array.from({ length: command.frames ?? 1 }, (_, k) => madeFrame(command.size, command.seed ?? 0, k))
}

function described(frames) {
  const small = frames.reduce((sum, frame) => sum + frame.length, 0) <= 65536
  return {
    sizes: frames.map((frame) => frame.length),
    crc32: frames.map((frame) => crc32(frame)),
    body: small ? frames.map((frame) => frame.toString('base64')) : null,
  }
}

const same = (a, b) => a.length === b.length && a.every((frame, i) => frame.equals(b[i]))

const clients = new Map()
const workers = new Map()

function handlerOf(command, state) {
  switch (command.behaviour) {
    case 'echo':
      return (body) => body
    case 'reverse':
      return (body) => body.toReversed()
    case 'name':
      return () => [command.worker]
    case 'stream':
      // 0.1 has no parts: all of it is one reply.
      if (command.protocol === '0.1') return (body) => [...body, 'END']
      return async (body, partial) => {
        for (const frame of body) await partial([frame])
        return ['END']
      }
    case 'hold':
      return async (body) => {
        emit('holding', { worker: command.worker, handled: state.worker.handled })
        await state.released
        return body
      }
    case 'spin':
      return (body) => {
        const end = performance.now() + command.spin_ms
        while (performance.now() < end);
        return body
      }
  }
}

const commands = {
  open_client(command) {
    clients.set(command.client, new RawClient(command))
    return ['ok']
  },
  close_client({ client }) {
    clients.get(client).close()
    clients.delete(client)
    return ['ok']
  },
  async request(command) {
    return ['reply', described(await clients.get(command.client).call(command, bodyOf(command)))]
  },
  async stream(command) {
    let parts = 0
    await clients.get(command.client).call(command, bodyOf(command), (body) => {
      parts++
      emit('part', { id: command.id, ...described(body) })
    })
    return ['end', { parts }]
  },
  async request_many(command) {
    const client = clients.get(command.client)
    const counts = { ok: 0, mismatched: 0, errors: 0 }
    let next = 0
    const work = async () => {
      while (next < command.count) {
        const number = next++
        const body = [Buffer.from(String(number)), madeFrame(command.size, number, 0)]
        try {
          counts[same(await client.call(command, body), body) ? 'ok' : 'mismatched']++
        } catch (problem) {
          if (!(problem instanceof TimedOut)) throw problem
          counts.errors++
          counts.first_error ??= 'Timeout'
        }
      }
    }
    await Promise.all(Array.from({ length: command.concurrency }, work))
    return ['many', counts]
  },
  start_worker(command) {
    if (['fail', 'raise', 'describe', 'wait_cancel', 'retry'].includes(command.behaviour)) {
      return ['failed', { text: 'unsupported' }]
    }
    const state = {}
    state.released = new Promise((resolve) => (state.release = resolve))
    state.worker = new RawWorker(command, handlerOf(command, state))
    workers.set(command.worker, state)
    return ['ok']
  },
  release({ worker }) {
    workers.get(worker).release()
    return ['ok']
  },
  worker_stats({ worker }) {
    return ['ok', { handled: workers.get(worker).worker.handled }]
  },
  async stop_worker({ worker }) {
    const handled = await workers.get(worker).worker.stop()
    workers.delete(worker)
    return ['ok', { handled }]
  },
  ping: () => ['ok'],
  start_broker: () => ['failed', { text: 'unsupported' }],
  stop_broker: () => ['failed', { text: 'unsupported' }],
}

async function closeAll() {
  for (const state of workers.values()) {
    state.release()
    await state.worker.stop()
  }
  for (const client of clients.values()) client.close()
}

async function perform(command) {
  try {
    const [event, fields] = await commands[command.cmd](command)
    emit(event, { id: command.id, ...fields })
  } catch (problem) {
    if (problem instanceof TimedOut) emit('error', { id: command.id, kind: 'Timeout', number: 1, retryable: true, text: problem.message })
    else emit('failed', { id: command.id, text: String(problem.stack) })
  }
}

emit('hello', { language: 'zeromq', agent: 1 })
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line)
  if (command.cmd === 'quit') {
    await closeAll()
    emit('ok', { id: command.id })
    process.exit(0)
  }
  void perform(command)
}
await closeAll()
process.exit(0)
