// Text statistics as a service.  Usage: worker ENDPOINT SERVICE
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <majordomo.hpp>
#include <pthread.h>
#include <string>
#include <thread>
#include <unistd.h>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

bool in_word (unsigned char byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') || byte >= 0x80;
}

class statistics {
public:
    void read (std::string_view text)
    {
        for (const char character : text) {
            const auto byte = static_cast<unsigned char> (character);
            lines_ += byte == '\n';
            characters_ += byte < 0x80 || byte > 0xBF;
            if (in_word (byte))
                word_ += static_cast<char> (byte >= 'A' && byte <= 'Z' ? byte + 32 : byte);
            else
                end_word ();
            last_ = byte;
        }
    }

    std::string json ()
    {
        end_word ();
        std::string text = "{\"lines\":" + std::to_string (lines_ + (last_ != '\n'));
        text += ",\"words\":" + std::to_string (words_) + ",\"characters\":" + std::to_string (characters_) + ",\"top\":[";
        const char *separator = "[\"";
        for (const auto &[word, count] : top ()) {
            text += separator;
            for (const char character : word)
                append_escaped (text, static_cast<unsigned char> (character));
            text += "\"," + std::to_string (count) + ']';
            separator = ",[\"";
        }
        return text + "]}";
    }

private:
    using entry = std::pair<std::string, unsigned long>;

    void end_word ()
    {
        if (word_.empty ())
            return;
        ++words_;
        ++counts_[word_];
        word_.clear ();
    }

    std::vector<entry> top () const
    {
        std::vector<entry> all (counts_.begin (), counts_.end ());
        const auto most = all.begin () + static_cast<std::ptrdiff_t> (std::min<std::size_t> (10, all.size ()));
        // std::string compares bytes as unsigned numbers, and a word before its extensions.
        std::partial_sort (all.begin (), most, all.end (), [] (const entry &left, const entry &right) {
            return left.second != right.second ? left.second > right.second : left.first < right.first;
        });
        all.erase (most, all.end ());
        return all;
    }

    static void append_escaped (std::string &text, unsigned char byte)
    {
        if (byte < 0x80) {
            text += static_cast<char> (byte);
            return;
        }
        char escape[8];
        std::snprintf (escape, sizeof escape, "\\u%04x", byte);
        text += escape;
    }

    unsigned long lines_ = 0, words_ = 0, characters_ = 0;
    // As if a line had just ended: an empty text has no line that is not.
    unsigned char last_ = '\n';
    std::string word_;
    std::unordered_map<std::string, unsigned long> counts_;
};

} // namespace

int main (int argc, char *argv[])
{
    if (argc != 3) {
        std::cerr << "usage: worker ENDPOINT SERVICE\n";
        return 2;
    }
    // Before any thread is made, so that all of them leave these signals to the one that waits for them.
    sigset_t ends;
    sigemptyset (&ends);
    sigaddset (&ends, SIGTERM);
    sigaddset (&ends, SIGINT);
    pthread_sigmask (SIG_BLOCK, &ends, nullptr);
    int status = 0;
    try {
        majordomo::worker worker (argv[1], argv[2]);
        std::thread end ([&] {
            int signal = 0;
            sigwait (&ends, &signal);
            worker.drain ();
        });
        std::cout << "ready" << std::endl;
        try {
            worker.serve ([] (const majordomo::message &request) {
                statistics text;
                for (std::string_view frame : request)
                    text.read (frame);
                return text.json ();
            });
        } catch (const std::exception &failure) {
            std::cerr << "worker: " << failure.what () << '\n';
            status = 1;
            // Nobody has asked for the end that the thread waits for.
            kill (getpid (), SIGTERM);
        }
        end.join ();
    } catch (const std::exception &failure) {
        std::cerr << "worker: " << failure.what () << '\n';
        return 1;
    }
    return status;
}
