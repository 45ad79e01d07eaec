// Sends files to services of text statistics.  Usage: client ENDPOINT SERVICE... < names, each followed by a zero byte
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <majordomo.hpp>
#include <optional>
#include <string>

using std::chrono::steady_clock;

static std::optional<std::string> content_of (const std::string &name)
{
    std::ifstream file (name, std::ios::binary);
    std::string content;
    char buffer[1 << 16];
    while (file.read (buffer, sizeof buffer) || file.gcount () > 0)
        content.append (buffer, static_cast<std::size_t> (file.gcount ()));
    // The end of the file stops the reading, and nothing else: a folder opens, too, and then fails to be read.
    return file.eof () && !file.bad () ? std::optional (std::move (content)) : std::nullopt;
}

static bool is_json_text (const majordomo::message &reply)
{
    if (reply.size () != 1 || reply[0].empty ())
        return false;
    const std::string_view text = reply[0];
    return std::all_of (text.begin (), text.end (), [] (char byte) { return byte >= 0x20 && byte <= 0x7E; });
}

// One line of output for one request; whether it went well.
static bool ask (majordomo::client &client, std::size_t file, const char *service, const std::optional<std::string> &content)
{
    const auto start = steady_clock::now ();
    double ms = 0;
    std::string result;
    if (!content)
        result = "\"ok\":false,\"error\":\"UNREADABLE\"";
    else {
        try {
            const majordomo::message reply = client.request (service, *content);
            result = is_json_text (reply) ? "\"ok\":true,\"reply\":" + std::string (reply[0])
                                          : "\"ok\":false,\"error\":\"BAD_REPLY\"";
        } catch (const majordomo::error &failure) {
            result = "\"ok\":false,\"error\":\"" + std::string (failure.code ()) + '"';
        }
        ms = std::chrono::duration<double, std::milli> (steady_clock::now () - start).count ();
    }
    std::printf ("{\"file\":%zu,\"service\":\"%s\",\"ms\":%.3f,%s}\n", file, service, ms, result.c_str ());
    std::fflush (stdout);
    return result.compare (0, 9, "\"ok\":true") == 0;
}

int main (int argc, char *argv[])
{
    if (argc < 3) {
        std::cerr << "usage: client ENDPOINT SERVICE... < names\n";
        return 2;
    }
    try {
        majordomo::client_options options;
        options.timeout = std::chrono::seconds (120);
        options.retries = 3;
        majordomo::client client (argv[1], options);
        bool all_well = true;
        std::string name;
        for (std::size_t file = 0; std::getline (std::cin, name, '\0'); ++file) {
            const std::optional<std::string> content = content_of (name);
            for (int i = 2; i < argc; ++i)
                all_well = ask (client, file, argv[i], content) && all_well;
        }
        return all_well ? 0 : 1;
    } catch (const std::exception &failure) {
        std::cerr << "client: " << failure.what () << '\n';
        return 2;
    }
}
