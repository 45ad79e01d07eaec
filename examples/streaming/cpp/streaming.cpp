// A worker that answers in parts, and a client that takes them as they come (protocol 0.2).  Usage: streaming ENDPOINT
#include <iostream>
#include <majordomo.hpp>
#include <string>
#include <thread>

// Counts up to the number in each request, one part for each step.
static void work (majordomo::worker &worker)
{
    while (auto request = worker.recv ()) {
        const int last = std::stoi (std::string ((*request)[0]));
        for (int i = 1; i <= last; ++i)
            worker.partial (std::to_string (i));
        worker.reply ("done");
    }
}

static void ask (const char *endpoint)
{
    majordomo::client_options options;
    options.protocol = "0.2";
    majordomo::client client (endpoint, options);
    auto parts = client.stream ("streaming", "5");
    // The final reply is the last message: whether one was that shows when the next is there, or none.
    auto message = parts.next ();
    while (message) {
        auto next = parts.next ();
        std::cout << (next ? "part " : "final ") << (*message)[0] << '\n';
        message = std::move (next);
    }
}

int main (int argc, char *argv[])
{
    if (argc != 2) {
        std::cerr << "usage: streaming ENDPOINT\n";
        return 2;
    }
    int status = 0;
    try {
        majordomo::worker_options options;
        options.protocol = "0.2";
        majordomo::worker worker (argv[1], "streaming", options);
        std::thread thread ([&] { work (worker); });
        try {
            ask (argv[1]);
        } catch (const std::exception &failure) {
            std::cerr << "streaming: " << failure.what () << '\n';
            status = 1;
        }
        worker.drain ();
        thread.join ();
    } catch (const std::exception &failure) {
        std::cerr << "streaming: " << failure.what () << '\n';
        return 1;
    }
    return status;
}
