'use strict';

// The one error class, and how the native layer's failures become instances of it.

const native = require('../native.cjs');

const rows = native.errorKinds();
const byNumber = new Map(rows.map((row) => [row.number, row]));
const byCode = new Map(rows.map((row) => [row.code, row]));

class MajordomoError extends Error {
  constructor(code, message, options) {
    super(message, options);
    const row = byCode.get(code) ?? byCode.get('MD_EINTERNAL');
    this.code = row.code;
    this.kind = row.name;
    this.number = row.number;
    this.retryable = row.retryable;
  }
}
// On the prototype, as Error's own names are: it is not a property of each error.
Object.defineProperty(MajordomoError.prototype, 'name', { value: 'MajordomoError', writable: true, configurable: true });

class ServiceError extends MajordomoError {
  constructor(serviceCode, text, options) {
    if (!Number.isInteger(serviceCode) || serviceCode < 0 || serviceCode > 0xffffffff) {
      throw invalid(`the code of a ServiceError is a whole number from 0 to 4294967295, not ${show(serviceCode)}`);
    }
    if (typeof text !== 'string') throw invalid(`the text of a ServiceError is a string, not ${show(text)}`);
    super('MD_ESERVICE', `the service failed: ${serviceCode} ${text}`, options);
    this.retryable = options?.retryable === true;
    this.serviceCode = serviceCode;
    this.text = text;
  }
}
Object.defineProperty(ServiceError.prototype, 'name', { value: 'ServiceError', writable: true, configurable: true });

/** The error of an event. */
function fromFailure(failure) {
  const { serviceCode, serviceText, retryable } = failure;
  if (serviceCode !== undefined) return new ServiceError(serviceCode, serviceText, { retryable });
  return new MajordomoError(byNumber.get(failure.number)?.code, failure.message);
}

/** Calls into the native layer; what it throws is thrown as a `MajordomoError`. */
function guarded(call) {
  try {
    return call();
  } catch (error) {
    if (error instanceof MajordomoError) throw error;
    // Anything else the engine or a conversion threw: its code is not one of ours.
    const code = byCode.has(error?.code) ? error.code : conversion.test(error?.code) ? 'MD_EINVAL' : 'MD_EINTERNAL';
    throw new MajordomoError(code, error?.message ?? String(error));
  }
}

// What the generated glue says of an argument of the wrong type.
const conversion = /(Expected|InvalidArg)$/;

function invalid(message) {
  return new MajordomoError('MD_EINVAL', message);
}

function closed(what) {
  return new MajordomoError('MD_ECLOSED', `this ${what} is closed`);
}

/** A value as an error message shows it: short, and never throwing. */
function show(value) {
  if (typeof value === 'string') return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value);
  if (typeof value === 'function') return 'a function';
  if (value === null || typeof value !== 'object') return String(value);
  return Array.isArray(value) ? 'an array' : 'an object';
}

const errorKinds = Object.freeze(
  rows.map(({ number, name, code, retryable, description }) =>
    Object.freeze({ number, kind: name, code, retryable, description }),
  ),
);

module.exports = { MajordomoError, ServiceError, errorKinds, fromFailure, guarded, invalid, closed, show };
