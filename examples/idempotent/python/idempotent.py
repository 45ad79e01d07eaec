"""A request that may be asked again: the worker keeps its outcome by the caller's key, and a failure that may pass goes
to another attempt (MDPX)."""

from __future__ import annotations

import sys
import threading

import majordomo

TENANT = "x-tenant"
"""A header of this application's own."""

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

calls = charges = 0


def charge(request: majordomo.Request) -> majordomo.Message:
    global calls, charges
    calls += 1
    tenant = request.properties.get(TENANT)
    if tenant is None:
        raise majordomo.ServiceError(400, "whom shall I charge?")
    if request.attempt == 1:
        # A failure that may pass: the broker makes another attempt, by another worker where there is one.
        raise majordomo.ServiceError(503, "the till is closed", retryable=True)
    charges += 1
    text = f"charged {request.body[0].decode()} to {tenant.decode()} at attempt {request.attempt}"
    # Who traces requests through several services hands the trace on.
    trace = request.properties.get(majordomo.TRACEPARENT, b"")
    return majordomo.Message(text, properties={majordomo.CONTENT_TYPE: "text/plain", majordomo.TRACEPARENT: trace})


def main(endpoint: str) -> None:
    worker = majordomo.Worker(endpoint, "idempotent", keep_outcomes=100)
    thread = threading.Thread(target=worker.serve, args=[charge])
    thread.start()
    given = {majordomo.CONTENT_TYPE: "text/plain", majordomo.TRACEPARENT: TRACE}
    try:
        with majordomo.Client(endpoint) as client:
            for time in "first", "again":
                order = {**given, majordomo.IDEMPOTENCY_KEY: "order-1", TENANT: "acme"}
                reply = client.request("idempotent", "7 EUR", properties=order)
                kind, trace = (
                    reply.properties[name].decode() for name in (majordomo.CONTENT_TYPE, majordomo.TRACEPARENT)
                )
                print(f"{time}: {reply[0].decode()} ({kind}, trace {trace})")
            print(f"calls of the handler: {calls}, charges: {charges}")

            try:
                client.request("idempotent", "7 EUR", properties=given)
            except majordomo.ServiceError as failure:
                retryable = str(failure.retryable).lower()
                what = f"{failure.kind} {failure.service_code}, retryable: {retryable}"
                print(f'without a tenant: {what}, "{failure.text}"')
    finally:
        worker.drain()
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1])
