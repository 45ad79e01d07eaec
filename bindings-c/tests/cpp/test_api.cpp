// The C++ face: ownership by scope, failures as exceptions, and the same behaviour as in C.
#include <majordomo.hpp>

#include <algorithm>
#include <csignal>
#include <functional>
#include <iostream>
#include <string>
#include <sys/time.h>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
namespace md = majordomo;

namespace {

int broken = 0;

void check (bool condition, const char *text, int line)
{
    if (!condition) {
        std::cout << __FILE__ << ':' << line << ": " << text << " does not hold" << std::endl;
        ++broken;
    }
}
#define CHECK(condition) check ((condition), #condition, __LINE__)

/// The number of the error that `call` throws; 0 if it throws none.
int thrown (const std::function<void ()> &call)
{
    try {
        call ();
    } catch (const md::error &failure) {
        return failure.number ();
    }
    return 0;
}

md::client_options patient (const char *protocol = "0.1")
{
    md::client_options options;
    options.timeout = 60s;
    options.protocol = protocol;
    return options;
}

/// A worker on a thread, drained and joined at the end of its scope.
class served {
public:
    template <typename Handler> served (const md::broker &hub, const char *service, Handler handler)
        : worker_ (hub.endpoint (), service), thread_ ([this, handler] { worker_.serve (handler); })
    {
    }
    ~served ()
    {
        worker_.drain ();
        thread_.join ();
    }

private:
    md::worker worker_;
    std::thread thread_;
};

template <typename T> constexpr bool move_only = std::is_nothrow_move_constructible_v<T>
    && std::is_nothrow_move_assignable_v<T> && !std::is_copy_constructible_v<T> && !std::is_copy_assignable_v<T>;

void owners_can_be_moved_and_not_copied ()
{
    static_assert (move_only<md::client> && move_only<md::async_client> && move_only<md::worker>);
    static_assert (move_only<md::async_worker> && move_only<md::broker> && move_only<md::message> && move_only<md::request>);
    md::message first ("x");
    md::message second (std::move (first));
    CHECK (second.size () == 1);
    CHECK (thrown ([&] { first.push_back ("y"); }) == MD_EINVAL);
    first = md::message ({"a", "b"});
    CHECK (first.size () == 2);
    second = std::move (first);
    CHECK (second.size () == 2);
}

void a_message_is_a_list_of_frames ()
{
    md::message message {"one", std::string_view ("t\0o", 3), ""};
    CHECK (message.size () == 3 && message.byte_size () == 6 && !message.empty ());
    CHECK (message[0] == "one" && message[1] == std::string_view ("t\0o", 3) && message[2].empty ());
    CHECK (thrown ([&] { (void) message[3]; }) == MD_EINVAL);
    std::vector<std::string> frames = message.frames ();
    CHECK (frames.size () == 3 && frames[1].size () == 3);
    CHECK (md::message (frames) == message);
    md::message copy = message.clone ();
    copy.push_front ("zero");
    CHECK (copy != message && copy[0] == "zero" && copy[1] == "one");
    CHECK (md::message ().empty () && md::message ("").size () == 1);
    std::string joined;
    for (std::string_view frame : message)
        joined += frame;
    CHECK (joined.size () == 6);
}

void a_request_is_answered ()
{
    md::broker hub ("tcp://127.0.0.1:0");
    served echo (hub, "echo", [] (const md::message &request) { return request.clone (); });
    md::client client (hub.endpoint (), patient ());
    CHECK (client.request ("echo", {"hello", "", "world"}) == (md::message {"hello", "", "world"}));
    CHECK (client.request ("echo", "hi")[0] == "hi");
    CHECK (client.request ("echo", std::string (1 << 20, 'x'))[0].size () == 1 << 20);
    CHECK (client.request ("echo", md::message ()).empty ());
}

void a_failure_is_thrown_with_its_kind ()
{
    md::broker hub ("tcp://127.0.0.1:0");
    served failing (hub, "failing", [] (const md::message &request) -> md::message {
        if (request[0] == "own")
            throw md::service_failure (7, "no such file");
        if (request[0] == "standard")
            throw std::runtime_error ("unexpected");
        throw 42;
    });
    md::client client (hub.endpoint (), patient ());
    try {
        client.request ("failing", "own");
        CHECK (false);
    } catch (const md::error &failure) {
        CHECK (failure.number () == MD_ESERVICE && failure.kind () == "ServiceError" && failure.code () == "MD_ESERVICE");
        CHECK (failure.service_code () == 7 && failure.text () == "no such file" && !failure.retryable ());
    }
    try {
        client.request ("failing", "standard");
        CHECK (false);
    } catch (const md::error &failure) {
        CHECK (failure.service_code () == 500 && failure.text () == "unexpected");
    }
    CHECK (thrown ([&] { client.request ("failing", "unknown"); }) == MD_ESERVICE);
    // The broker answers this one itself, so that there is a connection: what then takes too long is not the connecting.
    CHECK (client.request ("mmi.service", "nobody")[0] == "404");
    client.set_timeout (30ms);
    client.set_retries (1);
    CHECK (thrown ([&] { client.request ("nobody", "x"); }) == MD_ETIMEOUT);
}

void an_answer_that_cannot_be_given_fails_its_request_alone ()
{
    const md::broker hub ("tcp://127.0.0.1:0");
    md::worker_options small;
    small.max_message_bytes = 1000;
    md::worker worker (hub.endpoint (), "sized", small);
    std::thread thread ([&] {
        worker.serve ([] (md::message request) {
            if (request[0] == "none")
                md::message taken (std::move (request));
            else if (request[0] == "much")
                request.push_back (std::string (2000, 'x'));
            return request;
        });
    });
    md::client client (hub.endpoint (), patient ());
    for (const char *what : {"much", "none"}) {
        try {
            client.request ("sized", what);
            CHECK (!"a failure");
        } catch (const md::error &failure) {
            CHECK (failure.number () == MD_ESERVICE && failure.service_code () == 500 && !failure.text ().empty ());
        }
        CHECK (client.request ("sized", "little")[0] == "little");
    }
    worker.drain ();
    thread.join ();
}

void what_c_would_misread_is_refused ()
{
    CHECK (thrown ([] { md::client ("tcp://127.0.0.1:1\0trailer"); }) == 0);
    CHECK (thrown ([] { md::client (std::string_view ("tcp://127.0.0.1:1\0trailer", 25)); }) == MD_EINVAL);
    md::client client ("tcp://127.0.0.1:1");
    CHECK (thrown ([&] { client.request (std::string_view ("a\0b", 3), "x"); }) == MD_EINVAL);
    CHECK (thrown ([&] { client.set_timeout (-5ms); }) == MD_EINVAL);
    CHECK (thrown ([&] { client.set_timeout (-1ms); }) == MD_EINVAL);
    CHECK (thrown ([&] { client.set_timeout (std::chrono::hours (24 * 365 * 100)); }) == MD_EINVAL);
    md::client_options options;
    options.protocol = "9.9";
    CHECK (thrown ([&] { md::client wrong ("tcp://127.0.0.1:1", options); }) == MD_EINVAL);
    CHECK (thrown ([] { md::worker wrong ("tcp://127.0.0.1:1", "mmi.x"); }) == MD_EINVAL);
    CHECK (thrown ([] { md::broker wrong ("nonsense"); }) == MD_EINVAL);
}

void a_stream_is_a_range_of_messages ()
{
    md::broker hub ("tcp://127.0.0.1:0");
    md::worker_options options;
    options.protocol = "0.2";
    md::worker worker (hub.endpoint (), "count", options);
    std::thread thread ([&] {
        while (auto request = worker.recv ()) {
            for (std::string_view frame : *request)
                worker.partial (frame);
            worker.reply ("END");
        }
    });
    md::client client (hub.endpoint (), patient ("0.2"));
    std::vector<std::string> got;
    for (md::message &part : client.stream ("count", {"1", "2", "3"}))
        got.emplace_back (part[0]);
    CHECK ((got == std::vector<std::string> {"1", "2", "3", "END"}));
    auto parts = client.stream ("count", "only");
    CHECK (parts.next ().has_value () && parts.next ().has_value () && !parts.next ().has_value ());
    worker.drain ();
    thread.join ();
}

void many_requests_at_once_each_get_their_own_answer ()
{
    md::broker hub ("tcp://127.0.0.1:0");
    md::worker_options options;
    options.concurrency = 4;
    md::async_worker worker (hub.endpoint (), "square", options);
    std::thread thread ([&] {
        while (std::optional<md::request> request = worker.recv ()) {
            CHECK (request->service () == "square");
            const int number = std::stoi (std::string (request->body ()[0]));
            request->reply (std::to_string (number * number));
        }
    });
    md::async_client client (hub.endpoint (), patient ());
    std::vector<std::int64_t> tickets;
    for (int i = 0; i < 100; ++i)
        tickets.push_back (client.send ("square", std::to_string (i)));
    CHECK (client.outstanding () == 100);
    while (client.outstanding () > 0) {
        md::async_client::outcome outcome = client.recv ();
        std::size_t which = 0;
        while (which + 1 < tickets.size () && tickets[which] != outcome.ticket)
            ++which;
        CHECK (outcome.value ()[0] == std::to_string (which * which));
    }
    CHECK (thrown ([&] { client.recv (); }) == MD_EINVAL);
    const std::int64_t waiting = client.send ("nobody", "x");
    CHECK (!client.recv_for (1ms));
    client.cancel (waiting);
    md::async_client::outcome cancelled = client.recv ();
    CHECK (cancelled.ticket == waiting && cancelled.failure && cancelled.failure->number () == MD_ECANCELLED);
    CHECK (thrown ([&] { cancelled.value (); }) == MD_ECANCELLED);
    CHECK (client.fd () >= 0 && worker.fd () >= 0);
    worker.drain ();
    thread.join ();
    CHECK (thrown ([&] { worker.recv_for (1ms); }) == MD_ECLOSED);
}

void a_broker_tells_of_itself ()
{
    md::broker_options options;
    options.max_attempts = 1;
    options.request_ttl = 10s;
    options.max_queued = {10, 10};
    md::broker hub ("tcp://127.0.0.1:0,tcp://127.0.0.1:0", options);
    CHECK (hub.endpoints ().size () == 2 && hub.endpoints ()[0] == hub.endpoint ());
    CHECK (hub.stats ().front () == '{');
    hub.stop ();
    CHECK (thrown ([&] { hub.stats (); }) == MD_ECLOSED);
    CHECK (!md::version ().empty () && md::libzmq_version ()[0] == '4');
}

void a_worker_that_waits_knows_timeout_from_end ()
{
    md::broker hub ("tcp://127.0.0.1:0");
    md::worker worker (hub.endpoint (), "idle");
    CHECK (!worker.recv_for (5ms));
    worker.drain ();
    CHECK (!worker.recv ());
    CHECK (thrown ([&] { worker.recv_for (5ms); }) == MD_ECLOSED);
}

void what_mdpx_adds_is_there_in_cpp ()
{
    const md::broker hub ("tcp://127.0.0.1:0");
    std::vector<std::string> events;
    md::client_options options = patient ("x1");
    options.on_event = [&] (const md::connection_event &event) {
        events.push_back (std::string (event.name) + ' ' + std::string (event.endpoint) + ' '
                          + std::string (event.protocol));
    };
    md::worker_options prefetching;
    prefetching.prefetch = 4;
    prefetching.keep_outcomes.emplace ().count = 10;
    md::worker worker (hub.endpoint (), "x", prefetching);
    std::thread thread ([&] {
        worker.serve ([&] (const md::message &request) {
            CHECK (worker.remaining ().value () <= 180s && !worker.cancelled ());
            if (worker.attempt () == 1)
                throw md::service_failure (503, "not yet", true);
            md::message reply ("at last");
            reply.set_property (md::property::content_type, request.property ("wanted").value_or ("nothing"));
            return reply;
        });
    });
    {
        md::client client = md::client (hub.endpoint (), options);
        md::message request ("body");
        request.set_property ("wanted", "text/plain");
        const md::message reply = client.request ("x", request.clone ());
        CHECK (reply[0] == "at last" && reply.property ("content-type") == "text/plain" && !reply.property ("absent"));
        CHECK (reply.properties ().size () == 1 && reply.properties ()[0].first == "content-type");
        client.set_max_attempts (1);
        try {
            client.request ("x", request.clone ());
            CHECK (!"a failure");
        } catch (const md::error &failure) {
            CHECK (failure.number () == MD_ESERVICE && failure.service_code () == 503 && failure.retryable ());
        }
        client.set_fail_fast (true);
        CHECK (thrown ([&] { client.request ("nobody", "x"); }) == MD_ENOWORKER);
    }
    CHECK (!events.empty () && events[0] == "connected " + hub.endpoint () + " x1");
    worker.drain ();
    thread.join ();
    CHECK (thrown ([&] { worker.attempt (); }) == MD_EINVAL && thrown ([&] { worker.remaining (); }) == MD_EINVAL);
}

void a_cancelled_request_tells_its_worker ()
{
    const md::broker hub ("tcp://127.0.0.1:0");
    md::async_worker worker (hub.endpoint (), "held");
    md::async_client client (hub.endpoint (), patient ("x1"));
    const auto ticket = client.send ("held", "x");
    std::optional<md::request> request = worker.recv ();
    CHECK (request->attempt () == 1 && request->remaining ().has_value () && !request->cancelled ());
    client.cancel (ticket);
    CHECK (client.recv ().failure->number () == MD_ECANCELLED);
    while (!request->cancelled ())
        std::this_thread::sleep_for (1ms);
    request->fail (1, "for nobody", true);
}

void options_of_a_request_are_its_own_also_between_threads ()
{
    const md::broker hub ("tcp://127.0.0.1:0");
    md::worker worker (hub.endpoint (), "busy");
    std::thread thread ([&] {
        worker.serve ([&] (md::message request) {
            if (worker.attempt () == 1)
                throw md::service_failure (503, "not yet", true);
            return request;
        });
    });
    md::request_options once, eager;
    once.max_attempts = 1;
    eager.fail_fast = true;
    constexpr int requests = 100;
    md::async_client client (hub.endpoint (), patient ("x1"));
    std::vector<std::int64_t> with, without;
    std::thread other ([&] {
        for (int i = 0; i < requests; ++i)
            with.push_back (client.send ("busy", "with", once));
    });
    for (int i = 0; i < requests; ++i)
        without.push_back (client.stream ("busy", "without"));
    other.join ();
    for (int i = 0; i < 2 * requests; ++i) {
        const auto outcome = client.recv ();
        const bool own = std::find (without.begin (), without.end (), outcome.ticket) != without.end ();
        CHECK (own ? !outcome.failure : outcome.failure && outcome.failure->service_code () == 503);
    }
    // A stream has them, too; and the next request does not.
    CHECK (client.stream ("nobody", "x", eager) > 0 && client.recv ().failure->number () == MD_ENOWORKER);
    const auto waiting = client.send ("nobody", "x");
    CHECK (client.send ("nobody", "x", eager) > waiting && client.recv ().failure->number () == MD_ENOWORKER);
    client.cancel (waiting);
    CHECK (client.recv ().failure->number () == MD_ECANCELLED);

    md::client blocking (hub.endpoint (), patient ("x1"));
    CHECK (thrown ([&] { blocking.request ("busy", "with", once); }) == MD_ESERVICE);
    CHECK (blocking.request ("busy", "without")[0] == "without");
    CHECK (thrown ([&] { blocking.stream ("busy", "with", once).next (); }) == MD_ESERVICE);
    CHECK (blocking.stream ("busy", "without").next ().has_value ());
    md::request_options hasty;
    hasty.timeout = 60s;
    hasty.retries = 1;
    hasty.deadline = 50ms;
    const int number = thrown ([&] { blocking.request ("nobody", "x", hasty); });
    CHECK (number == MD_ETIMEOUT || number == MD_EEXPIRED);
    CHECK (blocking.request ("busy", "without")[0] == "without");
    worker.drain ();
    thread.join ();

    md::request_options wrong;
    wrong.timeout = 0ms;
    CHECK (thrown ([&] { blocking.request ("busy", "x", wrong); }) == MD_EINVAL);
    wrong = {};
    wrong.max_attempts = 65536;
    CHECK (thrown ([&] { client.send ("busy", "x", wrong); }) == MD_EINVAL && client.outstanding () == 0);
}

// What the handler of a stream hears: nothing but that it is given up, as long as its client has time.
void is_told_that_it_is_given_up (std::optional<md::request> &request)
{
    while (!request->cancelled ())
        std::this_thread::yield ();
    CHECK (request->remaining ().value () > 0ms);
    request.reset ();
}

void a_stream_that_is_left_in_the_middle_is_given_up_at_once ()
{
    const md::broker hub ("tcp://127.0.0.1:0");
    md::async_worker worker (hub.endpoint (), "endless");
    md::client_options options = patient ("x1");
    options.deadline = 60s;
    md::client client (hub.endpoint (), options);
    std::optional<md::request> request;
    // The client does its part while it is in a call.
    const auto part_of = [&] (const std::function<void ()> &read) {
        std::thread thread ([&] {
            request = worker.recv ();
            request->partial ("part");
        });
        read ();
        thread.join ();
    };

    int got = 0;
    part_of ([&] {
        for (md::message &part : client.stream ("endless", "go")) {
            CHECK (part[0] == "part");
            ++got;
            break;
        }
    });
    CHECK (got == 1);
    is_told_that_it_is_given_up (request);

    part_of ([&] {
        const auto fail = [&] {
            for (md::message &part : client.stream ("endless", "go"))
                throw md::error (MD_EINTERNAL, std::string (part[0]));
        };
        CHECK (thrown (fail) == MD_EINTERNAL);
    });
    is_told_that_it_is_given_up (request);

    // It is given up by who has it, not by who had it.
    std::optional<md::client::parts> last;
    part_of ([&] {
        auto parts = client.stream ("endless", "go");
        CHECK (parts.next ().has_value ());
        last.emplace (std::move (parts));
        CHECK (thrown ([&] { parts.next (); }) == MD_EINVAL);
    });
    request->partial ("another");
    CHECK ((*last->next ())[0] == "another" && !request->cancelled ());
    last.reset ();
    is_told_that_it_is_given_up (request);

    // A stream that another one has followed ends with no harm to that one.
    static_assert (move_only<md::client::parts>);
    auto parts = client.stream ("endless", "first");
    part_of ([&] { CHECK (parts.next ().has_value ()); });
    request.reset ();
    part_of ([&] {
        auto following = client.stream ("endless", "second");
        CHECK (thrown ([&] { parts.next (); }) == MD_EINVAL);
        parts = std::move (following);
        CHECK ((*parts.next ())[0] == "part");
    });
    request->reply ("end");
    CHECK ((*parts.next ())[0] == "end" && !parts.next ().has_value ());
}

void on_signal (int) {}

// Signals again and again while it lives, so that one is sure to come while a call waits.
class alarms {
public:
    alarms ()
    {
        struct sigaction action = {};
        action.sa_handler = on_signal;
        sigaction (SIGALRM, &action, nullptr);
        every (20000);
    }
    ~alarms () { every (0); }

private:
    static void every (suseconds_t microseconds)
    {
        const timeval interval = {0, microseconds};
        const itimerval timer = {interval, interval};
        setitimer (ITIMER_REAL, &timer, nullptr);
    }
};

void a_signal_ends_whatever_waits_with_an_exception ()
{
    const md::broker hub ("tcp://127.0.0.1:0");
    for (const char *protocol : {"0.1", "0.2", "x1"}) {
        md::client client (hub.endpoint (), patient (protocol));
        md::async_client async (hub.endpoint (), patient (protocol));
        md::worker_options options;
        options.protocol = protocol;
        md::worker worker (hub.endpoint (), "idle", options);
        md::async_worker several (hub.endpoint (), "idle", options);
        const auto ticket = async.send ("nobody", "x");
        {
            const alarms ringing;
            CHECK (thrown ([&] { client.request ("nobody", "x"); }) == MD_ECANCELLED);
            CHECK (thrown ([&] { for (const auto &part : client.stream ("nobody", "x")) part.size (); }) == MD_ECANCELLED);
            CHECK (thrown ([&] { async.recv (); }) == MD_ECANCELLED);
            CHECK (thrown ([&] { worker.recv (); }) == MD_ECANCELLED);
            CHECK (thrown ([&] { worker.recv_for (60s); }) == MD_ECANCELLED);
            CHECK (thrown ([&] { worker.serve ([] (md::message body) { return body; }); }) == MD_ECANCELLED);
            CHECK (thrown ([&] { several.recv (); }) == MD_ECANCELLED);
        }
        // Nothing but the waiting has ended.
        CHECK (async.outstanding () == 1);
        async.cancel (ticket);
        CHECK (async.recv ().failure->number () == MD_ECANCELLED);
        CHECK (client.request ("mmi.service", "idle")[0] == "200");
    }
}

} // namespace

int main ()
{
    int passed = 0, failed = 0;
    const std::pair<const char *, void (*) ()> tests[] = {
#define TEST(name) {#name, name}
        TEST (owners_can_be_moved_and_not_copied),
        TEST (a_message_is_a_list_of_frames),
        TEST (a_request_is_answered),
        TEST (a_failure_is_thrown_with_its_kind),
        TEST (an_answer_that_cannot_be_given_fails_its_request_alone),
        TEST (what_c_would_misread_is_refused),
        TEST (a_stream_is_a_range_of_messages),
        TEST (many_requests_at_once_each_get_their_own_answer),
        TEST (a_broker_tells_of_itself),
        TEST (a_worker_that_waits_knows_timeout_from_end),
        TEST (what_mdpx_adds_is_there_in_cpp),
        TEST (a_cancelled_request_tells_its_worker),
        TEST (options_of_a_request_are_its_own_also_between_threads),
        TEST (a_stream_that_is_left_in_the_middle_is_given_up_at_once),
        TEST (a_signal_ends_whatever_waits_with_an_exception),
    };
    for (const auto &[name, test] : tests) {
        broken = 0;
        try {
            test ();
        } catch (const std::exception &unexpected) {
            std::cout << name << ": " << unexpected.what () << std::endl;
            ++broken;
        }
        (broken == 0 ? passed : failed)++;
        if (broken != 0)
            std::cout << "FAILED: " << name << std::endl;
    }
    (md_handles () == 0 ? passed : failed)++;
    std::cout << passed << " passed, " << failed << " failed\n";
    return failed != 0;
}
