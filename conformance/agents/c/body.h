/* Bodies as commands give them and events describe them (AGENT.md, section 2). */
#ifndef AGENT_BODY_H
#define AGENT_BODY_H

#include "json.h"
#include <majordomo.h>

/* NULL if the base64 in it is none. */
mdmsg_t *body_of_command (const command_t *command);
/* Request number `number` of request_many. */
mdmsg_t *body_numbered (long number, size_t size);
/* Adds the properties of a message as the field "properties": a list of a name, its value in base64, and so on. */
void body_properties (line_t *line, mdmsg_t *message);
/* Writes the event `event` with the sizes, checksums and bytes of a message, and its properties if any. */
void body_event (const char *event, long id, mdmsg_t *message);

#endif
