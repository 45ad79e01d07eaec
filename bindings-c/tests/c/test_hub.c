/* Clients, workers and a broker of this library, together. */
#include "hub.h"
#include <sched.h>

static void fails_with_seven (mdwrk_t *worker, mdmsg_t **body_p)
{
    CHECK (mdwrk_fail (worker, 7, "no such file") == 0);
    mdmsg_destroy (body_p);
}

static void counts_to_three (mdwrk_t *worker, mdmsg_t **body_p)
{
    static const char *const numbers[] = {"1", "2", "3"};
    for (int i = 0; i < 3; i++) {
        mdmsg_t *part = text_message (numbers[i]);
        CHECK (mdwrk_partial (worker, &part) == 0 && part == NULL);
    }
    mdmsg_destroy (body_p);
    *body_p = text_message ("END");
}

/* Result: the request, still to be answered. */
static void *send_a_part (void *argument)
{
    mdreq_t *request = mdwrk_async_recv ((mdwrk_async_t *) argument, PATIENCE_MS);
    mdmsg_t *part = text_message ("part");
    CHECK (mdreq_partial (request, &part) == 0);
    return request;
}

static void every_shape_of_message_comes_back_as_it_went (const char *protocol)
{
    mdbrk_t *hub = hub_start ();
    served_t worker;
    serve_start (&worker, hub, "echo", protocol, echo);
    mdcli_t *client = patient_client (hub, protocol);
    for (size_t frames = 0; frames <= 20; frames++) {
        mdmsg_t *request = mdmsg_new ();
        for (size_t i = 0; i < frames; i++)
            mdmsg_addmem (request, "\0\1\2\3\xff four \0 and more", i);
        mdmsg_t *expected = mdmsg_dup (request);
        mdmsg_t *reply = mdcli_send (client, "echo", &request);
        CHECK (request == NULL);
        CHECK (reply != NULL && mdcli_errno (client) == MD_OK);
        CHECK (mdmsg_eq (reply, expected) == 1);
        mdmsg_destroy (&expected);
        mdmsg_destroy (&reply);
    }
    mdcli_destroy (&client);
    serve_stop (&worker);
    mdbrk_destroy (&hub);
}

static void every_shape_of_message_comes_back_as_it_went_with_0_1 (void)
{
    every_shape_of_message_comes_back_as_it_went ("0.1");
}

static void every_shape_of_message_comes_back_as_it_went_with_0_2 (void)
{
    every_shape_of_message_comes_back_as_it_went ("0.2");
}

static void a_hundred_megabytes_come_back (void)
{
    /* Under Valgrind one megabyte has to do. */
    const char *set = getenv ("MD_TEST_LARGE_BYTES");
    const size_t size = set ? (size_t) strtoul (set, NULL, 10) : 100u << 20;
    char *content = (char *) malloc (size);
    CHECK (content != NULL);
    for (size_t i = 0; i < size; i++)
        content[i] = (char) (i * 31 % 251);
    mdbrk_t *hub = hub_start ();
    served_t worker;
    serve_start (&worker, hub, "echo", "0.1", echo);
    mdcli_t *client = patient_client (hub, "0.1");
    mdmsg_t *request = mdmsg_new ();
    CHECK (mdmsg_addmem (request, content, size) == 0);
    mdmsg_t *reply = mdcli_send (client, "echo", &request);
    const void *data = NULL;
    size_t length = 0;
    CHECK (mdmsg_frame (reply, 0, &data, &length) == 0);
    CHECK (length == size && memcmp (data, content, size) == 0);
    mdmsg_destroy (&reply);
    free (content);
    mdcli_destroy (&client);
    serve_stop (&worker);
    mdbrk_destroy (&hub);
}

static void a_failure_of_the_handler_has_its_code_and_text (void)
{
    mdbrk_t *hub = hub_start ();
    served_t worker;
    serve_start (&worker, hub, "failing", "0.1", fails_with_seven);
    mdcli_t *client = patient_client (hub, "0.1");
    mdmsg_t *request = text_message ("x");
    CHECK (mdcli_send (client, "failing", &request) == NULL);
    CHECK (mdcli_errno (client) == MD_ESERVICE);
    CHECK (md_service_code () == 7);
    CHECK (strcmp (md_service_text (), "no such file") == 0);
    mdcli_destroy (&client);
    serve_stop (&worker);
    mdbrk_destroy (&hub);
}

static void a_stream_gives_its_parts_and_ends_without_an_error (void)
{
    static const char *const expected[] = {"1", "2", "3", "END"};
    mdbrk_t *hub = hub_start ();
    served_t worker;
    serve_start (&worker, hub, "count", "0.2", counts_to_three);
    mdcli_t *client = patient_client (hub, "0.2");
    CHECK (mdcli_next (client) == NULL && mdcli_errno (client) == MD_EINVAL);
    /* Twice: a stream ends whole. */
    for (int round = 0; round < 2; round++) {
        mdmsg_t *request = text_message ("go");
        CHECK (mdcli_stream (client, "count", &request) == 0 && request == NULL);
        for (int i = 0; i < 4; i++) {
            mdmsg_t *part = mdcli_next (client);
            CHECK (mdmsg_streq (part, 0, expected[i]) == 1);
            mdmsg_destroy (&part);
        }
        CHECK (mdcli_next (client) == NULL && mdcli_errno (client) == MD_OK);
    }
    /* A stream that is left alone is given up by the next request, or by the client's end. */
    mdmsg_t *request = text_message ("go");
    CHECK (mdcli_stream (client, "count", &request) == 0);
    request = text_message ("go");
    mdmsg_t *whole = mdcli_send (client, "count", &request);
    CHECK (mdmsg_size (whole) == 4 && mdmsg_streq (whole, 3, "END") == 1);
    mdmsg_destroy (&whole);
    request = text_message ("go");
    CHECK (mdcli_stream (client, "count", &request) == 0);
    mdcli_destroy (&client);
    serve_stop (&worker);
    mdbrk_destroy (&hub);
}

/* Without another request, and without the client's end. */
static void a_stream_that_is_given_up_in_the_middle_tells_its_worker (void)
{
    mdbrk_t *hub = hub_start ();
    mdwrk_async_t *worker = mdwrk_async_new (mdbrk_endpoint (hub), "endless", 0);
    mdcli_t *client = patient_client (hub, "x1");
    CHECK (mdcli_cancel (client) == 0);
    CHECK (mdcli_set_deadline (client, PATIENCE_MS) == 0);
    for (int round = 0; round < 2; round++) {
        mdmsg_t *message = text_message ("go");
        CHECK (mdcli_stream (client, "endless", &message) == 0);
        mdreq_t *request = NULL;
        /* The client does its part while it is in a call: what it waits for comes when the worker has the request. */
        pthread_t thread;
        CHECK (pthread_create (&thread, NULL, send_a_part, worker) == 0);
        message = mdcli_next (client);
        CHECK (mdmsg_streq (message, 0, "part") == 1);
        mdmsg_destroy (&message);
        CHECK (pthread_join (thread, (void **) &request) == 0);
        CHECK (mdreq_cancelled (request) == 0);
        CHECK (mdcli_cancel (client) == 0 && mdcli_errno (client) == MD_OK);
        while (mdreq_cancelled (request) == 0)
            sched_yield ();
        /* Not for want of time. */
        CHECK (mdreq_cancelled (request) == 1 && mdreq_remaining (request) > 0);
        CHECK (mdcli_next (client) == NULL && mdcli_errno (client) == MD_EINVAL);
        CHECK (mdcli_cancel (client) == 0);
        mdreq_destroy (&request);
    }
    mdcli_destroy (&client);
    mdwrk_async_destroy (&worker);
    mdbrk_destroy (&hub);
}

static void parts_for_a_0_1_client_are_joined (void)
{
    mdbrk_t *hub = hub_start ();
    served_t worker;
    serve_start (&worker, hub, "count", "0.2", counts_to_three);
    mdcli_t *client = patient_client (hub, "0.1");
    mdmsg_t *request = text_message ("go");
    mdmsg_t *reply = mdcli_send (client, "count", &request);
    CHECK (mdmsg_size (reply) == 4 && mdmsg_streq (reply, 0, "1") == 1 && mdmsg_streq (reply, 3, "END") == 1);
    mdmsg_destroy (&reply);
    mdcli_destroy (&client);
    serve_stop (&worker);
    mdbrk_destroy (&hub);
}

static void a_request_that_nobody_answers_times_out (void)
{
    mdbrk_t *hub = hub_start ();
    mdcli_t *client = mdcli_new (mdbrk_endpoint (hub), 0);
    be_connected (client);
    CHECK (mdcli_set_timeout (client, 20) == 0 && mdcli_set_retries (client, 1) == 0);
    mdmsg_t *request = text_message ("x");
    CHECK (mdcli_send (client, "nobody", &request) == NULL && request == NULL);
    CHECK (mdcli_errno (client) == MD_ETIMEOUT);
    be_connected (client);
    CHECK (mdcli_set_deadline (client, 20) == 0);
    request = text_message ("x");
    CHECK (mdcli_send (client, "nobody", &request) == NULL && request == NULL);
    CHECK (mdcli_errno (client) == MD_ETIMEOUT);
    mdcli_destroy (&client);
    mdbrk_destroy (&hub);
}

static void a_broker_that_is_not_there_is_unreachable (void)
{
    /* A port that was free a moment ago. */
    mdbrk_t *hub = hub_start ();
    mdcli_t *client = mdcli_new (mdbrk_endpoint (hub), 0);
    CHECK (mdbrk_stop (hub) == 0);
    CHECK (mdcli_set_timeout (client, 50) == 0 && mdcli_set_retries (client, 1) == 0);
    mdmsg_t *request = text_message ("x");
    CHECK (mdcli_send (client, "echo", &request) == NULL);
    CHECK (mdcli_errno (client) == MD_EUNREACHABLE);
    mdcli_destroy (&client);
    mdbrk_destroy (&hub);
}

static void a_message_over_the_limit_is_refused (void)
{
    mdbrk_t *hub = hub_start ();
    mdcli_t *client = patient_client (hub, "0.1");
    CHECK (mdcli_set_max_message_bytes (client, 10) == 0);
    mdmsg_t *request = text_message ("more than ten bytes");
    CHECK (mdcli_send (client, "echo", &request) == NULL && request == NULL);
    CHECK (mdcli_errno (client) == MD_ETOOLARGE);
    mdcli_destroy (&client);
    mdbrk_destroy (&hub);
}

static void a_service_name_that_is_none_is_refused_and_the_client_goes_on (void)
{
    mdbrk_t *hub = hub_start ();
    served_t worker;
    serve_start (&worker, hub, "echo", "0.1", echo);
    mdcli_t *client = patient_client (hub, "0.1");
    mdmsg_t *request = text_message ("x");
    CHECK (mdcli_send (client, "", &request) == NULL && mdcli_errno (client) == MD_EINVAL && request == NULL);
    request = text_message ("x");
    CHECK (mdcli_send (client, "a\nb", &request) == NULL && mdcli_errno (client) == MD_EINVAL && request == NULL);
    request = text_message ("x");
    mdmsg_t *reply = mdcli_send (client, "echo", &request);
    CHECK (mdmsg_streq (reply, 0, "x") == 1);
    mdmsg_destroy (&reply);
    mdcli_destroy (&client);
    serve_stop (&worker);
    mdbrk_destroy (&hub);
}

static void the_broker_tells_of_itself (void)
{
    mdbrk_t *hub = mdbrk_new ("tcp://127.0.0.1:0,tcp://127.0.0.1:0", 0);
    CHECK (mdbrk_endpoint (hub) == NULL && mdbrk_errno (hub) == MD_EINVAL);
    CHECK (mdbrk_stats (hub) == NULL && mdbrk_errno (hub) == MD_EINVAL);
    CHECK (mdbrk_stop (hub) == -1 && mdbrk_errno (hub) == MD_EINVAL);
    CHECK (mdbrk_start (hub) == 0);
    CHECK (mdbrk_start (hub) == -1 && mdbrk_errno (hub) == MD_EINVAL);
    CHECK (mdbrk_set_liveness (hub, 4) == -1 && mdbrk_errno (hub) == MD_EINVAL);
    CHECK (strncmp (mdbrk_endpoint_at (hub, 1), "tcp://127.0.0.1:", 16) == 0);
    CHECK (strcmp (mdbrk_endpoint (hub), mdbrk_endpoint_at (hub, 1)) != 0);
    CHECK (mdbrk_endpoint_at (hub, 2) == NULL && mdbrk_errno (hub) == MD_EINVAL);
    char *stats = mdbrk_stats (hub);
    CHECK (stats && stats[0] == '{' && stats[strlen (stats) - 1] == '}');
    free (stats);
    mdbrk_t *second = mdbrk_new (mdbrk_endpoint (hub), 0);
    CHECK (mdbrk_start (second) == -1 && mdbrk_errno (second) != MD_OK);
    mdbrk_destroy (&second);
    CHECK (mdbrk_stop (hub) == 0 && mdbrk_stop (hub) == 0);
    CHECK (mdbrk_stats (hub) == NULL && mdbrk_errno (hub) == MD_ECLOSED);
    mdbrk_destroy (&hub);
}

static void a_worker_without_work_waits_as_long_as_it_was_told (void)
{
    mdbrk_t *hub = hub_start ();
    mdwrk_t *worker = mdwrk_new (mdbrk_endpoint (hub), "idle", 0);
    mdmsg_t *none = NULL;
    CHECK (mdwrk_set_recv_timeout (worker, 20) == 0);
    CHECK (mdwrk_recv (worker, &none) == NULL && mdwrk_errno (worker) == MD_ETIMEOUT);
    /* Nothing is in hand, so there is nothing to answer. */
    mdmsg_t *reply = text_message ("x");
    CHECK (mdwrk_recv (worker, &reply) == NULL && mdwrk_errno (worker) == MD_EINVAL && reply == NULL);
    reply = text_message ("x");
    CHECK (mdwrk_reply (worker, &reply) == -1 && mdwrk_errno (worker) == MD_EINVAL && reply == NULL);
    CHECK (mdwrk_fail (worker, 1, "x") == -1 && mdwrk_errno (worker) == MD_EINVAL);
    CHECK (mdwrk_drain (worker) == 0);
    CHECK (mdwrk_set_recv_timeout (worker, PATIENCE_MS) == 0);
    CHECK (mdwrk_recv (worker, &none) == NULL && mdwrk_errno (worker) == MD_ECLOSED);
    mdwrk_destroy (&worker);
    mdbrk_destroy (&hub);
}

static void a_worker_drained_before_its_first_call_is_closed (void)
{
    mdwrk_t *worker = mdwrk_new ("tcp://127.0.0.1:1", "echo", 0);
    mdmsg_t *none = NULL;
    CHECK (mdwrk_drain (worker) == 0);
    CHECK (mdwrk_recv (worker, &none) == NULL && mdwrk_errno (worker) == MD_ECLOSED);
    CHECK (mdwrk_start (worker) == -1 && mdwrk_errno (worker) == MD_ECLOSED);
    mdwrk_destroy (&worker);
}

static void a_request_is_not_forgotten_when_its_answer_is (void)
{
    mdbrk_t *hub = hub_start ();
    mdcli_async_t *client = patient_async_client (hub, "0.1");
    mdwrk_t *worker = mdwrk_new (mdbrk_endpoint (hub), "forgetful", 0);
    mdmsg_t *request = text_message ("x"), *none = NULL;
    int64_t ticket = 0, sent = mdcli_async_send (client, "forgetful", &request);
    CHECK (sent > 0);
    mdmsg_t *body = mdwrk_recv (worker, &none);
    CHECK (mdmsg_streq (body, 0, "x") == 1);
    CHECK (mdwrk_recv (worker, &none) == NULL && mdwrk_errno (worker) == MD_EINVAL);
    CHECK (mdwrk_set_liveness (worker, 9) == -1 && mdwrk_errno (worker) == MD_EINVAL);
    CHECK (mdwrk_reply (worker, &body) == 0 && body == NULL);
    mdmsg_t *reply = mdcli_async_recv (client, &ticket, PATIENCE_MS);
    CHECK (mdmsg_streq (reply, 0, "x") == 1 && ticket == sent);
    mdmsg_destroy (&reply);
    mdwrk_destroy (&worker);
    mdcli_async_destroy (&client);
    mdbrk_destroy (&hub);
}

static void a_reply_over_the_limit_is_refused_and_the_request_can_still_be_answered (void)
{
    mdbrk_t *hub = hub_start ();
    mdcli_async_t *client = patient_async_client (hub, "0.1");
    mdwrk_t *worker = mdwrk_new (mdbrk_endpoint (hub), "verbose", 0);
    CHECK (mdwrk_set_max_message_bytes (worker, 100) == 0);
    mdmsg_t *request = text_message ("x"), *none = NULL;
    int64_t ticket = 0;
    CHECK (mdcli_async_send (client, "verbose", &request) > 0);
    mdmsg_t *body = mdwrk_recv (worker, &none);
    CHECK (body != NULL);
    char words[1000];
    memset (words, 'w', sizeof words);
    CHECK (mdmsg_addmem (body, words, sizeof words) == 0);
    CHECK (mdwrk_recv (worker, &body) == NULL && body == NULL && mdwrk_errno (worker) == MD_ETOOLARGE);
    CHECK (mdwrk_fail (worker, 413, "the answer is too long") == 0);
    CHECK (mdcli_async_recv (client, &ticket, PATIENCE_MS) == NULL && ticket > 0);
    CHECK (mdcli_async_errno (client) == MD_ESERVICE && md_service_code () == 413);
    mdwrk_destroy (&worker);
    mdcli_async_destroy (&client);
    mdbrk_destroy (&hub);
}

static void a_request_in_hand_goes_to_another_worker_when_its_own_is_destroyed (void)
{
    mdbrk_t *hub = hub_start ();
    mdcli_async_t *client = patient_async_client (hub, "0.1");
    mdwrk_t *first = mdwrk_new (mdbrk_endpoint (hub), "passed on", 0);
    mdwrk_t *second = mdwrk_new (mdbrk_endpoint (hub), "passed on", 0);
    mdmsg_t *request = text_message ("x"), *none = NULL;
    int64_t ticket = 0;
    CHECK (mdcli_async_send (client, "passed on", &request) > 0);
    mdmsg_t *body = mdwrk_recv (first, &none);
    CHECK (mdmsg_streq (body, 0, "x") == 1);
    mdmsg_destroy (&body);
    mdwrk_destroy (&first);
    body = mdwrk_recv (second, &none);
    CHECK (mdmsg_streq (body, 0, "x") == 1);
    CHECK (mdwrk_reply (second, &body) == 0);
    mdmsg_t *reply = mdcli_async_recv (client, &ticket, PATIENCE_MS);
    CHECK (mdmsg_streq (reply, 0, "x") == 1);
    mdmsg_destroy (&reply);
    mdwrk_destroy (&second);
    mdcli_async_destroy (&client);
    mdbrk_destroy (&hub);
}

static void mmi_service_knows_who_is_there (void)
{
    mdbrk_t *hub = hub_start ();
    served_t worker;
    serve_start (&worker, hub, "echo", "0.1", echo);
    mdcli_t *client = patient_client (hub, "0.1");
    mdmsg_t *request = text_message ("x");
    mdmsg_t *reply = mdcli_send (client, "echo", &request);
    mdmsg_destroy (&reply);
    request = text_message ("echo");
    reply = mdcli_send (client, "mmi.service", &request);
    CHECK (mdmsg_streq (reply, 0, "200") == 1);
    mdmsg_destroy (&reply);
    request = text_message ("ohce");
    reply = mdcli_send (client, "mmi.service", &request);
    CHECK (mdmsg_streq (reply, 0, "404") == 1);
    mdmsg_destroy (&reply);
    mdcli_destroy (&client);
    serve_stop (&worker);
    mdbrk_destroy (&hub);
}

int main (void)
{
    RUN (every_shape_of_message_comes_back_as_it_went_with_0_1);
    RUN (every_shape_of_message_comes_back_as_it_went_with_0_2);
    RUN (a_hundred_megabytes_come_back);
    RUN (a_failure_of_the_handler_has_its_code_and_text);
    RUN (a_stream_gives_its_parts_and_ends_without_an_error);
    RUN (a_stream_that_is_given_up_in_the_middle_tells_its_worker);
    RUN (parts_for_a_0_1_client_are_joined);
    RUN (a_request_that_nobody_answers_times_out);
    RUN (a_broker_that_is_not_there_is_unreachable);
    RUN (a_message_over_the_limit_is_refused);
    RUN (a_service_name_that_is_none_is_refused_and_the_client_goes_on);
    RUN (the_broker_tells_of_itself);
    RUN (a_worker_without_work_waits_as_long_as_it_was_told);
    RUN (a_worker_drained_before_its_first_call_is_closed);
    RUN (a_request_is_not_forgotten_when_its_answer_is);
    RUN (a_reply_over_the_limit_is_refused_and_the_request_can_still_be_answered);
    RUN (a_request_in_hand_goes_to_another_worker_when_its_own_is_destroyed);
    RUN (mmi_service_knows_who_is_there);
    return check_report ();
}
