// The frames of MDP/0.1 (7/MDP) and MDP/0.2 (18/MDP), typed from the published protocols. One table per version.
// A frame list is what the peer's DEALER socket sends or receives; frames in are strings or Buffers, frames out are Buffers.

export const VERSIONS = {
  '0.1': {
    lead: 1,
    client: 'MDPC01',
    worker: 'MDPW01',
    request: null,
    replies: null,
    commands: { READY: 1, REQUEST: 2, FINAL: 3, HEARTBEAT: 4, DISCONNECT: 5 },
  },
  '0.2': {
    lead: 0,
    client: 'MDPC02',
    worker: 'MDPW02',
    request: 1,
    replies: { 2: 'PARTIAL', 3: 'FINAL' },
    commands: { READY: 1, REQUEST: 2, PARTIAL: 3, FINAL: 4, HEARTBEAT: 5, DISCONNECT: 6 },
  },
}

const lead = (version) => Array(version.lead).fill('')

export function clientRequest(version, service, body) {
  const command = version.request === null ? [] : [Buffer.of(version.request)]
  return [...lead(version), version.client, ...command, service, ...body]
}

export function toBroker(version, command, ...frames) {
  return [...lead(version), version.worker, Buffer.of(version.commands[command]), ...frames]
}

function rest(version, header, frames) {
  const found = frames.slice(version.lead)
  const empty = frames.slice(0, version.lead).every((frame) => frame.length === 0)
  if (!empty || found.length === 0 || found[0].toString() !== header) {
    throw new Error(`not for ${header}: ${frames.map((frame) => frame.toString('hex'))}`)
  }
  return found.slice(1)
}

export function readReply(version, frames) {
  const found = rest(version, version.client, frames)
  let kind = 'FINAL'
  if (version.replies !== null) {
    const command = found.shift()
    kind = command?.length === 1 ? version.replies[command[0]] : undefined
    if (kind === undefined) throw new Error('not a reply')
  }
  if (found.length === 0) throw new Error('a reply without a service')
  return { kind, service: found[0].toString(), body: found.slice(1) }
}

export function readToWorker(version, frames) {
  const [code, ...found] = rest(version, version.worker, frames)
  const command = Object.keys(version.commands).find((name) => code?.length === 1 && version.commands[name] === code[0])
  if (command === 'HEARTBEAT' || command === 'DISCONNECT') return { command }
  if (command === 'REQUEST' && found.length >= 2 && found[0].length > 0 && found[1].length === 0) {
    return { command, address: found[0], body: found.slice(2) }
  }
  throw new Error(`a broker does not send this to a worker: ${frames.map((frame) => frame.toString('hex'))}`)
}
