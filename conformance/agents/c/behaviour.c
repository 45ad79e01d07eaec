/* What a worker does with a request (AGENT.md, section 4). */
#include "body.h"
#include "worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

/* Behaviours: each takes the body. */

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

static void copy_properties (mdmsg_t *to, mdmsg_t *from)
{
    for (size_t i = 0; i < mdmsg_properties (from); i++) {
        const char *name = NULL;
        const void *data = NULL;
        size_t size = 0;
        mdmsg_property_at (from, i, &name, &data, &size);
        mdmsg_set_property (to, name, data, size);
    }
}

static void stream (worker_t *worker, const in_hand_t *in_hand, mdmsg_t *body)
{
    (void) worker;
    mdmsg_t *frame, *last = one_frame ("END");
    while ((frame = mdmsg_pop (body)) != NULL) {
        copy_properties (frame, body);
        partial (in_hand, frame);
    }
    copy_properties (last, body);
    mdmsg_destroy (&body);
    reply (in_hand, last);
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
    if (worker->part_first)
        partial (in_hand, body);
    else
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

static void witness (worker_t *worker, const in_hand_t *in_hand, mdmsg_t *body)
{
    const void *data = NULL;
    size_t size = 0;
    char digits[24] = "";
    mdmsg_frame (body, 0, &data, &size);
    if (size < sizeof digits)
        memcpy (digits, data, size);
    line_t line = line_start ("running", -1);
    line_text (&line, "worker", worker->name);
    line_number (&line, "request", strtoul (digits, NULL, 10));
    line_end (&line);
    if (attempt (in_hand) == 1) {
        const struct timespec pause = {worker->pause_ms / 1000, worker->pause_ms % 1000 * 1000000};
        nanosleep (&pause, NULL);
    }
    reply (in_hand, body);
}

behaviour_t behaviour_named (const char *wanted)
{
    static const struct {
        const char *name;
        behaviour_t behaviour;
    } known[] = {
        {"echo", echo},   {"reverse", reverse},   {"name", name},
        {"stream", stream}, {"fail", fail_as_told}, {"raise", fail_unexpectedly},
        {"hold", hold},   {"spin", spin},         {"describe", describe},
        {"wait_cancel", wait_cancel}, {"retry", retry},           {"witness", witness},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp (known[i].name, wanted) == 0)
            return known[i].behaviour;
    return NULL;
}
