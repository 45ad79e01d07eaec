/* Sends files to services of text statistics.  Usage: client ENDPOINT SERVICE... < names, each followed by a zero byte */
#include <majordomo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Reads up to a zero byte, or the end. The string is the caller's; NULL if there is nothing more. */
static char *read_name (FILE *input)
{
    size_t size = 0, room = 256;
    char *name = (char *) malloc (room);
    int byte = EOF;
    while (name && (byte = getc (input)) != EOF && byte != '\0') {
        if (size + 1 == room) {
            char *larger = (char *) realloc (name, room *= 2);
            if (!larger)
                free (name);
            name = larger;
        }
        if (name)
            name[size++] = (char) byte;
    }
    if (name && byte == EOF && size == 0) {
        free (name);
        return NULL;
    }
    if (name)
        name[size] = '\0';
    return name;
}

/* The content of a file as a message of one frame; NULL if it cannot be read. */
static mdmsg_t *read_file (const char *name)
{
    FILE *file = fopen (name, "rb");
    size_t size = 0, room = 1 << 16;
    char *content = (char *) malloc (room);
    mdmsg_t *message = NULL;
    while (file && content) {
        size += fread (content + size, 1, room - size, file);
        if (size < room)
            break;
        char *larger = (char *) realloc (content, room *= 2);
        if (!larger)
            free (content);
        content = larger;
    }
    if (file && content && !ferror (file)) {
        message = mdmsg_new ();
        mdmsg_addmem (message, content, size);
    }
    free (content);
    if (file)
        fclose (file);
    return message;
}

static double now_ms (void)
{
    struct timespec now;
    clock_gettime (CLOCK_MONOTONIC, &now);
    return (double) now.tv_sec * 1e3 + (double) now.tv_nsec / 1e6;
}

static int is_json_text (mdmsg_t *reply)
{
    const void *data = NULL;
    size_t size = 0;
    if (mdmsg_size (reply) != 1 || mdmsg_frame (reply, 0, &data, &size) != 0 || size == 0)
        return 0;
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = ((const unsigned char *) data)[i];
        if (byte < 0x20 || byte > 0x7E)
            return 0;
    }
    return 1;
}

/* One line of output for one request; whether it went well. `content` stays the caller's. */
static int ask (mdcli_t *client, unsigned long file, const char *service, mdmsg_t *content)
{
    mdmsg_t *reply = NULL;
    const char *failure = "UNREADABLE";
    double ms = 0;
    if (content) {
        mdmsg_t *request = mdmsg_dup (content);
        double start = now_ms ();
        reply = mdcli_send (client, service, &request);
        ms = now_ms () - start;
        failure = !reply ? md_code (mdcli_errno (client)) : is_json_text (reply) ? NULL : "BAD_REPLY";
    }
    printf ("{\"file\":%lu,\"service\":\"%s\",\"ms\":%.3f,", file, service, ms);
    if (failure)
        printf ("\"ok\":false,\"error\":\"%s\"}\n", failure);
    else {
        char *text = mdmsg_strframe (reply, 0);
        printf ("\"ok\":true,\"reply\":%s}\n", text);
        free (text);
    }
    fflush (stdout);
    mdmsg_destroy (&reply);
    return !failure;
}

int main (int argc, char *argv[])
{
    if (argc < 3) {
        fprintf (stderr, "usage: client ENDPOINT SERVICE... < names\n");
        return 2;
    }
    mdcli_t *client = mdcli_new (argv[1], 0);
    if (!client || mdcli_set_timeout (client, 120000) != 0 || mdcli_set_retries (client, 3) != 0) {
        fprintf (stderr, "client: %s\n", md_errtext ());
        return 2;
    }
    int all_well = 1;
    char *name;
    for (unsigned long file = 0; (name = read_name (stdin)) != NULL; file++) {
        mdmsg_t *content = read_file (name);
        for (int i = 2; i < argc; i++)
            all_well = ask (client, file, argv[i], content) && all_well;
        mdmsg_destroy (&content);
        free (name);
    }
    mdcli_destroy (&client);
    return all_well ? 0 : 1;
}
