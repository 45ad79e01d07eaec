/* A worker that answers in parts, and a client that takes them as they come (protocol 0.2).  Usage: streaming ENDPOINT */
#include <majordomo.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/* Counts up to the number in the request, one part for each step. */
static void *work (void *argument)
{
    mdwrk_t *worker = (mdwrk_t *) argument;
    mdmsg_t *body = NULL;
    while ((body = mdwrk_recv (worker, &body)) != NULL) {
        char *text = mdmsg_popstr (body);
        int last = text ? atoi (text) : 0;
        free (text);
        for (int i = 1; i <= last; i++) {
            char number[16];
            snprintf (number, sizeof number, "%d", i);
            mdmsg_t *part = mdmsg_new ();
            mdmsg_addstr (part, number);
            mdwrk_partial (worker, &part);
        }
        mdmsg_addstr (body, "done");
    }
    return NULL;
}

static int ask (const char *endpoint)
{
    mdcli_t *client = mdcli_new (endpoint, 0);
    mdcli_set_protocol (client, "0.2");
    mdmsg_t *request = mdmsg_new ();
    mdmsg_addstr (request, "5");
    if (mdcli_stream (client, "streaming", &request) == 0) {
        /* The final reply is the last message: whether one was that shows when the next is there, or none. */
        mdmsg_t *message = mdcli_next (client);
        while (message) {
            mdmsg_t *next = mdcli_next (client);
            char *text = mdmsg_popstr (message);
            printf ("%s %s\n", next ? "part" : "final", text ? text : "");
            free (text);
            mdmsg_destroy (&message);
            message = next;
        }
    }
    int failure = mdcli_errno (client);
    if (failure != MD_OK)
        fprintf (stderr, "streaming: %s\n", md_errtext ());
    mdcli_destroy (&client);
    return failure != MD_OK;
}

int main (int argc, char *argv[])
{
    if (argc != 2) {
        fprintf (stderr, "usage: streaming ENDPOINT\n");
        return 2;
    }
    mdwrk_t *worker = mdwrk_new (argv[1], "streaming", 0);
    if (!worker) {
        fprintf (stderr, "streaming: %s\n", md_errtext ());
        return 2;
    }
    mdwrk_set_protocol (worker, "0.2");
    pthread_t thread;
    pthread_create (&thread, NULL, work, worker);
    int status = ask (argv[1]);
    mdwrk_drain (worker);
    pthread_join (thread, NULL);
    mdwrk_destroy (&worker);
    return status;
}
