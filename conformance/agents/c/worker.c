/* Workers: mdwrk for the style "blocking", mdwrk_async for "async". Either way each request in hand has a thread. */
#include "worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    /* Of kept outcomes: the defaults. */
    KEPT_BYTES = 64 << 20,
    KEPT_MS = 300000
};

static worker_t *workers;
static pthread_mutex_t workers_lock = PTHREAD_MUTEX_INITIALIZER;

/* Serving */

static void handle (worker_t *worker, const in_hand_t *in_hand, mdmsg_t *body)
{
    pthread_mutex_lock (&worker->lock);
    worker->handled++;
    pthread_mutex_unlock (&worker->lock);
    worker->behaviour (worker, in_hand, body);
}

static void *serve (void *argument)
{
    server_t *server = (server_t *) argument;
    worker_t *worker = server->worker;
    if (server->blocking) {
        mdmsg_t *none = NULL, *body;
        in_hand_t in_hand = {server->blocking, NULL};
        while ((body = mdwrk_recv (server->blocking, &none)) != NULL)
            handle (worker, &in_hand, body);
    }
    else {
        mdreq_t *request;
        while ((request = mdwrk_async_recv (worker->async, -1)) != NULL) {
            in_hand_t in_hand = {NULL, request};
            handle (worker, &in_hand, mdreq_body (request));
            mdreq_destroy (&request);
        }
    }
    pthread_mutex_lock (&worker->lock);
    int unexpected = !worker->stopping || md_errno () != MD_ECLOSED;
    pthread_mutex_unlock (&worker->lock);
    if (unexpected) {
        line_t line = line_start ("worker_ended", -1);
        line_text (&line, "worker", worker->name);
        line_text (&line, "kind", md_kind (md_errno ()));
        line_number (&line, "number", (unsigned long) md_errno ());
        line_text (&line, "text", md_errtext ());
        line_end (&line);
    }
    return NULL;
}

static mdwrk_t *new_blocking (const command_t *command, worker_t *worker)
{
    mdwrk_t *self = mdwrk_new (command_text (command, "endpoint", ""), command_text (command, "service", ""), 0);
    long heartbeat = command_number (command, "heartbeat_ms", -1), liveness = command_number (command, "liveness", -1);
    long reconnect = command_number (command, "reconnect_ms", -1), bytes = command_number (command, "max_message_bytes", -1);
    long drain = command_number (command, "drain_timeout_ms", -1), prefetch = command_number (command, "prefetch", -1);
    long outcomes = command_number (command, "keep_outcomes", -1), events = command_number (command, "events", 0);
    if (self && mdwrk_set_protocol (self, command_text (command, "protocol", "0.1")) == 0
        && (heartbeat == -1 || mdwrk_set_heartbeat (self, (int) heartbeat) == 0)
        && (liveness == -1 || mdwrk_set_liveness (self, (int) liveness) == 0)
        && (reconnect == -1 || mdwrk_set_reconnect (self, (int) reconnect) == 0)
        && (bytes == -1 || mdwrk_set_max_message_bytes (self, (size_t) bytes) == 0)
        && (prefetch == -1 || mdwrk_set_prefetch (self, (size_t) prefetch) == 0)
        && (outcomes == -1 || mdwrk_set_keep_outcomes (self, (size_t) outcomes, KEPT_BYTES, KEPT_MS) == 0)
        && (!events || mdwrk_set_event_handler (self, say_worker_event, worker->name) == 0)
        && (drain == -1 || mdwrk_set_drain_timeout (self, (int) drain) == 0) && mdwrk_start (self) == 0)
        return self;
    mdwrk_destroy (&self);
    return NULL;
}

static mdwrk_async_t *new_async (const command_t *command, worker_t *worker)
{
    mdwrk_async_t *self
        = mdwrk_async_new (command_text (command, "endpoint", ""), command_text (command, "service", ""), 0);
    long heartbeat = command_number (command, "heartbeat_ms", -1), liveness = command_number (command, "liveness", -1);
    long reconnect = command_number (command, "reconnect_ms", -1), bytes = command_number (command, "max_message_bytes", -1);
    long drain = command_number (command, "drain_timeout_ms", -1), prefetch = command_number (command, "prefetch", -1);
    long outcomes = command_number (command, "keep_outcomes", -1), events = command_number (command, "events", 0);
    if (self && mdwrk_async_set_protocol (self, command_text (command, "protocol", "0.1")) == 0
        && mdwrk_async_set_concurrency (self, (size_t) command_number (command, "concurrency", 1)) == 0
        && (heartbeat == -1 || mdwrk_async_set_heartbeat (self, (int) heartbeat) == 0)
        && (liveness == -1 || mdwrk_async_set_liveness (self, (int) liveness) == 0)
        && (reconnect == -1 || mdwrk_async_set_reconnect (self, (int) reconnect) == 0)
        && (bytes == -1 || mdwrk_async_set_max_message_bytes (self, (size_t) bytes) == 0)
        && (prefetch == -1 || mdwrk_async_set_prefetch (self, (size_t) prefetch) == 0)
        && (outcomes == -1 || mdwrk_async_set_keep_outcomes (self, (size_t) outcomes, KEPT_BYTES, KEPT_MS) == 0)
        && (!events || mdwrk_async_set_event_handler (self, say_worker_event, worker->name) == 0)
        && (drain == -1 || mdwrk_async_set_drain_timeout (self, (int) drain) == 0) && mdwrk_async_start (self) == 0)
        return self;
    mdwrk_async_destroy (&self);
    return NULL;
}

static void destroy (worker_t *worker)
{
    for (long i = 0; i < worker->concurrency; i++)
        mdwrk_destroy (&worker->servers[i].blocking);
    mdwrk_async_destroy (&worker->async);
    pthread_cond_destroy (&worker->released_changed);
    pthread_mutex_destroy (&worker->lock);
    free (worker);
}

/* Whether the caller is the one who stops the worker. */
static int begin_stop (worker_t *worker)
{
    pthread_mutex_lock (&worker->lock);
    int first = !worker->stopping;
    worker->stopping = 1;
    pthread_mutex_unlock (&worker->lock);
    return first;
}

/* Drains, waits for the handlers, and destroys. How many requests there were. */
static unsigned long stop (worker_t *worker)
{
    if (worker->async)
        mdwrk_async_drain (worker->async);
    for (long i = 0; i < worker->concurrency && !worker->async; i++)
        mdwrk_drain (worker->servers[i].blocking);
    for (long i = 0; i < worker->concurrency; i++)
        pthread_join (worker->servers[i].thread, NULL);
    pthread_mutex_lock (&workers_lock);
    worker_t **place = &workers;
    while (*place != worker)
        place = &(*place)->next;
    *place = worker->next;
    pthread_mutex_unlock (&workers_lock);
    unsigned long handled = worker->handled;
    destroy (worker);
    return handled;
}

static void release (worker_t *worker)
{
    pthread_mutex_lock (&worker->lock);
    worker->released = 1;
    pthread_cond_broadcast (&worker->released_changed);
    pthread_mutex_unlock (&worker->lock);
}

/* With the lock of all workers, so that nobody frees it meanwhile; without it if there is none. */
static worker_t *worker_locked (const command_t *command)
{
    const char *wanted = command_text (command, "worker", "");
    pthread_mutex_lock (&workers_lock);
    worker_t *worker = workers;
    while (worker && strcmp (worker->name, wanted) != 0)
        worker = worker->next;
    if (!worker) {
        pthread_mutex_unlock (&workers_lock);
        say_failed (command, "no such worker");
    }
    return worker;
}

static void say_handled (const command_t *command, unsigned long handled)
{
    line_t line = line_start ("ok", command_number (command, "id", -1));
    line_number (&line, "handled", handled);
    line_end (&line);
}

/* Commands */

void worker_start (const command_t *command)
{
    long concurrency = command_number (command, "concurrency", 1);
    behaviour_t behaviour = behaviour_named (command_text (command, "behaviour", ""));
    if (!behaviour || concurrency < 1 || concurrency > MOST_HANDS) {
        say_failed (command, "unknown behaviour, or a concurrency over 64");
        return;
    }
    worker_t *worker = (worker_t *) calloc (1, sizeof *worker);
    if (!worker)
        abort ();
    snprintf (worker->name, sizeof worker->name, "%s", command_text (command, "worker", ""));
    snprintf (worker->text, sizeof worker->text, "%s", command_text (command, "text", ""));
    worker->code = (unsigned long) command_number (command, "code", 0);
    worker->spin_ms = (unsigned long) command_number (command, "spin_ms", 0);
    worker->succeed_at = command_number (command, "succeed_at", 2);
    worker->pause_ms = command_number (command, "pause_ms", 0);
    worker->part_first = command_number (command, "part_first", 0);
    worker->behaviour = behaviour;
    worker->concurrency = concurrency;
    pthread_mutex_init (&worker->lock, NULL);
    pthread_cond_init (&worker->released_changed, NULL);
    int async = strcmp (command_text (command, "style", "blocking"), "async") == 0;
    if (async)
        worker->async = new_async (command, worker);
    for (long i = 0; i < concurrency; i++) {
        worker->servers[i].worker = worker;
        if (!async)
            worker->servers[i].blocking = new_blocking (command, worker);
        if (!worker->async && !worker->servers[i].blocking) {
            say_error (command);
            destroy (worker);
            return;
        }
    }
    pthread_mutex_lock (&workers_lock);
    worker->next = workers;
    workers = worker;
    pthread_mutex_unlock (&workers_lock);
    for (long i = 0; i < concurrency; i++)
        if (pthread_create (&worker->servers[i].thread, NULL, serve, &worker->servers[i]) != 0)
            abort ();
    say_ok (command);
}

void worker_release (const command_t *command)
{
    worker_t *worker = worker_locked (command);
    if (!worker)
        return;
    release (worker);
    pthread_mutex_unlock (&workers_lock);
    say_ok (command);
}

void worker_stats (const command_t *command)
{
    worker_t *worker = worker_locked (command);
    if (!worker)
        return;
    pthread_mutex_lock (&worker->lock);
    unsigned long handled = worker->handled;
    pthread_mutex_unlock (&worker->lock);
    pthread_mutex_unlock (&workers_lock);
    say_handled (command, handled);
}

void worker_stop (const command_t *command)
{
    worker_t *worker = worker_locked (command);
    if (!worker)
        return;
    int first = begin_stop (worker);
    pthread_mutex_unlock (&workers_lock);
    if (first)
        say_handled (command, stop (worker));
    else
        say_failed (command, "the worker is being stopped already");
}

void worker_stop_all (void)
{
    pthread_mutex_lock (&workers_lock);
    worker_t *worker = workers;
    while (worker) {
        release (worker);
        if (!begin_stop (worker)) {
            worker = worker->next;
            continue;
        }
        pthread_mutex_unlock (&workers_lock);
        stop (worker);
        pthread_mutex_lock (&workers_lock);
        worker = workers;
    }
    pthread_mutex_unlock (&workers_lock);
}
