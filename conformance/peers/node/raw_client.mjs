// A client as a stranger writes it in Node: sockets of the npm package zeromq. Each request has a socket to itself.
import { Dealer } from 'zeromq'

import { VERSIONS, clientRequest, readReply } from './wire.mjs'

export class TimedOut extends Error {}

export class RawClient {
  #idle = []

  constructor({ endpoint, protocol, ...options }) {
    this.endpoint = endpoint.split(',')[0]
    this.version = VERSIONS[protocol]
    this.options = options
  }

  #take() {
    const idle = this.#idle.pop()
    if (idle) return idle
    const socket = new Dealer({ linger: 0, sendHighWaterMark: 0, receiveHighWaterMark: 0 })
    socket.connect(this.endpoint)
    return socket
  }

  async call(command, body, onPart = () => {}) {
    const options = { timeout_ms: 2500, retries: 3, ...this.options, ...command }
    const end = performance.now() + (options.deadline_ms ?? options.timeout_ms * options.retries)
    for (let attempt = 0; attempt < options.retries; attempt++) {
      const socket = this.#take()
      try {
        await socket.send(clientRequest(this.version, command.service, body))
        const joined = []
        for (;;) {
          socket.receiveTimeout = Math.max(0, Math.min(options.timeout_ms, Math.floor(end - performance.now())))
          const reply = readReply(this.version, await socket.receive())
          onPart(reply.body)
          joined.push(...reply.body)
          if (reply.kind === 'FINAL') break
        }
        this.#idle.push(socket)
        return joined
      } catch (problem) {
        socket.close()
        if (problem.code !== 'EAGAIN') throw problem
      }
    }
    throw new TimedOut(`no answer from ${command.service}`)
  }

  close() {
    for (const socket of this.#idle.splice(0)) socket.close()
  }
}
