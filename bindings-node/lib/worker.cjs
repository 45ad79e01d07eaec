'use strict';

const { EventEmitter } = require('node:events');
const { setImmediate } = require('node:timers/promises');

const native = require('../native.cjs');
const options = require('./options.cjs');
const { ServiceError, guarded, invalid, show } = require('./error.cjs');
const { emit, environment, expect, forget, Hold } = require('./environment.cjs');
const { carried, packed, received } = require('./message.cjs');

/** Requests that nobody has any more need no signal, and are answered with a failure if they are unanswered. */
const collected = new FinalizationRegistry(({ hand, number }) => hand.abandon(number));

class Worker extends EventEmitter {
  #native;
  #service;
  #handler;
  #hold = new Hold();
  #ready = [];
  #waiting = [];
  #ended = false;
  #hand;
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
    const token = expect(this, (event, failure, frames, number, attempt, deadline) => {
      if (number === undefined) this.#told(event, failure, settle);
      else this.#take(number, new Request(this.#hand, number, received(frames, event), attempt, deadline));
    });
    this.#hand = new Hand(token, this.#service);
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

  #told(event, failure, settle) {
    if (event.connection) emit(this, event.connection);
    else if (event.cancelled !== undefined) this.#hand.signals.get(event.cancelled)?.abort();
    else this.#end(failure, settle);
  }

  #take(number, request) {
    if (this.#handler && serve(this.#handler, request)) return;
    // Whoever has it now may forget it.
    collected.register(request, { hand: this.#hand, number });
    if (this.#handler) return;
    if (this.#waiting.length > 0) this.#waiting.shift().resolve({ done: false, value: request });
    else this.#ready.push(request);
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

/** What the requests of one worker have in common. */
class Hand {
  /** For the number of each request whose signal is listened to: the signal's controller. */
  signals = new Map();

  constructor(token, service) {
    this.token = token;
    this.service = service;
  }

  abandon(number) {
    this.signals.delete(number);
    environment.abandon(this.token, number);
  }
}

class Request {
  #hand;
  #number;
  #body;
  #attempt;
  #deadline;
  #controller;
  #answered = false;

  constructor(hand, number, body, attempt, deadline) {
    if (!(hand instanceof Hand)) throw invalid('requests are made by a worker');
    this.#hand = hand;
    this.#number = number;
    this.#body = body;
    this.#attempt = attempt;
    this.#deadline = deadline;
  }

  get service() {
    return this.#hand.service;
  }

  get body() {
    return this.#body;
  }

  get properties() {
    return this.#body.properties;
  }

  get attempt() {
    return this.#attempt;
  }

  get remaining() {
    return this.#deadline === undefined ? undefined : environment.remaining(this.#deadline);
  }

  get cancelled() {
    return this.#controller?.signal.aborted || environment.isCancelled(this.#hand.token, this.#number);
  }

  get signal() {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.cancelled) this.#controller.abort();
      else if (!this.answered) this.#hand.signals.set(this.#number, this.#controller);
    }
    return this.#controller.signal;
  }

  get answered() {
    return this.#answered;
  }

  reply(body = [], given) {
    const message = packed(body);
    const [names, values] = carried(body, given && options.checked(options.body, given).properties);
    guarded(() => environment.reply(this.#hand.token, this.#number, message, names, values));
    this.#end();
  }

  partial(body, given) {
    const message = packed(body);
    const [names, values] = carried(body, given && options.checked(options.body, given).properties);
    guarded(() => environment.partial(this.#hand.token, this.#number, message, names, values));
  }

  fail(code, text = '', given) {
    const { retryable = false } = options.checked(options.failure, given);
    // Checks both, and says what is wrong with them.
    const error = new ServiceError(code, text);
    guarded(() => environment.fail(this.#hand.token, this.#number, error.serviceCode, error.text, retryable));
    this.#end();
  }

  #end() {
    this.#answered = true;
    if (this.#controller) this.#hand.signals.delete(this.#number);
  }
}

/** Runs a handler for one request and answers with what comes of it; whether that is done. Never throws. */
function serve(handler, request) {
  try {
    const result = handler(request);
    if (isAwaited(result)) {
      serveLater(request, result);
      return false;
    }
    if (!request.answered) request.reply(result ?? []);
  } catch (error) {
    failed(request, error);
  }
  return true;
}

/** The same for a result that comes later. Never rejects. */
async function serveLater(request, result) {
  try {
    const value = await result;
    if (isStream(value)) await streamed(request, value);
    else if (!request.answered) request.reply(value ?? []);
  } catch (error) {
    failed(request, error);
  }
}

/** Promises and the like, and streams. */
function isAwaited(value) {
  return typeof value?.then === 'function' || isStream(value);
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
      packed(body);
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
