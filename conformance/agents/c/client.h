/* A client of either style, and the outcomes of an asynchronous one. */
#ifndef AGENT_CLIENT_H
#define AGENT_CLIENT_H

#include "agent.h"

#include <pthread.h>

/* How a request of an asynchronous client came out. */
typedef struct outcome {
    struct outcome *next;
    long number; /* What the request was sent with. */
    mdmsg_t *reply;
    int more;
    int error;
    int retryable;
    unsigned long service_code;
    char *text;
} outcome_t;

/* Where the outcomes of one command arrive. */
typedef struct {
    outcome_t *first, **last;
    pthread_cond_t arrived;
} mailbox_t;

/* A request that is under way. */
typedef struct route {
    struct route *next;
    int64_t ticket;
    long number;
    mailbox_t *mailbox;
} route_t;

typedef struct client {
    struct client *next;
    char name[64];
    int closed;
    long timeout_ms, retries, deadline_ms; /* What requests have that say nothing else. */
    mdcli_t *blocking;
    mdcli_async_t *async;
    pthread_mutex_t turn; /* One call at a time for a blocking client; for an asynchronous one, what is below. */
    pthread_cond_t sent;
    route_t *routes;
    pthread_t receiver;
} client_t;

/* NULL if there is none of this name. */
client_t *client_of (const command_t *command);

/* The request or stream of a command of an asynchronous client is under way, or has ended. */
void progress_sent (const command_t *command, client_t *client, int64_t ticket);
void progress_end (const command_t *command);
/* Gives up the request or stream of the command with this id; whether there is one. */
int progress_cancel (long id);

/* The receiver of an asynchronous client. */
void *shared_receive (void *client);
/* Sends with the options of the command; to be called with the turn. Whether it is under way. */
int shared_send (client_t *client, const command_t *command, mdmsg_t *body, int stream, long number, mailbox_t *mailbox);

void mailbox_init (mailbox_t *mailbox);
/* The next outcome; to be called with the turn, which others have meanwhile. */
outcome_t *mailbox_take (client_t *client, mailbox_t *mailbox);
void say_outcome (const command_t *command, const outcome_t *outcome);
void outcome_free (outcome_t *outcome);

#endif
