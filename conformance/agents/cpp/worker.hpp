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
            thread.join ();
    }

private:
    using part = std::function<void (majordomo::message)>;
    /// Gives the reply; what comes before goes to `part`.
    using behaviour_t = std::function<majordomo::message (const majordomo::message &, const part &)>;

    behaviour_t behaviour (const std::string &name)
    {
        using majordomo::message;
        if (name == "echo")
            return [] (const message &request, const part &) { return request.clone (); };
        if (name == "reverse")
            return [] (const message &request, const part &) {
                message reversed;
                for (std::string_view frame : request)
                    reversed.push_front (frame);
                return reversed;
            };
        if (name == "name")
            return [this] (const message &, const part &) { return message (command_.text ("worker")); };
        if (name == "stream")
            return [] (const message &request, const part &partial) {
                for (std::string_view frame : request)
                    partial (frame);
                return message ("END");
            };
        if (name == "fail")
            return [this] (const message &, const part &) -> message {
                throw majordomo::service_failure (static_cast<std::uint32_t> (command_.number ("code", 0)),
                                                  command_.text ("text"));
            };
        if (name == "raise")
            return [this] (const message &, const part &) -> message { throw std::runtime_error (command_.text ("text")); };
        if (name == "hold")
            return [this] (const message &request, const part &) {
                event ("holding").field ("worker", command_.text ("worker")).field ("handled", handled_).send ();
                std::unique_lock<std::mutex> lock (lock_);
                changed_.wait (lock, [this] { return released_; });
                return request.clone ();
            };
        if (name == "spin")
            return [this] (const message &request, const part &) {
                const auto end = std::chrono::steady_clock::now () + std::chrono::milliseconds (command_.number ("spin_ms", 0));
                while (std::chrono::steady_clock::now () < end) {
                }
                return request.clone ();
            };
        throw bad_command ("unknown behaviour " + name);
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
                    return behave_ (request, [&] (majordomo::message part) { worker.partial (std::move (part)); });
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
                request->reply (behave_ (request->body (),
                                         [&] (majordomo::message part) { request->partial (std::move (part)); }));
            } catch (const majordomo::service_failure &failure) {
                request->fail (failure.code (), failure.what ());
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
