/* A request that may be asked again: the worker keeps its outcome by the caller's key, and a failure that may pass goes to
 * another attempt (MDPX).  Usage: idempotent ENDPOINT */
#include <majordomo.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A header of this application's own. */
#define TENANT "x-tenant"
#define TRACE "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

static int calls, charges;

static void set (mdmsg_t *message, const char *name, const char *value)
{
    mdmsg_set_property (message, name, value, strlen (value));
}

/* Copies the text of a property to `text`, cut to `size`. Result: whether there is one. */
static int get (mdmsg_t *message, const char *name, char *text, size_t size)
{
    const void *data = NULL;
    size_t length = 0;
    int found = mdmsg_property (message, name, &data, &length) == 1;
    snprintf (text, size, "%.*s", found ? (int) length : 0, found ? (const char *) data : "");
    return found;
}

/* The answer to one request; NULL if it has been answered with a failure. */
static mdmsg_t *charge (mdwrk_t *worker, mdmsg_t *order)
{
    char tenant[32], trace[64], text[128];
    calls++;
    if (!get (order, TENANT, tenant, sizeof tenant)) {
        mdwrk_fail (worker, 400, "whom shall I charge?");
        return NULL;
    }
    if (mdwrk_attempt (worker) == 1) {
        /* A failure that may pass: the broker makes another attempt, by another worker where there is one. */
        mdwrk_fail_retryable (worker, 503, "the till is closed");
        return NULL;
    }
    charges++;
    char *amount = mdmsg_strframe (order, 0);
    snprintf (text, sizeof text, "charged %s to %s at attempt %d", amount ? amount : "", tenant, mdwrk_attempt (worker));
    free (amount);
    mdmsg_t *reply = mdmsg_new ();
    mdmsg_addstr (reply, text);
    set (reply, MD_PROPERTY_CONTENT_TYPE, "text/plain");
    /* Who traces requests through several services hands the trace on. */
    get (order, MD_PROPERTY_TRACEPARENT, trace, sizeof trace);
    set (reply, MD_PROPERTY_TRACEPARENT, trace);
    return reply;
}

static void *work (void *argument)
{
    mdwrk_t *worker = (mdwrk_t *) argument;
    mdmsg_t *reply = NULL, *order;
    while ((order = mdwrk_recv (worker, &reply)) != NULL) {
        reply = charge (worker, order);
        mdmsg_destroy (&order);
    }
    return NULL;
}

static mdmsg_t *new_order (const char *tenant)
{
    mdmsg_t *order = mdmsg_new ();
    mdmsg_addstr (order, "7 EUR");
    set (order, MD_PROPERTY_CONTENT_TYPE, "text/plain");
    set (order, MD_PROPERTY_TRACEPARENT, TRACE);
    if (tenant) {
        set (order, MD_PROPERTY_IDEMPOTENCY_KEY, "order-1");
        set (order, TENANT, tenant);
    }
    return order;
}

static int ask (const char *endpoint)
{
    static const char *const times[] = {"first", "again"};
    mdcli_t *client = mdcli_new (endpoint, 0);
    for (int i = 0; i < 2; i++) {
        mdmsg_t *order = new_order ("acme");
        mdmsg_t *reply = mdcli_send (client, "idempotent", &order);
        if (!reply) {
            fprintf (stderr, "idempotent: %s\n", md_errtext ());
            mdcli_destroy (&client);
            return 1;
        }
        char type[32], trace[64], *text = mdmsg_popstr (reply);
        get (reply, MD_PROPERTY_CONTENT_TYPE, type, sizeof type);
        get (reply, MD_PROPERTY_TRACEPARENT, trace, sizeof trace);
        printf ("%s: %s (%s, trace %s)\n", times[i], text ? text : "", type, trace);
        free (text);
        mdmsg_destroy (&reply);
    }
    printf ("calls of the handler: %d, charges: %d\n", calls, charges);

    mdmsg_t *order = new_order (NULL);
    mdmsg_t *reply = mdcli_send (client, "idempotent", &order);
    if (!reply)
        printf ("without a tenant: %s %u, retryable: %s, \"%s\"\n", md_kind (mdcli_errno (client)),
                (unsigned) md_service_code (), md_service_retryable () == 1 ? "true" : "false", md_service_text ());
    mdmsg_destroy (&reply);
    mdcli_destroy (&client);
    return 0;
}

int main (int argc, char *argv[])
{
    if (argc != 2) {
        fprintf (stderr, "usage: idempotent ENDPOINT\n");
        return 2;
    }
    mdwrk_t *worker = mdwrk_new (argv[1], "idempotent", 0);
    if (!worker) {
        fprintf (stderr, "idempotent: %s\n", md_errtext ());
        return 2;
    }
    mdwrk_set_keep_outcomes (worker, 100, 64 * 1024 * 1024, 300000);
    mdwrk_start (worker);
    pthread_t thread;
    pthread_create (&thread, NULL, work, worker);
    int status = ask (argv[1]);
    mdwrk_drain (worker);
    pthread_join (thread, NULL);
    mdwrk_destroy (&worker);
    return status;
}
