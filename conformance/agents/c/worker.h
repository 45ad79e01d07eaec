/* A worker of either style, and what its handler does. */
#ifndef AGENT_WORKER_H
#define AGENT_WORKER_H

#include "agent.h"

#include <pthread.h>

enum { MOST_HANDS = 64 };

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
    long succeed_at, pause_ms, part_first;
    behaviour_t behaviour;
    mdwrk_async_t *async;
    server_t servers[MOST_HANDS];
    long concurrency;
    pthread_mutex_t lock; /* For what is below. */
    pthread_cond_t released_changed;
    unsigned long handled;
    int released, stopping;
};

/* NULL if there is none of this name. */
behaviour_t behaviour_named (const char *wanted);

#endif
