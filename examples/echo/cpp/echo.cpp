// The smallest hub: a worker, a client, one request, one reply.  Usage: echo ENDPOINT
#include <iostream>
#include <majordomo.hpp>
#include <thread>

static void ask (const char *endpoint)
{
    majordomo::client client (endpoint);
    const majordomo::message reply = client.request ("echo", {"hello", "world"});
    std::cout << reply.size () << " frames:";
    for (std::string_view frame : reply)
        std::cout << ' ' << frame;
    std::cout << '\n';
}

int main (int argc, char *argv[])
{
    if (argc != 2) {
        std::cerr << "usage: echo ENDPOINT\n";
        return 2;
    }
    int status = 0;
    try {
        majordomo::worker worker (argv[1], "echo");
        std::thread thread ([&] { worker.serve ([] (const majordomo::message &request) { return request.clone (); }); });
        try {
            ask (argv[1]);
        } catch (const std::exception &failure) {
            std::cerr << "echo: " << failure.what () << '\n';
            status = 1;
        }
        worker.drain ();
        thread.join ();
    } catch (const std::exception &failure) {
        std::cerr << "echo: " << failure.what () << '\n';
        return 1;
    }
    return status;
}
