'use strict';

// Names and types of options. What values they may have is decided by the core.

const { invalid, show } = require('./error.cjs');

const number = { is: (value) => typeof value === 'number', form: 'a number' };
const string = { is: (value) => typeof value === 'string', form: 'a string' };
// `null` and infinity both mean that there is no limit.
const limit = { is: (value) => typeof value === 'number', form: 'a number, or null for no limit', null: Infinity };

const signal = { is: (value) => value instanceof AbortSignal, form: 'an AbortSignal' };

const boolean = { is: (value) => typeof value === 'boolean', form: 'true or false' };
const object = { is: (value) => value !== null && typeof value === 'object', form: 'an object' };

const request = {
  timeout: number,
  retries: number,
  deadline: number,
  maxAttempts: number,
  failFast: boolean,
  properties: object,
  signal,
};
const body = { properties: object };
const failure = { retryable: boolean };
const client = {
  timeout: number,
  retries: number,
  deadline: number,
  protocol: string,
  maxInFlight: number,
  maxWaiting: number,
  maxMessageBytes: number,
  reconnectMin: number,
  reconnectMax: number,
};
const worker = {
  heartbeat: number,
  liveness: number,
  reconnect: number,
  concurrency: number,
  prefetch: number,
  keepOutcomes: number,
  keepOutcomesBytes: number,
  keepOutcomesAge: number,
  protocol: string,
  maxMessageBytes: number,
  drainTimeout: number,
};
const broker = {
  heartbeat: number,
  liveness: number,
  maxAttempts: number,
  attemptTimeout: limit,
  requestTtl: limit,
  maxQueued: number,
  maxQueuedPerService: number,
  maxQueuedBytes: number,
  maxQueuedBytesPerService: number,
  maxMessageBytes: number,
  maxServices: number,
  maxWorkers: number,
  maxSessions: number,
  credit: number,
  heartbeatMin: number,
  heartbeatMax: number,
};

/** The given options, each of a type that the table wants; a name that is not in the table is a mistake. */
function checked(table, given = {}) {
  if (given === null || typeof given !== 'object') throw invalid(`options are an object, not ${show(given)}`);
  const options = {};
  for (const [name, value] of Object.entries(given)) {
    if (!Object.hasOwn(table, name)) throw invalid(`there is no option ${show(name)}`);
    const type = table[name];
    if (value === undefined) continue;
    if (value === null && 'null' in type) options[name] = type.null;
    else if (type.is(value)) options[name] = value;
    else throw invalid(`${name} must be ${type.form}, not ${show(value)}`);
  }
  return options;
}

/** Endpoints as a list: one string (several separated by commas) or an array of strings. */
function endpoints(given) {
  const list = Array.isArray(given) ? given : [given];
  for (const value of list) {
    if (typeof value !== 'string') throw invalid(`an endpoint is a string, not ${show(value)}`);
  }
  return list.flatMap((value) => value.split(',').map((endpoint) => endpoint.trim()));
}

function serviceName(given) {
  if (typeof given !== 'string') throw invalid(`the name of a service is a string, not ${show(given)}`);
  return given;
}

module.exports = { request, body, failure, client, worker, broker, checked, endpoints, serviceName };
