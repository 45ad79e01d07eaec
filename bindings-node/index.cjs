'use strict';

// What the package gives to its users. Types and documentation: index.d.ts.

const { propertyNames, version } = require('./native.cjs');
const { MajordomoError, ServiceError, errorKinds } = require('./lib/error.cjs');
const { Message } = require('./lib/message.cjs');
const { Client } = require('./lib/client.cjs');
const { Worker, Request } = require('./lib/worker.cjs');
const { Broker } = require('./lib/broker.cjs');

/** Names of properties that several programs understand. */
const [IDEMPOTENCY_KEY, CONTENT_TYPE, TRACEPARENT] = propertyNames();

module.exports = {
  Client,
  Worker,
  Request,
  Broker,
  Message,
  MajordomoError,
  ServiceError,
  errorKinds,
  IDEMPOTENCY_KEY,
  CONTENT_TYPE,
  TRACEPARENT,
  version: version(),
};
