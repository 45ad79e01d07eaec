/* Which requests of asynchronous clients are under way, so that they can be cancelled. */
#include "client.h"

#include <stdlib.h>
#include <string.h>

/* A request or a stream of an asynchronous client, from its command on. */
typedef struct progress {
    struct progress *next;
    long id;
    client_t *client; /* NULL until it is sent. */
    int64_t ticket;
    int cancelled;
} progress_t;

static progress_t *in_progress;
static pthread_mutex_t progress_lock = PTHREAD_MUTEX_INITIALIZER;

void client_expect (const command_t *command)
{
    const char *name = command_text (command, "cmd", "");
    const client_t *client = client_of (command);
    if (!client || client->blocking || (strcmp (name, "request") != 0 && strcmp (name, "stream") != 0))
        return;
    progress_t *progress = (progress_t *) calloc (1, sizeof *progress);
    if (!progress)
        abort ();
    progress->id = command_number (command, "id", -1);
    pthread_mutex_lock (&progress_lock);
    progress->next = in_progress;
    in_progress = progress;
    pthread_mutex_unlock (&progress_lock);
}

/* To be called with the lock. */
static progress_t **progress_of (long id)
{
    progress_t **place = &in_progress;
    while (*place && (*place)->id != id)
        place = &(*place)->next;
    return place;
}

void progress_sent (const command_t *command, client_t *client, int64_t ticket)
{
    pthread_mutex_lock (&progress_lock);
    progress_t *progress = *progress_of (command_number (command, "id", -1));
    if (progress) {
        progress->client = client;
        progress->ticket = ticket;
        if (progress->cancelled)
            mdcli_async_cancel (client->async, ticket);
    }
    pthread_mutex_unlock (&progress_lock);
}

void progress_end (const command_t *command)
{
    pthread_mutex_lock (&progress_lock);
    progress_t **place = progress_of (command_number (command, "id", -1)), *progress = *place;
    if (progress)
        *place = progress->next;
    pthread_mutex_unlock (&progress_lock);
    free (progress);
}

int progress_cancel (long id)
{
    pthread_mutex_lock (&progress_lock);
    progress_t *progress = *progress_of (id);
    if (progress) {
        progress->cancelled = 1;
        /* One whose outcome has just come is no ticket any more. */
        if (progress->client)
            mdcli_async_cancel (progress->client->async, progress->ticket);
    }
    pthread_mutex_unlock (&progress_lock);
    return progress != NULL;
}

void client_cancel (const command_t *command)
{
    if (progress_cancel (command_number (command, "request", 0)))
        say_ok (command);
    else
        say_failed (command, "unsupported");
}
