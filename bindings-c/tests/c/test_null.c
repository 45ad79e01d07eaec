/* NULL for any pointer parameter of any function is MD_EINVAL. A Rust test counts these cases against the header. */
#include "check.h"

#define ENDPOINT "tcp://127.0.0.1:1"

static mdmsg_t *msg, *frame;
static mdcli_t *cli;
static mdcli_async_t *cli_async;
static mdwrk_t *wrk;
static mdwrk_async_t *wrk_async;
static mdreq_t *req;
static mdopt_t *opt;
static mdbrk_t *brk;
static const void *data;
static const char *text;
static size_t size;
static int64_t ticket;
static int more;

/* Makes the thread's last failure something else than what is expected. */
static void forget (void)
{
    mdmsg_t *gone = mdmsg_new (), *stale = gone;
    mdmsg_destroy (&gone);
    mdmsg_size (stale);
    /* A call that got as far as taking it has taken it. */
    if (!frame)
        frame = mdmsg_new ();
}

static void ignore (const char *name, const char *endpoint, const char *detail, void *arg)
{
    (void) name, (void) endpoint, (void) detail, (void) arg;
}

/* `function` with NULL for `parameter` fails, says so, and leaves what it would have taken with its owner. */
#define NULL_CASE(function, parameter, call) \
    do { \
        forget (); \
        CHECK (call); \
        CHECK_ERRNO (MD_EINVAL); \
    } while (0)

#define NULL_VOID(function, parameter, call) \
    do { \
        forget (); \
        call; \
        CHECK_ERRNO (MD_EINVAL); \
    } while (0)

/* An errno function has no error of its own: without a handle it gives the thread's. */
#define NULL_QUERY(function, parameter, call) \
    do { \
        forget (); \
        CHECK (call == MD_ECLOSED); \
    } while (0)

/* Where NULL says that there is none, and is no error. */
#define NULL_NONE(function, parameter, call) \
    do { \
        forget (); \
        CHECK (call); \
        CHECK (md_errno () != MD_EINVAL); \
    } while (0)

static void null_is_an_error_in_every_library_function (void)
{
    NULL_CASE (md_libzmq_has, capability, md_libzmq_has (NULL) == -1);
}

static void null_is_an_error_in_every_message_function (void)
{
    NULL_VOID (mdmsg_destroy, self_p, mdmsg_destroy (NULL));
    NULL_CASE (mdmsg_new_mem, data, mdmsg_new_mem (NULL, 1) == NULL);
    NULL_CASE (mdmsg_dup, self, mdmsg_dup (NULL) == NULL);
    NULL_CASE (mdmsg_size, self, mdmsg_size (NULL) == 0);
    NULL_CASE (mdmsg_content_size, self, mdmsg_content_size (NULL) == 0);
    NULL_CASE (mdmsg_addmem, self, mdmsg_addmem (NULL, "x", 1) == -1);
    NULL_CASE (mdmsg_addmem, data, mdmsg_addmem (msg, NULL, 1) == -1);
    NULL_CASE (mdmsg_pushmem, self, mdmsg_pushmem (NULL, "x", 1) == -1);
    NULL_CASE (mdmsg_pushmem, data, mdmsg_pushmem (msg, NULL, 1) == -1);
    NULL_CASE (mdmsg_addstr, self, mdmsg_addstr (NULL, "x") == -1);
    NULL_CASE (mdmsg_addstr, string, mdmsg_addstr (msg, NULL) == -1);
    NULL_CASE (mdmsg_pushstr, self, mdmsg_pushstr (NULL, "x") == -1);
    NULL_CASE (mdmsg_pushstr, string, mdmsg_pushstr (msg, NULL) == -1);
    NULL_CASE (mdmsg_append, self, mdmsg_append (NULL, &frame) == -1);
    NULL_CASE (mdmsg_append, frames_p, mdmsg_append (msg, NULL) == -1);
    NULL_CASE (mdmsg_prepend, self, mdmsg_prepend (NULL, &frame) == -1);
    NULL_CASE (mdmsg_prepend, frames_p, mdmsg_prepend (msg, NULL) == -1);
    NULL_CASE (mdmsg_pop, self, mdmsg_pop (NULL) == NULL);
    NULL_CASE (mdmsg_popstr, self, mdmsg_popstr (NULL) == NULL);
    NULL_CASE (mdmsg_frame, self, mdmsg_frame (NULL, 0, &data, &size) == -1);
    NULL_CASE (mdmsg_frame, data_p, mdmsg_frame (msg, 0, NULL, &size) == -1);
    NULL_CASE (mdmsg_frame, size_p, mdmsg_frame (msg, 0, &data, NULL) == -1);
    NULL_CASE (mdmsg_first, self, mdmsg_first (NULL, &size) == NULL);
    NULL_CASE (mdmsg_first, size_p, mdmsg_first (msg, NULL) == NULL);
    NULL_CASE (mdmsg_next, self, mdmsg_next (NULL, &size) == NULL);
    NULL_CASE (mdmsg_next, size_p, mdmsg_next (msg, NULL) == NULL);
    NULL_CASE (mdmsg_strframe, self, mdmsg_strframe (NULL, 0) == NULL);
    NULL_CASE (mdmsg_streq, self, mdmsg_streq (NULL, 0, "x") == -1);
    NULL_CASE (mdmsg_streq, string, mdmsg_streq (msg, 0, NULL) == -1);
    NULL_CASE (mdmsg_eq, self, mdmsg_eq (NULL, msg) == -1);
    NULL_CASE (mdmsg_eq, other, mdmsg_eq (msg, NULL) == -1);
    NULL_CASE (mdmsg_wrap, self, mdmsg_wrap (NULL, &frame) == -1);
    NULL_CASE (mdmsg_wrap, address_p, mdmsg_wrap (msg, NULL) == -1);
    NULL_CASE (mdmsg_unwrap, self, mdmsg_unwrap (NULL) == NULL);
    NULL_VOID (mdmsg_dump, self, mdmsg_dump (NULL));
    NULL_VOID (mdmsg_print, self, mdmsg_print (NULL));
    NULL_CASE (mdmsg_set_property, self, mdmsg_set_property (NULL, "x", "x", 1) == -1);
    NULL_CASE (mdmsg_set_property, name, mdmsg_set_property (msg, NULL, "x", 1) == -1);
    NULL_CASE (mdmsg_set_property, data, mdmsg_set_property (msg, "x", NULL, 1) == -1);
    NULL_CASE (mdmsg_property, self, mdmsg_property (NULL, "x", &data, &size) == -1);
    NULL_CASE (mdmsg_property, name, mdmsg_property (msg, NULL, &data, &size) == -1);
    NULL_CASE (mdmsg_property, data_p, mdmsg_property (msg, "x", NULL, &size) == -1);
    NULL_CASE (mdmsg_property, size_p, mdmsg_property (msg, "x", &data, NULL) == -1);
    NULL_CASE (mdmsg_property_at, self, mdmsg_property_at (NULL, 0, &text, &data, &size) == -1);
    NULL_CASE (mdmsg_property_at, name_p, mdmsg_property_at (msg, 0, NULL, &data, &size) == -1);
    NULL_CASE (mdmsg_property_at, data_p, mdmsg_property_at (msg, 0, &text, NULL, &size) == -1);
    NULL_CASE (mdmsg_property_at, size_p, mdmsg_property_at (msg, 0, &text, &data, NULL) == -1);
    NULL_CASE (mdmsg_properties, self, mdmsg_properties (NULL) == 0);
}

static void null_is_an_error_in_every_function_of_options (void)
{
    NULL_VOID (mdopt_destroy, self_p, mdopt_destroy (NULL));
    NULL_CASE (mdopt_set_timeout, self, mdopt_set_timeout (NULL, 1) == -1);
    NULL_CASE (mdopt_set_retries, self, mdopt_set_retries (NULL, 1) == -1);
    NULL_CASE (mdopt_set_deadline, self, mdopt_set_deadline (NULL, 1) == -1);
    NULL_CASE (mdopt_set_max_attempts, self, mdopt_set_max_attempts (NULL, 1) == -1);
    NULL_CASE (mdopt_set_fail_fast, self, mdopt_set_fail_fast (NULL, 1) == -1);
}

static void null_is_an_error_in_every_client_function (void)
{
    NULL_CASE (mdcli_new, broker, mdcli_new (NULL, 0) == NULL);
    NULL_VOID (mdcli_destroy, self_p, mdcli_destroy (NULL));
    NULL_CASE (mdcli_set_timeout, self, mdcli_set_timeout (NULL, 1) == -1);
    NULL_CASE (mdcli_set_retries, self, mdcli_set_retries (NULL, 1) == -1);
    NULL_CASE (mdcli_set_deadline, self, mdcli_set_deadline (NULL, 1) == -1);
    NULL_CASE (mdcli_set_protocol, self, mdcli_set_protocol (NULL, "0.2") == -1);
    NULL_CASE (mdcli_set_protocol, protocol, mdcli_set_protocol (cli, NULL) == -1);
    NULL_CASE (mdcli_set_max_message_bytes, self, mdcli_set_max_message_bytes (NULL, 1) == -1);
    NULL_CASE (mdcli_set_reconnect, self, mdcli_set_reconnect (NULL, 1, 1) == -1);
    NULL_CASE (mdcli_set_max_attempts, self, mdcli_set_max_attempts (NULL, 1) == -1);
    NULL_CASE (mdcli_set_fail_fast, self, mdcli_set_fail_fast (NULL, 1) == -1);
    NULL_CASE (mdcli_set_event_handler, self, mdcli_set_event_handler (NULL, ignore, NULL) == -1);
    NULL_CASE (mdcli_send, self, mdcli_send (NULL, "echo", &frame) == NULL);
    NULL_CASE (mdcli_send, service, mdcli_send (cli, NULL, &frame) == NULL);
    NULL_CASE (mdcli_send, request_p, mdcli_send (cli, "echo", NULL) == NULL);
    NULL_CASE (mdcli_send_with, self, mdcli_send_with (NULL, "echo", &frame, opt) == NULL);
    NULL_CASE (mdcli_send_with, service, mdcli_send_with (cli, NULL, &frame, opt) == NULL);
    NULL_CASE (mdcli_send_with, request_p, mdcli_send_with (cli, "echo", NULL, opt) == NULL);
    CHECK (mdcli_set_timeout (cli, 1) == 0 && mdcli_set_retries (cli, 1) == 0);
    NULL_NONE (mdcli_send_with, options, mdcli_send_with (cli, "echo", &frame, NULL) == NULL);
    NULL_CASE (mdcli_stream, self, mdcli_stream (NULL, "echo", &frame) == -1);
    NULL_CASE (mdcli_stream, service, mdcli_stream (cli, NULL, &frame) == -1);
    NULL_CASE (mdcli_stream, request_p, mdcli_stream (cli, "echo", NULL) == -1);
    NULL_CASE (mdcli_stream_with, self, mdcli_stream_with (NULL, "echo", &frame, opt) == -1);
    NULL_CASE (mdcli_stream_with, service, mdcli_stream_with (cli, NULL, &frame, opt) == -1);
    NULL_CASE (mdcli_stream_with, request_p, mdcli_stream_with (cli, "echo", NULL, opt) == -1);
    NULL_NONE (mdcli_stream_with, options, mdcli_stream_with (cli, "echo", &frame, NULL) == 0);
    NULL_CASE (mdcli_next, self, mdcli_next (NULL) == NULL);
    NULL_CASE (mdcli_cancel, self, mdcli_cancel (NULL) == -1);
    NULL_QUERY (mdcli_errno, self, mdcli_errno (NULL));
}

static void null_is_an_error_in_every_async_client_function (void)
{
    NULL_CASE (mdcli_async_new, broker, mdcli_async_new (NULL, 0) == NULL);
    NULL_VOID (mdcli_async_destroy, self_p, mdcli_async_destroy (NULL));
    NULL_CASE (mdcli_async_set_timeout, self, mdcli_async_set_timeout (NULL, 1) == -1);
    NULL_CASE (mdcli_async_set_retries, self, mdcli_async_set_retries (NULL, 1) == -1);
    NULL_CASE (mdcli_async_set_deadline, self, mdcli_async_set_deadline (NULL, 1) == -1);
    NULL_CASE (mdcli_async_set_protocol, self, mdcli_async_set_protocol (NULL, "0.2") == -1);
    NULL_CASE (mdcli_async_set_protocol, protocol, mdcli_async_set_protocol (cli_async, NULL) == -1);
    NULL_CASE (mdcli_async_set_max_message_bytes, self, mdcli_async_set_max_message_bytes (NULL, 1) == -1);
    NULL_CASE (mdcli_async_set_max_in_flight, self, mdcli_async_set_max_in_flight (NULL, 1) == -1);
    NULL_CASE (mdcli_async_set_max_waiting, self, mdcli_async_set_max_waiting (NULL, 1) == -1);
    NULL_CASE (mdcli_async_set_reconnect, self, mdcli_async_set_reconnect (NULL, 1, 1) == -1);
    NULL_CASE (mdcli_async_set_max_attempts, self, mdcli_async_set_max_attempts (NULL, 1) == -1);
    NULL_CASE (mdcli_async_set_fail_fast, self, mdcli_async_set_fail_fast (NULL, 1) == -1);
    NULL_CASE (mdcli_async_set_event_handler, self, mdcli_async_set_event_handler (NULL, ignore, NULL) == -1);
    NULL_CASE (mdcli_async_send, self, mdcli_async_send (NULL, "echo", &frame) == -1);
    NULL_CASE (mdcli_async_send, service, mdcli_async_send (cli_async, NULL, &frame) == -1);
    NULL_CASE (mdcli_async_send, request_p, mdcli_async_send (cli_async, "echo", NULL) == -1);
    NULL_CASE (mdcli_async_send_with, self, mdcli_async_send_with (NULL, "echo", &frame, opt) == -1);
    NULL_CASE (mdcli_async_send_with, service, mdcli_async_send_with (cli_async, NULL, &frame, opt) == -1);
    NULL_CASE (mdcli_async_send_with, request_p, mdcli_async_send_with (cli_async, "echo", NULL, opt) == -1);
    NULL_CASE (mdcli_async_stream, self, mdcli_async_stream (NULL, "echo", &frame) == -1);
    NULL_CASE (mdcli_async_stream, service, mdcli_async_stream (cli_async, NULL, &frame) == -1);
    NULL_CASE (mdcli_async_stream, request_p, mdcli_async_stream (cli_async, "echo", NULL) == -1);
    NULL_CASE (mdcli_async_stream_with, self, mdcli_async_stream_with (NULL, "echo", &frame, opt) == -1);
    NULL_CASE (mdcli_async_stream_with, service, mdcli_async_stream_with (cli_async, NULL, &frame, opt) == -1);
    NULL_CASE (mdcli_async_stream_with, request_p, mdcli_async_stream_with (cli_async, "echo", NULL, opt) == -1);
    NULL_CASE (mdcli_async_recv, self, mdcli_async_recv (NULL, &ticket, 0) == NULL);
    NULL_CASE (mdcli_async_recv, ticket_p, mdcli_async_recv (cli_async, NULL, 0) == NULL);
    NULL_CASE (mdcli_async_recv_part, self, mdcli_async_recv_part (NULL, &ticket, &more, 0) == NULL);
    NULL_CASE (mdcli_async_recv_part, ticket_p, mdcli_async_recv_part (cli_async, NULL, &more, 0) == NULL);
    NULL_CASE (mdcli_async_recv_part, more_p, mdcli_async_recv_part (cli_async, &ticket, NULL, 0) == NULL);
    NULL_CASE (mdcli_async_cancel, self, mdcli_async_cancel (NULL, 1) == -1);
    NULL_CASE (mdcli_async_outstanding, self, mdcli_async_outstanding (NULL) == 0);
    NULL_CASE (mdcli_async_fd, self, mdcli_async_fd (NULL) == -1);
    NULL_QUERY (mdcli_async_errno, self, mdcli_async_errno (NULL));
    NULL_NONE (mdcli_async_send_with, options, mdcli_async_send_with (cli_async, "echo", &frame, NULL) > 0);
    NULL_NONE (mdcli_async_stream_with, options, mdcli_async_stream_with (cli_async, "echo", &frame, NULL) > 0);
}

static void null_is_an_error_in_every_worker_function (void)
{
    NULL_CASE (mdwrk_new, broker, mdwrk_new (NULL, "echo", 0) == NULL);
    NULL_CASE (mdwrk_new, service, mdwrk_new (ENDPOINT, NULL, 0) == NULL);
    NULL_VOID (mdwrk_destroy, self_p, mdwrk_destroy (NULL));
    NULL_CASE (mdwrk_set_heartbeat, self, mdwrk_set_heartbeat (NULL, 1) == -1);
    NULL_CASE (mdwrk_set_liveness, self, mdwrk_set_liveness (NULL, 1) == -1);
    NULL_CASE (mdwrk_set_reconnect, self, mdwrk_set_reconnect (NULL, 1) == -1);
    NULL_CASE (mdwrk_set_protocol, self, mdwrk_set_protocol (NULL, "0.2") == -1);
    NULL_CASE (mdwrk_set_protocol, protocol, mdwrk_set_protocol (wrk, NULL) == -1);
    NULL_CASE (mdwrk_set_max_message_bytes, self, mdwrk_set_max_message_bytes (NULL, 1) == -1);
    NULL_CASE (mdwrk_set_drain_timeout, self, mdwrk_set_drain_timeout (NULL, 1) == -1);
    NULL_CASE (mdwrk_set_prefetch, self, mdwrk_set_prefetch (NULL, 1) == -1);
    NULL_CASE (mdwrk_set_keep_outcomes, self, mdwrk_set_keep_outcomes (NULL, 1, 1, 1) == -1);
    NULL_CASE (mdwrk_set_event_handler, self, mdwrk_set_event_handler (NULL, ignore, NULL) == -1);
    NULL_CASE (mdwrk_set_recv_timeout, self, mdwrk_set_recv_timeout (NULL, 1) == -1);
    NULL_CASE (mdwrk_start, self, mdwrk_start (NULL) == -1);
    NULL_CASE (mdwrk_recv, self, mdwrk_recv (NULL, &frame) == NULL);
    NULL_CASE (mdwrk_recv, reply_p, mdwrk_recv (wrk, NULL) == NULL);
    NULL_CASE (mdwrk_partial, self, mdwrk_partial (NULL, &frame) == -1);
    NULL_CASE (mdwrk_partial, part_p, mdwrk_partial (wrk, NULL) == -1);
    NULL_CASE (mdwrk_reply, self, mdwrk_reply (NULL, &frame) == -1);
    NULL_CASE (mdwrk_reply, reply_p, mdwrk_reply (wrk, NULL) == -1);
    NULL_CASE (mdwrk_fail, self, mdwrk_fail (NULL, 1, "x") == -1);
    NULL_CASE (mdwrk_fail, reason, mdwrk_fail (wrk, 1, NULL) == -1);
    NULL_CASE (mdwrk_fail_retryable, self, mdwrk_fail_retryable (NULL, 1, "x") == -1);
    NULL_CASE (mdwrk_fail_retryable, reason, mdwrk_fail_retryable (wrk, 1, NULL) == -1);
    NULL_CASE (mdwrk_attempt, self, mdwrk_attempt (NULL) == -1);
    NULL_CASE (mdwrk_remaining, self, mdwrk_remaining (NULL) == -1);
    NULL_CASE (mdwrk_cancelled, self, mdwrk_cancelled (NULL) == -1);
    NULL_CASE (mdwrk_drain, self, mdwrk_drain (NULL) == -1);
    NULL_QUERY (mdwrk_errno, self, mdwrk_errno (NULL));
}

static void null_is_an_error_in_every_request_function (void)
{
    NULL_VOID (mdreq_destroy, self_p, mdreq_destroy (NULL));
    NULL_CASE (mdreq_body, self, mdreq_body (NULL) == NULL);
    NULL_CASE (mdreq_service, self, mdreq_service (NULL) == NULL);
    NULL_CASE (mdreq_reply, self, mdreq_reply (NULL, &frame) == -1);
    NULL_CASE (mdreq_reply, reply_p, mdreq_reply (req, NULL) == -1);
    NULL_CASE (mdreq_partial, self, mdreq_partial (NULL, &frame) == -1);
    NULL_CASE (mdreq_partial, part_p, mdreq_partial (req, NULL) == -1);
    NULL_CASE (mdreq_fail, self, mdreq_fail (NULL, 1, "x") == -1);
    NULL_CASE (mdreq_fail, reason, mdreq_fail (req, 1, NULL) == -1);
    NULL_CASE (mdreq_fail_retryable, self, mdreq_fail_retryable (NULL, 1, "x") == -1);
    NULL_CASE (mdreq_fail_retryable, reason, mdreq_fail_retryable (req, 1, NULL) == -1);
    NULL_CASE (mdreq_attempt, self, mdreq_attempt (NULL) == -1);
    NULL_CASE (mdreq_remaining, self, mdreq_remaining (NULL) == -1);
    NULL_CASE (mdreq_cancelled, self, mdreq_cancelled (NULL) == -1);
}

static void null_is_an_error_in_every_async_worker_function (void)
{
    NULL_CASE (mdwrk_async_new, broker, mdwrk_async_new (NULL, "echo", 0) == NULL);
    NULL_CASE (mdwrk_async_new, service, mdwrk_async_new (ENDPOINT, NULL, 0) == NULL);
    NULL_VOID (mdwrk_async_destroy, self_p, mdwrk_async_destroy (NULL));
    NULL_CASE (mdwrk_async_set_concurrency, self, mdwrk_async_set_concurrency (NULL, 1) == -1);
    NULL_CASE (mdwrk_async_set_heartbeat, self, mdwrk_async_set_heartbeat (NULL, 1) == -1);
    NULL_CASE (mdwrk_async_set_liveness, self, mdwrk_async_set_liveness (NULL, 1) == -1);
    NULL_CASE (mdwrk_async_set_reconnect, self, mdwrk_async_set_reconnect (NULL, 1) == -1);
    NULL_CASE (mdwrk_async_set_protocol, self, mdwrk_async_set_protocol (NULL, "0.2") == -1);
    NULL_CASE (mdwrk_async_set_protocol, protocol, mdwrk_async_set_protocol (wrk_async, NULL) == -1);
    NULL_CASE (mdwrk_async_set_max_message_bytes, self, mdwrk_async_set_max_message_bytes (NULL, 1) == -1);
    NULL_CASE (mdwrk_async_set_drain_timeout, self, mdwrk_async_set_drain_timeout (NULL, 1) == -1);
    NULL_CASE (mdwrk_async_set_prefetch, self, mdwrk_async_set_prefetch (NULL, 1) == -1);
    NULL_CASE (mdwrk_async_set_keep_outcomes, self, mdwrk_async_set_keep_outcomes (NULL, 1, 1, 1) == -1);
    NULL_CASE (mdwrk_async_set_event_handler, self, mdwrk_async_set_event_handler (NULL, ignore, NULL) == -1);
    NULL_CASE (mdwrk_async_start, self, mdwrk_async_start (NULL) == -1);
    NULL_CASE (mdwrk_async_recv, self, mdwrk_async_recv (NULL, 0) == NULL);
    NULL_CASE (mdwrk_async_drain, self, mdwrk_async_drain (NULL) == -1);
    NULL_CASE (mdwrk_async_fd, self, mdwrk_async_fd (NULL) == -1);
    NULL_QUERY (mdwrk_async_errno, self, mdwrk_async_errno (NULL));
}

static void null_is_an_error_in_every_broker_function (void)
{
    NULL_CASE (mdbrk_new, endpoint, mdbrk_new (NULL, 0) == NULL);
    NULL_VOID (mdbrk_destroy, self_p, mdbrk_destroy (NULL));
    NULL_CASE (mdbrk_bind, self, mdbrk_bind (NULL, ENDPOINT) == -1);
    NULL_CASE (mdbrk_bind, endpoint, mdbrk_bind (brk, NULL) == -1);
    NULL_CASE (mdbrk_set_heartbeat, self, mdbrk_set_heartbeat (NULL, 1) == -1);
    NULL_CASE (mdbrk_set_liveness, self, mdbrk_set_liveness (NULL, 1) == -1);
    NULL_CASE (mdbrk_set_max_attempts, self, mdbrk_set_max_attempts (NULL, 1) == -1);
    NULL_CASE (mdbrk_set_attempt_timeout, self, mdbrk_set_attempt_timeout (NULL, 1) == -1);
    NULL_CASE (mdbrk_set_request_ttl, self, mdbrk_set_request_ttl (NULL, 1) == -1);
    NULL_CASE (mdbrk_set_max_queued, self, mdbrk_set_max_queued (NULL, 1, 1) == -1);
    NULL_CASE (mdbrk_set_max_queued_bytes, self, mdbrk_set_max_queued_bytes (NULL, 1, 1) == -1);
    NULL_CASE (mdbrk_set_max_message_bytes, self, mdbrk_set_max_message_bytes (NULL, 1) == -1);
    NULL_CASE (mdbrk_set_max_services, self, mdbrk_set_max_services (NULL, 1) == -1);
    NULL_CASE (mdbrk_set_max_workers, self, mdbrk_set_max_workers (NULL, 1) == -1);
    NULL_CASE (mdbrk_set_max_sessions, self, mdbrk_set_max_sessions (NULL, 1) == -1);
    NULL_CASE (mdbrk_set_credit, self, mdbrk_set_credit (NULL, 1) == -1);
    NULL_CASE (mdbrk_set_heartbeat_bounds, self, mdbrk_set_heartbeat_bounds (NULL, 1, 1) == -1);
    NULL_CASE (mdbrk_start, self, mdbrk_start (NULL) == -1);
    NULL_CASE (mdbrk_endpoint, self, mdbrk_endpoint (NULL) == NULL);
    NULL_CASE (mdbrk_endpoint_at, self, mdbrk_endpoint_at (NULL, 0) == NULL);
    NULL_CASE (mdbrk_stats, self, mdbrk_stats (NULL) == NULL);
    NULL_CASE (mdbrk_stop, self, mdbrk_stop (NULL) == -1);
    NULL_QUERY (mdbrk_errno, self, mdbrk_errno (NULL));
}

static void a_place_that_holds_null_is_an_error_where_an_object_is_taken (void)
{
    mdmsg_t *none = NULL;
    NULL_CASE (mdcli_send, *request_p, mdcli_send (cli, "echo", &none) == NULL);
    NULL_CASE (mdcli_send_with, *request_p, mdcli_send_with (cli, "echo", &none, opt) == NULL);
    NULL_CASE (mdcli_stream, *request_p, mdcli_stream (cli, "echo", &none) == -1);
    NULL_CASE (mdcli_stream_with, *request_p, mdcli_stream_with (cli, "echo", &none, opt) == -1);
    NULL_CASE (mdcli_async_send, *request_p, mdcli_async_send (cli_async, "echo", &none) == -1);
    NULL_CASE (mdcli_async_send_with, *request_p, mdcli_async_send_with (cli_async, "echo", &none, opt) == -1);
    NULL_CASE (mdcli_async_stream, *request_p, mdcli_async_stream (cli_async, "echo", &none) == -1);
    NULL_CASE (mdcli_async_stream_with, *request_p, mdcli_async_stream_with (cli_async, "echo", &none, opt) == -1);
    NULL_CASE (mdwrk_reply, *reply_p, mdwrk_reply (wrk, &none) == -1);
    NULL_CASE (mdwrk_partial, *part_p, mdwrk_partial (wrk, &none) == -1);
    NULL_CASE (mdmsg_append, *frames_p, mdmsg_append (msg, &none) == -1);
    NULL_CASE (mdmsg_prepend, *frames_p, mdmsg_prepend (msg, &none) == -1);
    NULL_CASE (mdmsg_wrap, *address_p, mdmsg_wrap (msg, &none) == -1);
}

static void destroying_what_is_null_already_does_nothing (void)
{
    mdmsg_t *no_msg = NULL;
    mdcli_t *no_cli = NULL;
    mdcli_async_t *no_cli_async = NULL;
    mdwrk_t *no_wrk = NULL;
    mdwrk_async_t *no_wrk_async = NULL;
    mdreq_t *no_req = NULL;
    mdbrk_t *no_brk = NULL;
    mdopt_t *no_opt = NULL;
    forget ();
    mdmsg_destroy (&no_msg);
    mdcli_destroy (&no_cli);
    mdcli_async_destroy (&no_cli_async);
    mdwrk_destroy (&no_wrk);
    mdwrk_async_destroy (&no_wrk_async);
    mdreq_destroy (&no_req);
    mdbrk_destroy (&no_brk);
    mdopt_destroy (&no_opt);
    CHECK_ERRNO (MD_ECLOSED);
}

int main (void)
{
    msg = mdmsg_new ();
    mdmsg_addstr (msg, "content");
    frame = mdmsg_new ();
    opt = mdopt_new ();
    cli = mdcli_new (ENDPOINT, 0);
    cli_async = mdcli_async_new (ENDPOINT, 0);
    wrk = mdwrk_new (ENDPOINT, "echo", 0);
    wrk_async = mdwrk_async_new (ENDPOINT, "echo", 0);
    brk = mdbrk_new (ENDPOINT, 0);
    /* A request to hold: it takes a broker, a worker and a client. */
    mdbrk_t *hub = mdbrk_new ("tcp://127.0.0.1:0", 0);
    mdbrk_start (hub);
    mdwrk_async_t *worker = mdwrk_async_new (mdbrk_endpoint (hub), "held", 0);
    mdcli_async_t *client = mdcli_async_new (mdbrk_endpoint (hub), 0);
    mdcli_async_send (client, "held", &frame);
    req = mdwrk_async_recv (worker, 60000);
    CHECK (req != NULL);

    RUN (null_is_an_error_in_every_library_function);
    RUN (null_is_an_error_in_every_message_function);
    RUN (null_is_an_error_in_every_function_of_options);
    RUN (null_is_an_error_in_every_client_function);
    RUN (null_is_an_error_in_every_async_client_function);
    RUN (null_is_an_error_in_every_worker_function);
    RUN (null_is_an_error_in_every_request_function);
    RUN (null_is_an_error_in_every_async_worker_function);
    RUN (null_is_an_error_in_every_broker_function);
    RUN (a_place_that_holds_null_is_an_error_where_an_object_is_taken);
    RUN (destroying_what_is_null_already_does_nothing);

    mdreq_destroy (&req);
    mdcli_async_destroy (&client);
    mdwrk_async_destroy (&worker);
    mdbrk_destroy (&hub);
    mdmsg_destroy (&msg);
    mdmsg_destroy (&frame);
    mdopt_destroy (&opt);
    mdcli_destroy (&cli);
    mdcli_async_destroy (&cli_async);
    mdwrk_destroy (&wrk);
    mdwrk_async_destroy (&wrk_async);
    mdbrk_destroy (&brk);
    return check_report ();
}
