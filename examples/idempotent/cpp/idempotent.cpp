// A request that may be asked again: the worker keeps its outcome by the caller's key, and a failure that may pass goes to
// another attempt (MDPX).  Usage: idempotent ENDPOINT
#include <atomic>
#include <iostream>
#include <majordomo.hpp>
#include <string>
#include <thread>

namespace property = majordomo::property;

// A header of this application's own.
constexpr auto tenant_header = "x-tenant";
constexpr auto trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

static std::atomic<int> calls, charges;

static majordomo::message charge (const majordomo::worker &worker, const majordomo::message &order)
{
    ++calls;
    const auto tenant = order.property (tenant_header);
    if (!tenant)
        throw majordomo::service_failure (400, "whom shall I charge?");
    // A failure that may pass: the broker makes another attempt, by another worker where there is one.
    if (worker.attempt () == 1)
        throw majordomo::service_failure (503, "the till is closed", true);
    ++charges;
    majordomo::message reply ("charged " + std::string (order[0]) + " to " + std::string (*tenant) + " at attempt " +
                              std::to_string (worker.attempt ()));
    reply.set_property (property::content_type, "text/plain");
    // Who traces requests through several services hands the trace on.
    reply.set_property (property::traceparent, order.property (property::traceparent).value_or (""));
    return reply;
}

static majordomo::message new_order (std::string_view tenant)
{
    majordomo::message order ("7 EUR");
    order.set_property (property::content_type, "text/plain");
    order.set_property (property::traceparent, trace);
    if (!tenant.empty ()) {
        order.set_property (property::idempotency_key, "order-1");
        order.set_property (tenant_header, tenant);
    }
    return order;
}

static void ask (const char *endpoint)
{
    majordomo::client client (endpoint);
    for (const char *time : {"first", "again"}) {
        const auto reply = client.request ("idempotent", new_order ("acme"));
        std::cout << time << ": " << reply[0] << " (" << reply.property (property::content_type).value_or ("")
                  << ", trace " << reply.property (property::traceparent).value_or ("") << ")\n";
    }
    std::cout << "calls of the handler: " << calls << ", charges: " << charges << '\n';

    try {
        client.request ("idempotent", new_order (""));
    } catch (const majordomo::error &failure) {
        std::cout << "without a tenant: " << failure.kind () << ' ' << failure.service_code () << ", retryable: "
                  << std::boolalpha << failure.retryable () << ", \"" << failure.text () << "\"\n";
    }
}

int main (int argc, char *argv[])
{
    if (argc != 2) {
        std::cerr << "usage: idempotent ENDPOINT\n";
        return 2;
    }
    int status = 0;
    try {
        majordomo::worker_options options;
        options.keep_outcomes = majordomo::kept_outcomes {100};
        majordomo::worker worker (argv[1], "idempotent", options);
        std::thread thread ([&] {
            worker.serve ([&] (const majordomo::message &order) { return charge (worker, order); });
        });
        try {
            ask (argv[1]);
        } catch (const std::exception &failure) {
            std::cerr << "idempotent: " << failure.what () << '\n';
            status = 1;
        }
        worker.drain ();
        thread.join ();
    } catch (const std::exception &failure) {
        std::cerr << "idempotent: " << failure.what () << '\n';
        return 1;
    }
    return status;
}
