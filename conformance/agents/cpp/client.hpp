// Clients: majordomo::client for the style "blocking", majordomo::async_client for "async".
#ifndef AGENT_CLIENT_HPP
#define AGENT_CLIENT_HPP

#include "body.hpp"
#include <condition_variable>
#include <deque>
#include <functional>
#include <majordomo.hpp>
#include <map>
#include <memory>
#include <thread>

using majordomo::milliseconds;

inline void send_error (long id, const majordomo::error &failure)
{
    event line ("error", id);
    line.field ("kind", failure.kind ()).field ("number", failure.number ());
    line.raw ("retryable", failure.retryable () ? "true" : "false");
    if (failure.number () == MD_ESERVICE)
        line.field ("service_code", static_cast<long> (failure.service_code ())).field ("text", failure.text ());
    else
        line.field ("text", failure.what ());
    line.send ();
}

inline majordomo::client_options client_options_of (const command &command)
{
    majordomo::client_options options;
    options.protocol = command.get<std::string> ("protocol");
    if (const auto ms = command.get<long> ("timeout_ms"))
        options.timeout = milliseconds (*ms);
    if (const auto retries = command.get<long> ("retries"))
        options.retries = static_cast<int> (*retries);
    if (const auto ms = command.get<long> ("deadline_ms"))
        options.deadline = milliseconds (*ms);
    options.max_message_bytes = command.get<long> ("max_message_bytes");
    options.max_in_flight = command.get<long> ("max_in_flight");
    options.max_waiting = command.get<long> ("max_waiting");
    if (command.get<long> ("reconnect_min_ms") || command.get<long> ("reconnect_max_ms"))
        options.reconnect = {milliseconds (command.number ("reconnect_min_ms", 100)),
                             milliseconds (command.number ("reconnect_max_ms", 32000))};
    if (command.number ("events", 0))
        options.on_event = body::connection_events ("client", command.text ("client"));
    return options;
}

/// What became of the requests of request_many.
struct many {
    long ok = 0, mismatched = 0, errors = 0;
    std::string first_error;

    void count (const majordomo::message &request, const majordomo::message &reply)
    {
        (request == reply ? ok : mismatched)++;
    }
    void count (const majordomo::error &failure)
    {
        if (errors++ == 0)
            first_error = failure.kind ();
    }
    void send (long id) const
    {
        event line ("many", id);
        line.field ("ok", ok).field ("mismatched", mismatched).field ("errors", errors);
        if (errors > 0)
            line.field ("first_error", first_error);
        line.send ();
    }
};

/// A client of either style. Any thread may call any method.
class any_client {
public:
    virtual ~any_client () = default;
    virtual void request (const command &command) = 0;
    virtual void stream (const command &command) = 0;
    virtual void request_many (const command &command) = 0;
    virtual void close () = 0;
    /// A request or a stream will come; from now on it can be cancelled.
    virtual void expect (long) {}
    /// Gives up a request or a stream; whether it is one of this client that can be.
    virtual bool cancel (long) { return false; }

protected:
    explicit any_client (const command &command) : defaults_ (client_options_of (command)) {}

    /// Gives the next request the options of its command; what that leaves open is the client's, or the library's default.
    template <typename Client> void prepare (Client &client, const command &command) const
    {
        client.set_timeout (milliseconds (
            command.number ("timeout_ms", static_cast<long> (defaults_.timeout.value_or (milliseconds (2500)).count ()))));
        client.set_retries (static_cast<int> (command.number ("retries", defaults_.retries.value_or (3))));
        client.set_deadline (milliseconds (
            command.number ("deadline_ms", static_cast<long> (defaults_.deadline.value_or (milliseconds (0)).count ()))));
        client.set_max_attempts (static_cast<int> (command.number ("max_attempts", 0)));
        client.set_fail_fast (command.number ("fail_fast", 0) != 0);
    }

    majordomo::client_options defaults_;
};

class blocking_client : public any_client {
public:
    explicit blocking_client (const command &command)
        : any_client (command), client_ (command.text ("endpoint"), defaults_), native_ (client_.native ())
    {
    }

    void request (const command &command) override
    {
        const std::lock_guard<std::mutex> turn (turn_);
        prepare (client_, command);
        body::send ("reply", command.id (), client_.request (command.text ("service"), body::of (command)));
    }
    void stream (const command &command) override
    {
        const std::lock_guard<std::mutex> turn (turn_);
        prepare (client_, command);
        long parts = 0;
        for (majordomo::message &part : client_.stream (command.text ("service"), body::of (command))) {
            body::send ("part", command.id (), part);
            if (++parts == command.number ("leave_after", 0))
                break;
        }
        event ("end", command.id ()).field ("parts", parts).send ();
    }
    void request_many (const command &command) override
    {
        const std::lock_guard<std::mutex> turn (turn_);
        prepare (client_, command);
        many result;
        for (long number = 0; number < command.number ("count", 0); ++number) {
            majordomo::message request = body::numbered (number, static_cast<std::size_t> (command.number ("size", 0)));
            try {
                result.count (request, client_.request (command.text ("service"), request.clone ()));
            } catch (const majordomo::error &failure) {
                result.count (failure);
            }
        }
        result.send (command.id ());
    }
    // The C handle may be destroyed while another thread is in a call, which ends with it; the C++ object may not.
    void close () override { mdcli_destroy (&native_); }

private:
    majordomo::client client_;
    mdcli_t *native_;
    std::mutex turn_;
};

/// One thread receives, and brings each outcome to the command that waits for it.
class shared_client : public any_client {
public:
    explicit shared_client (const command &command) : any_client (command), client_ (command.text ("endpoint"), defaults_)
    {
        receiver_ = std::thread ([this] { receive (); });
    }
    ~shared_client () override { close (); }

    void expect (long id) override
    {
        const std::lock_guard<std::mutex> lock (lock_);
        in_progress_[id] = {};
    }
    bool cancel (long id) override
    {
        const std::lock_guard<std::mutex> lock (lock_);
        const auto found = in_progress_.find (id);
        if (found == in_progress_.end ())
            return false;
        found->second.cancelled = true;
        cancel_sent (found->second);
        return true;
    }

    void request (const command &command) override
    {
        const ending at_the_end {*this, command.id ()};
        mailbox box;
        send (command, body::of (command), box);
        body::send ("reply", command.id (), take (box).value ());
    }
    void stream (const command &command) override
    {
        const ending at_the_end {*this, command.id ()};
        mailbox box;
        send (command, body::of (command), box, true);
        const long leave_after = command.number ("leave_after", 0);
        bool more = true, left = false;
        for (long parts = 1; more; ++parts) {
            auto outcome = take (box);
            more = outcome.more;
            if (!left)
                body::send ("part", command.id (), outcome.value ());
            if (!more)
                event ("end", command.id ()).field ("parts", left ? leave_after : parts).send ();
            left = left || parts == leave_after;
            if (parts == leave_after)
                cancel (command.id ());
        }
    }
    void request_many (const command &command) override
    {
        const auto size = static_cast<std::size_t> (command.number ("size", 0));
        const long count = command.number ("count", 0), room = command.number ("concurrency", 1);
        many result;
        mailbox box;
        std::map<std::int64_t, long> open;
        for (long sent = 0; sent < count || !open.empty ();) {
            if (sent < count && static_cast<long> (open.size ()) < room) {
                open[send (command, body::numbered (sent, size), box)] = sent;
                ++sent;
                continue;
            }
            auto outcome = take (box);
            if (outcome.failure)
                result.count (*outcome.failure);
            else
                result.count (body::numbered (open[outcome.ticket], size), outcome.reply);
            open.erase (outcome.ticket);
        }
        result.send (command.id ());
    }
    void close () override
    {
        {
            const std::lock_guard<std::mutex> lock (lock_);
            closed_ = true;
            for (const auto &[ticket, box] : routes_)
                client_.cancel (ticket);
        }
        sent_.notify_all ();
        if (receiver_.joinable ())
            receiver_.join ();
    }

private:
    using outcome = majordomo::async_client::outcome;

    /// Where the outcomes of one command arrive.
    struct mailbox {
        std::deque<outcome> outcomes;
        std::condition_variable arrived;
    };

    /// A request or a stream from its command on; the ticket is 0 until it is sent.
    struct progress {
        std::int64_t ticket = 0;
        bool cancelled = false;
    };

    /// Forgets a request or a stream when it has ended.
    struct ending {
        shared_client &client;
        long id;
        ~ending ()
        {
            const std::lock_guard<std::mutex> lock (client.lock_);
            client.in_progress_.erase (id);
        }
    };

    /// To be called with the lock.
    void cancel_sent (const progress &request)
    {
        try {
            if (request.ticket != 0)
                client_.cancel (request.ticket);
        } catch (const majordomo::error &) {
            // Its outcome has just been received.
        }
    }

    std::int64_t send (const command &command, majordomo::message body, mailbox &box, bool stream = false)
    {
        const std::lock_guard<std::mutex> lock (lock_);
        if (closed_)
            throw majordomo::error (MD_ECLOSED, "the client is closed");
        prepare (client_, command);
        const std::string service = command.text ("service");
        const auto ticket = stream ? client_.stream (service, std::move (body)) : client_.send (service, std::move (body));
        routes_[ticket] = &box;
        const auto expected = in_progress_.find (command.id ());
        if (expected != in_progress_.end ()) {
            expected->second.ticket = ticket;
            if (expected->second.cancelled)
                cancel_sent (expected->second);
        }
        sent_.notify_one ();
        return ticket;
    }

    outcome take (mailbox &box)
    {
        std::unique_lock<std::mutex> lock (lock_);
        box.arrived.wait (lock, [&] { return !box.outcomes.empty (); });
        outcome first = std::move (box.outcomes.front ());
        box.outcomes.pop_front ();
        return first;
    }

    void receive ()
    {
        std::unique_lock<std::mutex> lock (lock_);
        for (;;) {
            sent_.wait (lock, [this] { return closed_ || !routes_.empty (); });
            if (routes_.empty ())
                return;
            lock.unlock ();
            outcome next = client_.recv ();
            lock.lock ();
            const auto route = routes_.find (next.ticket);
            mailbox &box = *route->second;
            if (!next.more)
                routes_.erase (route);
            box.outcomes.push_back (std::move (next));
            box.arrived.notify_one ();
        }
    }

    majordomo::async_client client_;
    std::mutex lock_;
    std::condition_variable sent_;
    std::map<std::int64_t, mailbox *> routes_;
    std::map<long, progress> in_progress_;
    bool closed_ = false;
    std::thread receiver_;
};

inline std::shared_ptr<any_client> open_client (const command &command)
{
    if (command.text ("style") == "async")
        return std::make_shared<shared_client> (command);
    return std::make_shared<blocking_client> (command);
}

#endif
