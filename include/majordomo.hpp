/*
 * majordomo.hpp: the C++ face of Majordomo. C++17, header-only over majordomo.h.
 *
 *     majordomo::client client ("tcp://127.0.0.1:5555");
 *     majordomo::message reply = client.request ("echo", "hello");
 *     std::cout << reply[0] << '\n';
 *
 *     majordomo::worker worker ("tcp://127.0.0.1:5555", "echo");
 *     worker.serve ([] (majordomo::message request) { return request; });
 *
 * Everything that owns something can be moved and not copied, and lets go of it in its destructor. A failure is thrown as
 * majordomo::error, whose number and kind are those of every language; a destructor throws nothing. What is moved from may
 * only be assigned to or destroyed: anything else throws MD_EINVAL. Threads and signals: as majordomo.h says of the C
 * function below.
 */
#ifndef MAJORDOMO_HPP
#define MAJORDOMO_HPP

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "majordomo.h"

namespace majordomo {

using std::chrono::milliseconds;

/// A failure of the library: one of the kinds MD_E... in majordomo.h.
class error : public std::runtime_error {
public:
    error (int number, const std::string &what, std::uint32_t service_code = 0, std::string text = {},
           bool service_retryable = false)
        : std::runtime_error (what), number_ (number), service_code_ (service_code), text_ (std::move (text)),
          service_retryable_ (service_retryable)
    {
    }

    /// The number, for example MD_ETIMEOUT.
    int number () const noexcept { return number_; }
    /// The kind's name, for example "Timeout"; the same in every language.
    std::string_view kind () const noexcept { return md_kind (number_); }
    /// The name of the number's constant, for example "MD_ETIMEOUT".
    std::string_view code () const noexcept { return md_code (number_); }
    /// Whether the same request may succeed when it is sent again; for MD_ESERVICE what the service's handler said.
    bool retryable () const noexcept
    {
        return number_ == MD_ESERVICE ? service_retryable_ : md_retryable (number_) == 1;
    }
    /// For MD_ESERVICE: the number that the service's handler gave; else 0.
    std::uint32_t service_code () const noexcept { return service_code_; }
    /// For MD_ESERVICE: the text that the service's handler gave; else empty.
    const std::string &text () const noexcept { return text_; }

private:
    int number_;
    std::uint32_t service_code_;
    std::string text_;
    bool service_retryable_;
};

/// Thrown by a handler to answer a request with a failure of its own code and text. Where it is retryable, another worker
/// gets the request while it has attempts left (MDPX only).
class service_failure : public std::runtime_error {
public:
    /// A failure with the service's own code and text.
    service_failure (std::uint32_t code, const std::string &text, bool retryable = false)
        : std::runtime_error (text), code_ (code), retryable_ (retryable)
    {
    }
    /// The service's own number.
    std::uint32_t code () const noexcept { return code_; }
    /// Whether another attempt may succeed.
    bool retryable () const noexcept { return retryable_; }

private:
    std::uint32_t code_;
    bool retryable_;
};

/// Well-known names of properties.
namespace property {
/// A key of the application's: workers that keep outcomes run no request of the same key again.
inline constexpr std::string_view idempotency_key = MD_PROPERTY_IDEMPOTENCY_KEY;
/// The media type of the body.
inline constexpr std::string_view content_type = MD_PROPERTY_CONTENT_TYPE;
/// The W3C trace context.
inline constexpr std::string_view traceparent = MD_PROPERTY_TRACEPARENT;
} // namespace property

/// What happened to a connection. The texts live until the function that is told has returned.
struct connection_event {
    /// "connected", "disconnected", "reconnecting" or, of workers only, "draining".
    std::string_view name;
    /// The broker's endpoint; empty for "draining".
    std::string_view endpoint;
    /// For "connected" what is spoken: "0.1", "0.2" or "x1"; else empty.
    std::string_view protocol;
    /// For "disconnected" why; else empty.
    std::string_view reason;
};

/// Is told what happens to a connection; threads as md_event_handler_t says. It must return soon and call nothing of its
/// client or worker; what it throws is dropped.
using event_handler = std::function<void (const connection_event &)>;

namespace detail {

/// This thread's last failure as an exception.
inline error last_error ()
{
    return error (md_errno (), md_errtext (), md_service_code (), md_service_text (), md_service_retryable () == 1);
}

inline void check (int result)
{
    if (result == -1)
        throw last_error ();
}

template <typename T> T *check (T *result)
{
    if (!result)
        throw last_error ();
    return result;
}

/// A C string of `text`. One with a NUL inside would reach C shortened, so it is refused.
inline std::string c_string (std::string_view text)
{
    if (text.find ('\0') != std::string_view::npos)
        throw error (MD_EINVAL, "a text has a NUL inside");
    return std::string (text);
}

/// Whole milliseconds as C takes them; what is out of range is MD_EINVAL there.
inline int to_ms (milliseconds duration)
{
    constexpr milliseconds::rep most = std::numeric_limits<int>::max ();
    return static_cast<int> (duration.count () < -1 ? -2 : duration.count () > most ? most : duration.count ());
}

/// -1, C's "for ever", is not a duration that anybody means.
inline int to_wait (milliseconds duration)
{
    return duration.count () < 0 ? 0 : to_ms (duration);
}

/// Sole owner of a C handle.
template <typename T, void (*Destroy) (T **)> class handle {
public:
    explicit handle (T *self = nullptr) noexcept : self_ (self) {}
    handle (handle &&other) noexcept : self_ (std::exchange (other.self_, nullptr)) {}
    handle &operator= (handle &&other) noexcept
    {
        std::swap (self_, other.self_);
        return *this;
    }
    handle (const handle &) = delete;
    handle &operator= (const handle &) = delete;
    ~handle ()
    {
        if (self_)
            Destroy (&self_);
    }

    /// The C handle; still owned here.
    T *native () const noexcept { return self_; }
    /// Where the C handle is, for a C function that takes it.
    T **slot () noexcept { return &self_; }
    /// Gives the C handle to the caller.
    T *release () noexcept { return std::exchange (self_, nullptr); }

private:
    T *self_;
};

/// Keeps the function that is told of events, at one place for as long as the C handle: a base in front of it.
class listening {
protected:
    listening () = default;
    listening (listening &&other) noexcept = default;
    listening &operator= (listening &&other) noexcept
    {
        std::swap (handler_, other.handler_);
        return *this;
    }
    ~listening () = default;

    template <typename T>
    void listen (T *native, int (*set) (T *, md_event_handler_t, void *), const event_handler &handler)
    {
        if (!handler)
            return;
        handler_ = std::make_unique<event_handler> (handler);
        check (set (native, tell, handler_.get ()));
    }

private:
    static void tell (const char *name, const char *endpoint, const char *detail, void *arg) noexcept
    {
        connection_event event {name, endpoint, {}, {}};
        (event.name == "connected" ? event.protocol : event.reason) = detail;
        try {
            (*static_cast<event_handler *> (arg)) (event);
        } catch (...) {
        }
    }

    std::unique_ptr<event_handler> handler_;
};

struct free_text {
    void operator() (char *text) const noexcept { std::free (text); }
};

} // namespace detail

/// An ordered list of byte frames: the body of a request or of a reply. Frames are read in place, as views that live as
/// long as their frame.
class message : public detail::handle<mdmsg_t, mdmsg_destroy> {
public:
    /// A message without frames.
    message () : handle (detail::check (mdmsg_new ())) {}
    /// A message of one frame.
    message (std::string_view frame) : handle (detail::check (mdmsg_new_mem (frame.data (), frame.size ()))) {}
    message (const char *frame) : message (std::string_view (frame)) {}
    message (const std::string &frame) : message (std::string_view (frame)) {}
    /// A message of these frames.
    message (std::initializer_list<std::string_view> frames) : message ()
    {
        for (std::string_view frame : frames)
            push_back (frame);
    }
    explicit message (const std::vector<std::string> &frames) : message ()
    {
        for (const std::string &frame : frames)
            push_back (frame);
    }
    /// Takes ownership of a C message.
    explicit message (mdmsg_t *native) noexcept : handle (native) {}

    /// Adds a copy of `frame` at the end.
    void push_back (std::string_view frame) { detail::check (mdmsg_addmem (native (), frame.data (), frame.size ())); }
    /// Adds a copy of `frame` at the front.
    void push_front (std::string_view frame) { detail::check (mdmsg_pushmem (native (), frame.data (), frame.size ())); }

    /// The number of frames.
    std::size_t size () const noexcept { return mdmsg_size (native ()); }
    bool empty () const noexcept { return size () == 0; }
    /// The length of all frames together in bytes.
    std::size_t byte_size () const noexcept { return mdmsg_content_size (native ()); }

    /// The bytes of the frame at `index`; past the last one MD_EINVAL.
    std::string_view operator[] (std::size_t index) const
    {
        const void *data = nullptr;
        std::size_t size = 0;
        detail::check (mdmsg_frame (native (), index, &data, &size));
        return {static_cast<const char *> (data), size};
    }

    /// A copy of all frames.
    std::vector<std::string> frames () const
    {
        std::vector<std::string> all;
        all.reserve (size ());
        for (std::string_view frame : *this)
            all.emplace_back (frame);
        return all;
    }

    /// Sets a property, in the place of one of the same name. A name is 1 to 255 bytes of text without control characters,
    /// a value at most 65535 bytes, and all of them take at most 60 KiB; else MD_EINVAL. MDPX only.
    void set_property (std::string_view name, std::string_view value)
    {
        detail::check (mdmsg_set_property (native (), detail::c_string (name).c_str (), value.data (), value.size ()));
    }

    /// The value of the property of this name, if there is one. Valid until a property is set.
    std::optional<std::string_view> property (std::string_view name) const
    {
        const void *data = nullptr;
        std::size_t size = 0;
        const int found = mdmsg_property (native (), detail::c_string (name).c_str (), &data, &size);
        detail::check (found);
        if (found == 0)
            return std::nullopt;
        return std::string_view (static_cast<const char *> (data), size);
    }

    /// Names and values in order. Valid until a property is set.
    std::vector<std::pair<std::string_view, std::string_view>> properties () const
    {
        std::vector<std::pair<std::string_view, std::string_view>> all (mdmsg_properties (native ()));
        for (std::size_t index = 0; index < all.size (); ++index) {
            const char *name = nullptr;
            const void *data = nullptr;
            std::size_t size = 0;
            detail::check (mdmsg_property_at (native (), index, &name, &data, &size));
            all[index] = {name, {static_cast<const char *> (data), size}};
        }
        return all;
    }

    /// A second message with the same frames and properties; their bytes are shared.
    message clone () const { return message (detail::check (mdmsg_dup (native ()))); }

    friend bool operator== (const message &left, const message &right)
    {
        const int equal = mdmsg_eq (left.native (), right.native ());
        detail::check (equal);
        return equal == 1;
    }
    friend bool operator!= (const message &left, const message &right) { return !(left == right); }

    class const_iterator {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = std::string_view;
        using difference_type = std::ptrdiff_t;
        using pointer = const std::string_view *;
        using reference = std::string_view;

        const_iterator (const message *owner, std::size_t index) noexcept : owner_ (owner), index_ (index) {}
        std::string_view operator* () const { return (*owner_)[index_]; }
        const_iterator &operator++ () noexcept
        {
            ++index_;
            return *this;
        }
        const_iterator operator++ (int) noexcept { return {owner_, index_++}; }
        bool operator== (const const_iterator &other) const noexcept { return index_ == other.index_; }
        bool operator!= (const const_iterator &other) const noexcept { return index_ != other.index_; }

    private:
        const message *owner_;
        std::size_t index_;
    };
    const_iterator begin () const noexcept { return {this, 0}; }
    const_iterator end () const noexcept { return {this, size ()}; }
};

/// Options of one request; what is not set is its client's.
struct request_options {
    /// How long one attempt may take, at least 1 ms.
    std::optional<milliseconds> timeout;
    /// How often the request is sent at most, the first time included.
    std::optional<int> retries;
    /// How long the whole request may take; 0 is timeout times retries.
    std::optional<milliseconds> deadline;
    /// How often the request is handed to a worker at most; 0 leaves it to the broker. One of one attempt never runs twice.
    std::optional<int> max_attempts;
    /// Whether the request fails with MD_ENOWORKER at once where its service has no worker. MDPX only.
    std::optional<bool> fail_fast;
};

namespace detail {

/// The same for C; NULL where nothing is set.
class chosen : public handle<mdopt_t, mdopt_destroy> {
public:
    explicit chosen (const request_options &options)
    {
        set (mdopt_set_timeout, options.timeout);
        set (mdopt_set_retries, options.retries);
        set (mdopt_set_deadline, options.deadline);
        set (mdopt_set_max_attempts, options.max_attempts);
        set (mdopt_set_fail_fast, options.fail_fast);
    }

private:
    template <typename T> void set (int (*setter) (mdopt_t *, int), const std::optional<T> &option)
    {
        if (!option)
            return;
        if (!native ())
            *slot () = check (mdopt_new ());
        if constexpr (std::is_same_v<T, milliseconds>)
            check (setter (native (), to_ms (*option)));
        else
            check (setter (native (), *option));
    }
};

} // namespace detail

/// Options of a client; what is not set has the library's default (the options table in README).
struct client_options {
    std::optional<milliseconds> timeout;
    std::optional<int> retries;
    std::optional<milliseconds> deadline;
    std::optional<std::string> protocol;
    std::optional<std::size_t> max_message_bytes;
    /// First and longest pause before a broken connection is made again.
    std::optional<std::pair<milliseconds, milliseconds>> reconnect;
    /// 0 leaves it to the broker.
    std::optional<int> max_attempts;
    std::optional<bool> fail_fast;
    /// Is told what happens to the connection.
    event_handler on_event;
    /// Of an async_client only: how many requests are with the broker at once.
    std::optional<std::size_t> max_in_flight;
    /// Of an async_client only: how many further ones wait their turn; one more fails with MD_EQUEUEFULL.
    std::optional<std::size_t> max_waiting;
    /// Log to standard error.
    bool verbose = false;
};

/// A blocking client.
class client : private detail::listening, public detail::handle<mdcli_t, mdcli_destroy> {
public:
    /// A client of the broker at `endpoints`, several separated by commas. Connects with its first request.
    explicit client (std::string_view endpoints, const client_options &options = {})
        : handle (detail::check (mdcli_new (detail::c_string (endpoints).c_str (), options.verbose)))
    {
        if (options.timeout)
            set_timeout (*options.timeout);
        if (options.retries)
            set_retries (*options.retries);
        if (options.deadline)
            set_deadline (*options.deadline);
        if (options.protocol)
            detail::check (mdcli_set_protocol (native (), detail::c_string (*options.protocol).c_str ()));
        if (options.max_message_bytes)
            detail::check (mdcli_set_max_message_bytes (native (), *options.max_message_bytes));
        if (options.reconnect)
            detail::check (mdcli_set_reconnect (native (), detail::to_ms (options.reconnect->first),
                                                detail::to_ms (options.reconnect->second)));
        if (options.max_attempts)
            set_max_attempts (*options.max_attempts);
        if (options.fail_fast)
            set_fail_fast (*options.fail_fast);
        listen (native (), mdcli_set_event_handler, options.on_event);
    }

    /// How long one attempt may take, at least 1 ms; else MD_EINVAL, as with all of these. For later requests.
    void set_timeout (milliseconds timeout) { detail::check (mdcli_set_timeout (native (), detail::to_ms (timeout))); }
    /// How often a request is sent at most, the first time included.
    void set_retries (int retries) { detail::check (mdcli_set_retries (native (), retries)); }
    /// How long a whole request may take; 0 is timeout times retries.
    void set_deadline (milliseconds deadline) { detail::check (mdcli_set_deadline (native (), detail::to_ms (deadline))); }
    /// How often a request is handed to a worker at most; 0 leaves it to the broker.
    void set_max_attempts (int attempts) { detail::check (mdcli_set_max_attempts (native (), attempts)); }
    /// Whether a request fails with MD_ENOWORKER at once where its service has no worker. MDPX only.
    void set_fail_fast (bool fail_fast) { detail::check (mdcli_set_fail_fast (native (), fail_fast)); }

    /// Sends `body` to `service` and waits for the reply. Throws MD_ETIMEOUT when none came in time, MD_ESERVICE when the
    /// handler failed, MD_EUNREACHABLE without a broker, MD_ECANCELLED for a signal, or what else mdcli_send fails with.
    message request (std::string_view service, message body, const request_options &options = {})
    {
        const detail::chosen chosen (options);
        const std::string name = detail::c_string (service);
        return message (detail::check (mdcli_send_with (native (), name.c_str (), body.slot (), chosen.native ())));
    }

    /// The parts of a streamed answer, in order; the final one is the last. Lives no longer than its client. What is left
    /// of it is given up in its destructor (over MDPX the broker and the handler are told at once), and by the client's next
    /// request.
    class parts {
    public:
        parts (parts &&other) noexcept = default;
        parts (const parts &) = delete;
        parts &operator= (parts other) noexcept
        {
            std::swap (reading_, other.reading_);
            return *this;
        }
        ~parts ()
        {
            if (reading_ && *reading_)
                mdcli_cancel (*reading_);
        }

        /// Waits for the next part; nothing behind the last. Throws why the stream failed, which ends it; MD_EINVAL once it
        /// has been given up.
        std::optional<message> next ()
        {
            mdcli_t *client = reading_ ? *reading_ : nullptr;
            if (!client)
                throw error (MD_EINVAL, "this stream has been given up");
            if (mdmsg_t *part = mdcli_next (client))
                return message (part);
            if (mdcli_errno (client) != MD_OK)
                throw detail::last_error ();
            return std::nullopt;
        }

        class iterator {
        public:
            using iterator_category = std::input_iterator_tag;
            using value_type = message;
            using difference_type = std::ptrdiff_t;
            using pointer = message *;
            using reference = message &;

            explicit iterator (parts *source = nullptr) : source_ (source) { step (); }
            message &operator* () noexcept { return *current_; }
            message *operator-> () noexcept { return &*current_; }
            iterator &operator++ ()
            {
                step ();
                return *this;
            }
            bool operator== (const iterator &other) const noexcept { return source_ == other.source_; }
            bool operator!= (const iterator &other) const noexcept { return source_ != other.source_; }

        private:
            void step ()
            {
                current_ = source_ ? source_->next () : std::nullopt;
                if (!current_)
                    source_ = nullptr;
            }
            parts *source_;
            std::optional<message> current_;
        };
        iterator begin () { return iterator (this); }
        iterator end () { return iterator (); }

    private:
        friend class client;
        explicit parts (std::shared_ptr<mdcli_t *> reading) noexcept : reading_ (std::move (reading)) {}
        /// The client as long as its stream is this one; NULL once it has another.
        std::shared_ptr<mdcli_t *> reading_;
    };

    /// Sends `body` to a service whose answer comes in parts (MDPX or 0.2). Throws as request.
    parts stream (std::string_view service, message body, const request_options &options = {})
    {
        const detail::chosen chosen (options);
        const std::string name = detail::c_string (service);
        auto reading = std::make_shared<mdcli_t *> (native ());
        detail::check (mdcli_stream_with (native (), name.c_str (), body.slot (), chosen.native ()));
        if (reading_)
            *reading_ = nullptr;
        reading_ = reading;
        return parts (std::move (reading));
    }

private:
    /// What the parts of the last stream have.
    std::shared_ptr<mdcli_t *> reading_;
};

/// A client with many requests in flight at once. Any number of threads may use it.
class async_client : private detail::listening, public detail::handle<mdcli_async_t, mdcli_async_destroy> {
public:
    /// How a request, or a part of its answer, came out.
    struct outcome {
        /// What send or stream returned.
        std::int64_t ticket;
        /// The reply, or the part; without frames if the request failed.
        message reply;
        /// Why the request failed, if it did.
        std::optional<error> failure;
        /// Whether further parts of the same answer follow.
        bool more;

        /// The reply; throws the failure if there is one.
        message &value ()
        {
            if (failure)
                throw *failure;
            return reply;
        }
    };

    /// A client of the broker at `endpoints`, several separated by commas. Connects with its first request.
    explicit async_client (std::string_view endpoints, const client_options &options = {})
        : handle (detail::check (mdcli_async_new (detail::c_string (endpoints).c_str (), options.verbose)))
    {
        if (options.timeout)
            set_timeout (*options.timeout);
        if (options.retries)
            set_retries (*options.retries);
        if (options.deadline)
            set_deadline (*options.deadline);
        if (options.protocol)
            detail::check (mdcli_async_set_protocol (native (), detail::c_string (*options.protocol).c_str ()));
        if (options.max_message_bytes)
            detail::check (mdcli_async_set_max_message_bytes (native (), *options.max_message_bytes));
        if (options.reconnect)
            detail::check (mdcli_async_set_reconnect (native (), detail::to_ms (options.reconnect->first),
                                                      detail::to_ms (options.reconnect->second)));
        if (options.max_in_flight)
            detail::check (mdcli_async_set_max_in_flight (native (), *options.max_in_flight));
        if (options.max_waiting)
            detail::check (mdcli_async_set_max_waiting (native (), *options.max_waiting));
        if (options.max_attempts)
            set_max_attempts (*options.max_attempts);
        if (options.fail_fast)
            set_fail_fast (*options.fail_fast);
        listen (native (), mdcli_async_set_event_handler, options.on_event);
    }

    /// How long one attempt may take, at least 1 ms; else MD_EINVAL, as with all of these. For later requests.
    void set_timeout (milliseconds timeout)
    {
        detail::check (mdcli_async_set_timeout (native (), detail::to_ms (timeout)));
    }
    /// How often a request is sent at most, the first time included.
    void set_retries (int retries) { detail::check (mdcli_async_set_retries (native (), retries)); }
    /// How long a whole request may take; 0 is timeout times retries.
    void set_deadline (milliseconds deadline)
    {
        detail::check (mdcli_async_set_deadline (native (), detail::to_ms (deadline)));
    }
    /// How often a request is handed to a worker at most; 0 leaves it to the broker.
    void set_max_attempts (int attempts) { detail::check (mdcli_async_set_max_attempts (native (), attempts)); }
    /// Whether a request fails with MD_ENOWORKER at once where its service has no worker. MDPX only.
    void set_fail_fast (bool fail_fast) { detail::check (mdcli_async_set_fail_fast (native (), fail_fast)); }

    /// Sends `body` to `service` and returns the request's ticket at once. What fails then is the ticket's outcome:
    /// MD_EQUEUEFULL, for example, when max_in_flight and max_waiting are reached.
    std::int64_t send (std::string_view service, message body, const request_options &options = {})
    {
        const detail::chosen chosen (options);
        const std::string name = detail::c_string (service);
        return ticket (mdcli_async_send_with (native (), name.c_str (), body.slot (), chosen.native ()));
    }

    /// The same for a service whose answer comes in parts (MDPX or 0.2): each part is an outcome of its own.
    std::int64_t stream (std::string_view service, message body, const request_options &options = {})
    {
        const detail::chosen chosen (options);
        const std::string name = detail::c_string (service);
        return ticket (mdcli_async_stream_with (native (), name.c_str (), body.slot (), chosen.native ()));
    }

    /// Waits for the next outcome of any request. MD_EINVAL if none is outstanding.
    outcome recv ()
    {
        std::optional<outcome> next = receive (-1);
        if (!next)
            throw detail::last_error ();
        return std::move (*next);
    }

    /// The same for at most `wait`; nothing if no outcome came in that time.
    std::optional<outcome> recv_for (milliseconds wait) { return receive (detail::to_wait (wait)); }

    /// Gives up a request: its outcome is MD_ECANCELLED, unless it has one already; over MDPX the broker and the handler
    /// are told. MD_EINVAL for what is no ticket of this client.
    void cancel (std::int64_t request) { detail::check (mdcli_async_cancel (native (), request)); }
    /// How many requests have no outcome received yet.
    std::size_t outstanding () const noexcept { return mdcli_async_outstanding (native ()); }
    /// A descriptor for poll() that is readable while outcomes wait.
    int fd () const
    {
        const int descriptor = mdcli_async_fd (native ());
        detail::check (descriptor);
        return descriptor;
    }

private:
    static std::int64_t ticket (std::int64_t result)
    {
        if (result == -1)
            throw detail::last_error ();
        return result;
    }

    std::optional<outcome> receive (int wait_ms)
    {
        std::int64_t request = 0;
        int more = 0;
        if (mdmsg_t *reply = mdcli_async_recv_part (native (), &request, &more, wait_ms))
            return outcome {request, message (reply), std::nullopt, more == 1};
        error failure = detail::last_error ();
        if (request != 0)
            return outcome {request, message (), std::move (failure), false};
        if (failure.number () == MD_ETIMEOUT)
            return std::nullopt;
        throw failure;
    }
};

/// Outcomes that a worker keeps, so that a repeat of a request is answered without another run.
struct kept_outcomes {
    /// How many at most.
    std::size_t count = 0;
    /// How many bytes they may take.
    std::size_t bytes = std::size_t {64} << 20;
    /// How long each is kept.
    milliseconds age = std::chrono::minutes (5);
};

/// Options of a worker; what is not set has the library's default (the options table in README).
struct worker_options {
    std::optional<milliseconds> heartbeat;
    std::optional<int> liveness;
    std::optional<milliseconds> reconnect;
    std::optional<std::string> protocol;
    std::optional<std::size_t> max_message_bytes;
    std::optional<milliseconds> drain_timeout;
    /// Of an async_worker only.
    std::optional<std::size_t> concurrency;
    /// How many further requests are held ready. MDPX only.
    std::optional<std::size_t> prefetch;
    /// How many outcomes are kept, to answer repeats of a request without another run. MDPX only.
    std::optional<kept_outcomes> keep_outcomes;
    /// Is told what happens to the connection.
    event_handler on_event;
    /// Log to standard error.
    bool verbose = false;
};

/// A blocking worker: one request at a time.
class worker : private detail::listening, public detail::handle<mdwrk_t, mdwrk_destroy> {
public:
    /// A worker for `service` at the broker at `endpoints`, several separated by commas. Registers at once.
    worker (std::string_view endpoints, std::string_view service, const worker_options &options = {})
        : handle (detail::check (mdwrk_new (detail::c_string (endpoints).c_str (),
                                            detail::c_string (service).c_str (), options.verbose)))
    {
        if (options.heartbeat)
            detail::check (mdwrk_set_heartbeat (native (), detail::to_ms (*options.heartbeat)));
        if (options.liveness)
            detail::check (mdwrk_set_liveness (native (), *options.liveness));
        if (options.reconnect)
            detail::check (mdwrk_set_reconnect (native (), detail::to_ms (*options.reconnect)));
        if (options.protocol)
            detail::check (mdwrk_set_protocol (native (), detail::c_string (*options.protocol).c_str ()));
        if (options.max_message_bytes)
            detail::check (mdwrk_set_max_message_bytes (native (), *options.max_message_bytes));
        if (options.drain_timeout)
            detail::check (mdwrk_set_drain_timeout (native (), detail::to_ms (*options.drain_timeout)));
        if (options.prefetch)
            detail::check (mdwrk_set_prefetch (native (), *options.prefetch));
        if (options.keep_outcomes)
            detail::check (mdwrk_set_keep_outcomes (native (), options.keep_outcomes->count,
                                                    options.keep_outcomes->bytes, detail::to_ms (options.keep_outcomes->age)));
        listen (native (), mdwrk_set_event_handler, options.on_event);
        detail::check (mdwrk_start (native ()));
    }

    /// Waits for the next request; nothing once the worker is drained. The last one has to be answered before.
    std::optional<message> recv ()
    {
        std::optional<message> request = receive (-1);
        if (!request && mdwrk_errno (native ()) != MD_ECLOSED)
            throw detail::last_error ();
        return request;
    }

    /// The same for at most `wait`; nothing if no request came in that time, and MD_ECLOSED once the worker is drained.
    std::optional<message> recv_for (milliseconds wait)
    {
        std::optional<message> request = receive (detail::to_wait (wait));
        if (!request && mdwrk_errno (native ()) != MD_ETIMEOUT)
            throw detail::last_error ();
        return request;
    }

    /// Answers the request in hand. MD_EINVAL if there is none; MD_ETOOLARGE over the limit, and it is still in hand.
    void reply (message body) { detail::check (mdwrk_reply (native (), body.slot ())); }
    /// Sends a part of the answer to the request in hand. Throws as reply.
    void partial (message body) { detail::check (mdwrk_partial (native (), body.slot ())); }
    /// Answers the request in hand with a failure; where it is retryable, another worker gets the
    /// request while it has attempts left (MDPX only).
    void fail (std::uint32_t code, std::string_view text, bool retryable = false)
    {
        const auto give = retryable ? mdwrk_fail_retryable : mdwrk_fail;
        detail::check (give (native (), code, detail::c_string (text).c_str ()));
    }
    /// Which attempt at the request in hand this is, from 1; 1 with 0.1 and 0.2.
    int attempt () const
    {
        const int number = mdwrk_attempt (native ());
        detail::check (number);
        return number;
    }
    /// How long the client of the request in hand still waits; nothing where it has set no limit, and with 0.1 and 0.2.
    std::optional<milliseconds> remaining () const
    {
        // It tells of a request that cannot be asked: -1 has another meaning here.
        attempt ();
        const std::int64_t left = mdwrk_remaining (native ());
        return left == -1 ? std::nullopt : std::optional (milliseconds (left));
    }
    /// Whether nobody waits for the answer to the request in hand any more. It is still to be given. MDPX only.
    bool cancelled () const
    {
        const int result = mdwrk_cancelled (native ());
        detail::check (result);
        return result == 1;
    }
    /// No new request; recv gives nothing once the one in hand is answered. From any thread.
    void drain () { detail::check (mdwrk_drain (native ())); }

    /// Answers each request with what `handler (message &&)` returns, a message or something that makes one, until the
    /// worker is drained; the handler may keep the request, or take it as `const message &`. A service_failure that the
    /// handler throws answers with its code and text, any other exception with code 500 and its text.
    template <typename Handler> void serve (Handler &&handler)
    {
        const auto made = [] (message body) { return body; };
        std::optional<message> request = recv ();
        while (request) {
            std::uint32_t code = 500;
            std::string text;
            bool retryable = false;
            std::optional<message> answer;
            try {
                answer = made (handler (std::move (*request)));
            } catch (const service_failure &failure) {
                code = failure.code ();
                text = failure.what ();
                retryable = failure.retryable ();
            } catch (const std::exception &failure) {
                text = failure.what ();
            } catch (...) {
                text = "an exception of unknown type";
            }
            request.reset ();
            if (!answer)
                fail (code, text, retryable);
            request = answer ? reply_and_recv (*answer) : recv ();
        }
    }

private:
    /// Both in one call. An answer that cannot be given fails the request that it was for.
    std::optional<message> reply_and_recv (message &answer)
    {
        set_wait (-1);
        if (mdmsg_t *next = mdwrk_recv (native (), answer.slot ()))
            return message (next);
        const error failure = detail::last_error ();
        if (failure.number () == MD_ECLOSED)
            return std::nullopt;
        if (mdwrk_attempt (native ()) == -1)
            throw failure;
        fail (500, failure.what ());
        return recv ();
    }

    void set_wait (int wait_ms)
    {
        if (wait_ms != wait_ms_) {
            detail::check (mdwrk_set_recv_timeout (native (), wait_ms));
            wait_ms_ = wait_ms;
        }
    }

    std::optional<message> receive (int wait_ms)
    {
        set_wait (wait_ms);
        mdmsg_t *none = nullptr;
        if (mdmsg_t *request = mdwrk_recv (native (), &none))
            return message (request);
        return std::nullopt;
    }

    /// How long mdwrk_recv waits at present: for ever at first.
    int wait_ms_ = -1;
};

/// A request that an async_worker has in hand. Unanswered when it is destroyed, it fails for its client.
class request : public detail::handle<mdreq_t, mdreq_destroy> {
public:
    /// Takes ownership of a C request.
    explicit request (mdreq_t *native) noexcept : handle (native) {}

    /// The body; its bytes are shared, and it may outlive the request.
    message body () const { return message (detail::check (mdreq_body (native ()))); }
    /// The service that was asked for.
    std::string_view service () const { return detail::check (mdreq_service (native ())); }
    /// Answers. MD_EINVAL if it is answered already, MD_ETOOLARGE over the limit: it can still be answered then.
    void reply (message body) { detail::check (mdreq_reply (native (), body.slot ())); }
    /// Sends a part of the answer. Throws as reply.
    void partial (message body) { detail::check (mdreq_partial (native (), body.slot ())); }
    /// Answers with a failure; where it is retryable, another worker gets the request while it has attempts
    /// left (MDPX only).
    void fail (std::uint32_t code, std::string_view text, bool retryable = false)
    {
        const auto give = retryable ? mdreq_fail_retryable : mdreq_fail;
        detail::check (give (native (), code, detail::c_string (text).c_str ()));
    }
    /// Which attempt at the request this is, from 1; 1 with 0.1 and 0.2.
    int attempt () const
    {
        const int number = mdreq_attempt (native ());
        detail::check (number);
        return number;
    }
    /// How long the client still waits; nothing where it has set no limit, and with 0.1 and 0.2.
    std::optional<milliseconds> remaining () const
    {
        // It tells of a request that cannot be asked: -1 has another meaning here.
        attempt ();
        const std::int64_t left = mdreq_remaining (native ());
        return left == -1 ? std::nullopt : std::optional (milliseconds (left));
    }
    /// Whether nobody waits for the answer any more. It is still to be given. MDPX only.
    bool cancelled () const
    {
        const int result = mdreq_cancelled (native ());
        detail::check (result);
        return result == 1;
    }
};

/// A worker with several requests in hand at once. Any number of threads may use it.
class async_worker : private detail::listening, public detail::handle<mdwrk_async_t, mdwrk_async_destroy> {
public:
    /// A worker for `service` at the broker at `endpoints`, several separated by commas. Registers at once.
    async_worker (std::string_view endpoints, std::string_view service, const worker_options &options = {})
        : handle (detail::check (mdwrk_async_new (detail::c_string (endpoints).c_str (),
                                                  detail::c_string (service).c_str (), options.verbose)))
    {
        if (options.heartbeat)
            detail::check (mdwrk_async_set_heartbeat (native (), detail::to_ms (*options.heartbeat)));
        if (options.liveness)
            detail::check (mdwrk_async_set_liveness (native (), *options.liveness));
        if (options.reconnect)
            detail::check (mdwrk_async_set_reconnect (native (), detail::to_ms (*options.reconnect)));
        if (options.protocol)
            detail::check (mdwrk_async_set_protocol (native (), detail::c_string (*options.protocol).c_str ()));
        if (options.max_message_bytes)
            detail::check (mdwrk_async_set_max_message_bytes (native (), *options.max_message_bytes));
        if (options.drain_timeout)
            detail::check (mdwrk_async_set_drain_timeout (native (), detail::to_ms (*options.drain_timeout)));
        if (options.concurrency)
            detail::check (mdwrk_async_set_concurrency (native (), *options.concurrency));
        if (options.prefetch)
            detail::check (mdwrk_async_set_prefetch (native (), *options.prefetch));
        if (options.keep_outcomes)
            detail::check (mdwrk_async_set_keep_outcomes (native (), options.keep_outcomes->count,
                                                          options.keep_outcomes->bytes, detail::to_ms (options.keep_outcomes->age)));
        listen (native (), mdwrk_async_set_event_handler, options.on_event);
        detail::check (mdwrk_async_start (native ()));
    }

    /// Waits for the next request; nothing once the worker is drained.
    std::optional<request> recv () { return receive (-1, MD_ECLOSED); }
    /// The same for at most `wait`; nothing if no request came in that time, and MD_ECLOSED once the worker is drained.
    std::optional<request> recv_for (milliseconds wait) { return receive (detail::to_wait (wait), MD_ETIMEOUT); }
    /// No new request; recv gives nothing once those in hand are answered.
    void drain () { detail::check (mdwrk_async_drain (native ())); }
    /// A descriptor for poll() that is readable while requests wait.
    int fd () const
    {
        const int descriptor = mdwrk_async_fd (native ());
        detail::check (descriptor);
        return descriptor;
    }

private:
    std::optional<request> receive (int wait_ms, int expected)
    {
        if (mdreq_t *next = mdwrk_async_recv (native (), wait_ms))
            return request (next);
        error failure = detail::last_error ();
        if (failure.number () != expected)
            throw failure;
        return std::nullopt;
    }
};

/// Options of a broker; what is not set has the library's default (the options table in README).
struct broker_options {
    std::optional<milliseconds> heartbeat;
    std::optional<int> liveness;
    std::optional<int> max_attempts;
    /// 0 is no limit.
    std::optional<milliseconds> attempt_timeout;
    /// 0 is no limit.
    std::optional<milliseconds> request_ttl;
    /// In all, and for one service.
    std::optional<std::pair<std::size_t, std::size_t>> max_queued;
    /// In all, and for one service.
    std::optional<std::pair<std::size_t, std::size_t>> max_queued_bytes;
    std::optional<std::size_t> max_message_bytes;
    std::optional<std::size_t> max_services;
    std::optional<std::size_t> max_workers;
    /// Of MDPX clients.
    std::optional<std::size_t> max_sessions;
    /// How many requests one MDPX client may have outstanding.
    std::optional<std::uint32_t> credit;
    /// Shortest and longest interval between heartbeats that an MDPX client or worker is granted.
    std::optional<std::pair<milliseconds, milliseconds>> heartbeat_bounds;
    /// Log to standard error.
    bool verbose = false;
};

/// A broker inside the program, on a thread of its own. Listens when its constructor returns.
class broker : public detail::handle<mdbrk_t, mdbrk_destroy> {
public:
    /// A broker at `endpoints`, several separated by commas; port 0 picks a free one.
    explicit broker (std::string_view endpoints, const broker_options &options = {})
        : handle (detail::check (mdbrk_new (detail::c_string (endpoints).c_str (), options.verbose)))
    {
        if (options.heartbeat)
            detail::check (mdbrk_set_heartbeat (native (), detail::to_ms (*options.heartbeat)));
        if (options.liveness)
            detail::check (mdbrk_set_liveness (native (), *options.liveness));
        if (options.max_attempts)
            detail::check (mdbrk_set_max_attempts (native (), *options.max_attempts));
        if (options.attempt_timeout)
            detail::check (mdbrk_set_attempt_timeout (native (), detail::to_ms (*options.attempt_timeout)));
        if (options.request_ttl)
            detail::check (mdbrk_set_request_ttl (native (), detail::to_ms (*options.request_ttl)));
        if (options.max_queued)
            detail::check (mdbrk_set_max_queued (native (), options.max_queued->first, options.max_queued->second));
        if (options.max_queued_bytes)
            detail::check (mdbrk_set_max_queued_bytes (native (), options.max_queued_bytes->first,
                                                       options.max_queued_bytes->second));
        if (options.max_message_bytes)
            detail::check (mdbrk_set_max_message_bytes (native (), *options.max_message_bytes));
        if (options.max_services)
            detail::check (mdbrk_set_max_services (native (), *options.max_services));
        if (options.max_workers)
            detail::check (mdbrk_set_max_workers (native (), *options.max_workers));
        if (options.max_sessions)
            detail::check (mdbrk_set_max_sessions (native (), *options.max_sessions));
        if (options.credit)
            detail::check (mdbrk_set_credit (native (), *options.credit));
        if (options.heartbeat_bounds)
            detail::check (mdbrk_set_heartbeat_bounds (native (), detail::to_ms (options.heartbeat_bounds->first),
                                                       detail::to_ms (options.heartbeat_bounds->second)));
        detail::check (mdbrk_start (native ()));
    }

    /// The first endpoint, its port resolved.
    std::string endpoint () const { return detail::check (mdbrk_endpoint (native ())); }

    /// All endpoints, their ports resolved.
    std::vector<std::string> endpoints () const
    {
        std::vector<std::string> all {endpoint ()};
        while (const char *next = mdbrk_endpoint_at (native (), all.size ()))
            all.emplace_back (next);
        return all;
    }

    /// What the broker has and has done, as a JSON object.
    std::string stats () const
    {
        std::unique_ptr<char, detail::free_text> json (detail::check (mdbrk_stats (native ())));
        return json.get ();
    }

    /// Ends the broker: its workers get a DISCONNECT and its endpoints are free again afterwards.
    void stop () { detail::check (mdbrk_stop (native ())); }
};

/// The library's version.
inline std::string_view version () { return md_version (); }
/// The version of the libzmq inside the library.
inline std::string_view libzmq_version () { return md_libzmq_version (); }

} // namespace majordomo

#endif /* MAJORDOMO_HPP */
