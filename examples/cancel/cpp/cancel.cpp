// A caller gives up, by its own will or because its deadline passes, and the handler hears of it (MDPX).
// Usage: cancel ENDPOINT
#include <future>
#include <iostream>
#include <majordomo.hpp>
#include <thread>

using namespace std::chrono_literals;
using majordomo::milliseconds;

// What the handler of one request tells.
struct news {
    std::promise<std::optional<milliseconds>> started;
    std::promise<void> stopped;
};

// Works on a request until nobody waits for the answer any more.
static void work (majordomo::async_worker &worker, news &told)
{
    auto request = worker.recv ();
    if (!request)
        return;
    told.started.set_value (request->remaining ());
    while (!request->cancelled ())
        std::this_thread::sleep_for (10ms); // a piece of the work
    // It is still to be answered. The answer is dropped.
    request->fail (499, "nobody waits for it");
    told.stopped.set_value ();
}

static void ask (const char *endpoint, news &first, news &second)
{
    majordomo::async_client client (endpoint);
    majordomo::request_options options;
    options.deadline = 60s;
    const auto ticket = client.send ("cancel", "work", options);
    const auto remaining = first.started.get_future ().get ();
    if (remaining && *remaining > 0ms && *remaining <= 60s)
        std::cout << "the handler works; its caller waits for another minute at most\n";
    client.cancel (ticket);
    if (auto failure = client.recv ().failure; failure && failure->number () == MD_ECANCELLED)
        std::cout << "the caller gives up\n";
    first.stopped.get_future ().get ();
    std::cout << "the handler hears of it and stops\n";

    options.deadline = 1s;
    client.send ("cancel", "work", options);
    if (auto failure = client.recv ().failure)
        std::cout << "the deadline passes: " << failure->kind () << '\n';
    second.stopped.get_future ().get ();
    std::cout << "the handler hears of it and stops\n";
}

int main (int argc, char *argv[])
{
    if (argc != 2) {
        std::cerr << "usage: cancel ENDPOINT\n";
        return 2;
    }
    int status = 0;
    try {
        news first, second;
        majordomo::async_worker worker (argv[1], "cancel");
        std::thread thread ([&] {
            work (worker, first);
            work (worker, second);
        });
        try {
            ask (argv[1], first, second);
        } catch (const std::exception &failure) {
            std::cerr << "cancel: " << failure.what () << '\n';
            status = 1;
        }
        worker.drain ();
        thread.join ();
    } catch (const std::exception &failure) {
        std::cerr << "cancel: " << failure.what () << '\n';
        return 1;
    }
    return status;
}
