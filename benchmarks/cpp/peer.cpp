// The programs of `cargo xtask bench` in C++: the same options and lines of JSON as those of `majordomo-bench`.
// Usage: peer client|worker|round-trip --endpoint ENDPOINT [--protocol P] [--size BYTES] [--outstanding N]
//             [--warm-up SECONDS] [--seconds SECONDS] [--requests N]
#include <algorithm>
#include <chrono>
#include <iostream>
#include <majordomo.hpp>
#include <stdexcept>
#include <string>
#include <vector>

using clock_type = std::chrono::steady_clock;
using seconds = std::chrono::duration<double>;
using microseconds = std::chrono::duration<double, std::micro>;

static const char *const service = "echo";

struct options {
    std::string endpoint;
    std::string protocol = "0.1";
    std::size_t size = 11;
    std::size_t outstanding = 1000;
    seconds warm_up {0.5};
    seconds measured {1.0};
    // Send exactly so many requests instead, and count them all; 0 to go by time.
    long requests = 0;

    majordomo::client_options client () const
    {
        majordomo::client_options chosen;
        chosen.protocol = protocol;
        chosen.max_in_flight = outstanding;
        // Long enough that no request is ever sent twice.
        chosen.timeout = std::chrono::seconds (60);
        return chosen;
    }
};

// So many replies are counted between two looks at the clock: the other languages look once for each batch.
static const int looks = 64;

// Counts replies once the warm-up is over, for some seconds, or so many of them.
class meter {
public:
    explicit meter (const options &chosen)
        : requests_ (chosen.requests), counts_ (chosen.requests > 0),
          begin_ (clock_type::now () + (counts_ ? seconds (0) : chosen.warm_up)), end_ (begin_ + chosen.measured)
    {
    }

    // Whether one more request is to be sent; it counts as sent then.
    bool send ()
    {
        const bool wanted = requests_ == 0 || sent_ < requests_;
        sent_ += wanted;
        return wanted;
    }

    // A reply came; whether to go on. The clock is looked at with each look-th reply.
    bool receive (int look)
    {
        replies_ += counts_;
        if (requests_ > 0 ? replies_ < requests_ : ++unseen_ < look)
            return true;
        unseen_ = 0;
        last_ = clock_type::now ();
        if (requests_ > 0)
            return false;
        if (!counts_ && last_ >= begin_) {
            counts_ = true;
            begin_ = last_;
        }
        return last_ < end_;
    }

    bool counts () const { return counts_; }

    void report (const std::string &more = {}) const
    {
        const double took = seconds (last_ - begin_).count ();
        std::cout << "{\"replies\":" << replies_ << ",\"seconds\":" << took
                  << ",\"rate\":" << static_cast<double> (replies_) / took << more << "}" << std::endl;
    }

private:
    using instant = std::chrono::time_point<clock_type, seconds>;
    long requests_, sent_ = 0, replies_ = 0;
    bool counts_;
    int unseen_ = 0;
    instant begin_, end_, last_;
};

// Keeps requests outstanding.
static void client (const options &chosen)
{
    const std::string body (chosen.size, 'x');
    majordomo::async_client hub (chosen.endpoint, chosen.client ());
    meter meter (chosen);
    for (std::size_t sent = 0; sent < chosen.outstanding && meter.send (); ++sent)
        hub.send (service, body);
    for (;;) {
        hub.recv ().value ();
        if (!meter.receive (looks))
            break;
        if (meter.send ())
            hub.send (service, body);
    }
    meter.report ();
}

static void worker (const options &chosen)
{
    majordomo::worker_options worker_options;
    worker_options.protocol = chosen.protocol;
    // As the workers of the other languages.
    worker_options.prefetch = 512;
    majordomo::worker serving (chosen.endpoint, service, worker_options);
    std::cout << "{\"ready\":true}" << std::endl;
    serving.serve ([] (majordomo::message request) { return request; });
}

// One request at a time.
static void round_trip (const options &chosen)
{
    const std::string body (chosen.size, 'x');
    majordomo::client hub (chosen.endpoint, chosen.client ());
    meter meter (chosen);
    std::vector<double> times;
    for (bool going = true; going;) {
        const auto begin = clock_type::now ();
        hub.request (service, body);
        if (meter.counts ())
            times.push_back (microseconds (clock_type::now () - begin).count ());
        going = meter.receive (1);
    }
    if (times.empty ())
        throw std::runtime_error ("no round trip was measured");
    std::sort (times.begin (), times.end ());
    const auto percentile = [&] (std::size_t part) { return std::to_string (times[(times.size () - 1) * part / 100]); };
    meter.report (",\"median_us\":" + percentile (50) + ",\"p99_us\":" + percentile (99));
}

static options parse (int argc, char *argv[])
{
    options chosen;
    for (int index = 2; index + 1 < argc; index += 2) {
        const std::string name = argv[index], value = argv[index + 1];
        if (name == "--endpoint")
            chosen.endpoint = value;
        else if (name == "--protocol")
            chosen.protocol = value;
        else if (name == "--size")
            chosen.size = std::stoul (value);
        else if (name == "--outstanding")
            chosen.outstanding = std::stoul (value);
        else if (name == "--warm-up")
            chosen.warm_up = seconds (std::stod (value));
        else if (name == "--seconds")
            chosen.measured = seconds (std::stod (value));
        else if (name == "--requests")
            chosen.requests = std::stol (value);
    }
    return chosen;
}

int main (int argc, char *argv[])
{
    try {
        const options chosen = parse (argc, argv);
        const std::string role = argc > 1 ? argv[1] : "";
        if (role == "client")
            client (chosen);
        else if (role == "worker")
            worker (chosen);
        else if (role == "round-trip")
            round_trip (chosen);
        else {
            std::cerr << "usage: peer client|worker|round-trip --endpoint ENDPOINT\n";
            return 2;
        }
    } catch (const std::exception &failure) {
        std::cerr << "peer: " << failure.what () << '\n';
        return 1;
    }
    return 0;
}
