/* A client, a worker and a mmi client in the shape of the Guide's programs. From there to here: zmsg_ is mdmsg_, the
 * include line is another, and nothing else (what czmq's prelude defines besides is three lines here). */
#include <majordomo.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *broker_endpoint;

static int worker_main (int verbose)
{
    mdwrk_t *session = mdwrk_new (broker_endpoint, "echo", verbose);
    mdmsg_t *reply = NULL;
    while (1) {
        mdmsg_t *request = mdwrk_recv (session, &reply);
        if (request == NULL)
            break;
        if (mdmsg_streq (request, 0, "stop") == 1) {
            mdwrk_drain (session);
        }
        reply = request;
    }
    mdwrk_destroy (&session);
    return 0;
}

static int client_main (int verbose)
{
    mdcli_t *session = mdcli_new (broker_endpoint, verbose);
    int count;
    mdcli_set_timeout (session, 60000);
    mdcli_set_retries (session, 1);
    for (count = 0; count < 1000; count++) {
        mdmsg_t *request = mdmsg_new ();
        mdmsg_pushstr (request, "Hello world");
        mdmsg_t *reply = mdcli_send (session, "echo", &request);
        if (reply)
            mdmsg_destroy (&reply);
        else
            break;
    }
    printf ("%d requests/replies processed\n", count);
    mdcli_destroy (&session);
    return count;
}

static char *mmi_main (int verbose)
{
    mdcli_t *session = mdcli_new (broker_endpoint, verbose);
    mdmsg_t *request = mdmsg_new ();
    char *code = NULL;
    mdmsg_addstr (request, "echo");
    mdmsg_t *reply = mdcli_send (session, "mmi.service", &request);
    if (reply) {
        code = mdmsg_popstr (reply);
        printf ("Lookup echo service: %s\n", code);
        mdmsg_destroy (&reply);
    }
    else
        printf ("E: no response from broker, make sure it's running\n");
    mdcli_destroy (&session);
    return code;
}

/* What stands for Ctrl-C. */
static void stop_main (void)
{
    mdcli_t *session = mdcli_new (broker_endpoint, 0);
    mdmsg_t *request = mdmsg_new ();
    mdmsg_addstr (request, "stop");
    mdmsg_t *reply = mdcli_send (session, "echo", &request);
    mdmsg_destroy (&reply);
    mdcli_destroy (&session);
}

static void *worker_thread (void *unused)
{
    (void) unused;
    worker_main (0);
    return NULL;
}

int main (void)
{
    mdbrk_t *broker = mdbrk_new ("tcp://127.0.0.1:0", 0);
    pthread_t worker;
    int passed = 0;
    if (!broker || mdbrk_start (broker) == -1) {
        fprintf (stderr, "%s\n", md_errtext ());
        return 2;
    }
    broker_endpoint = mdbrk_endpoint (broker);
    pthread_create (&worker, NULL, worker_thread, NULL);
    passed += client_main (0) == 1000;
    char *code = mmi_main (0);
    passed += code && strcmp (code, "200") == 0;
    free (code);
    stop_main ();
    pthread_join (worker, NULL);
    mdbrk_destroy (&broker);
    passed += md_handles () == 0;
    printf ("%d passed, %d failed\n", passed, 3 - passed);
    return passed != 3;
}
