'use strict';

const native = require('../native.cjs');
const options = require('./options.cjs');
const { onAbort } = require('./abort.cjs');
const { MajordomoError, closed, guarded, invalid } = require('./error.cjs');
const { environment, expect, forget, Hold } = require('./environment.cjs');
const { frames, received } = require('./message.cjs');

const making = Symbol('Client.connect');

class Client {
  #native;
  #closed = false;

  static async connect(endpoints, given) {
    const checked = options.checked(options.client, given);
    checked.endpoints = options.endpoints(endpoints);
    return new Client(making, guarded(() => new native.NativeClient(checked)));
  }

  constructor(key, client) {
    if (key !== making) throw invalid('a client is made by `await Client.connect(endpoints, options)`');
    this.#native = client;
  }

  request(service, body, given) {
    return new Promise((resolve, reject) => {
      this.#submit(service, body, given, true, (event, failure) => {
        if (failure) reject(failure);
        else resolve(received(event.frames));
      });
    });
  }

  stream(service, body, given) {
    return new Parts((take) => this.#submit(service, body, given, false, take));
  }

  async close() {
    this.#closed = true;
    guarded(() => this.#native.close());
  }

  [Symbol.asyncDispose]() {
    return this.close();
  }

  /** Sends a request; `take` gets its events. The function that is returned gives the request up. */
  #submit(service, body, given, whole, take) {
    if (this.#closed) throw closed('client');
    const name = options.serviceName(service);
    const message = frames(body);
    const { signal, ...checked } = options.checked(options.request, given);
    if (signal?.aborted) throw cancelled(signal.reason);

    const hold = new Hold();
    const client = this.#native;
    let ignoreSignal;
    const end = () => {
      hold.release();
      ignoreSignal?.();
    };
    const token = expect(client, (event, failure) => {
      if (event.last) end();
      take(event, failure);
    });
    const abandon = () => {
      forget(token);
      end();
      environment.cancel(token);
    };
    const abort = () => {
      abandon();
      take({ last: true }, cancelled(signal.reason));
    };
    try {
      guarded(() => client.submit(environment, token, name, message, checked, whole));
    } catch (error) {
      forget(token);
      throw error;
    }
    hold.take();
    if (signal) ignoreSignal = onAbort(signal, abort);
    return abandon;
  }
}

/** The parts of a streamed reply as they come. */
class Parts {
  #abandon;
  #ready = [];
  #waiting = [];
  #ended = false;
  #failure;
  #final = false;

  constructor(submit) {
    try {
      this.#abandon = submit((event, failure) => this.#take(event, failure));
    } catch (error) {
      // An iterator says what is wrong when it is asked, as an asynchronous generator does.
      this.#ended = true;
      this.#failure = error;
    }
  }

  get final() {
    return this.#final;
  }

  async next() {
    if (this.#ready.length > 0) return this.#given(this.#ready.shift());
    if (this.#ended) return this.#end();
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  async return(value) {
    this.#stop();
    return { done: true, value };
  }

  async throw(error) {
    this.#stop();
    throw error;
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  async [Symbol.asyncDispose]() {
    this.#stop();
  }

  #take(event, failure) {
    if (event.last) this.#ended = true;
    if (failure) this.#failure = failure;
    else this.#ready.push({ frames: event.frames, final: event.last });
    while (this.#waiting.length > 0 && (this.#ready.length > 0 || this.#ended)) {
      const { resolve, reject } = this.#waiting.shift();
      if (this.#ready.length > 0) resolve(this.#given(this.#ready.shift()));
      else if (this.#failure) reject(this.#taken());
      else resolve({ done: true, value: undefined });
    }
  }

  #given(part) {
    this.#final = part.final;
    return { done: false, value: received(part.frames) };
  }

  #end() {
    if (this.#failure) throw this.#taken();
    return { done: true, value: undefined };
  }

  /** The failure is told once; after it the iterator is at its end. */
  #taken() {
    const failure = this.#failure;
    this.#failure = undefined;
    return failure;
  }

  #stop() {
    if (!this.#ended) this.#abandon();
    this.#ended = true;
    this.#failure = undefined;
    this.#ready.length = 0;
    for (const { resolve } of this.#waiting.splice(0)) resolve({ done: true, value: undefined });
  }
}

function cancelled(reason) {
  return new MajordomoError('MD_ECANCELLED', 'the request was given up by its caller', { cause: reason });
}

module.exports = { Client };
