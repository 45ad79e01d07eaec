'use strict';

const native = require('../native.cjs');
const options = require('./options.cjs');
const { closed, guarded, invalid } = require('./error.cjs');
const { environment, Hold, task } = require('./environment.cjs');

const making = Symbol('Broker.start');

// A broker serves others: it is not collected because this program no longer looks at it.
const open = new Set();

class Broker {
  #native;
  #endpoints;
  #hold = new Hold();
  #closing;

  static async start(bind, given) {
    const checked = options.checked(options.broker, given);
    checked.bind = options.endpoints(bind);
    return new Broker(making, guarded(() => new native.NativeBroker(checked)));
  }

  constructor(key, broker) {
    if (key !== making) throw invalid('a broker is made by `await Broker.start(bind, options)`');
    this.#native = broker;
    this.#endpoints = Object.freeze(broker.endpoints());
    this.#hold.take();
    open.add(this);
  }

  get endpoint() {
    return this.#endpoints[0];
  }

  get endpoints() {
    return this.#endpoints;
  }

  async stats() {
    if (this.#closing) throw closed('broker');
    const { value } = await task(this.#native, (token) => guarded(() => this.#native.stats(environment, token)));
    return JSON.parse(value);
  }

  close() {
    this.#closing ??= task(this.#native, (token) => guarded(() => this.#native.stop(environment, token))).finally(() => {
      this.#hold.release();
      open.delete(this);
    });
    return this.#closing;
  }

  ref() {
    if (!this.#closing) this.#hold.take();
    return this;
  }

  unref() {
    this.#hold.release();
    return this;
  }

  [Symbol.asyncDispose]() {
    return this.close();
  }
}

module.exports = { Broker };
