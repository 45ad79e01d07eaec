#include "body.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN_UP_TO = 65536 };

static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void *need (void *memory)
{
    if (!memory)
        abort ();
    return memory;
}

/* Adds what base64 says: a frame, or the value of the property `name`; 0 if it says nothing. */
static int add_decoded (mdmsg_t *message, const char *name, const char *base64)
{
    size_t length = strlen (base64), size = 0;
    unsigned char *bytes = (unsigned char *) need (malloc (length + 1));
    uint32_t bits = 0;
    int good = length % 4 == 0, held = 0;
    for (; good && *base64 && *base64 != '='; base64++) {
        const char *digit = strchr (ALPHABET, *base64);
        good = digit != NULL;
        if (!good)
            break;
        bits = bits << 6 | (uint32_t) (digit - ALPHABET);
        held += 6;
        if (held >= 8) {
            held -= 8;
            bytes[size++] = (unsigned char) (bits >> held);
        }
    }
    good = good
        && (name ? mdmsg_set_property (message, name, bytes, size) : mdmsg_addmem (message, bytes, size)) == 0;
    free (bytes);
    return good;
}

static void add_pattern (mdmsg_t *message, size_t size, unsigned long shift)
{
    unsigned char *bytes = (unsigned char *) need (malloc (size + 1));
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char) (shift + i % 251);
    mdmsg_addmem (message, bytes, size);
    free (bytes);
}

/* The frames that the command gives in base64, and the properties; 0 if one of them is not. */
static int add_given (mdmsg_t *message, const command_t *command)
{
    const field_t *body = command_field (command, "body"), *properties = command_field (command, "properties");
    for (size_t i = 0; body && i < body->count; i++)
        if (!add_decoded (message, NULL, body->items[i]))
            return 0;
    for (size_t i = 0; properties && i + 1 < properties->count; i += 2)
        if (!add_decoded (message, properties->items[i], properties->items[i + 1]))
            return 0;
    return 1;
}

mdmsg_t *body_of_command (const command_t *command)
{
    mdmsg_t *message = mdmsg_new ();
    if (!add_given (message, command))
        mdmsg_destroy (&message);
    if (!message || command_field (command, "body"))
        return message;
    long frames = command_number (command, "frames", 1), seed = command_number (command, "seed", 0);
    for (long i = 0; i < frames; i++)
        add_pattern (message, (size_t) command_number (command, "size", 0), (unsigned long) (seed + i));
    return message;
}

mdmsg_t *body_numbered (long number, size_t size)
{
    char text[32];
    mdmsg_t *message = mdmsg_new ();
    snprintf (text, sizeof text, "%ld", number);
    mdmsg_addstr (message, text);
    add_pattern (message, size, (unsigned long) number);
    return message;
}

static uint32_t crc32_of (const unsigned char *bytes, size_t size)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

static void add_encoded (line_t *line, const unsigned char *bytes, size_t size)
{
    line_raw (line, "\"", 1);
    for (size_t i = 0; i < size; i += 3) {
        size_t count = size - i < 3 ? size - i : 3;
        uint32_t bits = (uint32_t) bytes[i] << 16 | (count > 1 ? (uint32_t) bytes[i + 1] << 8 : 0)
            | (count > 2 ? bytes[i + 2] : 0u);
        char digits[4] = {ALPHABET[bits >> 18], ALPHABET[bits >> 12 & 63], ALPHABET[bits >> 6 & 63], ALPHABET[bits & 63]};
        memset (digits + 1 + count, '=', 3 - count);
        line_raw (line, digits, 4);
    }
    line_raw (line, "\"", 1);
}

void body_properties (line_t *line, mdmsg_t *message)
{
    line_raw (line, ",\"properties\":[", 15);
    for (size_t i = 0; i < mdmsg_properties (message); i++) {
        const char *name = NULL;
        const void *data = NULL;
        size_t size = 0;
        mdmsg_property_at (message, i, &name, &data, &size);
        line_raw (line, ",", i ? 1 : 0);
        line_quoted (line, name);
        line_raw (line, ",", 1);
        add_encoded (line, (const unsigned char *) data, size);
    }
    line_raw (line, "]", 1);
}

void body_event (const char *event, long id, mdmsg_t *message)
{
    line_t line = line_start (event, id);
    size_t count = mdmsg_size (message), size = 0;
    const void *data = NULL;
    line_raw (&line, ",\"sizes\":[", 10);
    for (size_t i = 0; i < count && mdmsg_frame (message, i, &data, &size) == 0; i++)
        line_rawf (&line, i ? ",%lu" : "%lu", (unsigned long) size);
    line_raw (&line, "],\"crc32\":[", 11);
    for (size_t i = 0; i < count && mdmsg_frame (message, i, &data, &size) == 0; i++)
        line_rawf (&line, i ? ",%lu" : "%lu", crc32_of ((const unsigned char *) data, size));
    if (mdmsg_content_size (message) > SHOWN_UP_TO)
        line_raw (&line, "],\"body\":null", 13);
    else {
        line_raw (&line, "],\"body\":[", 10);
        for (size_t i = 0; i < count && mdmsg_frame (message, i, &data, &size) == 0; i++) {
            line_raw (&line, ",", i ? 1 : 0);
            add_encoded (&line, (const unsigned char *) data, size);
        }
        line_raw (&line, "]", 1);
    }
    if (mdmsg_properties (message) > 0)
        body_properties (&line, message);
    line_end (&line);
}
