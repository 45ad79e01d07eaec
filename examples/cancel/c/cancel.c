/* A caller gives up, by its own will or because its deadline passes, and the handler hears of it (MDPX).
 * Usage: cancel ENDPOINT */
#include <majordomo.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <time.h>

static sem_t started, stopped;
static int64_t remaining;

/* Works on each request until nobody waits for the answer any more. */
static void *work (void *worker)
{
    const struct timespec piece = {0, 10 * 1000 * 1000};
    mdreq_t *request;
    while ((request = mdwrk_async_recv ((mdwrk_async_t *) worker, -1)) != NULL) {
        remaining = mdreq_remaining (request);
        sem_post (&started);
        while (mdreq_cancelled (request) == 0)
            nanosleep (&piece, NULL);
        /* It is still to be answered. The answer is dropped. */
        mdreq_fail (request, 499, "nobody waits for it");
        mdreq_destroy (&request);
        sem_post (&stopped);
    }
    return NULL;
}

static int64_t send (mdcli_async_t *client, int deadline_ms)
{
    mdmsg_t *request = mdmsg_new ();
    mdmsg_addstr (request, "work");
    mdopt_t *options = mdopt_new ();
    mdopt_set_deadline (options, deadline_ms);
    int64_t ticket = mdcli_async_send_with (client, "cancel", &request, options);
    mdopt_destroy (&options);
    return ticket;
}

/* Waits for an outcome that is a failure. Result: its number. */
static int failure (mdcli_async_t *client)
{
    int64_t ticket = 0;
    mdmsg_t *reply = mdcli_async_recv (client, &ticket, -1);
    int number = reply ? MD_OK : mdcli_async_errno (client);
    mdmsg_destroy (&reply);
    return number;
}

static void ask (const char *endpoint)
{
    mdcli_async_t *client = mdcli_async_new (endpoint, 0);
    int64_t ticket = send (client, 60000);
    sem_wait (&started);
    if (remaining > 0 && remaining <= 60000)
        printf ("the handler works; its caller waits for another minute at most\n");
    mdcli_async_cancel (client, ticket);
    if (failure (client) == MD_ECANCELLED)
        printf ("the caller gives up\n");
    sem_wait (&stopped);
    printf ("the handler hears of it and stops\n");

    send (client, 1000);
    printf ("the deadline passes: %s\n", md_kind (failure (client)));
    sem_wait (&stopped);
    printf ("the handler hears of it and stops\n");
    mdcli_async_destroy (&client);
}

int main (int argc, char *argv[])
{
    if (argc != 2) {
        fprintf (stderr, "usage: cancel ENDPOINT\n");
        return 2;
    }
    mdwrk_async_t *worker = mdwrk_async_new (argv[1], "cancel", 0);
    if (!worker) {
        fprintf (stderr, "cancel: %s\n", md_errtext ());
        return 2;
    }
    sem_init (&started, 0, 0);
    sem_init (&stopped, 0, 0);
    pthread_t thread;
    pthread_create (&thread, NULL, work, worker);
    ask (argv[1]);
    mdwrk_async_drain (worker);
    pthread_join (thread, NULL);
    mdwrk_async_destroy (&worker);
    return 0;
}
