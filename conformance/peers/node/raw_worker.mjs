// A worker as a stranger writes it in Node. Like a Guide worker it takes one request at a time, does not beat while its handler
// runs, and opens a new socket after DISCONNECT or silence.
import { Dealer } from 'zeromq'

import { VERSIONS, readToWorker, toBroker } from './wire.mjs'

export class RawWorker {
  handled = 0
  #stopping = false
  #socket = null
  #done

  // `handler(request, partial)` gives the frames of the final reply; `partial(frames)` sends some before.
  constructor(command, handler) {
    this.options = { heartbeat_ms: 2500, liveness: 3, ...command }
    this.version = VERSIONS[command.protocol]
    this.handler = handler
    this.#done = this.#run()
  }

  async #run() {
    while (!this.#stopping) {
      const socket = new Dealer({ linger: 2000, sendHighWaterMark: 0, receiveHighWaterMark: 0 })
      socket.receiveTimeout = this.options.heartbeat_ms
      socket.connect(this.options.endpoint)
      this.#socket = socket
      await socket.send(toBroker(this.version, 'READY', this.options.service))
      try {
        await this.#serve(socket)
      } finally {
        if (!socket.closed) socket.close()
      }
    }
  }

  async #serve(socket) {
    let liveness = this.options.liveness
    let nextBeat = performance.now() + this.options.heartbeat_ms
    while (liveness > 0) {
      try {
        const message = readToWorker(this.version, await socket.receive())
        if (message.command === 'DISCONNECT') return
        if (message.command === 'REQUEST') await this.#answer(socket, message)
        liveness = this.options.liveness
      } catch (problem) {
        if (this.#stopping && socket.closed) return
        if (problem.code !== 'EAGAIN') throw problem
        liveness--
      }
      if (this.#stopping) {
        await socket.send(toBroker(this.version, 'DISCONNECT'))
        return
      }
      if (performance.now() >= nextBeat) {
        await socket.send(toBroker(this.version, 'HEARTBEAT'))
        nextBeat = performance.now() + this.options.heartbeat_ms
      }
    }
  }

  #busy = false

  async #answer(socket, { address, body }) {
    this.handled++
    this.#busy = true
    const partial = (frames) => socket.send(toBroker(this.version, 'PARTIAL', address, '', ...frames))
    const reply = await this.handler(body, partial)
    await socket.send(toBroker(this.version, 'FINAL', address, '', ...reply))
    this.#busy = false
  }

  async stop() {
    this.#stopping = true
    if (!this.#busy) {
      await this.#socket.send(toBroker(this.version, 'DISCONNECT'))
      this.#socket.close()
    }
    await this.#done
    return this.handled
  }
}
