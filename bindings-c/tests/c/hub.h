/* A broker of the test's own, and workers on threads. */
#ifndef HUB_H
#define HUB_H

#include "check.h"
#include <pthread.h>

/* Longer than anything takes on the slowest machine under Valgrind: waits end by events, not by this. */
#define PATIENCE_MS 60000

/* Turns a request into its reply; what leaves NULL has answered by itself. */
typedef void (*handler_t) (mdwrk_t *worker, mdmsg_t **body_p);

typedef struct {
    mdwrk_t *worker;
    handler_t handler;
    int end;
    pthread_t thread;
} served_t;

static inline mdbrk_t *hub_start (void)
{
    mdbrk_t *broker = mdbrk_new ("tcp://127.0.0.1:0", 0);
    CHECK (broker != NULL);
    CHECK (mdbrk_start (broker) == 0);
    return broker;
}

static inline void *serve_run (void *argument)
{
    served_t *served = (served_t *) argument;
    mdmsg_t *body = NULL;
    while ((body = mdwrk_recv (served->worker, &body)) != NULL)
        served->handler (served->worker, &body);
    served->end = mdwrk_errno (served->worker);
    return NULL;
}

static inline void serve_start (served_t *served, mdbrk_t *hub, const char *service, const char *protocol,
                                handler_t handler)
{
    served->worker = mdwrk_new (mdbrk_endpoint (hub), service, 0);
    CHECK (served->worker != NULL);
    CHECK (mdwrk_set_protocol (served->worker, protocol) == 0);
    served->handler = handler;
    served->end = 0;
    CHECK (pthread_create (&served->thread, NULL, serve_run, served) == 0);
}

static inline void serve_stop (served_t *served)
{
    CHECK (mdwrk_drain (served->worker) == 0);
    CHECK (pthread_join (served->thread, NULL) == 0);
    CHECK (served->end == MD_ECLOSED);
    mdwrk_destroy (&served->worker);
}

static inline mdcli_t *patient_client (mdbrk_t *hub, const char *protocol)
{
    mdcli_t *client = mdcli_new (mdbrk_endpoint (hub), 0);
    CHECK (client != NULL);
    CHECK (mdcli_set_timeout (client, PATIENCE_MS) == 0);
    CHECK (mdcli_set_protocol (client, protocol) == 0);
    return client;
}

static inline mdcli_async_t *patient_async_client (mdbrk_t *hub, const char *protocol)
{
    mdcli_async_t *client = mdcli_async_new (mdbrk_endpoint (hub), 0);
    CHECK (client != NULL);
    CHECK (mdcli_async_set_timeout (client, PATIENCE_MS) == 0);
    CHECK (mdcli_async_set_protocol (client, protocol) == 0);
    return client;
}

static inline void echo (mdwrk_t *worker, mdmsg_t **body_p)
{
    (void) worker;
    (void) body_p;
}

/* A message of one frame. */
static inline mdmsg_t *text_message (const char *text)
{
    mdmsg_t *message = mdmsg_new ();
    CHECK (mdmsg_addstr (message, text) == 0);
    return message;
}

/* Has the broker itself answer, so that there is a connection: what then takes too long is not the connecting. */
static inline void be_connected (mdcli_t *client)
{
    mdmsg_t *request = text_message ("nobody");
    CHECK (mdcli_set_timeout (client, PATIENCE_MS) == 0 && mdcli_set_deadline (client, 0) == 0);
    mdmsg_t *reply = mdcli_send (client, "mmi.service", &request);
    CHECK (mdmsg_streq (reply, 0, "404") == 1);
    mdmsg_destroy (&reply);
}

#endif
