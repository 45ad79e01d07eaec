// Peers that contain none of our code: sockets of the npm package `zeromq`, and frames typed from the specification.
import assert from 'node:assert/strict';
import test from 'node:test';

import * as zmq from 'zeromq';
import { Client, Worker } from 'majordomo';
import { hub } from './hub.mjs';

const text = (frames) => frames.map((frame) => frame.toString('latin1'));

function socket(t, Type) {
  const made = new Type({ linger: 0 });
  t.after(() => made.close());
  return made;
}

async function router(t) {
  const made = socket(t, zmq.Router);
  await made.bind('tcp://127.0.0.1:0');
  return { peer: made, endpoint: made.lastEndpoint };
}

test('a REQ socket is a client of protocol 0.1', async (t) => {
  const { endpoint, worker } = await hub(t);
  worker('echo', (request) => request.body);
  const peer = socket(t, zmq.Request);
  peer.connect(endpoint);
  for (const body of [['hi'], ['a', '', 'b']]) {
    await peer.send(['MDPC01', 'echo', ...body]);
    assert.deepEqual(text(await peer.receive()), ['MDPC01', 'echo', ...body]);
  }
});

test('a DEALER is a client of protocol 0.2 and sees the parts', async (t) => {
  const { endpoint, worker } = await hub(t);
  worker('parts', function* () {
    yield 'a';
    yield 'b';
    yield 'c';
  }, { protocol: '0.2' });
  const peer = socket(t, zmq.Dealer);
  peer.connect(endpoint);
  await peer.send(['MDPC02', '\x01', 'parts', 'x']);
  assert.deepEqual(text(await peer.receive()), ['MDPC02', '\x02', 'parts', 'a']);
  assert.deepEqual(text(await peer.receive()), ['MDPC02', '\x02', 'parts', 'b']);
  assert.deepEqual(text(await peer.receive()), ['MDPC02', '\x03', 'parts', 'c']);
});

test('a DEALER is a worker of protocol 0.1', async (t) => {
  const { endpoint, client } = await hub(t);
  const peer = socket(t, zmq.Dealer);
  peer.connect(endpoint);
  await peer.send(['', 'MDPW01', '\x01', 'upper']);
  const c = await client();
  const reply = c.request('upper', ['a', 'b']);
  let frames;
  do frames = await peer.receive();
  while (frames[2].toString('latin1') === '\x04');
  assert.deepEqual(text(frames.slice(0, 3)), ['', 'MDPW01', '\x02']);
  assert.deepEqual(text(frames.slice(4)), ['', 'a', 'b']);
  await peer.send(['', 'MDPW01', '\x03', frames[3], '', 'A', 'B']);
  assert.deepEqual([...(await reply)].map(String), ['A', 'B']);
});

test('a DEALER is a worker of protocol 0.2 and streams', async (t) => {
  const { endpoint, client } = await hub(t);
  const peer = socket(t, zmq.Dealer);
  peer.connect(endpoint);
  await peer.send(['MDPW02', '\x01', 'parts']);
  const c = await client({ protocol: '0.2' });
  const parts = c.stream('parts', 'x');
  const first = parts.next();
  let frames;
  do frames = await peer.receive();
  while (frames[1].toString('latin1') === '\x05');
  assert.deepEqual(text([...frames.slice(0, 2), ...frames.slice(3)]), ['MDPW02', '\x02', '', 'x']);
  await peer.send(['MDPW02', '\x03', frames[2], '', 'part']);
  assert.equal((await first).value.toString(), 'part');
  await peer.send(['MDPW02', '\x04', frames[2], '', 'end']);
  assert.equal((await parts.next()).value.toString(), 'end');
  assert.equal(parts.final, true);
});

test('a client says to a strange broker what the specification says', async (t) => {
  for (const [protocol, sent, answer] of [
    ['0.1', ['', 'MDPC01', 'echo', 'a', ''], (id, body) => [id, '', 'MDPC01', 'echo', ...body]],
    ['0.2', ['MDPC02', '\x01', 'echo', 'a', ''], (id, body) => [id, 'MDPC02', '\x03', 'echo', ...body]],
  ]) {
    const { peer, endpoint } = await router(t);
    const client = await Client.connect(endpoint, { protocol });
    const reply = client.request('echo', ['a', '']);
    const [id, ...frames] = await peer.receive();
    assert.deepEqual(text(frames), sent);
    await peer.send(answer(id, ['b', 'c']));
    assert.deepEqual([...(await reply)].map(String), ['b', 'c']);
    await client.close();
  }
});

test('a worker says to a strange broker what the specification says', async (t) => {
  for (const [protocol, ready, request, reply, heartbeat, disconnect] of [
    ['0.1', ['', 'MDPW01', '\x01', 'echo'], ['', 'MDPW01', '\x02'], ['', 'MDPW01', '\x03'], '\x04', ['', 'MDPW01', '\x05']],
    ['0.2', ['MDPW02', '\x01', 'echo'], ['MDPW02', '\x02'], ['MDPW02', '\x04'], '\x05', ['MDPW02', '\x06']],
  ]) {
    const { peer, endpoint } = await router(t);
    const worker = new Worker(endpoint, 'echo', (r) => r.body, { protocol, heartbeat: 60_000 });
    const [id, ...first] = await peer.receive();
    assert.deepEqual(text(first), ready);
    await peer.send([id, ...request, 'client', '', 'a', '']);
    const next = async () => {
      for (;;) {
        const frames = text((await peer.receive()).slice(1));
        if (frames.at(-1) !== heartbeat) return frames;
      }
    };
    assert.deepEqual(await next(), [...reply, 'client', '', 'a', '']);
    const closing = worker.close();
    assert.deepEqual(await next(), disconnect);
    await closing;
  }
});

test('garbage on the wire harms nobody', async (t) => {
  const { endpoint, client, worker } = await hub(t);
  worker('echo', (request) => request.body);
  const peer = socket(t, zmq.Dealer);
  peer.connect(endpoint);
  for (const frames of [[''], ['', ''], ['', 'MDPC01'], ['', 'MDPW01'], ['', 'MDPW01', '\x09'], ['MDPC02', '\x07'], ['x', 'y', 'z']]) {
    await peer.send(frames);
  }
  assert.equal((await (await client()).request('echo', 'well')).toString(), 'well');
});
