/* Clients: mdcli for the style "blocking", mdcli_async for "async". */
#include "client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A client stays in the list when it is closed: a command may still use it. */
static client_t *clients;
static pthread_mutex_t clients_lock = PTHREAD_MUTEX_INITIALIZER;

client_t *client_of (const command_t *command)
{
    const char *name = command_text (command, "client", "");
    pthread_mutex_lock (&clients_lock);
    client_t *client = clients;
    while (client && (client->closed || strcmp (client->name, name) != 0))
        client = client->next;
    pthread_mutex_unlock (&clients_lock);
    return client;
}

static client_t *client_named (const command_t *command)
{
    client_t *client = client_of (command);
    if (!client)
        say_failed (command, "no such client");
    return client;
}

/* open_client and close_client */

static int set_up_async (client_t *client, const command_t *command)
{
    mdcli_async_t *self = client->async = mdcli_async_new (command_text (command, "endpoint", ""), 0);
    long in_flight = command_number (command, "max_in_flight", -1), waiting = command_number (command, "max_waiting", -1);
    long bytes = command_number (command, "max_message_bytes", -1), events = command_number (command, "events", 0);
    return self && mdcli_async_set_protocol (self, command_text (command, "protocol", "0.1")) == 0
        && mdcli_async_set_timeout (self, (int) client->timeout_ms) == 0
        && mdcli_async_set_retries (self, (int) client->retries) == 0
        && mdcli_async_set_deadline (self, (int) client->deadline_ms) == 0
        && (in_flight == -1 || mdcli_async_set_max_in_flight (self, (size_t) in_flight) == 0)
        && (waiting == -1 || mdcli_async_set_max_waiting (self, (size_t) waiting) == 0)
        && (!events || mdcli_async_set_event_handler (self, say_client_event, client->name) == 0)
        && (bytes == -1 || mdcli_async_set_max_message_bytes (self, (size_t) bytes) == 0)
        && mdcli_async_set_reconnect (self, (int) command_number (command, "reconnect_min_ms", 100),
                                      (int) command_number (command, "reconnect_max_ms", 32000)) == 0;
}

static int set_up_blocking (client_t *client, const command_t *command)
{
    mdcli_t *self = client->blocking = mdcli_new (command_text (command, "endpoint", ""), 0);
    long bytes = command_number (command, "max_message_bytes", -1), events = command_number (command, "events", 0);
    return self && mdcli_set_protocol (self, command_text (command, "protocol", "0.1")) == 0
        && mdcli_set_timeout (self, (int) client->timeout_ms) == 0
        && mdcli_set_retries (self, (int) client->retries) == 0
        && mdcli_set_deadline (self, (int) client->deadline_ms) == 0
        && (!events || mdcli_set_event_handler (self, say_client_event, client->name) == 0)
        && (bytes == -1 || mdcli_set_max_message_bytes (self, (size_t) bytes) == 0)
        && mdcli_set_reconnect (self, (int) command_number (command, "reconnect_min_ms", 100),
                                (int) command_number (command, "reconnect_max_ms", 32000)) == 0;
}

void client_open (const command_t *command)
{
    client_t *client = (client_t *) calloc (1, sizeof *client);
    if (!client)
        abort ();
    snprintf (client->name, sizeof client->name, "%s", command_text (command, "client", ""));
    client->timeout_ms = command_number (command, "timeout_ms", 2500);
    client->retries = command_number (command, "retries", 3);
    client->deadline_ms = command_number (command, "deadline_ms", 0);
    pthread_mutex_init (&client->turn, NULL);
    pthread_cond_init (&client->sent, NULL);
    int async = strcmp (command_text (command, "style", "blocking"), "async") == 0;
    if (!(async ? set_up_async (client, command) : set_up_blocking (client, command))) {
        say_error (command);
        mdcli_destroy (&client->blocking);
        mdcli_async_destroy (&client->async);
        free (client);
        return;
    }
    if (async && pthread_create (&client->receiver, NULL, shared_receive, client) != 0)
        abort ();
    pthread_mutex_lock (&clients_lock);
    client->next = clients;
    clients = client;
    pthread_mutex_unlock (&clients_lock);
    say_ok (command);
}

static void close_one (client_t *client)
{
    if (client->blocking) {
        /* A copy: a command that waits for its turn still uses the variable, and finds that the client is closed. */
        mdcli_t *self = client->blocking;
        mdcli_destroy (&self);
        return;
    }
    pthread_mutex_lock (&client->turn);
    for (route_t *route = client->routes; route; route = route->next)
        mdcli_async_cancel (client->async, route->ticket);
    pthread_cond_signal (&client->sent);
    pthread_mutex_unlock (&client->turn);
    pthread_join (client->receiver, NULL);
    mdcli_async_t *self = client->async;
    mdcli_async_destroy (&self);
}

void client_close (const command_t *command)
{
    client_t *client = client_named (command);
    if (!client)
        return;
    pthread_mutex_lock (&clients_lock);
    int first = !client->closed;
    client->closed = 1;
    pthread_mutex_unlock (&clients_lock);
    if (first)
        close_one (client);
    say_ok (command);
}

void client_close_all (void)
{
    for (client_t *client = clients; client; client = client->next)
        if (!client->closed) {
            client->closed = 1;
            close_one (client);
        }
}

/* request, stream and request_many */

static void prepare_blocking (client_t *client, const command_t *command)
{
    mdcli_set_timeout (client->blocking, (int) command_number (command, "timeout_ms", client->timeout_ms));
    mdcli_set_retries (client->blocking, (int) command_number (command, "retries", client->retries));
    mdcli_set_deadline (client->blocking, (int) command_number (command, "deadline_ms", client->deadline_ms));
    mdcli_set_max_attempts (client->blocking, (int) command_number (command, "max_attempts", 0));
    mdcli_set_fail_fast (client->blocking, (int) command_number (command, "fail_fast", 0));
}

static void end_stream (const command_t *command, unsigned long parts)
{
    line_t line = line_start ("end", command_number (command, "id", -1));
    line_number (&line, "parts", parts);
    line_end (&line);
}

static void request (const command_t *command)
{
    long id = command_number (command, "id", -1);
    client_t *client = client_named (command);
    mdmsg_t *body = client ? body_of_command (command) : NULL, *reply = NULL;
    if (!client)
        return;
    if (!body) {
        say_failed (command, "the body is not base64");
        return;
    }
    pthread_mutex_lock (&client->turn);
    if (client->blocking) {
        prepare_blocking (client, command);
        reply = mdcli_send (client->blocking, command_text (command, "service", ""), &body);
        mdmsg_destroy (&body);
        if (reply)
            body_event ("reply", id, reply);
        else
            say_error (command);
        mdmsg_destroy (&reply);
    }
    else {
        mailbox_t mailbox;
        mailbox_init (&mailbox);
        if (!shared_send (client, command, body, 0, 0, &mailbox))
            say_error (command);
        else {
            outcome_t *outcome = mailbox_take (client, &mailbox);
            if (outcome->reply)
                body_event ("reply", id, outcome->reply);
            else
                say_outcome (command, outcome);
            outcome_free (outcome);
        }
        pthread_cond_destroy (&mailbox.arrived);
    }
    pthread_mutex_unlock (&client->turn);
}

static void stream_blocking (client_t *client, const command_t *command, mdmsg_t *body)
{
    prepare_blocking (client, command);
    unsigned long parts = 0;
    mdmsg_t *part = NULL;
    if (mdcli_stream (client->blocking, command_text (command, "service", ""), &body) == 0)
        while ((part = mdcli_next (client->blocking)) != NULL) {
            body_event ("part", command_number (command, "id", -1), part);
            mdmsg_destroy (&part);
            if (++parts == (unsigned long) command_number (command, "leave_after", 0)) {
                mdcli_cancel (client->blocking);
                break;
            }
        }
    mdmsg_destroy (&body);
    if (mdcli_errno (client->blocking) == MD_OK)
        end_stream (command, parts);
    else
        say_error (command);
}

static void stream_async (client_t *client, const command_t *command, mdmsg_t *body)
{
    const long id = command_number (command, "id", -1);
    const unsigned long leave_after = (unsigned long) command_number (command, "leave_after", 0);
    mailbox_t mailbox;
    mailbox_init (&mailbox);
    int more = shared_send (client, command, body, 1, 0, &mailbox), left = 0;
    if (!more)
        say_error (command);
    for (unsigned long parts = 1; more; parts++) {
        outcome_t *outcome = mailbox_take (client, &mailbox);
        more = outcome->more;
        if (!left && outcome->reply)
            body_event ("part", id, outcome->reply);
        else if (!left)
            say_outcome (command, outcome);
        if (!more && (left || outcome->reply))
            end_stream (command, left ? leave_after : parts);
        left = left || parts == leave_after;
        if (parts == leave_after)
            progress_cancel (id);
        outcome_free (outcome);
    }
    pthread_cond_destroy (&mailbox.arrived);
}

static void stream (const command_t *command)
{
    client_t *client = client_named (command);
    if (!client)
        return;
    mdmsg_t *body = body_of_command (command);
    if (!body) {
        say_failed (command, "the body is not base64");
        return;
    }
    pthread_mutex_lock (&client->turn);
    if (client->blocking)
        stream_blocking (client, command, body);
    else
        stream_async (client, command, body);
    pthread_mutex_unlock (&client->turn);
}

void client_request (const command_t *command)
{
    request (command);
    progress_end (command);
}

void client_stream (const command_t *command)
{
    stream (command);
    progress_end (command);
}

typedef struct {
    size_t size; /* Of the second frame. */
    unsigned long ok, mismatched, errors;
    int first_error;
} many_t;

/* Counts what became of request number `number`. */
static void many_count (many_t *many, long number, mdmsg_t *reply, int error)
{
    if (!reply) {
        many->first_error = many->first_error ? many->first_error : error;
        many->errors++;
        return;
    }
    mdmsg_t *request = body_numbered (number, many->size);
    if (mdmsg_eq (request, reply) == 1)
        many->ok++;
    else
        many->mismatched++;
    mdmsg_destroy (&request);
}

static void many_async (client_t *client, const command_t *command, many_t *many)
{
    long count = command_number (command, "count", 0), room = command_number (command, "concurrency", 1), sent = 0;
    mailbox_t mailbox;
    mailbox_init (&mailbox);
    for (long open = 0; sent < count || open > 0;) {
        if (sent < count && open < room) {
            if (shared_send (client, command, body_numbered (sent, many->size), 0, sent, &mailbox))
                open++;
            else
                many_count (many, sent, NULL, md_errno ());
            sent++;
            continue;
        }
        outcome_t *outcome = mailbox_take (client, &mailbox);
        many_count (many, outcome->number, outcome->reply, outcome->error);
        outcome_free (outcome);
        open--;
    }
    pthread_cond_destroy (&mailbox.arrived);
}

void client_request_many (const command_t *command)
{
    client_t *client = client_named (command);
    if (!client)
        return;
    many_t many = {(size_t) command_number (command, "size", 0), 0, 0, 0, 0};
    pthread_mutex_lock (&client->turn);
    if (client->blocking) {
        prepare_blocking (client, command);
        for (long number = 0; number < command_number (command, "count", 0); number++) {
            mdmsg_t *request = body_numbered (number, many.size);
            mdmsg_t *reply = mdcli_send (client->blocking, command_text (command, "service", ""), &request);
            many_count (&many, number, reply, reply ? MD_OK : md_errno ());
            mdmsg_destroy (&request);
            mdmsg_destroy (&reply);
        }
    }
    else
        many_async (client, command, &many);
    pthread_mutex_unlock (&client->turn);
    line_t line = line_start ("many", command_number (command, "id", -1));
    line_number (&line, "ok", many.ok);
    line_number (&line, "mismatched", many.mismatched);
    line_number (&line, "errors", many.errors);
    if (many.first_error)
        line_text (&line, "first_error", md_kind (many.first_error));
    line_end (&line);
}
