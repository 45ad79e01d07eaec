'use strict';

const { EventEmitter } = require('node:events');
const { setImmediate } = require('node:timers/promises');

const native = require('../native.cjs');
const options = require('./options.cjs');
const { ServiceError, guarded, invalid, show } = require('./error.cjs');
const { emit, environment, expect, forget, Hold } = require('./environment.cjs');
const { carried, frames, received } = require('./message.cjs');

/** Requests that nobody has any more need no signal. */
const collected = new FinalizationRegistry(({ signals, id }) => signals.delete(id));

class Worker extends EventEmitter {
  #native;
  #service;
  #handler;
  #hold = new Hold();
  #ready = [];
  #waiting = [];
  #ended = false;
  /** For the number of each request in hand whose signal is listened to: the signal's controller. */
  #signals = new Map();
  #failure;
  #closed;

  constructor(endpoints, service, handler, given) {
    super();
    // The handler may be left out: the worker is then iterated.
    if (given === undefined && typeof handler === 'object') [handler, given] = [undefined, handler ?? undefined];
    if (handler !== undefined && typeof handler !== 'function') {
      throw invalid(`a handler is a function, not ${show(handler)}`);
    }
    const checked = options.checked(options.worker, given);
    checked.endpoints = options.endpoints(endpoints);
    checked.service = options.serviceName(service);
    this.#service = checked.service;
    this.#handler = handler;

    let settle;
    this.#closed = new Promise((resolve, reject) => {
      settle = { resolve, reject };
    });
    // Who does not look at `closed` must not be ended by it.
    this.#closed.catch(() => {});
    const token = expect(this, (event, failure) => this.#take(event, failure, settle));
    try {
      this.#native = guarded(() => new native.NativeWorker(environment, token, checked));
    } catch (error) {
      forget(token);
      throw error;
    }
    this.#hold.take();
  }

  get service() {
    return this.#service;
  }

  get closed() {
    return this.#closed;
  }

  drain() {
    guarded(() => this.#native.drain());
    return this.#closed;
  }

  async close() {
    // What was not taken yet goes back to the broker, which gives it to another worker.
    guarded(() => this.#native.close());
    this.#ready.length = 0;
    await this.#closed.catch(() => {});
  }

  ref() {
    if (!this.#ended) this.#hold.take();
    return this;
  }

  unref() {
    this.#hold.release();
    return this;
  }

  async next() {
    if (this.#handler) throw invalid('this worker has a handler, which takes its requests');
    if (this.#ready.length > 0) return { done: false, value: this.#ready.shift() };
    if (!this.#ended) return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
    if (this.#failure) throw this.#taken();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator]() {
    // No `return`: leaving a loop leaves the worker open, so that it can be iterated again.
    return { next: () => this.next(), [Symbol.asyncIterator]: () => this };
  }

  [Symbol.asyncDispose]() {
    return this.close();
  }

  #take(event, failure, settle) {
    if (event.connection) {
      emit(this, event.connection);
    } else if (event.cancelled !== undefined) {
      this.#signals.get(event.cancelled)?.abort();
    } else if (event.last) {
      this.#end(failure, settle);
    } else if (event.request) {
      const request = new Request(event.request, this.#service, received(event), this.#signals);
      if (this.#handler) serve(this.#handler, request);
      else if (this.#waiting.length > 0) this.#waiting.shift().resolve({ done: false, value: request });
      else this.#ready.push(request);
    }
  }

  #end(failure, settle) {
    this.#ended = true;
    this.#hold.release();
    if (failure) {
      this.#failure = failure;
      settle.reject(failure);
    } else {
      settle.resolve();
    }
    for (const { resolve, reject } of this.#waiting.splice(0)) {
      if (this.#failure) reject(this.#taken());
      else resolve({ done: true, value: undefined });
    }
  }

  #taken() {
    const failure = this.#failure;
    this.#failure = undefined;
    return failure;
  }
}

class Request {
  #native;
  #service;
  #body;
  #signals;
  #controller;

  constructor(request, service, body, signals) {
    if (!(request instanceof native.NativeRequest)) throw invalid('requests are made by a worker');
    this.#native = request;
    this.#service = service;
    this.#body = body;
    this.#signals = signals;
  }

  get service() {
    return this.#service;
  }

  get body() {
    return this.#body;
  }

  get properties() {
    return this.#body.properties;
  }

  get attempt() {
    return this.#native.attempt();
  }

  get remaining() {
    return this.#native.remaining() ?? undefined;
  }

  get cancelled() {
    return this.#controller?.signal.aborted || this.#native.isCancelled();
  }

  get signal() {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.cancelled) this.#controller.abort();
      else if (!this.answered) this.#listen();
    }
    return this.#controller.signal;
  }

  get answered() {
    return this.#native.isAnswered();
  }

  reply(body = [], given) {
    const message = frames(body);
    const [names, values] = carried(body, options.checked(options.body, given).properties);
    guarded(() => this.#native.reply(message, names, values));
    this.#ignore();
  }

  partial(body, given) {
    const message = frames(body);
    const [names, values] = carried(body, options.checked(options.body, given).properties);
    guarded(() => this.#native.partial(message, names, values));
  }

  fail(code, text = '', given) {
    const { retryable = false } = options.checked(options.failure, given);
    // Checks both, and says what is wrong with them.
    const error = new ServiceError(code, text);
    guarded(() => this.#native.fail(error.serviceCode, error.text, retryable));
    this.#ignore();
  }

  #listen() {
    const [signals, id] = [this.#signals, this.#native.id()];
    signals.set(id, this.#controller);
    collected.register(this, { signals, id });
  }

  #ignore() {
    if (this.#controller) this.#signals.delete(this.#native.id());
  }
}

/** Runs a handler for one request and answers with what comes of it. Never rejects. */
async function serve(handler, request) {
  try {
    const result = await handler(request);
    if (isStream(result)) await streamed(request, result);
    else if (!request.answered) request.reply(result ?? []);
  } catch (error) {
    failed(request, error);
  }
}

/** Every yield but the last is a part, the last one is the final reply; a returned value is the last one. */
async function streamed(request, result) {
  const iterator = result[Symbol.asyncIterator]?.() ?? result[Symbol.iterator]();
  let last;
  let holding = false;
  let done = false;
  try {
    for (let parts = 1; ; parts += 1) {
      // A generator that waits for nothing must not keep everything else from running.
      if (parts % 64 === 0) await setImmediate();

      const step = await iterator.next();
      done = step.done === true;
      if (done && step.value === undefined) break;
      const body = await step.value;
      // What is no body fails here, before the part that is held goes out.
      frames(body);
      if (holding) request.partial(last);
      [last, holding] = [body, true];
      if (done) break;
    }
    request.reply(holding ? last : []);
  } catch (error) {
    // A generator that is left in the middle runs its `finally` blocks; its own errors come second.
    if (!done) await Promise.resolve(iterator.return?.()).catch(() => {});
    throw error;
  }
}

/** Generators and asynchronous iterables; an array or a Message is a body. */
function isStream(value) {
  if (value === null || typeof value !== 'object') return false;
  return typeof value[Symbol.asyncIterator] === 'function' || (typeof value.next === 'function' && Symbol.iterator in value);
}

function failed(request, error) {
  try {
    if (request.answered) {
      // The client has its answer; whoever runs the worker has to hear of it.
      process.emitWarning(`a handler of ${show(request.service)} failed after its answer: ${error?.stack ?? show(error)}`);
    } else if (error instanceof ServiceError) {
      request.fail(error.serviceCode, error.text, { retryable: error.retryable });
    } else {
      request.fail(500, error instanceof Error ? String(error.message) : show(error));
    }
  } catch {
    // The worker is closed, or its broker is gone: there is nobody to tell.
  }
}

module.exports = { Worker, Request };
