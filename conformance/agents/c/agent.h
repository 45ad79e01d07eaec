/* The parts of the agent: what each command becomes. */
#ifndef AGENT_H
#define AGENT_H

#include "body.h"
#include "json.h"
#include <majordomo.h>

/* Writes a line for an event of a connection; the handler of clients and workers. */
void say_client_event (const char *name, const char *endpoint, const char *detail, void *client_name);
void say_worker_event (const char *name, const char *endpoint, const char *detail, void *worker_name);

/* Closes a command. */
void say_ok (const command_t *command);
void say_failed (const command_t *command, const char *text);
/* With the last error of this thread. */
void say_error (const command_t *command);

/* Clients (client.c, cancel.c). Each command is closed by the function. */
void client_open (const command_t *command);
void client_request (const command_t *command);
void client_stream (const command_t *command);
void client_request_many (const command_t *command);
/* A request or a stream will come; from now on it can be cancelled. */
void client_expect (const command_t *command);
void client_cancel (const command_t *command);
void client_close (const command_t *command);
void client_close_all (void);

/* Workers (worker.c). */
void worker_start (const command_t *command);
void worker_release (const command_t *command);
void worker_stats (const command_t *command);
void worker_stop (const command_t *command);
void worker_stop_all (void);

#endif
