// One asynchronous client with a hundred requests in flight, four at a time on the worker's side.
// Usage: many_at_once ENDPOINT
#include <iostream>
#include <majordomo.hpp>
#include <string>
#include <thread>

static long number_in (const majordomo::message &message)
{
    return std::stol (std::string (message[0]));
}

// Answers each number with its square, until the worker is drained.
static void work (majordomo::async_worker &worker)
{
    while (auto request = worker.recv ()) {
        const long number = number_in (request->body ());
        request->reply (std::to_string (number * number));
    }
}

static void ask (const char *endpoint)
{
    constexpr int requests = 100;
    majordomo::async_client client (endpoint);
    for (int number = 1; number <= requests; ++number)
        client.send ("many_at_once", std::to_string (number));
    int replies = 0;
    long sum = 0;
    while (client.outstanding () > 0) {
        auto outcome = client.recv ();
        sum += number_in (outcome.value ());
        ++replies;
    }
    std::cout << requests << " requests at once, " << replies << " replies, sum of squares " << sum << '\n';
}

int main (int argc, char *argv[])
{
    if (argc != 2) {
        std::cerr << "usage: many_at_once ENDPOINT\n";
        return 2;
    }
    int status = 0;
    try {
        majordomo::worker_options options;
        options.concurrency = 4;
        majordomo::async_worker worker (argv[1], "many_at_once", options);
        std::thread thread ([&] { work (worker); });
        try {
            ask (argv[1]);
        } catch (const std::exception &failure) {
            std::cerr << "many_at_once: " << failure.what () << '\n';
            status = 1;
        }
        worker.drain ();
        thread.join ();
    } catch (const std::exception &failure) {
        std::cerr << "many_at_once: " << failure.what () << '\n';
        return 1;
    }
    return status;
}
