#include "json.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *skip_space (char *next)
{
    return next + strspn (next, " \t\r\n");
}

/* The string that starts at `*next`, which moves behind it; NULL if there is none. */
static const char *parse_string (char **next)
{
    if (**next != '"')
        return NULL;
    char *start = *next + 1, *end = strchr (start, '"');
    if (!end)
        return NULL;
    *end = '\0';
    *next = skip_space (end + 1);
    return start;
}

static int parse_items (field_t *field, char **next)
{
    size_t room = 0;
    *next = skip_space (*next + 1);
    while (**next != ']') {
        if (field->count == room) {
            room = room ? room * 2 : 16;
            const char **larger = (const char **) realloc (field->items, room * sizeof *larger);
            if (!larger)
                return 0;
            field->items = larger;
        }
        const char *item = parse_string (next);
        if (!item)
            return 0;
        field->items[field->count++] = item;
        if (**next == ',')
            *next = skip_space (*next + 1);
    }
    *next = skip_space (*next + 1);
    return 1;
}

static int parse_value (field_t *field, char **next)
{
    char *end = NULL;
    if (**next == '"')
        return (field->text = parse_string (next)) != NULL;
    if (**next == '[')
        return parse_items (field, next);
    if (strncmp (*next, "true", 4) == 0 || strncmp (*next, "null", 4) == 0) {
        field->number = **next == 't';
        end = *next + 4;
    }
    else if (strncmp (*next, "false", 5) == 0)
        end = *next + 5;
    else
        field->number = strtol (*next, &end, 10);
    int found = end != *next;
    *next = skip_space (end);
    return found;
}

int command_parse (command_t *command, char *line)
{
    memset (command, 0, sizeof *command);
    command->line = line;
    char *next = skip_space (line);
    if (*next != '{')
        return 0;
    next = skip_space (next + 1);
    while (*next != '}') {
        if (command->count == sizeof command->fields / sizeof *command->fields)
            return 0;
        field_t *field = &command->fields[command->count++];
        field->key = parse_string (&next);
        if (!field->key || *next != ':')
            return 0;
        next = skip_space (next + 1);
        if (!parse_value (field, &next))
            return 0;
        if (*next == ',')
            next = skip_space (next + 1);
    }
    return 1;
}

void command_free (command_t *command)
{
    for (size_t i = 0; i < command->count; i++)
        free (command->fields[i].items);
    free (command->line);
}

const field_t *command_field (const command_t *command, const char *key)
{
    for (size_t i = 0; i < command->count; i++)
        if (command->fields[i].key && strcmp (command->fields[i].key, key) == 0)
            return &command->fields[i];
    return NULL;
}

const char *command_text (const command_t *command, const char *key, const char *otherwise)
{
    const field_t *field = command_field (command, key);
    return field && field->text ? field->text : otherwise;
}

long command_number (const command_t *command, const char *key, long otherwise)
{
    const field_t *field = command_field (command, key);
    return field ? field->number : otherwise;
}

void line_raw (line_t *line, const char *bytes, size_t size)
{
    if (line->room - line->size < size) {
        line->room = (line->size + size) * 2;
        line->bytes = (char *) realloc (line->bytes, line->room);
        if (!line->bytes)
            abort ();
    }
    memcpy (line->bytes + line->size, bytes, size);
    line->size += size;
}

void line_rawf (line_t *line, const char *format, unsigned long number)
{
    char text[64];
    line_raw (line, text, (size_t) snprintf (text, sizeof text, format, number));
}

void line_quoted (line_t *line, const char *text)
{
    line_raw (line, "\"", 1);
    for (; *text; text++) {
        unsigned char byte = (unsigned char) *text;
        if (byte == '"' || byte == '\\')
            line_raw (line, "\\", 1);
        if (byte < 0x20)
            line_rawf (line, "\\u%04lx", byte);
        else
            line_raw (line, text, 1);
    }
    line_raw (line, "\"", 1);
}

static void add_key (line_t *line, const char *key)
{
    line_raw (line, ",", 1);
    line_quoted (line, key);
    line_raw (line, ":", 1);
}

line_t line_start (const char *event, long id)
{
    line_t line = {NULL, 0, 0};
    line_raw (&line, "{\"event\":", 9);
    line_quoted (&line, event);
    if (id != -1)
        line_number (&line, "id", (unsigned long) id);
    return line;
}

void line_number (line_t *line, const char *key, unsigned long number)
{
    add_key (line, key);
    line_rawf (line, "%lu", number);
}

void line_flag (line_t *line, const char *key, int flag)
{
    add_key (line, key);
    line_raw (line, flag ? "true" : "false", flag ? 4 : 5);
}

void line_text (line_t *line, const char *key, const char *text)
{
    add_key (line, key);
    line_quoted (line, text);
}

void line_end (line_t *line)
{
    static pthread_mutex_t output = PTHREAD_MUTEX_INITIALIZER;
    line_raw (line, "}\n", 2);
    pthread_mutex_lock (&output);
    fwrite (line->bytes, 1, line->size, stdout);
    fflush (stdout);
    pthread_mutex_unlock (&output);
    free (line->bytes);
}
