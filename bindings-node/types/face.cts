// Checked by `tsc --strict`, never run: what a user of CommonJS writes.
import majordomo = require('majordomo');

async function main(): Promise<void> {
  const broker: majordomo.Broker = await majordomo.Broker.start(['tcp://127.0.0.1:0']);
  const client: majordomo.Client = await majordomo.Client.connect(broker.endpoint);
  const worker: majordomo.Worker = new majordomo.Worker(broker.endpoint, 'echo', (request) => request.body);
  const reply: majordomo.Message = await client.request('echo', ['a', Buffer.of(0)]);
  const error: majordomo.MajordomoError = new majordomo.MajordomoError('MD_ETIMEOUT', 'late', { cause: reply });
  await Promise.all([worker.close(), client.close(), broker.close()]);
  throw error;
}

void main;
