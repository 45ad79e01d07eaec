// What most tests need: a broker of their own, and everything closed at the end whatever happens.
import { Broker, Client, Worker } from 'majordomo';

/** A broker for one test, with makers of clients and workers that the end of the test closes. */
export async function hub(t, options) {
  const broker = await Broker.start('tcp://127.0.0.1:0', options);
  const opened = [];
  t.after(async () => {
    await Promise.all(opened.map((handle) => handle.close()));
    await broker.close();
  });
  const kept = (handle) => {
    opened.push(handle);
    return handle;
  };
  return {
    broker,
    endpoint: broker.endpoint,
    client: async (given) => kept(await Client.connect(broker.endpoint, given)),
    worker: (service, handler, given) => kept(new Worker(broker.endpoint, service, handler, given)),
    kept,
  };
}

/** A promise with its two ends outside. */
export function deferred() {
  let resolve, reject;
  const promise = new Promise((yes, no) => {
    [resolve, reject] = [yes, no];
  });
  return { promise, resolve, reject };
}
