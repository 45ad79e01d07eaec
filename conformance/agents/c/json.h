/* Lines: flat JSON objects in, JSON objects out (AGENT.md, section 1). */
#ifndef AGENT_JSON_H
#define AGENT_JSON_H

#include <stddef.h>

typedef struct {
    const char *key;
    const char *text;   /* A string; NULL for the other kinds. */
    long number;        /* An integer; 1 for true. */
    const char **items; /* An array of strings; NULL for the other kinds. */
    size_t count;
} field_t;

typedef struct {
    char *line; /* What the strings point into. */
    field_t fields[32];
    size_t count;
} command_t;

/* Takes a line, which the command then owns. Whether it was an object of the kind that AGENT.md describes. */
int command_parse (command_t *command, char *line);
void command_free (command_t *command);

const field_t *command_field (const command_t *command, const char *key);
/* The string, or `otherwise` if there is none. */
const char *command_text (const command_t *command, const char *key, const char *otherwise);
long command_number (const command_t *command, const char *key, long otherwise);

/* A line that is being written. */
typedef struct {
    char *bytes;
    size_t size, room;
} line_t;

/* Starts {"event":"<name>","id":<id>; an id of -1 is left out. */
line_t line_start (const char *event, long id);
void line_number (line_t *line, const char *key, unsigned long number);
void line_flag (line_t *line, const char *key, int flag);
void line_text (line_t *line, const char *key, const char *text);
/* A string as JSON has it. */
void line_quoted (line_t *line, const char *text);
/* What stands there as it is. */
void line_raw (line_t *line, const char *bytes, size_t size);
void line_rawf (line_t *line, const char *format, unsigned long number);
/* Ends the line, writes it, and frees it. Lines of different threads do not mix. */
void line_end (line_t *line);

#endif
