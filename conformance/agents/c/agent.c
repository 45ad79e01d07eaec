/* The conformance agent of C: lines of JSON become calls of majordomo.h, and outcomes become lines (AGENT.md). */
#include "agent.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void say_ok (const command_t *command)
{
    line_t line = line_start ("ok", command_number (command, "id", -1));
    line_end (&line);
}

void say_failed (const command_t *command, const char *text)
{
    line_t line = line_start ("failed", command_number (command, "id", -1));
    line_text (&line, "text", text);
    line_end (&line);
}

void say_error (const command_t *command)
{
    int number = md_errno ();
    line_t line = line_start ("error", command_number (command, "id", -1));
    line_text (&line, "kind", md_kind (number));
    line_number (&line, "number", (unsigned long) number);
    line_flag (&line, "retryable", number == MD_ESERVICE ? md_service_retryable () : md_retryable (number));
    if (number == MD_ESERVICE)
        line_number (&line, "service_code", md_service_code ());
    line_text (&line, "text", number == MD_ESERVICE ? md_service_text () : md_errtext ());
    line_end (&line);
}

static void say_event (const char *role, const char *owner, const char *name, const char *endpoint, const char *detail)
{
    line_t line = line_start ("connection", -1);
    line_text (&line, role, owner);
    line_text (&line, "name", name);
    if (*endpoint)
        line_text (&line, "endpoint", endpoint);
    if (*detail)
        line_text (&line, strcmp (name, "connected") == 0 ? "protocol" : "reason", detail);
    line_end (&line);
}

void say_client_event (const char *name, const char *endpoint, const char *detail, void *client_name)
{
    say_event ("client", (const char *) client_name, name, endpoint, detail);
}

void say_worker_event (const char *name, const char *endpoint, const char *detail, void *worker_name)
{
    say_event ("worker", (const char *) worker_name, name, endpoint, detail);
}

/* Brokers, by name. */

typedef struct hosted {
    struct hosted *next;
    mdbrk_t *broker;
    char name[64];
} hosted_t;

static hosted_t *hosts;

static void broker_start (const command_t *command)
{
    mdbrk_t *broker = mdbrk_new (command_text (command, "bind", ""), 0);
    if (!broker || mdbrk_start (broker) != 0) {
        say_error (command);
        mdbrk_destroy (&broker);
        return;
    }
    hosted_t *host = (hosted_t *) calloc (1, sizeof *host);
    if (!host)
        abort ();
    snprintf (host->name, sizeof host->name, "%s", command_text (command, "broker", ""));
    host->broker = broker;
    host->next = hosts;
    hosts = host;
    line_t line = line_start ("ok", command_number (command, "id", -1));
    line_text (&line, "endpoint", mdbrk_endpoint (broker));
    line_end (&line);
}

static void broker_stop (const command_t *command)
{
    for (hosted_t **place = &hosts; *place; place = &(*place)->next)
        if (strcmp ((*place)->name, command_text (command, "broker", "")) == 0) {
            hosted_t *host = *place;
            *place = host->next;
            mdbrk_destroy (&host->broker);
            free (host);
            say_ok (command);
            return;
        }
    say_failed (command, "no such broker");
}

static void broker_stop_all (void)
{
    while (hosts) {
        hosted_t *next = hosts->next;
        mdbrk_destroy (&hosts->broker);
        free (hosts);
        hosts = next;
    }
}

/* Commands. */

typedef struct {
    const char *name;
    void (*run) (const command_t *command);
    int beside; /* On a thread of its own, beside the reading of further commands. */
} entry_t;

static const entry_t ENTRIES[] = {
    {"ping", say_ok, 0},
    {"open_client", client_open, 0},
    {"request", client_request, 1},
    {"stream", client_stream, 1},
    {"cancel", client_cancel, 0},
    {"request_many", client_request_many, 1},
    {"close_client", client_close, 1},
    {"start_worker", worker_start, 0},
    {"release", worker_release, 0},
    {"worker_stats", worker_stats, 0},
    {"stop_worker", worker_stop, 1},
    {"start_broker", broker_start, 0},
    {"stop_broker", broker_stop, 0},
};

static const entry_t *entry_of (const command_t *command)
{
    const char *name = command_text (command, "cmd", "");
    for (size_t i = 0; i < sizeof ENTRIES / sizeof *ENTRIES; i++)
        if (strcmp (ENTRIES[i].name, name) == 0)
            return &ENTRIES[i];
    return NULL;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t fewer = PTHREAD_COND_INITIALIZER;
static int running;

static void *run_beside (void *argument)
{
    command_t *command = (command_t *) argument;
    entry_of (command)->run (command);
    command_free (command);
    free (command);
    pthread_mutex_lock (&lock);
    running--;
    pthread_cond_signal (&fewer);
    pthread_mutex_unlock (&lock);
    return NULL;
}

/* Whether the command is on its way on a thread, which then owns it. */
static int start_beside (command_t *command)
{
    pthread_t thread;
    client_expect (command);
    pthread_mutex_lock (&lock);
    running++;
    pthread_mutex_unlock (&lock);
    if (pthread_create (&thread, NULL, run_beside, command) == 0) {
        pthread_detach (thread);
        return 1;
    }
    pthread_mutex_lock (&lock);
    running--;
    pthread_mutex_unlock (&lock);
    return 0;
}

static void close_all (void)
{
    worker_stop_all ();
    client_close_all ();
    pthread_mutex_lock (&lock);
    while (running > 0)
        pthread_cond_wait (&fewer, &lock);
    pthread_mutex_unlock (&lock);
    broker_stop_all ();
}

/* One line; whether it was not `quit`. */
static int obey (char *line)
{
    command_t *command = (command_t *) calloc (1, sizeof *command);
    if (!command)
        abort ();
    int parsed = command_parse (command, line);
    int quit = parsed && strcmp (command_text (command, "cmd", ""), "quit") == 0;
    const entry_t *entry = entry_of (command);
    if (quit) {
        close_all ();
        say_ok (command);
    }
    else if (!parsed || !entry)
        say_failed (command, parsed ? "unknown command" : "not a flat JSON object");
    else if (!entry->beside)
        entry->run (command);
    else if (start_beside (command))
        return 1;
    else
        say_failed (command, "no thread");
    command_free (command);
    free (command);
    return !quit;
}

int main (void)
{
    line_t hello = line_start ("hello", -1);
    line_text (&hello, "language", "c");
    line_number (&hello, "agent", 1);
    line_end (&hello);
    char *line = NULL;
    size_t room = 0;
    int more = 1;
    while (more && getline (&line, &room, stdin) != -1) {
        more = obey (line);
        line = NULL;
        room = 0;
    }
    free (line);
    if (more)
        close_all ();
    return 0;
}
