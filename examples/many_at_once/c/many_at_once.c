/* One asynchronous client with a hundred requests in flight, four at a time on the worker's side.
 * Usage: many_at_once ENDPOINT */
#include <majordomo.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { REQUESTS = 100 };

static mdmsg_t *number_message (long number)
{
    char text[32];
    snprintf (text, sizeof text, "%ld", number);
    mdmsg_t *message = mdmsg_new ();
    mdmsg_addstr (message, text);
    return message;
}

static long number_in (mdmsg_t *message)
{
    char *text = mdmsg_popstr (message);
    long number = text ? atol (text) : 0;
    free (text);
    return number;
}

/* Answers each number with its square, until the worker is drained. */
static void *work (void *worker)
{
    mdreq_t *request;
    while ((request = mdwrk_async_recv ((mdwrk_async_t *) worker, -1)) != NULL) {
        mdmsg_t *body = mdreq_body (request);
        long number = number_in (body);
        mdmsg_t *reply = number_message (number * number);
        mdreq_reply (request, &reply);
        mdmsg_destroy (&body);
        mdreq_destroy (&request);
    }
    return NULL;
}

static int ask (const char *endpoint)
{
    mdcli_async_t *client = mdcli_async_new (endpoint, 0);
    int replies = 0;
    long sum = 0;
    for (long number = 1; number <= REQUESTS; number++) {
        mdmsg_t *request = number_message (number);
        mdcli_async_send (client, "many_at_once", &request);
    }
    while (mdcli_async_outstanding (client) > 0) {
        int64_t ticket = 0;
        mdmsg_t *reply = mdcli_async_recv (client, &ticket, -1);
        if (reply) {
            replies++;
            sum += number_in (reply);
            mdmsg_destroy (&reply);
        }
        else
            fprintf (stderr, "many_at_once: %s\n", md_errtext ());
    }
    printf ("%d requests at once, %d replies, sum of squares %ld\n", REQUESTS, replies, sum);
    mdcli_async_destroy (&client);
    return replies == REQUESTS ? 0 : 1;
}

int main (int argc, char *argv[])
{
    if (argc != 2) {
        fprintf (stderr, "usage: many_at_once ENDPOINT\n");
        return 2;
    }
    mdwrk_async_t *worker = mdwrk_async_new (argv[1], "many_at_once", 0);
    if (!worker) {
        fprintf (stderr, "many_at_once: %s\n", md_errtext ());
        return 2;
    }
    mdwrk_async_set_concurrency (worker, 4);
    pthread_t thread;
    pthread_create (&thread, NULL, work, worker);
    int status = ask (argv[1]);
    mdwrk_async_drain (worker);
    pthread_join (thread, NULL);
    mdwrk_async_destroy (&worker);
    return status;
}
