/* What MDPX adds, between real peers over a real broker. */
#include "hub.h"

#include <time.h>

static const char *const BOTH_ENDS[] = {"x1", "auto"};

static void pause_shortly (void)
{
    const struct timespec pause = {0, 1000000};
    nanosleep (&pause, NULL);
}

static int property_is (mdmsg_t *message, const char *name, const char *value)
{
    const void *data = NULL;
    size_t size = 0;
    int found = mdmsg_property (message, name, &data, &size);
    return found == 1 && size == strlen (value) && memcmp (data, value, size) == 0;
}

static mdwrk_async_t *async_worker (mdbrk_t *hub, const char *service)
{
    mdwrk_async_t *worker = mdwrk_async_new (mdbrk_endpoint (hub), service, 0);
    CHECK (worker != NULL && mdwrk_async_set_protocol (worker, "x1") == 0);
    return worker;
}

/* Properties */

static void a_message_keeps_its_properties_in_order_and_refuses_those_that_do_not_fit (void)
{
    static char big[65536];
    mdmsg_t *message = text_message ("body");
    const char *name = NULL;
    const void *data = NULL;
    size_t size = 1;
    CHECK (mdmsg_properties (message) == 0);
    CHECK (mdmsg_property (message, "absent", &data, &size) == 0 && data == NULL && size == 0);
    CHECK (mdmsg_set_property (message, MD_PROPERTY_CONTENT_TYPE, "text/plain", 10) == 0);
    CHECK (mdmsg_set_property (message, "empty", NULL, 0) == 0);
    CHECK (mdmsg_set_property (message, MD_PROPERTY_CONTENT_TYPE, "a/b", 3) == 0);
    CHECK (mdmsg_properties (message) == 2);
    CHECK (mdmsg_property_at (message, 0, &name, &data, &size) == 0 && strcmp (name, "empty") == 0 && size == 0);
    CHECK (mdmsg_property_at (message, 1, &name, &data, &size) == 0 && strcmp (name, "content-type") == 0 && size == 3);
    CHECK (mdmsg_property_at (message, 2, &name, &data, &size) == -1);
    CHECK_ERRNO (MD_EINVAL);
    CHECK (mdmsg_set_property (message, "", "x", 1) == -1);
    CHECK (mdmsg_set_property (message, "new\nline", "x", 1) == -1);
    CHECK (mdmsg_set_property (message, "big", big, sizeof big) == -1);
    CHECK_ERRNO (MD_EINVAL);
    mdmsg_t *copy = mdmsg_dup (message);
    mdmsg_destroy (&message);
    CHECK (mdmsg_properties (copy) == 2 && property_is (copy, "content-type", "a/b"));
    mdmsg_destroy (&copy);
}

/* Answers with a property of its own if the request has the one it should. */
static void answer_properties (mdwrk_t *worker, mdmsg_t **body_p)
{
    CHECK (property_is (*body_p, "question", "q"));
    CHECK (mdmsg_properties (*body_p) == 1);
    mdmsg_t *part = text_message ("part");
    CHECK (mdmsg_set_property (part, "number", "0", 1) == 0);
    CHECK (mdwrk_partial (worker, &part) == 0);
    mdmsg_destroy (body_p);
    *body_p = text_message ("last");
    CHECK (mdmsg_set_property (*body_p, "answer", "a", 1) == 0);
}

static mdmsg_t *question (void)
{
    mdmsg_t *request = text_message ("?");
    CHECK (mdmsg_set_property (request, "question", "q", 1) == 0);
    return request;
}

static void properties_travel_with_requests_with_parts_and_with_replies (void)
{
    mdbrk_t *hub = hub_start ();
    served_t served;
    serve_start (&served, hub, "properties", "x1", answer_properties);
    for (size_t i = 0; i < sizeof BOTH_ENDS / sizeof *BOTH_ENDS; i++) {
        mdcli_t *client = patient_client (hub, BOTH_ENDS[i]);
        mdmsg_t *request = question ();
        CHECK (mdcli_stream (client, "properties", &request) == 0);
        mdmsg_t *part = mdcli_next (client), *last = mdcli_next (client);
        CHECK (property_is (part, "number", "0") && property_is (last, "answer", "a"));
        CHECK (mdcli_next (client) == NULL);
        mdmsg_destroy (&part);
        mdmsg_destroy (&last);
        mdcli_destroy (&client);
    }
    mdcli_async_t *client = patient_async_client (hub, "x1");
    mdmsg_t *request = question ();
    int64_t ticket = 0;
    CHECK (mdcli_async_send (client, "properties", &request) == 1);
    mdmsg_t *reply = mdcli_async_recv (client, &ticket, PATIENCE_MS);
    CHECK (property_is (reply, "answer", "a") && mdmsg_size (reply) == 2);
    mdmsg_destroy (&reply);
    mdcli_async_destroy (&client);
    serve_stop (&served);
    mdbrk_destroy (&hub);
}

/* Attempts */

static void succeed_at_the_second_attempt (mdwrk_t *worker, mdmsg_t **body_p)
{
    if (mdwrk_attempt (worker) > 1)
        return;
    mdmsg_destroy (body_p);
    CHECK (mdwrk_fail_retryable (worker, 503, "not yet") == 0);
}

static void a_retryable_failure_is_tried_again_while_attempts_are_left (void)
{
    mdbrk_t *hub = hub_start ();
    served_t served;
    serve_start (&served, hub, "busy", "x1", succeed_at_the_second_attempt);
    mdcli_t *client = patient_client (hub, "x1");
    mdmsg_t *request = text_message ("once more");
    mdmsg_t *reply = mdcli_send (client, "busy", &request);
    CHECK (mdmsg_streq (reply, 0, "once more") == 1);
    mdmsg_destroy (&reply);
    CHECK (mdcli_set_max_attempts (client, 1) == 0);
    request = text_message ("once");
    CHECK (mdcli_send (client, "busy", &request) == NULL);
    CHECK_ERRNO (MD_ESERVICE);
    CHECK (md_service_code () == 503 && md_service_retryable () == 1);
    CHECK (mdcli_set_max_attempts (client, 0) == 0);
    request = text_message ("as the broker says");
    reply = mdcli_send (client, "busy", &request);
    CHECK (reply != NULL);
    mdmsg_destroy (&reply);
    CHECK (mdcli_set_max_attempts (client, -1) == -1);
    CHECK (mdcli_set_max_attempts (client, 65536) == -1);
    CHECK_ERRNO (MD_EINVAL);
    CHECK (md_service_retryable () == 0);
    mdcli_destroy (&client);
    serve_stop (&served);
    mdbrk_destroy (&hub);
}

static void a_request_of_an_asynchronous_worker_knows_its_attempt_and_can_fail_retryably (void)
{
    mdbrk_t *hub = hub_start ();
    mdwrk_async_t *worker = async_worker (hub, "twice");
    mdcli_async_t *client = patient_async_client (hub, "x1");
    mdmsg_t *message = text_message ("x");
    int64_t ticket = 0;
    CHECK (mdcli_async_send (client, "twice", &message) == 1);
    for (int attempt = 1; attempt <= 2; attempt++) {
        mdreq_t *request = mdwrk_async_recv (worker, PATIENCE_MS);
        CHECK (mdreq_attempt (request) == attempt);
        int (*fail) (mdreq_t *, uint32_t, const char *) = attempt == 1 ? mdreq_fail_retryable : mdreq_fail;
        CHECK (fail (request, attempt == 1 ? 503 : 7, "not now") == 0);
        mdreq_destroy (&request);
    }
    CHECK (mdcli_async_recv (client, &ticket, PATIENCE_MS) == NULL);
    CHECK_ERRNO (MD_ESERVICE);
    CHECK (ticket == 1 && md_service_code () == 7 && md_service_retryable () == 0);
    mdcli_async_destroy (&client);
    mdwrk_async_destroy (&worker);
    mdbrk_destroy (&hub);
}

static void a_request_of_one_attempt_fails_when_its_worker_is_lost (void)
{
    mdbrk_t *hub = hub_start ();
    mdwrk_async_t *worker = async_worker (hub, "lost");
    mdcli_async_t *client = patient_async_client (hub, "x1");
    CHECK (mdcli_async_set_max_attempts (client, 1) == 0);
    mdmsg_t *message = text_message ("x");
    int64_t ticket = 0;
    CHECK (mdcli_async_send (client, "lost", &message) == 1);
    mdreq_t *request = mdwrk_async_recv (worker, PATIENCE_MS);
    CHECK (request != NULL);
    mdwrk_async_destroy (&worker);
    CHECK (mdcli_async_recv (client, &ticket, PATIENCE_MS) == NULL);
    CHECK_ERRNO (MD_EWORKERLOST);
    mdreq_destroy (&request);
    mdcli_async_destroy (&client);
    mdbrk_destroy (&hub);
}

static void a_request_that_will_not_wait_fails_at_once_where_nobody_serves (void)
{
    mdbrk_t *hub = hub_start ();
    mdcli_t *client = patient_client (hub, "x1");
    mdmsg_t *request = text_message ("x");
    CHECK (mdcli_set_fail_fast (client, 1) == 0);
    CHECK (mdcli_send (client, "nobody", &request) == NULL);
    CHECK_ERRNO (MD_ENOWORKER);
    mdcli_destroy (&client);
    mdcli_async_t *many = patient_async_client (hub, "auto");
    int64_t ticket = 0;
    request = text_message ("x");
    CHECK (mdcli_async_set_fail_fast (many, 1) == 0);
    CHECK (mdcli_async_send (many, "nobody", &request) == 1);
    CHECK (mdcli_async_recv (many, &ticket, PATIENCE_MS) == NULL && ticket == 1);
    CHECK_ERRNO (MD_ENOWORKER);
    mdcli_async_destroy (&many);
    mdbrk_destroy (&hub);
}

/* Time and cancellation */

static void a_worker_knows_how_long_its_client_still_waits (void)
{
    mdbrk_t *hub = hub_start ();
    mdwrk_async_t *worker = async_worker (hub, "timed");
    mdcli_async_t *client = patient_async_client (hub, "x1");
    mdmsg_t *message = text_message ("x");
    CHECK (mdcli_async_set_deadline (client, PATIENCE_MS) == 0);
    CHECK (mdcli_async_send (client, "timed", &message) == 1);
    mdreq_t *request = mdwrk_async_recv (worker, PATIENCE_MS);
    int64_t left = mdreq_remaining (request);
    CHECK (left > 0 && left <= PATIENCE_MS);
    mdreq_destroy (&request);
    mdcli_async_destroy (&client);
    mdwrk_async_destroy (&worker);
    mdbrk_destroy (&hub);
}

static void a_request_of_an_older_protocol_has_no_limit_that_is_known (void)
{
    mdbrk_t *hub = hub_start ();
    mdwrk_async_t *worker = mdwrk_async_new (mdbrk_endpoint (hub), "old", 0);
    CHECK (mdwrk_async_set_protocol (worker, "0.1") == 0);
    mdcli_async_t *client = patient_async_client (hub, "x1");
    mdmsg_t *message = question ();
    CHECK (mdcli_async_send (client, "old", &message) == 1);
    mdreq_t *request = mdwrk_async_recv (worker, PATIENCE_MS);
    CHECK (mdreq_remaining (request) == -1 && mdreq_attempt (request) == 1 && mdreq_cancelled (request) == 0);
    mdmsg_t *body = mdreq_body (request);
    CHECK (mdmsg_properties (body) == 0);
    mdmsg_destroy (&body);
    mdreq_destroy (&request);
    mdcli_async_destroy (&client);
    mdwrk_async_destroy (&worker);
    mdbrk_destroy (&hub);
}

static void a_cancelled_request_tells_its_asynchronous_worker (void)
{
    mdbrk_t *hub = hub_start ();
    mdwrk_async_t *worker = async_worker (hub, "held");
    mdcli_async_t *client = patient_async_client (hub, "x1");
    mdmsg_t *message = text_message ("x");
    int64_t ticket = 0;
    CHECK (mdcli_async_send (client, "held", &message) == 1);
    mdreq_t *request = mdwrk_async_recv (worker, PATIENCE_MS);
    CHECK (mdreq_cancelled (request) == 0);
    CHECK (mdcli_async_cancel (client, 1) == 0);
    CHECK (mdcli_async_recv (client, &ticket, PATIENCE_MS) == NULL && ticket == 1);
    CHECK_ERRNO (MD_ECANCELLED);
    while (mdreq_cancelled (request) == 0)
        pause_shortly ();
    CHECK (mdreq_cancelled (request) == 1);
    message = text_message ("for nobody");
    CHECK (mdreq_reply (request, &message) == 0);
    mdreq_destroy (&request);
    mdcli_async_destroy (&client);
    mdwrk_async_destroy (&worker);
    mdbrk_destroy (&hub);
}

static void a_stream_that_nobody_reads_fails_alone_when_too_much_waits (void)
{
    static const char zeros[1000] = {0};
    mdbrk_t *hub = hub_start ();
    mdcli_async_t *client = patient_async_client (hub, "x1");
    CHECK (mdcli_async_set_max_message_bytes (client, 10000) == 0);
    mdwrk_async_t *worker = mdwrk_async_new (mdbrk_endpoint (hub), "flood", 0);
    mdmsg_t *body = text_message ("go"), *part = NULL;
    int64_t ticket = 0, flood = mdcli_async_stream (client, "flood", &body);
    int more = 0;
    mdreq_t *request = mdwrk_async_recv (worker, PATIENCE_MS);
    /* The first four come together, and those that are left wait in the client's own hand. */
    for (int sent = 0; sent < 4; sent++) {
        part = mdmsg_new ();
        CHECK (mdmsg_addmem (part, zeros, sizeof zeros) == 0 && mdreq_partial (request, &part) == 0);
    }
    part = mdcli_async_recv_part (client, &ticket, &more, PATIENCE_MS);
    CHECK (mdmsg_size (part) == 1 && ticket == flood && more == 1);
    mdmsg_destroy (&part);
    for (int sent = 4; sent < 200; sent++) {
        part = mdmsg_new ();
        CHECK (mdmsg_addmem (part, zeros, sizeof zeros) == 0 && mdreq_partial (request, &part) == 0);
    }
    while (mdreq_cancelled (request) == 0)
        pause_shortly ();
    body = text_message ("flood");
    int64_t other = mdcli_async_send (client, "mmi.service", &body);
    for (int left = 0; left < 9; left++) {
        part = mdcli_async_recv_part (client, &ticket, &more, PATIENCE_MS);
        CHECK (mdmsg_size (part) == 1 && ticket == flood && more == 1);
        mdmsg_destroy (&part);
    }
    CHECK (mdcli_async_recv_part (client, &ticket, &more, PATIENCE_MS) == NULL && ticket == flood && more == 0);
    CHECK (mdcli_async_errno (client) == MD_EQUEUEFULL);
    part = mdcli_async_recv (client, &ticket, PATIENCE_MS);
    CHECK (mdmsg_streq (part, 0, "200") == 1 && ticket == other);
    mdmsg_destroy (&part);
    mdreq_destroy (&request);
    mdwrk_async_destroy (&worker);
    mdcli_async_destroy (&client);
    mdbrk_destroy (&hub);
}

static void wait_until_cancelled (mdwrk_t *worker, mdmsg_t **body_p)
{
    (void) body_p;
    int64_t left = mdwrk_remaining (worker);
    CHECK (left >= 0 && left <= PATIENCE_MS);
    while (mdwrk_cancelled (worker) == 0)
        pause_shortly ();
    CHECK (mdwrk_cancelled (worker) == 1);
}

static void a_client_that_gives_up_tells_its_blocking_worker (void)
{
    mdbrk_t *hub = hub_start ();
    served_t served;
    serve_start (&served, hub, "held", "x1", wait_until_cancelled);
    mdcli_t *client = patient_client (hub, "x1");
    be_connected (client);
    CHECK (mdcli_set_deadline (client, 300) == 0);
    mdmsg_t *request = text_message ("x");
    CHECK (mdcli_send (client, "held", &request) == NULL);
    CHECK (md_errno () == MD_ETIMEOUT || md_errno () == MD_EEXPIRED);
    mdcli_destroy (&client);
    serve_stop (&served);
    mdbrk_destroy (&hub);
}

static void questions_about_no_request_are_errors (void)
{
    mdwrk_t *worker = mdwrk_new ("tcp://127.0.0.1:1", "idle", 0);
    CHECK (mdwrk_attempt (worker) == -1);
    CHECK (mdwrk_errno (worker) == MD_EINVAL);
    CHECK (mdwrk_remaining (worker) == -1 && mdwrk_cancelled (worker) == -1);
    CHECK (mdwrk_fail_retryable (worker, 1, "x") == -1);
    CHECK (mdwrk_errno (worker) == MD_EINVAL);
    mdwrk_destroy (&worker);
}

/* Kept outcomes and prefetch */

static int runs;

static void count_runs (mdwrk_t *worker, mdmsg_t **body_p)
{
    (void) worker;
    (void) body_p;
    runs++;
}

static void a_repeat_of_a_key_is_answered_without_another_run (void)
{
    mdbrk_t *hub = hub_start ();
    served_t served;
    served.worker = mdwrk_new (mdbrk_endpoint (hub), "pay", 0);
    served.handler = count_runs;
    CHECK (mdwrk_set_keep_outcomes (served.worker, 10, 1000, 0) == -1);
    CHECK (mdwrk_set_keep_outcomes (served.worker, 10, 1000000, PATIENCE_MS) == 0);
    CHECK (mdwrk_set_prefetch (served.worker, 65537) == -1);
    CHECK (mdwrk_set_prefetch (served.worker, 4) == 0);
    CHECK (pthread_create (&served.thread, NULL, serve_run, &served) == 0);
    runs = 0;
    for (int i = 0; i < 3; i++) {
        mdcli_t *client = patient_client (hub, "x1");
        mdmsg_t *request = text_message ("10");
        CHECK (mdmsg_set_property (request, MD_PROPERTY_IDEMPOTENCY_KEY, i < 2 ? "same" : "other", i < 2 ? 4 : 5) == 0);
        mdmsg_t *reply = mdcli_send (client, "pay", &request);
        CHECK (mdmsg_streq (reply, 0, "10") == 1);
        mdmsg_destroy (&reply);
        mdcli_destroy (&client);
    }
    serve_stop (&served);
    CHECK (runs == 2);
    mdbrk_destroy (&hub);
}

/* Events */

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int connected, disconnected, reconnecting, draining, other;
    char endpoint[128], protocol[16], reason[256];
} told_t;

static void told_init (told_t *told)
{
    memset (told, 0, sizeof *told);
    pthread_mutex_init (&told->lock, NULL);
    pthread_cond_init (&told->changed, NULL);
}

static void tell (const char *name, const char *endpoint, const char *detail, void *arg)
{
    told_t *told = (told_t *) arg;
    pthread_mutex_lock (&told->lock);
    if (strcmp (name, "connected") == 0) {
        told->connected++;
        snprintf (told->endpoint, sizeof told->endpoint, "%s", endpoint);
        snprintf (told->protocol, sizeof told->protocol, "%s", detail);
    }
    else if (strcmp (name, "disconnected") == 0) {
        told->disconnected++;
        snprintf (told->reason, sizeof told->reason, "%s", detail);
    }
    else if (strcmp (name, "reconnecting") == 0)
        told->reconnecting++;
    else if (strcmp (name, "draining") == 0)
        told->draining++;
    else
        told->other++;
    pthread_cond_broadcast (&told->changed);
    pthread_mutex_unlock (&told->lock);
}

static void told_wait (told_t *told, const int *count)
{
    pthread_mutex_lock (&told->lock);
    while (*count == 0)
        pthread_cond_wait (&told->changed, &told->lock);
    pthread_mutex_unlock (&told->lock);
}

static void asynchronous_handles_tell_what_happens_to_their_connections (void)
{
    told_t of_client, of_worker;
    told_init (&of_client);
    told_init (&of_worker);
    mdbrk_t *hub = hub_start ();
    mdwrk_async_t *worker = async_worker (hub, "echo");
    CHECK (mdwrk_async_set_event_handler (worker, tell, &of_worker) == 0);
    CHECK (mdwrk_async_start (worker) == 0);
    CHECK (mdwrk_async_set_event_handler (worker, NULL, NULL) == -1);
    CHECK_ERRNO (MD_EINVAL);
    told_wait (&of_worker, &of_worker.connected);
    CHECK (strcmp (of_worker.endpoint, mdbrk_endpoint (hub)) == 0 && strcmp (of_worker.protocol, "x1") == 0);
    mdcli_async_t *client = patient_async_client (hub, "auto");
    CHECK (mdcli_async_set_event_handler (client, tell, &of_client) == 0);
    mdmsg_t *message = text_message ("x");
    CHECK (mdcli_async_send (client, "echo", &message) == 1);
    mdreq_t *request = mdwrk_async_recv (worker, PATIENCE_MS);
    told_wait (&of_client, &of_client.connected);
    CHECK (strcmp (of_client.protocol, "x1") == 0);
    mdbrk_destroy (&hub);
    told_wait (&of_client, &of_client.disconnected);
    told_wait (&of_client, &of_client.reconnecting);
    told_wait (&of_worker, &of_worker.disconnected);
    CHECK (of_client.reason[0] != '\0');
    mdreq_destroy (&request);
    CHECK (mdwrk_async_drain (worker) == 0);
    told_wait (&of_worker, &of_worker.draining);
    mdcli_async_destroy (&client);
    mdwrk_async_destroy (&worker);
    CHECK (of_client.other == 0 && of_worker.other == 0 && of_client.draining == 0);
}

static void blocking_handles_tell_what_happens_to_their_connections (void)
{
    told_t of_client, of_worker, replaced;
    told_init (&of_client);
    told_init (&of_worker);
    told_init (&replaced);
    mdbrk_t *hub = hub_start ();
    served_t served;
    served.worker = mdwrk_new (mdbrk_endpoint (hub), "echo", 0);
    served.handler = echo;
    CHECK (mdwrk_set_event_handler (served.worker, tell, &of_worker) == 0);
    CHECK (pthread_create (&served.thread, NULL, serve_run, &served) == 0);
    mdcli_t *client = patient_client (hub, "auto");
    CHECK (mdcli_set_event_handler (client, tell, &replaced) == 0);
    CHECK (mdcli_set_event_handler (client, tell, &of_client) == 0);
    mdmsg_t *request = text_message ("x");
    mdmsg_t *reply = mdcli_send (client, "echo", &request);
    CHECK (reply != NULL);
    mdmsg_destroy (&reply);
    told_wait (&of_client, &of_client.connected);
    told_wait (&of_worker, &of_worker.connected);
    CHECK (strcmp (of_client.endpoint, mdbrk_endpoint (hub)) == 0 && strcmp (of_client.protocol, "x1") == 0);
    /* Nobody is told any more. */
    CHECK (mdcli_set_event_handler (client, NULL, NULL) == 0);
    of_client.connected = 0;
    be_connected (client);
    CHECK (of_client.connected == 0 && replaced.connected == 0);
    mdcli_destroy (&client);
    serve_stop (&served);
    CHECK (of_worker.draining == 1);
    mdbrk_destroy (&hub);
}

/* Options of the broker */

static void a_broker_takes_its_mdpx_options_before_the_start_only (void)
{
    mdbrk_t *hub = mdbrk_new ("tcp://127.0.0.1:0", 0);
    CHECK (mdbrk_set_max_sessions (hub, 1) == 0);
    CHECK (mdbrk_set_credit (hub, 0) == -1);
    CHECK (mdbrk_set_credit (hub, 1) == 0);
    CHECK (mdbrk_set_heartbeat_bounds (hub, 200, 100) == -1);
    CHECK (mdbrk_set_heartbeat_bounds (hub, 0, 100) == -1);
    CHECK_ERRNO (MD_EINVAL);
    CHECK (mdbrk_set_heartbeat_bounds (hub, 100, 200) == 0);
    CHECK (mdbrk_start (hub) == 0);
    CHECK (mdbrk_set_credit (hub, 2) == -1);
    CHECK_ERRNO (MD_EINVAL);
    /* More requests than the broker gives credit for wait for their turn. */
    served_t served;
    serve_start (&served, hub, "echo", "x1", echo);
    mdcli_async_t *client = patient_async_client (hub, "x1");
    for (int i = 0; i < 10; i++) {
        mdmsg_t *request = text_message ("x");
        CHECK (mdcli_async_send (client, "echo", &request) == i + 1);
    }
    for (int i = 0; i < 10; i++) {
        int64_t ticket = 0;
        mdmsg_t *reply = mdcli_async_recv (client, &ticket, PATIENCE_MS);
        CHECK (reply != NULL);
        mdmsg_destroy (&reply);
    }
    mdcli_async_destroy (&client);
    serve_stop (&served);
    mdbrk_destroy (&hub);
}

int main (void)
{
    RUN (a_message_keeps_its_properties_in_order_and_refuses_those_that_do_not_fit);
    RUN (properties_travel_with_requests_with_parts_and_with_replies);
    RUN (a_retryable_failure_is_tried_again_while_attempts_are_left);
    RUN (a_request_of_an_asynchronous_worker_knows_its_attempt_and_can_fail_retryably);
    RUN (a_request_of_one_attempt_fails_when_its_worker_is_lost);
    RUN (a_request_that_will_not_wait_fails_at_once_where_nobody_serves);
    RUN (a_worker_knows_how_long_its_client_still_waits);
    RUN (a_request_of_an_older_protocol_has_no_limit_that_is_known);
    RUN (a_cancelled_request_tells_its_asynchronous_worker);
    RUN (a_stream_that_nobody_reads_fails_alone_when_too_much_waits);
    RUN (a_client_that_gives_up_tells_its_blocking_worker);
    RUN (questions_about_no_request_are_errors);
    RUN (a_repeat_of_a_key_is_answered_without_another_run);
    RUN (asynchronous_handles_tell_what_happens_to_their_connections);
    RUN (blocking_handles_tell_what_happens_to_their_connections);
    RUN (a_broker_takes_its_mdpx_options_before_the_start_only);
    return check_report ();
}
