/* The tables and versions. */
#include "check.h"

static void every_number_has_a_kind_a_code_and_a_sentence (void)
{
    for (int number = MD_OK; number <= MD_EBUSY; number++) {
        CHECK (strlen (md_kind (number)) > 0);
        CHECK (strncmp (md_code (number), "MD_", 3) == 0);
        CHECK (strlen (md_strerror (number)) > 0);
    }
    CHECK (strcmp (md_kind (MD_ETIMEOUT), "Timeout") == 0);
    CHECK (strcmp (md_code (MD_ETIMEOUT), "MD_ETIMEOUT") == 0);
    CHECK (strcmp (md_kind (MD_ESERVICE), "ServiceError") == 0);
    CHECK (strcmp (md_code (MD_EBUSY), "MD_EBUSY") == 0);
    CHECK (md_retryable (MD_ETIMEOUT) == 1);
    CHECK (md_retryable (MD_EINVAL) == 0);
}

static void a_number_that_is_none_has_a_text_all_the_same (void)
{
    static const int numbers[] = {-1, 17, 255, 1 << 30, -2147483647 - 1};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        CHECK (strlen (md_strerror (numbers[i])) > 0);
        CHECK (strlen (md_kind (numbers[i])) > 0);
        CHECK (strlen (md_code (numbers[i])) > 0);
        CHECK (md_retryable (numbers[i]) == 0);
    }
}

static void a_thread_without_a_failure_has_none (void)
{
    CHECK_ERRNO (MD_OK);
    CHECK (strcmp (md_errtext (), "") == 0);
    CHECK (md_service_code () == 0);
    CHECK (strcmp (md_service_text (), "") == 0);
}

static void the_versions_are_told (void)
{
    CHECK (strchr (md_version (), '.') != NULL);
    CHECK (strncmp (md_libzmq_version (), "4.", 2) == 0);
    CHECK (md_libzmq_has ("curve") == 1);
    CHECK (md_libzmq_has ("disconnect-notice") == 1);
    CHECK (md_libzmq_has ("teleport") == -1);
    CHECK_ERRNO (MD_EINVAL);
}

static void texts_that_are_not_utf_8_are_refused (void)
{
    CHECK (mdcli_new ("tcp://\xff\xfe", 0) == NULL);
    CHECK_ERRNO (MD_EINVAL);
    CHECK (mdwrk_new ("tcp://127.0.0.1:1", "\xff", 0) == NULL);
    CHECK_ERRNO (MD_EINVAL);
}

static void what_is_no_endpoint_or_service_is_refused (void)
{
    static const char *endpoints[] = {"", "tcp://", "127.0.0.1:5555", "smoke://signal", ",", "tcp://a:1,,tcp://b:2"};
    for (size_t i = 0; i < sizeof endpoints / sizeof *endpoints; i++) {
        CHECK (mdcli_new (endpoints[i], 0) == NULL);
        CHECK_ERRNO (MD_EINVAL);
        CHECK (mdcli_async_new (endpoints[i], 0) == NULL);
        CHECK_ERRNO (MD_EINVAL);
        CHECK (mdwrk_new (endpoints[i], "echo", 0) == NULL);
        CHECK_ERRNO (MD_EINVAL);
        CHECK (mdwrk_async_new (endpoints[i], "echo", 0) == NULL);
        CHECK_ERRNO (MD_EINVAL);
        CHECK (mdbrk_new (endpoints[i], 0) == NULL);
        CHECK_ERRNO (MD_EINVAL);
    }
    CHECK (mdwrk_new ("tcp://127.0.0.1:1", "", 0) == NULL);
    CHECK_ERRNO (MD_EINVAL);
    CHECK (mdwrk_new ("tcp://127.0.0.1:1", "mmi.service", 0) == NULL);
    CHECK_ERRNO (MD_EINVAL);
    CHECK (mdwrk_async_new ("tcp://127.0.0.1:1", "line\nbreak", 0) == NULL);
    CHECK_ERRNO (MD_EINVAL);
}

static void options_out_of_range_are_refused_and_change_nothing (void)
{
    mdcli_t *client = mdcli_new ("tcp://127.0.0.1:1", 0);
    CHECK (mdcli_set_timeout (client, 0) == -1 && mdcli_errno (client) == MD_EINVAL);
    CHECK (mdcli_set_timeout (client, -1) == -1 && mdcli_errno (client) == MD_EINVAL);
    CHECK (mdcli_set_retries (client, 0) == -1 && mdcli_errno (client) == MD_EINVAL);
    CHECK (mdcli_set_deadline (client, -5) == -1 && mdcli_errno (client) == MD_EINVAL);
    CHECK (mdcli_set_deadline (client, 0) == 0 && mdcli_errno (client) == MD_OK);
    CHECK (mdcli_set_protocol (client, "7.0") == -1 && mdcli_errno (client) == MD_EINVAL);
    CHECK (mdcli_set_max_message_bytes (client, 0) == -1);
    CHECK (mdcli_set_max_message_bytes (client, 1000) == 0);
    CHECK (mdcli_set_reconnect (client, 0, 1) == -1);
    CHECK (mdcli_set_reconnect (client, 10, 1000) == 0);
    mdcli_destroy (&client);

    mdcli_async_t *async = mdcli_async_new ("tcp://127.0.0.1:1", 0);
    CHECK (mdcli_async_set_max_in_flight (async, 0) == -1 && mdcli_async_errno (async) == MD_EINVAL);
    CHECK (mdcli_async_set_max_in_flight (async, 3) == 0);
    CHECK (mdcli_async_set_max_waiting (async, 3) == 0);
    CHECK (mdcli_async_set_timeout (async, -3) == -1);
    CHECK (mdcli_async_set_retries (async, -3) == -1);
    CHECK (mdcli_async_set_deadline (async, 100) == 0);
    CHECK (mdcli_async_set_max_message_bytes (async, 1000) == 0);
    CHECK (mdcli_async_set_reconnect (async, 5, 0) == -1);
    mdcli_async_destroy (&async);

    mdwrk_t *worker = mdwrk_new ("tcp://127.0.0.1:1", "echo", 0);
    CHECK (mdwrk_set_heartbeat (worker, 0) == -1 && mdwrk_errno (worker) == MD_EINVAL);
    CHECK (mdwrk_set_liveness (worker, 0) == -1 && mdwrk_set_liveness (worker, 5) == 0);
    CHECK (mdwrk_set_reconnect (worker, -1) == -1 && mdwrk_set_reconnect (worker, 100) == 0);
    CHECK (mdwrk_set_drain_timeout (worker, 0) == -1 && mdwrk_set_drain_timeout (worker, 100) == 0);
    CHECK (mdwrk_set_recv_timeout (worker, -2) == -1 && mdwrk_set_recv_timeout (worker, -1) == 0);
    CHECK (mdwrk_set_max_message_bytes (worker, 0) == -1);
    mdwrk_destroy (&worker);

    mdwrk_async_t *several = mdwrk_async_new ("tcp://127.0.0.1:1", "echo", 0);
    CHECK (mdwrk_async_set_concurrency (several, 0) == -1 && mdwrk_async_errno (several) == MD_EINVAL);
    CHECK (mdwrk_async_set_concurrency (several, 1u << 30) == -1);
    CHECK (mdwrk_async_set_heartbeat (several, 100) == 0 && mdwrk_async_set_liveness (several, 4) == 0);
    CHECK (mdwrk_async_set_reconnect (several, 0) == -1 && mdwrk_async_set_drain_timeout (several, 50) == 0);
    CHECK (mdwrk_async_set_max_message_bytes (several, 10) == 0 && mdwrk_async_set_protocol (several, "0.2") == 0);
    mdwrk_async_destroy (&several);

    mdbrk_t *broker = mdbrk_new ("tcp://127.0.0.1:0", 0);
    CHECK (mdbrk_set_heartbeat (broker, 0) == -1 && mdbrk_errno (broker) == MD_EINVAL);
    CHECK (mdbrk_set_liveness (broker, 0) == -1 && mdbrk_set_max_attempts (broker, 0) == -1);
    CHECK (mdbrk_set_attempt_timeout (broker, 0) == 0 && mdbrk_set_request_ttl (broker, -1) == -1);
    CHECK (mdbrk_set_max_queued (broker, 10, 5) == 0 && mdbrk_set_max_queued_bytes (broker, 1000, 500) == 0);
    CHECK (mdbrk_set_max_services (broker, 10) == 0 && mdbrk_set_max_workers (broker, 10) == 0);
    CHECK (mdbrk_set_max_message_bytes (broker, 0) == -1);
    CHECK (mdbrk_bind (broker, "nonsense") == -1 && mdbrk_bind (broker, "tcp://127.0.0.1:0") == 0);
    mdbrk_destroy (&broker);
}

int main (void)
{
    RUN (a_thread_without_a_failure_has_none);
    RUN (every_number_has_a_kind_a_code_and_a_sentence);
    RUN (a_number_that_is_none_has_a_text_all_the_same);
    RUN (the_versions_are_told);
    RUN (texts_that_are_not_utf_8_are_refused);
    RUN (what_is_no_endpoint_or_service_is_refused);
    RUN (options_out_of_range_are_refused_and_change_nothing);
    return check_report ();
}
