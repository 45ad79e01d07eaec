/* Options of single requests, beside other requests of the same client that do not have them. */
#include "hub.h"
#include <sys/wait.h>
#include <unistd.h>

enum { REQUESTS = 200 };

static mdopt_t *once_only (void)
{
    mdopt_t *options = mdopt_new ();
    CHECK (options != NULL && mdopt_set_max_attempts (options, 1) == 0);
    return options;
}

static int64_t send_with (mdcli_async_t *client, const char *service, mdopt_t *options)
{
    mdmsg_t *request = text_message (options ? "with" : "without");
    int64_t ticket = mdcli_async_send_with (client, service, &request, options);
    CHECK (ticket > 0 && request == NULL);
    return ticket;
}

/* Waits for an outcome. Result: its number; MD_OK for a reply. */
static int outcome (mdcli_async_t *client, int64_t *ticket_p)
{
    mdmsg_t *reply = mdcli_async_recv (client, ticket_p, PATIENCE_MS);
    int number = reply ? MD_OK : mdcli_async_errno (client);
    CHECK (*ticket_p > 0);
    mdmsg_destroy (&reply);
    return number;
}

static mdreq_t *next_request (mdwrk_async_t *worker, const char *expected)
{
    mdreq_t *request = mdwrk_async_recv (worker, PATIENCE_MS);
    mdmsg_t *body = mdreq_body (request);
    CHECK (mdmsg_streq (body, 0, expected) == 1);
    mdmsg_destroy (&body);
    return request;
}

static void answer (mdreq_t *request)
{
    mdmsg_t *reply = text_message ("done");
    CHECK (mdreq_reply (request, &reply) == 0);
    mdreq_destroy (&request);
}

static mdwrk_async_t *worker_of_two (mdbrk_t *hub, const char *service)
{
    mdwrk_async_t *worker = mdwrk_async_new (mdbrk_endpoint (hub), service, 0);
    CHECK (worker != NULL && mdwrk_async_set_concurrency (worker, 2) == 0);
    CHECK (mdwrk_async_start (worker) == 0);
    return worker;
}

static void of_two_requests_in_a_lost_worker_the_one_of_one_attempt_fails_and_the_other_runs_again (void)
{
    mdbrk_t *hub = hub_start ();
    mdwrk_async_t *lost = worker_of_two (hub, "lost");
    mdcli_async_t *client = patient_async_client (hub, "x1");
    mdopt_t *options = once_only ();
    int64_t with = send_with (client, "lost", options), without = send_with (client, "lost", NULL), ticket = 0;
    /* What is under way does not need them. */
    mdopt_destroy (&options);
    mdreq_t *first = next_request (lost, "with"), *second = next_request (lost, "without");
    mdwrk_async_destroy (&lost);
    CHECK (outcome (client, &ticket) == MD_EWORKERLOST && ticket == with);
    mdwrk_async_t *other = worker_of_two (hub, "lost");
    answer (next_request (other, "without"));
    CHECK (outcome (client, &ticket) == MD_OK && ticket == without);
    CHECK (mdcli_async_outstanding (client) == 0);
    mdreq_destroy (&first);
    mdreq_destroy (&second);
    mdcli_async_destroy (&client);
    mdwrk_async_destroy (&other);
    mdbrk_destroy (&hub);
}

static void a_request_that_will_not_wait_fails_at_once_beside_one_that_waits (void)
{
    mdbrk_t *hub = hub_start ();
    mdcli_async_t *client = patient_async_client (hub, "x1");
    mdopt_t *options = mdopt_new ();
    CHECK (mdopt_set_fail_fast (options, 1) == 0);
    int64_t without = send_with (client, "later", NULL), with = send_with (client, "later", options), ticket = 0;
    CHECK (outcome (client, &ticket) == MD_ENOWORKER && ticket == with);
    /* The other way round: the client's requests will not wait, and this one will. */
    CHECK (mdopt_set_fail_fast (options, 0) == 0 && mdcli_async_set_fail_fast (client, 1) == 0);
    int64_t patient = send_with (client, "later", options), hasty = send_with (client, "later", NULL);
    CHECK (outcome (client, &ticket) == MD_ENOWORKER && ticket == hasty);
    served_t served;
    serve_start (&served, hub, "later", "x1", echo);
    CHECK (outcome (client, &ticket) == MD_OK && ticket == without);
    CHECK (outcome (client, &ticket) == MD_OK && ticket == patient);
    mdopt_destroy (&options);
    mdcli_async_destroy (&client);
    serve_stop (&served);
    mdbrk_destroy (&hub);
}

static void a_deadline_is_of_the_request_that_has_it (void)
{
    mdbrk_t *hub = hub_start ();
    mdwrk_async_t *worker = worker_of_two (hub, "timed");
    mdcli_async_t *client = patient_async_client (hub, "x1");
    CHECK (mdcli_async_set_deadline (client, 2 * PATIENCE_MS) == 0);
    mdopt_t *options = mdopt_new ();
    CHECK (mdopt_set_deadline (options, PATIENCE_MS) == 0);
    int64_t ticket = 0, with = send_with (client, "timed", options), without = send_with (client, "timed", NULL);
    mdreq_t *first = next_request (worker, "with"), *second = next_request (worker, "without");
    CHECK (mdreq_remaining (first) > 0 && mdreq_remaining (first) <= PATIENCE_MS);
    CHECK (mdreq_remaining (second) > PATIENCE_MS);
    answer (first);
    CHECK (outcome (client, &ticket) == MD_OK && ticket == with);
    /* There is a connection: what then takes too long is not the connecting. */
    CHECK (mdopt_set_deadline (options, 50) == 0);
    with = send_with (client, "nobody", options);
    int number = outcome (client, &ticket);
    CHECK ((number == MD_ETIMEOUT || number == MD_EEXPIRED) && ticket == with);
    answer (second);
    CHECK (outcome (client, &ticket) == MD_OK && ticket == without);
    mdopt_destroy (&options);
    mdcli_async_destroy (&client);
    mdwrk_async_destroy (&worker);
    mdbrk_destroy (&hub);
}

static void succeed_at_the_second_attempt (mdwrk_t *worker, mdmsg_t **body_p)
{
    if (mdwrk_attempt (worker) > 1)
        return;
    mdmsg_destroy (body_p);
    CHECK (mdwrk_fail_retryable (worker, 503, "not yet") == 0);
}

typedef struct {
    mdcli_async_t *client;
    mdopt_t *options;
    int64_t tickets[REQUESTS];
} sender_t;

static void *send_many (void *argument)
{
    sender_t *sender = (sender_t *) argument;
    for (int i = 0; i < REQUESTS; i++)
        sender->tickets[i] = send_with (sender->client, "busy", sender->options);
    return NULL;
}

/* Three threads of one client: the requests of two have the same options, and those of one have none. */
static void no_request_of_one_attempt_runs_twice_while_other_threads_send_others (void)
{
    mdbrk_t *hub = hub_start ();
    served_t served;
    serve_start (&served, hub, "busy", "x1", succeed_at_the_second_attempt);
    mdcli_async_t *client = patient_async_client (hub, "x1");
    mdopt_t *options = once_only ();
    static sender_t senders[3];
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        senders[i].client = client;
        senders[i].options = i < 2 ? options : NULL;
        CHECK (pthread_create (&threads[i], NULL, send_many, &senders[i]) == 0);
    }
    for (int i = 0; i < 3; i++)
        CHECK (pthread_join (threads[i], NULL) == 0);
    for (int n = 0; n < 3 * REQUESTS; n++) {
        int64_t ticket = 0;
        int number = outcome (client, &ticket), own = 0;
        for (int i = 0; i < REQUESTS; i++)
            own |= senders[2].tickets[i] == ticket;
        CHECK (number == (own ? MD_OK : MD_ESERVICE));
    }
    CHECK (mdcli_async_outstanding (client) == 0);
    mdopt_destroy (&options);
    mdcli_async_destroy (&client);
    serve_stop (&served);
    mdbrk_destroy (&hub);
}

static void a_blocking_client_has_options_of_single_requests_too (void)
{
    mdbrk_t *hub = hub_start ();
    served_t served;
    serve_start (&served, hub, "busy", "x1", succeed_at_the_second_attempt);
    mdcli_t *client = patient_client (hub, "x1");
    mdopt_t *options = once_only ();
    for (int round = 0; round < 2; round++) {
        mdmsg_t *request = text_message ("with");
        CHECK (mdcli_send_with (client, "busy", &request, options) == NULL && request == NULL);
        CHECK (mdcli_errno (client) == MD_ESERVICE && md_service_code () == 503);
        request = text_message ("with");
        CHECK (mdcli_stream_with (client, "busy", &request, options) == 0 && request == NULL);
        CHECK (mdcli_next (client) == NULL && mdcli_errno (client) == MD_ESERVICE);
        request = text_message ("without");
        mdmsg_t *reply = mdcli_send_with (client, "busy", &request, NULL);
        CHECK (mdmsg_streq (reply, 0, "without") == 1);
        mdmsg_destroy (&reply);
        request = text_message ("without");
        CHECK (mdcli_stream_with (client, "busy", &request, NULL) == 0);
        reply = mdcli_next (client);
        CHECK (mdmsg_streq (reply, 0, "without") == 1);
        mdmsg_destroy (&reply);
        CHECK (mdcli_next (client) == NULL && mdcli_errno (client) == MD_OK);
    }
    mdopt_destroy (&options);
    mdcli_destroy (&client);
    serve_stop (&served);
    mdbrk_destroy (&hub);
}

static void a_streamed_request_in_flight_has_its_own_options (void)
{
    mdbrk_t *hub = hub_start ();
    mdcli_async_t *client = patient_async_client (hub, "x1");
    mdopt_t *options = mdopt_new ();
    CHECK (mdopt_set_fail_fast (options, 1) == 0);
    mdmsg_t *request = text_message ("without");
    int64_t ticket = 0, waiting = mdcli_async_stream_with (client, "nobody", &request, NULL);
    request = text_message ("with");
    int64_t hasty = mdcli_async_stream_with (client, "nobody", &request, options);
    int more = 1;
    CHECK (mdcli_async_recv_part (client, &ticket, &more, PATIENCE_MS) == NULL && ticket == hasty && more == 0);
    CHECK (mdcli_async_errno (client) == MD_ENOWORKER);
    CHECK (mdcli_async_cancel (client, waiting) == 0);
    CHECK (outcome (client, &ticket) == MD_ECANCELLED && ticket == waiting);
    mdopt_destroy (&options);
    mdcli_async_destroy (&client);
    mdbrk_destroy (&hub);
}

static void a_timeout_and_retries_are_of_the_request_that_has_them_with_0_1_too (void)
{
    mdbrk_t *hub = hub_start ();
    mdcli_async_t *client = patient_async_client (hub, "0.1");
    mdopt_t *options = mdopt_new ();
    CHECK (mdopt_set_timeout (options, 20) == 0 && mdopt_set_retries (options, 1) == 0);
    int64_t without = send_with (client, "later", NULL), with = send_with (client, "later", options), ticket = 0;
    /* With 0.1 it has a connection of its own, which may be what took too long. */
    int number = outcome (client, &ticket);
    CHECK ((number == MD_ETIMEOUT || number == MD_EUNREACHABLE) && ticket == with);
    served_t served;
    serve_start (&served, hub, "later", "0.1", echo);
    CHECK (outcome (client, &ticket) == MD_OK && ticket == without);
    mdopt_destroy (&options);
    mdcli_async_destroy (&client);
    serve_stop (&served);
    mdbrk_destroy (&hub);
}

static void options_that_cannot_be_are_refused (void)
{
    mdopt_t *options = mdopt_new ();
    int (*const setters[]) (mdopt_t *, int) = {mdopt_set_timeout, mdopt_set_retries, mdopt_set_deadline,
                                               mdopt_set_max_attempts};
    for (size_t i = 0; i < sizeof setters / sizeof *setters; i++) {
        CHECK (setters[i] (options, -1) == -1);
        CHECK_ERRNO (MD_EINVAL);
        /* 0 is what it is without a limit; a timeout and retries are never without. */
        CHECK (setters[i] (options, 0) == (i < 2 ? -1 : 0));
        CHECK (setters[i] (options, 1) == 0);
    }
    CHECK (mdopt_set_max_attempts (options, 65535) == 0 && mdopt_set_max_attempts (options, 65536) == -1);
    CHECK_ERRNO (MD_EINVAL);
    mdopt_destroy (&options);
}

static void handles_that_are_no_options_are_refused_and_the_request_is_taken (void)
{
    mdcli_t *client = mdcli_new ("tcp://127.0.0.1:1", 0);
    mdcli_async_t *many = mdcli_async_new ("tcp://127.0.0.1:1", 0);
    mdopt_t *gone = mdopt_new (), *stale = gone;
    mdopt_destroy (&gone);
    CHECK (gone == NULL);
    mdopt_destroy (&gone);
    mdopt_t *const wrong[] = {stale, (mdopt_t *) (void *) client, (mdopt_t *) (void *) &client};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        mdmsg_t *requests[] = {text_message ("x"), text_message ("x"), text_message ("x"), text_message ("x")};
        CHECK (mdcli_send_with (client, "echo", &requests[0], wrong[i]) == NULL);
        CHECK (md_errno () == MD_EINVAL || md_errno () == MD_ECLOSED);
        CHECK (mdcli_stream_with (client, "echo", &requests[1], wrong[i]) == -1);
        CHECK (mdcli_errno (client) == MD_EINVAL || mdcli_errno (client) == MD_ECLOSED);
        CHECK (mdcli_async_send_with (many, "echo", &requests[2], wrong[i]) == -1);
        CHECK (mdcli_async_errno (many) == MD_EINVAL || mdcli_async_errno (many) == MD_ECLOSED);
        CHECK (mdcli_async_stream_with (many, "echo", &requests[3], wrong[i]) == -1);
        CHECK (mdcli_async_errno (many) == (i == 0 ? MD_ECLOSED : md_errno ()));
        for (size_t n = 0; n < sizeof requests / sizeof *requests; n++)
            CHECK (requests[n] == NULL);
        CHECK (mdopt_set_fail_fast (wrong[i], 1) == -1);
    }
    CHECK (strstr (md_errtext (), "mdopt_t") != NULL);
    CHECK (mdcli_async_outstanding (many) == 0);
    mdcli_destroy (&client);
    mdcli_async_destroy (&many);
}

static void after_a_fork_options_are_closed_and_new_ones_work (void)
{
    mdopt_t *options = once_only ();
    int tell[2], good = 0, status = -1;
    CHECK (pipe (tell) == 0);
    pid_t pid = fork ();
    if (pid == 0) {
        good = mdopt_set_retries (options, 1) == -1 && md_errno () == MD_ECLOSED;
        mdopt_destroy (&options);
        mdopt_t *own = once_only ();
        mdopt_destroy (&own);
        good = good && options == NULL && own == NULL && check_broken == 0;
        _exit (write (tell[1], &good, sizeof good) != sizeof good);
    }
    close (tell[1]);
    CHECK (read (tell[0], &good, sizeof good) == sizeof good && good);
    close (tell[0]);
    CHECK (waitpid (pid, &status, 0) == pid);
    CHECK (mdopt_set_retries (options, 1) == 0);
    mdopt_destroy (&options);
}

int main (void)
{
    RUN (of_two_requests_in_a_lost_worker_the_one_of_one_attempt_fails_and_the_other_runs_again);
    RUN (a_request_that_will_not_wait_fails_at_once_beside_one_that_waits);
    RUN (a_deadline_is_of_the_request_that_has_it);
    RUN (no_request_of_one_attempt_runs_twice_while_other_threads_send_others);
    RUN (a_blocking_client_has_options_of_single_requests_too);
    RUN (a_streamed_request_in_flight_has_its_own_options);
    RUN (a_timeout_and_retries_are_of_the_request_that_has_them_with_0_1_too);
    RUN (options_that_cannot_be_are_refused);
    RUN (handles_that_are_no_options_are_refused_and_the_request_is_taken);
    RUN (after_a_fork_options_are_closed_and_new_ones_work);
    return check_report ();
}
