// The conformance agent of C++: lines of JSON become calls of majordomo.hpp, and outcomes become lines (AGENT.md).
#include "client.hpp"
#include "worker.hpp"

#include <chrono>
#include <functional>
#include <future>
#include <list>
#include <map>
#include <memory>
#include <set>

namespace {

/// Things that a test has given a name.
template <typename T> class named {
public:
    void add (const std::string &name, std::shared_ptr<T> thing)
    {
        const std::lock_guard<std::mutex> lock (lock_);
        things_[name] = std::move (thing);
    }
    std::shared_ptr<T> find (const std::string &name)
    {
        const std::lock_guard<std::mutex> lock (lock_);
        const auto found = things_.find (name);
        if (found == things_.end ())
            throw bad_command ("there is no " + name);
        return found->second;
    }
    std::shared_ptr<T> remove (const std::string &name)
    {
        auto thing = find (name);
        const std::lock_guard<std::mutex> lock (lock_);
        things_.erase (name);
        return thing;
    }
    std::map<std::string, std::shared_ptr<T>> all ()
    {
        const std::lock_guard<std::mutex> lock (lock_);
        return things_;
    }
    void clear ()
    {
        const std::lock_guard<std::mutex> lock (lock_);
        things_.clear ();
    }

private:
    std::mutex lock_;
    std::map<std::string, std::shared_ptr<T>> things_;
};

class agent {
public:
    /// One line; whether it was not `quit`.
    bool obey (const std::string &line)
    {
        long id = -1;
        try {
            const command order (line);
            id = order.id ();
            const std::string name = order.text ("cmd");
            if (name == "quit") {
                close ();
                ok (order).send ();
                return false;
            }
            const auto entry = entries_.find (name);
            if (entry == entries_.end ())
                throw bad_command ("unknown command " + name);
            if (name == "request" || name == "stream")
                clients_.find (order.text ("client"))->expect (id);
            if (entry->second.beside)
                begin ([run = entry->second.run, order] { attempt (run, order); });
            else
                attempt (entry->second.run, order);
        } catch (const std::exception &failure) {
            event ("failed", id).field ("text", failure.what ()).send ();
        }
        return true;
    }

    /// Releases what is held, stops and closes everything, and waits for the commands that still run.
    void close ()
    {
        for (const auto &[name, worker] : workers_.all ())
            worker->release ();
        for (const auto &[name, worker] : workers_.all ())
            if (is_mine_to_stop (name))
                worker->stop ();
        for (const auto &[name, client] : clients_.all ())
            client->close ();
        running_.clear ();
        workers_.clear ();
        clients_.clear ();
        brokers_.clear ();
    }

private:
    using action = std::function<void (const command &)>;
    struct entry {
        action run;
        /// On a thread of its own, beside the reading of further commands.
        bool beside;
    };

    /// Runs a command on a thread of its own, and joins the threads of those that are done: each would keep its stack.
    void begin (std::function<void ()> run)
    {
        running_.remove_if ([] (const std::future<void> &done) {
            return done.wait_for (std::chrono::seconds (0)) == std::future_status::ready;
        });
        running_.push_back (std::async (std::launch::async, std::move (run)));
    }

    void cancel (const command &order)
    {
        bool found = false;
        for (const auto &[name, client] : clients_.all ())
            found = found || client->cancel (order.number ("request", 0));
        if (!found)
            throw bad_command ("unsupported");
        ok (order).send ();
    }

    static event ok (const command &order) { return event ("ok", order.id ()); }

    static void attempt (const action &run, const command &order)
    {
        try {
            run (order);
        } catch (const majordomo::error &failure) {
            send_error (order.id (), failure);
        } catch (const std::exception &failure) {
            event ("failed", order.id ()).field ("text", failure.what ()).send ();
        }
    }

    void stop_worker (const command &order)
    {
        const std::string name = order.text ("worker");
        const auto worker = workers_.find (name);
        worker->stop ();
        workers_.remove (name);
        {
            const std::lock_guard<std::mutex> lock (stopping_lock_);
            stopping_.erase (name);
        }
        ok (order).field ("handled", worker->handled ()).send ();
    }

    bool is_mine_to_stop (const std::string &name)
    {
        const std::lock_guard<std::mutex> lock (stopping_lock_);
        return stopping_.insert (name).second;
    }

    void begin_stop (const std::string &name)
    {
        workers_.find (name);
        if (!is_mine_to_stop (name))
            throw bad_command (name + " is being stopped already");
    }

    const std::map<std::string, entry> entries_ = {
        {"ping", {[] (const command &order) { ok (order).send (); }, false}},
        {"open_client", {[this] (const command &order) {
             clients_.add (order.text ("client"), open_client (order));
             ok (order).send ();
         }, false}},
        {"request", {[this] (const command &order) { clients_.find (order.text ("client"))->request (order); }, true}},
        {"stream", {[this] (const command &order) { clients_.find (order.text ("client"))->stream (order); }, true}},
        {"cancel", {[this] (const command &order) { cancel (order); }, false}},
        {"request_many", {[this] (const command &order) {
             clients_.find (order.text ("client"))->request_many (order);
         }, true}},
        {"close_client", {[this] (const command &order) {
             clients_.remove (order.text ("client"))->close ();
             ok (order).send ();
         }, true}},
        {"start_worker", {[this] (const command &order) {
             workers_.add (order.text ("worker"), std::make_shared<any_worker> (order));
             ok (order).send ();
         }, false}},
        {"release", {[this] (const command &order) {
             workers_.find (order.text ("worker"))->release ();
             ok (order).send ();
         }, false}},
        {"worker_stats", {[this] (const command &order) {
             ok (order).field ("handled", workers_.find (order.text ("worker"))->handled ()).send ();
         }, false}},
        {"stop_worker", {[this] (const command &order) {
             begin_stop (order.text ("worker"));
             begin ([this, order] { attempt ([this] (const command &it) { stop_worker (it); }, order); });
         }, false}},
        {"start_broker", {[this] (const command &order) {
             auto broker = std::make_shared<majordomo::broker> (order.text ("bind"));
             brokers_.add (order.text ("broker"), broker);
             ok (order).field ("endpoint", broker->endpoint ()).send ();
         }, false}},
        {"stop_broker", {[this] (const command &order) {
             brokers_.remove (order.text ("broker"))->stop ();
             ok (order).send ();
         }, false}},
    };
    named<any_client> clients_;
    named<any_worker> workers_;
    named<majordomo::broker> brokers_;
    std::mutex stopping_lock_;
    std::set<std::string> stopping_;
    /// Commands that still run; dropped, each is waited for.
    std::list<std::future<void>> running_;
};

} // namespace

int main ()
{
    event ("hello").field ("language", "cpp").field ("agent", 1).send ();
    agent agent;
    std::string line;
    bool more = true;
    while (more && std::getline (std::cin, line))
        more = agent.obey (line);
    if (more)
        agent.close ();
}
