// Workers: majordomo::worker for the style "blocking", majordomo::async_worker for "async".
#ifndef AGENT_WORKER_HPP
#define AGENT_WORKER_HPP

#include "body.hpp"
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <majordomo.hpp>
#include <memory>
#include <thread>

inline majordomo::worker_options worker_options_of (const command &command)
{
    using majordomo::milliseconds;
    majordomo::worker_options options;
    options.protocol = command.get<std::string> ("protocol");
    if (const auto ms = command.get<long> ("heartbeat_ms"))
        options.heartbeat = milliseconds (*ms);
    if (const auto liveness = command.get<long> ("liveness"))
        options.liveness = static_cast<int> (*liveness);
    if (const auto ms = command.get<long> ("reconnect_ms"))
        options.reconnect = milliseconds (*ms);
    if (const auto ms = command.get<long> ("drain_timeout_ms"))
        options.drain_timeout = milliseconds (*ms);
    options.max_message_bytes = command.get<long> ("max_message_bytes");
    options.concurrency = command.get<long> ("concurrency");
    options.prefetch = command.get<long> ("prefetch");
    if (const auto count = command.get<long> ("keep_outcomes")) {
        options.keep_outcomes.emplace ();
        options.keep_outcomes->count = static_cast<std::size_t> (*count);
    }
    if (command.number ("events", 0))
        options.on_event = body::connection_events ("worker", command.text ("worker"));
    return options;
}

/// A worker of either style, with a thread for each request in hand.
class any_worker {
public:
    explicit any_worker (const command &command) : command_ (command), behave_ (behaviour (command.text ("behaviour")))
    {
        const std::string endpoint = command.text ("endpoint"), service = command.text ("service");
        const long concurrency = command.number ("concurrency", 1);
        const auto options = worker_options_of (command);
        if (command.text ("style") == "async")
            async_.emplace (endpoint, service, options);
        else
            for (long i = 0; i < concurrency; ++i)
                blocking_.push_back (std::make_unique<majordomo::worker> (endpoint, service, options));
        for (long i = 0; i < concurrency; ++i)
            threads_.emplace_back ([this, i] { serve (static_cast<std::size_t> (i)); });
    }

    void release ()
    {
        {
            const std::lock_guard<std::mutex> lock (lock_);
            released_ = true;
        }
        changed_.notify_all ();
    }
    long handled () const { return handled_; }

    /// Drains, and waits for the handlers.
    void stop ()
    {
        if (async_)
            async_->drain ();
        for (auto &worker : blocking_)
            worker->drain ();
        for (std::thread &thread : threads_)
            // The end of the agent may come right behind the worker's own.
            if (thread.joinable ())
                thread.join ();
    }

private:
    /// The request in hand, of whichever kind of worker.
    struct in_hand {
        std::function<void (majordomo::message)> partial;
        std::function<int ()> attempt;
        std::function<std::optional<majordomo::milliseconds> ()> remaining;
        std::function<bool ()> cancelled;
    };
    /// Gives the reply.
    using behaviour_t = std::function<majordomo::message (const majordomo::message &, const in_hand &)>;

    template <typename Source> static in_hand in_hand_of (Source &source)
    {
        return {[&source] (majordomo::message part) { source.partial (std::move (part)); },
                [&source] { return source.attempt (); }, [&source] { return source.remaining (); },
                [&source] { return source.cancelled (); }};
    }

    behaviour_t behaviour (const std::string &name)
    {
        using majordomo::message;
        if (name == "echo")
            return [] (const message &request, const in_hand &) { return request.clone (); };
        if (name == "reverse")
            return [] (const message &request, const in_hand &) {
                message reversed;
                for (std::string_view frame : request)
                    reversed.push_front (frame);
                return reversed;
            };
        if (name == "name")
            return [this] (const message &, const in_hand &) { return message (command_.text ("worker")); };
        if (name == "stream")
            return [] (const message &request, const in_hand &hand) {
                for (std::string_view frame : request)
                    hand.partial (with_properties_of (request, frame));
                return with_properties_of (request, "END");
            };
        if (name == "fail")
            return [this] (const message &, const in_hand &) -> message {
                throw majordomo::service_failure (static_cast<std::uint32_t> (command_.number ("code", 0)),
                                                  command_.text ("text"));
            };
        if (name == "raise")
            return [this] (const message &, const in_hand &) -> message { throw std::runtime_error (command_.text ("text")); };
        if (name == "hold")
            return [this] (const message &request, const in_hand &) {
                event ("holding").field ("worker", command_.text ("worker")).field ("handled", handled_).send ();
                std::unique_lock<std::mutex> lock (lock_);
                changed_.wait (lock, [this] { return released_; });
                return request.clone ();
            };
        if (name == "spin")
            return [this] (const message &request, const in_hand &) {
                const auto end = std::chrono::steady_clock::now () + std::chrono::milliseconds (command_.number ("spin_ms", 0));
                while (std::chrono::steady_clock::now () < end) {
                }
                return request.clone ();
            };
        if (name == "describe")
            return [] (const message &request, const in_hand &hand) { return described (request, hand); };
        if (name == "wait_cancel")
            return [this] (const message &request, const in_hand &hand) { return wait_cancel (request, hand); };
        if (name == "retry")
            return [this] (const message &request, const in_hand &hand) {
                if (hand.attempt () < command_.number ("succeed_at", 2))
                    throw majordomo::service_failure (503, "not yet", true);
                return request.clone ();
            };
        if (name == "witness")
            return [this] (const message &request, const in_hand &hand) {
                const long number = std::stol (std::string (request[0]));
                event ("running").field ("worker", command_.text ("worker")).field ("request", number).send ();
                if (hand.attempt () == 1)
                    std::this_thread::sleep_for (std::chrono::milliseconds (command_.number ("pause_ms", 0)));
                return request.clone ();
            };
        throw bad_command ("unknown behaviour " + name);
    }

    static majordomo::message described (const majordomo::message &request, const in_hand &hand)
    {
        const auto remaining = hand.remaining ().value_or (majordomo::milliseconds (-1));
        return with_properties_of (request, "{\"attempt\":" + std::to_string (hand.attempt ()) + ",\"remaining_ms\":"
                                                + std::to_string (remaining.count ())
                                                + ",\"properties\":" + body::flat (request) + '}');
    }

    static majordomo::message with_properties_of (const majordomo::message &request, std::string_view frame)
    {
        majordomo::message answer (frame);
        for (const auto &[name, value] : request.properties ())
            answer.set_property (name, value);
        return answer;
    }

    majordomo::message wait_cancel (const majordomo::message &request, const in_hand &hand)
    {
        if (command_.number ("part_first", 0))
            hand.partial (request.clone ());
        event ("holding").field ("worker", command_.text ("worker")).field ("handled", handled_).send ();
        std::unique_lock<std::mutex> lock (lock_);
        // It is released when the agent ends.
        while (!hand.cancelled () && !released_)
            changed_.wait_for (lock, std::chrono::milliseconds (5));
        lock.unlock ();
        if (hand.cancelled ())
            event ("cancelled").field ("worker", command_.text ("worker")).send ();
        return majordomo::message ("cancelled");
    }

    void serve (std::size_t index)
    {
        try {
            if (async_)
                serve_async ();
            else {
                majordomo::worker &worker = *blocking_[index];
                worker.serve ([&] (const majordomo::message &request) {
                    ++handled_;
                    return behave_ (request, in_hand_of (worker));
                });
            }
        } catch (const majordomo::error &failure) {
            event ("worker_ended")
                .field ("worker", command_.text ("worker"))
                .field ("kind", failure.kind ())
                .field ("number", failure.number ())
                .field ("text", failure.what ())
                .send ();
        }
    }

    void serve_async ()
    {
        while (std::optional<majordomo::request> request = async_->recv ()) {
            ++handled_;
            try {
                request->reply (behave_ (request->body (), in_hand_of (*request)));
            } catch (const majordomo::service_failure &failure) {
                request->fail (failure.code (), failure.what (), failure.retryable ());
            } catch (const std::exception &failure) {
                request->fail (500, failure.what ());
            }
        }
    }

    command command_;
    behaviour_t behave_;
    std::optional<majordomo::async_worker> async_;
    std::vector<std::unique_ptr<majordomo::worker>> blocking_;
    std::vector<std::thread> threads_;
    std::atomic<long> handled_ {0};
    std::mutex lock_;
    std::condition_variable changed_;
    bool released_ = false;
};

#endif
