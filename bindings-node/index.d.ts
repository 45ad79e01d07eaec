/// <reference types="node" />

import { EventEmitter } from 'node:events';

/** One frame as it may be given: text becomes UTF-8. */
export type Frame = string | Uint8Array | ArrayBufferView | ArrayBuffer;

/** What is accepted wherever a body is asked for: one frame, or a list of frames (a `Message`, for example). */
export type Body = Frame | readonly Frame[];

/** Properties as they are given: text becomes UTF-8. 1 to 255 bytes of name, 65535 of value, 60 KiB together. */
export type GivenProperties = Readonly<Record<string, Frame>>;

/** What goes beside a body. */
export interface BodyOptions {
  /** Properties that travel with the body (MDPX only); they take the place of those of a `Message` of the same name. */
  properties?: GivenProperties;
}

/** Property: requests with the same value are the same request to a service that keeps its outcomes. */
export const IDEMPOTENCY_KEY: string;
/** Property: the media type of the body. */
export const CONTENT_TYPE: string;
/** Property: the trace that the request belongs to, in the form of W3C Trace Context. */
export const TRACEPARENT: string;

/**
 * An immutable list of byte frames: the body of a request or of a reply.
 *
 * It is a frozen array: `message[0]`, `message.length`, iteration, destructuring and array methods work (`map` and the like give
 * ordinary arrays). There may be no frames at all, and frames may be empty.
 */
export interface Message extends ReadonlyArray<Buffer> {
  /** What travels beside the frames; an object without a prototype, empty where there is nothing. */
  readonly properties: Readonly<Record<string, Buffer>>;

  /**
   * The frame at `index` as text.
   *
   * @param index - position of the frame; 0 by default
   * @param encoding - how the bytes are read; `'utf8'` by default
   * @returns the text, or `''` where there is no such frame
   */
  toString(index?: number, encoding?: BufferEncoding): string;
}

export interface MessageConstructor {
  /**
   * A message with copies of these frames, and of the properties; without an argument, a message without frames.
   *
   * @throws {MajordomoError} `MD_EINVAL` if `body` or a property is not one
   */
  new (body?: Body, options?: BodyOptions): Message;
  /** The same as `new Message(body)`. */
  from(body: Body): Message;
  /** A message of these frames. */
  of(...frames: Frame[]): Message;
  readonly prototype: Message;
}

export const Message: MessageConstructor;

/** Names of the kinds of failure: the same in every language. */
export type ErrorKind =
  | 'Timeout'
  | 'NoWorker'
  | 'QueueFull'
  | 'Expired'
  | 'WorkerLost'
  | 'AttemptsExhausted'
  | 'Cancelled'
  | 'ServiceError'
  | 'BrokerUnreachable'
  | 'Denied'
  | 'Protocol'
  | 'InvalidArgument'
  | 'Closed'
  | 'TooLarge'
  | 'Internal'
  | 'Busy';

/** Codes of the kinds of failure: what `error.code` says. */
export type ErrorCode =
  | 'MD_ETIMEOUT'
  | 'MD_ENOWORKER'
  | 'MD_EQUEUEFULL'
  | 'MD_EEXPIRED'
  | 'MD_EWORKERLOST'
  | 'MD_EATTEMPTS'
  | 'MD_ECANCELLED'
  | 'MD_ESERVICE'
  | 'MD_EUNREACHABLE'
  | 'MD_EDENIED'
  | 'MD_EPROTOCOL'
  | 'MD_EINVAL'
  | 'MD_ECLOSED'
  | 'MD_ETOOLARGE'
  | 'MD_EINTERNAL'
  | 'MD_EBUSY';

/** Everything that this package throws, and everything that its promises are rejected with. */
export class MajordomoError extends Error {
  /** An error of one's own, of the kind that has this code. */
  constructor(code: ErrorCode, message: string, options?: { cause?: unknown });
  /** What went wrong, for example `'MD_ETIMEOUT'`. */
  readonly code: ErrorCode;
  /** The same as a name, for example `'Timeout'`. */
  readonly kind: ErrorKind;
  /** The same as a number, for example 1. */
  readonly number: number;
  /** Whether the same request may succeed when it is sent again. */
  readonly retryable: boolean;
  /** The service's own code; only of a `ServiceError`. */
  readonly serviceCode?: number;
  /** The service's own text; only of a `ServiceError`. */
  readonly text?: string;
}

/**
 * The service's handler failed. A handler throws one to fail with a code of its own; the client's promise is rejected
 * with one (code `MD_ESERVICE`). Any other error that a handler throws reaches the client as code 500 with its message.
 */
export class ServiceError extends MajordomoError {
  /**
   * @param serviceCode - a number that the service chooses, from 0 to 4294967295
   * @param text - what went wrong
   * @param options - `retryable`: whether another worker may do better, and gets the request while it has attempts left
   * (MDPX only); `false` by default
   * @throws {MajordomoError} `MD_EINVAL` for a code or a text that is not one
   */
  constructor(serviceCode: number, text: string, options?: { retryable?: boolean; cause?: unknown });
  readonly code: 'MD_ESERVICE';
  readonly kind: 'ServiceError';
  readonly serviceCode: number;
  readonly text: string;
}

/** One row of the table of failures. */
export interface ErrorKindRow {
  readonly number: number;
  readonly kind: ErrorKind;
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly description: string;
}

/** The table of failures, by rising number. */
export const errorKinds: readonly ErrorKindRow[];

/** The version of the library underneath, for example `'0.1.0'`. */
export const version: string;

/**
 * What a client or worker speaks with its broker. `'0.1'` is what the programs of the ZeroMQ Guide speak; `'0.2'` streams replies; `'x1'`
 * is MDPX/1, with many requests on one connection, cancellation, deadlines and properties; `'auto'` is the best that both know.
 */
export type Protocol = 'auto' | '0.1' | '0.2' | 'x1';

/** What `connected`, `disconnected`, `reconnecting` and `draining` tell their listeners. */
export interface ConnectionEvents {
  /** The broker has answered and can be used. */
  connected: [event: { endpoint: string; protocol: Protocol }];
  /** The connection is of no use any more, for this reason. */
  disconnected: [event: { endpoint: string; reason: string }];
  /** Another connection is being made. */
  reconnecting: [event: { endpoint: string }];
  /** The worker takes no new requests and ends when those in hand are answered. */
  draining: [event: Record<string, never>];
}

/** What one request does differently from its client's options. */
export interface RequestOptions {
  /** Time for one attempt, in milliseconds. */
  timeout?: number;
  /** How often the request is sent at most, the first time included. */
  retries?: number;
  /** Time for the whole call, in milliseconds. */
  deadline?: number;
  /** How often the broker hands the request to a worker at most (MDPX only): the broker's `maxAttempts`. With 1 it never runs twice. */
  maxAttempts?: number;
  /** Whether the request fails with `MD_ENOWORKER` where the service has no worker, instead of waiting for one (MDPX only). */
  failFast?: boolean;
  /** What travels beside the body (MDPX only). */
  properties?: GivenProperties;
  /** Gives the request up when it is aborted: `MD_ECANCELLED`, with the signal's reason as `cause`. */
  signal?: AbortSignal;
}

export interface ClientOptions {
  /** Time for one attempt, in milliseconds: 2500. */
  timeout?: number;
  /** How often a request is sent at most, the first time included: 3. */
  retries?: number;
  /** Time for a whole call, in milliseconds: `timeout` × `retries`. */
  deadline?: number;
  /** What is spoken with the broker: `'auto'`. */
  protocol?: Protocol;
  /** How many requests are on their way at once: 1000. MDP/0.1 and 0.2 use 64 connections at most, one for each request. */
  maxInFlight?: number;
  /** How many further requests wait for their turn: 10000. One more is refused with `MD_EQUEUEFULL`. */
  maxWaiting?: number;
  /** Largest message sent or accepted, in bytes: 256 MiB. */
  maxMessageBytes?: number;
  /** First pause before a broken connection is made again, in milliseconds: 100. */
  reconnectMin?: number;
  /** Longest such pause, in milliseconds: 32000. */
  reconnectMax?: number;
}

/**
 * The parts of a streamed reply as they come: the partial replies, and the final reply as the last item.
 *
 * Leaving a `for await` loop early gives the request up. Parts that are not taken wait in memory and hold up no other request: over MDPX
 * the stream fails with `MD_EQUEUEFULL` when they exceed `maxMessageBytes`, over 0.2 its connection is not read meanwhile. A `next()`
 * that waits keeps the process alive.
 */
export interface Parts extends AsyncIterableIterator<Message> {
  /** Whether the part that was taken last is the final reply. */
  readonly final: boolean;
  next(): Promise<IteratorResult<Message, undefined>>;
  /** Gives the request up. */
  return(value?: undefined): Promise<IteratorResult<Message, undefined>>;
  throw(error?: unknown): Promise<IteratorResult<Message, undefined>>;
  [Symbol.asyncIterator](): Parts;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Asks services for answers. One client serves a whole program: many requests may be on their way at once.
 *
 * A pending request keeps the process alive; an idle client does not.
 */
export class Client extends EventEmitter<ConnectionEvents> {
  private constructor();

  /**
   * Makes a client of the broker at `endpoints`; several (separated by commas, or in a list) are tried in turn when one is
   * silent. Connections are made when they are needed: a broker that is not there is found out by the first request.
   *
   * @throws {MajordomoError} `MD_EINVAL` for an endpoint or an option that is not one
   */
  static connect(endpoints: string | readonly string[], options?: ClientOptions): Promise<Client>;

  /**
   * Sends a request and waits for its reply. Over MDPX it is sent again only where a connection was lost, and never runs twice for that;
   * over MDP/0.1 and 0.2 after each `timeout`, `retries` times in all. What must not run twice needs `maxAttempts: 1`, over the older
   * protocols also `retries: 1`.
   *
   * @throws {MajordomoError} `MD_ETIMEOUT`: no answer in time; `MD_ESERVICE`: the handler failed (a `ServiceError`);
   * `MD_EUNREACHABLE`: no broker; `MD_EQUEUEFULL`: too many requests wait, here or in the broker; `MD_ETOOLARGE`; `MD_ECANCELLED`:
   * `signal` was aborted; `MD_ECLOSED`; `MD_EINVAL`. Over MDPX also `MD_ENOWORKER` (with `failFast`), `MD_EEXPIRED`: the broker's own
   * waiting time is over; `MD_EWORKERLOST`, `MD_EATTEMPTS`: workers were lost with it
   */
  request(service: string, body: Body, options?: RequestOptions): Promise<Message>;

  /**
   * Sends a request at once and gives the parts of its reply as they come. A client of protocol 0.1 gets one part, the whole
   * reply.
   *
   * Failures are thrown by the iteration: those of `request`.
   */
  stream(service: string, body: Body, options?: RequestOptions): Parts;

  /** Ends the client; its pending requests fail with `MD_ECLOSED`. May be called again. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

export interface WorkerOptions {
  /** Interval between heartbeats, in milliseconds: 2500. */
  heartbeat?: number;
  /** How many intervals the broker may be silent before it counts as gone: 3. */
  liveness?: number;
  /** Longest pause before reconnecting, in milliseconds: 2500. */
  reconnect?: number;
  /** How many requests are worked on at once: 1. */
  concurrency?: number;
  /** How many further requests wait in the worker (MDPX only): 0. */
  prefetch?: number;
  /** How many answers are kept, so that a request that comes again is answered without being run again (MDPX only): 0. */
  keepOutcomes?: number;
  /** How many bytes the kept answers may hold: 64 MiB. */
  keepOutcomesBytes?: number;
  /** How long an answer is kept, in milliseconds: 300000. */
  keepOutcomesAge?: number;
  /** What is spoken with the broker: `'auto'`. */
  protocol?: Protocol;
  /** Largest message sent or accepted, in bytes: 256 MiB. */
  maxMessageBytes?: number;
  /** How long `drain` waits for requests in hand, in milliseconds: 5000. */
  drainTimeout?: number;
}

/** What a handler may give: a body, nothing (an empty reply), or parts as they come. */
export type HandlerResult =
  | Body
  | void
  | AsyncIterable<Body>
  | Iterator<Body, Body | void, undefined>
  | AsyncIterator<Body, Body | void, undefined>;

/**
 * Answers one request.
 *
 * - A body that is returned is the reply; `undefined` is an empty reply, unless the handler has answered by itself.
 * - Of a generator (asynchronous or not) every yield but the last goes out as a partial reply, and the last one as the
 *   final reply. A returned body comes after all yields. One that yields nothing gives an empty final reply.
 * - What is thrown becomes a `ServiceError` at the client.
 */
export type Handler = (request: Request) => HandlerResult | Promise<HandlerResult>;

/**
 * Serves one service at a broker. It registers at once, sends heartbeats whatever the handler does (also while JavaScript
 * computes), and comes back when the broker was lost.
 *
 * An open worker keeps the process alive until it is closed, unless `unref` was called.
 */
export class Worker extends EventEmitter<ConnectionEvents> implements AsyncIterable<Request> {
  /**
   * A worker whose requests are answered by `handler`.
   *
   * @throws {MajordomoError} `MD_EINVAL` for an argument that is not of the required form
   */
  constructor(endpoints: string | readonly string[], service: string, handler: Handler, options?: WorkerOptions);
  /**
   * A worker whose requests are taken by iteration: `for await (const request of worker) request.reply(…)`.
   *
   * @throws {MajordomoError} `MD_EINVAL` for an argument that is not of the required form
   */
  constructor(endpoints: string | readonly string[], service: string, options?: WorkerOptions);

  /** The service's name. */
  readonly service: string;
  /** Resolved when the worker has ended; rejected if it ended by itself, with the reason. */
  readonly closed: Promise<void>;

  /**
   * Takes no more work, waits for what is in hand to be answered (`drainTimeout` at most), takes leave of the broker and ends.
   * May be called again.
   */
  drain(): Promise<void>;
  /** Ends at once; the broker gives what is in hand to another worker. May be called again. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;

  /** Keeps the process alive while the worker is open: so it is from the start. */
  ref(): this;
  /** Lets the process end although the worker is open. */
  unref(): this;

  /**
   * The next request; the iteration ends when the worker does.
   *
   * @throws {MajordomoError} `MD_EINVAL` if the worker has a handler
   */
  next(): Promise<IteratorResult<Request, undefined>>;
  /** Leaving a loop leaves the worker open; it may be iterated again. */
  [Symbol.asyncIterator](): AsyncIterableIterator<Request>;
}

/**
 * A request in the hands of a worker. It has to be answered, by `reply` or by `fail`; one that is forgotten is answered with a
 * failure when it is collected.
 */
export class Request {
  private constructor();

  /** The service that was asked. */
  readonly service: string;
  /** What was sent. */
  readonly body: Message;
  /** Whether it is answered. */
  readonly answered: boolean;
  /** What was sent beside the body: `body.properties`. */
  readonly properties: Readonly<Record<string, Buffer>>;
  /** Which attempt at the request this is, from 1; 1 where the protocol does not say. */
  readonly attempt: number;
  /** How long the caller still waits, in milliseconds; `undefined` where there is no limit, or the protocol does not say. */
  readonly remaining: number | undefined;
  /** Whether nobody waits for the answer any more (MDPX only). It may still be answered; the answer is dropped. */
  readonly cancelled: boolean;
  /** Aborted when the request is cancelled. */
  readonly signal: AbortSignal;

  /**
   * Sends the reply, or the last part of a streamed one; without an argument, an empty one.
   *
   * @throws {MajordomoError} `MD_EINVAL` if it is already answered, or `body` is not one; `MD_ETOOLARGE`
   */
  reply(body?: Body, options?: BodyOptions): void;
  /**
   * Sends a part of the reply; more follows. To a client of protocol 0.1 the parts and the last one come as one reply.
   *
   * @throws {MajordomoError} as `reply`
   */
  partial(body: Body, options?: BodyOptions): void;
  /**
   * Answers with a failure: a `ServiceError` at the client.
   *
   * @param code - a number that the service chooses, from 0 to 4294967295
   * @param text - what went wrong; empty by default
   * @param options - `retryable`: whether another worker gets the request while it has attempts left (MDPX only)
   * @throws {MajordomoError} `MD_EINVAL` if it is already answered, or an argument is not of the required form
   */
  fail(code: number, text?: string, options?: { retryable?: boolean }): void;
}

export interface BrokerOptions {
  /** Interval between heartbeats to workers, in milliseconds: 2500. */
  heartbeat?: number;
  /** How many intervals a worker may be silent before it counts as gone: 3. */
  liveness?: number;
  /** How often a request is handed to a worker at most: 3. With 1 no request ever runs twice. */
  maxAttempts?: number;
  /** How long one worker may take over a request, in milliseconds: no limit. */
  attemptTimeout?: number | null;
  /** How long a request may wait for a worker, in milliseconds: 300000. `null` is no limit. */
  requestTtl?: number | null;
  /** How many requests may wait in all: 100000. */
  maxQueued?: number;
  /** How many requests may wait for one service: 100000. */
  maxQueuedPerService?: number;
  /** How many bytes the waiting requests may hold in all: 1 GiB. */
  maxQueuedBytes?: number;
  /** How many bytes the waiting requests of one service may hold: 1 GiB. */
  maxQueuedBytesPerService?: number;
  /** Largest message accepted, in bytes: 256 MiB. */
  maxMessageBytes?: number;
  /** How many services may have workers or waiting requests: 10000. */
  maxServices?: number;
  /** How many workers may be registered: 100000. */
  maxWorkers?: number;
  /** How many sessions of MDPX clients may be open: 100000. */
  maxSessions?: number;
  /** How many requests an MDPX client may have outstanding: 16384. */
  credit?: number;
  /** Shortest interval between heartbeats that an MDPX peer is granted, in milliseconds: 10. */
  heartbeatMin?: number;
  /** Longest such interval, in milliseconds: 60000. */
  heartbeatMax?: number;
}

/**
 * A broker inside this process, on a thread of its own: JavaScript that computes does not hold it up.
 *
 * An open broker keeps the process alive until it is closed, unless `unref` was called.
 */
export class Broker {
  private constructor();

  /**
   * Starts a broker that listens on `bind`, one endpoint or several. Port 0 picks a free port: see `endpoint`.
   *
   * @throws {MajordomoError} `MD_EINVAL` for an endpoint or an option that is not one; another kind if it cannot be bound
   */
  static start(bind: string | readonly string[], options?: BrokerOptions): Promise<Broker>;

  /** The first endpoint, with the port that was picked. */
  readonly endpoint: string;
  /** Every endpoint, with the ports that were picked. */
  readonly endpoints: readonly string[];

  /**
   * The broker's numbers: those of the service `mmi.stats`.
   *
   * @throws {MajordomoError} `MD_ECLOSED` after `close`
   */
  stats(): Promise<Record<string, unknown>>;

  /** Takes leave of the workers and ends. May be called again. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;

  /** Keeps the process alive while the broker is open: so it is from the start. */
  ref(): this;
  /** Lets the process end although the broker is open. */
  unref(): this;
}
