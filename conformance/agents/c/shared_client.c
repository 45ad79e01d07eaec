/* Asynchronous clients: the outcomes of all requests, each brought to the command that waits for it. */
#include "client.h"

#include <stdlib.h>
#include <string.h>

void say_outcome (const command_t *command, const outcome_t *outcome)
{
    line_t line = line_start ("error", command_number (command, "id", -1));
    line_text (&line, "kind", md_kind (outcome->error));
    line_number (&line, "number", (unsigned long) outcome->error);
    line_flag (&line, "retryable", outcome->retryable);
    if (outcome->error == MD_ESERVICE)
        line_number (&line, "service_code", outcome->service_code);
    line_text (&line, "text", outcome->text);
    line_end (&line);
}

void outcome_free (outcome_t *outcome)
{
    mdmsg_destroy (&outcome->reply);
    free (outcome->text);
    free (outcome);
}

static outcome_t *outcome_of (mdmsg_t *reply, int more)
{
    outcome_t *outcome = (outcome_t *) calloc (1, sizeof *outcome);
    if (!outcome)
        abort ();
    outcome->reply = reply;
    outcome->more = more;
    if (!reply) {
        outcome->error = md_errno ();
        outcome->retryable = outcome->error == MD_ESERVICE ? md_service_retryable () : md_retryable (outcome->error);
        outcome->service_code = md_service_code ();
        outcome->text = strdup (outcome->error == MD_ESERVICE ? md_service_text () : md_errtext ());
    }
    return outcome;
}

static void deliver (client_t *client, int64_t ticket, outcome_t *outcome)
{
    route_t **place = &client->routes;
    while (*place && (*place)->ticket != ticket)
        place = &(*place)->next;
    route_t *route = *place;
    if (!route) {
        outcome_free (outcome);
        return;
    }
    outcome->number = route->number;
    *route->mailbox->last = outcome;
    route->mailbox->last = &outcome->next;
    pthread_cond_signal (&route->mailbox->arrived);
    if (!outcome->more) {
        *place = route->next;
        free (route);
    }
}

void *shared_receive (void *argument)
{
    client_t *client = (client_t *) argument;
    pthread_mutex_lock (&client->turn);
    for (;;) {
        while (!client->routes && !client->closed)
            pthread_cond_wait (&client->sent, &client->turn);
        if (!client->routes)
            break;
        pthread_mutex_unlock (&client->turn);
        int64_t ticket = 0;
        int more = 0;
        mdmsg_t *reply = mdcli_async_recv_part (client->async, &ticket, &more, -1);
        outcome_t *outcome = outcome_of (reply, more);
        pthread_mutex_lock (&client->turn);
        deliver (client, ticket, outcome);
    }
    pthread_mutex_unlock (&client->turn);
    return NULL;
}

int shared_send (client_t *client, const command_t *command, mdmsg_t *body, int stream, long number, mailbox_t *mailbox)
{
    const char *service = command_text (command, "service", "");
    route_t *route = (route_t *) calloc (1, sizeof *route);
    if (!route)
        abort ();
    mdcli_async_set_timeout (client->async, (int) command_number (command, "timeout_ms", client->timeout_ms));
    mdcli_async_set_retries (client->async, (int) command_number (command, "retries", client->retries));
    mdcli_async_set_deadline (client->async, (int) command_number (command, "deadline_ms", client->deadline_ms));
    mdcli_async_set_max_attempts (client->async, (int) command_number (command, "max_attempts", 0));
    mdcli_async_set_fail_fast (client->async, (int) command_number (command, "fail_fast", 0));
    route->ticket = stream ? mdcli_async_stream (client->async, service, &body)
                           : mdcli_async_send (client->async, service, &body);
    mdmsg_destroy (&body);
    if (route->ticket == -1) {
        free (route);
        return 0;
    }
    route->number = number;
    route->mailbox = mailbox;
    route->next = client->routes;
    client->routes = route;
    pthread_cond_signal (&client->sent);
    progress_sent (command, client, route->ticket);
    return 1;
}

void mailbox_init (mailbox_t *mailbox)
{
    mailbox->first = NULL;
    mailbox->last = &mailbox->first;
    pthread_cond_init (&mailbox->arrived, NULL);
}

outcome_t *mailbox_take (client_t *client, mailbox_t *mailbox)
{
    while (!mailbox->first)
        pthread_cond_wait (&mailbox->arrived, &client->turn);
    outcome_t *outcome = mailbox->first;
    mailbox->first = outcome->next;
    if (!mailbox->first)
        mailbox->last = &mailbox->first;
    return outcome;
}
