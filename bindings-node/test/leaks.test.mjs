// Requests, failures, cancellations, streams and handles leave nothing behind. MAJORDOMO_LEAK_REQUESTS says how many requests
// are made: 20,000 if it is not set; and a tenth of it is how many clients are opened.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';

import { run } from './program.mjs';

const program = fileURLToPath(new URL('leaks.mjs', import.meta.url));
const requests = Number(process.env.MAJORDOMO_LEAK_REQUESTS ?? 20_000);
// With an arena for each thread the allocator keeps pages that nobody uses, and they would pass for a leak.
process.env.MALLOC_ARENA_MAX = '1';
/** Compiles the addon that asks malloc. */
function mallinfo(t) {
  const folder = mkdtempSync(path.join(tmpdir(), 'majordomo-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const [source, addon] = [fileURLToPath(new URL('mallinfo.c', import.meta.url)), path.join(folder, 'mallinfo.node')];
  execFileSync(process.env.CC ?? 'cc', ['-O1', '-Wall', '-Werror', '-shared', '-fPIC', '-o', addon, source]);
  return addon;
}

/** Ends a test that hangs. */
const limit = { timeout: 60_000 + requests * 10 };

for (const [what, count] of [['requests', requests], ['handles', requests / 10]]) {
  test(`nothing of ${what} is left behind`, limit, async (t) => {
    const { line, ended } = run(t, ['--expose-gc', program, what, String(count), mallinfo(t)]);
    const more = JSON.parse(await line());
    t.diagnostic(JSON.stringify(more));
    assert.equal(await ended, 0);
    assert.ok(more.handles <= 0, 'handles of the event loop');
    assert.ok(more.threads <= 0, 'threads');
    // Fewer, where connections were on their way out.
    assert.ok(more.descriptors <= 0, 'descriptors');
    // Far below what some bytes for each of some thousand requests, or one large body in a hundred, come to.
    assert.ok(more.heap < 50_000, 'memory of JavaScript');
    assert.ok(more.external < 50_000 && more.arrayBuffers < 50_000, 'memory of buffers');
    // What the engine does not know of. It allocates itself while it compiles, less and less: up to 75 kB in the least of the
    // spans, however long they are. The least that malloc gives out, 32 bytes, for each of 5,000 requests is 160 kB.
    assert.ok(more.native < 130_000, 'memory of malloc');
    // Pages come and go whatever is leaked.
    assert.ok(more.resident < 6_000_000, 'memory in all');
  });
}

test('a client that is forgotten is collected, and its connection closed', { timeout: 60_000 }, async (t) => {
  const { line, ended } = run(t, ['--expose-gc', '--input-type=module', '--eval', `
    import { readdirSync } from 'node:fs';
    import { setImmediate } from 'node:timers/promises';
    import { Broker, Client } from 'majordomo';
    const broker = await Broker.start('tcp://127.0.0.1:0');
    const descriptors = () => readdirSync('/proc/self/fd').length;
    // Stays: with the last client, what all of them share goes.
    const kept = await Client.connect(broker.endpoint);
    const use = async () => {
      const client = await Client.connect(broker.endpoint);
      client.on('connected', () => client.listenerCount('connected'));
      await client.request('mmi.service', 'x');
    };
    await kept.request('mmi.service', 'x');
    const before = descriptors();
    for (let n = 0; n < 10; n += 1) await use();
    while (descriptors() > before) {
      gc();
      await setImmediate();
    }
    console.log('collected');
    process.exit(0);
  `]);
  assert.equal(await line(), 'collected');
  assert.equal(await ended, 0);
});
