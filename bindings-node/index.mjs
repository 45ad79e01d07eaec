// One instance of everything for both module systems: an error made by one is an instance in the other.
import majordomo from './index.cjs';

export const { Client, Worker, Request, Broker, Message, MajordomoError, ServiceError, errorKinds, IDEMPOTENCY_KEY, CONTENT_TYPE, TRACEPARENT, version } = majordomo;
