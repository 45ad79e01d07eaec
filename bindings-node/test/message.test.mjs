import assert from 'node:assert/strict';
import test from 'node:test';

import { Message } from 'majordomo';
import { hub } from './hub.mjs';

test('a message is a frozen array of its frames', () => {
  const message = new Message(['héllo', Buffer.of(0, 255), new Uint8Array([1, 2]), '']);
  assert.equal(message.length, 4);
  assert.ok(Array.isArray(message));
  assert.ok(message instanceof Message);
  assert.ok([...message].every(Buffer.isBuffer));
  assert.equal(message.toString(), 'héllo');
  assert.equal(message.toString(1, 'hex'), '00ff');
  assert.equal(message.toString(9), '');
  assert.throws(() => {
    message[0] = Buffer.of(1);
  }, TypeError);
  assert.throws(() => message.push(Buffer.of(1)), TypeError);
  assert.equal(message.length, 4);
  const mapped = message.map((frame) => frame.length);
  assert.deepEqual(mapped, [6, 2, 2, 0]);
  assert.ok(!(mapped instanceof Message));
  assert.equal(new Message().length, 0);
  assert.equal(new Message([]).length, 0);
  assert.deepEqual([...Message.of('a', 'b')].map(String), ['a', 'b']);
  assert.deepEqual([...Message.from('a')].map(String), ['a']);
});

test('a message does not change with the buffer it was made from', () => {
  const buffer = Buffer.from('before');
  const message = new Message(buffer);
  buffer.write('after!');
  assert.equal(message.toString(), 'before');
});

test('every kind of body arrives as its bytes', async (t) => {
  const { client, worker } = await hub(t);
  worker('echo', (request) => request.body, { concurrency: 4 });
  const c = await client();
  const wide = new Uint16Array([1, 2]);
  const bytes = Buffer.from('0123456789');
  const cases = [
    ['text', [Buffer.from('text')]],
    ['', [Buffer.alloc(0)]],
    ['a\0b', [Buffer.from('a\0b')]],
    [bytes.subarray(2, 5), [Buffer.from('234')]],
    [new Uint8Array(bytes.buffer, bytes.byteOffset + 1, 3), [Buffer.from('123')]],
    [wide, [Buffer.from(wide.buffer)]],
    [new DataView(wide.buffer, 1, 2), [Buffer.from(wide.buffer, 1, 2)]],
    [wide.buffer, [Buffer.from(wide.buffer)]],
    [['a', '', Buffer.of(0), bytes], [Buffer.from('a'), Buffer.alloc(0), Buffer.of(0), bytes]],
    [new Message(['x', 'y']), [Buffer.from('x'), Buffer.from('y')]],
    [Array(20).fill('f'), Array(20).fill(Buffer.from('f'))],
  ];
  for (const [body, frames] of cases) {
    const reply = await c.request('echo', body);
    assert.ok(reply instanceof Message);
    assert.deepEqual([...reply], frames);
  }
});

test('a message of 100 MB comes back whole', async (t) => {
  const { client, worker } = await hub(t);
  worker('echo', (request) => request.body);
  const c = await client({ timeout: 60_000 });
  const large = Buffer.alloc(100_000_000, 'abcdefg');
  const [frame] = await c.request('echo', large);
  assert.ok(frame.equals(large));
});

test('a message beyond the limit is refused and the client goes on', async (t) => {
  const { client, worker } = await hub(t);
  worker('echo', (request) => request.body);
  const c = await client({ maxMessageBytes: 1000 });
  await assert.rejects(c.request('echo', Buffer.alloc(2000)), { code: 'MD_ETOOLARGE' });
  assert.equal((await c.request('echo', 'small')).toString(), 'small');
});

test('bodies of all sizes that come at once are told apart and stay as they came', async (t) => {
  const { client, worker } = await hub(t);
  worker('echo', (request) => request.body, { concurrency: 64, prefetch: 64 });
  const c = await client({ timeout: 30_000 });
  const sizes = [0, 1, 11, 1000, 4094, 4095, 4096, 4097, 70_000];
  const bodies = Array.from({ length: 500 }, (_, index) => Buffer.alloc(sizes[index % sizes.length], index));
  const replies = await Promise.all(bodies.map((body) => c.request('echo', body)));
  // Others come meanwhile.
  await Promise.all(bodies.map(() => c.request('echo', Buffer.alloc(100, 'z'))));
  replies.forEach((reply, index) => {
    assert.equal(reply.length, 1);
    assert.ok(reply[0].equals(bodies[index]), `body ${index}`);
  });
});
