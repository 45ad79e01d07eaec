/* Handles that are of another type, destroyed, stray, in use elsewhere, or from before a fork; and signals. */
#include "hub.h"
#include "zmtp.h"
#include <sched.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static void a_handle_of_another_type_is_an_error (void)
{
    mdmsg_t *message = mdmsg_new ();
    mdcli_t *client = mdcli_new ("tcp://127.0.0.1:1", 0);
    CHECK (mdmsg_size ((mdmsg_t *) (void *) client) == 0);
    CHECK_ERRNO (MD_EINVAL);
    CHECK (strstr (md_errtext (), "mdcli_t") && strstr (md_errtext (), "mdmsg_t"));
    CHECK (mdcli_set_timeout ((mdcli_t *) (void *) message, 1) == -1);
    CHECK_ERRNO (MD_EINVAL);
    mdwrk_t *disguised = (mdwrk_t *) (void *) client;
    mdwrk_destroy (&disguised);
    CHECK_ERRNO (MD_EINVAL);
    CHECK (mdcli_set_timeout (client, 1) == 0);
    mdcli_destroy (&client);
    mdmsg_destroy (&message);
}

static void a_destroyed_handle_is_closed (void)
{
    mdcli_t *client = mdcli_new ("tcp://127.0.0.1:1", 0), *stale = client;
    mdcli_destroy (&client);
    CHECK (client == NULL);
    CHECK (mdcli_set_timeout (stale, 1) == -1);
    CHECK_ERRNO (MD_ECLOSED);
    mdcli_destroy (&stale);
    CHECK_ERRNO (MD_ECLOSED);
    CHECK (stale == NULL);
}

static void a_message_that_was_sent_is_gone (void)
{
    mdcli_t *client = mdcli_new ("tcp://127.0.0.1:1", 0);
    CHECK (mdcli_set_timeout (client, 1) == 0 && mdcli_set_retries (client, 1) == 0);
    mdmsg_t *request = text_message ("x"), *stale = request;
    CHECK (mdcli_send (client, "echo", &request) == NULL && request == NULL);
    CHECK (mdmsg_size (stale) == 0);
    CHECK_ERRNO (MD_ECLOSED);
    CHECK (mdcli_send (client, "echo", &stale) == NULL && stale != NULL);
    CHECK_ERRNO (MD_ECLOSED);
    mdcli_destroy (&client);
}

static void a_stray_pointer_is_an_error (void)
{
    int local = 0;
    for (int offset = 0; offset < 16; offset++) {
        CHECK (mdmsg_size ((mdmsg_t *) (void *) ((char *) &local + offset)) == 0);
        CHECK (md_errno () == MD_EINVAL || md_errno () == MD_ECLOSED);
        CHECK (mdcli_set_timeout ((mdcli_t *) (size_t) (0x40 + offset), 1) == -1);
        CHECK (md_errno () == MD_EINVAL || md_errno () == MD_ECLOSED);
    }
}

static void *wait_for_work (void *argument)
{
    mdwrk_t *worker = (mdwrk_t *) argument;
    mdmsg_t *none = NULL;
    /* The other thread may be the one that is in a call. */
    do
        CHECK (mdwrk_recv (worker, &none) == NULL);
    while (md_errno () == MD_EBUSY);
    CHECK_ERRNO (MD_ECLOSED);
    return NULL;
}

static void a_second_thread_is_told_that_the_handle_is_busy_and_may_destroy_it (void)
{
    mdbrk_t *hub = hub_start ();
    mdwrk_t *worker = mdwrk_new (mdbrk_endpoint (hub), "idle", 0);
    pthread_t thread;
    CHECK (pthread_create (&thread, NULL, wait_for_work, worker) == 0);
    /* Setting this changes nothing for the waiting thread, and tells when it waits. */
    while (mdwrk_set_recv_timeout (worker, -1) == 0)
        sched_yield ();
    CHECK_ERRNO (MD_EBUSY);
    CHECK (mdwrk_errno (worker) == MD_EBUSY);
    CHECK (mdwrk_start (worker) == -1 && mdwrk_errno (worker) == MD_EBUSY);
    mdwrk_destroy (&worker);
    CHECK (pthread_join (thread, NULL) == 0);
    mdbrk_destroy (&hub);
}

static void *wait_for_answer (void *argument)
{
    mdcli_t *client = (mdcli_t *) argument;
    mdmsg_t *request = text_message ("x");
    do
        CHECK (mdcli_send (client, "nobody", &request) == NULL);
    while (md_errno () == MD_EBUSY);
    CHECK_ERRNO (MD_ECLOSED);
    mdmsg_destroy (&request);
    return NULL;
}

static void a_client_in_use_is_busy_and_destroying_it_ends_the_call (void)
{
    mdbrk_t *hub = hub_start ();
    mdcli_t *client = patient_client (hub, "0.1");
    pthread_t thread;
    CHECK (pthread_create (&thread, NULL, wait_for_answer, client) == 0);
    while (mdcli_set_retries (client, 1) == 0)
        sched_yield ();
    CHECK (mdcli_errno (client) == MD_EBUSY);
    mdmsg_t *request = text_message ("x");
    CHECK (mdcli_send (client, "nobody", &request) == NULL && request != NULL);
    CHECK (mdcli_errno (client) == MD_EBUSY);
    mdmsg_destroy (&request);
    mdcli_destroy (&client);
    CHECK (pthread_join (thread, NULL) == 0);
    mdbrk_destroy (&hub);
}

static void on_signal (int number)
{
    (void) number;
}

/* Signals again and again, so that one is sure to come while the call waits. */
static void alarms (int on)
{
    struct sigaction action;
    memset (&action, 0, sizeof action);
    action.sa_handler = on_signal;
    CHECK (sigaction (SIGALRM, &action, NULL) == 0);
    struct itimerval timer;
    memset (&timer, 0, sizeof timer);
    if (on)
        timer.it_interval.tv_usec = timer.it_value.tv_usec = 20000;
    CHECK (setitimer (ITIMER_REAL, &timer, NULL) == 0);
}

static void a_signal_ends_a_blocking_call (void)
{
    mdbrk_t *hub = hub_start ();
    mdcli_t *client = patient_client (hub, "0.1");
    mdcli_async_t *async = patient_async_client (hub, "0.1");
    mdwrk_t *worker = mdwrk_new (mdbrk_endpoint (hub), "idle", 0);
    mdwrk_async_t *several = mdwrk_async_new (mdbrk_endpoint (hub), "idle", 0);
    mdmsg_t *none = NULL, *request = text_message ("x");
    int64_t ticket = 0;
    CHECK (mdcli_async_send (async, "nobody", &request) > 0);
    alarms (1);
    request = text_message ("x");
    CHECK (mdcli_send (client, "nobody", &request) == NULL && mdcli_errno (client) == MD_ECANCELLED);
    CHECK (mdwrk_recv (worker, &none) == NULL && mdwrk_errno (worker) == MD_ECANCELLED);
    CHECK (mdwrk_async_recv (several, -1) == NULL && mdwrk_async_errno (several) == MD_ECANCELLED);
    CHECK (mdcli_async_recv (async, &ticket, -1) == NULL && ticket == 0);
    CHECK (mdcli_async_errno (async) == MD_ECANCELLED);
    alarms (0);
    mdcli_destroy (&client);
    mdcli_async_destroy (&async);
    mdwrk_destroy (&worker);
    mdwrk_async_destroy (&several);
    mdbrk_destroy (&hub);
}

/* A worker's broker is here a socket that nobody reads from. */
static void a_signal_ends_a_part_that_waits_for_room (void)
{
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    memset (&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl (INADDR_LOOPBACK);
    int listener = socket (AF_INET, SOCK_STREAM, 0);
    CHECK (bind (listener, (struct sockaddr *) &address, size) == 0 && listen (listener, 1) == 0);
    CHECK (getsockname (listener, (struct sockaddr *) &address, &size) == 0);
    char endpoint[64];
    snprintf (endpoint, sizeof endpoint, "tcp://127.0.0.1:%d", ntohs (address.sin_port));

    mdwrk_t *worker = mdwrk_new (endpoint, "stream", 0);
    CHECK (mdwrk_set_protocol (worker, "0.2") == 0);
    /* The connection is not given up meanwhile, and a call that no signal ends does not last for ever. */
    CHECK (mdwrk_set_heartbeat (worker, PATIENCE_MS) == 0 && mdwrk_set_liveness (worker, 1) == 0);
    CHECK (mdwrk_start (worker) == 0);
    int fd = zmtp_greet (accept (listener, NULL, NULL), "ROUTER");
    CHECK (fd >= 0);
    const frame_t ready[] = {FRAME ("MDPW02"), FRAME ("\1"), FRAME ("stream")};
    CHECK (zmtp_expect (fd, ready, 3));
    const frame_t request[] = {FRAME ("MDPW02"), FRAME ("\2"), FRAME ("client"), FRAME (""), FRAME ("body")};
    zmtp_send (fd, request, 5);
    mdmsg_t *none = NULL, *body = mdwrk_recv (worker, &none);
    CHECK (mdmsg_streq (body, 0, "body") == 1);
    mdmsg_destroy (&body);

    static char bytes[65536];
    int sent = 0;
    alarms (1);
    /* Several times what fits into a connection that nobody reads from. */
    for (int parts = 0; sent == 0 && parts < 1000; parts++) {
        mdmsg_t *part = mdmsg_new ();
        CHECK (mdmsg_addmem (part, bytes, sizeof bytes) == 0);
        sent = mdwrk_partial (worker, &part);
        CHECK (part == NULL);
    }
    alarms (0);
    CHECK (sent == -1 && mdwrk_errno (worker) == MD_ECANCELLED);
    close (fd);
    close (listener);
    mdwrk_destroy (&worker);
}

/* What holds in the child. Result: how many things did not. */
static int child (const char *endpoint, mdcli_t *client, mdcli_async_t *async, mdwrk_t *worker, mdmsg_t *message)
{
    mdmsg_t *request = text_message ("x");
    check_broken = 0;
    CHECK (mdcli_send (client, "echo", &request) == NULL);
    CHECK_ERRNO (MD_ECLOSED);
    CHECK (mdcli_async_send (async, "echo", &request) == -1);
    CHECK_ERRNO (MD_ECLOSED);
    CHECK (mdwrk_start (worker) == -1);
    CHECK_ERRNO (MD_ECLOSED);
    CHECK (mdmsg_streq (message, 0, "from before") == 1);
    mdcli_destroy (&client);
    mdcli_async_destroy (&async);
    mdwrk_destroy (&worker);
    mdcli_t *own = mdcli_new (endpoint, 0);
    CHECK (mdcli_set_timeout (own, PATIENCE_MS) == 0);
    mdmsg_t *reply = mdcli_send (own, "echo", &request);
    CHECK (mdmsg_streq (reply, 0, "x") == 1);
    mdmsg_destroy (&reply);
    mdcli_destroy (&own);
    return check_broken;
}

static void after_a_fork_old_handles_are_closed_and_new_ones_work (void)
{
    mdbrk_t *hub = hub_start ();
    served_t served;
    serve_start (&served, hub, "echo", "0.1", echo);
    mdcli_t *client = patient_client (hub, "0.1");
    mdcli_async_t *async = patient_async_client (hub, "0.1");
    mdwrk_t *worker = mdwrk_new (mdbrk_endpoint (hub), "other", 0);
    mdmsg_t *message = text_message ("from before"), *request = text_message ("x");
    int64_t ticket = 0;
    CHECK (mdwrk_start (worker) == 0);
    mdmsg_t *reply = mdcli_send (client, "echo", &request);
    CHECK (reply != NULL);
    mdmsg_destroy (&reply);
    request = text_message ("x");
    CHECK (mdcli_async_send (async, "echo", &request) > 0);
    const char *endpoint = mdbrk_endpoint (hub);
    /* Not by the exit status: under Valgrind that tells of what the parent's threads held, which is lost in a child. */
    int tell[2], failed = -1, status = -1;
    CHECK (pipe (tell) == 0);
    pid_t pid = fork ();
    if (pid == 0) {
        failed = child (endpoint, client, async, worker, message);
        _exit (write (tell[1], &failed, sizeof failed) != sizeof failed);
    }
    close (tell[1]);
    CHECK (read (tell[0], &failed, sizeof failed) == sizeof failed && failed == 0);
    close (tell[0]);
    CHECK (waitpid (pid, &status, 0) == pid && WIFEXITED (status));
    /* The parent goes on as if nothing had happened. */
    reply = mdcli_async_recv (async, &ticket, PATIENCE_MS);
    CHECK (mdmsg_streq (reply, 0, "x") == 1);
    mdmsg_destroy (&reply);
    request = text_message ("y");
    reply = mdcli_send (client, "echo", &request);
    CHECK (mdmsg_streq (reply, 0, "y") == 1);
    mdmsg_destroy (&reply);
    mdmsg_destroy (&message);
    mdcli_destroy (&client);
    mdcli_async_destroy (&async);
    mdwrk_destroy (&worker);
    serve_stop (&served);
    mdbrk_destroy (&hub);
}

int main (void)
{
    RUN (a_handle_of_another_type_is_an_error);
    RUN (a_destroyed_handle_is_closed);
    RUN (a_message_that_was_sent_is_gone);
    RUN (a_stray_pointer_is_an_error);
    RUN (a_second_thread_is_told_that_the_handle_is_busy_and_may_destroy_it);
    RUN (a_client_in_use_is_busy_and_destroying_it_ends_the_call);
    RUN (a_signal_ends_a_blocking_call);
    RUN (a_signal_ends_a_part_that_waits_for_room);
    RUN (after_a_fork_old_handles_are_closed_and_new_ones_work);
    return check_report ();
}
