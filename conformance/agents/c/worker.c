/* Workers: mdwrk for the style "blocking", mdwrk_async for "async". Either way each request in hand has a thread. */
#include "agent.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    MOST = 64,
    /* Of kept outcomes: the defaults. */
    KEPT_BYTES = 64 << 20,
    KEPT_MS = 300000
};

typedef struct worker worker_t;

/* A request in hand, of whichever kind of worker. */
typedef struct {
    mdwrk_t *blocking;
    mdreq_t *request;
} in_hand_t;

typedef void (*behaviour_t) (worker_t *worker, const in_hand_t *in_hand, mdmsg_t *body);

typedef struct {
    worker_t *worker;
    mdwrk_t *blocking; /* NULL for the asynchronous worker, which all threads share. */
    pthread_t thread;
} server_t;

struct worker {
    worker_t *next;
    char name[64], text[256];
    unsigned long code, spin_ms;
    long succeed_at;
    behaviour_t behaviour;
    mdwrk_async_t *async;
    server_t servers[MOST];
    long concurrency;
    pthread_mutex_t lock; /* For what is below. */
    pthread_cond_t released_changed;
    unsigned long handled;
    int released, stopping;
};

static worker_t *workers;
static pthread_mutex_t workers_lock = PTHREAD_MUTEX_INITIALIZER;

/* Answers: each takes the message. */

static void reply (const in_hand_t *in_hand, mdmsg_t *body)
{
    if (in_hand->request)
        mdreq_reply (in_hand->request, &body);
    else
        mdwrk_reply (in_hand->blocking, &body);
    mdmsg_destroy (&body);
}

static void partial (const in_hand_t *in_hand, mdmsg_t *body)
{
    if (in_hand->request)
        mdreq_partial (in_hand->request, &body);
    else
        mdwrk_partial (in_hand->blocking, &body);
    mdmsg_destroy (&body);
}

static void fail (const in_hand_t *in_hand, unsigned long code, const char *text)
{
    if (in_hand->request)
        mdreq_fail (in_hand->request, (uint32_t) code, text);
    else
        mdwrk_fail (in_hand->blocking, (uint32_t) code, text);
}

static void fail_retryably (const in_hand_t *in_hand, unsigned long code, const char *text)
{
    if (in_hand->request)
        mdreq_fail_retryable (in_hand->request, (uint32_t) code, text);
    else
        mdwrk_fail_retryable (in_hand->blocking, (uint32_t) code, text);
}

static int attempt (const in_hand_t *in_hand)
{
    return in_hand->request ? mdreq_attempt (in_hand->request) : mdwrk_attempt (in_hand->blocking);
}

static int64_t remaining (const in_hand_t *in_hand)
{
    return in_hand->request ? mdreq_remaining (in_hand->request) : mdwrk_remaining (in_hand->blocking);
}

static int cancelled (const in_hand_t *in_hand)
{
    return (in_hand->request ? mdreq_cancelled (in_hand->request) : mdwrk_cancelled (in_hand->blocking)) == 1;
}

static mdmsg_t *one_frame (const char *text)
{
    mdmsg_t *message = mdmsg_new ();
    mdmsg_addstr (message, text);
    return message;
}

/* Behaviours (AGENT.md, section 4): each takes the body. */

static void echo (worker_t *worker, const in_hand_t *in_hand, mdmsg_t *body)
{
    (void) worker;
    reply (in_hand, body);
}

static void reverse (worker_t *worker, const in_hand_t *in_hand, mdmsg_t *body)
{
    (void) worker;
    mdmsg_t *reversed = mdmsg_new (), *frame;
    while ((frame = mdmsg_pop (body)) != NULL)
        mdmsg_prepend (reversed, &frame);
    mdmsg_destroy (&body);
    reply (in_hand, reversed);
}

static void name (worker_t *worker, const in_hand_t *in_hand, mdmsg_t *body)
{
    mdmsg_destroy (&body);
    reply (in_hand, one_frame (worker->name));
}

static void stream (worker_t *worker, const in_hand_t *in_hand, mdmsg_t *body)
{
    (void) worker;
    mdmsg_t *frame;
    while ((frame = mdmsg_pop (body)) != NULL)
        partial (in_hand, frame);
    mdmsg_destroy (&body);
    reply (in_hand, one_frame ("END"));
}

static void fail_as_told (worker_t *worker, const in_hand_t *in_hand, mdmsg_t *body)
{
    mdmsg_destroy (&body);
    fail (in_hand, worker->code, worker->text);
}

static void fail_unexpectedly (worker_t *worker, const in_hand_t *in_hand, mdmsg_t *body)
{
    mdmsg_destroy (&body);
    fail (in_hand, 500, worker->text);
}

static void hold (worker_t *worker, const in_hand_t *in_hand, mdmsg_t *body)
{
    pthread_mutex_lock (&worker->lock);
    line_t line = line_start ("holding", -1);
    line_text (&line, "worker", worker->name);
    line_number (&line, "handled", worker->handled);
    line_end (&line);
    while (!worker->released)
        pthread_cond_wait (&worker->released_changed, &worker->lock);
    pthread_mutex_unlock (&worker->lock);
    reply (in_hand, body);
}

static double now_ms (void)
{
    struct timespec now;
    clock_gettime (CLOCK_MONOTONIC, &now);
    return (double) now.tv_sec * 1e3 + (double) now.tv_nsec / 1e6;
}

static void spin (worker_t *worker, const in_hand_t *in_hand, mdmsg_t *body)
{
    double end = now_ms () + (double) worker->spin_ms;
    while (now_ms () < end) {
    }
    reply (in_hand, body);
}

static void describe (worker_t *worker, const in_hand_t *in_hand, mdmsg_t *body)
{
    (void) worker;
    char text[128];
    line_t line = {NULL, 0, 0};
    snprintf (text, sizeof text, "{\"attempt\":%d,\"remaining_ms\":%ld", attempt (in_hand), (long) remaining (in_hand));
    line_raw (&line, text, strlen (text));
    body_properties (&line, body);
    line_raw (&line, "}", 1);
    /* The request itself goes back with another frame: so its properties are those of the reply. */
    mdmsg_t *frame;
    while ((frame = mdmsg_pop (body)) != NULL)
        mdmsg_destroy (&frame);
    mdmsg_addmem (body, line.bytes, line.size);
    free (line.bytes);
    reply (in_hand, body);
}

static void wait_cancel (worker_t *worker, const in_hand_t *in_hand, mdmsg_t *body)
{
    const struct timespec pause = {0, 5000000};
    mdmsg_destroy (&body);
    pthread_mutex_lock (&worker->lock);
    line_t line = line_start ("holding", -1);
    line_text (&line, "worker", worker->name);
    line_number (&line, "handled", worker->handled);
    line_end (&line);
    /* It is released when the agent ends. */
    while (!cancelled (in_hand) && !worker->released) {
        pthread_mutex_unlock (&worker->lock);
        nanosleep (&pause, NULL);
        pthread_mutex_lock (&worker->lock);
    }
    pthread_mutex_unlock (&worker->lock);
    if (cancelled (in_hand)) {
        line = line_start ("cancelled", -1);
        line_text (&line, "worker", worker->name);
        line_end (&line);
    }
    reply (in_hand, one_frame ("cancelled"));
}

static void retry (worker_t *worker, const in_hand_t *in_hand, mdmsg_t *body)
{
    if (attempt (in_hand) >= worker->succeed_at) {
        reply (in_hand, body);
        return;
    }
    mdmsg_destroy (&body);
    fail_retryably (in_hand, 503, "not yet");
}

static behaviour_t behaviour_named (const char *wanted)
{
    static const struct {
        const char *name;
        behaviour_t behaviour;
    } known[] = {
        {"echo", echo},   {"reverse", reverse},   {"name", name},
        {"stream", stream}, {"fail", fail_as_told}, {"raise", fail_unexpectedly},
        {"hold", hold},   {"spin", spin},         {"describe", describe},
        {"wait_cancel", wait_cancel}, {"retry", retry},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp (known[i].name, wanted) == 0)
            return known[i].behaviour;
    return NULL;
}

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
    if (!behaviour || concurrency < 1 || concurrency > MOST) {
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
