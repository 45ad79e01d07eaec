/* Many requests at once, on either side. */
#include "hub.h"
#include <poll.h>

enum { REQUESTS = 100 };

static void counts_to_three (mdwrk_t *worker, mdmsg_t **body_p)
{
    static const char *const numbers[] = {"1", "2", "3"};
    for (int i = 0; i < 3; i++) {
        mdmsg_t *part = text_message (numbers[i]);
        CHECK (mdwrk_partial (worker, &part) == 0);
    }
    mdmsg_destroy (body_p);
    *body_p = text_message ("END");
}

static void a_hundred_requests_at_once_each_get_their_own_answer (void)
{
    mdbrk_t *hub = hub_start ();
    served_t workers[4];
    for (int i = 0; i < 4; i++)
        serve_start (&workers[i], hub, "echo", "0.1", echo);
    mdcli_async_t *client = patient_async_client (hub, "0.1");
    int64_t tickets[REQUESTS];
    int outcomes[REQUESTS] = {0};
    char text[16];
    for (int i = 0; i < REQUESTS; i++) {
        snprintf (text, sizeof text, "%d", i);
        mdmsg_t *request = text_message (text);
        tickets[i] = mdcli_async_send (client, "echo", &request);
        CHECK (tickets[i] > 0 && request == NULL);
    }
    CHECK (mdcli_async_outstanding (client) == REQUESTS);
    for (int i = 0; i < REQUESTS; i++) {
        int64_t ticket = 0;
        mdmsg_t *reply = mdcli_async_recv (client, &ticket, PATIENCE_MS);
        int which = 0;
        while (which < REQUESTS - 1 && tickets[which] != ticket)
            which++;
        CHECK (tickets[which] == ticket);
        outcomes[which]++;
        snprintf (text, sizeof text, "%d", which);
        CHECK (mdmsg_streq (reply, 0, text) == 1);
        mdmsg_destroy (&reply);
    }
    for (int i = 0; i < REQUESTS; i++)
        CHECK (outcomes[i] == 1);
    int64_t ticket = 1;
    CHECK (mdcli_async_outstanding (client) == 0);
    CHECK (mdcli_async_recv (client, &ticket, -1) == NULL && ticket == 0);
    CHECK (mdcli_async_errno (client) == MD_EINVAL);
    CHECK (mdcli_async_set_max_in_flight (client, 5) == -1 && mdcli_async_errno (client) == MD_EINVAL);
    mdcli_async_destroy (&client);
    for (int i = 0; i < 4; i++)
        serve_stop (&workers[i]);
    mdbrk_destroy (&hub);
}

static void a_cancelled_request_has_that_as_its_outcome (void)
{
    mdbrk_t *hub = hub_start ();
    mdcli_async_t *client = patient_async_client (hub, "0.1");
    mdmsg_t *request = text_message ("x");
    int64_t ticket = 0, sent = mdcli_async_send (client, "nobody", &request);
    CHECK (mdcli_async_recv (client, &ticket, 0) == NULL && ticket == 0);
    CHECK (mdcli_async_errno (client) == MD_ETIMEOUT);
    CHECK (mdcli_async_cancel (client, sent) == 0);
    CHECK (mdcli_async_recv (client, &ticket, PATIENCE_MS) == NULL && ticket == sent);
    CHECK (mdcli_async_errno (client) == MD_ECANCELLED);
    CHECK (mdcli_async_cancel (client, sent) == 0 && mdcli_async_outstanding (client) == 0);
    const int64_t strange[] = {-7, 0, sent + 1, INT64_MAX};
    for (size_t i = 0; i < sizeof strange / sizeof *strange; i++)
        CHECK (mdcli_async_cancel (client, strange[i]) == -1 && mdcli_async_errno (client) == MD_EINVAL);
    mdcli_async_destroy (&client);
    mdbrk_destroy (&hub);
}

static void a_client_may_go_with_requests_outstanding (void)
{
    mdbrk_t *hub = hub_start ();
    mdcli_async_t *client = patient_async_client (hub, "0.1");
    for (int i = 0; i < 10; i++) {
        mdmsg_t *request = text_message ("x");
        CHECK (mdcli_async_send (client, "nobody", &request) > 0);
    }
    mdcli_async_destroy (&client);
    mdbrk_destroy (&hub);
}

static void a_failed_request_is_told_with_its_ticket (void)
{
    mdbrk_t *hub = hub_start ();
    mdcli_async_t *client = patient_async_client (hub, "0.1");
    /* The first request, to the broker itself, makes the connection: what then takes too long is not the connecting. */
    mdmsg_t *request = text_message ("nobody");
    int64_t ticket = 0, sent = mdcli_async_send (client, "mmi.service", &request);
    mdmsg_t *reply = mdcli_async_recv (client, &ticket, PATIENCE_MS);
    CHECK (mdmsg_streq (reply, 0, "404") == 1 && ticket == sent);
    mdmsg_destroy (&reply);
    CHECK (mdcli_async_set_timeout (client, 20) == 0 && mdcli_async_set_retries (client, 1) == 0);
    request = text_message ("x");
    sent = mdcli_async_send (client, "nobody", &request);
    CHECK (mdcli_async_recv (client, &ticket, PATIENCE_MS) == NULL && ticket == sent);
    CHECK (mdcli_async_errno (client) == MD_ETIMEOUT);
    mdcli_async_destroy (&client);
    mdbrk_destroy (&hub);
}

static void a_streamed_answer_comes_in_parts_or_joined_as_it_was_asked_for (void)
{
    mdbrk_t *hub = hub_start ();
    served_t worker;
    serve_start (&worker, hub, "count", "0.2", counts_to_three);
    mdcli_async_t *client = patient_async_client (hub, "0.2");
    mdmsg_t *request = text_message ("go");
    int64_t ticket = 0, sent = mdcli_async_stream (client, "count", &request);
    int more = 1;
    static const char *const expected[] = {"1", "2", "3", "END"};
    for (int i = 0; i < 4; i++) {
        CHECK (more == 1);
        mdmsg_t *part = mdcli_async_recv_part (client, &ticket, &more, PATIENCE_MS);
        CHECK (mdmsg_streq (part, 0, expected[i]) == 1 && ticket == sent);
        mdmsg_destroy (&part);
    }
    CHECK (more == 0);
    request = text_message ("go");
    sent = mdcli_async_send (client, "count", &request);
    mdmsg_t *whole = mdcli_async_recv_part (client, &ticket, &more, PATIENCE_MS);
    CHECK (mdmsg_size (whole) == 4 && ticket == sent && more == 0);
    mdmsg_destroy (&whole);
    mdcli_async_destroy (&client);
    serve_stop (&worker);
    mdbrk_destroy (&hub);
}

static void the_descriptors_are_readable_when_something_has_come (void)
{
    mdbrk_t *hub = hub_start ();
    mdcli_async_t *client = patient_async_client (hub, "0.1");
    mdwrk_async_t *worker = mdwrk_async_new (mdbrk_endpoint (hub), "polled", 0);
    CHECK (mdwrk_async_start (worker) == 0);
    mdmsg_t *request = text_message ("x");
    int64_t ticket = 0;
    CHECK (mdcli_async_send (client, "polled", &request) > 0);
    struct pollfd wait = {mdwrk_async_fd (worker), POLLIN, 0};
    mdreq_t *in_hand = NULL;
    while (!in_hand) {
        CHECK (poll (&wait, 1, PATIENCE_MS) == 1);
        in_hand = mdwrk_async_recv (worker, 0);
        CHECK (in_hand || mdwrk_async_errno (worker) == MD_ETIMEOUT);
    }
    mdmsg_t *reply = mdreq_body (in_hand);
    CHECK (mdreq_reply (in_hand, &reply) == 0 && reply == NULL);
    mdreq_destroy (&in_hand);
    wait.fd = mdcli_async_fd (client);
    while (!reply) {
        CHECK (poll (&wait, 1, PATIENCE_MS) == 1);
        reply = mdcli_async_recv (client, &ticket, 0);
        CHECK (reply || mdcli_async_errno (client) == MD_ETIMEOUT);
    }
    CHECK (mdmsg_streq (reply, 0, "x") == 1);
    mdmsg_destroy (&reply);
    mdwrk_async_destroy (&worker);
    mdcli_async_destroy (&client);
    mdbrk_destroy (&hub);
}

static void requests_in_hand_may_be_answered_in_any_order (void)
{
    mdbrk_t *hub = hub_start ();
    mdcli_async_t *client = patient_async_client (hub, "0.1");
    mdwrk_async_t *worker = mdwrk_async_new (mdbrk_endpoint (hub), "several", 0);
    CHECK (mdwrk_async_set_concurrency (worker, 4) == 0);
    mdreq_t *in_hand[4];
    for (int i = 0; i < 4; i++) {
        char text[2] = {(char) ('a' + i), '\0'};
        mdmsg_t *request = text_message (text);
        CHECK (mdcli_async_send (client, "several", &request) > 0);
    }
    for (int i = 0; i < 4; i++) {
        in_hand[i] = mdwrk_async_recv (worker, PATIENCE_MS);
        CHECK (in_hand[i] != NULL);
        CHECK (strcmp (mdreq_service (in_hand[i]), "several") == 0);
    }
    CHECK (mdwrk_async_set_concurrency (worker, 1) == -1 && mdwrk_async_errno (worker) == MD_EINVAL);
    for (int i = 3; i >= 0; i--) {
        mdmsg_t *body = mdreq_body (in_hand[i]), *expected = mdmsg_dup (body);
        CHECK (mdreq_reply (in_hand[i], &body) == 0);
        body = text_message ("again");
        CHECK (mdreq_reply (in_hand[i], &body) == -1 && body == NULL);
        CHECK_ERRNO (MD_EINVAL);
        mdreq_destroy (&in_hand[i]);
        int64_t ticket = 0;
        mdmsg_t *reply = mdcli_async_recv (client, &ticket, PATIENCE_MS);
        CHECK (mdmsg_eq (reply, expected) == 1);
        mdmsg_destroy (&reply);
        mdmsg_destroy (&expected);
    }
    mdwrk_async_destroy (&worker);
    mdcli_async_destroy (&client);
    mdbrk_destroy (&hub);
}

static void a_request_can_fail_or_be_dropped_and_the_client_learns_of_it (void)
{
    mdbrk_t *hub = hub_start ();
    mdcli_async_t *client = patient_async_client (hub, "0.1");
    mdwrk_async_t *worker = mdwrk_async_new (mdbrk_endpoint (hub), "failing", 0);
    int64_t ticket = 0;
    for (int round = 0; round < 2; round++) {
        mdmsg_t *request = text_message ("x");
        CHECK (mdcli_async_send (client, "failing", &request) > 0);
        mdreq_t *in_hand = mdwrk_async_recv (worker, PATIENCE_MS);
        if (round == 0)
            CHECK (mdreq_fail (in_hand, 42, "out of paper") == 0);
        mdreq_destroy (&in_hand);
        CHECK (mdcli_async_recv (client, &ticket, PATIENCE_MS) == NULL && ticket > 0);
        CHECK (mdcli_async_errno (client) == MD_ESERVICE);
        CHECK (md_service_code () == (round == 0 ? 42u : 500u));
    }
    mdwrk_async_destroy (&worker);
    mdcli_async_destroy (&client);
    mdbrk_destroy (&hub);
}

static void a_drained_worker_answers_what_it_has_and_then_is_closed (void)
{
    mdbrk_t *hub = hub_start ();
    mdcli_async_t *client = patient_async_client (hub, "0.1");
    mdwrk_async_t *worker = mdwrk_async_new (mdbrk_endpoint (hub), "draining", 0);
    CHECK (mdwrk_async_set_drain_timeout (worker, PATIENCE_MS) == 0);
    mdmsg_t *request = text_message ("x");
    int64_t ticket = 0;
    CHECK (mdcli_async_send (client, "draining", &request) > 0);
    mdreq_t *in_hand = mdwrk_async_recv (worker, PATIENCE_MS);
    CHECK (mdwrk_async_drain (worker) == 0);
    mdmsg_t *reply = text_message ("done");
    CHECK (mdreq_reply (in_hand, &reply) == 0);
    CHECK (mdwrk_async_recv (worker, PATIENCE_MS) == NULL);
    CHECK (mdwrk_async_errno (worker) == MD_ECLOSED);
    reply = mdcli_async_recv (client, &ticket, PATIENCE_MS);
    CHECK (mdmsg_streq (reply, 0, "done") == 1);
    mdmsg_destroy (&reply);
    mdwrk_async_destroy (&worker);
    mdreq_destroy (&in_hand);
    mdcli_async_destroy (&client);
    mdbrk_destroy (&hub);
}

static void a_request_that_finds_no_place_to_wait_has_that_as_its_outcome_and_costs_no_other (void)
{
    mdbrk_t *hub = hub_start ();
    mdwrk_async_t *worker = mdwrk_async_new (mdbrk_endpoint (hub), "one", 0);
    mdcli_async_t *client = patient_async_client (hub, "x1");
    CHECK (mdcli_async_set_max_in_flight (client, 1) == 0 && mdcli_async_set_max_waiting (client, 0) == 0);
    int64_t ticket = 0;
    for (int round = 0; round < 2; round++) {
        mdmsg_t *request = text_message ("first");
        int64_t first = mdcli_async_send (client, "one", &request);
        mdreq_t *in_hand = mdwrk_async_recv (worker, PATIENCE_MS);
        request = text_message ("second");
        int64_t second = mdcli_async_send (client, "one", &request);
        CHECK (first > 0 && second > first && request == NULL);
        CHECK (mdcli_async_recv (client, &ticket, PATIENCE_MS) == NULL && ticket == second);
        CHECK (mdcli_async_errno (client) == MD_EQUEUEFULL && md_retryable (MD_EQUEUEFULL) == 1);
        CHECK (mdcli_async_outstanding (client) == 1);
        mdmsg_t *reply = mdreq_body (in_hand);
        CHECK (mdreq_reply (in_hand, &reply) == 0);
        mdreq_destroy (&in_hand);
        reply = mdcli_async_recv (client, &ticket, PATIENCE_MS);
        CHECK (mdmsg_streq (reply, 0, "first") == 1 && ticket == first);
        mdmsg_destroy (&reply);
    }
    CHECK (mdwrk_async_recv (worker, 0) == NULL && mdwrk_async_errno (worker) == MD_ETIMEOUT);
    mdcli_async_destroy (&client);
    mdwrk_async_destroy (&worker);
    mdbrk_destroy (&hub);
}

typedef struct {
    mdcli_async_t *client;
    int answered;
} receiver_t;

static void *receive_until_none_is_left (void *argument)
{
    receiver_t *receiver = (receiver_t *) argument;
    int64_t ticket = 0;
    mdmsg_t *reply;
    while ((reply = mdcli_async_recv (receiver->client, &ticket, PATIENCE_MS)) != NULL) {
        receiver->answered++;
        mdmsg_destroy (&reply);
    }
    CHECK (mdcli_async_errno (receiver->client) == MD_EINVAL);
    return NULL;
}

static void two_threads_share_the_outcomes_and_neither_waits_for_ever (void)
{
    mdbrk_t *hub = hub_start ();
    served_t worker;
    serve_start (&worker, hub, "echo", "0.1", echo);
    mdcli_async_t *client = patient_async_client (hub, "0.1");
    for (int i = 0; i < REQUESTS; i++) {
        mdmsg_t *request = text_message ("x");
        CHECK (mdcli_async_send (client, "echo", &request) > 0);
    }
    receiver_t receivers[2] = {{client, 0}, {client, 0}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        CHECK (pthread_create (&threads[i], NULL, receive_until_none_is_left, &receivers[i]) == 0);
    for (int i = 0; i < 2; i++)
        CHECK (pthread_join (threads[i], NULL) == 0);
    CHECK (receivers[0].answered + receivers[1].answered == REQUESTS);
    mdcli_async_destroy (&client);
    serve_stop (&worker);
    mdbrk_destroy (&hub);
}

int main (void)
{
    RUN (a_hundred_requests_at_once_each_get_their_own_answer);
    RUN (a_cancelled_request_has_that_as_its_outcome);
    RUN (a_client_may_go_with_requests_outstanding);
    RUN (a_failed_request_is_told_with_its_ticket);
    RUN (a_streamed_answer_comes_in_parts_or_joined_as_it_was_asked_for);
    RUN (the_descriptors_are_readable_when_something_has_come);
    RUN (requests_in_hand_may_be_answered_in_any_order);
    RUN (a_request_can_fail_or_be_dropped_and_the_client_learns_of_it);
    RUN (a_drained_worker_answers_what_it_has_and_then_is_closed);
    RUN (a_request_that_finds_no_place_to_wait_has_that_as_its_outcome_and_costs_no_other);
    RUN (two_threads_share_the_outcomes_and_neither_waits_for_ever);
    return check_report ();
}
