'use strict';

const { EventEmitter } = require('node:events');

const native = require('../native.cjs');
const options = require('./options.cjs');
const { onAbort } = require('./abort.cjs');
const { MajordomoError, closed, fromFailure, guarded, invalid } = require('./error.cjs');
const { emit, environment, expect, forget, Hold } = require('./environment.cjs');
const { Message, carried, packed, received } = require('./message.cjs');

const making = Symbol('making');

/** Clients that nobody has any more need no events. */
const collected = new FinalizationRegistry(forget);

class Client extends EventEmitter {
  #native;
  #closed = false;
  #events;

  static async connect(endpoints, given) {
    const checked = options.checked(options.client, given);
    checked.endpoints = options.endpoints(endpoints);
    return new Client(making, checked);
  }

  constructor(key, checked) {
    if (key !== making) throw invalid('a client is made by `await Client.connect(endpoints, options)`');
    super();
    this.#events = expect(undefined, telling(new WeakRef(this)));
    collected.register(this, this.#events);
    try {
      this.#native = guarded(() => new native.NativeClient(environment, this.#events, checked));
    } catch (error) {
      forget(this.#events);
      throw error;
    }
  }

  request(service, body, given) {
    return new Promise((resolve, reject) => {
      const { name, message, checked, signal, names, values } = this.#checked(service, body, given);
      const hold = new Hold();
      let ignoreSignal;
      const end = () => {
        hold.release();
        ignoreSignal?.();
      };
      const token = expect(this.#native, (event, failure, frames) => {
        if (failure) reject(failure);
        else resolve(received(frames, event));
        end();
      });
      let number;
      try {
        number = guarded(() => this.#native.submit(token, name, message, checked, names, values));
      } catch (error) {
        forget(token);
        throw error;
      }
      hold.take();
      if (signal === undefined) return;
      ignoreSignal = onAbort(signal, () => {
        forget(token);
        end();
        this.#native.cancel(number);
        reject(cancelled(signal.reason));
      });
    });
  }

  stream(service, body, given) {
    try {
      const { name, message, checked, signal, names, values } = this.#checked(service, body, given);
      return new Parts(making, guarded(() => this.#native.stream(name, message, checked, names, values)), signal);
    } catch (error) {
      // An iterator says what is wrong when it is asked, as an asynchronous generator does.
      return new Parts(making, undefined, undefined, error);
    }
  }

  async close() {
    this.#closed = true;
    forget(this.#events);
    guarded(() => this.#native.close());
  }

  [Symbol.asyncDispose]() {
    return this.close();
  }

  #checked(service, body, given) {
    if (this.#closed) throw closed('client');
    const name = options.serviceName(service);
    const message = packed(body);
    if (given === undefined && !(body instanceof Message)) return { name, message };
    const { signal, properties, ...checked } = options.checked(options.request, given);
    if (signal?.aborted) throw cancelled(signal.reason);
    const [names, values] = carried(body, properties);
    return { name, message, checked, signal, names, values };
  }
}

/**
 * Tells the listeners of a client, which it must not keep from being collected. Not in the constructor: all functions that
 * are made in one scope hold what any of them uses.
 */
function telling(client) {
  return ({ connection }) => emit(client.deref(), connection);
}

/** The parts of a streamed reply, taken from the native layer when they are asked for. */
class Parts {
  #native;
  #ignoreSignal;
  #hold = new Hold();
  /** Those who wait for a part, in order. */
  #waiting = [];
  /** The token under which the native layer tells when to ask again, if it was asked in vain. */
  #asked;
  #failure;
  #final = false;

  constructor(key, parts, signal, failure) {
    if (key !== making) throw invalid('parts are made by `client.stream(service, body, options)`');
    this.#native = parts;
    this.#failure = failure;
    if (signal) this.#ignoreSignal = onAbort(signal, () => this.#abort(signal.reason));
  }

  get final() {
    return this.#final;
  }

  next() {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#serve();
    });
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

  /** Gives to those who wait what is there. */
  #serve() {
    while (this.#waiting.length > 0 && this.#asked === undefined) {
      if (this.#native === undefined) {
        this.#serveEnd();
        continue;
      }
      const token = expect(this, () => {
        this.#asked = undefined;
        this.#serve();
      });
      const event = guarded(() => this.#native.poll(environment, token));
      if (event === null) {
        this.#asked = token;
        this.#hold.take();
        return;
      }
      forget(token);
      if (event.last) this.#end();
      if (event.failure) this.#failure = fromFailure(event.failure);
      else if (event.frames) {
        this.#final = event.last;
        this.#waiting.shift().resolve({ done: false, value: received(event.frames, event) });
      }
    }
    if (this.#waiting.length === 0) this.#hold.release();
  }

  /** A failure is told once; after it the iterator is at its end. */
  #serveEnd() {
    const { resolve, reject } = this.#waiting.shift();
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure) reject(failure);
    else resolve({ done: true, value: undefined });
  }

  #abort(reason) {
    this.#stop(cancelled(reason));
  }

  #stop(failure) {
    this.#native?.cancel();
    this.#end();
    this.#failure = failure;
    forget(this.#asked);
    this.#asked = undefined;
    this.#serve();
  }

  #end() {
    this.#native = undefined;
    this.#ignoreSignal?.();
  }
}

function cancelled(reason) {
  return new MajordomoError('MD_ECANCELLED', 'the request was given up by its caller', { cause: reason });
}

module.exports = { Client };
