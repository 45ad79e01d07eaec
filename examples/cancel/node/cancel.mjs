// A caller gives up, by its own will or because its deadline passes, and the handler hears of it (MDPX).
import { EventEmitter, once } from 'node:events';
import { Client, Worker } from 'majordomo';

const endpoint = process.argv[2];
const news = new EventEmitter();

const worker = new Worker(endpoint, 'cancel', async (request) => {
  news.emit('started', request.remaining);
  // Whatever takes an AbortSignal can be given this one.
  if (!request.signal.aborted) await once(request.signal, 'abort');
  news.emit('stopped');
});
const client = await Client.connect(endpoint);

const started = once(news, 'started');
const givingUp = new AbortController();
const asked = client.request('cancel', 'work', { deadline: 60_000, signal: givingUp.signal });
const [remaining] = await started;
if (remaining > 0 && remaining <= 60_000) console.log('the handler works; its caller waits for another minute at most');
let stopped = once(news, 'stopped');
givingUp.abort();
const failure = await asked.catch((error) => error);
if (failure.code === 'MD_ECANCELLED') console.log('the caller gives up');
await stopped;
console.log('the handler hears of it and stops');

stopped = once(news, 'stopped');
try {
  await client.request('cancel', 'work', { deadline: 1000 });
} catch (error) {
  console.log(`the deadline passes: ${error.kind}`);
}
await stopped;
console.log('the handler hears of it and stops');

await client.close();
await worker.close();
