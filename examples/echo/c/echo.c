/* The smallest hub: a worker, a client, one request, one reply.  Usage: echo ENDPOINT */
#include <majordomo.h>
#include <pthread.h>
#include <stdio.h>

/* Answers each request with its own frames, until the worker is drained. */
static void *work (void *worker)
{
    mdmsg_t *body = NULL;
    while ((body = mdwrk_recv ((mdwrk_t *) worker, &body)) != NULL) {
    }
    return NULL;
}

static int ask (const char *endpoint)
{
    mdcli_t *client = mdcli_new (endpoint, 0);
    mdmsg_t *request = mdmsg_new ();
    mdmsg_addstr (request, "hello");
    mdmsg_addstr (request, "world");
    mdmsg_t *reply = mdcli_send (client, "echo", &request);
    if (reply) {
        size_t size = 0;
        printf ("%lu frames:", (unsigned long) mdmsg_size (reply));
        for (const void *frame = mdmsg_first (reply, &size); frame; frame = mdmsg_next (reply, &size))
            printf (" %.*s", (int) size, (const char *) frame);
        printf ("\n");
    }
    else
        fprintf (stderr, "echo: %s\n", md_errtext ());
    int status = reply ? 0 : 1;
    mdmsg_destroy (&reply);
    mdcli_destroy (&client);
    return status;
}

int main (int argc, char *argv[])
{
    if (argc != 2) {
        fprintf (stderr, "usage: echo ENDPOINT\n");
        return 2;
    }
    mdwrk_t *worker = mdwrk_new (argv[1], "echo", 0);
    if (!worker) {
        fprintf (stderr, "echo: %s\n", md_errtext ());
        return 2;
    }
    pthread_t thread;
    pthread_create (&thread, NULL, work, worker);
    int status = ask (argv[1]);
    mdwrk_drain (worker);
    pthread_join (thread, NULL);
    mdwrk_destroy (&worker);
    return status;
}
